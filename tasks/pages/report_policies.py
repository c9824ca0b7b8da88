"""The part of a report that compares trading policies: one table, one chart, and the bands of each fold."""

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup

from model.policy_comparison import COST_CURVE_BPS, PolicyComparison
from model.report_charts import cost_chart
from tasks.pages.html_page import Page, folded, heading, paragraph, table, value_with_note
from tasks.pages.number_format import interval_text, number_text

POLICY_NAMES = {"sign": "sign", "threshold": "threshold", "no_trade_band": "no-trade band"}
PROBABILITY_BANDS = "P(rise) by fold; for shorts, of P(fall)"
HEAD = (
    "policy",
    "gross return",
    "net return",
    "turnover",
    "exposure",
    "break-even per side",
    "Sharpe, annual",
    "deflated Sharpe",
    "by exposure",
    "by timing",
)


def policies_parts(page: Page, comparison: PolicyComparison, *, of_panel: bool = False) -> list[Markup]:
    """Return what each policy earned, before and after costs.

    Args:
        page: that the chart is for.
        comparison: of the policies.
        of_panel: all series of a panel are held in equal parts, and no policy is chosen.
    """
    spec = comparison.spec
    rows = [
        (
            value_with_note(POLICY_NAMES[name], "chosen")
            if name == spec.policy and not of_panel
            else POLICY_NAMES[name],
            f"{found.figures['gross_return']:+.1%}",
            f"{found.figures['net_return']:+.1%}",
            f"{found.figures['turnover']:,.0f} x",
            f"{found.figures['exposure']:.0%}",
            _with_bounds(found.figures, "break_even_bps", ".0f", " bps"),
            _with_bounds(found.figures, "sharpe", ".2f"),
            f"{found.figures['deflated_sharpe']:.2f}",
            f"{found.figures['exposure_return']:+.0%}",
            _with_bounds(found.figures, "timing_return", "+.0%"),
        )
        for name, found in comparison.results.items()
    ]
    learning = {POLICY_NAMES[name]: found.bands for name, found in comparison.results.items() if found.bands}
    by_fold = enumerate(zip(*learning.values(), strict=True), 1)
    bands = [(f"fold {fold}", *map(str, found)) for fold, found in by_fold]
    of_returns = any(band.of_returns for each in learning.values() for band in each)
    named = "the expected return by fold; for shorts, of its negative" if of_returns else PROBABILITY_BANDS
    way = "long or flat" if spec.kind == "long_flat" else "long or short"
    way, price = (f"{way}, all series in equal parts", "series") if of_panel else (way, "price")
    curves = {POLICY_NAMES[name]: found.net_by_cost for name, found in comparison.results.items()}
    return [
        heading(f"Policies, {way}"),
        table(HEAD, rows),
        paragraph(
            f"At {spec.side_bps:g} bps per side. Each fold chooses its bands on its validation windows, which early "
            "stopping saw too, never on test bars. The deflated Sharpe ratio counts "
            f"{comparison.tried:,} trials: recipes tried on these bars, times policies. By exposure: average position "
            f"times the return of the {price} ({comparison.buy_and_hold_return:+.1%}); by timing: the rest of the "
            "gross return. Both are sums of simple returns, not compounded. The best of these rows is chosen on test "
            "bars: its numbers are not out of sample.",
            quiet=True,
        ),
        page.chart(
            cost_chart(COST_CURVE_BPS, curves, spec.side_bps),
            "Net return by the cost of a side.",
            f"Positions are those chosen at {spec.side_bps:g} bps, the same at each cost.",
        ),
        folded(f"Bands of {named}", table(("fold", *learning), bands, text_columns=3)),
    ]  # fmt: skip


def _with_bounds(figures: Mapping[str, float], name: str, form: str, unit: str = "") -> Markup:
    """Return a figure with its 95 % interval; `undefined` where nothing was traded."""
    value, low, high = (figures[key] for key in (name, f"{name}_low", f"{name}_high"))
    if np.isnan(value):
        return value_with_note("undefined", "nothing was traded")
    return value_with_note(f"{number_text(value, form)}{unit}", interval_text(low, high, form))

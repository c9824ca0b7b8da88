"""The parts of a report that compare ways of trading, policies or portfolios of ranks: one table, one chart.

For policies also the bands of each fold. A row without a deflated Sharpe ratio is a baseline.
"""

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup

from model.evaluation import NETWORK
from model.forecaster_names import traded_name
from model.plurals import counted
from model.report_charts import cost_chart
from model.trading_policy_comparison import COST_CURVE_BPS, PolicyComparison
from tasks.pages.html_page import Page, folded, heading, paragraph, table, value_with_note
from tasks.pages.number_format import interval_text, number_text

PROBABILITY_BANDS = "P(rise) by fold; for shorts, of P(fall)"
OF_RETURNS = "the expected return of the network by fold (baselines: of P(rise)); for shorts the signs are reversed"
RULES = (
    "Baselines trade by the same policies, with bands of their own; the reversal buys after a fall and sells after a "
    "rise, if the move is large enough."
)
OF_A_BAR = "Gross and net return are compounded; below them is the mean simple return of a bar."
FIGURES = (
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
    """Return what each policy earned by the network and by the baselines, before and after costs.

    Args:
        page: that the chart is for.
        comparison: of the policies.
        of_panel: all series of a panel are held in equal parts, and no policy is chosen.
    """
    spec = comparison.spec
    names = {name: traded_name(name) for name in comparison.results}
    chosen = "" if of_panel else spec.policy
    labels = {
        name: value_with_note(policy, f"{who}, chosen" if name == chosen else who)
        for name, (policy, who) in names.items()
    }
    learned = {names[name]: found.bands for name, found in comparison.results.items() if found.bands}
    policies = tuple(dict.fromkeys(policy for policy, _ in learned))
    bands = [
        (who, f"{fold + 1}", *(str(learned[policy, who][fold]) for policy in policies))
        for who in dict.fromkeys(who for _, who in learned)
        for fold in range(len(learned[policies[0], who]))
    ]
    of_returns = any(band.of_returns for each in learned.values() for band in each)
    named = OF_RETURNS if of_returns else PROBABILITY_BANDS
    way = "long or flat" if spec.kind == "long_flat" else "long or short"
    way, price = (f"{way}, all series in equal parts", "series") if of_panel else (way, "price")
    # Of the baselines the chart shows the policy of the spec, so that its lines can be told apart.
    shown = {
        name: policy if who == NETWORK else f"{policy}, {who}"
        for name, (policy, who) in names.items()
        if who == NETWORK or name.startswith(spec.policy)
    }
    return [
        heading(f"Policies, {way}"),
        _comparison_table(comparison, "policy", labels),
        paragraph(
            f"At {spec.side_bps:g} bps per side. Each fold chooses its bands on its validation windows, which early "
            f"stopping saw too, never on test bars. {RULES}{f' {OF_A_BAR}' if of_panel else ''} The deflated Sharpe "
            f"ratio counts {counted(comparison.tried, 'trial')}: recipes tried on these bars, times policies; "
            "baselines are not counted. By exposure: average position "
            f"times the return of the {price} ({comparison.buy_and_hold_return:+.1%}); by timing: the rest of the "
            "gross return. Both are sums of simple returns, not compounded. The best of these rows is chosen on test "
            "bars: its numbers are not out of sample.",
            quiet=True,
        ),
        _cost_curves(page, comparison, shown),
        folded(f"Bands of {named}", table(("by", "fold", *policies), bands, text_columns=4)),
    ]


def rank_portfolios_parts(page: Page, comparison: PolicyComparison, fifth: str) -> list[Markup]:
    """Return what the market-neutral portfolios of a panel earned, by what ranks its series.

    Args:
        page: that the chart is for.
        comparison: of the portfolios.
        fifth: how many series a fifth is, as text.
    """
    names = {name: who for name, (_, who) in ((name, traded_name(name)) for name in comparison.results)}
    by_return = (
        "By return: ranked by the expected return of the network. " if "network, by return" in names.values() else ""
    )
    return [
        heading("Top fifth against bottom fifth"),
        _comparison_table(comparison, "ranked by", names),
        paragraph(
            f"At {comparison.spec.side_bps:g} bps per side. A fifth is {fifth}. {by_return}{OF_A_BAR} The break- "
            "even cost is the compounded gross return per value traded; volatility lowers it, so it can be "
            "negative where the mean is positive. The deflated Sharpe ratio counts "
            f"{counted(comparison.tried, 'trial')}: recipes tried on these bars, times portfolios of the network. "
            "Those of baselines are not counted. By exposure: what each series earns with its average position "
            "held while it is present; by timing: the rest of the gross return. Both are sums of simple returns, not "
            "compounded. No funding and no borrowing fees.",
            quiet=True,
        ),
        _cost_curves(page, comparison, names),
    ]


def _comparison_table(comparison: PolicyComparison, what: str, names: Mapping[str, Markup | str]) -> Markup:
    rows = [
        (
            names[name],
            _return(found.figures, "gross"),
            _return(found.figures, "net"),
            f"{found.figures['turnover']:,.0f} x",
            f"{found.figures['exposure']:.0%}",
            _with_bounds(found.figures, "break_even_bps", ".0f", " bps"),
            _with_bounds(found.figures, "sharpe", ".2f"),
            number_text(found.figures["deflated_sharpe"], ".2f") if "deflated_sharpe" in found.figures else "none",
            f"{found.figures['exposure_return']:+.0%}",
            _with_bounds(found.figures, "timing_return", "+.0%"),
        )
        for name, found in comparison.results.items()
    ]
    return table((what, *FIGURES), rows, stacked=True)


def _cost_curves(page: Page, comparison: PolicyComparison, names: Mapping[str, str]) -> Markup:
    spec = comparison.spec
    return page.chart(
        cost_chart(
            COST_CURVE_BPS,
            {shown: comparison.results[name].net_by_cost for name, shown in names.items()},
            spec.side_bps,
        ),
        "Net return by the cost of a side.",
        f"Positions are those chosen at {spec.side_bps:g} bps, the same at each cost.",
    )


def _return(figures: Mapping[str, float], kind: str) -> Markup | str:
    """Return the compounded return; of a panel with its mean by bar."""
    text, mean = f"{figures[f'{kind}_return']:+.1%}", figures.get(f"{kind}_bps")
    return text if mean is None else value_with_note(text, f"{mean:+.1f} bps")


def _with_bounds(figures: Mapping[str, float], name: str, form: str, unit: str = "") -> Markup:
    """Return a figure with its 95 % interval; `undefined` where nothing was traded."""
    value, low, high = (figures[key] for key in (name, f"{name}_low", f"{name}_high"))
    if np.isnan(value):
        return value_with_note("undefined", "nothing was traded")
    return value_with_note(f"{number_text(value, form)}{unit}", interval_text(low, high, form))

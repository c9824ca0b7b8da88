"""The out-of-sample sections of a report: skill, calibration, trading, probabilities, folds and years.

Text, tables and charts of numbers that were computed before; the exceptions are two intervals of sampling noise, of
the net return and of the calibration error, which nothing else needs. Wording follows the vocabulary of the docs.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from model.baseline_comparison import ALPHA, Comparison
from model.bootstrap import Interval
from model.calibration_error import perfectly_calibrated_error
from model.evaluation import BUY_AND_HOLD, NETWORK, Evaluation
from model.forecaster_names import POLICY_NAMES, forecaster_name
from model.label_names import RISE_NAMES, LabelNames
from model.metrics import LOWER_IS_BETTER, METRIC_NAMES, METRICS
from model.plurals import counted
from model.record import Record
from model.report_charts import equity_chart, loss_differences_chart, probabilities_chart, reliability_chart
from model.scores_by_period import Period, Seeds
from model.sharpe_and_break_even import net_return_interval
from model.significance_tests import SkillTest
from tasks.champion.live_comparison import LiveComparison
from tasks.pages.html_page import Page, heading, paragraph, table, value_with_note
from tasks.pages.number_format import day_span, interval_text, number_text, p_value_text, with_interval
from tasks.pages.report_inputs import ReportContent
from tasks.pages.report_policies import policies_parts

FORMS = {
    "log_loss": ".4f",
    "brier_score": ".4f",
    "accuracy": ".1%",
    "balanced_accuracy": ".1%",
    "mcc": ".3f",
    "roc_auc": ".3f",
}
SEED_METRICS = ("log_loss", "brier_score", "accuracy", "roc_auc")
COLOURS = "Blue: significantly better; orange: significantly worse, by the corrected p-value below."
TRADING_HEAD = (
    "strategy",
    "net return",
    "gross return",
    "Sharpe, annual",
    "deflated Sharpe",
    "maximum drawdown",
    "turnover",
    "exposure",
    "break-even cost per side",
)
STRATEGY_NAMES = {"long_flat": "long or flat", "long_short": "long or short", BUY_AND_HOLD: "buy and hold"}


def skill_section(page: Page, content: ReportContent) -> list[Markup]:
    """Return the network's and the baselines' numbers, and the tests of skill."""
    evaluation = content.evaluation
    skill, corrected = evaluation.skill, evaluation.corrected()
    order = sorted(evaluation.numbers, key=lambda name: (name != NETWORK, evaluation.numbers[name]["log_loss"].value))
    rows = [
        (forecaster_name(name), *(with_interval(evaluation.numbers[name][metric], FORMS[metric]) for metric in METRICS))
        for name in order
    ]
    arrows = [f"{METRIC_NAMES[metric]} {'↓' if metric in LOWER_IS_BETTER else '↑'}" for metric in METRICS]
    opponents = {forecaster_name(name): found for name, found in skill.baselines.items()}
    if content.champion is not None:
        opponents = {"the champion": content.champion, **opponents}
    chart = page.chart(
        loss_differences_chart({name: found.difference for name, found in opponents.items()}, by_opponent(evaluation)),
        "Log loss difference: network vs. others, on the same windows.",
        f"Difference with its 95 % interval (paired stationary block bootstrap). {COLOURS}"
        + (" The champion is a single comparison: its interval counts." if content.champion is not None else ""),
    )
    return [
        table(("out-of-sample", *arrows), rows, own=order.index(NETWORK)),
        paragraph(
            f"Below each number its 95 % interval (stationary block bootstrap). {evaluation.windows:,} windows. "
            f"{evaluation.baselines_note}".rstrip(),
            quiet=True,
        ),
        chart,
        heading("Significance"),
        table(
            ("test", "finding", p_value_head(evaluation), "evidence"),
            [
                _test_row(skill.pesaran_timmermann, corrected["pesaran_timmermann"]),
                _test_row(skill.majority, corrected["majority"]),
            ],
            text_columns=2,
        ),
        table(
            ("network vs.", "log loss difference", p_value_head(evaluation), "McNemar p-value", "only one was right"),
            _comparison_rows(opponents, evaluation),
        ),
        paragraph(_looks(content)),
        paragraph(
            "McNemar tests whether both are right equally often. Its upper p-values vs. the baselines are "
            "Holm-adjusted among themselves.",
            quiet=True,
        ),
        paragraph(_power(content)),
    ]


def _comparison_rows(opponents: Mapping[str, Comparison], evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Return the comparison of the network with each opponent, by its name on the page."""
    corrected = evaluation.corrected()
    keys = {forecaster_name(name): name for name in evaluation.skill.baselines}
    return [
        (
            name,
            value_with_note(
                f"{found.difference.mean:+.4f}", interval_text(found.difference.low, found.difference.high, "+.4f")
            ),
            _corrected_text(found.difference.p_value, corrected.get(f"{keys.get(name)}_difference")),
            _corrected_text(found.mcnemar_p_value, corrected.get(f"{keys.get(name)}_mcnemar")),
            found.mcnemar.reading,
        )
        for name, found in opponents.items()
    ]


def _power(content: ReportContent) -> str:
    """Describe the power of the tests on these windows."""
    skill = content.evaluation.skill
    powers = ", ".join(f"{power:.0%} for a true accuracy of {accuracy:.0%}" for accuracy, power in skill.power.items())
    return (
        f"Power on {skill.n:,} independent windows (exact binomial test against 50 %, significance level {ALPHA:.0%}): "
        f"{powers}. Where power is low, a test without evidence does not show that there is no skill."
    )


def _looks(content: ReportContent) -> str:
    """State how often these test bars were scored, and what the corrected p-values are corrected for."""
    looks, tests = content.evaluation.looks, len(content.evaluation.skill.holm_adjusted())
    return (
        f"{str(looks).capitalize()}. A recipe is all settings of a retrain, the seed included. Every evaluation on "
        "test bars counts, because the best of many recipes is better on these "
        f"bars than it will be on later ones. The corrected p-value is Holm-adjusted for the {tests} tests of both "
        "tables and multiplied by the number of recipes tried on these bars "
        f"({looks.recipes:,}); the column evidence uses it."
    )


def finding_text(evaluation: Evaluation) -> str:
    """State by the corrected p-value whether the network differs from the best baseline, as a predicate."""
    baseline = evaluation.best_baseline()
    findings = {
        "better": "is significantly better",
        "worse": "is significantly worse",
        "none": "does not differ significantly from it",
    }
    p_value = p_value_text(evaluation.corrected()[f"{baseline}_difference"], "= ")
    return f"{findings[evaluation.verdict(baseline)]} (corrected p {p_value})"


def by_opponent(evaluation: Evaluation) -> dict[str, float]:
    """Return the corrected p-value of the log loss difference to each baseline, by its name as text."""
    corrected = evaluation.corrected()
    return {forecaster_name(name): corrected[f"{name}_difference"] for name in evaluation.skill.baselines}


def p_value_head(evaluation: Evaluation) -> Markup:
    """Return the head of a column of p-values: what the corrected ones are corrected for."""
    tests = counted(len(evaluation.corrected()), "test")
    return value_with_note("p-value", f"corrected for {tests}, {counted(evaluation.looks.recipes, 'recipe')}")


def _corrected_text(p_value: float, corrected: float | None) -> Markup:
    """Return a p-value with the corrected one below it; the champion's is a single comparison and has none."""
    note = "" if corrected is None else f"corrected {p_value_text(corrected)}"
    return value_with_note(p_value_text(p_value), note)


def _test_row(test: SkillTest, corrected: float) -> tuple[object, ...]:
    evidence = "skill" if corrected <= ALPHA else "none"
    return (test.name, test.reading, _corrected_text(test.p_value, corrected), evidence)


def calibration_section(page: Page, content: ReportContent) -> list[Markup]:
    """Return the reliability diagram, the calibration error and the confusion matrix."""
    (fall_fall, fall_rise), (rise_fall, rise_rise) = content.evaluation.confusion
    falls, rises = max(fall_fall + fall_rise, 1), max(rise_fall + rise_rise, 1)
    rows = [
        (f"fall ({fall_fall + fall_rise:,})", value_with_note(f"{fall_fall:,}", f"{fall_fall / falls:.1%}"),
         value_with_note(f"{fall_rise:,}", f"{fall_rise / falls:.1%}")),
        (f"rise ({rise_fall + rise_rise:,})", value_with_note(f"{rise_fall:,}", f"{rise_fall / rises:.1%}"),
         value_with_note(f"{rise_rise:,}", f"{rise_rise / rises:.1%}")),
    ]  # fmt: skip
    return [
        page.chart(
            reliability_chart(content.record),
            "Reliability diagram: observed share of rises by predicted probability.",
            "A calibrated forecaster lies on the grey line. Whiskers are 95 % intervals.",
        ),
        paragraph(calibration_text(content.evaluation.calibration_error, content.record, content.recipe.training.seed)),
        paragraph(_calibrator(content)),
        heading("Confusion matrix (actual x predicted)"),
        table(("actual", "predicted fall", "predicted rise"), rows),
    ]


def calibration_text(error: float, record: Record, seed: int) -> str:
    """State the expected calibration error of a record, and that of a perfectly calibrated forecaster."""
    dependence = [
        *(["correlated labels of one close"] if len(record.symbols) else []),
        *(["overlapping labels"] if record.overlap_bars() > 1 else []),
    ]
    allowed = f" That value and the whiskers allow for {' and for '.join(dependence)}." if dependence else ""
    noise = perfectly_calibrated_error(record, seed)
    return (
        f"Expected calibration error {error:.3f} (ten bins). A perfectly calibrated forecaster would show "
        f"{noise:.3f} on {len(record):,} windows, from sampling noise alone.{allowed}"
    )


def calibration_noise(content: ReportContent) -> float:
    """Return the expected calibration error of a perfectly calibrated forecaster with the network's probabilities."""
    return perfectly_calibrated_error(content.record, content.recipe.training.seed)


def _calibrator(content: ReportContent) -> str:
    """Describe what the probabilities were calibrated with."""
    if content.recipe.training.calibration == "none":
        return "The probabilities are the network's own: the recipe has no calibration."
    return (
        "Each fold's probabilities are calibrated by a calibrator fitted on the fold's validation windows, which "
        f"precede its test windows. Version {content.version} uses the newest fold's: {content.calibrator}."
    )


def trading_section(page: Page, content: ReportContent) -> list[Markup]:
    """Return the equity curves and the figures of each strategy after costs."""
    figures = content.evaluation.trading
    rows = [
        (
            STRATEGY_NAMES.get(name, name),
            with_interval(strategy_return(content, name), "+.1%"),
            f"{found['gross_return']:+.1%}",
            value_with_note(f"{found['sharpe']:.2f}", interval_text(found["sharpe_low"], found["sharpe_high"], ".2f")),
            number_text(found["deflated_sharpe"], ".2f") if "deflated_sharpe" in found else "",
            f"{found['max_drawdown']:.1%}",
            f"{found['turnover']:,.0f} x",
            f"{found['exposure']:.0%}",
            _break_even(found) if name != BUY_AND_HOLD else "",
        )
        for name, found in figures.items()
    ]
    costs = (
        f"Costs of {content.costs.cost_bps:g} bps and slippage of {content.costs.slippage_bps:g} bps per trade; "
        + (
            f"long above P(rise) {content.costs.threshold:.0%}."
            if content.costs.policy == "sign"
            else f"policy: {POLICY_NAMES[content.costs.policy]}."
        )
    )
    curves = {STRATEGY_NAMES.get(name, name): curve for name, curve in content.equity.items()}
    return [
        page.chart(
            equity_chart(content.closed_at, curves),
            "Equity curve, net of costs.",
            "Each trade is filled at the close of its decision. Logarithmic scale.",
        ),
        table(TRADING_HEAD, rows),
        paragraph(_sharpe_evidence(figures["long_flat"])),
        *_deflated(content),
        paragraph(
            f"{costs} Unfilled orders, funding and borrowing fees are not modelled. The break-even cost per side is "
            "the cost of each trade at which the net return is 0. Below net return, Sharpe ratio and break-even cost "
            "their 95 % intervals (stationary block bootstrap).",
            quiet=True,
        ),
        *(policies_parts(page, content.evaluation.policies) if content.evaluation.policies else []),
    ]


def _break_even(found: Mapping[str, float]) -> Markup:
    if np.isnan(found["break_even_bps"]):
        return value_with_note("undefined", "nothing was traded")
    interval = interval_text(found["break_even_bps_low"], found["break_even_bps_high"], ".0f")
    return value_with_note(f"{found['break_even_bps']:.0f} bps", interval)


def strategy_return(content: ReportContent, strategy: str) -> Interval:
    """Return a strategy's net return with the 95 % interval of its equity curve's bootstrap."""
    curve = content.equity[strategy]
    before = np.concatenate([[1.0], curve[:-1]])
    factors = np.divide(curve, before, out=np.zeros_like(curve), where=before > 0)  # nothing is left of a total loss
    interval = net_return_interval(factors - 1, content.recipe.training.seed)
    return Interval(content.evaluation.trading[strategy]["net_return"], interval.low, interval.high)


def _sharpe_evidence(figures: Mapping[str, float]) -> str:
    """State whether the Sharpe ratio differs significantly from 0."""
    evidence = "includes 0: the return may be chance"
    if figures["sharpe_low"] > 0 or figures["sharpe_high"] < 0:
        evidence = "does not include 0"
    return (
        "The 95 % interval of the Sharpe ratio of long or flat, "
        f"{interval_text(figures['sharpe_low'], figures['sharpe_high'], '.2f')}, {evidence}. "
        "A rising equity curve alone is no evidence of skill."
    )


def _deflated(content: ReportContent) -> list[Markup]:
    """Explain the deflated Sharpe ratio, and what it is here; nothing where it was not computed."""
    looks, ratio = content.evaluation.looks, content.evaluation.trading["long_flat"].get("deflated_sharpe")
    if ratio is None or np.isnan(ratio):
        return []
    recipes = "1 recipe was" if looks.recipes == 1 else f"{looks.recipes:,} recipes were"
    return [
        paragraph(
            f"{recipes} tried on these bars. The deflated Sharpe ratio is the probability that the true Sharpe ratio "
            "is above the largest one that as many recipes without skill would show (Bailey and Lopez de Prado 2014). "
            f"Of long or flat it is {ratio:.2f} ({'reaches' if ratio >= 1 - ALPHA else 'below'} {1 - ALPHA:.2f}). It "
            "is one-sided and compares with no return, not with buy-and-hold: by itself it is no evidence of skill."
        )
    ]


def probabilities_section(page: Page, content: ReportContent) -> list[Markup]:
    """Return the out-of-sample probabilities below the price."""
    return [
        page.chart(
            probabilities_chart(content.record, content.close),
            "Close and predicted P(rise).",
            "Each point is out-of-sample: its fold was trained on earlier bars. Dotted lines separate the folds.",
        )
    ]


def periods_section(periods: Sequence[Period], seeds: Seeds | None, names: LabelNames = RISE_NAMES) -> list[Markup]:
    """Return the numbers by fold, by year and by seed."""
    rows = [
        (
            value_with_note(period.name, day_span(period.first, period.last)),
            f"{period.windows:,}",
            f"{period.rises_share:.1%}",
            f"{period.scores['log_loss']:.4f}",
            value_with_note(
                f"{period.against_base_rate.mean:+.4f}",
                interval_text(period.against_base_rate.low, period.against_base_rate.high, "+.4f"),
            ),
            f"{period.scores['accuracy']:.1%}",
            number_text(period.scores["balanced_accuracy"], ".1%"),
            number_text(period.scores["mcc"]),
            number_text(period.scores["roc_auc"]),
        )
        for period in periods
    ]
    head = ("period", "windows", names.share, "log loss", "vs. base rate", "accuracy", "balanced acc.",
            "Matthews corr.", "ROC AUC")  # fmt: skip
    return [
        table(head, rows),
        paragraph("Log loss vs. base rate: below 0 the network is the better one; its 95 % interval below. One good "
                  "period can make the pooled number look good.", quiet=True),
        *_seeds(seeds),
    ]  # fmt: skip


def live_section(live: Sequence[LiveComparison]) -> list[Markup]:
    """Return champion and shadows vs. what was served, on live decisions, of a panel on live closes."""
    of_panel = any(each.predictions for each in live)
    counts = ("closes", "predictions") if of_panel else ("decisions",)
    rows = [
        (
            f"{each.version} ({'champion' if each.champion else 'shadow'})",
            *(f"{count:,}" for count in (each.decisions, each.predictions)[: len(counts)]),
            f"{each.log_loss:.4f}",
            f"{each.served_log_loss:.4f}",
            f"{each.difference:+.4f}"
            if each.low is None or each.high is None
            else value_with_note(f"{each.difference:+.4f}", interval_text(each.low, each.high, "+.4f")),
        )
        for each in live
    ]
    return [
        table(("version", *counts, "log loss", "log loss of what was served", "difference"), rows),
        paragraph(
            f"Predictions that were stored before their outcome, each version on the {counts[0]} that it shares with "
            "what was served, whoever was champion. Below 0 the version was better. Below each difference its 95 % "
            f"interval, from 20 {counts[0]} on."
            + (" Losses are averaged over the series of a close first, then over closes." if of_panel else ""),
            quiet=True,
        ),
    ]


def _seeds(seeds: Seeds | None) -> Sequence[Markup]:
    """Return the numbers of other seeds; nothing where only one was trained."""
    if seeds is None:
        return []
    rows = [
        (f"seed {seed}", *(with_interval(found[name], FORMS[name]) for name in SEED_METRICS))
        for seed, found in seeds.numbers.items()
    ]
    return [
        heading("Sensitivity to the seed"),
        table(("same recipe, windows and folds", *(METRIC_NAMES[name] for name in SEED_METRICS)), rows, own=0),
        paragraph(
            f"The best and the worst of {len(seeds.numbers)} seeds differ by {seeds.spread('log_loss'):.4f} in log "
            f"loss (standard deviation {seeds.deviation('log_loss'):.4f}) and by "
            f"{100 * seeds.spread('accuracy'):.1f} percentage points of accuracy. "
            " Record and decision are those of the first seed. Two recipes that differ by less cannot be "
            "distinguished.", quiet=True),
    ]  # fmt: skip

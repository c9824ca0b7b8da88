"""The report of a retrain of a panel: the decision first, then pooled skill, ranks, the table by series, the lineage.

Text, tables and charts of numbers that were computed before, in the style of `tasks/pages/retrain_report.py`. Caution:
the windows of one close share the market's move, so what counts as evidence draws whole closes; the whiskers of the
reliability diagram do not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from model.evaluation import NETWORK
from model.forecaster_names import forecaster_name
from model.label_names import LABEL_NAMES, LabelNames
from model.metrics import LOWER_IS_BETTER, METRIC_NAMES, METRICS
from model.panel_evaluation import PanelEvaluation, RankScores
from model.panel_portfolio import MARKET_NEUTRAL, fifth_sizes
from model.panel_recipe import PanelRecipe
from model.record import Record
from model.report_charts import EpochNumbers, learning_chart, loss_differences_chart, reliability_chart
from model.scores_by_period import Period
from model.trading_policy_comparison import PolicyComparison
from tasks.champion.live_comparison import LiveComparison
from tasks.champion.promotion_summary import what_to_do
from tasks.pages.html_page import Page, paragraph, table, tiles, value_with_note
from tasks.pages.number_format import interval_text, number_text, p_value_text, with_interval
from tasks.pages.report_abstention import abstention_section
from tasks.pages.report_cost_classes import cost_classes_section
from tasks.pages.report_evidence import (
    COLOURS,
    FORMS,
    by_opponent,
    calibration_text,
    finding_text,
    live_section,
    p_value_head,
    periods_section,
)
from tasks.pages.report_inputs import Lineage
from tasks.pages.report_magnitude import magnitude_section
from tasks.pages.report_policies import policies_parts, rank_portfolios_parts
from tasks.pages.retrain_report import decision_part, lineage_parts

OVERLAP = "with a horizon above one bar positions would overlap"
INTERVALS = "stationary block bootstrap over whole closes"
SURVIVORSHIP = (
    "The series of the panel were chosen while they were alive, and one is held only where it has a next bar: a "
    "portfolio over them looks better than one chosen at the time."
)


@dataclass(frozen=True, slots=True)
class PanelReportContent:
    """Everything that the report of a panel shows.

    Attributes:
        version: registered model version that was decided about.
        action: promote, hold or reject.
        reasons: mark and text of each reason of the decision.
        champions: champion before and after, `none` where there was none.
        decided_at: when the decision was made, as text.
        recipe: what was trained.
        found: out-of-sample numbers and tests.
        record: out-of-sample probabilities of all series.
        periods: numbers by fold, then by year.
        histories: epochs of each fold.
        lineage: bars, code and recipe of the model.
        links: address by name.
        live: champion and shadows vs. what was served, on live closes; empty before there are any.
    """

    version: str
    action: str
    reasons: Sequence[tuple[str, str]]
    champions: tuple[str, str]
    decided_at: str
    recipe: PanelRecipe
    found: PanelEvaluation
    record: Record
    periods: Sequence[Period]
    histories: Sequence[Sequence[EpochNumbers]]
    lineage: Lineage
    links: Mapping[str, str]
    live: Sequence[LiveComparison] = ()


def panel_report_page(content: PanelReportContent) -> str:
    """Return the report as one HTML page that loads nothing."""
    recipe, found = content.recipe, content.found
    names = LABEL_NAMES[recipe.panel.label]
    page = Page(
        f"Panel of {len(recipe.panel.symbols)} series {recipe.interval}, version {content.version}",
        f"Retrained and decided at {content.decided_at}",
    )
    to_do = what_to_do(content.action, [mark for mark, _ in content.reasons], content.version, recipe.series)
    page.lead(
        decision_part(content.action, content.decided_at, content.reasons, content.champions, to_do),
        _summary(content),
        _tiles(content),
    )
    page.section("Skill", *_skill(page, found))
    if found.ranks:
        page.section("Ranks within each close", *_ranks(page, found.ranks, content))
    if found.pooled.moves:
        page.section("Expected move", *magnitude_section(found.pooled.moves, recipe.panel.label, INTERVALS))
    if found.pooled.cost_classes:
        page.section("Beyond a cost", *cost_classes_section(found.pooled.cost_classes, INTERVALS))
    if recipe.panel.label == "rise":
        page.section("Trading", *_policies(page, found.pooled.policies))
    page.section("Abstention", *abstention_section(found.pooled.abstention, of_panel=True))
    page.section("By series", *_by_series(found, names))
    page.section("Folds and years", *periods_section(content.periods, found.pooled.seeds, names))
    page.section("Calibration", *_calibration(page, content, names))
    if content.live:
        page.section("Live predictions", *live_section(content.live))
    page.section(
        "Training",
        page.chart(
            learning_chart(content.histories),
            "Log loss by epoch and fold.",
            "Dashed: training. Solid: validation; the dot marks the epoch that early stopping kept.",
        ),
    )
    page.section("Lineage", *lineage_parts(content.lineage, content.links))
    return page.html()


def _summary(content: PanelReportContent) -> Markup:
    pooled, panel = content.found.pooled, content.recipe.panel
    question = (
        "the close at the horizon is higher"
        if panel.label == "rise"
        else "the return until the horizon is above the median of the panel's other series at the same close"
    )
    baseline = pooled.best_baseline()
    return paragraph(
        f"One network predicts, for each of {len(content.found.series)} series, whether {question}."
        f"{_left_out(content.found)} On {pooled.windows:,} out-of-sample windows at {content.found.closes:,} closes "
        f"({pooled.span}) its log loss is "
        f"{pooled.numbers[NETWORK]['log_loss'].value:.4f}. The best baseline, {forecaster_name(baseline)}, learned "
        f"from the same training windows, has {pooled.numbers[baseline]['log_loss'].value:.4f}: the network "
        f"{finding_text(pooled)}."
    )


def _left_out(found: PanelEvaluation) -> str:
    """Return the symbols of the panel that are not tested, with the reasons, as sentences after a space."""
    return "".join(f" {symbol} is {reason}." for symbol, reason in found.left_out.items())


def _tiles(content: PanelReportContent) -> Markup:
    numbers = content.found.pooled.numbers[NETWORK]
    shown = [
        (METRIC_NAMES[name], number_text(each.value, FORMS[name]), interval_text(each.low, each.high, FORMS[name]))
        for name, each in ((name, numbers[name]) for name in ("log_loss", "brier_score", "accuracy"))
    ]
    ranks = content.found.ranks
    if ranks:
        auc = ranks.auc[NETWORK]
        shown.append(("AUC within a close", f"{auc.value:.3f}", interval_text(auc.low, auc.high, ".3f")))
    if ranks and content.found.pooled.policies:
        figures = content.found.pooled.policies.results[MARKET_NEUTRAL].figures
        cost, low, high = (figures[f"break_even_bps{bound}"] for bound in ("", "_low", "_high"))
        note = f"{interval_text(low, high, '.1f')}; assumed {content.found.pooled.policies.spec.side_bps:g} bps"
        shown.append(("break-even cost per side", f"{number_text(cost, '.1f')} bps", note))
    return tiles(shown)


def _skill(page: Page, found: PanelEvaluation) -> list[Markup]:
    """Return the pooled numbers of the network and the baselines, and the paired differences."""
    pooled = found.pooled
    order = sorted(pooled.numbers, key=lambda name: (name != NETWORK, pooled.numbers[name]["log_loss"].value))
    rows = [
        (forecaster_name(name), *(with_interval(pooled.numbers[name][metric], FORMS[metric]) for metric in METRICS))
        for name in order
    ]
    arrows = [f"{METRIC_NAMES[metric]} {'↓' if metric in LOWER_IS_BETTER else '↑'}" for metric in METRICS]
    corrected = pooled.corrected()
    compared = [
        (
            forecaster_name(name),
            value_with_note(
                f"{each.difference.mean:+.4f}", interval_text(each.difference.low, each.difference.high, "+.4f")
            ),
            value_with_note(
                p_value_text(each.difference.p_value), f"corrected {p_value_text(corrected[f'{name}_difference'])}"
            ),
        )
        for name, each in pooled.skill.baselines.items()
    ]
    chart = page.chart(
        loss_differences_chart(
            {forecaster_name(name): each.difference for name, each in pooled.skill.baselines.items()},
            by_opponent(pooled),
        ),
        "Log loss difference: network vs. baselines, on the same windows.",
        f"Difference with its 95 % interval. {COLOURS}",
    )
    return [
        table(("out-of-sample", *arrows), rows, own=order.index(NETWORK)),
        paragraph(
            "Below each number its 95 % interval (stationary block bootstrap over whole closes, because the windows of "
            f"one close share the market's move). {pooled.windows:,} windows, {found.closes:,} closes. "
            f"{pooled.baselines_note}".rstrip(),
            quiet=True,
        ),
        chart,
        table(("network vs.", "log loss difference", p_value_head(pooled)), compared),
        paragraph(
            f"{str(pooled.looks).capitalize()}, as a panel; its series are counted alone. The corrected p-value is "
            f"Holm-adjusted for all {len(corrected)} tests of the evaluation and multiplied by the recipes tried "
            f"({pooled.looks.recipes:,})."
        ),
    ]


def _ranks(page: Page, ranks: RankScores, content: PanelReportContent) -> list[Markup]:
    """Return the area under the curve within a close by forecaster, and the market-neutral portfolios."""
    rows = [
        (
            forecaster_name(name),
            with_interval(auc, ".3f"),
            "" if name == NETWORK else with_interval(ranks.ahead[name], ".3f"),
        )
        for name, auc in ranks.auc.items()
    ]
    parts = [
        table(("forecaster", "AUC within a close", "network minus it"), rows, own=0),
        paragraph(
            "0.5 is chance. A move that all series share adds nothing. The linear factor model predicts the rank of "
            "the next return from the ranks of last move, trend, volatility, momentum and value traded. Three plain "
            "ranks need no model: the lowest return of the last bar or of the last 20 bars ranks highest (reversal), "
            "or the lowest volatility of the last 20 bars. Intervals are not corrected for the number of comparisons.",
            quiet=True,
        ),
    ]
    policies = content.found.pooled.policies
    if not policies:
        return [*parts, paragraph(f"No portfolio: {OVERLAP}.")]
    return [*parts, *rank_portfolios_parts(page, policies, _fifth(content.record)), paragraph(SURVIVORSHIP, quiet=True)]


def _policies(page: Page, policies: PolicyComparison | None) -> list[Markup]:
    """Return what the policies of the label `rise` earned."""
    if not policies:
        return [paragraph(f"Policies are not compared: {OVERLAP}.")]
    note = (
        "Each series present holds its own position with the same share of the equity, rebalanced at every close; "
        f"trading weights back after prices moved counts. No funding and no borrowing fees. {SURVIVORSHIP}"
    )
    return [*policies_parts(page, policies, of_panel=True), paragraph(note, quiet=True)]


def _fifth(record: Record) -> str:
    """Return how many series a fifth is at the closes of a record."""
    sizes = fifth_sizes(np.bincount(record.bar_numbers()))
    low, high = int(sizes.min()), int(sizes.max())
    return f"{low} series at each close" if low == high else f"{low} to {high} series, by close"


def _by_series(found: PanelEvaluation, names: LabelNames) -> list[Markup]:
    rows = [
        (
            each.symbol if each.trained_on else value_with_note(each.symbol, "not in training"),
            f"{each.windows:,}",
            f"{each.rises_share:.1%}",
            f"{each.scores['log_loss']:.4f}",
            value_with_note(
                f"{each.against_base_rate.mean:+.4f}",
                interval_text(each.against_base_rate.low, each.against_base_rate.high, "+.4f"),
            ),
            f"{each.scores['accuracy']:.1%}",
            number_text(each.scores["roc_auc"]),
        )
        for each in (*found.series, *found.held_out)
    ]
    held_out = (
        " Series marked as not in training are held out: no network was trained on them, nothing was chosen by them, "
        "and the network of each fold predicted them in its test period. They are not part of the pooled numbers."
        if found.held_out
        else ""
    )
    head = ("series", "windows", names.share, "log loss", "vs. base rate", "accuracy", "ROC AUC")
    return [
        table(head, rows),
        paragraph(
            "Log loss vs. the panel's base rate: below 0 the network is better; 95 % interval below. "
            f"About 1 in 20 intervals excludes 0 by chance; not corrected.{held_out}",
            quiet=True,
        ),
    ]


def _calibration(page: Page, content: PanelReportContent, names: LabelNames) -> list[Markup]:
    return [
        page.chart(
            reliability_chart(content.record, names),
            f"Reliability diagram: observed {names.share} by predicted probability, all series.",
            "A calibrated forecaster lies on the grey line. Whiskers are 95 % intervals.",
        ),
        paragraph(
            calibration_text(content.found.pooled.calibration_error, content.record, content.recipe.training.seed)
        ),
    ]

"""A retrain as a page that a person wants to read: the decision and its reasons first, then what they rest on.

Words, tables and pictures; every number was computed before. What comes from outside (file names, messages of checks,
quarantined values, paths) is escaped by `tasks/pages/html_page.py`. It reads and writes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped

from model.interactive_charts import (
    equity_chart,
    learning_chart,
    probabilities_chart,
    reliability_chart,
    rivals_chart,
)
from model.metrics import LOWER_IS_BETTER, METRICS, Record
from model.recipe import Recipe
from model.scores_by_period import Period
from model.significance import Interval, SkillTest
from model.skill_tests import ALPHA, Comparison
from model.static_pictures import EpochNumbers
from model.trading import TradingSpec
from tasks.evaluation import BUY_AND_HOLD, NETWORK, Evaluation
from tasks.pages.explanation_page import Explained, explanation_parts
from tasks.pages.html_page import (
    Html,
    Page,
    escaped,
    facts,
    folded,
    heading,
    link,
    number,
    paragraph,
    preformatted,
    table,
    tiles,
)

QUARANTINE_ROWS = 200  # refused bars shown; the table of the store has them all
METRIC_WORDS = {
    "log_loss": "log loss",
    "brier_score": "Brier score",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "mcc": "Matthews corr.",
    "roc_auc": "ROC AUC",
}
FORMS = {
    "log_loss": ".4f",
    "brier_score": ".4f",
    "accuracy": ".1%",
    "balanced_accuracy": ".1%",
    "mcc": ".3f",
    "roc_auc": ".3f",
}
WAY_WORDS = {"long_flat": "long or flat", "long_short": "long or short", BUY_AND_HOLD: "buy and hold"}
ACTION_WORDS = {
    "promote": "Promoted: it is the champion now.",
    "hold": "Held: the champion stays.",
    "reject": "Rejected: it is not fit to be served.",
}


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a model comes from, in words: what was asked, of which bars, by which code."""

    facts: Mapping[str, object]
    specs: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What is known of the bars.

    Attributes:
        facts: source, counts and span, in words.
        layout: what was inferred of the source.
        failed: rule, severity, what was found, message: of each check that did not hold.
        quarantined: opened at, rule, severity, value, source: of each refused bar, newest first.
        quarantined_count: how many there are in all.
        docs: address of the Data Docs page; empty where there is none.
    """

    facts: Mapping[str, object]
    layout: Mapping[str, object]
    failed: Sequence[tuple[str, str, str, str]]
    quarantined: Sequence[tuple[str, str, str, str, str]]
    quarantined_count: int
    docs: str


@dataclass(frozen=True, slots=True)
class ReportContent:
    """Everything that a report tells.

    Attributes:
        version: of the registered model that was decided about.
        action: promote, hold or reject.
        reasons: of the decision.
        champions: champion before and after, `none` where there was none.
        decided_at: when the decision was made, in words.
        recipe: what was trained.
        evaluation: numbers, tests and trades on unseen bars.
        champion: the network beside the champion; None where there is nothing to compare.
        record: out-of-sample probabilities.
        close: shape (window,), float64: close at each decision.
        closed_at: shape (bar,), datetime64[us], UTC: of the equity lines.
        costs: of the trades.
        equity: shape (bar,) each, by way of trading.
        periods: by fold, then by year.
        histories: epochs of each fold.
        explained: the newest window.
        calibrator: of the version, in words; `none` without one.
        data: the bars.
        lineage: where it all comes from.
        links: address by name.
    """

    version: str
    action: str
    reasons: Sequence[str]
    champions: tuple[str, str]
    decided_at: str
    recipe: Recipe
    evaluation: Evaluation
    champion: Comparison | None
    record: Record
    close: Float64[np.ndarray, " window"]
    closed_at: Shaped[np.ndarray, " bar"]
    costs: TradingSpec
    equity: Mapping[str, Float64[np.ndarray, " bar"]]
    periods: Sequence[Period]
    histories: Sequence[Sequence[EpochNumbers]]
    explained: Explained
    calibrator: str
    data: DataFacts
    lineage: Lineage
    links: Mapping[str, str]


def report_page(content: ReportContent) -> str:
    """Return the report as one HTML text that needs nothing beside it."""
    recipe = content.recipe
    page = Page(
        f"{recipe.symbol} {recipe.interval}, version {content.version}",
        f"Retrained and decided at {content.decided_at}",
    )
    page.lead(_decision(content), _verdict(content), _tiles(content))
    page.section("Skill", *_skill(page, content))
    page.section("Calibration", *_calibration(page, content))
    page.section("Trading", *_trading(page, content))
    page.section("Probabilities", *_probabilities(page, content))
    page.section("Folds and years", *_periods(content))
    page.section("Training", *_training(page, content))
    page.section("The newest window, explained", *explanation_parts(page, content.explained))
    page.section("Data", *_data(content.data))
    page.section("Lineage", *_lineage(content))
    return page.html()


def _decision(content: ReportContent) -> Html:
    reasons = "".join(f"<li>{escaped(reason)}</li>" for reason in content.reasons)
    before, after = content.champions
    kind = content.action if content.action in ACTION_WORDS else ""
    return Html(
        f'<div class="decision {kind}"><strong>{escaped(ACTION_WORDS.get(content.action, content.action))}</strong>'
        f"<ul>{reasons}</ul>"
        f'<p class="quiet">Champion before: {escaped(before)}; now: {escaped(after)}.</p></div>'
    )


def _verdict(content: ReportContent) -> Html:
    """Say in three sentences what the numbers mean."""
    evaluation = content.evaluation
    rival = evaluation.best_baseline()
    ours, theirs = evaluation.numbers[NETWORK]["log_loss"], evaluation.numbers[rival]["log_loss"]
    difference = evaluation.skill.rivals[rival].difference
    standing = "cannot be told apart from it"
    if difference.high < 0:
        standing = "is better with evidence"
    elif difference.low > 0:
        standing = "is worse with evidence"
    test = evaluation.skill.pesaran_timmermann
    found = "There is evidence" if test.p_value <= ALPHA else "There is no evidence"
    return paragraph(
        f"On {evaluation.windows:,} windows that the models had not seen ({evaluation.first[:10]} to "
        f"{evaluation.last[:10]}) the network's log loss is {ours.value:.4f}. The best baseline, {_words(rival)}, has "
        f"{theirs.value:.4f}: the network {standing}. {found} of skill in the direction (Pesaran-Timmermann, "
        f"p {_p(test.p_value, '= ')})."
    )


def _tiles(content: ReportContent) -> Html:
    evaluation, numbers = content.evaluation, content.evaluation.numbers[NETWORK]
    traded, held = evaluation.trading["long_flat"], evaluation.trading[BUY_AND_HOLD]
    last = content.explained
    return tiles(
        [
            ("log loss", f"{numbers['log_loss'].value:.4f}", _span(numbers["log_loss"])),
            ("accuracy", f"{numbers['accuracy'].value:.1%}", _span(numbers["accuracy"], ".1%")),
            ("balanced accuracy", _share(numbers["balanced_accuracy"].value),
             _span(numbers["balanced_accuracy"], ".1%")),
            ("calibration error", f"{evaluation.calibration_error:.3f}", "expected, share"),
            ("long or flat, net", f"{traded['net_return']:+.1%}", f"buy and hold {held['net_return']:+.1%}"),
            ("P(rise), newest", f"{last.said:.1%}",
             f"decided at {np.datetime_as_string(last.decided_at, unit='m').item().replace('T', ' ')} UTC"),
        ]
    )  # fmt: skip


def _skill(page: Page, content: ReportContent) -> list[Html]:
    evaluation = content.evaluation
    skill = evaluation.skill
    order = sorted(evaluation.numbers, key=lambda name: (name != NETWORK, evaluation.numbers[name]["log_loss"].value))
    rows = [
        (_words(name), *(_with_span(evaluation.numbers[name][metric], FORMS[metric]) for metric in METRICS))
        for name in order
    ]
    arrows = [f"{METRIC_WORDS[metric]} {'↓' if metric in LOWER_IS_BETTER else '↑'}" for metric in METRICS]
    rivals = {_words(name): found for name, found in skill.rivals.items()}
    if content.champion is not None:
        rivals = {"the champion": content.champion, **rivals}
    chart = page.chart(
        rivals_chart({name: found.difference for name, found in rivals.items()}),
        "The network beside each rival, on the same windows.",
        "Difference in log loss with its 95 % interval (paired stationary block bootstrap); blue: better with "
        "evidence, orange: worse.",
    )
    tests = [_test_row(test) for test in (skill.pesaran_timmermann, skill.majority)]
    compared = [
        (
            name,
            number(f"{found.difference.mean:+.4f}", f"{found.difference.low:+.4f} .. {found.difference.high:+.4f}"),
            _p(found.difference.p_value),
            _p(found.mcnemar_p_value),
            found.mcnemar.reading,
        )
        for name, found in rivals.items()
    ]
    return [
        table(("on unseen windows", *arrows), rows, own=order.index(NETWORK)),
        paragraph(
            f"Below each number its 95 % interval (stationary block bootstrap). {evaluation.windows:,} windows.",
            quiet=True,
        ),
        chart,
        heading("Is it chance?"),
        table(("test", "what it found", "p", ""), tests, text_columns=2),
        _compared_table(compared),
        paragraph(_power(content)),
    ]


def _compared_table(rows: Sequence[tuple[object, ...]]) -> Html:
    note = (
        "McNemar asks whether both are right equally often; its p-values beside the baselines are raised for asking "
        "several times (Holm)."
    )
    head = ("network beside", "log loss difference", "p", "McNemar p", "windows on which only one was right")
    return Html(table(head, rows) + paragraph(note, quiet=True))


def _power(content: ReportContent) -> str:
    """Say what these windows could have shown at all."""
    skill = content.evaluation.skill
    known = ", ".join(f"a true {accuracy:.0%} with probability {power:.0%}" for accuracy, power in skill.power.items())
    return (
        f"What {skill.n:,} independent windows can show: at the 5 % level, against 50 %, a forecaster is found with "
        f"skill if it has {known}. Where that is low, no evidence is no proof of no skill."
    )


def _test_row(test: SkillTest) -> tuple[object, ...]:
    return (test.name, test.reading, _p(test.p_value), "skill" if test.p_value <= ALPHA else "no evidence")


def _calibration(page: Page, content: ReportContent) -> list[Html]:
    (fall_fall, fall_rise), (rise_fall, rise_rise) = content.evaluation.confusion
    falls, rises = max(fall_fall + fall_rise, 1), max(rise_fall + rise_rise, 1)
    rows = [
        (f"fall ({fall_fall + fall_rise:,})", number(f"{fall_fall:,}", f"{fall_fall / falls:.1%}"),
         number(f"{fall_rise:,}", f"{fall_rise / falls:.1%}")),
        (f"rise ({rise_fall + rise_rise:,})", number(f"{rise_fall:,}", f"{rise_fall / rises:.1%}"),
         number(f"{rise_rise:,}", f"{rise_rise / rises:.1%}")),
    ]  # fmt: skip
    return [
        page.chart(
            reliability_chart(content.record),
            "When it says 60 %, does 60 % rise?",
            f"On the grey line it does. Expected calibration error {content.evaluation.calibration_error:.3f}; "
            "whiskers are 95 % intervals.",
        ),
        paragraph(_calibrated(content)),
        heading("What happened and what was said"),
        table(("happened", "said fall", "said rise"), rows),
    ]


def _calibrated(content: ReportContent) -> str:
    """Say whether the probabilities are the network's own."""
    if content.recipe.training.calibration == "none":
        return "These are the network's own probabilities: the recipe asks for no calibration."
    return (
        "Calibrated: each fold's probabilities by what was fitted on its validation windows, which the test never "
        f"touched. Version {content.version} goes on with the newest fold's: {content.calibrator}."
    )


def _trading(page: Page, content: ReportContent) -> list[Html]:
    figures = content.evaluation.trading
    rows = [
        (
            WAY_WORDS.get(name, name),
            f"{found['net_return']:+.1%}",
            f"{found['gross_return']:+.1%}",
            number(f"{found['sharpe']:.2f}", f"{found['sharpe_low']:.2f} .. {found['sharpe_high']:.2f}"),
            f"{found['max_drawdown']:.1%}",
            f"{found['turnover']:,.0f} x",
            f"{found['exposure']:.0%}",
        )
        for name, found in figures.items()
    ]
    head = ("", "net return", "before costs", "Sharpe a year", "deepest fall", "turnover", "exposure")
    costs = (
        f"Costs of {content.costs.cost_bps:g} bps and slippage of {content.costs.slippage_bps:g} bps on each trade; "
        f"long above P(rise) {content.costs.threshold:.0%}."
    )
    return [
        page.chart(
            equity_chart(content.closed_at, {WAY_WORDS.get(name, name): line for name, line in content.equity.items()}),
            "What 1 became, after costs.",
            "Decided at a close, carried out at that close; logarithmic scale.",
        ),
        table(head, rows),
        paragraph(_earned(figures["long_flat"])),
        paragraph(f"{costs} Unfilled orders, funding and borrowing fees are not modelled.", quiet=True),
    ]


def _earned(figures: Mapping[str, float]) -> str:
    """Say whether what was earned could be luck."""
    luck = "includes 0: what was earned, or lost, could be luck"
    if figures["sharpe_low"] > 0 or figures["sharpe_high"] < 0:
        luck = "does not include 0"
    return (
        f"The 95 % interval of the Sharpe ratio of going long or flat, {figures['sharpe_low']:.2f} .. "
        f"{figures['sharpe_high']:.2f}, {luck}. A curve that ends higher is no skill by itself."
    )


def _probabilities(page: Page, content: ReportContent) -> list[Html]:
    return [
        page.chart(
            probabilities_chart(content.record, content.close),
            "P(rise) below the price.",
            "Each point was said by a model that had not seen its bar; dotted lines part the folds.",
        )
    ]


def _periods(content: ReportContent) -> list[Html]:
    rows = [
        (
            number(
                period.name,
                f"{np.datetime_as_string(period.first, unit='D')} .. {np.datetime_as_string(period.last, unit='D')}",
            ),
            f"{period.windows:,}",
            f"{period.rises_share:.1%}",
            f"{period.scores['log_loss']:.4f}",
            number(
                f"{period.against_base_rate.mean:+.4f}",
                f"{period.against_base_rate.low:+.4f} .. {period.against_base_rate.high:+.4f}",
            ),
            f"{period.scores['accuracy']:.1%}",
            _share(period.scores["balanced_accuracy"]),
            _plain(period.scores["mcc"]),
            _plain(period.scores["roc_auc"]),
        )
        for period in content.periods
    ]
    head = ("decisions", "windows", "rose", "log loss", "beside base rate", "accuracy", "balanced acc.",
            "Matthews corr.", "ROC AUC")  # fmt: skip
    return [
        table(head, rows),
        paragraph("A single good number may come from a single good year; below 0 the network beat the base rate "
                  "there (95 % interval below).", quiet=True),
        *_seeds(content),
    ]  # fmt: skip


def _seeds(content: ReportContent) -> list[Html]:
    """Show what another seed would have given; nothing where only one was trained."""
    seeds = content.evaluation.seeds
    if seeds is None:
        return []
    told = ("log_loss", "brier_score", "accuracy", "roc_auc")
    rows = [
        (f"seed {seed}", *(_with_span(found[name], FORMS[name]) for name in told))
        for seed, found in seeds.numbers.items()
    ]
    loss = f"{seeds.spread('log_loss'):.4f} in log loss (standard deviation {seeds.deviation('log_loss'):.4f})"
    return [
        heading("Does the seed matter?"),
        table(("the same recipe, windows and folds", *(METRIC_WORDS[name] for name in told)), rows, own=0),
        paragraph(
            f"The best and the worst of {len(seeds.numbers)} seeds lie {loss} and {seeds.spread('accuracy'):.1%} in "
            "accuracy apart. Record and decision are the first one's; a difference smaller than this says nothing "
            "about a recipe.", quiet=True),
    ]  # fmt: skip


def _training(page: Page, content: ReportContent) -> list[Html]:
    return [
        page.chart(
            learning_chart(content.histories),
            "Log loss by epoch, one colour a fold.",
            "Dashed: training; solid: validation, with the epoch that was kept. The dotted line is what always saying "
            "50 % costs.",
        )
    ]


def _data(data: DataFacts) -> list[Html]:
    parts = [facts(data.facts), folded("How the source was read", facts(data.layout)) if data.layout else Html("")]
    parts.append(heading("Checks that did not hold"))
    if data.failed:
        parts.append(table(("rule", "severity", "found", "in words"), data.failed, text_columns=4))
    else:
        parts.append(paragraph("None."))
    parts.append(heading("Quarantine"))
    if data.quarantined:
        shown = len(data.quarantined)
        more = f" The newest {shown:,} are shown." if shown < data.quarantined_count else ""
        many = "refusal" if data.quarantined_count == 1 else "refusals"
        parts.append(paragraph(f"{data.quarantined_count:,} {many} of bars of this series.{more}"))
        parts.append(
            folded("Show them", table(("bar opened at", "rule", "severity", "value", "source"), data.quarantined,
                                      text_columns=5))
        )  # fmt: skip
    else:
        parts.append(paragraph("No bar of this series was refused."))
    if data.docs:
        parts.append(paragraph(link("All checks, in the Data Docs", data.docs)))
    return parts


def _lineage(content: ReportContent) -> list[Html]:
    links = Html(" · ".join(link(name, address) for name, address in content.links.items() if address))
    return [
        facts(content.lineage.facts),
        paragraph(links),
        folded("The whole recipe and what was asked", preformatted(content.lineage.specs)),
    ]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _with_span(interval: Interval, form: str) -> Html:
    return number(_plain(interval.value, form), _span(interval, form))


def _span(interval: Interval, form: str = ".4f") -> str:
    return f"{interval.low:{form}} .. {interval.high:{form}}"


def _plain(value: float, form: str = ".3f") -> str:
    return "undefined" if np.isnan(value) else f"{value:{form}}"


def _share(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.1%}"


def _p(p_value: float, equals: str = "") -> str:
    """Word a p-value: never 0."""
    return "< 0.001" if p_value < 0.001 else f"{equals}{p_value:.3f}"  # noqa: PLR2004 - the usual least p-value worth printing

"""The report of a retrain: the decision and its reasons first, then the evidence, the training, the data, the lineage.

Text, tables and charts; it reads and writes nothing. What comes from outside (file names, messages of checks,
quarantined values, paths) is escaped by the templates of `tasks/pages/html_page.py`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from model.baseline_comparison import ALPHA
from model.evaluation import BUY_AND_HOLD, NETWORK
from model.forecaster_names import forecaster_name
from model.report_charts import learning_chart
from tasks.champion.promotion_summary import what_to_do
from tasks.pages.explanation_page import explanation_parts
from tasks.pages.html_page import (
    Page,
    decision_banner,
    facts,
    folded,
    heading,
    joined,
    link,
    paragraph,
    preformatted,
    table,
    tiles,
    with_code,
)
from tasks.pages.number_format import interval_text, moment_text, number_text, p_value_text
from tasks.pages.report_abstention import abstention_section
from tasks.pages.report_cost_classes import cost_classes_section
from tasks.pages.report_evidence import (
    calibration_noise,
    calibration_section,
    finding_text,
    live_section,
    periods_section,
    probabilities_section,
    skill_section,
    strategy_return,
    trading_section,
)
from tasks.pages.report_inputs import DataFacts, Lineage, ReportContent
from tasks.pages.report_magnitude import magnitude_section

HELD_WITHOUT_CHAMPION = "Held: there is no champion yet"
HEADLINES = {"promote": "Promoted", "hold": "Held: the champion stayed", "reject": "Rejected: it failed a check"}


def report_page(content: ReportContent) -> str:
    """Return the report as one HTML page that loads nothing."""
    recipe = content.recipe
    page = Page(
        f"{recipe.symbol} {recipe.interval}, version {content.version}",
        f"Retrained and decided at {content.decided_at}",
    )
    to_do = what_to_do(content.action, [mark for mark, _ in content.reasons], content.version, content.recipe.series)
    decision = decision_part(content.action, content.decided_at, content.reasons, content.champions, to_do)
    page.lead(decision, _summary(content), _tiles(content))
    page.section("Skill", *skill_section(page, content))
    page.section("Calibration", *calibration_section(page, content))
    page.section("Abstention", *abstention_section(content.evaluation.abstention))
    if content.evaluation.moves:
        page.section("Expected move", *magnitude_section(content.evaluation.moves))
    if content.evaluation.cost_classes:
        page.section("Beyond a cost", *cost_classes_section(content.evaluation.cost_classes))
    page.section("Trading", *trading_section(page, content))
    page.section("Probabilities", *probabilities_section(page, content))
    page.section("Folds and years", *periods_section(content.periods, content.evaluation.seeds))
    if content.live:
        page.section("Live predictions", *live_section(content.live))
    page.section("Training", *_training(page, content))
    page.section("Explanation of the newest window", *explanation_parts(page, content.explained))
    page.section("Data", *_data(content.data))
    page.section("Lineage", *lineage_parts(content.lineage, content.links))
    return page.html()


def decision_part(
    action: str, decided_at: str, reasons: Sequence[tuple[str, str]], champions: tuple[str, str], to_do: str
) -> Markup:
    """Return the decision with its reasons, what to do about it, and the champion before and after it."""
    before, after = champions
    headline = HEADLINES.get(action, action) if before != "none" or action != "hold" else HELD_WITHOUT_CHAMPION
    advice = f"What to do: {to_do} " if to_do else ""
    return decision_banner(
        action if action in HEADLINES else "",
        f"{headline} (decided on {decided_at}).",
        reasons,
        f"{advice}Champion before: {before}; after: {after}. This is the state at that time: a later promotion or "
        "rollback is not in this report. The dashboard and the command status show the champion now.",
    )


def _summary(content: ReportContent) -> Markup:
    """Summarise the evidence in three sentences."""
    evaluation = content.evaluation
    baseline = evaluation.best_baseline()
    ours, theirs = evaluation.numbers[NETWORK]["log_loss"], evaluation.numbers[baseline]["log_loss"]
    test = evaluation.skill.pesaran_timmermann
    corrected = evaluation.corrected()["pesaran_timmermann"]
    evidence = "There is evidence" if corrected <= ALPHA else "There is no evidence"
    return paragraph(
        f"On {evaluation.windows:,} out-of-sample windows ({evaluation.first[:10]} to {evaluation.last[:10]}) the "
        f"network's log loss is {ours.value:.4f}. The best baseline, {forecaster_name(baseline)}, has "
        f"{theirs.value:.4f}: the network {finding_text(evaluation)}. {evidence} of directional skill "
        f"(Pesaran-Timmermann, p {p_value_text(test.p_value, '= ')}; {evaluation.looks}: "
        f"corrected p {p_value_text(corrected, '= ')})."
    )


def _tiles(content: ReportContent) -> Markup:
    """Show the headline numbers, each with its interval or what it has to be compared with."""
    evaluation, numbers = content.evaluation, content.evaluation.numbers[NETWORK]
    scores = [
        (name, number_text(numbers[metric].value, form), interval_text(numbers[metric].low, numbers[metric].high, form))
        for name, metric, form in (
            ("log loss", "log_loss", ".4f"),
            ("accuracy", "accuracy", ".1%"),
            ("balanced accuracy", "balanced_accuracy", ".1%"),
        )
    ]
    traded, held = strategy_return(content, "long_flat"), evaluation.trading[BUY_AND_HOLD]["net_return"]
    newest = content.explained
    return tiles(
        [
            *scores,
            (
                "expected calibration error",
                f"{evaluation.calibration_error:.3f}",
                f"perfectly calibrated: {calibration_noise(content):.3f}",
            ),
            (
                "net return, long or flat",
                f"{traded.value:+.1%}",
                f"{interval_text(traded.low, traded.high, '+.0%')}; buy and hold {held:+.1%}",
            ),
            _break_even(content),
            ("P(rise), newest", f"{newest.probability:.1%}", f"decided at {moment_text(newest.decided_at)}"),
        ]
    )


def _break_even(content: ReportContent) -> tuple[str, str, str]:
    """Show the costs per side at which long or flat has no net return."""
    found = content.evaluation.trading["long_flat"]
    name, assumed = "break-even cost per side", content.costs.side_bps
    if np.isnan(found["break_even_bps"]):
        return name, "undefined", "nothing was traded"
    interval = interval_text(found["break_even_bps_low"], found["break_even_bps_high"], ".0f")
    return name, f"{found['break_even_bps']:.0f} bps", f"{interval}; assumed {assumed:g} bps"


def _training(page: Page, content: ReportContent) -> list[Markup]:
    return [
        page.chart(
            learning_chart(content.histories),
            "Log loss by epoch and fold.",
            "Dashed: training. Solid: validation; the dot marks the epoch that early stopping kept. Dotted line: a "
            "constant P(rise) of 50 %.",
        )
    ]


def _data(data: DataFacts) -> list[Markup]:
    parts = [facts(data.facts)]
    if data.layout:
        parts.append(folded("How the source was read", facts(data.layout)))
    parts.append(heading("Failed checks"))
    if data.failed:
        head = ("rule", "severity", "requires", "found", "what to do")
        rows = [tuple(with_code(text) for text in row) for row in data.failed]
        parts.append(table(head, rows, text_columns=len(head), stacked=True))
    else:
        parts.append(paragraph("None."))
    parts += [heading("Quarantine"), *_quarantine(data)]
    if data.docs:
        parts.append(paragraph(link("All checks, in the Data Docs", data.docs)))
    return parts


def _quarantine(data: DataFacts) -> list[Markup]:
    if not data.quarantined:
        return [paragraph("No bar of this series was refused.")]
    shown = len(data.quarantined)
    more = f" The newest {shown:,} are shown." if shown < data.quarantined_count else ""
    count = f"{data.quarantined_count:,} {'refusal' if data.quarantined_count == 1 else 'refusals'}"
    head = ("bar opened at", "rule", "severity", "value", "source")
    return [
        paragraph(f"{count} of bars of this series.{more}"),
        folded("Show them", table(head, data.quarantined, text_columns=len(head), stacked=True)),
    ]


def lineage_parts(lineage: Lineage, addresses: Mapping[str, str]) -> list[Markup]:
    """Return where the model comes from, and links."""
    links = [link(name, address) for name, address in addresses.items() if address]
    return [
        facts(lineage.facts),
        paragraph(joined(links, " · ")),
        folded("The whole recipe and all parameters", preformatted(lineage.specs)),
    ]

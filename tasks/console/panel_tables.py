"""Tables about a panel in the terminal: the result of a retrain, and what its champion predicts."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from model.cost_classes import CLASS_COLUMNS
from model.forecaster_names import forecaster_name, traded_name
from model.label_names import LABEL_NAMES, LabelKind
from model.plurals import counted
from model.times import format_time
from tasks.champion.promotion_summary import missing_for_promotion, what_to_do
from tasks.console.command_output import (
    BREAK_EVEN_HEAD,
    break_even_text,
    figures_table,
    metrics_table,
    policies_table,
    print_field,
)
from tasks.console.escaping_console import Console
from tasks.console.fitting_tables import print_table
from tasks.console.prediction_tables import yes_or_no
from tasks.settings import Settings, masked
from tasks.store.decision_log import mark_reasons

EXTREMES = 3  # series named at each end of a close
FURTHER = {
    "expected_move": "move",
    "expected_return": "return",
    **dict(zip(CLASS_COLUMNS, ("P(down)", "P(neither)", "P(up)"), strict=True)),
}
MOVE_NOTES: dict[LabelKind, str] = {
    "rise": "move, return: expected absolute log return until then, and expected log return, before costs",
    "rank": "move, return: expected absolute log return until then relative to the median of the other series, and "
    "expected log return in excess of it, before costs",
}

if TYPE_CHECKING:
    from model.panel_evaluation import RankScores
    from model.trading_policy_comparison import PolicyComparison
    from tasks.results import PanelRetrain, PanelUnchanged


def show_panel_retrain(
    result: "PanelRetrain | PanelUnchanged", seconds: Mapping[str, float], settings: Settings, log_file: Path
) -> None:
    """Print the result of a retrain of a panel: pooled metrics, ranks, decision, links, seconds of each step."""
    from tasks.results import PanelRetrain  # imported here: importing it loads the data checks

    console, promotion = Console(highlight=False), result.promotion
    decided = promotion.action
    if isinstance(result, PanelRetrain):
        found = result.evaluation
        print_table(console, metrics_table(found.pooled))
        if found.ranks:
            print_table(console, ranks_table(found.ranks, found.pooled.policies))
        elif found.pooled.policies:
            print_table(console, policies_table(found.pooled.policies, of_panel=True))
        for name, text in _evaluation_lines(result):
            print_field(console, name, text)
        decided = f"{promotion.action} version {result.version.version}"
    else:
        bars = result.bars
        print_field(
            console, "bars", f"{bars.rows} of {len(bars.refs)} series, until {bars.closed_at:%Y-%m-%d %H:%M} UTC"
        )
    print_field(console, "decision", f"{decided}; champion: {promotion.champion_after or 'none'}")
    for mark, reason in mark_reasons(promotion.reasons, promotion.marks):
        print_field(console, "", f"- {f'{mark}: ' if mark else ''}{reason}")
    if isinstance(result, PanelRetrain) and promotion.action != "promote":
        missing = missing_for_promotion(promotion.reasons, promotion.marks, promotion.numbers)
        if missing:
            print_field(console, "missing", "; ".join(missing))
        series = result.windows.bars.series
        if to_do := what_to_do(promotion.action, promotion.marks, result.version.version, series):
            print_field(console, "to do", to_do)
    local = settings.mlflow_uri.startswith("sqlite:")
    print_field(
        console,
        "MLflow",
        f"mlflow ui --backend-store-uri {settings.mlflow_uri}" if local else masked(settings.mlflow_uri),
    )
    if isinstance(result, PanelRetrain):
        print_field(console, "report", settings.link(Path(result.report)))
    print_field(console, "log", str(log_file))
    print_field(console, "seconds", ", ".join(f"{step} {spent:.1f}" for step, spent in seconds.items()))


def _evaluation_lines(result: "PanelRetrain") -> Iterator[tuple[str, str]]:
    """Yield (name, text) for the windows and the series left out."""
    found, windows = result.evaluation, result.windows
    resolved = f"{windows.windows}, {windows.resolved} with an outcome"
    yield "windows", f"{resolved}; {len(found.series)} series at {found.closes} closes tested"
    for symbol, reason in found.left_out.items():
        yield "left out", f"{symbol} is {reason}"
    if opinions := found.pooled.abstention.get("share"):
        accuracy = f"{opinions.accuracy.value:.1%} [{opinions.accuracy.low:.1%}, {opinions.accuracy.high:.1%}] right"
        bounds = "guaranteed {:.1%} to {:.1%}".format(*opinions.guaranteed)
        everything = found.pooled.abstention["all"].accuracy.value
        yield (
            "opinions",
            f"{opinions.opinions}, on {opinions.share:.1%} of the series, mean over closes ({bounds})"
            + (f"; {accuracy}, all decisions {everything:.1%}" if opinions.opinions else ""),
        )
    for each in found.held_out:
        loss, versus = each.scores["log_loss"], each.against_base_rate
        interval = f"{versus.mean:+.4f} [{versus.low:+.4f}, {versus.high:+.4f}] vs. the base rate"
        yield "held out", f"{each.symbol}, not trained on: log loss {loss:.4f}, {interval}"


def ranks_table(ranks: "RankScores", portfolios: "PolicyComparison | None") -> Table:
    """Return the area under the curve within a close, and the market-neutral portfolio, by what ranks the series."""
    assumed = f"; portfolios at {portfolios.spec.side_bps:g} bps per side" if portfolios else ""
    results = {traded_name(name)[1]: each.figures for name, each in portfolios.results.items()} if portfolios else {}
    heads = ("AUC (0.5 is chance)", *(("net return", BREAK_EVEN_HEAD) if portfolios else ()))
    found = figures_table(f"Ranks within each close{assumed}", ("ranked by",), heads)
    areas = {
        forecaster_name(name): f"{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]" for name, each in ranks.auc.items()
    }
    for who in dict.fromkeys((*results, *areas)):
        figures = results.get(who)
        earned = (f"{figures['net_return']:+.1%}", break_even_text(figures)) if figures else ()
        found.add_row(who, areas.get(who, ""), *earned)
    return found


def show_panel_forecast(found: Mapping[str, Any]) -> None:
    """Print one line a series, the highest probability first, then the series without a prediction."""
    console = Console(highlight=False)
    known = {name for each in found["predictions"] for name in each}
    further = {name: head for name, head in FURTHER.items() if name in known}
    names = LABEL_NAMES[found["label"]]
    closes = [(format_time(each["decided_at"]), format_time(each["resolves_at"])) for each in found["predictions"]]
    most = max(closes, key=closes.count)
    stated = [each for each in found["predictions"] if each["opinion"] is not None]
    opinion, late = ["opinion"] if stated else [], [""] if any(each["late"] for each in found["predictions"]) else []
    table = Table(
        "series", names.probability, *opinion, *further.values(), *late, box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for each in sorted(found["predictions"], key=lambda row: -float(row["probability"])):
        values = (f"{each[name]:+.3%}" if name == "expected_return" else f"{each[name]:.2%}" for name in further)
        opinion = [yes_or_no(each["opinion"])] if stated else []
        table.add_row(
            each["symbol"],
            f"{each['probability']:.4f}",
            *opinion,
            *values,
            *(["late"] if late and each["late"] else []),
        )
    console.print(
        f"[bold]{found['series']}[/bold] version {found['version']}, decided at {most[0]} UTC, "
        f"resolves at {most[1]} UTC"
    )
    print_table(console, table)
    for each, (decided_at, resolves_at) in zip(found["predictions"], closes, strict=True):
        if (decided_at, resolves_at) != most:
            console.print(f"{each['symbol']}: decided at {decided_at} UTC, resolves at {resolves_at} UTC")
    if stated:
        count = sum(each["opinion"] != "none" for each in stated)
        console.print(
            f"opinion: {count} of {len(stated)} series, among the most confident by the share stated at retrain",
            soft_wrap=True,
        )
    if "expected_move" in further:
        console.print(MOVE_NOTES[found["label"]], soft_wrap=True)
    if CLASS_COLUMNS[0] in further:
        console.print("P(down), P(neither), P(up): of a move beyond the cost of the recipe")
    for text in _forecast_notes(found):
        console.print(text, soft_wrap=True)
    for symbol, reason in found["left_out"].items():
        console.print(f"left out: {escape(symbol)}: {escape(reason)}", soft_wrap=True)


def panel_prediction_text(found: Mapping[str, Any]) -> str:
    """Return the predictions of a close, and `by` which version, as text: the highest and lowest, all of few series."""
    rows = [f"{each['symbol']} {each['probability']:.4f}" for each in found["predictions"]]
    named = ", ".join(rows)
    if len(rows) > 2 * EXTREMES:
        named = f"highest {', '.join(rows[:EXTREMES])}; lowest {', '.join(rows[: -EXTREMES - 1 : -1])}"
    late = f"; {found['late']} late: stored after the outcome was due" if found["late"] else ""
    return (
        f"{LABEL_NAMES[found['label']].probability} of {len(rows)} series for the close at "
        f"{format_time(found['resolves_at'])}, decided at that of "
        f"{format_time(found['decided_at'])} UTC ({found['by']}): {named}{late}"
    )


def panel_outcome_text(found: Mapping[str, Any]) -> str:
    """Return how many series of a close were predicted right: `close at 2026-11-26: 23 of 42 series right`."""
    late = f"; {found['late']} late" if found["late"] else ""
    return f"close at {format_time(found['resolves_at'])}: {found['right']} of {found['outcomes']} series right{late}"


def _forecast_notes(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a reader must know about predictions that are late, served before, or backfilled."""
    rows = found["predictions"]
    if unknown := sorted(each["symbol"] for each in rows if not each["trained_on"]):
        yield f"not trained on: {', '.join(unknown)}"
    served = {each["served_before"]["version"] for each in rows if "served_before" in each}
    if served:
        count = sum("served_before" in each for each in rows)
        yield (
            f"not served: version {', '.join(sorted(served, key=int))} predicted {count} of these series for the same "
            "close before; those predictions are the ones that count"
        )
    if any(each["late"] for each in rows):
        yield "late: stored after its outcome was due, so it does not count as evidence"
    if found["backfilled"]:
        yield (
            f"backfilled: {counted(found['backfilled'], 'prediction')} of missed closes stored; those whose outcome "
            "was already due are marked late"
        )

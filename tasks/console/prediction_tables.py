"""Print predictions: a new one, and a table of earlier ones with their outcomes."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from model.cost_classes import CLASS_COLUMNS
from model.label_names import LABEL_NAMES, UNKNOWN, LabelKind
from model.times import format_time
from tasks.console.escaping_console import Console
from tasks.console.fitting_tables import print_table

# What to do about a late prediction, by the source of the champion's bars.
IF_LATE = {
    "sample": "The bundled sample ends there and gets no newer bars; `riseorfall retrain --source.kind exchange` reads "
    "those of an exchange",
    "csv": "For a prediction that counts, add newer bars to the file, run `riseorfall ingest` with the flags of its "
    "retrain, then `riseorfall predict` before the next close",
    "exchange": "For a prediction that counts, run `riseorfall ingest` with the flags of its retrain, then `riseorfall "
    "predict` before the next close; `riseorfall up` does both on time",
}


def show_predictions(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print served predictions, oldest first, with their outcomes; those of a panel with their series."""
    kinds: set[LabelKind] = {row.get("label", "rise") for row in rows}
    chance = LABEL_NAMES[kinds.pop()].probability if len(kinds) == 1 else "P(label 1)"
    of_panel, stated = any("symbol" in row for row in rows), any(row.get("opinion") for row in rows)
    series, opinion = ["series"] if of_panel else [], ["opinion"] if stated else []
    names = ("close of (UTC)", *series, chance, "predicted", *opinion, "outcome", "version", "stored")
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    least = {"close of (UTC)": 10, chance: 7, "predicted": 9, "outcome": 9}  # of these, words go to a second line first
    for name in names:
        most = least[name] if name == chance else None
        table.add_column(name, no_wrap=name not in least, min_width=least.get(name), max_width=most)
    for row in rows:
        outcome = f"{row['outcome']}, {right_or_wrong(row)}" if row["outcome"] else UNKNOWN
        series, stored = [row["symbol"]] if of_panel else [], "late" if row["late"] else "in time"
        first = (format_time(row["resolves_at"]), *series, f"{row['probability']:.1%}", row["predicted"])
        opinion = [yes_or_no(row["opinion"])] if stated else []
        table.add_row(*first, *opinion, outcome, row["version"], stored)
    if rows:
        print_table(Console(), table)
    else:
        Console().print("no predictions yet; `riseorfall predict` makes one, for a panel with --panel")


def yes_or_no(opinion: str | None) -> str:
    """Return whether there is an opinion; empty where no share of opinions was stated."""
    return {None: "", "none": "no"}.get(opinion, "yes")


def right_or_wrong(row: Mapping[str, Any]) -> str:
    """Return whether a prediction with an outcome was right."""
    return "right" if row["right"] else "wrong"


def show_forecast(found: Mapping[str, Any]) -> None:
    """Print a prediction."""
    console = Console(highlight=False)
    console.print(
        f"{found['symbol']} {found['interval']}: P(rise) [bold]{found['probability']:.4f}[/bold], decided at "
        f"{format_time(found['decided_at'])} UTC, resolves at {format_time(found['resolves_at'])} UTC "
        f"(version {found['version']})"
    )
    if "expected_move" in found:
        console.print(
            f"expected move {found['expected_move']:.2%} either way; expected return {found['expected_return']:+.3%} "
            "(log returns until then, before costs)"
        )
    if CLASS_COLUMNS[0] in found:
        down, neither, up = (found[name] for name in CLASS_COLUMNS)
        console.print(f"beyond the cost of the recipe: P(down) {down:.1%}, P(neither) {neither:.1%}, P(up) {up:.1%}")
    if found["opinion"]:
        among = "too close to 50 %: not among" if found["opinion"] == "none" else "among"
        console.print(
            f"opinion: {found['opinion']} ({among} its most confident decisions, by the share stated at retrain)"
        )
    if served := found.get("served_before"):
        console.print(
            f"not served: version {served['version']} predicted P(rise) {served['probability']:.4f} for this close "
            "before; that prediction is the one that counts"
        )
    if found["late"]:
        console.print(
            "late: it was stored after its outcome was due, so it does not count as evidence. "
            f"{IF_LATE.get(found.get('source', ''), IF_LATE['exchange'])}"
        )
    if found["backfilled"]:
        bars = f"{found['backfilled']} missed bar{'s' if found['backfilled'] > 1 else ''}"
        console.print(
            f"backfilled: predictions of {bars} before it were stored; those whose outcome was already due are "
            "marked late"
        )

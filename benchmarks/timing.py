"""Two things timed in turn: medians with their spread, and the ratio of the medians.

Absolute times mean nothing on another machine, nor on this one while others use it; a ratio of two things that took
turns within one run does. Each way runs once before it is timed.
"""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

Action = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table.

    Attributes:
        what: what is compared.
        ours: median seconds of ours, or another number in `unit`.
        theirs: the same of the other; None where it could not be measured.
        unit: of both.
        ratio: how much better ours is (or the share, see `what`); None where it could not be measured.
        at_least: what was asked for; None where nothing was.
        spread: range over the rounds, in words; why it is missing where it is.
        passed: whether what was asked for was reached; None where nothing was asked or measured.
    """

    what: str
    ours: float | None
    theirs: float | None
    unit: str
    ratio: float | None
    at_least: str = ""
    spread: str = ""
    passed: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields ready for JSON."""
        return asdict(self)


def alternate(ways: Mapping[str, Action], rounds: int, *, warm: bool = True) -> dict[str, list[float]]:
    """Run each way once to warm up, then all in turn, and return the seconds of each round.

    The seconds are those of the wall: what a user waits for. The order turns round each time, so that neither way
    always follows the other.
    """
    if warm:
        for action in ways.values():
            action()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name, action in reversed(ways.items()) if turn % 2 else ways.items():
            gc.collect()
            started = time.perf_counter()
            action()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def versus(
    what: str, ours: Action, theirs: Action, rounds: int, at_least: float | None = None, *, warm: bool = True
) -> Line:
    """Compare two ways of the same work: how many times as long theirs takes."""
    seconds = alternate({"ours": ours, "theirs": theirs}, rounds, warm=warm)
    return compared(what, seconds["ours"], seconds["theirs"], at_least)


def compared(what: str, ours: list[float], theirs: list[float], at_least: float | None = None) -> Line:
    """Return the line of two lists of seconds, measured in turn."""
    ratios = [other / own for own, other in zip(ours, theirs, strict=True)]
    ratio = statistics.median(ratios)
    return Line(
        what, statistics.median(ours), statistics.median(theirs), "s", ratio,
        "" if at_least is None else f"{at_least:g}x", f"{min(ratios):.2f}-{max(ratios):.2f} in {len(ratios)} rounds",
        None if at_least is None else ratio >= at_least,
    )  # fmt: skip


def missing(what: str, why: str, at_least: str = "") -> Line:
    """Return a line that says why there is no figure."""
    return Line(what, None, None, "", None, at_least, why)


def table(lines: list[Line]) -> str:
    """Return the lines as a table in Markdown."""
    rows = ["| what | ours | other | ratio | asked | spread |", "|---|---|---|---|---|---|"]
    for line in lines:
        ratio = "-" if line.ratio is None else f"{line.ratio:.2f}{'' if line.passed is not False else ' (missed)'}"
        cells = (line.what, _number(line.ours, line.unit), _number(line.theirs, line.unit), ratio, line.at_least)
        rows.append(f"| {' | '.join(cells)} | {line.spread} |")
    return "\n".join(rows)


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:,.4g} {unit}"

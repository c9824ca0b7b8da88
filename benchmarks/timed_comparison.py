"""Times two programs in alternation: medians, and the median ratio with its range.

Absolute times do not transfer to another machine, or to this one under another load; the ratio of two programs that
alternate within one run does. Each program runs once before it is timed.
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
        ours: median seconds of this project, or another number in `unit`.
        theirs: the same of the other program; None where it could not be measured.
        unit: of both.
        ratio: theirs over ours (or the share that `what` names); None where it could not be measured.
        at_least: the target; empty where there is none.
        spread: range over the rounds as text, or why there is no number.
        passed: whether the target was reached; None without a target or a number.
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
        """Return the fields as JSON values."""
        return asdict(self)


def alternate(ways: Mapping[str, Action], rounds: int, *, warm: bool = True) -> dict[str, list[float]]:
    """Run each program once to warm up, then all in alternation; return the wall seconds of each round.

    The order is reversed in every other round, so that neither program always runs after the other.
    """
    if warm:
        for action in ways.values():
            action()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, action in reversed(ways.items()) if number % 2 else ways.items():
            gc.collect()
            started = time.perf_counter()
            action()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def versus(
    what: str, ours: Action, theirs: Action, rounds: int, at_least: float | None = None, *, warm: bool = True
) -> Line:
    """Compare two programs for the same work; the ratio is their seconds over ours."""
    seconds = alternate({"ours": ours, "theirs": theirs}, rounds, warm=warm)
    return compared(what, seconds["ours"], seconds["theirs"], at_least)


def compared(what: str, ours: list[float], theirs: list[float], at_least: float | None = None) -> Line:
    """Return the line of two lists of seconds, measured in alternation."""
    ratios = [other / own for own, other in zip(ours, theirs, strict=True)]
    ratio = statistics.median(ratios)
    return Line(
        what, statistics.median(ours), statistics.median(theirs), "s", ratio,
        "" if at_least is None else f"{at_least:g}x", f"{min(ratios):.2f}-{max(ratios):.2f} in {len(ratios)} rounds",
        None if at_least is None else ratio >= at_least,
    )  # fmt: skip


def missing(what: str, why: str, at_least: str = "") -> Line:
    """Return a line without numbers that states why."""
    return Line(what, None, None, "", None, at_least, why)


def table(lines: list[Line]) -> str:
    """Return the lines as a table in Markdown."""
    rows = ["| what | ours | other | ratio | target | spread |", "|---|---|---|---|---|---|"]
    for line in lines:
        ratio = "-" if line.ratio is None else f"{line.ratio:.2f}{'' if line.passed is not False else ' (missed)'}"
        cells = (line.what, _number(line.ours, line.unit), _number(line.theirs, line.unit), ratio, line.at_least)
        rows.append(f"| {' | '.join(cells)} | {line.spread} |")
    return "\n".join(rows)


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:,.4g} {unit}"

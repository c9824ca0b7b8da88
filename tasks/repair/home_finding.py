"""What an examination found about one part of a home."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any, Literal

State = Literal["whole", "damaged", "gone", "not examined", "undecided"]


@dataclass(frozen=True, slots=True)
class HomeFinding:
    """The state of one part of a home.

    Attributes:
        part: such as `table bars`, `registry`, `BTC-USD-1d version 3`.
        state: `gone` if it should exist and does not; `not examined` if it is on another machine or cannot be read;
            `undecided` if it is a version whose retrain ended before its decision.
        path: file or folder.
        problem: what is wrong; empty if nothing is.
        remedy: what a repair does, or what a person can do.
        repair: repairs it, given a folder for damaged files; None if riseorfall cannot.
    """

    part: str
    state: State
    path: Path
    problem: str = ""
    remedy: str = ""
    repair: Callable[[Path], None] | None = field(default=None, compare=False, repr=False)

    @property
    def is_damage(self) -> bool:
        """Whether something is wrong."""
        return self.state in {"damaged", "gone"}

    @property
    def is_unreadable(self) -> bool:
        """Whether it cannot be read now, which says nothing about its content."""
        return self.state == "not examined" and bool(self.problem)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields ready for JSON."""
        return {
            "part": self.part,
            "state": self.state,
            "path": str(self.path),
            "problem": self.problem,
            "remedy": self.remedy,
            "repairable": self.repair is not None,
        }


def set_aside(path: Path, root: Path, aside: Path) -> None:
    """Move a file or folder below `root` to the same place below `aside`, so that a repair destroys nothing."""
    place = aside / path.relative_to(root)
    place.parent.mkdir(parents=True, exist_ok=True)
    names = (place.with_name(f"{place.name}.{number}") for number in count(2))
    target = next(each for each in chain([place], names) if not os.path.lexists(each))  # a repair may do so twice
    shutil.move(path, target)  # `aside` may be on another disk


def database_files(path: Path) -> list[Path]:
    """Return the file of an SQLite database and those of its journals, whether or not they exist."""
    return [path.with_name(f"{path.name}{suffix}") for suffix in ("", "-journal", "-wal", "-shm")]

"""Find and repair damage in a Delta table of a local folder: its log, and its Parquet files.

A commit whose file is damaged or gone is replaced by one that changes only what later commits prove about it
(`tasks/repair/lost_commits.py`): the rows that it added are lost, those of all other commits stay, and so do the
numbers of the versions. Rows that stand twice then are found next (`tasks/repair/duplicate_rows.py`). A checkpoint
after that commit is kept and still names its files, so the newest version loses nothing, only earlier ones do. Commits
of a log that were deleted because a checkpoint contains them (`tasks/store/delta_table.py`) are not missed as long as
that checkpoint is whole. A damaged Parquet file is taken out of the table: its rows are lost, all others stay. Damaged
files are moved, not deleted. A file that cannot be read because of the disk, the permissions or the memory, or for a
reason that is not known here, is not examined and not moved.
"""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import Any
from urllib.parse import unquote

from deltalake import DeltaTable

from model.plurals import counted
from tasks.repair.duplicate_rows import find_duplicates
from tasks.repair.home_finding import HomeFinding, State, set_aside
from tasks.repair.lost_commits import prove_actions, read_actions
from tasks.store.delta_table import Table

WRITTEN = ("_delta_log/*.json", "_delta_log/*checkpoint*", "**/*.parquet")  # files of a table, not of a killed creation
TIMES = ("timestamp", "decided_at", "watched_at", "recorded_at")  # columns of tables by which a period is named
MOST_LISTED = 10  # versions in a message
REPAIR = "REPAIR"  # operation of a commit that replaces a lost one


def examine_table(name: str, table: Table, *, deep: bool = True) -> list[HomeFinding]:
    """Return the damage of a table, one finding for each file; one finding if it is whole, none if it does not exist.

    Args:
        name: of the table.
        table: in a local folder.
        deep: read every Parquet file, not only its size and its footer, and every file of the log.
    """
    root, part = Path(table.uri), f"table {name}"
    try:
        for folder in (root, root / "_delta_log"):
            next(folder.iterdir(), None)  # glob finds nothing where it may not look
    except FileNotFoundError:
        pass
    except OSError as error:
        return [_not_examined(part, folder, error)]
    if not any(next(root.glob(pattern), None) for pattern in WRITTEN):
        return []
    log_damage = _examine_log(part, table, deep=deep)
    if log_damage:
        return log_damage
    found = list(_examine_files(part, root, deep=deep)) or (list(find_duplicates(part, table)) if deep else [])
    return found or [HomeFinding(part, "whole", root)]


def _examine_log(part: str, table: Table, *, deep: bool) -> list[HomeFinding]:
    """Return the damage of the log; its files are read only if the newest version cannot be opened, or if `deep`."""
    root = Path(table.uri)
    log = root / "_delta_log"
    commits = {int(path.stem): path for path in log.glob("*.json") if path.stem.isdecimal()}
    checkpoints = [*log.glob("*.checkpoint*.parquet"), *log.glob("_last_checkpoint")]
    failure: Exception | None = None
    try:
        DeltaTable(str(root))
    except Exception as error:  # noqa: BLE001 - deltalake's errors and OSError; the files show which are damage
        failure = error
    if failure is None and not deep:
        return []
    if not commits and not checkpoints:
        return [_lost_log(part, root)]
    try:
        broken = [path for path in checkpoints if not _is_checkpoint(path)]
        kept = sorted(_version_of(path) for path in checkpoints if path not in broken and path.suffix)
        contained = kept[0] if kept and not table.keeps_versions else -1  # commits up to this one may have been deleted
        needed = [number for number in range(max(commits, default=-1) + 1) if number in commits or number > contained]
        lost = [number for number in needed if not _is_commit(commits.get(number))]
    except Exception as error:  # noqa: BLE001 - of the system or pyarrow: nothing is known about the content
        return [_not_examined(part, Path(getattr(error, "filename", None) or log), error)]
    if not lost and not broken:
        return [_not_examined(part, log, failure)] if failure else []

    def repair(aside: Path) -> None:
        for path in broken:
            set_aside(path, root.parent, aside)
        note = {"commitInfo": {"operation": REPAIR, "operationParameters": {}}}
        for number, proven in prove_actions(root, commits, lost).items():
            path = log / f"{number:020}.json"
            if os.path.lexists(path):  # also a link that leads to nothing, through which the commit would be written
                set_aside(path, root.parent, aside)
            first = _creation(table) if number == 0 else f"{json.dumps(note)}\n"
            path.write_text(first + "".join(f"{json.dumps(each)}\n" for each in proven), encoding="utf-8")

    whole = max(kept, default=-1)
    damaged = log / f"{lost[0]:020}.json" if lost else min(broken)
    gone = [number for number in lost if number not in commits]
    hurt = [number for number in lost if number in commits]
    parts = [f"{_listed(numbers)} {state}" for numbers, state in ((gone, "gone"), (hurt, "damaged")) if numbers]
    found = f"the files of {' and '.join(parts)}{_written(commits, lost)}" if lost else "its checkpoint damaged or gone"
    unneeded = "" if failure else "; its newest version does not need them"
    problem = f"expected a whole log of the table, found {found}{unneeded}"
    return [HomeFinding(part, "damaged", damaged, problem, _remedy(part, lost, whole), repair)]


def _written(commits: Mapping[int, Path], lost: Sequence[int]) -> str:
    """Return between which times lost commits were written, as far as the commits around them say so; else nothing."""
    around = [
        max((each for each in commits if each < lost[0]), default=None),
        min((each for each in commits if each > lost[-1]), default=None),
    ]
    times = [_committed_at(commits[number]) if number is not None else None for number in around]
    stated = [
        f"{word} {time:%Y-%m-%d %H:%M} UTC" for word, time in zip(("after", "before"), times, strict=True) if time
    ]
    return f", written {' and '.join(stated)}" if stated else ""


def _committed_at(commit: Path) -> datetime | None:
    for action in read_actions(commit) if _is_commit(commit) else []:
        if isinstance(stamp := action.get("commitInfo", {}).get("timestamp"), int):
            return datetime.fromtimestamp(stamp / 1000, UTC)
    return None


def _lost_log(part: str, root: Path) -> HomeFinding:
    """Return the finding that the whole log is gone. It is not rebuilt from the Parquet files.

    They hold rows of commits that were refused too, such as a promotion that came second, and rows that were replaced.
    """
    import pyarrow as pa  # imported here: `riseorfall --help` starts without it
    import pyarrow.parquet as pq  # imported here: the same

    files = list(root.rglob("*.parquet"))
    rows = 0
    for path in files:
        with suppress(OSError, pa.ArrowInvalid):
            rows += pq.read_metadata(path).num_rows
    held = f"{counted(rows, 'row')} in {counted(len(files), 'Parquet file')}"
    again = "; or move the table away and ingest all bars again" if part == "table bars" else ""
    remedy = f"restore a backup: which of the {held} are valid is not known without the log{again}"
    return HomeFinding(part, "gone", root / "_delta_log", "expected the log of the table, found none", remedy)


def _remedy(part: str, lost: Sequence[int], whole: int) -> str:
    """Return what a repair of a log does.

    Args:
        part: the table.
        lost: commits that are damaged or gone.
        whole: version of the newest checkpoint that can be read; -1 without one.
    """
    if not lost:
        return "read the commits instead"
    later = [number for number in lost if number > whole]
    if not later:
        return f"the newest version is whole; earlier ones lose the rows of {_listed(lost)}"
    return (
        f"the rows of {_listed(later)} are lost unless a later version holds them, and those that they replaced are "
        f"valid again; all others are kept; {_way_back(part)}"
    )


def _way_back(part: str) -> str:
    """Return where lost rows of a table can be had again."""
    again = "; or ingest the bars of that time again" if part == "table bars" else ""
    return f"to have them back, restore a backup{again}"


def _listed(numbers: Sequence[int]) -> str:
    some = ", ".join(map(str, numbers[:MOST_LISTED]))
    last = f", ... {numbers[-1]}" if len(numbers) > MOST_LISTED else ""
    return f"version{'s' if len(numbers) > 1 else ''} {some}{last}"


def _version_of(checkpoint: Path) -> int:
    """Return the version of a checkpoint; -1 for the file that names the newest one."""
    number = checkpoint.name.partition(".")[0]
    return int(number) if number.isdecimal() else -1


def _is_commit(path: Path | None) -> bool:
    """Return whether a file of the log is a whole commit: one JSON object a line, its end included.

    Raises:
        OSError: the file exists and cannot be read.
    """
    if path is None:
        return False
    try:
        return all(isinstance(action, dict) for action in read_actions(path))
    except (FileNotFoundError, ValueError):
        return False


def _is_checkpoint(path: Path) -> bool:
    """Return whether a file of a checkpoint is whole: a Parquet file, or the JSON that names one that is there.

    Raises:
        Exception: it cannot be read, for another reason than its content.
    """
    if path.name == "_last_checkpoint":
        named = json.loads(path.read_text(encoding="utf-8")).get("version") if _is_commit(path) else None
        return isinstance(named, int) and any(path.parent.glob(f"{named:020}.checkpoint*.parquet"))
    return not _content_problem(path, deep=True)


def _one_line(error: Exception) -> str:
    """Return what an error says, without the values of Rust that deltalake prints in it."""
    return re.sub(r"[\s:(]*\b[A-Z]\w+ ?[{(].*", "", " ".join(str(error).split()))[:200]


def _not_examined(part: str, path: Path, error: Exception) -> HomeFinding:
    number = getattr(error, "errno", None)  # pyarrow has the number only
    problem = f"cannot be read: {os.strerror(number) if number else _one_line(error)}"
    return HomeFinding(part, "not examined", path, problem, f"{problem}; correct that, then run `doctor` again")


def _creation(table: Table) -> str:
    """Return the commit that creates the empty table."""
    with tempfile.TemporaryDirectory() as folder:
        replace(table, uri=folder).create()
        return (Path(folder) / "_delta_log" / f"{0:020}.json").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file of the newest version of a table.

    Attributes:
        path: of the file.
        size: in bytes.
        rows: number of rows.
        held: whose rows, and of which period, as far as the log says so.
    """

    path: Path
    size: int
    rows: int
    held: str


def data_files(root: Path) -> Iterator[DataFile]:
    """Yield the files that the newest version of a table consists of."""
    import pyarrow as pa  # imported here: `riseorfall --help` starts without it

    for action in pa.table(DeltaTable(str(root)).get_add_actions(flatten=True)).to_pylist():
        path, rows = root / unquote(action["path"]), action["num_records"] or 0
        yield DataFile(path, action["size_bytes"], rows, _held(action))


def _held(action: Mapping[str, Any]) -> str:
    """Return series and period of the rows of a file, for a message, by its partition and its statistics."""
    series = " ".join(str(action[name]) for name in ("partition.symbol", "partition.interval") if action.get(name))
    bounds = ((action.get(f"min.{name}"), action.get(f"max.{name}")) for name in TIMES)
    period = next(
        (f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC" for first, last in bounds if first and last), ""
    )
    return ", ".join(each for each in (series, period) if each)


def _examine_files(part: str, root: Path, *, deep: bool) -> Iterator[HomeFinding]:
    for file in data_files(root):
        try:
            problem = _problem_of(file, deep=deep)
        except Exception as error:  # noqa: BLE001 - of the system or pyarrow: nothing is known about the content
            yield _not_examined(part, file.path, error)
            continue
        if problem:
            state: State = "damaged" if file.path.exists() else "gone"
            lost = f"its {file.rows} rows are lost" if file.rows != 1 else "its row is lost"
            held = f" ({file.held})" if file.held else ""
            remedy = f"{lost}{held}, all others are kept; {_way_back(part)}"
            yield HomeFinding(part, state, file.path, problem, remedy, _file_repair(root, file.path))


def _file_repair(root: Path, path: Path) -> Callable[[Path], None]:
    def repair(aside: Path) -> None:
        if path.exists():
            set_aside(path, root.parent, aside)
        DeltaTable(str(root)).repair()  # takes the files that are gone out of the table

    return repair


def _problem_of(file: DataFile, *, deep: bool) -> str:
    """Return what is wrong with a Parquet file; empty if nothing is.

    Raises:
        Exception: the file exists and cannot be read, for another reason than its content.
    """
    try:
        found = file.path.stat().st_size
        if found != file.size:
            return f"expected {file.size:,} bytes, found {found:,}"
        return _content_problem(file.path, deep=deep)
    except FileNotFoundError:
        return f"expected a Parquet file of {file.size:,} bytes, found no file"


def _content_problem(path: Path, *, deep: bool) -> str:
    """Return what is wrong with the content of a Parquet file; empty if nothing is."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not S_ISREG(path.stat().st_mode):
        return "expected a Parquet file, found a device, a pipe or a folder"
    try:
        opened = pq.ParquetFile(path)
        if deep:
            for number in range(opened.num_row_groups):
                opened.read_row_group(number)
    except (OSError, pa.ArrowInvalid) as error:
        if getattr(error, "errno", None) is not None:  # of the disk; pyarrow's own OSError is about the content
            raise
        return f"expected a Parquet file, found: {_one_line(error)}"
    return ""

"""Find rows that stand twice in a Delta table of a local folder, and keep one of each: that of the newest commit.

No command writes a row twice. A repair may: a commit that merged or replaced files and was lost leaves both, and so did
every such repair before 0.2.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from deltalake import DeltaTable

from model.plurals import counted
from tasks.repair.home_finding import HomeFinding
from tasks.repair.lost_commits import read_actions
from tasks.store.delta_table import EVERYTHING, Change, Table, quoted, read_rows

if TYPE_CHECKING:
    import pyarrow as pa

ORDER = "row in the order of commits"  # no column of a table is called so
Partition = tuple[tuple[str, Any], ...]


def find_duplicates(part: str, table: Table) -> Iterator[HomeFinding]:
    """Yield the finding that rows of a table with a key stand twice; its files must be whole.

    Of a log without a key equal rows may be right: two runs of the monitor at the same time store the same.
    """
    import pyarrow as pa  # imported here: `riseorfall --help` starts without it
    import pyarrow.compute as pc  # imported here: the same

    opened, key = table.open(), table.key
    if opened is None or not key:
        return
    rows = read_rows(opened, pa.schema([table.schema.field(name) for name in key]))
    grouped = rows.group_by(list(key)).aggregate([([], "count_all")])
    twice = grouped.filter(pc.greater(grouped["count_all"], 1))
    if not twice.num_rows:
        return
    partitions = {tuple(each.items()) for each in twice.select(list(table.partition_by)).to_pylist()} or {()}

    def repair(_: Path) -> None:
        for each in sorted(partitions):
            _keep_newest(table, key, each)

    duplicates = counted(rows.num_rows - grouped.num_rows, "duplicate")
    problem = f"expected each row once, found {duplicates}{_period(twice)}"
    remedy = "keep of each the row of the newest commit; earlier versions of the table stay as they are"
    yield HomeFinding(part, "damaged", Path(table.uri), problem, remedy, repair)


def _period(rows: "pa.Table") -> str:
    """Return the period of some rows and whose they are, for a message, if their key has a time."""
    import pyarrow.compute as pc  # imported here: `riseorfall --help` starts without it

    times = next((name for name in ("timestamp", "decided_at", "watched_at") if name in rows.column_names), None)
    if times is None:
        return ""
    bounds = pc.min_max(rows[times]).as_py()
    owner = next((name for name in ("symbol", "series_name") if name in rows.column_names), None)
    whose = f" of {', '.join(sorted(rows[owner].unique().to_pylist()))}" if owner else ""
    return f", {bounds['min']:%Y-%m-%d %H:%M} to {bounds['max']:%Y-%m-%d %H:%M} UTC{whose}"


def _keep_newest(table: Table, key: Sequence[str], partition: Partition) -> None:
    """Rewrite a partition with one row of each key, that of the newest commit."""

    def plan(opened: DeltaTable) -> Change:
        rows = _in_order_of_commits(table, opened, partition)
        newest = rows.group_by(list(key)).aggregate([(ORDER, "max")])[f"{ORDER}_max"]
        kept = rows.take(newest.combine_chunks().sort()).drop_columns([ORDER])
        return Change(kept, replaces=_condition(partition))

    table.change(plan)


def _in_order_of_commits(table: Table, opened: DeltaTable, partition: Partition) -> "pa.Table":
    """Read the files of a partition, those of the oldest commit first, with the number of each row."""
    import pyarrow as pa  # imported here: `riseorfall --help` starts without it
    import pyarrow.parquet as pq  # imported here: the same

    root = Path(table.uri)
    commits = _commits_of_files(root)
    files: dict[int, list[str]] = defaultdict(list)
    for each in pa.table(opened.get_add_actions(flatten=True)).to_pylist():
        if all(each[f"partition.{name}"] == value for name, value in partition):
            files[commits.get(each["path"], -1)].append(each["path"])
    found = []
    for path in (path for number in sorted(files) for path in files[number]):
        stored = pq.ParquetFile(root / unquote(path)).read()
        columns = [
            pa.repeat(pa.scalar(dict(partition)[field.name], field.type), stored.num_rows)
            if field.name in dict(partition)
            else stored[field.name].cast(field.type)
            if field.name in stored.column_names
            else pa.nulls(stored.num_rows, field.type)
            for field in table.schema
        ]
        found.append(pa.table(columns, schema=table.schema))
    rows = pa.concat_tables(found)
    return rows.append_column(ORDER, pa.array(range(rows.num_rows)))


def _commits_of_files(root: Path) -> dict[str, int]:
    """Return the version that added each file, as far as its commit is kept."""
    found: dict[str, int] = {}
    for commit in (root / "_delta_log").glob("*.json"):
        if commit.stem.isdecimal():
            added = [action["add"]["path"] for action in read_actions(commit) if "add" in action]
            found |= dict.fromkeys(added, int(commit.stem))
    return found


def _condition(partition: Partition) -> str:
    literals = [f'"{name}" = {quoted(value) if isinstance(value, str) else value}' for name, value in partition]
    return " AND ".join(literals) or EVERYTHING

"""A kept table is the newest version, whoever commits, and what was read from it is what the store holds."""

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from tasks.store import table_cache
from tasks.store.delta_table import Change, Table, read_rows

ROWS = pa.table({"number": [1]})


@pytest.fixture
def table(tmp_path: Path) -> Table:
    table = Table(str(tmp_path / "numbers"), ROWS.schema)
    table.change(lambda _: Change(ROWS))
    return table


def opened(table: Table) -> DeltaTable:
    found = table.open()
    assert found is not None
    return found


def numbers(table: Table) -> list[int]:
    return sorted(read_rows(opened(table), ROWS.schema)["number"].to_pylist())


def count_scans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    scans: list[str] = []
    true = DeltaTable.scan

    def scan(self: DeltaTable, *given: object) -> object:
        scans.append(self.table_uri)
        return true(self, *given)

    monkeypatch.setattr(DeltaTable, "scan", scan)
    return scans


def test_a_table_is_loaded_and_read_once_until_another_process_commits(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = count_scans(monkeypatch)
    assert opened(table) is opened(table)
    assert [numbers(table), numbers(table), len(scans)] == [[1], [1], 1]
    write_deltalake(table.uri, pa.table({"number": [2]}), mode="append")  # nothing of this project knows about it
    assert opened(table).version() == 2
    assert [numbers(table), numbers(table), len(scans)] == [[1, 2], [1, 2], 2]


def test_a_commit_within_one_tick_of_the_clock_is_seen(table: Table) -> None:
    """A file system may give the log's folder the same time of change before and after it."""
    log = Path(table.uri) / "_delta_log"
    assert numbers(table) == [1]
    before = log.stat()
    write_deltalake(table.uri, pa.table({"number": [2]}), mode="append")
    os.utime(log, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert numbers(table) == [1, 2]


def test_a_table_that_is_being_read_stays_at_its_version(table: Table) -> None:
    reading = opened(table)
    table.change(lambda _: Change(pa.table({"number": [2]})))
    assert reading.version() == 1
    assert read_rows(reading, ROWS.schema)["number"].to_pylist() == [1]
    assert numbers(table) == [1, 2]


def test_two_questions_have_two_answers(table: Table) -> None:
    table.change(lambda _: Change(pa.table({"number": [5]})))
    wanted = [None, "number > 3", "number > 7", None]
    assert [read_rows(opened(table), ROWS.schema, where).num_rows for where in wanted] == [2, 1, 0, 2]
    wider = ROWS.schema.append(pa.field("late", pa.bool_()))
    assert [read_rows(opened(table), each).num_columns for each in (ROWS.schema, wider, ROWS.schema)] == [1, 2, 1]


def test_an_earlier_version_is_not_the_newest_one(table: Table) -> None:
    table.change(lambda _: Change(pa.table({"number": [2]})))
    assert numbers(table) == [1, 2]
    earlier = table.open(1)
    assert earlier is not None
    assert read_rows(earlier, ROWS.schema)["number"].to_pylist() == [1]
    assert numbers(table) == [1, 2]


def test_another_table_in_the_same_place_is_read_anew(table: Table, tmp_path: Path) -> None:
    other = Table(str(tmp_path / "other"), ROWS.schema)
    other.change(lambda _: Change(pa.table({"number": [9]})))
    assert numbers(table) == [1]
    shutil.rmtree(table.uri)
    assert table.open() is None
    (Path(table.uri) / "_delta_log").mkdir(parents=True)  # of a creation that was killed
    assert table.open() is None
    shutil.rmtree(table.uri)
    shutil.copytree(other.uri, table.uri)
    assert numbers(table) == [9]


def test_a_damaged_file_is_not_hidden_by_an_earlier_read(table: Table) -> None:
    assert numbers(table) == [1]
    (file,) = Path(table.uri).glob("*.parquet")
    file.unlink()
    with pytest.raises(pa.ArrowInvalid, match="not found"):
        numbers(table)


def test_large_reads_and_many_tables_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_cache, "LARGEST_READ_BYTES", 100)
    monkeypatch.setattr(table_cache, "MOST_TABLES", 2)
    large = pa.table({"number": list(range(1000))})
    tables = [Table(str(tmp_path / name), ROWS.schema) for name in "abc"]
    for each in tables:
        each.change(lambda _: Change(large))
    scans = count_scans(monkeypatch)
    assert [len(numbers(tables[0])), len(numbers(tables[0])), len(scans)] == [1000, 1000, 2]
    first = opened(tables[0])
    assert not table_cache.is_small(first)
    assert opened(tables[0]) is first
    opened(tables[1])
    opened(tables[2])
    assert opened(tables[0]) is not first


def test_of_a_table_the_newest_reads_are_kept_and_of_tables_those_used_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_cache, "MOST_READS", 2)
    monkeypatch.setattr(table_cache, "MOST_TABLES", 2)
    tables = [Table(str(tmp_path / name), ROWS.schema) for name in "abc"]
    for each in tables:
        each.change(lambda _: Change(ROWS))
    scans, first = count_scans(monkeypatch), opened(tables[0])
    for where, read in (("number > 1", 1), ("number > 2", 2), ("number > 3", 3), ("number > 3", 3), ("number > 1", 4)):
        read_rows(first, ROWS.schema, where)
        assert len(scans) == read
    opened(tables[1])
    assert opened(tables[0]) is first
    opened(tables[2])
    assert opened(tables[0]) is first

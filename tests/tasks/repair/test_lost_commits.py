"""A commit that is lost leaves no row twice: what it replaced stays replaced where later commits prove it."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from tasks.repair.table_damage import examine_table
from tasks.store.delta_table import Change, Table

SCHEMA = pa.schema([("kind", pa.string()), ("number", pa.int64()), ("value", pa.float64())])
Row = tuple[str, int, float]


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(str(tmp_path / "tables" / "numbers"), SCHEMA, ("kind",), key=("kind", "number"))


def commit(table: Table, rows: Sequence[Row], replaces: str = "") -> None:
    columns = [list(column) for column in zip(*rows, strict=True)]
    table.change(lambda _: Change(pa.table(columns, schema=SCHEMA), replaces=replaces))


def lose(table: Table, version: int) -> None:
    (Path(table.uri) / "_delta_log" / f"{version:020}.json").unlink()


def repair(table: Table, tmp_path: Path) -> list[str]:
    """Repair the table, at most twice; return the problems that were found."""
    problems = []
    for _ in range(2):
        for each in examine_table("numbers", table):
            if each.repair:
                problems.append(each.problem)
                each.repair(tmp_path / "aside")
    assert [each.state for each in examine_table("numbers", table)] == ["whole"]
    return problems


def rows(table: Table, version: int | None = None) -> list[Row]:
    opened = table.open(version)
    assert opened is not None
    found = pa.table(opened.scan(SCHEMA.names)).to_pylist()
    return sorted((row["kind"], row["number"], row["value"]) for row in found)


def test_rows_that_a_lost_commit_replaced_do_not_return(table: Table, tmp_path: Path) -> None:
    """Version 3 revises a row of kind a, version 4 the other one; kind b is not replaced."""
    commit(table, [("a", 1, 1.0), ("a", 2, 2.0)])
    commit(table, [("b", 1, 7.0)])
    commit(table, [("a", 1, 1.5), ("a", 2, 2.0)], replaces="kind = 'a'")
    commit(table, [("a", 1, 1.5), ("a", 2, 2.5)], replaces="kind = 'a'")
    lose(table, 3)
    repair(table, tmp_path)
    assert rows(table) == [("a", 1, 1.5), ("a", 2, 2.5), ("b", 1, 7.0)]
    assert rows(table, 3) == [("a", 1, 1.5), ("a", 2, 2.0), ("b", 1, 7.0)]  # its file is named by version 4


def test_a_row_that_was_removed_after_a_lost_commit_does_not_return(table: Table, tmp_path: Path) -> None:
    commit(table, [("a", 1, 1.0), ("a", 2, 2.0)])
    commit(table, [("a", 1, 1.5), ("a", 2, 2.0)], replaces="kind = 'a'")
    commit(table, [("a", 1, 1.5)], replaces="kind = 'a'")
    lose(table, 2)
    repair(table, tmp_path)
    assert rows(table) == [("a", 1, 1.5)]


def test_what_a_lost_newest_commit_replaced_is_valid_again(table: Table, tmp_path: Path) -> None:
    commit(table, [("a", 1, 1.0), ("a", 2, 2.0)])
    commit(table, [("a", 1, 1.5), ("a", 2, 2.5)], replaces="kind = 'a'")
    commit(table, [("b", 1, 7.0)])
    lose(table, 2)
    (found,) = examine_table("numbers", table)
    assert (
        "the rows of version 2 are lost unless a later version holds them, and those that they replaced" in found.remedy
    )
    repair(table, tmp_path)
    assert rows(table) == [("a", 1, 1.0), ("a", 2, 2.0), ("b", 1, 7.0)]


def test_rows_of_files_that_a_lost_commit_merged_stand_there_once(table: Table, tmp_path: Path) -> None:
    """Version 3 merges two files and is lost; version 5 merges its file with that of version 4."""
    commit(table, [("a", 1, 1.0)])
    commit(table, [("a", 2, 2.0)])
    DeltaTable(table.uri).optimize.compact()
    commit(table, [("a", 3, 3.0)])
    DeltaTable(table.uri).optimize.compact()
    lose(table, 3)
    problems = repair(table, tmp_path)
    assert problems[1] == "expected each row once, found 2 duplicates"
    assert rows(table) == [("a", 1, 1.0), ("a", 2, 2.0), ("a", 3, 3.0)]


def test_of_two_rows_with_one_key_that_of_the_newest_commit_stays(table: Table, tmp_path: Path) -> None:
    """As a repair of an earlier release left them; kind b has none twice and is not written again."""
    commit(table, [("a", 2, 2.0), ("a", 1, 1.0), ("b", 1, 7.0)])
    commit(table, [("a", 1, 1.5), ("a", 3, 3.0)])
    before = {path.name for path in (Path(table.uri) / "kind=b").iterdir()}
    assert repair(table, tmp_path) == ["expected each row once, found 1 duplicate"]
    assert rows(table) == [("a", 1, 1.5), ("a", 2, 2.0), ("a", 3, 3.0), ("b", 1, 7.0)]
    assert rows(table, 2) == [("a", 1, 1.0), ("a", 1, 1.5), ("a", 2, 2.0), ("a", 3, 3.0), ("b", 1, 7.0)]
    assert {path.name for path in (Path(table.uri) / "kind=b").iterdir()} == before


def test_equal_rows_of_a_log_without_a_key_are_no_damage(tmp_path: Path) -> None:
    """Two runs of the monitor at the same time store the same row."""
    table = Table(str(tmp_path / "tables" / "numbers"), SCHEMA)
    commit(table, [("a", 1, 1.0)])
    commit(table, [("a", 1, 1.0)])
    assert repair(table, tmp_path) == []
    assert rows(table) == [("a", 1, 1.0), ("a", 1, 1.0)]

"""A change lands on the version that it was planned for, or is planned anew."""

import json
import os
import socket
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.table import TableOptimizer

from model.errors import SpecError
from tasks.store import delta_table
from tasks.store.delta_table import (
    EVERYTHING,
    Change,
    Table,
    TableBusy,
    TableUnreachable,
    append_rows,
    place,
    quoted,
    read_rows,
)
from tasks.store.table_cache import is_small, local_files

ROWS = pa.table({"kind": ["a"], "number": [1]})


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(str(tmp_path / "numbers"), ROWS.schema, partition_by=("kind",))


def numbers(table: Table, version: int | None = None) -> list[int]:
    opened = table.open(version)
    assert opened is not None
    return sorted(pa.table(opened.scan(["number"]))["number"].to_pylist())


def test_a_table_comes_into_being_with_its_first_change(table: Table) -> None:
    assert table.open() is None
    assert table.change(lambda _: None) == 0
    assert table.change(lambda _: Change(ROWS)) == 1
    assert numbers(table) == [1]


def test_a_lost_race_is_planned_anew(table: Table) -> None:
    planned_on: list[int] = []

    def plan(opened: DeltaTable) -> Change:
        planned_on.append(opened.version())
        if len(planned_on) < 4:
            table.change(lambda _: Change(ROWS))
        return Change(ROWS)

    assert table.change(plan) == 4
    assert planned_on == [0, 1, 2, 3]
    assert numbers(table) == [1, 1, 1, 1]


def test_a_race_lost_each_time_ends(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta_table, "ATTEMPTS", 3)

    def plan(_: DeltaTable) -> Change:
        table.change(lambda _: Change(ROWS))
        return Change(ROWS)

    with pytest.raises(TableBusy, match="within 3 attempts"):
        table.change(plan)


def test_a_change_replaces_a_partition_or_everything(table: Table) -> None:
    table.change(lambda _: Change(ROWS))
    table.change(lambda _: Change(pa.table({"kind": ["b'c"], "number": [2]})))
    table.change(lambda _: Change(pa.table({"kind": ["b'c"], "number": [4]}), replaces="kind = " + quoted("b'c")))
    assert numbers(table) == [1, 4]
    table.change(lambda _: Change(ROWS, replaces=EVERYTHING, metadata={"why": "again"}, mark=("seen", 7)))
    assert numbers(table) == [1]
    assert numbers(table, 2) == [1, 2]
    opened = table.open()
    assert opened is not None
    assert opened.transaction_version("seen") == 7
    assert [table.commit_at(version).get("why") for version in (2, 4)] == [None, "again"]


def test_a_version_that_is_not_there_is_named(table: Table) -> None:
    with pytest.raises(SpecError, match="version from 0 to -1, found 0"):
        table.commit_at(0)
    table.change(lambda _: Change(ROWS))
    for version in (-1, 2):
        with pytest.raises(SpecError, match=f"version from 0 to 1, found {version}"):
            table.open(version)
        with pytest.raises(SpecError, match=f"version from 0 to 1, found {version}"):
            table.commit_at(version)


@pytest.mark.e2e
def test_a_server_that_does_not_answer_is_named() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
    options = {"AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true"}
    options |= {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    with pytest.raises(TableUnreachable, match="Connection refused") as caught:
        Table("s3://bucket/numbers", ROWS.schema, storage_options=options).open()
    assert "\x1b" not in str(caught.value)


def test_places_are_absolute() -> None:
    assert place("s3://bucket/prefix/", "bars") == "s3://bucket/prefix/bars"
    assert place("tables", "bars") == str(Path.cwd() / "tables" / "bars")


def test_a_table_is_opened_from_a_checkpoint_and_few_commits_after_it(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_table, "CHECKPOINT_COMMITS", 3)
    monkeypatch.setattr(delta_table, "KEPT_CHECKPOINT_COMMITS", 7)
    log = Path(table.uri) / "_delta_log"
    commits_after_checkpoint = []
    for _ in range(12):
        version = table.change(lambda _: Change(ROWS))
        last = log / "_last_checkpoint"
        commits_after_checkpoint.append(version - json.loads(last.read_text())["version"] if last.exists() else version)
    assert max(commits_after_checkpoint) == 2
    kept = [int(path.name.partition(".")[0]) for path in sorted(log.glob("*.checkpoint.parquet"))]
    assert kept == [6, 9, 12]  # 6 is the seventh version, as those that deltalake writes itself are the hundredths
    for version in (2, 8, 12):
        assert numbers(table, version) == [1] * version


def named_files(table: Table) -> tuple[int, int]:
    """Return how many files the newest checkpoint names as part of the table, and how many as replaced."""
    newest = pq.read_table(max((Path(table.uri) / "_delta_log").glob("*.checkpoint.parquet")))
    return tuple(len(newest) - newest[name].null_count for name in ("add", "remove"))  # type: ignore[return-value]


@pytest.mark.parametrize("created_before", [False, True])
def test_a_checkpoint_of_a_log_names_no_file_that_was_replaced_long_ago(
    table: Table, monkeypatch: pytest.MonkeyPatch, *, created_before: bool
) -> None:
    """Ten years of a daily log replace 3,000 files; each command that opens the log reads the checkpoint."""
    monkeypatch.setattr(delta_table, "CHECKPOINT_COMMITS", 1)
    if created_before:
        replace(table, keeps_versions=True).create()
    monkeypatch.setattr(delta_table, "FORGET_EARLIER_VERSIONS", {delta_table.DELETED_FILES: "interval 0 days"})
    for number in range(3):
        again = pa.table({"kind": ["a"], "number": [number]})
        table.change(lambda _, again=again: Change(again, replaces=EVERYTHING))  # type: ignore[misc]
    assert (numbers(table), named_files(table)) == ([2], (1, 0))


def let_pass(days: int, table: Table) -> None:
    """Make every file of a table's log that many days older."""
    for path in (Path(table.uri) / "_delta_log").iterdir():
        moment = path.stat().st_mtime - 86_400 * days
        os.utime(path, (moment, moment))


def test_old_commits_of_a_log_go_once_a_checkpoint_contains_them(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command that opens a log lists its commits. Two checkpoints stay, with all commits since the first."""
    monkeypatch.setattr(delta_table, "CHECKPOINT_COMMITS", 4)
    kept = replace(table, uri=f"{table.uri}-of-bars", keeps_versions=True)
    for _ in range(10):
        for each in (table, kept):
            each.change(lambda _: Change(ROWS))
            let_pass(10, each)
    left = {int(path.name[:20]) for path in (Path(table.uri) / "_delta_log").glob("*.json")}
    assert left == set(range(4, 11))  # the checkpoint of version 8 found versions of the last 30 days down to 5
    assert numbers(table) == numbers(kept) == [1] * 10
    newest = Path(table.uri) / "_delta_log" / f"{8:020}.checkpoint.parquet"
    newest.unlink()
    newest.with_name("_last_checkpoint").unlink()
    assert numbers(table) == [1] * 10
    assert [numbers(kept, version) for version in range(1, 11)] == [[1] * version for version in range(1, 11)]


def test_the_properties_of_a_log_of_an_earlier_release_are_set(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delta_table, "CHECKPOINT_COMMITS", 2)
    replace(table, keeps_versions=True).create()
    for _ in range(8):
        table.change(lambda _: Change(ROWS))
        let_pass(10, table)
    opened = table.open_for_writing()
    assert opened is not None
    assert opened.metadata().configuration.items() >= delta_table.FORGET_EARLIER_VERSIONS.items()
    assert not (Path(table.uri) / "_delta_log" / f"{0:020}.json").exists()
    assert numbers(table) == [1] * 8


def test_a_table_that_is_read_at_earlier_versions_names_every_file(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_table, "CHECKPOINT_COMMITS", 1)
    monkeypatch.setattr(delta_table, "FORGET_EARLIER_VERSIONS", {delta_table.DELETED_FILES: "interval 0 days"})
    kept = replace(table, keeps_versions=True)
    for _ in range(3):
        kept.change(lambda _: Change(ROWS, replaces=EVERYTHING))
    assert named_files(kept) == (1, 2)
    assert [numbers(kept, version) for version in (1, 2, 3)] == [[1]] * 3


def test_a_merge_of_files_does_not_let_a_stale_change_pass(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """deltalake opens the newest version after a merge: rows planned on an older one would be committed behind it."""
    for _ in range(4):
        table.change(lambda opened: append_rows(opened, ROWS.schema, ROWS.to_pylist()))
    stale = table.open_for_writing()
    assert stale is not None
    monkeypatch.setattr(delta_table, "MAX_FILES", 3)  # the stale version has as many files that were not merged
    planned = append_rows(stale, ROWS.schema, [{"kind": "a", "number": 7}])
    made = table.change(lambda opened: append_rows(opened, ROWS.schema, ROWS.to_pylist()))
    with pytest.raises(CommitFailedError):
        table._commit(stale, planned)
    assert numbers(table) == [1] * 5
    newest = table.open_for_writing()
    assert newest is not None
    assert len(newest.file_uris()) == 1
    assert (made, newest.version()) == (5, 6)  # of the row, and of the merge


def test_a_merge_of_files_that_loses_its_race_does_not_plan_the_rows_again(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are committed: a log that plans them again finds them and reports that nothing was new."""

    def lose(*_: object, **__: object) -> None:
        raise CommitFailedError("another writer was first")

    monkeypatch.setattr(delta_table, "MAX_FILES", 1)
    monkeypatch.setattr(TableOptimizer, "compact", lose)
    assert table.change(lambda opened: append_rows(opened, ROWS.schema, ROWS.to_pylist())) == 1
    assert numbers(table) == [1]


def test_a_log_of_an_earlier_release_gets_its_new_columns_with_the_next_row(table: Table) -> None:
    table.change(lambda _: Change(ROWS))
    wider = replace(table, schema=ROWS.schema.append(pa.field("late", pa.bool_())))
    wider.change(lambda opened: append_rows(opened, wider.schema, [{"kind": "a", "number": 2, "late": True}]))
    opened = wider.open()
    assert opened is not None
    rows = read_rows(opened, wider.schema).to_pylist()
    assert {each["number"]: each["late"] for each in rows} == {1: None, 2: True}


def test_a_table_that_another_writer_has_just_created_is_opened(table: Table) -> None:
    table.change(lambda _: Change(ROWS))
    assert table.create().version() == 1
    assert numbers(table) == [1]


def test_a_merge_of_files_counts_as_a_commit_for_the_next_checkpoint(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_table, "CHECKPOINT_COMMITS", 3)
    monkeypatch.setattr(delta_table, "MAX_FILES", 2)
    for _ in range(2):  # versions 1 and 2; the merge is version 3
        table.change(lambda opened: append_rows(opened, ROWS.schema, ROWS.to_pylist()))
    assert (Path(table.uri) / "_delta_log" / f"{3:020}.checkpoint.parquet").exists()


def test_a_merge_of_files_that_fails_does_not_fail_the_commit(
    table: Table, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(delta_table, "MAX_FILES", 1)
    monkeypatch.setattr(TableOptimizer, "compact", full)
    assert table.change(lambda opened: append_rows(opened, ROWS.schema, ROWS.to_pylist())) == 1
    assert numbers(table) == [1]
    assert "small files of version 1 were not merged: no space left on device" in caplog.text


@pytest.mark.parametrize("folder", ["My Home", "\u00fcmlaut", "a?b#c", "plain"])
def test_earlier_versions_are_read_below_any_folder(tmp_path: Path, folder: str) -> None:
    """deltalake encodes the folder's name in the paths of files, as in an address."""
    schema = pa.schema([("kind", pa.string()), ("number", pa.int64())])
    table = Table(place(str(tmp_path / folder), "numbers"), schema, partition_by=("kind",))
    for number in (1, 2):
        rows = pa.table({"kind": ["BTC/USD \u00e4"], "number": [number]})
        table.change(lambda _, rows=rows: Change(rows, replaces=EVERYTHING))  # type: ignore[misc]
    assert [numbers(table, version) for version in (1, 2)] == [[1], [2]]
    first, newest = table.open(1), table.open()
    assert first is not None
    assert newest is not None
    assert [Path(file).exists() for opened in (first, newest) for file in local_files(opened)] == [True, True]
    assert is_small(newest)
    Path(local_files(first)[0]).unlink()
    with pytest.raises(SpecError, match="found 1 of them deleted"):
        table.open(1)


def test_a_folder_that_looks_like_an_encoded_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="expected a folder without a percent sign"):
        place(str(tmp_path / "My%20Home"), "numbers")


def test_a_checkpoint_that_fails_does_not_fail_the_commit(
    table: Table, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: DeltaTable) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(delta_table, "CHECKPOINT_COMMITS", 1)
    monkeypatch.setattr(DeltaTable, "create_checkpoint", full)
    assert table.change(lambda _: Change(ROWS)) == 1
    assert numbers(table) == [1]
    assert "version 1 has no checkpoint: no space left on device" in caplog.text


@pytest.mark.parametrize("cast_rows", [0, 10])
def test_rows_have_the_types_of_the_schema_however_they_are_converted(
    cast_rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_table, "CAST_ROWS", cast_rows)
    at = datetime(2026, 1, 2, tzinfo=UTC)
    rows = pa.table({"name": ["a", None], "at": pa.array([at, None], pa.timestamp("us", "UTC")), "number": [1, 2]})
    table = Table(str(tmp_path / "typed"), rows.schema)
    table.change(lambda _: Change(rows))
    opened = table.open()
    assert opened is not None
    wanted = rows.schema.append(pa.field("later", pa.float64()))  # a column that the stored table lacks
    found = read_rows(opened, wanted)
    assert found.schema.types == wanted.types
    assert found.to_pylist() == [{**row, "later": None} for row in rows.to_pylist()]

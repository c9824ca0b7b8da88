"""Real damage to a home: what the ordinary commands print, what `doctor` finds, and what `doctor --repair` restores."""

import errno
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from copied_home import copy_home
from damaged_home import database, halve, log_file, output, parquet, remove
from home_0_1 import STORED_PREDICTION, drop_prediction_log
from mlflow import MlflowClient

from flows.cli import run
from flows.deployments import ScheduleSpec
from flows.up import up
from model.bars import Series
from model.errors import DamagedHome
from model.promotion_rule import PromotionRule
from model.recipe import Recipe
from tasks.registry import run_artifacts
from tasks.registry.local_database import LocalDatabase
from tasks.registry.model_files import ModelFiles
from tasks.repair.home_backup import replace_paths
from tasks.repair.home_examination import repair_home
from tasks.repair.home_finding import set_aside
from tasks.repair.registry_damage import moved_paths, require_registry
from tasks.repair.registry_rebuild import rebuild_database
from tasks.retrain_mlflow_run import open_run
from tasks.services.up_lock import LockHeld, hold_home_lock
from tasks.settings import Settings
from tasks.sources.source_spec import SourceSpec
from tasks.store.prediction_log import Prediction
from tasks.workspace import Workspace

SERIES = Series("BTC-USD", "1d")
DAY = timedelta(days=1)


def model_files(home: Path) -> Path:
    (found,) = (home / "mlruns" / "artifacts" / SERIES.name / "models").glob("*/artifacts/artifacts")
    return found


def record_files() -> None:
    """Append a decision with the SHA-256 of each file of version 1; that of the home, of version 0.1, has none."""
    workspace = Workspace(Settings(), SERIES)
    (first,) = workspace.decision_log.rows()
    files = {"1": workspace.registry.read_version("1").digests()}
    workspace.decision_log.append(replace(first, decision_id="b", action="hold", champion_before="1", files=files))


def drop_tags(home: Path, pattern: str) -> Path:
    with closing(sqlite3.connect(database(home))) as opened, opened:
        assert opened.execute("DELETE FROM model_version_tags WHERE key LIKE ?", (pattern,)).rowcount
    return database(home)


def test_a_whole_home_is_whole(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = output(capsys, "doctor")
    assert code == 0
    assert "damaged" not in out
    assert "BTC-USD-1d version 1 (champion)" in out
    code, out, _ = output(capsys, "doctor", "--json")
    assert {each["state"] for each in json.loads(out)["findings"]} == {"whole"}
    assert not (home / "data" / "damaged").exists()


def test_an_empty_home_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path / "new"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert run(["doctor"]) == 0
    assert not (tmp_path / "new" / "mlruns").exists()  # examining creates no database


DAMAGES: dict[str, tuple[Callable[[Path], Path], tuple[str, ...]]] = {
    "database truncated": (lambda home: halve(database(home)), ("status",)),
    "database empty": (lambda home: _write(database(home), b""), ("predict",)),
    "database gone": (lambda home: remove(database(home)), ("predict",)),
    "database is text": (lambda home: _write(database(home), b"not a database" * 100), ("status",)),
    "newest log file truncated": (lambda home: halve(log_file(home, "bars", 1)), ("bars",)),
    "first log file truncated": (lambda home: halve(log_file(home, "predictions", 0)), ("predict",)),
    "first log file gone": (lambda home: remove(log_file(home, "ledger", 0)), ("decisions",)),
    "Parquet truncated": (lambda home: halve(parquet(home, "bars")), ("bars",)),
    "Parquet gone": (lambda home: remove(parquet(home, "ledger")), ("decisions",)),
    "Parquet overwritten": (lambda home: _overwrite(parquet(home, "quarantine")), ("quarantine",)),
}


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _overwrite(path: Path) -> Path:
    return _write(path, b"x" * path.stat().st_size)


@pytest.mark.e2e
@pytest.mark.parametrize("name", DAMAGES)
def test_a_command_names_the_damaged_file_and_the_doctor_finds_it(
    home: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    damage, words = DAMAGES[name]
    path = damage(home)
    code, _, err = output(capsys, *words)
    assert code == 1
    assert "unexpected" not in err
    assert err.startswith(f"riseorfall: {path}")
    assert "riseorfall doctor" in err
    assert err.count("\n") == 1

    code, out, err = output(capsys, "doctor", "--json")
    assert code == 4
    assert [each["path"] for each in json.loads(out)["findings"] if each["state"] in {"damaged", "gone"}] == [str(path)]
    assert "1 of" in err


def state_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    code, out, err = output(capsys, "status", "--json")
    assert code == 0, err
    return dict(json.loads(out))


@pytest.mark.parametrize("name", ["database truncated", "database gone"])
def test_a_registry_is_rebuilt_with_its_numbers_runs_and_champion(
    home: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    before = state_of(capsys)
    tags = LocalDatabase(Settings().mlflow_uri).version(SERIES.name, "1")
    assert tags is not None
    DAMAGES[name][0](home)
    own_copy = database(home).with_name("mlflow.db.monday")
    own_copy.write_text("a person's copy")
    details = {"abstention": {"share": {"stated": 0.25}}}  # of a retrain of version 0.2
    evaluation = home / "mlruns" / "artifacts" / SERIES.name / STORED_RUN / "artifacts" / "evaluation"
    (evaluation / "details.json").write_text(json.dumps(details))
    code, out, err = output(capsys, "doctor", "--repair")
    assert code == 0, err
    assert "repaired" in out
    assert own_copy.exists()

    rebuilt = LocalDatabase(Settings().mlflow_uri).version(SERIES.name, "1")
    assert rebuilt is not None
    assert rebuilt.run_id == tags.run_id
    assert rebuilt.tags.items() <= tags.tags.items()  # nothing is invented
    assert {"trained_until", "recipe", "metric.log_loss", "bars_sha256"} <= rebuilt.tags.keys()
    after = state_of(capsys)
    assert after["champion"] == before["champion"]
    assert after["decisions"] == before["decisions"]
    drop_prediction_log(home)
    code, out, err = output(capsys, "predict", "--json")
    assert code == 0, err
    assert json.loads(out)["probability"] == pytest.approx(STORED_PREDICTION["probability"], abs=1e-6)
    runs = Workspace(Settings(), SERIES).runs
    assert runs.run_params(tags.run_id)["window.lookback_bars"] == "30"
    assert runs.run_params(tags.run_id)["abstention.opinion_share"] == "0.25"  # by which `predict` has opinions
    assert runs.read_file(tags.run_id, "evaluation/numbers.json")  # its files belong to it again


@pytest.mark.parametrize(("kind", "expected"), [("exchange", "exchange"), ("csv", "file")])
def test_a_rebuilt_run_knows_whether_its_bars_came_from_an_exchange(home: Path, kind: str, expected: str) -> None:
    """An exchange is kept with a commit by its name, such as coinbase: what kind of source it is stands beside it."""
    store = Workspace(Settings()).bar_store
    newest = store.read_frame(SERIES).tail(1)
    later = newest.assign(timestamp=newest["timestamp"] + pd.Timedelta(days=1))
    store.merge(SERIES, later, {"source": "coinbase", "kind": kind}, merged_at=datetime.now(UTC))
    (row,) = Workspace(Settings(), SERIES).decision_log.rows()
    remove(database(home))
    rebuild_database(Settings(), [row])
    assert Workspace(Settings(), SERIES).runs.run_params(row.run_id)["source.kind"] == expected


def test_the_name_of_a_rebuilt_run_has_the_decisions_of_people_too(home: Path) -> None:
    (own,) = Workspace(Settings(), SERIES).decision_log.rows()
    by_person = replace(own, forced=True)
    later = [
        replace(own, decision_id="by the rule again", action="hold", bars_version=9),
        replace(by_person, decision_id="b", action="rollback", version="7", champion_before="1", champion_after="7"),
        replace(by_person, decision_id="c", action="lift"),
    ]
    remove(database(home))
    rebuild_database(Settings(), [own, *later])
    rebuilt = MlflowClient(tracking_uri=Settings().mlflow_uri).get_run(own.run_id)
    assert rebuilt.info.run_name == "2019-10-17 v1 promoted, held again, rolled back, hold lifted"
    assert rebuilt.data.tags["decision"] == "promote"
    version = LocalDatabase(Settings().mlflow_uri).version(SERIES.name, "1")
    assert version is not None
    assert version.tags["bars_version"] == str(own.bars_version)  # those of the training


def test_a_rebuilt_replay_is_described_as_a_replay(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"{SERIES.name}-replay"
    replayed = Workspace(Settings(), SERIES, name, "replay")
    loaded = Workspace(Settings(), SERIES).registry.read_version("1")
    files = ModelFiles(loaded.keras(), loaded.onnx(), loaded.recipe(), loaded.record())
    run_id = replayed.runs.start_run("replay 2019-10-17", {})
    replayed.registry.add_version(run_id, files, {"trained_until": "2019-10-17T00:00:00+00:00"})
    (first,) = replayed.decision_log.rows()
    of_replay = {"decision_id": f"{name} 2019-10-17", "series_name": name, "run_id": run_id}
    replayed.decision_log.append(replace(first, **of_replay))
    before = described(name)
    remove(database(home))
    moved = home.rename(home.with_name("moved"))  # MLflow's client keeps the old file open
    monkeypatch.setenv("RISEORFALL_HOME", str(moved))
    replayed = Workspace(Settings(), SERIES, name, "replay")
    rebuild_database(Settings(), replayed.decision_log.rows())
    assert described(name) == before
    assert (before[0], described(SERIES.name)[0]) == ("replay", "retrain")
    version = MlflowClient(tracking_uri=Settings().mlflow_uri).get_run(run_id)
    close = replayed.registry.read_version("1").record().resolved_at.max().astype(datetime)
    assert version.info.run_name == f"{close:%Y-%m-%d} v1 promoted"
    assert version.data.tags["decision"] == "promote"


def described(name: str) -> tuple[str, str, str]:
    """Return the purpose and the description of an experiment, and the description of its registered model."""
    client = MlflowClient(tracking_uri=Settings().mlflow_uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    tags = experiment.tags
    return tags["purpose"], tags["mlflow.note.content"], client.get_registered_model(name).description


def test_a_damaged_file_is_moved_to_another_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mlruns` may be a link to another disk, where the system refuses to rename."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "rename", refuse)
    monkeypatch.setattr(os, "replace", refuse)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.txt").write_text("damaged")
    set_aside(tmp_path / "a" / "b.txt", tmp_path, tmp_path / "aside")
    assert (tmp_path / "aside" / "a" / "b.txt").read_text() == "damaged"
    assert not (tmp_path / "a" / "b.txt").exists()


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_number_that_was_given_once_is_never_given_again(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions 2 and 3 were decided about; the files of 2 are gone. A rebuilt registry goes on with 4.

    A repair that is interrupted after version 1 leaves no database, which would pass for whole.
    """
    log = Workspace(Settings()).decision_log
    (first,) = log.rows()
    for number in ("2", "3"):
        log.append(replace(first, decision_id=f"run-{number}", run_id=f"run-{number}", version=number, action="hold",
                           champion_before="1"))  # fmt: skip
    (folder,) = (home / "mlruns" / "artifacts" / SERIES.name / "models").iterdir()
    copy = folder.with_name("m-3")
    shutil.copytree(folder, copy)
    described = copy / "artifacts" / "MLmodel"
    described.write_text(described.read_text().replace(first.run_id, "run-3"))
    remove(database(home))
    with monkeypatch.context() as patch:
        patch.setattr("tasks.registry.model_registry.ModelRegistry.use_up_number", interrupt)
        with pytest.raises(KeyboardInterrupt):
            repair_home(Settings())
    assert not database(home).exists()
    assert output(capsys, "doctor", "--repair")[0] == 0
    assert {path.name for path in database(home).parent.glob("mlflow.db*")} <= {"mlflow.db", "mlflow.db.lock"}

    workspace = Workspace(Settings(), SERIES)
    assert workspace.registry.newest_versions(9) == ("3", "1")
    assert workspace.registry.alias_number("champion") == "1"
    assert workspace.registry.version("3").run_id == "run-3"
    made = workspace.registry.client.create_model_version(SERIES.name, folder.as_uri())
    assert str(made.version) == "4"


@pytest.mark.parametrize("later", ["folder", "prediction"])
def test_the_number_of_a_version_without_a_decision_is_not_given_again(home: Path, later: str) -> None:
    """A retrain was killed between its registration and its decision; of another version only predictions are left."""
    workspace = Workspace(Settings(), SERIES)
    (folder,) = (home / "mlruns" / "artifacts" / SERIES.name / "models").iterdir()
    if later == "folder":
        shutil.copytree(folder, folder.with_name("m-2"))
        described = folder.with_name("m-2") / "artifacts" / "MLmodel"
        described.write_text(described.read_text().replace(STORED_RUN, "run-2"))
    else:
        at = datetime(2019, 10, 18, tzinfo=UTC)
        workspace.prediction_log.store(Prediction(SERIES.name, SERIES.symbol, "1d", at, at + DAY, "2", 0.5, at))
    remove(database(home))
    rebuild_database(Settings(), workspace.decision_log.rows())
    workspace = Workspace(Settings(), SERIES)
    assert workspace.registry.newest_versions(9) == ("1",)
    made = workspace.registry.client.create_model_version(SERIES.name, folder.as_uri())
    assert str(made.version) == "3"


def test_a_version_that_only_a_person_promoted_is_rebuilt(home: Path) -> None:
    log = Workspace(Settings(), SERIES).decision_log
    (first,) = log.rows()
    forced = replace(first, decision_id="by hand", forced=True, forced_reason="x", sequence=1)
    remove(database(home))
    rebuild_database(Settings(), [forced])
    registry = Workspace(Settings(), SERIES).registry
    assert registry.version("1").run_id == STORED_RUN
    assert "as_of" not in registry.version("1").tags  # it is no day of a replay


@pytest.mark.parametrize("by", ["sqlite3", "MLflow"])
def test_a_champion_that_the_registry_has_lost_is_registered_again_and_nothing_else_is_changed(
    home: Path, capsys: pytest.CaptureFixture[str], by: str
) -> None:
    record_files()
    workspace = Workspace(Settings(), SERIES)
    before, everything = LocalDatabase(Settings().mlflow_uri).version(SERIES.name, "1"), contents(home)
    assert before is not None
    assert before.folder is not None
    workspace.registry.use_up_number(model_files(home).as_uri())  # 2: the database still holds a version
    if by == "MLflow":
        workspace.registry.client.delete_model_version(SERIES.name, "1")
    else:
        with closing(sqlite3.connect(database(home))) as opened, opened:
            opened.execute("DELETE FROM model_versions WHERE version = 1")
    drop_prediction_log(home)
    code, _, err = output(capsys, "predict")
    assert code != 0
    assert "`riseorfall doctor` examines it" in err
    code, out, err = output(capsys, "doctor", "--repair", "--json")
    assert code == 0, err
    assert [each["part"] for each in json.loads(out)["repaired"]] == ["BTC-USD-1d version 1 (champion)"]
    after = LocalDatabase(Settings().mlflow_uri).version(SERIES.name, "1")
    assert after is not None
    assert (after.run_id, after.folder) == (before.run_id, before.folder)
    assert after.tags.items() <= before.tags.items()
    assert {"trained_until", "recipe", "metric.log_loss"} <= after.tags.keys()
    found = Workspace(Settings(), SERIES).registry
    assert found.alias_number("champion") == "1"
    assert contents(home) == everything
    assert str(found.client.create_model_version(SERIES.name, before.folder.as_uri()).version) == "3"
    code, out, _ = output(capsys, "predict", "--json")
    assert json.loads(out)["probability"] == pytest.approx(STORED_PREDICTION["probability"], abs=1e-6)


def contents(home: Path) -> dict[str, list[Any]]:
    """Return the rows of the tables of runs and experiments."""
    with closing(sqlite3.connect(database(home))) as opened:
        return {name: opened.execute(f"SELECT * FROM {name}").fetchall() for name in
                ("experiments", "runs", "tags", "params", "metrics")}  # fmt: skip


@pytest.mark.parametrize("name", ["database gone", "database created anew"])
def test_neither_a_retrain_nor_up_counts_versions_from_1_again(home: Path, name: str) -> None:
    """`mlflow ui` creates an absent database, and so would the client of a retrain and the server of `up`."""
    remove(database(home))
    if name == "database created anew":
        MlflowClient(tracking_uri=Settings().mlflow_uri).search_experiments()
    with pytest.raises(DamagedHome, match="riseorfall doctor"):
        open_run.fn(Recipe(), SourceSpec(), PromotionRule())
    with pytest.raises(DamagedHome, match="riseorfall doctor"):
        up(Settings(), {}, ScheduleSpec(), (0, 0, 0), lambda _: None)
    assert database(home).exists() == (name == "database created anew")


def test_rows_of_a_damaged_parquet_file_are_lost_and_all_others_kept(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Workspace(Settings()).bar_store
    bars = store.read_bars(store.ref(SERIES))
    path = min((home / "data" / "tables" / "bars").rglob("year=2016/part-*.parquet"))
    content = path.read_bytes()
    halve(path)
    code, out, err = output(capsys, "doctor", "--repair")
    assert code == 0, err
    left = store.read_bars(store.ref(SERIES))
    lost = bars.opened_at.astype("datetime64[Y]").astype(int) + 1970 == 2016
    assert lost.sum() == 366
    assert (left.opened_at == bars.opened_at[~lost]).all()
    assert (left.ohlcv == bars.ohlcv[~lost]).all()
    (moved,) = (home / "data" / "damaged").rglob("*.parquet")
    assert moved.read_bytes() == content[: len(content) // 2]
    expected = "its 366 rows are lost (BTC-USD 1d, 2016-01-01 00:00 to 2016-12-31 00:00 UTC), all others are kept; "
    assert f"{expected}to have them back, restore a backup; or ingest the bars of that time again" in out


def test_the_loss_of_a_commit_is_told_without_the_words_of_delta(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commits 2 to 5; 3 is gone and 4 is truncated."""
    log = Workspace(Settings()).decision_log
    (first,) = log.rows()
    for name in ("a", "b", "c", "d"):
        log.append(replace(first, decision_id=name, action="hold", champion_before="1"))
    for version, moment in ((2, 1_600_000_000_000), (5, 1_600_000_120_000)):
        path = log_file(home, "ledger", version)
        actions = [json.loads(line) for line in path.read_text().splitlines()]
        for note in (action["commitInfo"] for action in actions if "commitInfo" in action):
            note["timestamp"] = moment
        path.write_text("".join(f"{json.dumps(action)}\n" for action in actions))
    remove(log_file(home, "ledger", 3))
    halve(log_file(home, "ledger", 4))
    _, out, _ = output(capsys, "doctor", "--json")
    (found,) = [each for each in json.loads(out)["findings"] if each["part"] == "table ledger"]
    assert found["problem"] == (
        "expected a whole log of the table, found the files of version 3 gone and version 4 damaged, written after "
        "2020-09-13 12:26 UTC and before 2020-09-13 12:28 UTC"
    )
    assert found["remedy"].endswith("all others are kept; to have them back, restore a backup")


def test_a_truncated_commit_loses_its_rows_only_and_later_ones_stay(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three more decisions; the log file of the middle one is truncated."""
    log = Workspace(Settings()).decision_log
    (first,) = log.rows()
    for name in ("a", "b", "c"):
        log.append(replace(first, decision_id=name, action="hold", champion_before="1"))
    halve(log_file(home, "ledger", 3))
    assert output(capsys, "decisions")[0] == 1
    assert output(capsys, "doctor", "--repair")[0] == 0
    rows = log.rows()
    assert [(row.decision_id, row.sequence) for row in rows] == [(first.decision_id, 1), ("a", 2), ("c", 4)]
    log.append(replace(first, decision_id="d", action="hold", champion_before="1"))
    assert [row.sequence for row in log.rows()] == [1, 2, 4, 5]


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["first log file truncated", "first log file gone"])
def test_a_lost_creation_of_a_table_is_written_again(home: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    before = state_of(capsys)
    DAMAGES[name][0](home)
    assert output(capsys, "doctor", "--repair")[0] == 0
    assert state_of(capsys)["decisions"] == before["decisions"]
    code, out, _ = output(capsys, "predict", "--json")
    assert code == 0
    assert json.loads(out)["probability"] == STORED_PREDICTION["probability"]  # the stored one


def test_a_decision_log_that_is_gone_is_found(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = home / "data" / "tables" / "ledger"
    shutil.rmtree(ledger)
    code, out, _ = output(capsys, "doctor", "--json")
    assert code == 4
    (found,) = [each for each in json.loads(out)["findings"] if each["state"] != "whole"]
    assert (found["part"], found["state"], found["path"]) == ("table ledger", "gone", str(ledger))
    assert "champion of BTC-USD-1d" in found["problem"]


@pytest.mark.parametrize("words", [("predict",), ("decisions",), ("status", "--check"), ("rollback",)])
def test_without_the_decision_log_a_champion_of_mlflow_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    """Its decision recorded its files; without it an edited network would be served."""
    shutil.rmtree(home / "data" / "tables" / "ledger")
    code, out, err = output(capsys, *words)
    assert (code, out) == (1, "")
    assert err.endswith(
        "ledger: expected the decision log, because MLflow names a champion of BTC-USD-1d; found none. Run `riseorfall "
        "doctor`.\n"
    )
    with pytest.raises(DamagedHome, match="expected the decision log"):
        require_registry(Settings())
    assert not (home / "data" / "tables" / "ledger").exists()


@pytest.mark.parametrize("is_empty", [True, False])
@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("ledger", ("decisions",)),
        ("bars", ("status", "--check")),
        ("predictions", ("predict",)),
        ("quarantine", ("quarantine",)),
    ],
)
def test_a_table_without_its_log_is_refused_and_no_new_one_is_created_over_it(
    home: Path, capsys: pytest.CaptureFixture[str], table: str, words: tuple[str, ...], is_empty: bool
) -> None:
    log = home / "data" / "tables" / table / "_delta_log"
    shutil.rmtree(log)
    if is_empty:
        log.mkdir()
    code, _, err = output(capsys, *words)
    assert code == 1
    assert err == (
        f"riseorfall: {log}: expected the log of the table, because its Parquet files are there; found none. "
        "Run `riseorfall doctor`.\n"
    )
    code, out, _ = output(capsys, "doctor", "--repair", "--json")
    assert code == 4
    (found,) = [each for each in json.loads(out)["findings"] if each["state"] != "whole"]
    assert (found["state"], found["path"], found["repairable"]) == ("gone", str(log), False)
    assert found["remedy"].startswith("restore a backup: which of the ")
    assert not list(log.glob("*"))


def test_a_lost_registry_is_not_rebuilt_while_the_decision_log_is_lost(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be rebuilt without a version."""
    shutil.rmtree(home / "data" / "tables" / "ledger" / "_delta_log")
    halve(database(home))
    content = database(home).read_bytes()
    assert output(capsys, "doctor", "--repair")[0] == 4
    assert database(home).read_bytes() == content


def test_status_raises_an_alarm_where_the_files_of_the_champion_are_gone(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(model_files(home))
    shutil.rmtree(home / "mlruns" / "artifacts" / SERIES.name / STORED_RUN / "artifacts" / "network")
    code, out, err = output(capsys, "status", "--check")
    assert code == 4
    assert "no alarm" not in out
    assert "version 1 cannot predict, it lacks network.keras, network.onnx" in err
    code, out, _ = output(capsys, "doctor", "--repair", "--json")
    assert code == 4  # nothing to repair it from
    (found,) = [each for each in json.loads(out)["findings"] if each["state"] != "whole"]
    assert (found["state"], found["repairable"]) == ("gone", False)
    assert "rollback" in found["remedy"]


STORED_RUN = "4f68701a7abb412080ac5b383523d514"


@pytest.mark.parametrize("name", ["network.onnx", "network.keras"])
def test_a_network_is_taken_from_its_run(home: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    path = model_files(home) / name
    if name == "network.onnx":
        halve(path)
    else:
        remove(path)
    assert output(capsys, "doctor")[0] == 4
    assert output(capsys, "doctor", "--repair")[0] == 0
    drop_prediction_log(home)
    code, out, _ = output(capsys, "predict", "--json")
    assert code == 0
    assert json.loads(out)["probability"] == pytest.approx(STORED_PREDICTION["probability"], abs=1e-6)


@pytest.mark.parametrize("target", ["/dev/null", "no such file"])
def test_a_device_in_place_of_a_network_is_damage(home: Path, capsys: pytest.CaptureFixture[str], target: str) -> None:
    path = model_files(home) / "network.onnx"
    path.unlink()
    path.symlink_to(target)
    code, out, _ = output(capsys, "doctor", "--json")
    (found,) = [each for each in json.loads(out)["findings"] if each["state"] != "whole"]
    assert (code, found["state"]) == (4, "damaged")
    expected = "expected a regular file, found a device" if target == "/dev/null" else "No such file"
    assert expected in found["problem"]
    assert output(capsys, "doctor", "--repair")[0] == 0
    assert not path.is_symlink()


@pytest.mark.parametrize("is_recorded", [True, False])
def test_a_damaged_copy_replaces_nothing_that_is_recorded_and_the_first_file_is_kept(
    home: Path, capsys: pytest.CaptureFixture[str], is_recorded: bool
) -> None:
    """Without a record the copy is tried; it must not take the place of the first file in `damaged`."""
    if is_recorded:
        record_files()
    path = halve(model_files(home) / "network.onnx")
    content = path.read_bytes()
    run_folder = home / "mlruns" / "artifacts" / SERIES.name / STORED_RUN / "artifacts"
    (run_folder / run_artifacts.ONNX).write_bytes(b"no network")
    assert output(capsys, "doctor", "--repair")[0] == 4
    kept = [path, *(home / "data").glob("damaged/**/network.onnx*")]
    assert content in [each.read_bytes() for each in kept]
    assert (path.read_bytes() == content) is is_recorded


def test_a_file_that_only_mlflow_reads_is_examined_too(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A rebuild of the registry knows by it which run a version belongs to."""
    record_files()
    assert output(capsys, "doctor")[0] == 0
    remove(model_files(home).parent / "MLmodel")
    code, out, _ = output(capsys, "doctor", "--json")
    assert code == 4
    (found,) = [each for each in json.loads(out)["findings"] if each["state"] != "whole"]
    assert "MLmodel differs" in found["problem"]
    assert "found no such file" in found["problem"]
    assert not found["repairable"]


def _add_file(folder: Path) -> None:
    (folder / "notes.txt").write_bytes(b"abc")


def _add_link(folder: Path) -> None:
    (folder / "notes.txt").symlink_to("/etc")


def _replace_by_link(folder: Path) -> None:
    path = folder / "network.onnx"
    path.rename(folder.parents[2] / "elsewhere.onnx")
    path.symlink_to(folder.parents[2] / "elsewhere.onnx")


@pytest.mark.parametrize("add", [_add_file, _add_link])
def test_a_file_that_no_decision_recorded_is_moved_away(
    home: Path, capsys: pytest.CaptureFixture[str], add: Callable[[Path], None]
) -> None:
    record_files()
    add(model_files(home))
    code, out, _ = output(capsys, "doctor", "--json")
    (found,) = [each for each in json.loads(out)["findings"] if each["state"] != "whole"]
    assert (code, found["problem"]) == (
        4,
        "expected the files of its decision only, found also artifacts/notes.txt",
    )
    assert output(capsys, "doctor", "--repair")[0] == 0
    assert not os.path.lexists(model_files(home) / "notes.txt")
    (kept,) = (home / "data").glob("damaged/**/notes.txt")
    assert kept.is_symlink() == (add is _add_link)
    assert output(capsys, "doctor")[0] == 0


def test_a_link_to_a_network_is_not_the_recorded_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it leads to can change between two readings."""
    record_files()
    _replace_by_link(model_files(home))
    assert output(capsys, "doctor")[0] == 4
    assert output(capsys, "doctor", "--repair")[0] == 0
    assert not (model_files(home) / "network.onnx").is_symlink()
    assert output(capsys, "doctor")[0] == 0


def test_a_folder_that_leads_out_of_the_home_is_damage_and_named(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`predict` refuses it: whoever may write there could change the champion."""
    (folder,) = (home / "mlruns" / "artifacts" / SERIES.name / "models").iterdir()
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    drop_prediction_log(home)
    expected = f"found {folder}/artifacts, which leads to {tmp_path}/elsewhere/artifacts."
    code, _, err = output(capsys, "predict")
    assert code != 0
    assert expected in err
    code, out, _ = output(capsys, "doctor", "--json")
    (found,) = [each for each in json.loads(out)["findings"] if each["state"] != "whole"]
    assert (code, found["state"], found["path"]) == (4, "damaged", f"{folder}/artifacts")
    assert found["problem"].endswith(expected)
    assert found["remedy"] == "move its files back into the home, or run `riseorfall rollback` or `riseorfall retrain`"
    folder.unlink()
    (tmp_path / "elsewhere").rename(folder)
    assert output(capsys, "doctor")[0] == 0


def test_a_version_that_names_a_foreign_run_gets_its_own_back(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_files()
    with closing(sqlite3.connect(database(home))) as opened, opened:
        assert opened.execute("UPDATE model_versions SET run_id = 'foreign'").rowcount == 1
    code, out, _ = output(capsys, "doctor", "--json")
    (found,) = [each for each in json.loads(out)["findings"] if each["state"] != "whole"]
    assert (code, found["problem"]) == (4, f"expected MLflow run {STORED_RUN} (decision log), found foreign")
    assert output(capsys, "doctor", "--repair")[0] == 0
    entry = LocalDatabase(Settings().mlflow_uri).version(SERIES.name, "1")
    assert entry is not None
    assert entry.run_id == STORED_RUN


def test_an_edited_calibrator_is_taken_from_its_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = model_files(home) / "calibrator.json"
    copy = home / "mlruns" / "artifacts" / SERIES.name / STORED_RUN / "artifacts" / run_artifacts.CALIBRATOR
    for each in (path, copy):  # version 0.1 had none
        each.write_text('{"method": "none"}', encoding="utf-8")
    record_files()
    path.write_text('{"method": "other"}', encoding="utf-8")
    assert output(capsys, "doctor", "--repair")[0] == 0
    assert path.read_text(encoding="utf-8") == copy.read_text(encoding="utf-8")


def test_a_damaged_database_of_prefect_is_moved_away(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PREFECT_HOME", "PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL"):
        monkeypatch.delenv(name, raising=False)
    path = home / "data" / "prefect" / "prefect.db"
    path.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("CREATE TABLE runs (name)")
        opened.executemany("INSERT INTO runs VALUES (?)", [("a" * 100,)] * 1000)
    assert output(capsys, "doctor")[0] == 0
    halve(path)
    code, out, _ = output(capsys, "doctor", "--json")
    (found,) = [each for each in json.loads(out)["findings"] if each["state"] != "whole"]
    assert (code, found["part"], found["state"]) == (4, "Prefect's database", "damaged")
    assert output(capsys, "doctor", "--repair")[0] == 0
    assert not path.exists()
    assert len(list((home / "data").glob("damaged/*/prefect/prefect.db"))) == 1


def test_a_network_that_is_not_the_recorded_one_is_replaced_also_after_the_registry_was_lost(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record_files()
    path = model_files(home) / "network.keras"
    content = path.read_bytes()
    path.write_bytes(content + b"!")
    assert output(capsys, "doctor")[0] == 4
    remove(database(home))
    assert output(capsys, "doctor", "--repair")[0] == 0
    assert path.read_bytes() == content


@pytest.mark.parametrize("newest", [True, False])
def test_of_two_logged_models_of_a_run_the_recorded_one_is_registered(
    home: Path, capsys: pytest.CaptureFixture[str], newest: bool
) -> None:
    """A run that logs its model twice leaves two folders that name it, whose networks differ."""
    (folder,) = (home / "mlruns" / "artifacts" / SERIES.name / "models").iterdir()
    record_files()
    other = folder.with_name("m-other")
    shutil.copytree(folder, other)
    with (other / "artifacts" / "artifacts" / "network.keras").open("ab") as file:
        file.write(b"!")
    os.utime(other / "artifacts" / "MLmodel", (1e9 if not newest else 2e9,) * 2)
    remove(database(home))
    assert output(capsys, "doctor", "--repair")[0] == 0
    found = LocalDatabase(Settings().mlflow_uri).version(SERIES.name, "1")
    assert found is not None
    assert found.folder == folder / "artifacts"


def test_status_without_bars_says_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(home / "data" / "tables" / "bars")
    code, out, err = output(capsys, "status")
    assert code == 0, err
    assert "no bars are stored" in out
    code, out, _ = output(capsys, "doctor", "--json")
    assert code == 4
    (found,) = [each for each in json.loads(out)["findings"] if each["state"] != "whole"]
    assert found["part"] == "bars BTC-USD 1d"
    assert "riseorfall ingest" in found["remedy"]


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("pattern", "shown"), [("%", "expected the tag trained_until"), ("metric.%", "without scores")]
)
def test_a_version_without_tags_is_described_and_gets_them_back(
    home: Path, capsys: pytest.CaptureFixture[str], pattern: str, shown: str
) -> None:
    before = state_of(capsys)["champion"]
    drop_tags(home, pattern)
    code, out, err = output(capsys, "status", "--check")
    assert code == (4 if pattern == "%" else 0), err
    assert shown in " ".join((out + err).split())
    assert output(capsys, "doctor")[0] == 4
    assert output(capsys, "doctor", "--repair")[0] == 0
    assert state_of(capsys)["champion"] == before


def test_a_home_that_was_moved_is_found_and_repaired(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = home.rename(home.with_name("a new place"))
    monkeypatch.setenv("RISEORFALL_HOME", str(moved))
    drop_prediction_log(moved)
    code, _, err = output(capsys, "predict")
    assert code != 0
    assert "riseorfall doctor" in err
    code, out, _ = output(capsys, "doctor", "--json")
    assert code == 4
    (found,) = [each for each in json.loads(out)["findings"] if each["state"] != "whole"]
    assert (found["path"], found["repairable"]) == (str(database(moved)), True)
    assert f"expected paths below {moved}, found {home}" in found["problem"]
    with pytest.raises(DamagedHome, match="the home was moved or copied"):  # a retrain would write into the other home
        require_registry(Settings())

    code, out, err = output(capsys, "doctor", "--repair")
    assert code == 0, err
    assert not home.exists()
    (copy,) = (moved / "data" / "damaged").rglob("mlflow.db")
    assert locations(copy) == {name: place.replace(moved.as_uri(), home.as_uri()) for name, place in
                               locations(database(moved)).items()}  # fmt: skip
    assert all(place.startswith(f"{moved.as_uri()}/") for place in locations(database(moved)).values())
    code, out, err = output(capsys, "predict", "--json")
    assert code == 0, err
    assert json.loads(out)["probability"] == pytest.approx(STORED_PREDICTION["probability"], abs=1e-6)
    assert output(capsys, "doctor")[0] == 0


def test_a_moved_home_whose_runs_are_on_another_disk_is_repaired(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = home.rename(home.with_name("a new place"))
    (tmp_path / "disk").mkdir()
    (moved / "mlruns").rename(tmp_path / "disk" / "mlruns")
    (moved / "mlruns").symlink_to(tmp_path / "disk" / "mlruns")
    monkeypatch.setenv("RISEORFALL_HOME", str(moved))
    code, _, err = output(capsys, "doctor", "--repair")
    assert code == 0, err
    assert all(place.startswith(f"{moved.as_uri()}/") for place in locations(database(moved)).values())
    assert output(capsys, "doctor")[0] == 0


def test_paths_of_a_new_home_below_the_old_one_are_replaced_once(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    places = {"old": "file:///data/mlruns/artifacts/old", "new": "file:///data/ror/mlruns/artifacts/new"}
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("CREATE TABLE experiments (name TEXT, artifact_location TEXT)")
        opened.executemany("INSERT INTO experiments VALUES (?, ?)", places.items())
    for _ in range(2):
        replace_paths(path, Path("/data"), Path("/data/ror"))
        with closing(sqlite3.connect(path)) as opened:
            assert dict(opened.execute("SELECT name, artifact_location FROM experiments")) == {
                name: f"file:///data/ror/mlruns/artifacts/{name}" for name in places
            }


def test_paths_of_a_new_home_above_the_old_one_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    places = {
        "old": "file:///data/ror/mlruns/artifacts/old",
        "plain": "/data/ror/mlruns/artifacts/plain",
        "other": "file:///data/another/mlruns/artifacts/other",
    }
    with closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("CREATE TABLE experiments (name TEXT, artifact_location TEXT)")
        opened.executemany("INSERT INTO experiments VALUES (?, ?)", places.items())
    for _ in range(2):
        replace_paths(path, Path("/data/ror"), Path("/data"))
        with closing(sqlite3.connect(path)) as opened:
            assert dict(opened.execute("SELECT name, artifact_location FROM experiments")) == {
                "old": "file:///data/mlruns/artifacts/old",
                "plain": "/data/mlruns/artifacts/plain",
                "other": "file:///data/another/mlruns/artifacts/other",
            }


def locations(path: Path) -> dict[str, str]:
    """Return where the runs and the experiment of the series have their files."""
    with closing(sqlite3.connect(path)) as opened:
        experiments = opened.execute("SELECT name, artifact_location FROM experiments WHERE name != 'Default'")
        return dict([*experiments, *opened.execute("SELECT run_uuid, artifact_uri FROM runs")])


def test_a_home_behind_a_link_and_the_database_of_another_home_are_not_moved_ones(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    (home / "mlruns").rename(tmp_path / "disk" / "mlruns")
    (home / "mlruns").symlink_to(tmp_path / "disk" / "mlruns")
    assert output(capsys, "doctor")[0] == 0
    other = copy_home(home, tmp_path / "other")
    monkeypatch.setenv("RISEORFALL_HOME", str(other))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database(home)}")
    assert moved_paths(Settings()) is None


@pytest.mark.parametrize("is_starting", [True, False])
def test_a_home_in_use_by_up_is_not_repaired(home: Path, capsys: pytest.CaptureFixture[str], is_starting: bool) -> None:
    """An `up` that is starting has no state yet; its first server may take minutes."""
    remove(database(home))
    settings = Settings()
    with hold_home_lock(settings.up_lock, settings.up_state):
        if not is_starting:
            settings.up_state.write_text('{"pid": 1, "parts": {}, "environment": {}}')
        code, _, err = output(capsys, "doctor", "--repair")
    assert code == 2
    assert "Stop it first" in err
    assert not database(home).exists()


def test_up_does_not_start_during_a_repair(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its servers would open files that the repair replaces."""
    settings, refused = Settings(), []
    monkeypatch.setattr("tasks.services.up_lock.LOCK_TIMEOUT_SECONDS", 0.5)

    def repair(_: Settings) -> tuple[list[Any], list[Any]]:
        with pytest.raises(LockHeld) as held, hold_home_lock(settings.up_lock, settings.up_state):
            pass
        refused.append(str(held.value))
        return [], []

    monkeypatch.setattr("tasks.repair.home_examination.repair_home", repair)
    assert run(["doctor", "--repair"]) == 0
    assert "doctor --repair" in refused[0]
    with hold_home_lock(settings.up_lock, settings.up_state):
        assert home.exists()

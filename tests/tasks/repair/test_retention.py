"""Housekeeping deletes what exceeds the retention, and nothing else; a dry run deletes nothing."""

import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from mlflow import MlflowClient
from synthetic_bars import random_walk
from tiny_home import SERIES, store_bars, tiny_home, tiny_version

from data_checks.offline_data_docs import list_run
from flows.cli import run
from model.bars import PANEL, Bars, Series
from model.errors import DamagedHome, NoChampion, SpecError
from tasks.registry.owning_process import PROCESS_TAG, own_process
from tasks.repair.home_examination import examine_home
from tasks.repair.retention import Removal, apply_removals, find_removals
from tasks.repair.retention_spec import RetentionSpec
from tasks.settings import Settings
from tasks.store import delta_table
from tasks.store.decision_log import LoggedDecision
from tasks.workspace import Workspace

BARS = random_walk(130, seed=4)
VERSIONS, KEPT = 34, 30
DAYS = 24 * 3600


@pytest.fixture(scope="module")
def aged(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """34 versions: 1 was champion, 3 is, the others were held; each run with a report and a copy of its network."""
    settings = tiny_home(tmp_path_factory.mktemp("aged"), BARS, 100)
    workspace = Workspace(settings, SERIES)
    for number in range(1, VERSIONS + 1):
        version = "1" if number == 1 else tiny_version(workspace, BARS, 100)
        found = workspace.registry.version(version)
        promoted = number in {1, 3}
        champion = "1" if number <= 3 else "3"
        workspace.decision_log.append(
            LoggedDecision(
                decision_id=found.run_id,
                decided_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=number),
                series_name=SERIES.name,
                symbol="BTC-USD",
                interval="1d",
                action="promote" if promoted else "hold",
                version=version,
                champion_before=None if number == 1 else champion,
                champion_after=version if promoted else champion,
                run_id=found.run_id,
                bars_version=1,
            )
        )
        run_folder = settings.root / "mlruns" / "artifacts" / SERIES.name / found.run_id / "artifacts"
        for name in ("report.html", "network/network.onnx", "network/probe.parquet", "evaluation/record.parquet"):
            (run_folder / name).parent.mkdir(parents=True, exist_ok=True)
            (run_folder / name).write_bytes(b"x" * 1000)
    workspace.registry.set_alias("champion", "3")
    return settings


def spec_of(**values: int) -> RetentionSpec:
    return RetentionSpec.model_construct(
        **{name: field.default for name, field in RetentionSpec.model_fields.items()} | values
    )


def of_kind(found: list[Removal], kind: str) -> list[Removal]:
    return [each for each in found if each.kind == kind]


@pytest.mark.e2e
def test_champions_and_the_newest_versions_stay_and_the_others_go(
    aged: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(aged.root))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    registry = Workspace(aged, SERIES).registry
    runs = {number: registry.version(number).run_id for number in ("1", "2")}
    before = sorted(path for path in aged.root.rglob("*") if path.is_file() and "logs" not in path.parts)
    assert run(["housekeeping", "--dry-run", "--retention.versions", str(KEPT)]) == 0
    assert sorted(path for path in aged.root.rglob("*") if path.is_file() and "logs" not in path.parts) == before
    listed = capsys.readouterr().out
    assert "BTC-USD-1d version 2" in listed
    assert "BTC-USD-1d version 3" not in listed

    found = find_removals(aged, spec_of(versions=KEPT))
    assert [each.name for each in of_kind(found, "version")] == [f"{SERIES.name} version {n}" for n in (2, 4)]
    assert all(each.size > 1000 for each in of_kind(found, "version"))
    # reports and copies of networks of the runs of versions 1, 2 and 4; of the champion and of the newest 30 none
    assert len(of_kind(found, "file of an old run")) == 3 * 2
    (gone,) = (Path(each.name) for each in found if runs["2"] in each.name and "report" in each.name)
    assert apply_removals(found) == found
    assert not gone.exists()
    assert not Path(str(gone).replace(runs["2"], runs["1"])).exists()
    for kept in ("evaluation/record.parquet", "network/probe.parquet"):  # stored nowhere else
        assert gone.parent.joinpath(kept).exists()
    for number in ("2", "4"):
        with pytest.raises(NoChampion):
            registry.version(number)
    for number in ("1", "3", "5", "34"):
        registry.read_version(number).predictor()
    assert find_removals(aged, spec_of(versions=KEPT)) == []
    assert run(["predict"]) == 0


def test_equal_archives_of_serving_code_become_one_file_and_others_stay(tmp_path: Path) -> None:
    settings = tiny_home(tmp_path, BARS, 100)
    workspace = Workspace(settings, SERIES)
    for _ in range(3):
        tiny_version(workspace, BARS, 100)
    archives = [each / "code" / "model.zip" for each in sorted(settings.artifact_folder.glob("*/*/artifacts/model"))]
    assert len(archives) == 4
    for path in archives:
        path.parent.mkdir()
        path.write_bytes(b"of an earlier release" if path == archives[0] else b"of this release")
    before = [path.read_bytes() for path in archives]
    found = of_kind(find_removals(settings, spec_of()), "copy of serving code")
    assert len(found) == 2
    changed = Path(found[0].name)
    changed.write_bytes(b"changed since")
    assert apply_removals(found) == found[1:]
    assert changed.read_bytes() == b"changed since"
    others = [(path, data) for path, data in zip(archives, before, strict=True) if path != changed]
    assert [path.read_bytes() for path, _ in others] == [data for _, data in others]
    assert sorted(path.stat().st_nlink for path, _ in others) == [1, 2, 2]
    assert of_kind(find_removals(settings, spec_of()), "copy of serving code") == []


def kept_runs(settings: Settings, workspace: Workspace, ended: Callable[[int, dict[str, str]], str]) -> set[str]:
    """Return old runs that housekeeping has no right to delete."""
    client, row = workspace.runs.client, workspace.decision_log.rows()[0]
    client.delete_experiment(client.create_experiment("trash"))
    forced, registered, foreign, elsewhere, deleted = (ended(999, {}) for _ in range(5))
    forced_row = replace(row, decision_id="b", run_id=forced, forced=True)  # without a decision of a retrain
    workspace.decision_log.append(forced_row)
    workspace.registry.client.create_model_version(SERIES.name, "file:///elsewhere", registered)
    client.delete_tag(foreign, PROCESS_TAG)  # a person's own run in our experiment
    client.delete_run(deleted)  # in MLflow's trash: can be restored there
    scheduled = ended(999, {})
    with closing(sqlite3.connect(settings.root / "mlruns" / "mlflow.db")) as database, database:
        update = "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?"  # as in a home that was copied by hand
        database.execute(update, (f"file:///original/mlruns/artifacts/x/{elsewhere}/artifacts", elsewhere))
        database.execute("UPDATE runs SET status = 'SCHEDULED' WHERE run_uuid = ?", (scheduled,))
    return {forced, registered, foreign, elsewhere, deleted, scheduled}


def test_old_runs_of_folds_and_runs_without_a_decision_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tiny_home(tmp_path, BARS, 100)
    workspace = Workspace(settings, SERIES)
    runs, now = workspace.runs, datetime.now(UTC)
    decided = workspace.registry.version("1").run_id
    workspace.decision_log.append(
        LoggedDecision("a", now, SERIES.name, "BTC-USD", "1d", "promote", "1", None, "1", run_id=decided)
    )

    def ended(days: int, tags: dict[str, str]) -> str:
        run_id = runs.start_run("a run", tags, parent=decided)
        runs.log_text(run_id, "x" * 5000, "a.txt")
        runs.client.set_terminated(run_id, "FINISHED", int((now.timestamp() - days * DAYS) * 1000))
        return run_id

    runs.client.set_terminated(decided, "FINISHED", 1)
    old, fresh = ended(31, {"fold": "0"}), ended(29, {"fold": "1"})
    failed, recent = ended(181, {}), ended(179, {})
    works = runs.start_run("still running", {"fold": "2"})
    others = kept_runs(settings, workspace, ended)
    read: list[str] = []
    true = MlflowClient.get_run
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "get_run", lambda client, run_id: read.append(run_id) or true(client, run_id))
        patched.setattr(MlflowClient, "search_runs", None)
        found = find_removals(settings, RetentionSpec())
    assert not {decided, fresh, recent, works} & set(read)  # ten years have 3,650 runs with a decision
    assert len(read) == len({old, failed} | others) - 4  # forced, registered, in the trash, scheduled
    assert sorted((each.kind, each.size) for each in found) == [
        ("run of a fold", 5000),
        ("run without a decision", 5000),
    ]
    assert apply_removals(found) == found
    left = {run.info.run_id for run in runs.client.search_runs([runs.experiment_id()], run_view_type=3)}
    assert left == {decided, fresh, recent, works} | others
    trash = runs.client.get_experiment_by_name("trash")
    assert trash is not None
    assert trash.lifecycle_stage == "deleted"  # `mlflow gc` would delete it
    folders = {path.name for path in (tmp_path / "mlruns" / "artifacts" / SERIES.name).iterdir()}
    assert not folders & {old, failed}


def test_a_version_whose_retrain_died_before_its_decision_goes_with_its_files(tmp_path: Path) -> None:
    settings = tiny_home(tmp_path, BARS, 100)
    workspace, now = Workspace(settings, SERIES), datetime.now(UTC)
    registry, log = workspace.registry, workspace.decision_log
    for _ in range(6):
        tiny_version(workspace, BARS, 100)
    folders = {number: registry.read_version(number).folder for number in "1234567"}
    runs = {number: registry.version(number).run_id for number in "1234567"}
    workspace.runs.client.set_tag(runs["7"], "decision", "hold")  # a repair of the decision log lost its row
    for number, days in (("1", 999), ("2", 181), ("3", 179), ("5", 999), ("6", 999), ("7", 999)):  # 4 is being trained
        ended = int((now.timestamp() - days * DAYS) * 1000)
        workspace.runs.client.set_terminated(runs[number], "KILLED", ended)
    promoted = LoggedDecision("a", now, SERIES.name, "BTC-USD", "1d", "promote", "1", None, "1", run_id=runs["1"])
    assert find_removals(settings, RetentionSpec()) == []  # there is a champion: the decision log is lost
    log.append(promoted)
    log.append(replace(promoted, decision_id="b", action="hold", version="5", champion_before="1", run_id=runs["5"]))
    registry.set_alias("challenger", "6")

    found = of_kind(find_removals(settings, RetentionSpec()), "version without a decision")
    assert [each.name for each in found] == ["BTC-USD-1d version 2", "BTC-USD-1d version 6"]
    assert all(each.size > 1000 for each in found)
    log.append(
        replace(promoted, decision_id="c", action="hold", version="2", champion_before="1")
    )  # by hand, meanwhile
    assert apply_removals(found) == found[1:]
    assert [number for number, folder in folders.items() if not folder.exists()] == ["6"]
    with pytest.raises(NoChampion):
        registry.version("6")
    assert registry.alias_number("challenger") is None
    (run_left,) = of_kind(find_removals(settings, RetentionSpec()), "run without a decision")
    assert run_left.name == runs["6"]
    assert apply_removals([run_left]) == [run_left]


def test_doctor_names_a_version_without_a_decision_whose_retrain_has_ended(tmp_path: Path) -> None:
    settings = tiny_home(tmp_path, BARS, 100)
    workspace = Workspace(settings, SERIES)
    dead, alive = tiny_version(workspace, BARS, 100), tiny_version(workspace, BARS, 100)
    for number in ("1", dead, alive):
        workspace.runs.client.set_model_version_tag(SERIES.name, number, "metric.log_loss", "0.69")
    workspace.runs.finish_run(workspace.registry.version(dead).run_id, "KILLED")
    workspace.decision_log.append(
        LoggedDecision("a", datetime.now(UTC), SERIES.name, "BTC-USD", "1d", "promote", "1", None, "1")
    )
    found = {each.part: each for each in examine_home(settings) if "version" in each.part}
    assert list(found) == ["BTC-USD-1d version 1 (champion)", f"BTC-USD-1d version {dead}"]
    undecided = found[f"BTC-USD-1d version {dead}"]
    assert (undecided.state, undecided.is_damage) == ("undecided", False)
    for part in ("ended before the decision", f"`riseorfall promote --version {dead}`", "`housekeeping` deletes it"):
        assert part in undecided.remedy


def test_files_of_a_retrain_that_died_while_it_registered_go_with_its_run(tmp_path: Path) -> None:
    settings = tiny_home(tmp_path / "home", BARS, 100)
    workspace, files = Workspace(settings, SERIES), tmp_path / "files"
    files.mkdir()
    (files / "network.keras").write_bytes(b"network")
    run_id = workspace.runs.start_run("retrain", {"recipe": "x"})
    model_id, _ = workspace.runs.create_logged_model(run_id, "model", None)
    workspace.registry.client.log_model_artifacts(model_id, str(files))
    workspace.runs.finish_run(run_id, "KILLED")
    (stored,) = settings.artifact_folder.glob(f"*/models/{model_id}/artifacts/network.keras")
    assert stored.read_bytes() == b"network"
    now = datetime.now(UTC)
    workspace.decision_log.append(LoggedDecision("a", now, SERIES.name, "BTC-USD", "1d", "promote", "1", None, "1"))
    later = now + timedelta(days=400)
    (found,) = of_kind(find_removals(settings, RetentionSpec(), later), "run without a decision")
    assert (found.name, found.size) == (run_id, len(b"network"))
    assert apply_removals([found]) == [found]
    assert not list(settings.artifact_folder.glob(f"*/models/{model_id}"))
    assert of_kind(find_removals(settings, RetentionSpec(), later), "run without a decision") == []


def test_bars_of_kept_models_stay_readable_and_other_old_files_go(tmp_path: Path) -> None:
    """Two revisions of one bar: three versions of its file. A kept model was trained on the first."""
    settings = tiny_home(tmp_path, BARS, 100)
    workspace = Workspace(settings, SERIES)
    first = workspace.bar_store.ref(SERIES)
    for factor in (1.5, 2.0):
        values = BARS.ohlcv.copy()
        values[50, 4] *= factor
        store_bars(settings, Bars(BARS.interval, BARS.opened_at, values))
    newest = workspace.bar_store.ref(SERIES)
    assert newest.version == first.version + 2
    run_id = workspace.registry.version("1").run_id
    row = LoggedDecision("a", datetime.now(UTC), SERIES.name, "BTC-USD", "1d", "promote", "1", None, "1",
                         run_id=run_id, bars_version=first.version)  # fmt: skip
    workspace.decision_log.append(row)
    assert of_kind(find_removals(settings, spec_of(table_days=30)), "files of earlier table versions") == []
    found = of_kind(find_removals(settings, spec_of(table_days=0)), "files of earlier table versions")
    assert [each.name for each in found] == ["1 of bars"]
    apply_removals(found)
    for ref in (first, newest):
        assert np.isfinite(workspace.bar_store.read_bars(ref).ohlcv).all()
    with pytest.raises(SpecError, match="found 1 of them deleted"):
        workspace.bar_store.ref(SERIES, first.version + 1)


@pytest.mark.parametrize(("days", "files"), [(29, []), (31, ["3 of bars"])])
def test_files_of_earlier_table_versions_stay_for_days_not_hours(days: int, files: list[str], tmp_path: Path) -> None:
    settings, workspace, _ = revised_home(tmp_path)
    for commit in (Path(workspace.bar_store.tables[0].uri) / "_delta_log").glob("*.json"):
        actions = [json.loads(line) for line in commit.read_text().splitlines()]
        for replaced in (action["remove"] for action in actions if "remove" in action):
            replaced["deletionTimestamp"] -= days * DAYS * 1000
        commit.write_text("\n".join(map(json.dumps, actions)))
    found = of_kind(find_removals(settings, RetentionSpec()), "files of earlier table versions")  # table_days = 30
    assert [each.name for each in found] == files


def test_files_of_a_log_go_that_no_checkpoint_names_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Housekeeping that did not run for years still finds them; those of the newest version stay."""
    monkeypatch.setattr(delta_table, "FORGET_EARLIER_VERSIONS", {delta_table.DELETED_FILES: "interval 0 days"})
    monkeypatch.setattr(delta_table, "CHECKPOINT_COMMITS", 1)
    monkeypatch.setattr(delta_table, "MAX_FILES", 2)
    settings = tiny_home(tmp_path, BARS, 100)
    log = Workspace(settings).decision_log
    row = LoggedDecision("1", datetime.now(UTC), SERIES.name, "BTC-USD", "1d", "hold", "1", None, None)
    for number in range(1, 6):
        log.append(replace(row, decision_id=str(number)))
    folder = Path(log.tables[0].uri)
    kept = {Path(each) for each in log.tables[0].open_for_writing().file_uris()}  # type: ignore[union-attr]
    assert len(list(folder.glob("*.parquet"))) > len(kept)
    assert of_kind(find_removals(settings, spec_of(table_days=30)), "files of earlier table versions") == []
    apply_removals(find_removals(settings, spec_of(table_days=0)))
    assert set(folder.glob("*.parquet")) == kept
    assert [each.decision_id for each in log.rows()] == ["1", "2", "3", "4", "5"]


def revised_home(home: Path) -> tuple[Settings, Workspace, int]:
    """A home with three revisions of one bar; return the version of the bars before them."""
    settings = tiny_home(home, BARS, 100)
    workspace = Workspace(settings, SERIES)
    first = workspace.bar_store.ref(SERIES).version
    for factor in (1.5, 2.0, 3.0):
        values = BARS.ohlcv.copy()
        values[50, 4] *= factor
        store_bars(settings, Bars(BARS.interval, BARS.opened_at, values))
    return settings, workspace, first


def test_bars_stay_where_the_registered_versions_are_not_known(tmp_path: Path) -> None:
    """MLflow on a server, and a lost database: nothing says which bars the champion was trained on."""
    settings, workspace, first = revised_home(tmp_path)
    found = of_kind(find_removals(settings, spec_of(table_days=0)), "files of earlier table versions")
    assert [each.name for each in found] == ["3 of bars"]  # version 1 names no bars
    row = LoggedDecision("a", datetime.now(UTC), SERIES.name, "BTC-USD", "1d", "promote", "1", None, "1",
                         run_id="1", bars_version=first)  # fmt: skip
    workspace.decision_log.append(row)
    server = settings.model_copy(update={"tracking_uri": "http://127.0.0.1:1"})
    assert find_removals(server, spec_of(table_days=0)) == []
    (tmp_path / "mlruns" / "mlflow.db").unlink()
    with pytest.raises(DamagedHome, match="Nothing was deleted"):
        find_removals(settings, spec_of(table_days=0))
    assert apply_removals(found) == []  # found before
    workspace.bar_store.ref(SERIES, first)


def test_bars_of_every_decision_and_of_every_registered_version_stay(tmp_path: Path) -> None:
    """Version 1 was trained on the first bars and promoted on the second; version 2, on the third, has no decision."""
    settings, workspace, first = revised_home(tmp_path)
    undecided = tiny_version(workspace, BARS, 100)
    client = workspace.registry.client
    client.set_model_version_tag(SERIES.name, undecided, "bars_version", str(first + 2))
    row = LoggedDecision("a", datetime.now(UTC), SERIES.name, "BTC-USD", "1d", "hold", "1", None, None,
                         run_id=workspace.registry.version("1").run_id, bars_version=first)  # fmt: skip
    workspace.decision_log.append(row)
    promoted = replace(row, decision_id="b", action="promote", champion_after="1", bars_version=first + 1)
    workspace.decision_log.append(promoted)
    apply_removals(find_removals(settings, spec_of(table_days=0)))
    for version in range(first, first + 4):
        workspace.bar_store.ref(SERIES, version)
    client.delete_model_version(SERIES.name, undecided)
    apply_removals(find_removals(settings, spec_of(table_days=0)))
    with pytest.raises(SpecError, match="found 1 of them deleted"):
        workspace.bar_store.ref(SERIES, first + 2)


@pytest.mark.parametrize("series_name", [SERIES.name, f"{SERIES.name}-replay"])
def test_bars_that_a_decision_has_needed_since_they_were_found_stay(series_name: str, tmp_path: Path) -> None:
    """A replay resumes from every one of its decisions, and none of its versions is registered here."""
    settings, workspace, first = revised_home(tmp_path)
    found = of_kind(find_removals(settings, spec_of(table_days=0)), "files of earlier table versions")
    assert [each.name for each in found] == ["3 of bars"]
    is_replay = series_name != SERIES.name
    row = LoggedDecision("a", datetime.now(UTC), series_name, "BTC-USD", "1d", "hold" if is_replay else "promote", "1",
                         None, None if is_replay else "1", run_id="run", bars_version=first)  # fmt: skip
    workspace.decision_log.append(row)
    assert apply_removals(found) == found
    workspace.bar_store.ref(SERIES, first)
    with pytest.raises(SpecError, match="found 1 of them deleted"):
        workspace.bar_store.ref(SERIES, first + 1)


def test_old_runs_of_the_folds_of_a_panel_go(tmp_path: Path) -> None:
    settings, now = tiny_home(tmp_path, BARS, 100), datetime.now(UTC)
    panel = Workspace(settings, Series(PANEL, "1d"))
    decided = panel.runs.start_run("retrain", {})
    fold = panel.runs.start_run("fold 1 of 5", {"fold": "0"}, parent=decided)
    panel.runs.log_text(fold, "x", "a.txt")
    for run_id in (decided, fold):
        panel.runs.client.set_terminated(run_id, "FINISHED", int((now.timestamp() - 31 * DAYS) * 1000))
    panel.decision_log.append(
        LoggedDecision("a", now, panel.name, PANEL, "1d", "hold", "1", None, None, run_id=decided)
    )
    assert [(each.kind, each.name) for each in find_removals(settings, RetentionSpec())] == [("run of a fold", fold)]


def held_home(home: Path) -> tuple[Settings, Workspace]:
    """A home in which version 1 is champion and versions 2 and 3 were held; of the held ones the newest is kept."""
    settings = tiny_home(home, BARS, 100)
    workspace = Workspace(settings, SERIES)
    for number in ("1", "2", "3"):
        run_id = workspace.registry.version(number if number == "1" else tiny_version(workspace, BARS, 100)).run_id
        row = LoggedDecision(
            number, datetime.now(UTC), SERIES.name, "BTC-USD", "1d", "hold", number, "1", "1", run_id=run_id
        )
        workspace.decision_log.append(row)
    return settings, workspace


def test_a_version_that_became_champion_since_stays(tmp_path: Path) -> None:
    settings, workspace = held_home(tmp_path)
    row = workspace.decision_log.rows()[1]
    report = tmp_path / "mlruns" / "artifacts" / SERIES.name / row.run_id / "artifacts" / "report.html"
    report.write_text("x")
    found = find_removals(settings, spec_of(versions=1))
    assert [each.kind for each in found] == ["version", "file of an old run"]
    workspace.decision_log.append(replace(row, decision_id="later", action="promote", champion_after="2", forced=True))
    assert apply_removals(found) == []
    assert report.exists()
    workspace.registry.read_version("2").predictor()
    assert find_removals(settings, spec_of(versions=1)) == []


def test_the_challenger_stays_however_many_versions_came_after_it(tmp_path: Path) -> None:
    """Those after it were rejected: it may still be promoted."""
    settings, workspace = held_home(tmp_path)
    workspace.registry.set_alias("challenger", "2")
    assert find_removals(settings, spec_of(versions=1)) == []


def test_a_version_that_the_gate_compares_with_stays_although_its_promotion_is_lost(tmp_path: Path) -> None:
    settings, workspace = held_home(tmp_path)
    assert [each.name for each in find_removals(settings, spec_of(versions=1))] == ["BTC-USD-1d version 2"]
    promoted = replace(workspace.decision_log.rows()[2], decision_id="b", action="promote", champion_after="3")
    workspace.decision_log.append(replace(promoted, numbers={"past_champions.excess_over_version_2": 0.001}))
    assert find_removals(settings, spec_of(versions=1)) == []


def test_a_page_that_was_written_and_a_run_that_was_decided_about_since_stay(tmp_path: Path) -> None:
    settings, workspace = held_home(tmp_path)
    runs, page = workspace.runs, settings.report_path(SERIES.name, "old")
    run_id = runs.start_run("a run", {})
    runs.log_text(run_id, "x", "a.txt")
    runs.client.set_terminated(run_id, "FINISHED", int((time.time() - 999 * DAYS) * 1000))
    page.parent.mkdir(parents=True)
    page.write_text("x")
    os.utime(page, (time.time() - 999 * DAYS,) * 2)
    found = find_removals(settings, RetentionSpec())
    assert [each.kind for each in found] == ["report", "run without a decision"]
    page.write_text("written again")
    row = workspace.decision_log.rows()[1]
    workspace.decision_log.append(replace(row, decision_id="later", run_id=run_id))
    assert apply_removals(found) == []
    assert page.exists()
    assert runs.client.get_run(run_id).info.lifecycle_stage == "active"


class Crash(BaseException):
    """Injected."""


@pytest.mark.parametrize("place", ["tasks.repair.retention._remove", "mlflow.MlflowClient.delete_model_version"])
def test_a_version_whose_deletion_was_interrupted_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    settings, workspace = held_home(tmp_path)
    folder = workspace.registry.read_version("2").folder

    def crash(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(place, crash)
        with pytest.raises(Crash):
            apply_removals(find_removals(settings, spec_of(versions=1)))
    found = find_removals(settings, spec_of(versions=1))
    assert [(each.kind, each.name) for each in found] == [("version", f"{SERIES.name} version 2")]
    assert apply_removals(found) == found
    assert not folder.exists()
    with pytest.raises(NoChampion):
        workspace.registry.version("2")


def test_a_version_whose_folder_is_not_its_own_stays(tmp_path: Path) -> None:
    """The root of all files, a series' or a run's folder, the champion's files, and another home."""
    settings, workspace = held_home(tmp_path)
    assert [each.kind for each in find_removals(settings, spec_of(versions=1))] == ["version"]
    champion, held = (workspace.registry.version(number).run_id for number in "12")
    root = tmp_path / "mlruns" / "artifacts"
    own = root / SERIES.name
    others = (root, own, own / held, own / champion / "artifacts" / "model", tmp_path / "home" / "a" / "b" / "model")
    for folder in others:
        with closing(sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")) as database, database:
            update = "UPDATE model_versions SET source = ?, storage_location = ? WHERE version = 2"
            database.execute(update, (folder.as_uri(),) * 2)
        assert find_removals(settings, spec_of(versions=1)) == []


def test_data_docs_that_the_index_links_stay(tmp_path: Path) -> None:
    """102 old runs, after a line that was not written to its end: the index lists the newest 100."""
    settings = tiny_home(tmp_path, BARS, 100)
    docs = tmp_path / "data" / "docs" / SERIES.name
    docs.mkdir(parents=True)
    (docs / "runs.jsonl").write_text('{"page": "validations/\n')
    pages = [docs / "validations" / "bars" / f"{number}" / "a page.html" for number in range(102)]
    for page in pages:
        page.parent.mkdir(parents=True)
        page.write_text("x")
        os.utime(page, (time.time() - 91 * DAYS,) * 2)
        run_of = {"suite": "bars", "run": "a", "rules": 1, "failures": {}, "checked_at": ""}
        list_run(docs, {"page": page.relative_to(docs).as_posix(), **run_of})
    found = find_removals(settings, RetentionSpec())
    assert {each.name for each in found} == {str(page) for page in pages[:2]}
    apply_removals(found)
    index = (docs / "index.html").read_text()
    for number, page in enumerate(pages):
        linked = quote(page.relative_to(docs).as_posix()) in index
        assert linked == page.exists() == (number >= 2)


def test_the_command_deletes_what_a_dry_run_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tiny_home(tmp_path, BARS, 100)
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    runs = Workspace(settings, SERIES).runs
    *place, _, start = own_process().split()
    dead = runs.client.create_run(runs.experiment_id(), tags={PROCESS_TAG: " ".join((*place, "999999999", start))})
    page = tmp_path / "data" / "reports" / SERIES.name / "old.html"
    page.parent.mkdir(parents=True)
    page.write_text("x" * 100)
    os.utime(page, (time.time() - 91 * DAYS,) * 2)
    removed = [{"kind": "report", "name": str(page), "bytes": 100}]
    run_id = dead.info.run_id

    assert run(["housekeeping", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"dry_run": True, "ended_runs": [], "removed": removed}
    assert page.exists()
    assert runs.client.get_run(run_id).info.status == "RUNNING"
    assert run(["housekeeping", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"dry_run": False, "ended_runs": [run_id], "removed": removed}
    assert not page.exists()
    assert runs.client.get_run(run_id).info.status == "KILLED"
    assert run(["housekeeping"]) == 0
    assert "nothing to delete" in capsys.readouterr().out


def test_old_pages_and_logs_go_and_the_report_of_the_champion_stays(tmp_path: Path) -> None:
    settings = tiny_home(tmp_path, BARS, 100)
    workspace = Workspace(settings, SERIES)
    run_id = workspace.registry.version("1").run_id
    workspace.decision_log.append(
        LoggedDecision("a", datetime.now(UTC), SERIES.name, "BTC-USD", "1d", "promote", "1", None, "1", run_id=run_id)
    )
    data = tmp_path / "data"
    names = {
        f"reports/{SERIES.name}/{run_id}.html": False,
        f"reports/{SERIES.name}/old.html": True,
        f"docs/{SERIES.name}/validations/a/b/old.html": True,
        f"docs/{SERIES.name}/index.html": False,
        "logs/20260101T000000-999999999.log": True,
        f"logs/20260101T000000-{os.getpid()}.log": False,  # its process may write to it
        "logs/mlflow.log": False,  # a server's: it may have had nothing to write
        "up.password": False,
    }
    for name in names:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_text("x")
        os.utime(data / name, (time.time() - 91 * DAYS,) * 2)
    (data / "logs" / "fresh.log").write_text("x")
    found = find_removals(settings, RetentionSpec())
    assert {each.name for each in found} == {str(data / name) for name, goes in names.items() if goes}
    apply_removals(found)
    assert {name for name in names if not (data / name).exists()} == {name for name, goes in names.items() if goes}
    assert not (data / "docs" / SERIES.name / "validations").exists()  # folders that are empty go too
    assert (data / "docs").is_dir()
    assert (data / "logs" / "fresh.log").exists()

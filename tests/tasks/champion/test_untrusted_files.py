"""Files that are not those of the decision log, or lie elsewhere, are opened by no command; nothing of them is run."""

import logging
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from copied_home import repoint_registry
from home_0_1 import unpack_home
from synthetic_bars import random_walk
from tiny_home import SERIES, WINDOW, store_bars, tiny_version
from tiny_network import tiny_onnx

from model.errors import DamagedHome, UnsoundModel, UntrustedModel
from model.monitor_alarms import MonitorSpec
from model.predictor import Predictor
from model.promotion_rule import PromotionRule
from model.recipe import Recipe
from model.record import Record
from model.times import iso_text
from model.windows import cut_windows
from tasks.champion.challenger_vs_champion import GateResult, compare_with_champion
from tasks.champion.champion_monitor import monitor_champion
from tasks.champion.commit_decision import commit_decision, sync_champion_alias
from tasks.champion.promotion_by_hand import promote_by_hand
from tasks.champion.rollback import roll_back
from tasks.champion.series_alarms import series_health
from tasks.champion.shadow_spec import ShadowSpec
from tasks.champion.version_audit import audit_version
from tasks.champion.warm_start import start_weights
from tasks.pages.champion_explanation import explain_champion
from tasks.registry.model_files import ModelFiles
from tasks.registry.run_artifacts import PROBE, RECORD, log_artifacts, parquet_bytes
from tasks.repair.home_examination import examine_home, repair_home
from tasks.serving.forecast import forecast
from tasks.serving.rest_server import Champion
from tasks.settings import Settings
from tasks.store.decision_log import LoggedDecision
from tasks.workspace import Workspace

BARS = random_walk(400, seed=4)
TRAINED = 380
FORCE: dict[str, Any] = {"force": True, "reason": "a test"}
GAINS = {"1": 1.0, "2": 5.0, "3": 3.0}


def register(workspace: Workspace, gain: float) -> str:
    """Register a version as a retrain does, with everything that the gate reads."""
    run_id = workspace.runs.start_run("retrain", {})
    windows, onnx = cut_windows(BARS, WINDOW), tiny_onnx(5, gain=gain)
    known = windows.take(np.arange(TRAINED - 300, TRAINED - 5))
    decided_at, p = Predictor(onnx, WINDOW).predict(BARS)
    own = np.isin(decided_at, known.decided_at)
    record = Record(known.decided_at, known.resolved_at, known.labels, p[own], np.zeros(len(known), dtype=np.int64))
    probe = pd.DataFrame({"decided_at": decided_at[-20:], "probability": p[-20:]})
    log_artifacts(
        workspace.runs,
        run_id,
        {RECORD: parquet_bytes(record.frame().assign(base_rate=0.5)), PROBE: parquet_bytes(probe)},
    )
    files = ModelFiles(keras=b"no network", onnx=onnx, recipe=Recipe(window=WINDOW), record=record)
    tags = {"trained_until": iso_text(BARS.closed_at[TRAINED]), "recipe": f"gain {gain}"}
    return workspace.registry.register(run_id, files, BARS.frame().tail(8), tags).version


def decide(workspace: Workspace, version: str, action: Any = "promote") -> None:
    before = sync_champion_alias(workspace).number
    row = LoggedDecision(
        decision_id=f"{action} {version}", decided_at=datetime(2026, 11, 20 + int(version), tzinfo=UTC),
        series_name=SERIES.name, symbol=SERIES.symbol, interval=SERIES.interval, action=action, version=version,
        champion_before=before, champion_after=version if action == "promote" else before,
        run_id=workspace.registry.version(version).run_id,
    )  # fmt: skip
    commit_decision(workspace, row)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose version 1 was champion, whose version 2 is, and whose version 3 has no decision yet."""
    home = tmp_path_factory.mktemp("template") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for good
        workspace = Workspace(Settings(home=home, tracking_uri="", store="", public_url=""), SERIES)
        store_bars(workspace.settings, BARS)
        for gain in GAINS.values():
            register(workspace, gain)
        decide(workspace, "1")
        decide(workspace, "2")
        yield home


def folder(workspace: Workspace, version: str) -> Path:
    """Return the folder of a version's MLmodel."""
    known = workspace.runs.database.version(SERIES.name, version)
    assert known is not None
    assert known.folder is not None
    return known.folder


def replace_network(workspace: Workspace, version: str, by: str) -> None:
    """Copy another version's network over a version's."""
    name = "artifacts/network.onnx"
    shutil.copyfile(folder(workspace, by) / name, folder(workspace, version) / name)


def gate(settings: Settings) -> GateResult:
    workspace = Workspace(settings, SERIES)
    challenger, state = workspace.registry.version("3"), sync_champion_alias(workspace)
    return compare_with_champion(workspace, challenger, state, BARS, PromotionRule(), seed=7)


def warm_start(settings: Settings) -> object:
    workspace = Workspace(settings, SERIES)
    recipe = Recipe(window=WINDOW)
    warm = recipe.model_copy(update={"training": recipe.training.model_copy(update={"warm_start": True})})
    return start_weights(workspace.registry, workspace.decision_log, warm, BARS.closed_at[-1])


READERS: dict[str, tuple[str, Callable[[Settings], object]]] = {
    "predict": ("2", lambda settings: forecast(SERIES, settings)),
    "serve": ("2", lambda settings: Champion(SERIES, settings).ready()),
    "monitor": ("2", lambda settings: monitor_champion(SERIES, settings, MonitorSpec())),
    "gate, champion": ("2", gate),
    "warm start": ("2", warm_start),
    "explain": ("2", lambda settings: explain_champion(SERIES, settings)),
    "audit": ("2", lambda settings: audit_version(SERIES, settings)),
    "rollback": ("1", lambda settings: roll_back(SERIES, settings)),
    "promote": ("1", lambda settings: promote_by_hand(SERIES, settings, "1")),
    "promote --force": ("1", lambda settings: promote_by_hand(SERIES, settings, "1", **FORCE)),
}


@pytest.mark.parametrize(("version", "read"), READERS.values(), ids=READERS)
def test_a_network_copied_over_another_is_opened_by_no_command(
    version: str, read: Callable[[Settings], object], settings: Settings, workspace: Workspace
) -> None:
    ours, theirs = (
        workspace.registry.history.recorded(each).files["artifacts/network.onnx"] for each in (version, "1")
    )
    replace_network(workspace, version, by="3")
    with pytest.raises(UntrustedModel) as error:
        read(settings)
    parts = (
        f"models:/BTC-USD-1d/{version}",
        "artifacts/network.onnx",
        ours,
        "riseorfall doctor",
        "riseorfall rollback",
    )
    for part in parts:
        assert part in str(error.value)
    assert theirs  # recorded with its decision
    assert sync_champion_alias(Workspace(settings, SERIES)).number == "2"
    assert len(workspace.decision_log.rows(SERIES.name)) == 2
    assert workspace.prediction_log.read(SERIES.name).empty


def test_the_gate_leaves_out_a_past_champion_whose_files_differ_and_doctor_names_it(
    settings: Settings, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    replace_network(workspace, "1", by="3")
    with caplog.at_level(logging.WARNING):
        found = gate(settings)
    assert "past champion version 1 is no reference" in caplog.text
    assert any("left out: version 1, whose files" in reason for reason in found.reasons)
    assert "past_champions.excess_over_version_2" in found.decision.numbers
    (damaged,) = [each for each in examine_home(settings) if each.part == "BTC-USD-1d version 1"]
    assert "network.onnx differs" in damaged.problem
    assert "rollback" not in damaged.remedy


def test_an_edited_end_of_training_has_no_effect_and_doctor_corrects_it(
    settings: Settings, workspace: Workspace
) -> None:
    """The day that a version was trained until decides on which bars it is scored, and which retrain is older."""
    ended, client = workspace.registry.version("2").trained_until, workspace.runs.client
    client.set_model_version_tag(SERIES.name, "2", "metric.log_loss", "0.69")
    for number in "23":
        client.set_model_version_tag(SERIES.name, number, "trained_until", "2018-01-01T00:00:00+00:00")
    registry = Workspace(settings, SERIES).registry
    assert registry.version("2").trained_until == ended
    assert registry.version("3").trained_until == datetime(2018, 1, 1, tzinfo=UTC)  # no decision has recorded it
    before, after = (
        [each for each in found if each.part == "BTC-USD-1d version 2 (champion)"] for found in repair_home(settings)
    )
    assert f"expected {ended:%Y-%m-%d %H:%M} UTC in the tag trained_until" in before[0].problem
    assert "found 2018-01-01 00:00" in before[0].problem
    assert [each.state for each in after] == ["whole"]
    assert Workspace(settings, SERIES).registry.version("2").tags["trained_until"] == ended.isoformat()


def test_untouched_files_are_opened(settings: Settings, workspace: Workspace) -> None:
    p = Predictor(tiny_onnx(5, gain=GAINS["2"]), WINDOW).predict_last(BARS)[1]
    found = forecast(SERIES, settings).prediction
    assert (found.version, found.probability) == ("2", p)
    assert found.network == workspace.registry.history.recorded("2").files["artifacts/network.onnx"]
    assert Champion(SERIES, settings).ready().version == "2"
    gate(settings)
    assert roll_back(SERIES, settings).champion_after == "1"


@pytest.mark.parametrize(
    "path",
    ["artifacts/network.keras", "artifacts/recipe.json", "artifacts/record.parquet", "MLmodel", "pyfunc_model.py"],
)
def test_every_file_counts(path: str, settings: Settings, workspace: Workspace) -> None:
    with (folder(workspace, "2") / path).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(UntrustedModel, match=path.replace(".", r"\.")):
        forecast(SERIES, settings)


def test_status_check_and_doctor_name_a_file_that_differs(settings: Settings, workspace: Workspace) -> None:
    expected = workspace.registry.history.recorded("2").files["artifacts/network.onnx"]
    assert not any("SHA-256" in alarm for alarm in series_health(SERIES, settings)["alarms"])
    replace_network(workspace, "2", by="3")
    assert sum(expected in alarm for alarm in series_health(SERIES, settings)["alarms"]) == 1
    (found,) = [each for each in examine_home(settings) if each.part == "BTC-USD-1d version 2 (champion)"]
    assert expected in found.problem


def test_a_file_added_to_the_code_of_a_version_counts(settings: Settings, workspace: Workspace) -> None:
    (folder(workspace, "2") / "code" / "json.py").write_text("planted = True\n")
    with pytest.raises(UntrustedModel, match="code/ differs from the file of its decision"):
        forecast(SERIES, settings)


def test_a_file_replaced_while_a_command_runs_is_not_read(settings: Settings) -> None:
    workspace = Workspace(settings, SERIES)
    loaded = workspace.registry.read_version("2")
    replace_network(workspace, "2", by="3")
    with pytest.raises(UntrustedModel, match=r"network\.onnx"):
        loaded.predictor()


def test_a_shadow_whose_files_differ_is_left_out_and_the_champion_predicts(
    settings: Settings, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    replace_network(workspace, "1", by="3")
    with caplog.at_level(logging.WARNING):
        found = forecast(SERIES, settings, shadows=ShadowSpec(versions=3))
    assert found.prediction.version == "2"
    assert [each.version for each in found.shadows] == ["3"]
    assert "no shadow predictions of version 1" in caplog.text


def recreate(workspace: Workspace, number: int, source: Path, run_id: str | None = None) -> None:
    """Make a version anew through MLflow's interface, as anybody may who can write to the registry."""
    client = workspace.runs.client
    client.delete_registered_model(SERIES.name)
    client.create_registered_model(SERIES.name)
    for each in range(1, number + 1):
        tags = {"trained_until": iso_text(BARS.closed_at[TRAINED])}
        made = client.create_model_version(SERIES.name, source.as_uri(), run_id, tags=tags)
        assert int(made.version) == each
    client.set_registered_model_alias(SERIES.name, "champion", str(number))


def foreign(workspace: Workspace, elsewhere: Path, ran: Path) -> Path:
    """Copy version 3 to a folder outside the home, with Python files that leave a mark when they are run."""
    shutil.copytree(folder(workspace, "3"), elsewhere)
    plant(elsewhere, ran)
    return elsewhere


def plant(target: Path, ran: Path) -> None:
    """Replace the Python files of a version by one that leaves a mark when it is run."""
    code = f"from pathlib import Path\nPath({str(ran)!r}).touch()\n"
    path, archive = target / "pyfunc_model.py", target / "code" / "model.zip"
    path.write_text(code + path.read_text())
    with zipfile.ZipFile(archive) as stored:
        modules = {name: stored.read(name).decode() for name in stored.namelist()}
    with zipfile.ZipFile(archive, "w") as written:
        for name, text in modules.items():
            written.writestr(name, code + text if name == "model/predictor.py" else text)


def test_a_champion_made_anew_from_a_foreign_folder_is_refused(
    settings: Settings, workspace: Workspace, tmp_path: Path
) -> None:
    recreate(workspace, 2, foreign(workspace, tmp_path / "foreign", tmp_path / "ran"))
    for read in (
        lambda: forecast(SERIES, settings),
        lambda: Champion(SERIES, settings).ready(),
        lambda: monitor_champion(SERIES, settings, MonitorSpec()),
        lambda: promote_by_hand(SERIES, settings, "1", **FORCE),
    ):
        with pytest.raises(UntrustedModel, match="its files lie outside the artifact store") as error:
            read()
        assert str(tmp_path / "foreign") in str(error.value)
    assert not (tmp_path / "ran").exists()
    assert sync_champion_alias(Workspace(settings, SERIES)).number == "2"


def test_a_champion_made_anew_from_another_version_of_the_home_is_refused(
    settings: Settings, workspace: Workspace
) -> None:
    recreate(workspace, 2, folder(workspace, "3"))
    with pytest.raises(UntrustedModel, match="differs from the file of its decision"):
        forecast(SERIES, settings)


def test_no_python_file_of_a_version_is_run(settings: Settings, workspace: Workspace, tmp_path: Path) -> None:
    plant(folder(workspace, "3"), tmp_path / "ran")  # it has no decision yet
    assert promote_by_hand(SERIES, settings, "3", **FORCE).champion_after == "3"
    assert forecast(SERIES, settings).prediction.version == "3"
    assert not (tmp_path / "ran").exists()
    workspace.runs.set_global_uri()
    mlflow.pyfunc.load_model(f"models:/{SERIES.name}/3")  # MLflow's own loader does run it
    assert (tmp_path / "ran").exists()


def test_an_alias_moved_in_mlflow_is_not_served(settings: Settings, workspace: Workspace) -> None:
    workspace.registry.set_alias("champion", "3")
    assert Champion(SERIES, settings).ready().version == "2"


def test_mlflows_own_loader_refuses_a_file_that_differs_from_its_mlmodel(workspace: Workspace) -> None:
    workspace.runs.set_global_uri()
    served = mlflow.pyfunc.load_model(f"models:/{SERIES.name}/2").predict(BARS.frame().tail(5))
    assert served["probability"].tolist() == [Predictor(tiny_onnx(5, gain=5.0), WINDOW).predict_last(BARS)[1]]
    replace_network(workspace, "2", by="3")
    with pytest.raises(Exception, match=r"network\.onnx: expected SHA-256") as error:
        mlflow.pyfunc.load_model(f"models:/{SERIES.name}/2")
    assert type(error.value).__name__ == "UntrustedModel"


def lose_the_registry(home: Path, target: Path) -> Settings:
    """Copy a home and lose its registry, before MLflow has opened it: it keeps databases open."""
    shutil.copytree(home, target)
    (target / "mlruns" / "mlflow.db").unlink()
    return Settings(home=target, tracking_uri="", store="", public_url="")


def test_a_rebuilt_registry_uses_no_number_again(settings: Settings, tmp_path: Path) -> None:
    old = forecast(SERIES, settings).prediction
    rebuilt = lose_the_registry(settings.root, tmp_path / "rebuilt")
    with pytest.raises(DamagedHome, match=r"mlflow\.db"):
        forecast(SERIES, rebuilt)
    mlflow.MlflowClient(tracking_uri=rebuilt.mlflow_uri).search_experiments()  # as `mlflow ui` does: an empty database
    with pytest.raises(UnsoundModel, match="lost champion version 2"):
        forecast(SERIES, rebuilt)
    workspace = Workspace(rebuilt, SERIES)
    assert register(workspace, 9.0) == "4"  # decisions name 1 and 2, a shadow prediction 3
    decide(workspace, "4")
    found = forecast(SERIES, rebuilt).prediction
    assert (found.version, found.decided_at) == ("4", old.decided_at)
    assert found.probability == Predictor(tiny_onnx(5, gain=9.0), WINDOW).predict_last(BARS)[1] != old.probability
    assert register(workspace, 8.0) == "5"


@pytest.mark.e2e
def test_numbers_of_a_series_without_decisions_are_not_used_again_either(settings: Settings, tmp_path: Path) -> None:
    forecast(SERIES, settings)
    rebuilt = lose_the_registry(settings.root, tmp_path / "rebuilt")
    shutil.rmtree(rebuilt.root / "data" / "tables" / "ledger")
    assert tiny_version(Workspace(rebuilt, SERIES), BARS, TRAINED) == "4"  # version 3 is a shadow


def test_a_stored_prediction_of_another_network_is_not_returned(settings: Settings, workspace: Workspace) -> None:
    """As long as nothing was decided the alias counts, and the stored predictions name their network."""
    shutil.rmtree(settings.root / "data" / "tables" / "ledger")
    workspace.decision_log.tables[0].create()
    forecast(SERIES, settings)
    replace_network(workspace, "2", by="1")
    with pytest.raises(UntrustedModel, match="an earlier network with the same version number"):
        forecast(SERIES, settings)


@pytest.fixture
def home_0_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Settings(home=unpack_home(tmp_path / "home_0_1"), tracking_uri="", store="", public_url="")


def test_a_champion_of_version_0_1_is_accepted_and_recorded_with_the_next_decision(
    home_0_1: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = Workspace(home_0_1, SERIES)
    network = folder(workspace, "1") / "artifacts" / "network.onnx"
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            workspace.registry.read_version("1").predictor()
    assert caplog.text.count("its files are not verified until the next decision") == 1
    (first,) = workspace.decision_log.rows(SERIES.name)
    assert first.files == {}
    held = replace(first, decision_id="next", action="hold", champion_before="1")
    commit_decision(workspace, held)
    assert "artifacts/network.onnx" in workspace.decision_log.rows(SERIES.name)[-1].files["1"]
    network.write_bytes(tiny_onnx(30))
    with pytest.raises(UntrustedModel):
        Workspace(home_0_1, SERIES).registry.read_version("1")


def test_a_version_of_0_1_made_anew_is_refused(home_0_1: Settings) -> None:
    workspace = Workspace(home_0_1, SERIES)
    source, other = folder(workspace, "1"), workspace.runs.start_run("other", {})
    recreate(workspace, 1, source, other)
    with pytest.raises(UntrustedModel, match="this version number now belongs to another network"):
        forecast(SERIES, home_0_1)


def test_a_copy_of_a_home_does_not_read_the_files_of_the_original(settings: Settings, tmp_path: Path) -> None:
    shutil.copytree(settings.root, tmp_path / "copy")
    copy = Settings(home=tmp_path / "copy", tracking_uri="", store="", public_url="")
    with pytest.raises(UntrustedModel, match="outside the artifact store"):
        forecast(SERIES, copy)
    repoint_registry(copy.root, settings.root)
    assert forecast(SERIES, copy).prediction.version == "2"

"""What a person finds in MLflow: names that say what happened, descriptions, a view, scores tied to their bars."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from copied_home import copy_home
from mlflow.entities import LoggedModelStatus
from synthetic_bars import random_walk
from tiny_home import SERIES, tiny_home, tiny_version

from model.bars import Bars, Series
from tasks.champion.challenger_decision import log_decision
from tasks.champion.commit_decision import commit_decision
from tasks.registry.experiment_page import COLUMNS, NAME_COLUMN, NOTE_TAG, VIEW_TAG, decision_tags, experiment_path
from tasks.registry.experiment_runs import ExperimentRuns, Measured
from tasks.registry.metric_names import CURVES
from tasks.registry.mlflow_run_names import decided_name
from tasks.registry.model_files import ModelFiles
from tasks.registry.model_registry import Version
from tasks.settings import Settings
from tasks.store.decision_log import LoggedDecision
from tasks.workspace import Workspace

BARS = random_walk(120, seed=3)
AT = datetime(2019, 10, 17, 5, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose champion is version 1."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield tiny_home(tmp_path_factory.mktemp("template") / "home", BARS, 100).home


@pytest.fixture
def settings(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("RISEORFALL_MLFLOW_URL", raising=False)
    return Settings(home=copy_home(template, tmp_path / "home"), tracking_uri="", store="", public_url="")


def experiment(runs: ExperimentRuns) -> dict[str, str]:
    return dict(runs.client.get_experiment(runs.experiment_id()).tags)


def description(workspace: Workspace, version: str) -> str:
    return workspace.registry.client.get_model_version(SERIES.name, version).description or ""


@pytest.mark.parametrize(
    ("purpose", "begin"), [("retrain", "Retrains of BTC-USD 1d"), ("replay", "Replay of"), ("tune", "Search for")]
)
def test_each_kind_of_experiment_has_a_description_and_a_view_of_its_own(
    settings: Settings, purpose: str, begin: str
) -> None:
    tags = experiment(Workspace(settings, SERIES, f"a-{purpose}", purpose).runs)
    assert tags[NOTE_TAG].startswith(begin)
    assert tags["purpose"] == purpose
    view = json.loads(tags[VIEW_TAG])
    assert (view["orderByKey"], view["orderByAsc"]) == ("attributes.start_time", False)
    assert view["selectedColumns"] == list(COLUMNS[purpose])
    assert view["columnWidths"].keys() == set(view["columnOrder"]) > set(view["selectedColumns"])
    assert len(tags[VIEW_TAG]) < 5000  # MLflow's limit


def test_the_scores_of_a_retrain_and_its_champion_are_whole_in_a_window_of_1280_pixels() -> None:
    shown = NAME_COLUMN | dict(list(COLUMNS["retrain"].items())[:4])
    assert [each for each in shown if "metrics." in each or "champion_after" in each] == list(shown)[2:]
    assert sum(shown.values()) <= 1026 - 73  # pixels of the table, without its boxes to select runs


def test_training_and_validation_are_overlaid_in_one_chart_of_the_view(settings: Settings) -> None:
    view = json.loads(experiment(Workspace(settings, SERIES).runs)[VIEW_TAG])
    overlaid = [chart["selectedMetricKeys"] for chart in view["compareRunCharts"]]
    assert ["train/log_loss", "train/validation_log_loss"] in overlaid
    assert {name for names in overlaid for name in names} <= set(CURVES.values())


def test_the_experiment_of_version_0_1_gets_its_page_with_the_next_run_and_a_persons_text_stays(
    settings: Settings,
) -> None:
    runs = Workspace(settings, SERIES, "older").runs
    runs.client.create_experiment("older", tags={NOTE_TAG: "Retrains of BTC-USD 1d. A parent run is one retrain"})
    assert VIEW_TAG not in experiment(runs)
    runs.start_run("retrain", {})
    renewed = experiment(runs)
    assert "its child runs are the folds" in renewed[NOTE_TAG]
    assert "headline" in renewed[VIEW_TAG]
    runs.client.set_experiment_tag(runs.experiment_id(), NOTE_TAG, "Our notes")
    runs.start_run("retrain", {})
    assert experiment(runs)[NOTE_TAG] == "Our notes"


@pytest.mark.parametrize(
    ("moment", "action", "name"),
    [
        (datetime(2019, 10, 17, tzinfo=UTC), "promote", "2019-10-17 v3 promoted"),
        (datetime(2019, 10, 17, 5, tzinfo=UTC), "hold", "2019-10-17 05:00 v3 held"),
        (datetime(2019, 10, 17, tzinfo=UTC), "reject", "2019-10-17 v3 rejected"),
        (datetime(2019, 10, 17, tzinfo=UTC), "unchanged", "2019-10-17 v3 unchanged"),
    ],
)
def test_the_name_of_a_run_says_what_happened(moment: datetime, action: str, name: str) -> None:
    assert decided_name(moment, "3", action) == name


def test_a_panel_shows_label_and_inputs_of_its_runs(settings: Settings) -> None:
    """Runs of both labels are in one table."""
    assert decided_name(datetime(2026, 1, 3, tzinfo=UTC), "3", "promote", "rank") == "2026-01-03 v3 rank promoted"
    tags = experiment(Workspace(settings, Series("PANEL", "1d")).runs)
    shown = json.loads(tags[VIEW_TAG])["selectedColumns"]
    assert shown == ["params.`panel.label`", "params.`panel.inputs`", *COLUMNS["retrain"]]
    assert "`rank` (the return is above the median of the other series" in tags[NOTE_TAG]
    assert "panel.label" not in str(experiment(Workspace(settings, SERIES).runs))


@pytest.mark.parametrize(("interval", "closes"), [("1d", "2020-01-02T00:00"), ("1h", "2020-01-01T01:00")])
def test_bars_are_known_as_of_the_close_of_the_newest(settings: Settings, interval: str, closes: str) -> None:
    frame = random_walk(3).frame().iloc[:1].assign(timestamp=datetime(2020, 1, 1, tzinfo=UTC))
    store, series = Workspace(settings).bar_store, Series("ETH-USD", interval)
    store.merge(series, frame, {}, merged_at=AT)
    assert store.ref(series).closed_at == datetime.fromisoformat(f"{closes}+00:00")


def promoted(workspace: Workspace, bars: Bars) -> tuple[LoggedDecision, Version]:
    """Register version 2 and promote it in place of version 1."""
    number = tiny_version(workspace, bars, 110)
    version = workspace.registry.version(number)
    version = replace(version, metrics={"log_loss": 0.6912})
    row = LoggedDecision(
        decision_id=version.run_id, decided_at=AT, series_name=SERIES.name, symbol=SERIES.symbol,
        interval=SERIES.interval, action="promote", version=number, champion_before="1", champion_after=number,
        reasons=("not significantly worse", "passes"), marks=("passed", ""),
        numbers={"champion.difference": -0.002}, run_id=version.run_id,
    )  # fmt: skip
    commit_decision(workspace, row, smoke_test=lambda _workspace, _version: None)
    return row, version


def test_a_decision_names_its_run_and_is_described_on_both_versions_once(workspace: Workspace) -> None:
    row, version = promoted(workspace, BARS)
    for _ in range(2):  # a retry logs it again
        log_decision(workspace, row, version, datetime(2019, 10, 17, tzinfo=UTC))
    run = workspace.runs.client.get_run(row.run_id)
    assert run.info.run_name == "2019-10-17 v2 promoted"
    assert run.data.metrics == {"headline/promoted": 1.0, "headline/vs_champion": -0.002,
                                "promotion/champion_difference": -0.002}  # fmt: skip
    names = ("decision", "version", "champion_before", "champion_after")
    assert {name: run.data.tags[name] for name in names} == decision_tags(row)
    assert [run.data.tags[name] for name in names] == ["promote", "2", "version 1", "version 2"]
    assert set(names) - {"version"} <= {each.split("`")[1] for each in COLUMNS["retrain"]}
    assert "champion" not in run.data.tags  # before or after the decision? nobody knew
    note = description(workspace, "2")
    assert note.startswith("promoted on 2019-10-17 05:30 UTC\n\n- passed: not significantly worse\n- passes\n")
    assert "Out of sample: log loss 0.6912." in note
    assert description(workspace, "1") == "2019-10-17 05:30 UTC: replaced as champion by version 2"


def test_an_outdated_description_of_the_model_is_corrected_and_a_persons_stays(workspace: Workspace) -> None:
    client, older = workspace.registry.client, "bars in. `champion` predicts; `challenger` was registered last. Each"

    def note() -> str:
        return str(client.get_registered_model(SERIES.name).description)

    client.update_registered_model(SERIES.name, description=older)
    workspace.registry.ensure_registered_model()
    assert "registered last" not in note()
    assert "`challenger` is the newest version that waits for its decision, or that was held" in note()
    assert "the close at the horizon is higher (`window.horizon_bars` of the version's run" in note()
    former = f"P(rise) of the next close of {SERIES.symbol} 1d: bars in, one probability for each bar that ends. Ours."
    for present, expected in ((former, "that ends. Ours."), ("ours", "ours")):
        client.update_registered_model(SERIES.name, description=present)
        workspace.registry.ensure_registered_model()
        assert note().endswith(expected)
        assert "next close of" not in note()


def test_a_run_that_is_logged_after_its_work_began_with_it(workspace: Workspace) -> None:
    began = datetime.now(UTC) - timedelta(seconds=90)
    run_id = workspace.runs.start_run("fold 1 of 2", {}, started_at=began)
    workspace.runs.finish_run(run_id)
    found = workspace.runs.client.get_run(run_id).info
    assert found.start_time == int(began.timestamp() * 1000)
    assert 90_000 <= found.end_time - found.start_time < 150_000


def test_the_scores_of_a_logged_model_are_tied_to_the_bars_that_they_were_measured_on(workspace: Workspace) -> None:
    loaded = workspace.registry.read_version("1")
    files = ModelFiles(loaded.keras(), loaded.onnx(), loaded.recipe(), loaded.record())
    run_id = workspace.runs.start_run("retrain", {})
    origin = {"mlflow.user": "somebody", "mlflow.source.name": "flows/retrain.py", "symbol": "BTC-USD"}
    workspace.runs.log_values(run_id, {"headline/log_loss": 0.68}, {"epochs": 3}, origin, {"train/log_loss": [0.7]})
    tags = {"trained_until": "2019-10-17T00:00:00+00:00"}
    ref = workspace.bar_store.ref(SERIES)
    workspace.runs.log_bars(run_id, ref, "test", "2019-01-01 to 2019-10-17")
    dataset = workspace.runs.dataset_of(ref, "test", "2019-01-01 to 2019-10-17")
    measured = Measured({"test/log_loss": 0.69, "test/mcc": float("nan")}, *dataset)
    version = workspace.registry.register(run_id, files, BARS.frame().tail(8), tags, "2019-10-17", measured)
    client = workspace.runs.client
    (model,) = client.search_logged_models([workspace.runs.experiment_id()])  # version 1 is none: see add_version
    assert model.name == "2019-10-17"
    assert model.status == LoggedModelStatus.READY
    assert model.params == {"epochs": "3"}
    assert {name: model.tags.get(name) for name in (*origin, "mlflow.modelVersions")} == origin | {
        "symbol": None, "mlflow.modelVersions": '[{"name": "BTC-USD-1d", "version": "2"}]',
    }  # fmt: skip
    assert {(each.key, each.value, each.dataset_name, each.dataset_digest) for each in model.metrics} == {
        ("headline/log_loss", 0.68, None, None),  # of the run, without its curves
        ("test/log_loss", 0.69, *dataset),
    }
    assert version == workspace.registry.version("2")
    assert version.tags == tags
    run = client.get_run(run_id)
    assert [each.model_id for each in run.outputs.model_outputs] == [model.model_id]
    assert run.data.params == {"epochs": "3"}
    assert dataset == ("BTC-USD-1d bars v1, test 2019-01-01 to 2019-10-17", ref.sha256[:12])
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == dataset
    assert json.loads(used.dataset.profile)["sha256"] == ref.sha256


def test_links_open_the_runs_and_our_columns(workspace: Workspace) -> None:
    number = workspace.runs.experiment_id()
    assert workspace.runs.experiment_link() == f"http://127.0.0.1:5000/{experiment_path(number)}"
    assert experiment_path("7").startswith("#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=")
    assert workspace.runs.run_link("abc").endswith(f"#/experiments/{number}/runs/abc?workflowType=machine_learning")

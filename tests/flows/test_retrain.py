"""The whole flow on the sample, with the real Prefect, MLflow, Great Expectations and TensorFlow."""

import io
import json
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import ArtifactSort
from sklearn import metrics as sklearn_metrics

from flows.cli import run
from flows.lift_hold import lift_hold
from flows.retrain import retrain
from flows.rollback import rollback
from model.bars import Series, bars_from_frame
from model.baselines import BASELINES
from model.errors import BarsTooShort, ChecksFailed, NoChampion
from model.folds import FoldSpec
from model.forecaster_names import POLICY_NAMES
from model.metrics import METRICS
from model.network_files import network_from_bytes
from model.training import TrainingSpec
from tasks.champion.promotion_by_hand import promote_by_hand
from tasks.champion.series_status import series_status
from tasks.console.command_output import show_retrain
from tasks.console.status_tables import show_status
from tasks.pages.number_format import p_value_text
from tasks.registry.experiment_runs import ExperimentRuns
from tasks.registry.run_artifacts import POLICIES, read_evaluation, read_validation
from tasks.results import Retrain, Unchanged
from tasks.serving.forecast import forecast
from tasks.settings import Settings
from tasks.sources.source_spec import SourceSpec, open_source
from tasks.store.bar_store import BarStore
from tasks.workspace import Workspace

SERIES = Series("BTC-USD", "1d")
TEST_WINDOWS, FOLDS = 240, 2
QUICK = {"folds": FoldSpec(test_bars=240, count=2), "training": TrainingSpec(epochs=2)}  # of the fixtures


@pytest.fixture
def workspace(home: Path) -> Workspace:  # noqa: ARG001 - the settings name it
    return Workspace(Settings(), SERIES)


@pytest.fixture
def store() -> BarStore:
    return Workspace(Settings()).bar_store


def test_the_sample_gives_the_counts_computed_by_hand(first: Retrain) -> None:
    # 1770 rows; the last day is unfinished; the low of 0.06 is refused; that and 12 missing days make two gaps,
    # so three stretches lose 29 bars each to the lookback and one each to the label.
    assert (first.landing.rows, first.landing.unfinished) == (1769, 1)
    assert first.checked.refused_by == {"absurd_tick": 1}
    assert (first.stored.merge.added, first.stored.ref.rows) == (1768, 1768)
    assert (first.windows.windows, first.windows.resolved) == (1768 - 3 * 29, 1768 - 3 * 30)


def test_the_record_holds_the_newest_windows_with_their_actual_outcomes(first: Retrain, workspace: Workspace) -> None:
    frame = _artifact(workspace.runs, first.run_id, "evaluation/record.parquet")
    sample = open_source(SourceSpec()).fetch().frame.set_index("timestamp")["close"]
    day = pd.Timedelta(days=1)
    rises = [int(sample[at] > sample[at - day]) for at in frame["resolved_at"] - day]  # the bar that closed then
    assert frame["label"].tolist() == rises
    assert len(frame) == TEST_WINDOWS
    assert frame["fold"].value_counts().to_dict() == {0: TEST_WINDOWS // FOLDS, 1: TEST_WINDOWS // FOLDS}
    assert frame["resolved_at"].max() == pd.Timestamp("2019-10-17", tz="UTC")


def test_the_logged_numbers_are_those_of_scikit_learn(first: Retrain, workspace: Workspace) -> None:
    frame = _artifact(workspace.runs, first.run_id, "evaluation/record.parquet")
    logged = workspace.runs.client.get_run(first.run_id).data.metrics
    for prefix, column in [("test/", "probability"), *((f"baseline/{name}_", name) for name in BASELINES)]:
        given = frame[column]
        assert logged[f"{prefix}log_loss"] == pytest.approx(sklearn_metrics.log_loss(frame["label"], given))
        assert logged[f"{prefix}accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(frame["label"], given > 0.5))
    label, given = frame["label"], frame["probability"]
    assert logged["test/brier_score"] == pytest.approx(sklearn_metrics.brier_score_loss(label, given))
    assert logged["test/roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(label, given))
    stored = json.loads(workspace.runs.read_file(first.run_id, "evaluation/numbers.json"))
    assert set(stored) == {"network", *BASELINES}
    assert all(set(numbers) == set(METRICS) for numbers in stored.values())
    for name in METRICS:
        value, low, high = stored["network"][name]
        assert low <= value <= high
        assert value == logged[f"test/{name}"]
    assert len(logged) < 60
    assert len([name for name in logged if name.startswith("headline/")]) <= 12
    assert not [name for name in logged if "/" not in name]


def test_opinions_are_those_of_the_stored_folds(first: Retrain, workspace: Workspace) -> None:
    """The share by a plain loop over the stored probabilities; moves from the closes of the sample."""
    runs, stored = workspace.runs, json.loads(workspace.runs.read_file(first.run_id, "evaluation/details.json"))
    record = _artifact(runs, first.run_id, "evaluation/record.parquet")
    folds = runs.client.search_runs([runs.experiment_id()], f"tags.`mlflow.parentRunId` = '{first.run_id}'")
    level, opinions = 0.1, []
    for fold in sorted(folds, key=lambda run: run.data.tags["fold"]):
        seen = [abs(p - 0.5) for p in _artifact(runs, fold.info.run_id, "validation.parquet")["probability"]]
        for p in _artifact(runs, fold.info.run_id, "record.parquet")["probability"]:
            recent = seen[-500:]
            rank = (1 + sum(each >= abs(p - 0.5) for each in recent)) / (1 + len(recent))
            opinions.append(rank <= level)
            level += 0.02 * (0.1 - opinions[-1])
            seen.append(abs(p - 0.5))
    held = record[opinions]
    sample = open_source(SourceSpec()).fetch().frame.set_index("timestamp")["close"]
    day, up = pd.Timedelta(days=1), np.where(held["probability"] > 0.5, 1, -1)
    before, after = (sample[times - day].to_numpy() for times in (held["decided_at"], held["resolved_at"]))
    found = stored["abstention"]["share"]
    assert found["opinions"] == len(held) > 0
    assert found["accuracy"] == pytest.approx(((held["probability"] > 0.5) == held["label"]).mean())
    assert found["move_bps"] == pytest.approx((up * (after / before - 1)).mean() * 1e4)
    assert found["guaranteed_low"] <= found["share"] <= found["guaranteed_high"]
    numbers = json.loads(runs.read_file(first.run_id, "evaluation/numbers.json"))["network"]
    for name in ("log_loss", "accuracy"):  # one number, one interval
        assert [stored["abstention"]["all"][f"{name}{end}"] for end in ("", "_low", "_high")] == numbers[name]
    assert stored["abstention"]["coverage"]["coverage"] >= stored["abstention"]["coverage"]["guaranteed_low"]
    assert runs.client.get_run(first.run_id).data.params["abstention.opinion_share"] == "0.1"
    assert "share of 10%" in Path(first.report).read_text(encoding="utf-8")


def test_every_policy_is_in_the_run_and_in_the_report(first: Retrain, workspace: Workspace) -> None:
    stored = json.loads(workspace.runs.read_file(first.run_id, POLICIES))
    theirs = [f"{policy}_by_{name}" for name in ("gradient_boosting", "reversal_1_bar") for policy in POLICY_NAMES]
    assert list(stored["policies"]) == [*POLICY_NAMES, *theirs]
    metrics = workspace.runs.client.get_run(first.run_id).data.metrics
    for name in ("gradient_boosting", "reversal_1_bar"):
        figures = stored["policies"][f"sign_by_{name}"]["figures"]
        for figure in ("net_return", "sharpe", "break_even_bps"):
            assert metrics[f"trading/{name}_{figure}"] == figures[figure]
    assert (stored["trading"]["policy"], stored["tried"]) == ("sign", 3)
    traded = first.evaluation.trading["long_flat"]
    sign = stored["policies"]["sign"]
    assert all(sign["figures"][name] == traded[name] for name in traded if name != "deflated_sharpe")
    assert sign["net_by_cost"][15] == pytest.approx(traded["net_return"])
    record, _ = read_evaluation(workspace.runs, first.run_id)
    validation = read_validation(workspace.runs, first.run_id)
    assert [set(each.fold) for each in validation] == [{fold} for fold in np.unique(record.fold)]
    for each in validation:
        assert each.resolved_at[-1] < record.decided_at[record.fold == each.fold[0]][0]
    assert len(stored["policies"]["threshold"]["bands"]) == len(validation)
    assert "Policies, long or flat" in Path(first.report).read_text(encoding="utf-8")


@pytest.mark.e2e
def test_report_status_mlflow_and_terminal_count_the_same_looks(
    both: tuple[Retrain, Retrain], workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    second = both[1]
    run = workspace.runs.client.get_run(second.run_id).data
    text = second.evaluation.looks.evidence(second.evaluation.skill.holm_adjusted()["pesaran_timmermann"])
    assert text.startswith("these test bars were scored 2 times, with 1 recipe; Pesaran-Timmermann p = ")
    assert run.tags["looks"] == text
    assert (run.metrics["test/looks"], run.metrics["test/recipes_tried"]) == (2, 1)
    corrected = second.evaluation.corrected()["pesaran_timmermann"]
    assert run.metrics["headline/p_value"] == pytest.approx(corrected)
    deflated = second.evaluation.trading["long_flat"]["deflated_sharpe"]
    assert run.metrics["trading/long_flat_deflated_sharpe"] == pytest.approx(deflated)
    assert 0 <= deflated <= 1
    page = Path(second.report).read_text(encoding="utf-8")
    assert "These test bars were scored 2 times, with 1 recipe." in page
    assert f"corrected {p_value_text(corrected)}" in page
    show_retrain(second, {}, Settings(), Path("log"))
    shown = capsys.readouterr().out
    show_status(series_status(SERIES, Settings()))
    status = capsys.readouterr().out
    assert text in " ".join(shown.split())
    assert text in " ".join(status.split())


def test_a_retrain_leaves_under_a_megabyte(first: Retrain, workspace: Workspace) -> None:
    version = workspace.registry.read_version(first.version.version).folder.parent
    run = workspace.runs.local_folder(first.run_id)
    assert run is not None
    sizes = [path.stat().st_size for folder in (run, version) for path in folder.rglob("*") if path.is_file()]
    assert sum(sizes) < 750_000  # before: 1.7 million; the page shares the report's place (test_written_pages.py)


def test_the_run_holds_params_metrics_tags_and_pictures(first: Retrain, workspace: Workspace) -> None:
    run = workspace.runs.client.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["window.lookback_bars"] == "30"
    assert run.data.params["training.epochs"] == "2"
    assert {"symbol", "interval", "source.kind", "promotion.trading.cost_bps"} <= run.data.params.keys()
    assert not {"source.symbol", "source.interval", "trading.cost_bps"} & run.data.params.keys()
    assert {"decision", "recipe", "seed", "device", "trigger", "flow_run"} <= run.data.tags.keys()
    assert run.info.run_name == "2019-10-17 v1 promoted"
    assert (run.data.tags["champion_before"], run.data.tags["champion_after"]) == ("none", "version 1")
    limit = first.promotion.numbers["final_network.limit"]
    assert 0 < run.data.metrics["promotion/final_network_disagreement"] <= limit
    assert "the final network agrees with the fold networks (mean divergence " in run.data.tags["reasons"]
    used = {each.tags[0].value: each.dataset for each in run.inputs.dataset_inputs}
    assert {each.digest for each in used.values()} == {first.stored.ref.sha256[:12]}
    assert used["training"].name == "BTC-USD-1d bars v1"
    assert used["test"].name == f"BTC-USD-1d bars v1, test {first.evaluation.span}"
    (model,) = workspace.runs.client.search_logged_models([run.info.experiment_id])
    assert model.name == "2019-10-17"
    tied = {each.key: each for each in model.metrics if each.dataset_name}
    assert {each.dataset_name for each in tied.values()} == {used["test"].name}
    assert {name: each.value for name, each in tied.items()} == {
        f"test/{name}": run.data.metrics[f"test/{name}"] for name in METRICS
    }
    pictures = {each.path for each in workspace.runs.client.list_artifacts(first.run_id, "pictures")}
    assert pictures >= {
        f"pictures/{name}.svg" for name in ("learning_curves", "confusion_matrix", "probabilities", "reliability")
    }
    children = workspace.runs.client.search_runs(
        [run.info.experiment_id], f"tags.mlflow.parentRunId = '{first.run_id}'", order_by=["start_time ASC"]
    )
    assert sorted(child.data.tags["fold"] for child in children) == ["1", "2"]  # they run side by side
    for child in children:
        curve = workspace.runs.client.get_metric_history(child.info.run_id, "train/validation_log_loss")
        assert [point.step for point in curve] == [1, 2]
        assert {name.split("/")[0] for name in child.data.metrics} == {"test", "train", "train_kept_epoch"}
        kept = int(child.data.params["best_epoch"])
        assert child.data.metrics["train_kept_epoch/number"] == kept == min(curve, key=lambda point: point.value).step
        assert child.data.metrics["train_kept_epoch/validation_log_loss"] == curve[kept - 1].value
        assert curve[0].timestamp - child.info.start_time > 100  # ms: the run began with the fit, which is logged later
        assert [epoch.number for epoch in workspace.runs.read_curves(child.info.run_id)] == [1, 2]


def test_the_first_model_that_passes_the_sanity_check_becomes_champion(first: Retrain) -> None:
    assert first.promotion.action == "promote"
    assert (first.promotion.champion_before, first.promotion.champion_after) == (None, "1")
    assert any("no champion" in reason for reason in first.promotion.reasons)


def test_the_registered_model_predicts_as_its_keras_network(first: Retrain, workspace: Workspace) -> None:
    loaded = workspace.registry.read_version(first.version.version)
    files = [path for path in loaded.folder.parent.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in {".pkl", ".pickle", ".joblib"}]
    bars = open_source(SourceSpec()).fetch().frame.tail(120)
    workspace.runs.set_global_uri()
    served = mlflow.pyfunc.load_model(f"models:/{SERIES.name}/{first.version.version}").predict(bars)
    network = network_from_bytes(loaded.keras())
    values = bars_from_frame(bars, "1d").ohlcv[:, :4]
    windows = np.stack([values[end - 30 : end] for end in range(30, 121)])
    expected = np.asarray(network(windows))[:, 0]
    np.testing.assert_allclose(served["probability"], expected, atol=1e-5)
    assert served["decided_at"].iloc[-1] == "2019-10-18T00:00:00Z"


@pytest.mark.e2e
def test_a_second_retrain_adds_no_bar_and_is_compared_with_the_first(both: tuple[Retrain, Retrain]) -> None:
    first, second = both
    assert (second.stored.merge.added, second.stored.merge.revised) == (0, 0)
    assert replace(second.stored.ref, uri=first.stored.ref.uri) == first.stored.ref  # the home was copied in between
    assert second.version.version == "2"
    assert second.promotion.champion_before == "1"
    assert second.promotion.numbers["champion.n"] == TEST_WINDOWS
    rows = Workspace(Settings()).decision_log.rows(SERIES.name)
    assert [(row.version, row.action) for row in rows[:2]] == [("1", "promote"), ("2", "hold")]


@pytest.mark.e2e
def test_the_same_network_again_is_not_promoted(both: tuple[Retrain, Retrain]) -> None:
    promotion = both[1].promotion
    assert promotion.numbers["champion.difference"] == 0
    assert (promotion.action, promotion.champion_after) == ("hold", "1")
    assert promotion.reasons[0].startswith("the same network as champion version 1")


@pytest.mark.e2e
def test_the_same_bars_recipe_and_seed_give_the_same_probabilities(
    both: tuple[Retrain, Retrain], workspace: Workspace
) -> None:
    probabilities = [_artifact(workspace.runs, run.run_id, "evaluation/record.parquet")["probability"] for run in both]
    np.testing.assert_array_equal(*probabilities)


@pytest.mark.e2e  # a whole retrain more; the rule is tested on bars
def test_as_of_a_past_day_no_later_bar_is_used(first: Retrain) -> None:
    past = retrain(
        folds=FoldSpec(test_bars=240, count=2), training=TrainingSpec(epochs=1), as_of=pd.Timestamp("2019-09-01")
    )
    assert past.stored.ref.rows < first.stored.ref.rows
    assert past.stored.ref.last == pd.Timestamp("2019-08-31", tz="UTC")
    assert past.final.trained_until == "2019-09-01T00:00:00+00:00"
    assert past.evaluation.last == "2019-08-31T00:00:00Z"


def test_bad_bars_stop_the_run_and_change_nothing(
    first: Retrain, workspace: Workspace, store: BarStore, tmp_path: Path
) -> None:
    assert first.version.version == "1"
    frame = open_source(SourceSpec()).fetch().frame.head(400)
    frame.loc[200, "close"] = -1.0
    path = tmp_path / "bad.csv"
    frame.to_csv(path, index=False)
    champion, version = workspace.registry.champion().version, store.ref(SERIES).version
    with pytest.raises(ChecksFailed, match=r"-1.*2015-06-19"):
        retrain(source=SourceSpec(kind="csv", path=str(path)), training=TrainingSpec(epochs=1))
    assert workspace.registry.champion().version == champion
    assert store.ref(SERIES).version == version
    refused = store.read_quarantine(SERIES)
    assert "unreal_price" in set(refused["rule"])
    latest = workspace.runs.client.search_runs(
        [workspace.runs.experiment_id()], order_by=["start_time DESC"], max_results=1
    )[0]
    assert latest.info.status == "FAILED"
    assert "ChecksFailed" in latest.data.tags["failure"]
    assert latest.data.tags["mlflow.note.content"] == f"Not finished: {latest.data.tags['failure']}"


def test_too_few_bars_for_the_folds_is_an_error_that_names_the_remedy(first: Retrain) -> None:  # noqa: ARG001 - the registry is in use
    with pytest.raises(BarsTooShort, match=r"--folds\.test-bars") as failure:
        retrain(folds=FoldSpec(test_bars=1650, count=2))
    # 1,650 to test, 1 purged, 36 to train and validate; a window of 30 bars, and the bar of the last outcome
    assert str(failure.value).startswith(
        "BTC-USD 1d: 1768 bars are stored, and this recipe needs at least 1717 without a"
    )


def test_a_prediction_is_stored_once_before_its_outcome(first: Retrain) -> None:  # noqa: ARG001 - there is a champion
    asked = [forecast(SERIES, Settings(), now=pd.Timestamp("2019-10-17 00:05", tz="UTC")) for _ in range(2)]
    assert asked[0] == asked[1]
    assert (asked[0].to_dict()["decided_at"], asked[0].to_dict()["resolves_at"]) == (
        "2019-10-17T00:00:00+00:00",
        "2019-10-18T00:00:00+00:00",
    )
    stored = Workspace(Settings()).prediction_log.read(SERIES.name, (asked[0].prediction.version,))
    assert stored["probability"].tolist() == [asked[0].prediction.probability]
    assert not stored["late"].any()


def newest_artifact() -> str:
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(limit=1, sort=ArtifactSort.CREATED_DESC)
    assert found[0].key == "decision"
    return str(found[0].data)


@pytest.mark.e2e
def test_rollback_restores_the_former_champion(both: tuple[Retrain, Retrain], workspace: Workspace) -> None:
    forced = ("promote", "--version", both[1].version.version, "--force", "--reason", "so that there is a former one")
    assert run(forced) == 0
    assert "# Promoted: version 2 of BTC-USD-1d" in newest_artifact()
    before = workspace.registry.champion().version
    former = rollback(reason="the test says so").champion_after
    assert (before, former) == ("2", "1")
    assert workspace.registry.champion().version == former
    row = Workspace(Settings()).decision_log.rows(SERIES.name)[-1]
    assert (row.action, row.champion_before, row.champion_after) == ("rollback", before, former)
    assert row.reasons[0] == "the test says so"
    assert "# Restored: version 1 of BTC-USD-1d" in newest_artifact()
    assert lift_hold("BTC-USD", "1d", reason="the bars were wrong").champion_after == "1"
    assert Workspace(Settings()).decision_log.rows(SERIES.name)[-1].action == "lift"


@pytest.mark.e2e  # a whole retrain more; tests/tasks/champion/test_recipe_hold.py has the gate
def test_a_retrain_after_a_rollback_is_held_until_a_person_lifts_the_hold(
    both: tuple[Retrain, Retrain], workspace: Workspace
) -> None:
    promote_by_hand(SERIES, Settings(), both[1].version.version, force=True, reason="so that there is a former one")
    rollback(reason="strange probabilities")
    assert isinstance(retrain(**QUICK), Unchanged)  # version 2 was held against version 1, which is champion again
    held = retrain(**QUICK, force=True)
    assert isinstance(held, Retrain)
    assert (held.promotion.action, held.promotion.champion_after) == ("hold", "1")
    assert "recipe of version 2 " in held.promotion.reasons[0]
    assert "recipe of version 2 " in Path(held.report).read_text(encoding="utf-8")
    assert workspace.registry.champion().version == "1"


def test_a_prediction_without_a_champion_is_an_error_that_names_the_remedy(home: Path) -> None:  # noqa: ARG001 - the home's registry
    with pytest.raises(NoChampion, match="riseorfall retrain"):
        forecast(Series("ETH-USD", "1d"), Settings())


def _artifact(runs: ExperimentRuns, run_id: str, path: str) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(runs.read_file(run_id, path)))

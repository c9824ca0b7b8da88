"""Champion and challenger are compared on bars that neither learned from; what is broken is told and gives way."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_bars import random_walk
from tiny_network import tiny_onnx

from model.bars import Series
from model.errors import StoreUnavailable, UnsoundModel
from model.predictor import Predictor
from model.promotion_rule import PromotionRule
from model.recipe import Recipe
from model.record import Record
from model.training import TrainingSpec
from model.windows import WindowSpec, cut_windows
from tasks.champion.challenger_vs_champion import champion_record, compare_with_champion
from tasks.champion.commit_decision import ChampionState
from tasks.champion.registered_network import check_registered_network
from tasks.registry.experiment_runs import ExperimentRuns
from tasks.registry.model_files import LoadedVersion, ModelFiles
from tasks.registry.model_registry import ModelRegistry, Version
from tasks.registry.run_artifacts import FOLD_NETWORKS, RECORD, parquet_bytes
from tasks.settings import Settings
from tasks.workspace import Workspace

SERIES = Series("BTC-USD", "1d")
SPEC = WindowSpec(lookback_bars=5)
BARS = random_walk(400, seed=3)
WINDOWS = cut_windows(BARS, SPEC).resolved()
NEWEST = WINDOWS.take(np.arange(len(WINDOWS) - 250, len(WINDOWS)))
RULE, RECIPE = PromotionRule(), Recipe(window=SPEC)
ONNX = {"1": tiny_onnx(5, gain=2.0), "2": tiny_onnx(5, gain=3.0), "3": tiny_onnx(5, gain=60.0)}
UNTIL = {"1": 200, "2": 350, "3": 399}  # windows whose outcome each version knew


def says(version: str) -> np.ndarray:
    """Return what a version's network says of the newest windows."""
    _, probabilities = Predictor(ONNX[version], SPEC).predict(BARS)
    return probabilities[: len(WINDOWS)][-len(NEWEST) :]


def record(probabilities: np.ndarray) -> Record:
    return Record(
        NEWEST.decided_at, NEWEST.resolved_at, NEWEST.labels, probabilities, np.zeros(len(NEWEST), dtype=np.int64)
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with three versions: two quiet ones, the third far too loud."""
    home = tmp_path_factory.mktemp("template") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for good
        settings = Settings(home=home, tracking_uri="", store="")
        workspace = Workspace(settings, SERIES)
        for version, onnx in ONNX.items():
            add(workspace, record(says(version)), onnx, version)
        yield home


def add(workspace: Workspace, own: Record, onnx: bytes, until: str, recipe: Recipe = RECIPE) -> Version:
    """Register a version with a record, trained as long as another one."""
    run_id = workspace.runs.start_run("retrain", {})
    frame = own.frame().assign(base_rate=0.5)
    workspace.runs.log_files(run_id, {"record.parquet": parquet_bytes(frame)}, "evaluation")
    decided_at, probabilities = Predictor(onnx, SPEC).predict(BARS)
    probe = pd.DataFrame({"decided_at": decided_at[-20:], "probability": probabilities[-20:]})
    workspace.runs.log_files(run_id, {"probe.parquet": parquet_bytes(probe)}, "network")
    files = ModelFiles(keras=b"not asked for", onnx=onnx, recipe=recipe, record=own)
    tags = {"trained_until": str(BARS.closed_at[UNTIL[until]]) + "+00:00", "recipe": recipe.digest}
    return workspace.registry.add_version(run_id, files, tags)


def state(workspace: Workspace, version: str) -> ChampionState:
    return ChampionState(version, workspace.registry.version(version))


def broken(workspace: Workspace, version: str, name: str = "network.onnx") -> Version:
    (workspace.registry.read_version(version).folder / name).write_bytes(b"junk")
    return workspace.registry.version(version)


def test_a_registered_version_reproduces_the_probabilities_of_training(
    workspace: Workspace, settings: Settings
) -> None:
    found = check_registered_network(workspace, workspace.registry.version("2"), BARS).sanity_check
    assert found.passed
    folder = settings.root / "mlruns" / "artifacts" / SERIES.name / workspace.registry.version("2").run_id
    (folder / "artifacts" / "network" / "probe.parquet").write_bytes(_shifted_probe())
    assert not check_registered_network(workspace, workspace.registry.version("2"), BARS).sanity_check.reloads_equal


def _shifted_probe() -> bytes:
    _, probabilities = Predictor(ONNX["2"], SPEC).predict(BARS)
    decided_at = cut_windows(BARS, SPEC).decided_at
    return parquet_bytes(pd.DataFrame({"decided_at": decided_at[-20:], "probability": probabilities[-20:] + 2e-5}))


def test_too_little_memory_is_no_broken_version(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Predictor, "run", full)
    with pytest.raises(StoreUnavailable, match="MemoryError"):
        check_registered_network(workspace, workspace.registry.version("2"), BARS)
    monkeypatch.undo()
    monkeypatch.setattr("tasks.champion.challenger_vs_champion.read_evaluation", full)
    (workspace.registry.read_version("1").folder / "network.onnx").write_bytes(b"junk")
    champion = ChampionState("1", workspace.registry.version("1"))
    with pytest.raises(StoreUnavailable, match="MemoryError"):
        champion_record(workspace, champion, BARS, workspace.registry.read_version("2").record())


def test_the_champion_is_scored_by_its_own_record_and_then_by_its_predictions(workspace: Workspace) -> None:
    own = record(np.full(len(NEWEST), 0.25)).take(np.arange(40))
    later = record(says("2")).take(np.arange(100, len(NEWEST))).with_probabilities(NEWEST.decided_at, says("1"))
    assert (later.decided_at == NEWEST.decided_at[100:]).all()
    both = own.extended_by(later)
    assert (both.probabilities == np.concatenate([np.full(40, 0.25), says("1")[100:]])).all()
    found = champion_record(workspace, state(workspace, "1"), BARS, record(says("2")))
    assert found.problem == ""
    assert found.record is not None
    assert found.record.probabilities == pytest.approx(says("1"), abs=1e-7)


@pytest.mark.parametrize("name", ["network.onnx", "recipe.json", "record.parquet"])
def test_a_broken_champion_is_reported_scored_by_its_run_and_replaced(
    name: str, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    champion = ChampionState("1", broken(workspace, "1", name))
    with caplog.at_level(logging.ERROR):
        found = compare_with_champion(workspace, workspace.registry.version("2"), champion, BARS, RULE, seed=7)
    assert found.decision.action == "promote"
    assert found.decision.numbers["champion.n"] == len(NEWEST)
    assert "champion version 1 cannot be loaded" in found.reasons[0]
    assert "scored by the record of its run" in caplog.text


def test_a_challenger_that_the_rule_would_hold_still_replaces_a_broken_champion(workspace: Workspace) -> None:
    whole = compare_with_champion(workspace, workspace.registry.version("3"), state(workspace, "1"), BARS, RULE, seed=7)
    assert whole.decision.action == "hold"
    champion = ChampionState("1", broken(workspace, "1"))
    found = compare_with_champion(workspace, workspace.registry.version("3"), champion, BARS, RULE, seed=7)
    assert found.decision.action == "promote"
    assert "the champion cannot predict any more" in found.reasons[1]
    assert found.decision.numbers == whole.decision.numbers  # its stored record and its predictions agree here


def with_good_record(workspace: Workspace, folds: int) -> Version:
    """Return version 3, whose final network is far too bold, with a record and fold networks of bold moderation."""
    challenger, fold = workspace.registry.version("3"), np.repeat(np.arange(folds), len(NEWEST) // folds)
    networks = np.stack([says("2") if number % 2 else says("1") for number in range(folds)])
    kept = replace(record(networks[fold, np.arange(len(fold))]), fold=fold.astype(np.int64))
    known = pd.DataFrame(np.where(fold > np.arange(folds)[:, None], np.nan, networks).T)
    folder = workspace.settings.root / "mlruns" / "artifacts" / SERIES.name / challenger.run_id / "artifacts"
    # Not through MLflow, which remembers where a run's artifacts were before the home was copied.
    (folder / RECORD).write_bytes(parquet_bytes(kept.frame().assign(base_rate=0.5)))
    (folder / FOLD_NETWORKS).write_bytes(parquet_bytes(known.rename(columns=str)))
    return challenger


def test_a_bad_final_network_with_a_good_record_is_held(workspace: Workspace) -> None:
    challenger, later = with_good_record(workspace, folds=5), says("3")
    happened = np.where(NEWEST.labels == 1, later, 1 - later)
    assert -np.log(happened).mean() > 1.0  # what it would serve
    found = compare_with_champion(workspace, challenger, state(workspace, "1"), BARS, RULE, seed=7)
    assert found.decision.action == "hold"
    assert found.reasons[0].startswith("the final network disagrees with the fold networks (mean divergence ")
    clauses = {clause.name: clause for clause in found.decision.clauses}
    assert [name for name, clause in clauses.items() if not clause.passed] == ["final_network"]
    q, p = later, np.where(np.arange(250) // 50 % 2, says("2"), says("1"))
    expected = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    assert found.decision.numbers["final_network.disagreement"] == pytest.approx(expected, rel=1e-5)
    assert found.decision.numbers["final_network.limit"] == 0.01


def test_a_bad_final_network_does_not_replace_a_broken_champion(workspace: Workspace) -> None:
    challenger, champion = with_good_record(workspace, folds=5), ChampionState("1", broken(workspace, "1"))
    found = compare_with_champion(workspace, challenger, champion, BARS, RULE, seed=7)
    assert (found.decision.action, found.problem != "") == ("hold", True)
    assert found.reasons[0].startswith("the final network disagrees with the fold networks")
    assert (found.reasons[1], found.marks[:2]) == (found.problem, ("failed", ""))


def test_a_final_network_that_cannot_be_checked_is_reported(workspace: Workspace) -> None:
    challenger = workspace.registry.version("2")
    of_0_1 = compare_with_champion(workspace, challenger, state(workspace, "1"), BARS, RULE, seed=7)
    assert any("the final network is not checked: its run has no file" in reason for reason in of_0_1.reasons)
    one = compare_with_champion(workspace, with_good_record(workspace, 1), state(workspace, "1"), BARS, RULE, seed=7)
    assert any("not checked: the recipe has one fold" in reason for reason in one.reasons)
    assert one.decision.action == of_0_1.decision.action == "promote"


@pytest.mark.parametrize("rule", [PromotionRule(), PromotionRule(kind="strict")])
def test_versions_that_predict_different_outcomes_are_not_paired(rule: PromotionRule, workspace: Workspace) -> None:
    folder = workspace.registry.read_version("1").folder
    other = Recipe(window=SPEC.model_copy(update={"horizon_bars": 5}))
    (folder / "recipe.json").write_text(other.model_dump_json(), encoding="utf-8")
    champion = state(workspace, "1")
    found = compare_with_champion(workspace, workspace.registry.version("2"), champion, BARS, rule, seed=7)
    clause = {each.name: each for each in found.decision.clauses}["champion"]
    assert "the challenger predicts 1 bars ahead, the champion 5" in clause.reason
    assert (clause.numbers["horizon_bars"], clause.numbers["champion_horizon_bars"]) == (1, 5)
    assert clause.passed == (rule.kind == "strict")  # the champion of a random walk has no skill to lose
    assert found.decision.action == "hold"


@pytest.mark.parametrize(
    ("owner", "name"), [(ModelRegistry, "read_version"), (ExperimentRuns, "read_file"), (LoadedVersion, "record")]
)
def test_a_store_that_does_not_answer_decides_nothing(
    owner: type, name: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion, challenger = state(workspace, "1"), workspace.registry.version("3")

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("expected the artifact store to answer, found: connection refused")

    monkeypatch.setattr(owner, name, away)
    with pytest.raises(StoreUnavailable):
        compare_with_champion(workspace, challenger, champion, BARS, RULE, seed=7)


def test_a_connection_error_is_no_missing_file(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = workspace.registry.version("1").run_id
    with pytest.raises(UnsoundModel, match=r"nothing\.bin"):
        workspace.runs.read_file(run_id, "nothing.bin")

    def refused(*_: object) -> None:
        raise ConnectionError("connection refused")

    monkeypatch.setattr(type(workspace.runs.database), "run_folder", lambda *_: None)  # the store is another machine
    monkeypatch.setattr(workspace.runs.client, "download_artifacts", refused)
    with pytest.raises(StoreUnavailable, match="connection refused"):
        workspace.runs.read_file(run_id, "network/probe.parquet")


def test_a_champion_without_files_and_record_is_replaced(workspace: Workspace) -> None:
    lost = ChampionState("9", None, "the registry has lost champion version 9")
    found = compare_with_champion(workspace, workspace.registry.version("2"), lost, BARS, RULE, seed=7)
    assert found.decision.action == "promote"
    assert "its record is lost too" in found.problem


@pytest.mark.parametrize("name", ["network.onnx", "recipe.json"])
def test_a_broken_challenger_is_rejected_with_the_reason(name: str, workspace: Workspace) -> None:
    for champion in (state(workspace, "1"), ChampionState("1", broken(workspace, "1"))):
        found = compare_with_champion(workspace, broken(workspace, "2", name), champion, BARS, RULE, seed=7)
        assert found.decision.action == "reject"
        assert found.reasons[0].startswith("sanity check: its registered files cannot be loaded (")
        assert f"{name} cannot be" in found.reasons[0]
        assert found.reasons[1:] == ((found.problem,) if found.problem else ())  # of the champion: it did not decide
        assert len(found.marks) == len(found.reasons)


def test_champion_and_challenger_swapped_flip_the_decision(workspace: Workspace) -> None:
    held = compare_with_champion(workspace, workspace.registry.version("3"), state(workspace, "2"), BARS, RULE, seed=7)
    quiet = add(workspace, record(says("2")), ONNX["2"], "3")
    promoted = compare_with_champion(workspace, quiet, state(workspace, "3"), BARS, RULE, seed=7)
    assert (held.decision.action, promoted.decision.action) == ("hold", "promote")


def test_a_challenger_whose_training_bars_end_before_the_champions_is_held(workspace: Workspace) -> None:
    """A retrain of an earlier day, or of an old file: it may share no decision with the champion."""
    older, newer = (workspace.registry.version(number) for number in ("1", "2"))
    assert older.trained_until < newer.trained_until
    found = compare_with_champion(workspace, older, state(workspace, "2"), BARS, RULE, seed=7)
    assert (found.decision.action, found.marks[0]) == ("hold", "held")
    assert found.reasons[0].startswith(
        f"its training bars end {older.trained_until:%Y-%m-%d %H:%M} UTC, before those of"
    )
    broken(workspace, "2")
    assert (
        compare_with_champion(workspace, older, state(workspace, "2"), BARS, RULE, seed=7).decision.action == "promote"
    )


@pytest.mark.parametrize(
    ("own", "onnx", "until", "action"),
    [("1", "1", "1", "hold"), ("2", "1", "1", "hold"), ("1", "2", "1", "promote"), ("1", "1", "2", "promote")],
    ids=["the same", "other folds", "another final network", "trained longer"],
)
def test_only_the_same_network_again_is_held(
    own: str, onnx: str, until: str, action: str, workspace: Workspace
) -> None:
    challenger = add(workspace, record(says(own)), ONNX[onnx], until)
    found = compare_with_champion(workspace, challenger, state(workspace, "1"), BARS, RULE, seed=7)
    assert found.decision.action == action
    assert any("the same network as champion version 1" in reason for reason in found.reasons) is (action == "hold")


def test_the_same_network_of_another_recipe_is_held(workspace: Workspace) -> None:
    other = Recipe(window=SPEC, training=TrainingSpec(epochs=500))
    assert other.digest != RECIPE.digest
    challenger = add(workspace, record(says("1")), ONNX["1"], "1", other)
    found = compare_with_champion(workspace, challenger, state(workspace, "1"), BARS, RULE, seed=7)
    assert found.decision.action == "hold"
    assert found.reasons[0] == (
        "the same network as champion version 1, so there is nothing to promote: "
        "equal probabilities, trained until the same bar"
    )

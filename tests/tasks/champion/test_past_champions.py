"""The anchor: a chain of promotions ends near the best of what has been champion; live predictions are what is read."""

import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_bars import random_walk
from tiny_home import SERIES, WINDOW, tiny_home, tiny_version

from model.best_past_champion import AnchorRule, calibration_slope_bound
from model.promotion_rule import Clause, PromotionRule
from model.record import Record
from model.times import to_datetime, to_datetime64
from model.windows import cut_windows
from tasks.champion.challenger_vs_champion import GateResult, compare_with_champion
from tasks.champion.commit_decision import ChampionState, sync_champion_alias
from tasks.champion.out_of_sample_record import live_record, out_of_sample_record
from tasks.champion.past_champions import candidates, compare_with_references
from tasks.champion.series_status import series_status
from tasks.champion.shadow_spec import ShadowSpec
from tasks.champion.shadow_versions import shadow_versions
from tasks.console.status_tables import show_status
from tasks.registry.model_registry import Version
from tasks.registry.run_artifacts import PROBE, RECORD, log_artifacts, parquet_bytes
from tasks.store.decision_log import LoggedDecision, reference_versions
from tasks.store.prediction_log import Prediction, new_prediction
from tasks.workspace import Workspace

BARS = random_walk(500, seed=3)
RULE = PromotionRule()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("template") / "home"
    tiny_home(home, BARS, 400, gain=1.0)
    return home


def challenger(workspace: Workspace, gain: float, trained_bars: int = 400) -> Version:
    """Register a version with everything that the gate reads."""
    version = workspace.registry.version(tiny_version(workspace, BARS, trained_bars, gain=gain))
    loaded = workspace.registry.read_version(version.version)
    decided_at, p = loaded.predictor().predict(BARS)
    probe = pd.DataFrame({"decided_at": decided_at[-20:], "probability": p[-20:]})
    files = {RECORD: parquet_bytes(loaded.record().frame().assign(base_rate=0.5)), PROBE: parquet_bytes(probe)}
    log_artifacts(workspace.runs, version.run_id, files)
    return version


def log_row(workspace: Workspace, version: str, action: str = "promote", **named: object) -> None:
    rows = workspace.decision_log.rows(SERIES.name)
    before = rows[-1].champion_after if rows else None
    row = LoggedDecision(
        decision_id=f"{version}-{len(rows)}", decided_at=to_datetime(BARS.closed_at[400 + len(rows)]),
        series_name=SERIES.name, symbol=SERIES.symbol, interval=SERIES.interval, action="promote", version=version,
        champion_before=before, champion_after=version if action == "promote" else before, reasons=("test",),
        numbers={}, bars_version=0, bars_sha256="", rule="daily",
    )  # fmt: skip
    workspace.decision_log.append_if_current(replace(row, action=action, **named))  # type: ignore[arg-type]


def decide(workspace: Workspace, version: Version) -> GateResult:
    return compare_with_champion(workspace, version, sync_champion_alias(workspace), BARS, RULE, seed=7)


def boldness(workspace: Workspace, version: str) -> float:
    """Return the expected excess over one half of a forecaster without skill."""
    p = workspace.registry.read_version(version).record().probabilities
    return float((-0.5 * np.log(4 * p * (1 - p))).mean())


@pytest.mark.e2e
def test_a_chain_of_bolder_and_bolder_champions_is_stopped(workspace: Workspace) -> None:
    log_row(workspace, "1")
    promoted, before = ["1"], workspace.registry.version("1")
    for gain in (2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0):
        version = challenger(workspace, gain)
        # As in 0.1: the only opponent is the version before, and the whole chain is promoted.
        step = compare_with_champion(workspace, version, ChampionState(before.version, before), BARS, RULE, seed=7)
        assert {clause.name for clause in step.decision.clauses if not clause.passed} <= {"past_champions"}
        found = decide(workspace, version)
        log_row(workspace, version.version, found.decision.action, numbers=found.decision.numbers)
        if found.decision.action == "promote":
            promoted.append(version.version)
        before = version
    excess = {number: boldness(workspace, number) - boldness(workspace, "1") for number in map(str, range(1, 9))}
    assert excess["8"] > 0.01
    assert len(promoted) > 1
    assert max(excess[number] for number in promoted) <= 0.008
    last = workspace.decision_log.rows(SERIES.name)[-1]
    assert last.action == "hold"
    compared = {name.rpartition("_")[2] for name in last.numbers if name.startswith("past_champions.excess_over_")}
    assert compared == set(promoted)
    assert last.numbers["past_champions.excess_over_version_1"] == pytest.approx(excess["8"], abs=2e-4)
    found = decide(workspace, workspace.registry.version("8"))
    assert "vs. past champion version 1 on 300 decisions: upper estimate +0." in found.reasons[0]
    assert "above the limit of 0.008 vs. any past champion" in found.reasons[0]
    assert "the outcomes do not show that this lowers the log loss" in found.reasons[0]


@pytest.mark.parametrize(("gone", "passed"), [(0, False), (9, True)])
def test_evidence_of_being_worse_is_corrected_for_past_champions_that_are_gone(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, gone: int, *, passed: bool
) -> None:
    """2.1 standard errors are evidence against one champion (1.64 at 5 %), not against the best of ten (2.58)."""
    for number in range(gone):
        log_row(workspace, f"90{number}")
    log_row(workspace, "1")
    record = workspace.registry.read_version("1").record()
    record = replace(record, probabilities=np.where(record.labels == 1, 0.3, 0.7))

    def compare(rule: AnchorRule) -> Clause:
        monkeypatch.setattr("tasks.champion.past_champions.AnchorRule", lambda: rule)
        return compare_with_references(workspace, record, np.full(len(record), 0.5), WINDOW.horizon_bars, BARS)

    numbers = compare(AnchorRule()).numbers
    tolerance = numbers["difference"] - 2.1 * numbers["standard_error"]
    found = compare(AnchorRule(budget=1.0, tolerance=tolerance))
    assert found.passed == passed
    assert ("significantly worse" in found.reason) != passed


def test_the_first_version_has_no_past_champion(workspace: Workspace) -> None:
    workspace.registry.drop_alias("champion")
    found = decide(workspace, challenger(workspace, 2.0))
    assert "there is no past champion of this horizon to compare with" in found.reasons


def test_a_reference_that_is_broken_or_predicts_another_outcome_is_left_out(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    for number in ("1", challenger(workspace, 1.1).version, challenger(workspace, 1.2).version):
        log_row(workspace, number)
    folders = [workspace.registry.read_version(number).folder for number in ("1", "2")]
    (folders[0] / "network.onnx").write_bytes(b"junk")
    recipe = workspace.registry.read_version("2").recipe()
    longer = recipe.model_copy(update={"window": WINDOW.model_copy(update={"horizon_bars": 5})})
    (folders[1] / "recipe.json").write_text(longer.model_dump_json(), encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        found = decide(workspace, challenger(workspace, 1.3))
    named = {name for name in found.decision.numbers if "excess_over_version" in name}
    assert named == {"past_champions.excess_over_version_3"}
    assert "past champion version 1 is no reference" in caplog.text
    why = "left out: version 1, whose files are damaged or not the recorded ones (`riseorfall doctor`)"
    assert any(why in reason for reason in found.reasons)


def test_a_reference_that_was_left_out_is_one_again_when_it_is_restored(workspace: Workspace) -> None:
    for number in ("1", challenger(workspace, 1.1).version):
        log_row(workspace, number)
    network = workspace.registry.read_version("1").folder / "network.onnx"
    content = network.read_bytes()
    network.write_bytes(b"junk")
    version = challenger(workspace, 1.2)
    found = decide(workspace, version)
    log_row(workspace, version.version, numbers=found.decision.numbers)
    assert candidates(workspace.decision_log.rows(SERIES.name)) == ["1", "2", "3"]
    network.write_bytes(content)
    again = decide(workspace, challenger(workspace, 1.3))
    assert "past_champions.excess_over_version_1" in again.decision.numbers
    assert not any("left out" in reason for reason in again.reasons)


def test_with_every_past_champion_left_out_the_decision_names_them(workspace: Workspace) -> None:
    for number in ("1", challenger(workspace, 1.1).version):
        log_row(workspace, number)
        (workspace.registry.read_version(number).folder / "network.onnx").write_bytes(b"junk")
    found = decide(workspace, challenger(workspace, 1.2))
    assert any("to compare with; left out: versions 1, 2, whose files" in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("gain", "trained_bars", "past"),
    [
        (1.2, 400, "2"),
        pytest.param(1.1, 400, "", marks=pytest.mark.e2e),
        pytest.param(1.2, 380, "", marks=pytest.mark.e2e),
    ],
)
def test_the_network_of_a_past_champion_is_named_as_such(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], gain: float, trained_bars: int, past: str
) -> None:
    past_champions = (challenger(workspace, theirs, trained_bars).version for theirs in (1.2, 2.0))
    for number in ("1", *past_champions):
        log_row(workspace, number)
    version = challenger(workspace, gain)
    found = decide(workspace, version)
    assert found.decision.action == "promote"
    again = "the same network as past champion version 2: equal probabilities, trained until the same bar"
    assert (found.reasons[0] == again) is (past == "2")
    assert len(found.reasons) - len(found.decision.marks) == (past == "2")
    log_row(workspace, version.version, numbers=found.decision.numbers)
    status = series_status(SERIES, workspace.settings)
    assert status["champion"]["same_network_as"] == (past or None)
    show_status(status)
    shown = " ".join(capsys.readouterr().out.split())
    assert ("champion version 4 (the same network as past champion version 2), trained" in shown) is (past == "2")


def live(
    version: str, moment: np.datetime64, probability: float, late: bool = False, horizon: int = 1, network: str = ""
) -> Prediction:
    stored_at = to_datetime(moment) + (timedelta(days=9) if late else timedelta(minutes=5))
    return new_prediction(SERIES.name, SERIES, horizon, moment, version, probability, stored_at, network)


def all_decisions() -> Record:
    """Return every resolved window of the bars as a decision."""
    found = cut_windows(BARS, WINDOW).resolved()
    nothing = np.full(len(found), 0.5), np.zeros(len(found), dtype=np.int64)
    return Record(found.decided_at, found.resolved_at, found.labels, *nothing)


def test_no_version_is_scored_on_bars_that_it_was_trained_on(workspace: Workspace) -> None:
    """Its record covers 300 of the 395 windows that it was trained on; of the others it has no score."""
    version, decisions = workspace.registry.version("1"), all_decisions()
    loaded, trained_until = workspace.registry.read_version("1"), to_datetime64(version.trained_until)
    own = loaded.record()
    found = out_of_sample_record(workspace, version, loaded, BARS, decisions)
    assert ((decisions.decided_at < trained_until).sum(), len(own)) == (395, 300)
    assert found.decided_at[:300].tolist() == own.decided_at.tolist()
    assert found.probabilities[:300].tolist() == own.probabilities.tolist()
    assert found.decided_at[300:].tolist() == decisions.decided_at[395:].tolist()
    assert found.decided_at[300] == trained_until


def test_a_stored_prediction_of_another_network_of_the_same_number_is_not_read(workspace: Workspace) -> None:
    loaded, decisions = workspace.registry.read_version("1"), all_decisions()
    theirs, ours = decisions.decided_at[-2:]
    workspace.shadow_log.store_all(
        [live("1", theirs, 0.77, network="ab" * 32), live("1", ours, 0.66, network=loaded.network_sha256)]
    )
    found = live_record(workspace, "1", loaded.network_sha256, decisions)
    assert (found.decided_at.tolist(), found.probabilities.tolist()) == ([ours.item()], [0.66])


def test_the_calibration_slope_is_that_of_what_was_served_before_the_record_and_of_the_record(
    workspace: Workspace,
) -> None:
    version, decisions = challenger(workspace, 1.1), all_decisions()
    record = workspace.registry.read_version(version.version).record()
    first = int(np.searchsorted(decisions.decided_at, record.decided_at[0]))
    served = np.where((decisions.labels == 1) ^ (np.arange(len(decisions)) % 3 == 0), 0.53, 0.47)  # two thirds right
    served = served[: first + 100]  # a hundred of them within the record
    workspace.prediction_log.store_all(
        [live("1", moment, float(p)) for moment, p in zip(decisions.decided_at[: first + 100], served, strict=True)]
    )
    log_row(workspace, "1")
    found = decide(workspace, version).decision.numbers["past_champions.calibration_slope"]
    labels = np.concatenate([decisions.labels[:first], record.labels])
    history = np.concatenate([served[:first], record.probabilities])
    assert found == pytest.approx(calibration_slope_bound(labels, 0.5, history, AnchorRule()))
    assert 0 < found < 0.5


def test_live_predictions_are_what_is_read_after_the_training(workspace: Workspace) -> None:
    windows = cut_windows(BARS, WINDOW).resolved()
    newest = windows.take(np.arange(len(windows) - 150, len(windows)))  # the last 99 are later than the training
    fold = np.zeros(len(newest), dtype=np.int64)
    decisions = Record(newest.decided_at, newest.resolved_at, newest.labels, np.full(150, 0.5), fold)
    a, b, c, d, e = newest.decided_at[-5:]
    workspace.prediction_log.store_all([live("1", a, 0.11), live("2", e, 0.66)])
    workspace.shadow_log.store_all(
        [live("1", b, 0.22), live("1", c, 0.33, late=True), live("1", d, 0.44, horizon=5), live("1", a, 0.99)]
    )
    loaded = workspace.registry.read_version("1")
    found = out_of_sample_record(workspace, workspace.registry.version("1"), loaded, BARS, decisions)
    decided_at, p = loaded.predictor().predict(BARS)
    computed = dict(zip(decided_at.tolist(), p.tolist(), strict=True))
    assert (np.diff(found.decided_at) > np.timedelta64(0)).all()
    assert set(newest.decided_at.tolist()) <= set(found.decided_at.tolist())
    assert found.probabilities[-5] in (0.11, 0.99)  # both were stored in time; the first stored of equals
    assert found.probabilities[-4] == 0.22
    for moment, probability in zip(found.decided_at[-3:], found.probabilities[-3:], strict=True):
        assert probability == pytest.approx(computed[moment.item()], abs=1e-7)  # late, another outcome, not its own


def test_a_champion_that_was_rolled_back_is_no_reference(workspace: Workspace) -> None:
    for number in ("1", "2", "3"):
        log_row(workspace, number)
    assert candidates(workspace.decision_log.rows(SERIES.name)) == ["1", "2", "3"]
    log_row(workspace, "2", "rollback", champion_after="2")
    assert candidates(workspace.decision_log.rows(SERIES.name)) == ["1", "2"]
    log_row(workspace, "3")  # promoted again by a person: it stands
    assert candidates(workspace.decision_log.rows(SERIES.name)) == ["1", "2", "3"]


def test_the_decision_log_names_the_references_and_their_shadows_go_on(workspace: Workspace) -> None:
    versions = ["1", *(challenger(workspace, 1.0).version for _ in range(4))]
    for number in versions[:4]:
        log_row(workspace, number)
    rows = workspace.decision_log.rows(SERIES.name)
    assert candidates(rows) == ["1", "2", "3", "4"]
    kept = {"past_champions.excess_over_version_1": 0.0, "past_champions.excess_over_version_4": 0.0}
    log_row(workspace, "5", "promote", numbers=kept)
    log_row(workspace, "4", "promote")  # back again, without a comparison: a rollback
    rows = workspace.decision_log.rows(SERIES.name)
    assert reference_versions(rows) == {"1", "4"}
    assert candidates(rows) == ["1", "4", "5"]
    log_row(workspace, "6", "hold", numbers={"past_champions.excess_over_version_5": 0.0})  # an experiment on few bars
    assert candidates(workspace.decision_log.rows(SERIES.name)) == ["1", "4", "5"]
    assert shadow_versions(workspace.registry, rows, ShadowSpec(versions=2)) == ["5", "4", "1"]

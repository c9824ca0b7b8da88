"""A decision is one commit: whatever crashes, races or breaks, ledger and alias agree and the champion can serve."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import requests
from running_up import PATIENCE_SECONDS
from synthetic_bars import random_walk
from synthetic_records import coin_labels, daily_record, loud_forecast
from tiny_network import tiny_onnx

from model.bars import Series
from model.errors import NoChampion, NoSuchVersion, SpecError, StoreUnavailable, UnsoundModel, UntrustedModel
from model.recipe import Recipe
from model.windows import WindowSpec
from tasks.champion.commit_decision import commit_decision, sync_champion_alias, timeline_steps
from tasks.champion.promotion_by_hand import promote_by_hand
from tasks.champion.rollback import roll_back
from tasks.champion.series_status import series_status
from tasks.champion.smoke_test import load_as_served
from tasks.registry.model_files import LoadedVersion, ModelFiles
from tasks.registry.model_registry import ModelRegistry
from tasks.settings import Settings
from tasks.store.decision_log import ChampionChanged, DecisionLog, LoggedDecision
from tasks.workspace import Workspace

SERIES = Series("BTC-USD", "1d")
RECIPE = Recipe(window=WindowSpec(lookback_bars=5))
LABELS = coin_labels(200, seed=1)
RECORD = daily_record(LABELS, loud_forecast(LABELS, seed=2, spread=0.02))
UNTIL = "2018-10-28T00:00:00+00:00"
VERSIONS = 3


def files(gain: float = 1.0) -> ModelFiles:
    return ModelFiles(keras=b"not asked for", onnx=tiny_onnx(5, gain=gain), recipe=RECIPE, record=RECORD)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose registry holds three whole versions and no champion."""
    home = tmp_path_factory.mktemp("template") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for good
        settings = Settings(home=home, tracking_uri="", store="")
        workspace = Workspace(settings, SERIES)
        example = random_walk(8).frame()
        for _ in range(VERSIONS):
            run_id = workspace.runs.start_run("retrain", {})
            workspace.registry.register(run_id, files(), example, {"trained_until": UNTIL})
        yield home


def row(number: int, version: str, before: str | None, after: str | None, run_id: str = "") -> LoggedDecision:
    return LoggedDecision(
        decision_id=str(number),
        decided_at=datetime(2026, 11, number, tzinfo=UTC),
        series_name=SERIES.name,
        symbol=SERIES.symbol,
        interval=SERIES.interval,
        action="promote" if after == version else "hold",
        version=version,
        champion_before=before,
        champion_after=after,
        reasons=("because",),
        run_id=run_id,
    )


def agreed(workspace: Workspace) -> str | None:
    """Return the champion, which alias and decision log must both name."""
    last = workspace.decision_log.last(SERIES.name)
    alias = workspace.registry.alias_number("champion")
    assert alias == (last.champion_after if last else None)
    return alias


def test_a_store_that_does_not_answer_rejects_nobody(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: LoadedVersion) -> None:
        raise requests.ConnectionError("refused")

    monkeypatch.setattr(LoadedVersion, "predictor", refused)
    with pytest.raises(StoreUnavailable):
        commit_decision(workspace, row(1, "1", None, "1"), smoke_test=load_as_served)
    assert agreed(workspace) is None


def test_a_promotion_changes_alias_and_decision_log_and_a_hold_changes_the_log_only(workspace: Workspace) -> None:
    assert sync_champion_alias(workspace).number is None
    commit_decision(workspace, row(1, "1", None, "1"))
    assert agreed(workspace) == "1"
    commit_decision(workspace, row(2, "2", "1", "1"))
    assert agreed(workspace) == "1"
    state = sync_champion_alias(workspace)
    assert state.version is not None
    assert (state.number, state.version.version, state.problem) == ("1", "1", "")


def test_the_alias_challenger_names_a_version_that_may_be_promoted_or_nothing(
    workspace: Workspace, settings: Settings
) -> None:
    def challengers() -> set[str | None]:
        found = series_status(SERIES, settings)["challenger"]
        return {workspace.registry.alias_number("challenger"), found["version"] if found else None}

    workspace.registry.set_alias("challenger", "1")  # as `register` leaves it
    commit_decision(workspace, row(1, "1", None, "1"))
    assert challengers() == {None}
    workspace.registry.set_alias("challenger", "2")
    commit_decision(workspace, row(2, "2", "1", "1"))
    assert challengers() == {"2"}
    workspace.registry.set_alias("challenger", "3")  # its retrain has not decided yet
    promote_by_hand(SERIES, settings, "2", force=True, reason="try it")
    assert workspace.registry.alias_number("challenger") == "3"
    commit_decision(workspace, replace(row(3, "3", "2", "2"), action="reject"))
    assert challengers() == {None}
    roll_back(SERIES, settings, to="1", reason="it failed")
    assert challengers() == {None}  # neither the version that was rolled back nor the rejected one


class Crash(BaseException):
    """Injected."""


@pytest.mark.parametrize("place", ["before the row", "after the row"])
def test_an_exception_between_ledger_and_alias_leaves_both_agreed(
    place: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    commit_decision(workspace, row(1, "1", None, "1"))

    def crash(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        owner, name = (DecisionLog, "append_if_current") if place == "before the row" else (ModelRegistry, "set_alias")
        patch.setattr(owner, name, crash)
        with pytest.raises(Crash):
            commit_decision(workspace, row(2, "2", "1", "2"))
    expected = "1" if place == "before the row" else "2"
    champion = series_status(SERIES, settings)["champion"]
    assert champion["version"] == expected
    assert agreed(workspace) == expected


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from model.bars import Series
from tasks.champion.commit_decision import commit_decision
from tasks.store.decision_log import LoggedDecision
from tasks.settings import Settings
from tasks.registry.model_registry import ModelRegistry
from tasks.workspace import Workspace

settings, series = Settings(home=Path(sys.argv[1]), tracking_uri="", store=""), Series("BTC-USD", "1d")
ModelRegistry.set_alias = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
row = LoggedDecision("2", datetime(2026, 11, 2, tzinfo=UTC), series.name, "BTC-USD", "1d", "promote", "2", "1", "2")
commit_decision(Workspace(settings, series), row,
      smoke_test=lambda *_: None)
"""


def test_after_kill_9_between_log_and_alias_the_alias_is_corrected(workspace: Workspace, settings: Settings) -> None:
    commit_decision(workspace, row(1, "1", None, "1"))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(settings.root)], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert [each.champion_after for each in workspace.decision_log.rows()] == ["1", "2"]
    assert workspace.registry.alias_number("champion") == "1"
    assert sync_champion_alias(workspace).number == "2"
    assert agreed(workspace) == "2"


RACER = """
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from model.bars import Series
from tasks.champion.commit_decision import commit_decision, sync_champion_alias
from tasks.store.decision_log import ChampionChanged, DecisionLog, LoggedDecision
from tasks.settings import Settings
from tasks.workspace import Workspace

settings, mine = Settings(home=Path(sys.argv[1]), tracking_uri="", store=""), sys.argv[2]
series = Series("BTC-USD", "1d")
workspace = Workspace(settings, series)
refused = 0
print("ready", flush=True)
sys.stdin.readline()
for turn in range(6):
    while True:
        before = sync_champion_alias(workspace).number
        row = LoggedDecision(f"{mine}-{turn}", datetime(2026, 11, 3, tzinfo=UTC), series.name, "BTC-USD", "1d",
                        "promote", mine, before, mine)
        try:
            commit_decision(workspace, row, smoke_test=lambda *_: None)
            break
        except ChampionChanged:
            refused += 1
print(refused)
"""


@pytest.mark.e2e  # two processes import MLflow
def test_two_processes_decide_one_after_the_other(workspace: Workspace, settings: Settings) -> None:
    commit_decision(workspace, row(1, "1", None, "1"))
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(settings.root), mine],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for mine in ("2", "3")
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        _, errors = racer.communicate(timeout=PATIENCE_SECONDS)
        assert racer.returncode == 0, errors
    rows = workspace.decision_log.rows(SERIES.name)
    assert len(rows) == 13
    for former, later in pairwise(rows):
        assert later.champion_before == former.champion_after
    sync_champion_alias(workspace)
    assert agreed(workspace) == rows[-1].champion_after


def test_a_decision_against_a_former_champion_is_refused(workspace: Workspace) -> None:
    commit_decision(workspace, row(1, "1", None, "1"))
    commit_decision(workspace, row(2, "2", "1", "2"))
    with pytest.raises(ChampionChanged, match="expected version 1 to be champion still"):
        commit_decision(workspace, row(3, "3", "1", "3"))
    assert agreed(workspace) == "2"


def test_an_alias_moved_by_hand_goes_back_to_what_was_decided(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    workspace.registry.set_alias("champion", "3")
    assert sync_champion_alias(workspace).number == "3"  # nothing was decided yet: the alias counts
    commit_decision(workspace, row(1, "1", "3", "1"))
    workspace.registry.set_alias("champion", "2")
    assert sync_champion_alias(workspace).number == "1"
    assert "version 1 by the decision log, 2 by the alias" in caplog.text
    assert agreed(workspace) == "1"


def break_files(workspace: Workspace, version: str, content: bytes = b"junk") -> None:
    (workspace.registry.read_version(version).folder / "network.onnx").write_bytes(content)


@pytest.mark.parametrize("content", [b"junk", tiny_onnx(5, gain=1e9), tiny_onnx(7)])
def test_a_version_that_cannot_be_served_is_not_promoted(content: bytes, workspace: Workspace) -> None:
    load_as_served(workspace, "2")
    path = list(sys.path)
    commit_decision(workspace, row(1, "1", None, "1"))
    break_files(workspace, "2", content)
    with pytest.raises(UnsoundModel, match=r"models:/BTC-USD-1d/2: (it cannot be loaded|expected probabilities)"):
        commit_decision(workspace, row(2, "2", "1", "2"))
    assert agreed(workspace) == "1"
    assert len(workspace.decision_log.rows()) == 1
    assert sys.path == path


def test_a_champion_lost_by_the_registry_is_reported(workspace: Workspace, settings: Settings) -> None:
    commit_decision(workspace, row(1, "1", None, "1"))
    workspace.runs.client.delete_model_version(SERIES.name, "1")
    state = sync_champion_alias(workspace)
    assert (state.number, state.version) == ("1", None)
    assert "lost champion version 1" in state.problem
    with pytest.raises(UnsoundModel, match="lost champion version 1"):
        state.require(workspace)
    assert "lost champion version 1" in series_status(SERIES, settings)["problem"]
    commit_decision(workspace, row(2, "2", "1", "2"))
    assert agreed(workspace) == "2"


def test_rollback_goes_to_the_champion_that_was_replaced_and_does_not_swing(
    workspace: Workspace, settings: Settings
) -> None:
    with pytest.raises(NoChampion, match=r"expected a champion, found none\. Run `riseorfall retrain` first"):
        roll_back(SERIES, settings)
    for number, before in (("1", None), ("2", "1"), ("3", "2")):
        commit_decision(workspace, row(int(number), number, before, number))
    assert roll_back(SERIES, settings).champion_after == "2"
    assert roll_back(SERIES, settings, reason="again").champion_after == "1"
    assert agreed(workspace) == "1"
    with pytest.raises(NoChampion, match="before version 1"):
        roll_back(SERIES, settings)
    assert roll_back(SERIES, settings, to="3").champion_before == "1"
    with pytest.raises(SpecError, match="version 3 is already the champion"):
        roll_back(SERIES, settings, to="3")
    assert [each.action for each in workspace.decision_log.rows()][-3:] == ["rollback"] * 3


def test_the_champion_of_a_home_without_decisions_is_a_former_champion(
    workspace: Workspace, settings: Settings
) -> None:
    workspace.registry.set_alias("champion", "1")
    commit_decision(workspace, row(2, "2", "1", "2"))
    assert roll_back(SERIES, settings, to="1").champion_after == "1"


def test_a_rollback_to_a_broken_champion_is_refused(workspace: Workspace, settings: Settings) -> None:
    commit_decision(workspace, row(1, "1", None, "1"))
    commit_decision(workspace, row(2, "2", "1", "2"))
    break_files(workspace, "1")
    with pytest.raises(UntrustedModel, match=r"network\.onnx differs from the file of its decision"):
        roll_back(SERIES, settings)
    assert agreed(workspace) == "2"


def test_force_needs_a_reason_is_marked_and_loads_even_so(workspace: Workspace, settings: Settings) -> None:
    commit_decision(workspace, row(1, "1", None, "1"))
    with pytest.raises(SpecError, match="expected a reason with --force"):
        promote_by_hand(SERIES, settings, "2", force=True, reason=" ")
    forced = promote_by_hand(SERIES, settings, "2", force=True, reason="the rule sleeps")
    assert (forced.forced, forced.forced_reason, forced.rule) == (True, "the rule sleeps", "forced")
    assert agreed(workspace) == "2"
    assert timeline_steps(workspace.decision_log.rows())[-1].forced
    break_files(workspace, "3")
    with pytest.raises(UnsoundModel):
        promote_by_hand(SERIES, settings, "3", force=True, reason="at any price")
    assert agreed(workspace) == "2"


@pytest.mark.parametrize("number", ["9", "99999999999999999999", "03", "3.0", "+3", " 3", "x", ""])
def test_a_number_that_no_version_has_is_refused(number: str, workspace: Workspace, settings: Settings) -> None:
    """Also one that SQLite cannot hold, and one that SQLite would take for 3."""
    commit_decision(workspace, row(1, "1", None, "1"))
    with pytest.raises(NoSuchVersion, match=re.escape(f"expected version {number} in the registry")) as caught:
        promote_by_hand(SERIES, settings, number, force=True, reason="why not")
    assert caught.value.exit_code == 2
    assert agreed(workspace) == "1"


def test_the_history_keeps_what_was_not_measured_apart() -> None:
    measured = replace(row(1, "1", None, "1"), numbers={"base_rate.difference": -0.01, "base_rate.low": None})
    (step,) = timeline_steps([measured])
    assert step.decided_at == np.datetime64("2026-11-01")
    assert step.difference == -0.01
    assert np.isnan([step.low, step.high]).all()

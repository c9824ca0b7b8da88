"""A decision is one commit: whatever crashes, races or breaks, ledger and alias agree and the champion can serve."""

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
from copied_home import copy_home
from synthetic_bars import random_walk
from synthetic_records import coin_labels, daily_record, loud_forecast
from tiny_network import tiny_onnx

from model.bars import Series
from model.errors import NoChampion, SpecError, UnsoundModel
from model.recipe import Recipe
from model.windows import WindowSpec
from tasks.champion.commit_decision import enact, ledger_steps, load_as_served, reconcile
from tasks.champion.manual_decisions import promote_by_hand, roll_back
from tasks.champion.series_status import series_status
from tasks.registry.tracking import ModelFiles, Tracking
from tasks.settings import Settings
from tasks.store.decision_log import ChampionChanged, Ledger, LedgerRow
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
        tracking = Workspace(settings, SERIES).tracking
        example = random_walk(8).frame()
        for _ in range(VERSIONS):
            run_id = tracking.start_run("retrain", {})
            tracking.register(run_id, files(), example, {"trained_until": UNTIL})
        yield home


@pytest.fixture
def settings(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A home of its own with the three versions."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Settings(home=copy_home(template, tmp_path / "home"), tracking_uri="", store="")


@pytest.fixture
def tracking(settings: Settings) -> Tracking:
    return Workspace(settings, SERIES).tracking


@pytest.fixture
def ledger(settings: Settings) -> Ledger:
    return Workspace(settings).decision_log


def row(number: int, version: str, before: str | None, after: str | None, run_id: str = "") -> LedgerRow:
    return LedgerRow(
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


def agreed(tracking: Tracking, ledger: Ledger) -> str | None:
    """Return the champion, which alias and ledger must both name."""
    last = ledger.last(SERIES.name)
    alias = tracking.alias_number("champion")
    assert alias == (last.champion_after if last else None)
    return alias


def test_a_promotion_moves_alias_and_ledger_and_a_hold_moves_neither(tracking: Tracking, ledger: Ledger) -> None:
    assert reconcile(tracking, ledger).number is None
    enact(tracking, ledger, row(1, "1", None, "1"))
    assert agreed(tracking, ledger) == "1"
    enact(tracking, ledger, row(2, "2", "1", "1"))
    assert agreed(tracking, ledger) == "1"
    standing = reconcile(tracking, ledger)
    assert standing.version is not None
    assert (standing.number, standing.version.version, standing.trouble) == ("1", "1", "")


class Crash(BaseException):
    """Injected."""


@pytest.mark.parametrize("place", ["before the row", "after the row"])
def test_an_exception_between_ledger_and_alias_leaves_both_agreed(
    place: str, tracking: Tracking, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    enact(tracking, ledger, row(1, "1", None, "1"))

    def crash(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        owner, name = (Ledger, "enter") if place == "before the row" else (Tracking, "set_alias")
        patch.setattr(owner, name, crash)
        with pytest.raises(Crash):
            enact(tracking, ledger, row(2, "2", "1", "2"))
    expected = "1" if place == "before the row" else "2"
    champion = series_status(SERIES, settings)["champion"]
    assert champion["version"] == expected
    assert agreed(tracking, ledger) == expected


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from model.bars import Series
from tasks.champion.commit_decision import enact
from tasks.store.decision_log import Ledger, LedgerRow
from tasks.settings import Settings
from tasks.registry.tracking import Tracking
from tasks.workspace import Workspace

settings, series = Settings(home=Path(sys.argv[1]), tracking_uri="", store=""), Series("BTC-USD", "1d")
Tracking.set_alias = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
row = LedgerRow("2", datetime(2026, 11, 2, tzinfo=UTC), series.name, "BTC-USD", "1d", "promote", "2", "1", "2")
enact(Workspace(settings, series).tracking, Workspace(settings).decision_log, row,
      smoke_test=lambda *_: None)
"""


def test_kill_9_between_ledger_and_alias_leaves_both_agreed(
    tracking: Tracking, ledger: Ledger, settings: Settings
) -> None:
    enact(tracking, ledger, row(1, "1", None, "1"))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(settings.root)], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert [each.champion_after for each in ledger.rows()] == ["1", "2"]
    assert tracking.alias_number("champion") == "1"
    assert reconcile(tracking, ledger).number == "2"
    assert agreed(tracking, ledger) == "2"


RACER = """
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from model.bars import Series
from tasks.champion.commit_decision import enact, reconcile
from tasks.store.decision_log import ChampionChanged, Ledger, LedgerRow
from tasks.settings import Settings
from tasks.registry.tracking import Tracking
from tasks.workspace import Workspace

settings, mine = Settings(home=Path(sys.argv[1]), tracking_uri="", store=""), sys.argv[2]
series = Series("BTC-USD", "1d")
tracking, ledger = Workspace(settings, series).tracking, Workspace(settings).decision_log
refused = 0
print("ready", flush=True)
sys.stdin.readline()
for turn in range(6):
    while True:
        before = reconcile(tracking, ledger).number
        row = LedgerRow(f"{mine}-{turn}", datetime(2026, 11, 3, tzinfo=UTC), series.name, "BTC-USD", "1d",
                        "promote", mine, before, mine)
        try:
            enact(tracking, ledger, row, smoke_test=lambda *_: None)
            break
        except ChampionChanged:
            refused += 1
print(refused)
"""


def test_two_processes_decide_one_after_the_other(tracking: Tracking, ledger: Ledger, settings: Settings) -> None:
    enact(tracking, ledger, row(1, "1", None, "1"))
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
        _, errors = racer.communicate(timeout=120)
        assert racer.returncode == 0, errors
    rows = ledger.rows(SERIES.name)
    assert len(rows) == 13
    for former, later in pairwise(rows):
        assert later.champion_before == former.champion_after
    reconcile(tracking, ledger)
    assert agreed(tracking, ledger) == rows[-1].champion_after


def test_a_decision_against_a_former_champion_is_refused(tracking: Tracking, ledger: Ledger) -> None:
    enact(tracking, ledger, row(1, "1", None, "1"))
    enact(tracking, ledger, row(2, "2", "1", "2"))
    with pytest.raises(ChampionChanged, match="expected version 1 to be champion still"):
        enact(tracking, ledger, row(3, "3", "1", "3"))
    assert agreed(tracking, ledger) == "2"


def test_an_alias_moved_by_hand_goes_back_to_what_was_decided(
    tracking: Tracking, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    tracking.set_alias("champion", "3")
    assert reconcile(tracking, ledger).number == "3"  # nothing was decided yet: the alias counts
    enact(tracking, ledger, row(1, "1", "3", "1"))
    tracking.set_alias("champion", "2")
    assert reconcile(tracking, ledger).number == "1"
    assert "version 1 by the ledger, 2 by the alias" in caplog.text
    assert agreed(tracking, ledger) == "1"


def break_files(tracking: Tracking, version: str, content: bytes = b"junk") -> None:
    (tracking.read_version(version).folder / "network.onnx").write_bytes(content)


@pytest.mark.parametrize("content", [b"junk", tiny_onnx(5, gain=1e9), tiny_onnx(7)])
def test_a_version_that_cannot_serve_becomes_nobody(content: bytes, tracking: Tracking, ledger: Ledger) -> None:
    load_as_served(tracking, "2")
    path = list(sys.path)
    enact(tracking, ledger, row(1, "1", None, "1"))
    break_files(tracking, "2", content)
    with pytest.raises(UnsoundModel, match=r"models:/BTC-USD-1d/2: (it cannot be loaded|expected probabilities)"):
        enact(tracking, ledger, row(2, "2", "1", "2"))
    assert agreed(tracking, ledger) == "1"
    assert len(ledger.rows()) == 1
    assert sys.path == path


def test_a_champion_that_the_registry_lost_is_told(tracking: Tracking, ledger: Ledger, settings: Settings) -> None:
    enact(tracking, ledger, row(1, "1", None, "1"))
    tracking.client.delete_model_version(SERIES.name, "1")
    standing = reconcile(tracking, ledger)
    assert (standing.number, standing.version) == ("1", None)
    assert "lost champion version 1" in standing.trouble
    with pytest.raises(UnsoundModel, match="lost champion version 1"):
        standing.require(SERIES.name)
    assert "lost champion version 1" in series_status(SERIES, settings)["trouble"]
    enact(tracking, ledger, row(2, "2", "1", "2"))
    assert agreed(tracking, ledger) == "2"


def test_rollback_goes_to_the_champion_that_was_replaced_and_does_not_swing(
    tracking: Tracking, ledger: Ledger, settings: Settings
) -> None:
    for number, before in (("1", None), ("2", "1"), ("3", "2")):
        enact(tracking, ledger, row(int(number), number, before, number))
    assert roll_back(SERIES, settings).champion_after == "2"
    assert roll_back(SERIES, settings, reason="again").champion_after == "1"
    assert agreed(tracking, ledger) == "1"
    with pytest.raises(NoChampion, match="before version 1"):
        roll_back(SERIES, settings)
    assert roll_back(SERIES, settings, to="3").champion_before == "1"
    with pytest.raises(SpecError, match="version 3 is the champion already"):
        roll_back(SERIES, settings, to="3")
    assert [each.action for each in ledger.rows()][-3:] == ["rollback"] * 3


def test_a_broken_former_champion_is_not_put_back(tracking: Tracking, ledger: Ledger, settings: Settings) -> None:
    enact(tracking, ledger, row(1, "1", None, "1"))
    enact(tracking, ledger, row(2, "2", "1", "2"))
    break_files(tracking, "1")
    with pytest.raises(UnsoundModel):
        roll_back(SERIES, settings)
    assert agreed(tracking, ledger) == "2"


def test_force_needs_a_reason_is_marked_and_loads_even_so(
    tracking: Tracking, ledger: Ledger, settings: Settings
) -> None:
    enact(tracking, ledger, row(1, "1", None, "1"))
    with pytest.raises(SpecError, match="expected a reason with --force"):
        promote_by_hand(SERIES, settings, "2", force=True, reason=" ")
    forced = promote_by_hand(SERIES, settings, "2", force=True, reason="the rule sleeps")
    assert (forced.forced, forced.forced_reason, forced.rule) == (True, "the rule sleeps", "forced")
    assert agreed(tracking, ledger) == "2"
    assert ledger_steps(ledger.rows())[-1].forced
    break_files(tracking, "3")
    with pytest.raises(UnsoundModel):
        promote_by_hand(SERIES, settings, "3", force=True, reason="at any price")
    with pytest.raises(NoChampion, match="expected version 9"):
        promote_by_hand(SERIES, settings, "9", force=True, reason="why not")
    assert agreed(tracking, ledger) == "2"


def test_the_history_keeps_what_was_not_measured_apart() -> None:
    measured = replace(row(1, "1", None, "1"), numbers={"base_rate.difference": -0.01, "base_rate.low": None})
    (step,) = ledger_steps([measured])
    assert step.decided_at == np.datetime64("2026-11-01")
    assert step.difference == -0.01
    assert np.isnan([step.low, step.high]).all()

"""A second retrain on the same evidence trains nothing and says so; whatever differs is trained."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from flows.cli import run
from flows.retrain import retrain
from model.bars import Series
from model.folds import FoldSpec
from model.promotion_rule import PromotionRule
from model.training import TrainingSpec
from tasks.results import Retrain, Unchanged
from tasks.settings import Settings
from tasks.sources.source_spec import SourceSpec, open_source
from tasks.workspace import Workspace

SERIES = Series("BTC-USD", "1d")
QUICK = {"folds": FoldSpec(test_bars=240, count=2), "training": TrainingSpec(epochs=2)}  # of the fixtures
FLAGS = ("--folds.test-bars", "240", "--folds.count", "2", "--training.epochs", "2")


class Reached(Exception):
    """The retrain went on to the windows."""


@pytest.fixture
def stops_at_the_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    def reach(*_: Any) -> None:
        raise Reached

    monkeypatch.setattr("flows.retrain.cut", reach)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Any]]:
    found: list[tuple[str, str, Any]] = []
    monkeypatch.setattr(
        "tasks.earlier_decision.emit_event_for",
        lambda name, series, _message, **payload: found.append((name, series, payload["version"])),
    )
    return found


@pytest.mark.usefixtures("stops_at_the_windows")
def test_the_same_retrain_again_trains_nothing_and_says_so(first: Retrain, events: list[tuple[str, str, Any]]) -> None:
    again = retrain(**QUICK)
    assert isinstance(again, Unchanged)
    workspace = Workspace(Settings(), SERIES)
    rows = workspace.decision_log.rows(SERIES.name)
    assert [(row.action, row.version, row.champion_after) for row in rows] == [
        ("promote", "1", "1"), ("unchanged", "1", "1"),
    ]  # fmt: skip
    assert rows[1].decision_id == again.run_id
    assert rows[1].run_id == first.run_id
    assert rows[1].reasons[0].startswith("nothing to do: version 1 was trained on the same bars")
    assert events == [("riseorfall.unchanged", SERIES.name, "1")]
    assert workspace.registry.find_versions("bars_sha256", first.stored.ref.sha256[:12]) == ("1",)
    mlflow_run = workspace.runs.client.get_run(again.run_id)
    assert (mlflow_run.info.status, mlflow_run.data.tags["decision"]) == ("FINISHED", "unchanged")
    assert "--force" in mlflow_run.data.tags["reasons"]


@pytest.mark.e2e
@pytest.mark.usefixtures("first", "stops_at_the_windows")
def test_the_shell_says_nothing_to_do_and_exits_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["retrain", *FLAGS]) == 0
    printed = capsys.readouterr().out
    for part in ("unchanged", "nothing to do", "version 1", "--force"):
        assert part in printed


@pytest.mark.e2e
@pytest.mark.usefixtures("first", "stops_at_the_windows")
@pytest.mark.parametrize(
    "changed",
    [
        {"force": True},
        {"training": TrainingSpec(epochs=2, seed=8)},
        {"promotion": PromotionRule(kind="strict")},
    ],
    ids=["force", "seed", "rule"],
)
def test_a_forced_retrain_another_seed_or_another_rule_trains(changed: dict[str, Any]) -> None:
    with pytest.raises(Reached):
        retrain(**(QUICK | changed))


@pytest.mark.e2e
@pytest.mark.usefixtures("first", "stops_at_the_windows")
@pytest.mark.parametrize("bars", ["one more", "one revised"])
def test_a_new_or_a_revised_bar_trains(bars: str, tmp_path: Path) -> None:
    frame = open_source(SourceSpec()).fetch().frame.tail(60)
    if bars == "one more":  # the newest bar has closed, because there is one after it
        newest = frame.tail(1)
        frame = pd.concat([frame, newest.assign(timestamp=newest["timestamp"] + pd.Timedelta(days=1))])
    else:
        frame = frame.head(50).assign(close=[*frame["close"].iloc[:49], frame["close"].iloc[49] + 1])
    path = tmp_path / "bars.csv"
    frame.to_csv(path, index=False)
    with pytest.raises(Reached):
        retrain(source=SourceSpec(kind="csv", path=str(path)), **QUICK)

"""The opinion of the champion follows from what it predicted before, and an older version has none."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_bars import random_walk
from tiny_home import SERIES, tiny_home

from model.times import to_datetime, to_datetimes
from tasks.champion.stated_share import OPINION_SHARE
from tasks.console.prediction_tables import show_forecast
from tasks.serving.forecast import forecast
from tasks.workspace import Workspace

BARS = random_walk(130, seed=4)
TRAINED = 100
SHARE = 0.3


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("template") / "home"
    tiny_home(home, BARS, TRAINED)
    return home


def state_share(workspace: Workspace) -> None:
    run_id = workspace.registry.version("1").run_id
    workspace.runs.log_values(run_id, params={OPINION_SHARE: str(SHARE)})


def asked_daily(workspace: Workspace) -> list[tuple[float, str | None]]:
    days = [to_datetime(each) for each in BARS.closed_at[TRAINED + 1 :]]
    found = [forecast(SERIES, workspace.settings, as_of=day, now=day) for day in days]
    return [(each.prediction.probability, each.opinion) for each in found]


def expected(record: np.ndarray, probabilities: list[float]) -> list[str]:
    """A plain loop: rank, compare, move the level."""
    seen, level, found = [abs(p - 0.5) for p in record], SHARE, []
    for p in probabilities:
        held = (1 + sum(each >= abs(p - 0.5) for each in seen)) / (1 + len(seen)) <= level
        level += 0.02 * (SHARE - held)
        seen.append(abs(p - 0.5))
        found.append(("rise" if p > 0.5 else "fall") if held else "none")
    return found


@pytest.mark.e2e
def test_daily_opinions_are_those_of_a_plain_loop(workspace: Workspace) -> None:
    state_share(workspace)
    found = asked_daily(workspace)
    record = workspace.registry.read_version("1").record().probabilities
    wanted = expected(record, [p for p, _ in found])
    assert [opinion for _, opinion in found] == wanted
    assert len(set(wanted)) > 1  # with and without an opinion


@pytest.mark.e2e
def test_an_opinion_does_not_depend_on_later_predictions_and_counts_shadow_predictions(workspace: Workspace) -> None:
    state_share(workspace)
    daily = asked_daily(workspace)
    day = to_datetime(BARS.closed_at[TRAINED + 10])
    again = forecast(SERIES, workspace.settings, as_of=day, now=day)
    assert again.opinion == daily[9][1]
    moment = to_datetime(BARS.closed_at[TRAINED])  # decided before the first one, when it was a shadow
    workspace.shadow_log.store(
        replace(again.prediction, decided_at=moment, resolves_at=day, stored_at=moment, probability=0.999)
    )
    record = workspace.registry.read_version("1").record().probabilities
    wanted = expected(record, [0.999, *(p for p, _ in daily[:10])])
    assert forecast(SERIES, workspace.settings, as_of=day, now=day).opinion == wanted[-1]


@pytest.mark.e2e
def test_an_opinion_knows_the_newest_fold_and_the_predictions_of_its_own_version_alone(workspace: Workspace) -> None:
    """The network of an older fold is another one, and so is another version: neither confidence is comparable."""
    state_share(workspace)
    loaded, day = workspace.registry.read_version("1"), to_datetime(BARS.closed_at[TRAINED + 1])
    frame = loaded.record().frame()
    older = np.arange(len(frame)) < len(frame) // 2
    frame["fold"], frame["probability"] = np.where(older, 0, 1), np.where(older, 0.999, frame["probability"])
    frame.to_parquet(loaded.folder / "record.parquet")
    first = forecast(SERIES, workspace.settings, as_of=day, now=day).prediction
    before = frame["probability"].to_numpy()[~older]
    for bar in range(TRAINED - 20, TRAINED):
        moment = to_datetime(BARS.closed_at[bar])
        workspace.shadow_log.store(
            replace(first, version="2", decided_at=moment, resolves_at=day, stored_at=moment, probability=0.999)
        )
    daily = asked_daily(workspace)
    wanted = expected(before, [p for p, _ in daily])
    assert [opinion for _, opinion in daily] == wanted
    assert wanted != expected(np.append(np.full(20, 0.999), before), [p for p, _ in daily])
    assert wanted != expected(frame["probability"].to_numpy(), [p for p, _ in daily])


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def empty(path: Path) -> None:
    pd.read_parquet(path).head(0).to_parquet(path)


def without_folds(path: Path) -> None:
    pd.read_parquet(path).drop(columns="fold").to_parquet(path)


@pytest.mark.parametrize("damage", [torn, empty, without_folds])
def test_a_damaged_record_costs_the_opinion_and_not_the_prediction(
    damage: Callable[[Path], None], workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    state_share(workspace)
    damage(workspace.registry.read_version("1").folder / "record.parquet")
    day = to_datetime(BARS.closed_at[-1])
    for _ in range(2):  # as on every day
        found = forecast(SERIES, workspace.settings, as_of=day, now=day)
        assert (found.prediction.version, found.opinion) == ("1", None)
        assert [each.levelname for each in caplog.records] == ["WARNING"]
        assert "no opinion" in caplog.text
        assert "record.parquet cannot be read" in caplog.text
        caplog.clear()


def test_a_version_whose_retrain_stated_no_share_has_no_opinion(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    day = to_datetime(BARS.closed_at[-1])
    found = forecast(SERIES, workspace.settings, as_of=day, now=day)
    assert found.to_dict()["opinion"] is None
    show_forecast(found.to_dict())
    assert "opinion" not in capsys.readouterr().out
    state_share(workspace)
    stated = forecast(SERIES, workspace.settings, as_of=day, now=day)
    show_forecast(stated.to_dict())
    assert f"opinion: {stated.opinion} (" in capsys.readouterr().out
    for opinion, among in (("rise", "(among its"), ("none", "(too close to 50 %: not among its")):
        show_forecast(stated.to_dict() | {"opinion": opinion})
        assert f"opinion: {opinion} {among} most confident decisions" in capsys.readouterr().out


PROGRAM = """
import sys
from datetime import datetime
from tasks.store.arrow_without_pandas import use_arrow_without_pandas
use_arrow_without_pandas()
from model.bars import Series
from tasks.serving.forecast import forecast
from tasks.settings import Settings
day = datetime.fromisoformat(sys.argv[1])
found = forecast(Series("BTC-USD", "1d"), Settings(), as_of=day, now=day)
assert found.opinion is not None
print([name for name in ("pandas", "pyarrow.compute", "scipy") if name in sys.modules])
"""


@pytest.mark.e2e
def test_an_opinion_does_without_the_slow_imports(workspace: Workspace) -> None:
    """They took a third of a whole `predict`."""
    state_share(workspace)
    environment = os.environ | {"RISEORFALL_HOME": str(workspace.settings.root)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    for day in to_datetimes(
        BARS.closed_at[TRAINED + 1 : TRAINED + 3]
    ):  # the second one reads what the first one stored
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, day.isoformat()],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout == "[]\n", done.stderr

"""A replayed day is the retrain of that day, bit for bit: both go through `model/walk_forward.py`."""

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flows.ingest import ingest
from flows.replay import replay
from flows.retrain import retrain
from model.bars import Series
from model.folds import FoldSpec
from model.network_files import network_from_bytes
from model.networks import NetworkSpec
from model.training import TrainingSpec
from model.windows import WindowSpec
from tasks.registry.run_artifacts import read_fold_networks, read_probe
from tasks.serving.forecast import forecast
from tasks.workspace import Workspace, open_workspace

SERIES = Series("BTC-USD", "1d")
pytestmark = pytest.mark.e2e  # two retrains
DAY = date(2019, 9, 1)  # a file that ended with the small volume of the day before would end with a part day
RECIPE = {
    "window": WindowSpec(lookback_bars=5),
    "folds": FoldSpec(test_bars=110, count=2),
    "network": NetworkSpec(kind="cnn_lstm", filters=(2, 2), units=2, dense_units=4),
    "training": TrainingSpec(epochs=3, batch_size=512, calibration="temperature"),
}


def test_a_replayed_day_equals_the_retrain_of_that_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    retrained = retrain(**RECIPE, as_of=datetime(DAY.year, DAY.month, DAY.day, tzinfo=UTC))
    ingest()  # the replay must not use the bars of later days
    replay(first=DAY, last=DAY, **RECIPE)

    one = open_workspace(SERIES)
    other = Workspace(one.settings, SERIES, f"{SERIES.name}-replay")
    runs = retrained.run_id, other.registry.version("1").run_id
    ours, theirs = one.registry.read_version(retrained.version.version), other.registry.read_version("1")

    pd.testing.assert_frame_equal(ours.record().frame(), theirs.record().frame(), check_exact=True)
    assert len(ours.record()) == 110
    assert ours.calibrator() == theirs.calibrator()
    weights = [network_from_bytes(each.keras()).get_weights() for each in (ours, theirs)]
    assert len(weights[0]) == len(weights[1]) > 0
    for left, right in zip(*weights, strict=True):
        np.testing.assert_array_equal(left, right)
    probes = [read_probe(each.runs, run_id) for each, run_id in zip((one, other), runs, strict=True)]
    pd.testing.assert_frame_equal(*probes, check_exact=True)
    networks = [read_fold_networks(each.runs, run_id) for each, run_id in zip((one, other), runs, strict=True)]
    np.testing.assert_array_equal(*networks)
    assert networks[0].shape == (2, 110)
    decisions = [each.decision_log.rows(each.name)[0] for each in (one, other)]
    assert decisions[0].numbers == decisions[1].numbers
    assert decisions[0].numbers["final_network.disagreement"] > 0
    # The schedule predicts the next close before the next retrain; so does the replay.
    live = forecast(SERIES, one.settings, as_of=datetime(DAY.year, DAY.month, DAY.day + 1, tzinfo=UTC)).prediction
    (served,) = other.prediction_log.read(other.name).to_dict("records")
    assert (served["decided_at"].to_pydatetime(), served["resolves_at"].to_pydatetime(), served["probability"]) == (
        live.decided_at,
        live.resolves_at,
        live.probability,
    )
    bars = one.bar_store.read_bars(one.bar_store.ref(SERIES))
    np.testing.assert_array_equal(ours.predictor().predict(bars)[1], theirs.predictor().predict(bars)[1])
    assert one.registry.version(retrained.version.version).trained_until == other.registry.version("1").trained_until

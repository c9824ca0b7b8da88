"""The prediction log: each prediction once, as it was made."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from model.errors import SpecError
from tasks.store.delta_table import MAX_FILES
from tasks.store.prediction_log import Prediction, PredictionLog

AT = datetime(2026, 11, 24, 12, tzinfo=UTC)
PREDICTION = Prediction("BTC-USD-1d", "BTC/USD", "1d", AT, AT + timedelta(days=1), "1", 0.53, AT + timedelta(seconds=5))


@pytest.fixture
def predictions(tmp_path: Path) -> PredictionLog:
    return PredictionLog(str(tmp_path / "tables"))


def test_an_empty_log_holds_no_prediction(predictions: PredictionLog) -> None:
    assert predictions.read().empty
    assert predictions.find("BTC-USD-1d", AT, "1") is None
    assert predictions.store_all([]) == 0


def test_a_prediction_is_never_overwritten(predictions: PredictionLog, tmp_path: Path) -> None:
    assert predictions.store(PREDICTION)
    assert not predictions.store(replace(PREDICTION, probability=0.9, stored_at=AT + timedelta(days=9)))
    assert predictions.find("BTC-USD-1d", AT, "1") == PREDICTION
    assert predictions.find("BTC-USD-1d", AT, "2") is None
    assert DeltaTable(str(tmp_path / "tables" / "predictions")).version() == 1


def test_predictions_differ_by_series_time_and_version(predictions: PredictionLog) -> None:
    others = [
        replace(PREDICTION, version="2", probability=0.6),
        replace(PREDICTION, series_name="BTC-USD-1d-replay", probability=0.7),
        replace(PREDICTION, decided_at=AT - timedelta(days=1), probability=0.8),
    ]
    assert predictions.store_all([PREDICTION, *others, replace(PREDICTION, probability=0.1)]) == 4
    assert predictions.store_all([PREDICTION, replace(others[0], version="3")]) == 1
    frame = predictions.read("BTC-USD-1d")
    assert frame["probability"].tolist() == [0.8, 0.53, 0.6, 0.6]
    assert frame["version"].tolist() == ["1", "1", "2", "3"]
    assert predictions.read("BTC-USD-1d", version="2")["probability"].tolist() == [0.6]
    assert len(predictions.read()) == 5


def test_a_prediction_stored_after_its_outcome_is_late(predictions: PredictionLog) -> None:
    late = replace(PREDICTION, stored_at=PREDICTION.resolves_at)
    assert (PREDICTION.late, late.late) == (False, True)
    predictions.store(late)
    assert predictions.read()["late"].tolist() == [True]
    assert json.loads(json.dumps(late.to_dict()))["late"] is True


@pytest.mark.parametrize("probability", [-0.01, 1.01, math.nan])
def test_an_impossible_probability_or_outcome_time_is_refused(predictions: PredictionLog, probability: float) -> None:
    with pytest.raises(SpecError, match="expected a probability from 0 to 1"):
        predictions.store(replace(PREDICTION, probability=probability))
    with pytest.raises(SpecError, match="expected an outcome after the decision"):
        predictions.store(replace(PREDICTION, resolves_at=AT))
    assert predictions.read().empty


def test_many_small_files_are_rewritten_as_one(predictions: PredictionLog, tmp_path: Path) -> None:
    for number in range(MAX_FILES + 2):
        predictions.store(replace(PREDICTION, decided_at=AT - timedelta(days=number)))
    assert len(DeltaTable(str(tmp_path / "tables" / "predictions")).file_uris()) == 2
    assert len(predictions.read()) == MAX_FILES + 2

"""The prediction log: each prediction once, as it was made."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from model.errors import SpecError
from tasks.store import delta_table, prediction_log
from tasks.store.delta_table import append_rows
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
    elsewhere = AT.astimezone(timezone(timedelta(hours=2)))
    assert not predictions.store(replace(PREDICTION, decided_at=elsewhere, probability=0.9))
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
    assert predictions.read("BTC-USD-1d", ("2",))["probability"].tolist() == [0.6]
    assert len(predictions.read()) == 5


def test_what_another_series_predicted_is_not_an_answer(predictions: PredictionLog) -> None:
    """A panel predicts several symbols at one close, and its versions are numbered from 1 too."""
    panel = [
        replace(PREDICTION, series_name="PANEL-1d", symbol=symbol, probability=0.9) for symbol in ("BTC/USD", "ETH/USD")
    ]
    panel.append(replace(panel[0], version="7"))
    assert predictions.store_all(panel) == 3
    name = PREDICTION.series_name
    assert (predictions.find(name, AT, "1"), predictions.decided_at(name, AT), predictions.versions(name)) == (
        None,
        (),
        set(),
    )
    assert predictions.store(PREDICTION)
    assert predictions.find(name, AT, "1") == PREDICTION
    assert predictions.decided_at(name, AT) == (PREDICTION,)
    assert predictions.versions(name) == {"1"}
    assert {each.key for each in predictions.decided_at("PANEL-1d", AT)} == {each.key for each in panel}


def test_a_prediction_of_version_0_1_is_of_a_rise_by_an_unnamed_network(predictions: PredictionLog) -> None:
    (table,) = predictions.tables
    later = {"network", "label", "has_opinion", "opinion_level"}
    schema = pa.schema([each for each in table.schema if each.name not in later])
    written = {name: getattr(PREDICTION, name) for name in schema.names}
    replace(table, schema=schema).change(lambda opened: append_rows(opened, schema, [written]))
    assert predictions.find("BTC-USD-1d", AT, "1") == PREDICTION
    named = replace(PREDICTION, version="2", network="ab" * 32)
    assert predictions.store(named)
    assert predictions.decided_at("BTC-USD-1d", AT) in {(PREDICTION, named), (named, PREDICTION)}
    assert predictions.read()["label"].tolist() == ["rise", "rise"]


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


def files_of(tmp_path: Path) -> set[str]:
    return set(DeltaTable(str(tmp_path / "tables" / "predictions")).file_uris())


def test_many_small_files_are_merged_and_large_ones_stay(
    predictions: PredictionLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_table, "MAX_FILES", 4)
    for number in range(6):
        predictions.store(replace(PREDICTION, decided_at=AT - timedelta(days=number)))
    assert len(files_of(tmp_path)) == 3  # the merged one, and one for each later commit
    monkeypatch.setattr(delta_table, "MERGED_BYTES", 1)
    large = files_of(tmp_path)
    for number in range(6, 10):
        predictions.store(replace(PREDICTION, decided_at=AT - timedelta(days=number)))
    assert files_of(tmp_path) > large
    assert predictions.read()["decided_at"].nunique() == 10


def test_a_write_reads_only_the_decisions_that_it_is_about(
    predictions: PredictionLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions.store_all([replace(PREDICTION, decided_at=AT - timedelta(days=number)) for number in range(50)])
    read: list[int] = []
    true = prediction_log.read_rows

    def counted(*given: Any) -> Any:
        found = true(*given)
        read.append(found.num_rows)
        return found

    monkeypatch.setattr(prediction_log, "read_rows", counted)
    again = replace(PREDICTION, decided_at=AT - timedelta(days=7), probability=0.9)
    assert predictions.store_all([again]) == 0
    assert predictions.store_all([replace(PREDICTION, decided_at=AT - timedelta(days=70))]) == 1
    assert read == [1, 0]


def test_the_newest_prediction_of_a_series_that_ended_long_ago_is_found(predictions: PredictionLog) -> None:
    predictions.store(PREDICTION)
    predictions.store(replace(PREDICTION, series_name="ETH-USD-1d", decided_at=AT + timedelta(days=400),
                              resolves_at=PREDICTION.resolves_at + timedelta(days=400)))  # fmt: skip
    assert predictions.last_predicted(PREDICTION.series_name) == AT
    assert predictions.last_predicted("ETH-USD-1d") == AT + timedelta(days=400)
    assert predictions.last_predicted("XRP-USD-1d") is None


def test_earlier_decisions_are_left_out_on_request(predictions: PredictionLog) -> None:
    predictions.store_all([replace(PREDICTION, decided_at=AT - timedelta(days=number)) for number in range(5)])
    found = predictions.read(PREDICTION.series_name, since=AT - timedelta(days=2))
    assert len(found) == 3
    assert found["decided_at"].min() == AT - timedelta(days=2)


def test_probabilities_are_those_of_one_version_of_one_series(predictions: PredictionLog) -> None:
    assert predictions.probabilities("BTC-USD-1d", "1") == {}
    earlier = AT - timedelta(days=1)
    predictions.store_all(
        [
            PREDICTION,
            replace(PREDICTION, decided_at=earlier, probability=0.25),
            replace(PREDICTION, version="2", probability=0.6),
            replace(PREDICTION, series_name="ETH-USD-1d", probability=0.7),
        ]
    )
    assert predictions.probabilities("BTC-USD-1d", "1") == {AT: 0.53, earlier: 0.25}

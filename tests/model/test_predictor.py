"""Prediction: the two stored forms agree, every decidable bar has a probability, TensorFlow is not loaded."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from random_weights import randomise
from synthetic_bars import random_walk, scrambled

from model.bars import Bars
from model.errors import BarsTooShort, SpecError
from model.network_files import network_from_bytes, network_to_bytes, network_to_onnx
from model.networks import Kind, NetworkSpec, build_network
from model.predictor import Predictor
from model.windows import WindowSpec, cut_windows

WINDOW = WindowSpec(lookback_bars=9, stride_bars=4, features=("close", "volume"))
SMALL = {"filters": (5, 3), "units": 6, "dense_units": 7}

# Keras's variables offer NumPy 2 an `__array__` without `copy`, and NumPy warns each time (keras 3.15).
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def random_network(kind: Kind = "cnn_lstm") -> Any:
    """A network of random weights for `WINDOW`."""
    network = build_network(NetworkSpec(kind=kind, **SMALL), WINDOW.lookback_bars, len(WINDOW.features))
    randomise(network)
    return network


@pytest.fixture(scope="module")
def network() -> Any:
    return random_network()


@pytest.fixture(scope="module")
def predictor(network: Any) -> Predictor:
    return Predictor(network_to_onnx(network), WINDOW)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_keras_and_onnx_agree(kind: Kind) -> None:
    network, bars = random_network(kind), random_walk(120)
    decided_at, found = Predictor(network_to_onnx(network), WINDOW).predict(bars)
    windows = cut_windows(bars, WINDOW.model_copy(update={"stride_bars": 1}))
    np.testing.assert_array_equal(decided_at, windows.decided_at)
    for stored in (network, network_from_bytes(network_to_bytes(network))):
        expected = np.asarray(stored(windows.values(), training=False))[:, 0]
        assert expected.std() > 0.003
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_keras_and_onnx_agree_on_anchored_windows() -> None:
    spec = WindowSpec(lookback_bars=9)
    network = build_network(NetworkSpec(scaling="last_close", **SMALL), 9, 4)
    randomise(network)
    bars = random_walk(60)
    bars.ohlcv[:15, :4] = 100.1  # closes that do not move
    bars.ohlcv[30, 2] = 0.06  # a bad tick
    _, found = Predictor(network_to_onnx(network), spec).predict(bars)
    values = cut_windows(bars, spec).values()
    for stored in (network, network_from_bytes(network_to_bytes(network))):
        expected = np.asarray(stored(values, training=False))[:, 0]
        assert expected.std() > 0.003
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_cents_of_a_high_price_survive_onnx(network: Any, predictor: Predictor) -> None:
    bars = random_walk(60)
    bars.ohlcv[:, :4] = 60_000.0 + 0.01 * np.random.default_rng(2).integers(0, 3, (60, 1))
    _, found = predictor.predict(bars)
    values = cut_windows(bars, predictor.window).values()
    np.testing.assert_allclose(found, np.asarray(network(values, training=False))[:, 0], atol=1e-5)
    assert found.std() > 0.003


def test_every_decidable_bar_is_predicted_and_no_other(predictor: Predictor, gappy_bars: Bars) -> None:
    decided_at, probabilities = predictor.predict(gappy_bars)
    assert probabilities.dtype == np.float64
    # 300 bars less 15 absent in stretches of 40, 78, 129 and 38, each losing its first eight bars.
    assert len(decided_at) == len(probabilities) == 285 - 4 * 8
    assert np.isin(decided_at, gappy_bars.closed_at).all()
    assert decided_at[-1] == gappy_bars.closed_at[-1]


def test_predict_last_equals_the_last_of_predict(predictor: Predictor, walk_bars: Bars) -> None:
    decided_at, probabilities = predictor.predict(walk_bars)
    last_at, last = predictor.predict_last(walk_bars)
    assert last_at == decided_at[-1]
    assert last == pytest.approx(probabilities[-1], abs=1e-6)


def test_outputs_of_one_decision_are_those_among_all(predictor: Predictor, gappy_bars: Bars) -> None:
    decided_at, outputs = predictor.predict_outputs(gappy_bars)
    for place in (0, 7, len(decided_at) - 1):
        times, alone = predictor.predict_outputs(gappy_bars, decided_at[place])
        assert times.tolist() == [decided_at[place]]
        np.testing.assert_allclose(alone, outputs[place : place + 1], atol=1e-6)
    times, none = predictor.predict_outputs(gappy_bars, decided_at[0] - np.timedelta64(1, "D"))
    assert (len(times), none.shape) == (0, (0, 1))


def test_chunks_change_nothing(predictor: Predictor, walk_bars: Bars, monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole = predictor.predict(walk_bars)
    monkeypatch.setattr("model.predictor.CHUNK_WINDOWS", 50)
    _, chunked = predictor.predict(walk_bars)
    np.testing.assert_allclose(chunked, whole, atol=1e-6)


def test_later_bars_change_no_earlier_probability(predictor: Predictor, walk_bars: Bars) -> None:
    (_, before), (_, after) = predictor.predict(walk_bars), predictor.predict(scrambled(walk_bars, 200))
    untouched = 200 - 8
    np.testing.assert_allclose(after[:untouched], before[:untouched], atol=1e-6)
    assert np.abs(after[untouched:] - before[untouched:]).max() > 0.003


def test_wrong_windows_are_refused(network: Any, predictor: Predictor) -> None:
    with pytest.raises(SpecError, match="windows of 9 bars and 2 features, the spec has 30 and 4"):
        Predictor(network_to_onnx(network), WindowSpec())
    with pytest.raises(BarsTooShort):
        predictor.predict(random_walk(8))
    with pytest.raises(BarsTooShort):
        predictor.predict_last(random_walk(8))


def test_predicting_loads_no_tensorflow(network: Any, tmp_path: Path) -> None:
    (tmp_path / "network.onnx").write_bytes(network_to_onnx(network))
    code = (
        "import sys; from pathlib import Path; from synthetic_bars import random_walk;"
        "from model.predictor import Predictor; from model.windows import WindowSpec;"
        "window = WindowSpec(lookback_bars=9, features=('close', 'volume'));"
        "predictor = Predictor(Path(sys.argv[1]).read_bytes(), window);"
        "assert 0 < predictor.predict_last(random_walk(40))[1] < 1;"
        "loaded = {'tensorflow', 'keras', 'mlflow', 'sklearn', 'pandas'} & set(sys.modules);"
        "assert not loaded, loaded"
    )
    reference = Path(__file__).parents[1] / "reference"
    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.append({str(reference)!r}); {code}", tmp_path / "network.onnx"],
        check=True,
    )


def test_windows_that_are_cut_already_are_predicted_alike(predictor: Predictor) -> None:
    bars = random_walk(60)
    windows = cut_windows(bars, predictor.window)
    np.testing.assert_array_equal(predictor.predict_windows(windows), predictor.predict(bars)[1])
    assert len(predictor.predict_windows(windows.take(np.empty(0, np.int64)))) == 0
    with pytest.raises(SpecError, match="takes 0 inputs about the other series of its panel, the windows have 1"):
        predictor.predict_windows(replace(windows, context_count=1))

"""An explanation shows what the network computes: compared with plain NumPy, and complete."""

from datetime import UTC, datetime
from typing import Any, get_args

import forward_passes as reference
import numpy as np
import pytest
from random_weights import randomise

from model.bars import Bars
from model.ensemble import EnsembleTrainer, FittedEnsemble
from model.errors import SpecError, UnsoundModel
from model.explanation import (
    COMPLETENESS,
    Explanation,
    activation_maps,
    explain_window,
    gate_maps,
    integrated_gradients,
)
from model.network_files import network_from_bytes, network_to_bytes
from model.networks import Kind, NetworkSpec, build_network
from model.training import Fitted, TrainingSpec
from model.windows import WindowSpec, standardise
from tasks.pages.champion_explanation import explain_at

KINDS = get_args(Kind)
SMALL = {"filters": (5, 3), "units": 6, "dense_units": 7}
LOOKBACK = 12
FEATURES = ("open", "high", "low", "close")

# Keras's variables offer NumPy 2 an `__array__` without `copy`, and NumPy warns each time (keras 3.15).
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def prices(seed: int = 0) -> np.ndarray:
    return 20_000 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.02, (LOOKBACK, len(FEATURES))), axis=0))


def explained(kind: Kind, seed: int = 1) -> tuple[Any, dict[str, list[np.ndarray]], Explanation]:
    network = build_network(NetworkSpec(kind=kind, **SMALL), LOOKBACK, len(FEATURES))
    weights = randomise(network, seed)
    return network, weights, explain_window(network, prices(), FEATURES)


def gates_by_formula(x: np.ndarray, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> dict[str, list]:
    """Each gate from its own four matrices, unit by unit, bar by bar."""
    units = len(recurrent)
    found: dict[str, list] = {
        name: [] for name in ("input gate", "forget gate", "output gate", "cell state", "hidden state")
    }
    hidden, memory = [0.0] * units, [0.0] * units
    for bar in x:
        pressed = {
            gate: [
                sum(bar[c] * kernel[c, g * units + u] for c in range(len(bar)))
                + sum(hidden[v] * recurrent[v, g * units + u] for v in range(units))
                + bias[g * units + u]
                for u in range(units)
            ]
            for g, gate in enumerate("ifco")
        }
        let_in, keep, let_out = (reference.sigmoid(np.array(pressed[gate])) for gate in "ifo")
        memory = [keep[u] * memory[u] + let_in[u] * np.tanh(pressed["c"][u]) for u in range(units)]
        hidden = [let_out[u] * np.tanh(memory[u]) for u in range(units)]
        for name, values in zip(found, (let_in, keep, let_out, memory, hidden), strict=True):
            found[name].append(values)
    return found


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.e2e if kind == "bilstm" else ()) for kind in KINDS]
)
def test_attributions_sum_to_the_change_of_the_probability(kind: Kind) -> None:
    network, _, found = explained(kind)
    change = float(network(prices()[None], training=False)[0, 0]) - float(
        network(np.full((1, LOOKBACK, 4), 500.0), training=False)[0, 0]
    )
    assert found.attribution.values.shape == (LOOKBACK, 4)
    assert abs(change) > 1e-3 or kind == "tcn"
    assert found.attribution.values.sum() == pytest.approx(change, abs=COMPLETENESS + 1e-6)
    assert found.attribution.gap <= COMPLETENESS
    assert found.attribution.by_bar().sum() == pytest.approx(found.attribution.values.sum())


@pytest.mark.parametrize("kind", ["cnn_lstm", pytest.param("bilstm", marks=pytest.mark.e2e)])  # that one: 13 s
def test_an_lstm_in_one_kernel_is_explained_as_the_stored_one(kind: Kind) -> None:
    network, _, found = explained(kind)
    assert "FusedLSTM" not in str(network.get_config())
    plain = integrated_gradients(network, found.scaled)
    assert plain.probability == pytest.approx(found.attribution.probability, abs=1e-6)
    assert found.attribution.steps == plain.steps
    np.testing.assert_allclose(found.attribution.values, plain.values, atol=1e-6)


def test_the_points_of_the_integral_are_the_same_however_many_are_predicted_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, _, found = explained("cnn_lstm")
    for at_once in (100, 10_000):
        monkeypatch.setattr("model.explanation.STEPS_AT_ONCE", at_once)
        again = integrated_gradients(network, found.scaled)
        assert again.steps == found.attribution.steps
        np.testing.assert_allclose(again.values, found.attribution.values, atol=1e-6)


def test_attributions_of_a_network_that_uses_one_number() -> None:
    """Only the last close counts: everything is its due, and its share is the whole change."""
    network = build_network(NetworkSpec(kind="lstm", **SMALL), LOOKBACK, 4)
    weights = randomise(network)["lstm"]
    kernel = weights[0].copy()
    kernel[:3] = 0.0  # open, high and low reach nothing
    network.get_layer("lstm").set_weights([kernel, *weights[1:]])
    found = integrated_gradients(network, standardise(prices()[None])[0])
    assert (found.values[:, :3] == 0).all()
    assert np.abs(found.values[:, 3]).sum() > 0


def test_scaled_window_and_filters_are_those_of_the_network() -> None:
    _, weights, found = explained("cnn_lstm")
    np.testing.assert_allclose(found.scaled, reference.standardise(prices()[None])[0], atol=1e-6)
    np.testing.assert_array_equal(found.filters, weights["conv_1"][0])
    assert found.kind == "cnn_lstm"
    assert found.lacks == ()


@pytest.mark.parametrize("kind", ["cnn_lstm", "cnn"])
def test_activation_maps_equal_numpy(kind: Kind) -> None:
    _, weights, found = explained(kind)
    x = reference.standardise(prices()[None])
    for number, answered in enumerate(found.activations, 1):
        x = reference.conv1d_same(x, *weights[f"conv_{number}"])
        x = reference.leaky_relu(reference.batch_norm(x, *weights[f"norm_{number}"]), 0.3)
        np.testing.assert_allclose(answered.values, x[0], atol=1e-5)
    assert [each.layer for each in found.activations] == ["conv_1", "conv_2"]


@pytest.mark.parametrize("kind", ["cnn_lstm", "tcn"])
def test_a_filter_depends_on_the_bars_within_its_reach_only(kind: Kind) -> None:
    network, _, found = explained(kind)
    other = found.scaled.copy()
    place = 6
    other[place] += 3.0
    for before, after in zip(found.activations, activation_maps(network, other), strict=True):
        moved = np.flatnonzero(np.abs(before.values - after.values).max(axis=1) > 1e-6)
        assert moved.min() >= place - before.reach_after
        assert moved.max() <= place + before.reach_before


@pytest.mark.parametrize("kind", ["cnn_lstm", "lstm"])
def test_gates_and_states_equal_the_formulas(kind: Kind) -> None:
    network, weights, found = explained(kind)
    x = found.activations[-1].values if kind == "cnn_lstm" else found.scaled
    expected = gates_by_formula(x, *weights["lstm"])
    (followed,) = found.gates
    assert set(followed.maps) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(followed.maps[name], values, atol=1e-5)
    # the last state of the reference, and of the real layer, is where the steps lead
    np.testing.assert_allclose(
        followed.maps["hidden state"][-1], reference.lstm(x[None], *weights["lstm"])[0], atol=1e-6
    )
    cell = network.get_layer("lstm").cell
    state = [np.zeros((1, 6), np.float32), np.zeros((1, 6), np.float32)]
    for t, bar in enumerate(x):
        _, state = cell(bar[None].astype(np.float32), state)
        np.testing.assert_allclose(followed.maps["cell state"][t], np.asarray(state[1])[0], atol=1e-5)


@pytest.mark.e2e  # its trace takes as long as all others together
def test_a_bilstm_has_maps_of_both_directions_in_the_order_of_the_bars() -> None:
    _, weights, found = explained("bilstm")
    forwards, backwards = found.gates
    first, second = weights["bilstm"][:3], weights["bilstm"][3:]
    np.testing.assert_allclose(
        forwards.maps["forget gate"], gates_by_formula(found.scaled, *first)["forget gate"], atol=1e-6
    )
    reverse = gates_by_formula(found.scaled[::-1], *second)["forget gate"][::-1]
    np.testing.assert_allclose(backwards.maps["forget gate"], reverse, atol=1e-6)


def test_a_gru_has_update_and_reset_gates() -> None:
    _, weights, found = explained("gru")
    (followed,) = found.gates
    assert set(followed.maps) == {"update gate", "reset gate", "hidden state"}
    for bars in (1, 5, LOOKBACK):
        last = reference.gru(found.scaled[None, :bars], *weights["gru"])[0]
        np.testing.assert_allclose(followed.maps["hidden state"][bars - 1], last, atol=1e-6)
    assert any("no cell state" in line for line in found.lacks)


def test_a_stored_network_is_explained_as_the_one_that_was_stored() -> None:
    network, _, found = explained("cnn_lstm")
    stored = network_from_bytes(network_to_bytes(network))
    assert [layer.name for layer in stored.layers] == [layer.name for layer in network.layers]
    again = explain_window(stored, prices(), FEATURES)
    np.testing.assert_allclose(again.attribution.values, found.attribution.values, atol=1e-7)
    np.testing.assert_allclose(again.gates[0].maps["cell state"], found.gates[0].maps["cell state"], atol=1e-7)


def anchored(window: np.ndarray) -> np.ndarray:
    """Distance from the last close in typical moves over that distance in time, price by price, six moves at most."""
    close, bars = window[:, 3], len(window)
    move = np.sqrt(sum((close[t] - close[t - 1]) ** 2 for t in range(1, bars)) / (bars - 1))
    moves = [[(price - close[-1]) / (move * np.sqrt(bars - t)) for price in window[t]] for t in range(bars)]
    return np.clip(moves, -6.0, 6.0)


def numpy_probabilities(weights: dict[str, list[np.ndarray]], x: np.ndarray) -> np.ndarray:
    """P(rise) of standardised windows, shape (window,), by a cnn_lstm of two convolutions."""
    for number in (1, 2):
        x = reference.conv1d_same(x, *weights[f"conv_{number}"])
        x = reference.leaky_relu(reference.batch_norm(x, *weights[f"norm_{number}"]), 0.3)
    x = reference.dense(reference.lstm(x, *weights["lstm"]), *weights["dense"])
    x = reference.leaky_relu(reference.batch_norm(x, *weights["dense_norm"]), 0.3)
    return reference.sigmoid(reference.dense(x, *weights["probability"]))[:, 0]


def shares_by_numpy(weights: dict[str, list[np.ndarray]], seen: np.ndarray, steps: int = 256) -> np.ndarray:
    """Integrated gradients by differences of the NumPy network along the straight path from zeros."""
    nudge = 1e-5
    moves = nudge * np.eye(seen.size).reshape(seen.size, *seen.shape)
    total = np.zeros(seen.size)
    for place in (np.arange(steps) + 0.5) / steps:
        both = numpy_probabilities(weights, np.concatenate([place * seen + moves, place * seen - moves]))
        total += (both[: seen.size] - both[seen.size :]) / (2 * nudge)
    return total.reshape(seen.shape) / steps * seen


@pytest.mark.e2e
def test_an_anchored_ensemble_is_explained_by_the_member_nearest_to_its_mean() -> None:
    spec = NetworkSpec(scaling="last_close", **SMALL)
    members, every = [], []
    for seed in (1, 2, 3):
        network = build_network(spec, LOOKBACK, len(FEATURES))
        every.append(randomise(network, seed))
        members.append(Fitted(tuple(network.get_weights()), (), 1, "CPU", 0.0))
    trainer = EnsembleTrainer(spec, TrainingSpec(members=3), LOOKBACK, len(FEATURES))
    ensemble = trainer.keras_model(FittedEnsemble(tuple(members)))
    seen = anchored(prices())
    probabilities = np.array([numpy_probabilities(weights, seen[None])[0] for weights in every])
    nearest = int(np.abs(probabilities - probabilities.mean()).argmin())
    assert float(ensemble(prices()[None])[0, 0]) == pytest.approx(probabilities.mean(), abs=1e-6)

    opened_at = np.datetime64("2020-01-01", "us") + np.arange(LOOKBACK) * np.timedelta64(1, "D")
    bars = Bars("1d", opened_at, np.column_stack([prices(), np.ones(LOOKBACK)]))
    served = explain_at(ensemble, bars, WindowSpec(lookback_bars=LOOKBACK), datetime(2019, 1, 1, tzinfo=UTC))
    assert served.probability == pytest.approx(probabilities.mean(), abs=1e-6)  # not that of the explained member

    found = explain_window(ensemble, prices(), FEATURES)
    assert found.kind == f"cnn_lstm_ensemble, member {nearest + 1} of 3"
    np.testing.assert_allclose(found.scaled, seen, atol=1e-5)
    assert found.attribution.probability == pytest.approx(probabilities[nearest], abs=1e-6)
    flat = numpy_probabilities(every[nearest], np.zeros((1, *seen.shape)))[0]
    assert found.attribution.values.sum() == pytest.approx(probabilities[nearest] - flat, abs=COMPLETENESS + 1e-6)
    expected = shares_by_numpy(every[nearest], seen)
    assert np.abs(expected).max() > 0.005
    np.testing.assert_allclose(found.attribution.values, expected, atol=2e-4)
    lstm_state = found.gates[0].maps["hidden state"][-1]
    x = seen[None]
    for number, answered in enumerate(found.activations, 1):
        x = reference.conv1d_same(x, *every[nearest][f"conv_{number}"])
        x = reference.leaky_relu(reference.batch_norm(x, *every[nearest][f"norm_{number}"]), 0.3)
        np.testing.assert_allclose(answered.values, x[0], atol=1e-5)
    np.testing.assert_allclose(lstm_state, reference.lstm(x, *every[nearest]["lstm"])[0], atol=1e-5)


def test_a_network_without_the_scaling_layer_is_refused() -> None:
    import keras

    other = keras.Sequential([keras.Input((LOOKBACK, 4)), keras.layers.Flatten(), keras.layers.Dense(1)])
    with pytest.raises(UnsoundModel, match="standardises its windows itself"):
        explain_window(other, prices(), FEATURES)


def test_missing_parts_of_a_kind_are_described() -> None:
    _, _, cnn = explained("cnn")
    assert cnn.gates == ()
    assert cnn.lacks == ("A network of kind cnn has no recurrent layer: it has no gates and no cell state.",)
    _, _, lstm = explained("lstm")
    assert lstm.filters is None
    assert lstm.activations == ()
    assert lstm.lacks == ("A network of kind lstm has no convolution: it has no filters and no activation maps.",)


def test_a_window_of_another_shape_is_refused() -> None:
    network = build_network(NetworkSpec(kind="cnn", **SMALL), LOOKBACK, 4)
    with pytest.raises(SpecError, match="takes windows of 12 bars and 4 features"):
        explain_window(network, prices()[1:], FEATURES)
    with pytest.raises(SpecError, match="the names open, high"):
        explain_window(network, prices(), ("open", "high"))


def test_a_layer_with_another_output_is_refused() -> None:
    network, _, found = explained("lstm")
    layer = network.get_layer("lstm")
    true_call = layer.call
    layer.call = lambda *given, **how: true_call(*given, **how) + 0.01
    with pytest.raises(UnsoundModel, match="recomputed states of lstm"):
        gate_maps(network, found.scaled)

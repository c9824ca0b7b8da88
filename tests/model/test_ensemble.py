"""Seed ensembles: the mean of their members, one model to serve; warm starts; calibrated fits."""

import numpy as np
import pytest
from shared_traces import share_trace
from synthetic_bars import random_walk, scrambled

from model.calibration import calibrator_from_json, calibrator_to_json, fit_calibrator
from model.ensemble import CalibratedTrainer, EnsembleTrainer, FittedEnsemble, member_seeds, open_trainer
from model.errors import SpecError
from model.explanation import explain_window
from model.folds import FoldSpec, split_folds
from model.network_files import network_from_bytes, network_to_bytes, network_to_onnx
from model.networks import NetworkSpec
from model.predictor import Predictor
from model.training import Fitted, Trainer, TrainingSpec
from model.walk_forward import walk_forward
from model.windows import WindowSpec, cut_windows

SPEC = WindowSpec(lookback_bars=6)
BARS = random_walk(220, seed=2)
WINDOWS = cut_windows(BARS, SPEC).resolved()
NETWORK = NetworkSpec(kind="cnn_lstm", filters=(3, 2), units=3, dense_units=4)
TRAINING = TrainingSpec(epochs=2, batch_size=32, members=3)
TRAIN, VALIDATION = np.arange(150), np.arange(150, 200)


@pytest.fixture(scope="module")
def trainer() -> EnsembleTrainer:
    return share_trace(EnsembleTrainer(NETWORK, TRAINING, 6, 4))


@pytest.fixture(scope="module")
def fitted(trainer: EnsembleTrainer) -> FittedEnsemble:
    return trainer.fit(WINDOWS, TRAIN, VALIDATION)


def test_an_ensemble_predicts_the_mean_of_single_fits(trainer: EnsembleTrainer, fitted: FittedEnsemble) -> None:
    alone = share_trace(Trainer(NETWORK, TrainingSpec(epochs=2, batch_size=32), 6, 4))
    probabilities = [
        alone.predict(alone.fit(WINDOWS, TRAIN, VALIDATION, seed=seed), WINDOWS) for seed in member_seeds(7, 3)
    ]
    assert trainer.predict(fitted, WINDOWS) == pytest.approx(np.mean(probabilities, axis=0), abs=1e-7)
    assert np.ptp(probabilities, axis=0).max() > 1e-4


def test_seeds_differ_repeat_and_begin_with_the_given_one() -> None:
    assert member_seeds(7, 1) == (7,)
    assert member_seeds(7, 5)[:3] == member_seeds(7, 3)
    assert len(set(member_seeds(7, 50))) == 50
    assert all(0 <= seed < 2**31 for seed in member_seeds(2**31 - 1, 50))
    assert set(member_seeds(8, 5)).isdisjoint(member_seeds(7, 5))


def test_it_is_traced_once_and_has_the_attributes_of_one_fit(trainer: EnsembleTrainer, fitted: FittedEnsemble) -> None:
    assert trainer.trainer.trace_count == 1
    assert [epoch.number for epoch in fitted.history] == [1, 2]
    losses = [member.history[0].validation_loss for member in fitted.members]
    assert fitted.history[0].validation_loss == pytest.approx(np.mean(losses))
    assert fitted.best_epoch in {1, 2}
    assert fitted.seconds == pytest.approx(sum(member.seconds for member in fitted.members))
    assert fitted.device == "CPU"


def test_keras_and_onnx_serve_it_as_one_model(trainer: EnsembleTrainer, fitted: FittedEnsemble) -> None:
    network = trainer.keras_model(fitted)
    expected = trainer.predict(fitted, WINDOWS)
    again = network_from_bytes(network_to_bytes(network))
    assert np.asarray(again(WINDOWS.values()))[:, 0] == pytest.approx(expected, abs=1e-6)
    decided_at, served = Predictor(network_to_onnx(network), SPEC).predict(BARS)
    known = np.isin(decided_at, WINDOWS.decided_at)
    assert served[known] == pytest.approx(expected, abs=1e-5)
    weights = again.get_weights()
    assert len(weights) == len(fitted.weights)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(fitted.weights, weights, strict=True))


def test_the_member_nearest_to_the_mean_explains_the_ensemble(trainer: EnsembleTrainer, fitted: FittedEnsemble) -> None:
    window = WINDOWS.values()[5]
    probabilities = [trainer.trainer.predict(member, WINDOWS)[5] for member in fitted.members]
    nearest = int(np.abs(np.array(probabilities) - np.mean(probabilities)).argmin())
    explained = explain_window(trainer.keras_model(fitted), window, SPEC.features)
    assert explained.kind == f"cnn_lstm_ensemble, member {nearest + 1} of 3"
    assert explained.attribution.probability == pytest.approx(probabilities[nearest], abs=1e-6)
    alone = explain_window(trainer.trainer.keras_model(fitted.members[nearest]), window, SPEC.features)
    assert alone.kind == "cnn_lstm"
    assert alone.attribution.values == pytest.approx(explained.attribution.values, abs=1e-6)
    assert [each.layer for each in alone.activations] == [each.layer for each in explained.activations]


def test_one_member_is_the_network_alone() -> None:
    assert isinstance(open_trainer(NETWORK, TrainingSpec(), 6, 4), Trainer)
    assert isinstance(open_trainer(NETWORK, TrainingSpec(members=2), 6, 4), EnsembleTrainer)


@pytest.fixture(scope="module", params=["temperature", "isotonic"])
def calibrated(request: pytest.FixtureRequest, trainer: EnsembleTrainer) -> CalibratedTrainer:
    return CalibratedTrainer(trainer, request.param)  # the same trainer: tracing another costs seconds


def test_a_calibrator_is_fitted_on_the_validation_windows(calibrated: CalibratedTrainer) -> None:
    fitted = calibrated.fit(WINDOWS, TRAIN, VALIDATION)
    raw = calibrated.trainer.predict(fitted, WINDOWS)
    validation = WINDOWS.take(VALIDATION)
    probabilities = calibrated.trainer.predict(fitted, validation)
    expected = fit_calibrator(calibrated.calibration, validation.labels, probabilities)
    assert fitted.calibrator.plain() == expected.plain()
    assert calibrated.predict(fitted, WINDOWS).tolist() == expected.apply(raw).tolist()
    assert np.abs(raw - expected.apply(raw)).max() > 1e-3
    assert (np.diff(expected.apply(raw)[np.argsort(raw)]) >= 0).all()


@pytest.mark.e2e
def test_a_calibrated_model_is_served_as_it_was_trained(calibrated: CalibratedTrainer) -> None:
    fitted = calibrated.fit(WINDOWS, TRAIN, VALIDATION)
    expected = calibrated.predict(fitted, WINDOWS)
    network = network_from_bytes(network_to_bytes(calibrated.keras_model(fitted)))
    stored = calibrator_from_json(calibrator_to_json(fitted.calibrator))
    probabilities = np.asarray(network(WINDOWS.values()), dtype=np.float64)[:, 0]
    decided_at, plain = Predictor(network_to_onnx(network), SPEC).predict(BARS)
    known = np.isin(decided_at, WINDOWS.decided_at)
    assert probabilities == pytest.approx(plain[known], abs=1e-6)
    _, by_onnx = Predictor(network_to_onnx(network), SPEC, stored).predict(BARS)
    assert by_onnx.tolist() == stored.apply(plain).tolist()
    # A step of the isotonic one is as steep as it is: there a rounding of the network's 1e-7 becomes more.
    close = np.abs([stored.apply(probabilities) - expected, by_onnx[known] - expected]) <= 1e-5
    assert close.all() if calibrated.calibration == "temperature" else close.mean() > 0.95


def test_no_test_bar_reaches_a_calibrator(calibrated: CalibratedTrainer) -> None:
    """All bars after the newest block's first decision are scrambled: no calibrator moves, nor an answer before it."""
    folds = split_folds(WINDOWS, FoldSpec(test_bars=60, count=2))
    decided = int(np.searchsorted(BARS.closed_at, WINDOWS.decided_at[folds[1].test[0]]))
    other = cut_windows(scrambled(BARS, decided + 1), SPEC).resolved()
    assert (other.labels[folds[1].test] != WINDOWS.labels[folds[1].test]).any()
    one, two = (walk_forward(calibrated, each, folds, seed=7) for each in (WINDOWS, other))
    assert one.calibrator.plain() == two.calibrator.plain()
    assert one.record.probabilities[:31].tolist() == two.record.probabilities[:31].tolist()
    last = calibrated.fit(WINDOWS, folds[1].train, folds[1].validation)
    assert one.calibrator.plain() == last.calibrator.plain()


def test_a_fit_without_validation_is_not_calibrated(calibrated: CalibratedTrainer) -> None:
    """All its windows are in-sample, where any calibrator would look perfect."""
    assert str(calibrated.fit(WINDOWS, TRAIN, None, epochs=1).calibrator) == "none"


def test_the_recipe_decides_about_calibration() -> None:
    opened = open_trainer(NETWORK, TrainingSpec(calibration="isotonic"), 6, 4)
    assert isinstance(opened, CalibratedTrainer)
    assert isinstance(opened.trainer, Trainer)


def test_a_warm_start_continues_from_the_given_weights(trainer: EnsembleTrainer, fitted: FittedEnsemble) -> None:
    single: Fitted = fitted.members[1]
    cold = trainer.trainer.fit(WINDOWS, TRAIN, VALIDATION, epochs=1)
    warm = trainer.trainer.fit(WINDOWS, TRAIN, VALIDATION, epochs=1, start=single.weights)
    again = trainer.trainer.fit(WINDOWS, TRAIN, VALIDATION, epochs=1, start=single.weights)
    moved = [_distance(each.weights, single.weights) for each in (warm, cold)]
    assert 0 < moved[0] < moved[1] / 2
    assert _distance(warm.weights, again.weights) == 0
    assert trainer.trainer.trace_count == 1


def _distance(ours: tuple[np.ndarray, ...], theirs: tuple[np.ndarray, ...]) -> float:
    return float(np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(ours, theirs, strict=True))))


def test_an_ensemble_starts_each_member_from_its_own_weights(trainer: EnsembleTrainer, fitted: FittedEnsemble) -> None:
    warm = trainer.fit(WINDOWS, TRAIN, VALIDATION, epochs=1, start=fitted.weights)
    for now, before in zip(warm.members, fitted.members, strict=True):
        others = [each for each in fitted.members if each is not before]
        nearest = min(_distance(now.weights, each.weights) for each in others)
        assert _distance(now.weights, before.weights) < nearest
    with pytest.raises(SpecError, match="weights of 3 members"):
        trainer.fit(WINDOWS, TRAIN, VALIDATION, epochs=1, start=fitted.weights[:-1])


def test_walking_forward_equals_fitting_fold_by_fold(trainer: EnsembleTrainer) -> None:
    folds = split_folds(WINDOWS, FoldSpec(test_bars=60, count=2))
    walked = walk_forward(trainer, WINDOWS, folds, seed=7)
    last = trainer.fit(WINDOWS, folds[1].train, folds[1].validation)
    assert walked.record.probabilities[30:] == pytest.approx(trainer.predict(last, WINDOWS.take(folds[1].test)))
    assert (walked.record.labels == WINDOWS.labels[-60:]).all()
    assert walked.record.fold.tolist() == [0] * 30 + [1] * 30
    learned = np.concatenate([folds[0].train, folds[0].validation])
    assert walked.base_rate[:30] == pytest.approx(np.full(30, WINDOWS.labels[learned].mean()))
    assert 1 <= walked.epochs <= 2

"""Walk forward and final fit, with a trainer that is quick and whose probabilities are known."""

from dataclasses import dataclass, field, replace
from threading import Barrier
from time import sleep
from typing import Any

import numpy as np
import pytest
from synthetic_bars import random_walk

from model.baselines import BASELINES, predict_baseline
from model.calibration import UNCALIBRATED, Calibrator, Temperature
from model.errors import BarsTooShort
from model.final_fit import PROBE_WINDOWS, fit_final_network
from model.folds import FoldSpec, split_folds
from model.training import Epoch, median_epochs
from model.walk_forward import fit_fold, walk_baselines_forward, walk_forward
from model.windows import Windows, WindowSpec, cut_windows

WINDOWS = cut_windows(random_walk(260, seed=4), WindowSpec(lookback_bars=5, horizon_bars=3))
RESOLVED = WINDOWS.resolved()
FOLDS = split_folds(RESOLVED, FoldSpec(test_bars=90, count=3))
EPOCH = Epoch(1, 0.7, 0.5, 0.69, 0.5, 1e-3, 0.1)


@dataclass(frozen=True)
class Fitted:
    probability: float
    best_epoch: int
    history: tuple[Epoch, ...] = (EPOCH,)
    device: str = "CPU"
    seconds: float = 0.5
    calibrator: Calibrator = UNCALIBRATED


@dataclass
class ShareOfRises:
    """Predicts the share of rises among the training windows, shifted by the seed; keeps what it was called with."""

    calls: list[dict[str, Any]] = field(default_factory=list)

    def fit(
        self,
        windows: Windows,
        train_index: np.ndarray,
        validation_index: np.ndarray | None = None,
        epochs: int | None = None,
        on_epoch: Any = None,
        seed: int | None = None,
        start: Any = None,
    ) -> Fitted:
        self.calls.append({"train": train_index, "validation": validation_index, "epochs": epochs, "start": start})
        if on_epoch is not None:
            on_epoch(EPOCH)
        share = float(windows.labels[train_index].mean()) + (seed or 0) / 1000
        return Fitted(share, best_epoch=len(self.calls))

    def predict(self, fitted: Fitted, windows: Windows) -> np.ndarray:
        return np.full(len(windows), fitted.probability)

    def predict_further(self, fitted: Fitted, windows: Windows) -> np.ndarray:  # noqa: ARG002 - the interface
        return np.empty((len(windows), 0))

    def keras_model(self, fitted: Fitted) -> Any:
        raise NotImplementedError(fitted)


def test_the_record_pools_what_each_fold_predicts() -> None:
    walked = walk_forward(ShareOfRises(), RESOLVED, FOLDS, seed=7)
    one_by_one = [fit_fold(ShareOfRises(), RESOLVED, fold, 7).record for fold in FOLDS]
    assert len(FOLDS) == 3
    np.testing.assert_array_equal(walked.record.probabilities, np.concatenate([e.probabilities for e in one_by_one]))
    np.testing.assert_array_equal(walked.record.decided_at, RESOLVED.decided_at[-90:])
    np.testing.assert_array_equal(walked.record.labels, RESOLVED.labels[-90:])
    assert walked.record.fold.tolist() == [0] * 30 + [1] * 30 + [2] * 30
    assert walked.best_epochs == (1, 2, 3)
    assert walked.epochs == 2


def test_fold_networks_predict_the_test_windows_up_to_their_own_before_calibration() -> None:
    class Calibrated(ShareOfRises):
        def fit(self, *arguments: Any, **named: Any) -> Fitted:
            return replace(super().fit(*arguments, **named), calibrator=Temperature(3.0))

        def predict(self, fitted: Fitted, windows: Windows) -> np.ndarray:
            return fitted.calibrator.apply(super().predict(fitted, windows))

    walked = walk_forward(Calibrated(), RESOLVED, FOLDS, seed=7)
    shares = [RESOLVED.labels[fold.train].mean() + 0.007 for fold in FOLDS]
    known = (30, 60, 90)
    for network, share, end in zip(walked.fold_networks, shares, known, strict=True):
        np.testing.assert_allclose(network[:end], share, rtol=1e-12)
        assert np.isnan(network[end:]).all()
    assert (walked.record.probabilities != np.repeat(shares, 30)).all()


def test_the_calibrator_that_will_serve_is_that_of_the_newest_fold() -> None:
    class Calibrated(ShareOfRises):
        def fit(self, *arguments: Any, **named: Any) -> Fitted:
            fitted = super().fit(*arguments, **named)
            return replace(fitted, calibrator=Temperature(1.0 + len(self.calls)))

    assert walk_forward(Calibrated(), RESOLVED, FOLDS, seed=7).calibrator == Temperature(4.0)


def test_a_fold_keeps_the_probabilities_of_its_validation_windows_apart_from_its_test_fold() -> None:
    class NewestMove(ShareOfRises):
        def predict(self, fitted: Fitted, windows: Windows) -> np.ndarray:
            move = windows.values()[:, -1, -1] / windows.values()[:, 0, -1]
            return np.asarray(fitted.probability * move / (1 + move))

    for fold in FOLDS:
        fit = fit_fold(NewestMove(), RESOLVED, fold, 7)
        expected = NewestMove().predict(Fitted(RESOLVED.labels[fold.train].mean() + 0.007, 1), RESOLVED)
        np.testing.assert_array_equal(fit.validation.probabilities, expected[fold.validation])
        np.testing.assert_array_equal(fit.validation.labels, RESOLVED.labels[fold.validation])
        assert set(fit.validation.fold) == {fold.index}
        assert fit.validation.resolved_at[-1] < fit.record.decided_at[0]
        assert not np.isin(fit.validation.decided_at, RESOLVED.decided_at[fold.test]).any()


def test_a_fold_starts_from_the_weights_it_is_given() -> None:
    trainer, weights = ShareOfRises(), {fold.index: (np.array([float(fold.index)]),) for fold in FOLDS}
    walk_forward(trainer, RESOLVED, FOLDS, seed=7, start=lambda fold: weights[fold.index])
    assert [call["start"] for call in trainer.calls] == [weights[fold.index] for fold in FOLDS]


def test_threads_fit_as_many_folds_at_once_and_keep_their_order() -> None:
    both_fitting = Barrier(2)

    class Waits(ShareOfRises):
        def fit(self, *arguments: Any, **named: Any) -> Fitted:
            both_fitting.wait(timeout=10)  # fails where folds are fitted in turn
            return super().fit(*arguments, **named)

    at_once = walk_forward(Waits(), RESOLVED, FOLDS[:2], seed=7, threads=2)
    in_turn = walk_forward(ShareOfRises(), RESOLVED, FOLDS[:2], seed=7)
    np.testing.assert_array_equal(at_once.record.probabilities, in_turn.record.probabilities)


@pytest.mark.parametrize("failing", [0, 1])
def test_a_fold_that_fails_ends_the_others_with_their_epoch(failing: int) -> None:
    both_fitting, epochs = Barrier(2), []

    class Fails(ShareOfRises):
        def fit(self, windows: Windows, train: np.ndarray, *arguments: Any, on_epoch: Any, **named: Any) -> Fitted:
            both_fitting.wait(timeout=10)
            if len(train) == len(FOLDS[failing].train):
                raise BarsTooShort("this fold")
            for number in range(1000):  # of the other fold, ten seconds
                sleep(0.01)
                epochs.append(number)
                on_epoch(EPOCH)
            return super().fit(windows, train, *arguments, **named)

    with pytest.raises(BarsTooShort, match="this fold"):
        walk_forward(Fails(), RESOLVED, FOLDS[:2], seed=7, threads=2)
    assert len(epochs) < 100


def test_further_seeds_predict_the_same_windows_and_leave_the_record_alone() -> None:
    epochs: list[int] = []
    alone = fit_fold(ShareOfRises(), RESOLVED, FOLDS[0], 7)
    several = fit_fold(ShareOfRises(), RESOLVED, FOLDS[0], 7, (8, 9), on_epoch=lambda seed, _: epochs.append(seed))
    np.testing.assert_array_equal(several.record.probabilities, alone.record.probabilities)
    assert alone.further_seeds == {}
    assert epochs == [7, 8, 9]
    for seed in (8, 9):
        np.testing.assert_allclose(
            several.further_seeds[seed], alone.record.probabilities + (seed - 7) / 1000, rtol=1e-12
        )


@pytest.mark.parametrize(
    ("best_epochs", "epochs"), [((5,), 5), ((1, 9, 4), 4), ((1, 2), 2), ((2, 3), 2), ((0, 0, 0), 1)]
)
def test_the_final_fit_runs_the_median_of_the_folds_best_epochs(best_epochs: tuple[int, ...], epochs: int) -> None:
    assert median_epochs(best_epochs) == epochs


def test_the_final_fit_learns_from_every_resolved_window_and_predicts_the_newest() -> None:
    trainer, start = ShareOfRises(), (np.array([1.0]),)
    final = fit_final_network(trainer, WINDOWS, [3, 4, 9], start=start)
    (call,) = trainer.calls
    assert call["train"].tolist() == list(range(len(RESOLVED)))
    assert (call["validation"], call["epochs"], call["start"]) == (None, 4, start)
    assert final.epochs == 4
    assert len(WINDOWS) > len(RESOLVED)
    np.testing.assert_array_equal(final.probe_decided_at, WINDOWS.decided_at[-PROBE_WINDOWS:])
    assert final.probe == pytest.approx(np.full(PROBE_WINDOWS, RESOLVED.labels.mean()))


def test_a_baseline_learns_from_the_windows_that_train_and_validate_the_network() -> None:
    found = walk_baselines_forward(RESOLVED, FOLDS, seed=7)
    assert tuple(found) == BASELINES
    learned = np.concatenate([FOLDS[1].train, FOLDS[1].validation])
    for name, probabilities in found.items():
        expected = predict_baseline(name, RESOLVED, learned, FOLDS[1].test, 7)
        np.testing.assert_array_equal(probabilities[30:60], expected)
    np.testing.assert_array_equal(walk_forward(ShareOfRises(), RESOLVED, FOLDS, 7).base_rate, found["base_rate"])


def test_without_a_fold_there_is_nothing_to_walk() -> None:
    with pytest.raises(BarsTooShort, match="at least one fold"):
        walk_forward(ShareOfRises(), RESOLVED, (), seed=7)

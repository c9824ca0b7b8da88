"""Train a recipe's network: a single one or an ensemble of several seeds, with or without calibration.

The mean probability of an ensemble varies less by seed. `EnsembleTrainer` has the interface of a `Trainer` and returns
one Keras model, so storage and serving do not know about members. `CalibratedTrainer` adds a calibrator to either. The
trap: each member stops at its own best epoch, so the ensemble's best epoch is their median, which is the number of
epochs for a final fit but not a checkpoint.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64

from model.calibration import UNCALIBRATED, CalibrationName, Calibrator, fit_calibrator
from model.errors import SpecError
from model.networks import NetworkSpec, build_network
from model.training import Epoch, Fitted, Trainer, TrainingSpec, median_epochs
from model.windows import Windows

MEMBER = "member_"
CURVES = ("loss", "accuracy", "validation_loss", "validation_accuracy", "learning_rate")


@dataclass(frozen=True, slots=True)
class FittedEnsemble:
    """The fitted members, with the attributes of a `Fitted`."""

    members: tuple[Fitted, ...]
    calibrator: Calibrator = UNCALIBRATED

    @property
    def weights(self) -> tuple[np.ndarray, ...]:
        """The arrays of all members, in the order of the ensemble's Keras model."""
        return tuple(array for member in self.members for array in member.weights)

    @property
    def history(self) -> tuple[Epoch, ...]:
        """Each epoch as the mean over the members that ran it; seconds as their sum."""
        epochs = zip_longest(*(member.history for member in self.members))
        return tuple(_mean_epoch([epoch for epoch in same if epoch is not None]) for same in epochs)

    @property
    def best_epoch(self) -> int:
        """Median of the members' best epochs."""
        return median_epochs([member.best_epoch for member in self.members])

    @property
    def device(self) -> str:
        """Device of the fits."""
        return self.members[0].device

    @property
    def seconds(self) -> float:
        """Total time of the fits."""
        return sum(member.seconds for member in self.members)


class EnsembleTrainer:
    """Fits `TrainingSpec.members` networks in sequence, with one traced graph."""

    def __init__(
        self,
        network: NetworkSpec,
        training: TrainingSpec,
        lookback_bars: int,
        feature_count: int,
        context_count: int = 0,
    ) -> None:
        """Build and trace the network once; see `Trainer`."""
        self.trainer = Trainer(network, training, lookback_bars, feature_count, context_count)

    def fit(
        self,
        windows: Windows,
        train_index: Int64[np.ndarray, " train"],
        validation_index: Int64[np.ndarray, " validation"] | None = None,
        epochs: int | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
        seed: int | None = None,
        start: tuple[np.ndarray, ...] | None = None,
    ) -> FittedEnsemble:
        """Fit every member on the same windows, each with its own seed; see `Trainer.fit`.

        Args:
            windows: windows of one series.
            train_index: shape (train,), training windows.
            validation_index: shape (validation,), validation windows; None or empty for none.
            epochs: maximum number of epochs; the spec's when None.
            on_epoch: called after each epoch of each member.
            seed: the first member's seed, from which the others' follow; the spec's when None.
            start: weights of a former ensemble with as many members; fresh ones when None.

        Raises:
            SpecError: `start` has another number of members.
        """
        spec = self.trainer.training
        starts = _shares(start, spec.members)
        return FittedEnsemble(
            tuple(
                self.trainer.fit(windows, train_index, validation_index, epochs, on_epoch, each, begin)
                for each, begin in zip(
                    member_seeds(spec.seed if seed is None else seed, spec.members), starts, strict=True
                )
            )
        )

    def predict(self, fitted: FittedEnsemble, windows: Windows) -> Float64[np.ndarray, " window"]:
        """Return the members' mean P(rise) of each window, shape (window,), float64.

        Time: entry w depends on the bars of window w and on the fitted weights.
        """
        probabilities = [self.trainer.predict(member, windows) for member in fitted.members]
        return np.asarray(np.mean(probabilities, axis=0), dtype=np.float64)

    def predict_further(self, fitted: FittedEnsemble, windows: Windows) -> Float64[np.ndarray, "window output"]:
        """Return the members' mean outputs; see `Trainer.predict_further`."""
        outputs = [self.trainer.predict_further(member, windows) for member in fitted.members]
        return np.asarray(np.mean(outputs, axis=0), dtype=np.float64)

    def keras_model(self, fitted: FittedEnsemble) -> Any:
        """Return one `keras.Model` that predicts the members' mean; stored and served as a single network."""
        import keras  # imported here: TensorFlow takes ten seconds to load

        trainer = self.trainer
        windows = keras.Input((trainer.lookback_bars, trainer.feature_count), dtype="float64", name="windows")
        outputs = []
        for number, member in enumerate(fitted.members, 1):
            shape = (trainer.lookback_bars, trainer.feature_count)
            built = build_network(trainer.network, *shape, context_count=trainer.context_count)
            built.set_weights(member.weights)
            outputs.append(keras.Model(built.inputs[0], built.outputs[0], name=f"{MEMBER}{number}")(windows))
        mean = keras.layers.Average(dtype="float32", name="probability")(outputs)
        return keras.Model(windows, mean, name=f"{trainer.network.kind}_ensemble")


@runtime_checkable
class AnyTrainer(Protocol):
    """The interface of all trainers; a fit can be used only by the trainer that made it."""

    def fit(
        self,
        windows: Windows,
        train_index: Int64[np.ndarray, " train"],
        validation_index: Int64[np.ndarray, " validation"] | None = None,
        epochs: int | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
        seed: int | None = None,
        start: tuple[np.ndarray, ...] | None = None,
    ) -> Any:
        """Fit; see `Trainer.fit`."""
        ...

    def predict(self, fitted: Any, windows: Windows) -> Float64[np.ndarray, " window"]:
        """Return P(rise)."""
        ...

    def predict_further(self, fitted: Any, windows: Windows) -> Float64[np.ndarray, "window output"]:
        """Return the outputs after P(rise); no column without any."""
        ...

    def keras_model(self, fitted: Any) -> Any:
        """Return one `keras.Model`."""
        ...


class CalibratedTrainer:
    """Adds a calibrator to another trainer, fitted on the validation windows of each fit.

    A fit without validation windows has no calibrator, because training windows are in-sample. The final fit uses the
    newest fold's.
    """

    def __init__(self, trainer: AnyTrainer, calibration: CalibrationName) -> None:
        """Wrap a trainer."""
        self.trainer = trainer
        self.calibration = calibration

    def fit(
        self,
        windows: Windows,
        train_index: Int64[np.ndarray, " train"],
        validation_index: Int64[np.ndarray, " validation"] | None = None,
        epochs: int | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
        seed: int | None = None,
        start: tuple[np.ndarray, ...] | None = None,
    ) -> Any:
        """Fit, then calibrate on the windows at `validation_index`; see `Trainer.fit`.

        Time: the calibrator depends on the same windows as the weights.
        """
        fitted = self.trainer.fit(windows, train_index, validation_index, epochs, on_epoch, seed, start)
        if validation_index is None or not len(validation_index):
            return fitted
        validation = windows.take(validation_index)
        probabilities = self.trainer.predict(fitted, validation)
        return replace(fitted, calibrator=fit_calibrator(self.calibration, validation.labels, probabilities))

    def predict(self, fitted: Any, windows: Windows) -> Float64[np.ndarray, " window"]:
        """Return the calibrated P(rise) of each window, shape (window,), float64.

        Time: entry w depends on the bars of window w, on the fitted weights and on the fitted calibrator.
        """
        calibrated: Float64[np.ndarray, " window"] = fitted.calibrator.apply(self.trainer.predict(fitted, windows))
        return calibrated

    def predict_further(self, fitted: Any, windows: Windows) -> Float64[np.ndarray, "window output"]:
        """Return the outputs after P(rise), which are not calibrated."""
        return self.trainer.predict_further(fitted, windows)

    def keras_model(self, fitted: Any) -> Any:
        """Return one `keras.Model`, whose output is not calibrated."""
        return self.trainer.keras_model(fitted)


def open_trainer(
    network: NetworkSpec, training: TrainingSpec, lookback_bars: int, feature_count: int, context_count: int = 0
) -> AnyTrainer:
    """Return the trainer of a recipe: single network or ensemble, calibrated or not; see `Trainer`."""
    trainer_type = Trainer if training.members == 1 else EnsembleTrainer
    trainer = trainer_type(network, training, lookback_bars, feature_count, context_count)
    return trainer if training.calibration == "none" else CalibratedTrainer(trainer, training.calibration)


def typical_member(network: Any, window: Float64[np.ndarray, "lookback feature"]) -> tuple[Any, str]:
    """Return the network that is explained for one window, with its name.

    A single network is returned unchanged; of an ensemble, the member whose probability is nearest to the mean.

    Args:
        network: a stored `keras.Model`, one network or an ensemble.
        window: shape (lookback, feature), float64, raw.

    Time: depends on the bars of the window alone.
    """
    members = [layer for layer in network.layers if layer.name.startswith(MEMBER)]
    if not members:
        return network, str(network.name)
    probabilities = np.array([float(np.asarray(member(window[None]))[0, 0]) for member in members])
    nearest = int(np.abs(probabilities - probabilities.mean()).argmin())
    return members[nearest], f"{network.name}, member {nearest + 1} of {len(members)}"


def member_seeds(seed: int, members: int) -> tuple[int, ...]:
    """Return a seed for each member; the first is the given one, so one member equals the single network."""
    others = np.random.SeedSequence(seed).generate_state(members)[1:] % 2**31
    return (seed, *map(int, others))


def _shares(start: tuple[np.ndarray, ...] | None, members: int) -> list[tuple[np.ndarray, ...] | None]:
    """Split the weights of an ensemble by member."""
    if start is None:
        return [None] * members
    size, rest = divmod(len(start), members)
    if rest:
        raise SpecError(f"warm start: expected weights of {members} members, found {len(start)} arrays")
    return [start[number * size : (number + 1) * size] for number in range(members)]


def _mean_epoch(epochs: list[Epoch]) -> Epoch:
    """Return the mean of one epoch over members."""
    means = {name: float(np.mean([getattr(epoch, name) for epoch in epochs])) for name in CURVES}
    return Epoch(number=epochs[0].number, seconds=sum(epoch.seconds for epoch in epochs), **means)

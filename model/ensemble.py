"""What a recipe is fitted by: one network, the mean of several seeds, either of them calibrated.

A mean of probabilities is less at the mercy of one seed. `EnsembleTrainer` fits and predicts as a `Trainer` does, and
hands out ONE Keras model, so storing and serving know nothing of members. `CalibratedTrainer` lays a calibrator over
either. The trap: each member stops at its own best epoch, so the ensemble's best epoch is the members' median, good
for a final fit and not a checkpoint of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import zip_longest
from statistics import median
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64

from model.calibration import UNCALIBRATED, CalibrationName, Calibrator, fit_calibrator
from model.errors import SpecError
from model.networks import NetworkSpec, build_network
from model.training import Epoch, Fitted, Trainer, TrainingSpec
from model.windows import Windows

MEMBER = "member_"
CURVES = ("loss", "accuracy", "validation_loss", "validation_accuracy", "learning_rate")


@dataclass(frozen=True, slots=True)
class FittedEnsemble:
    """The fitted members; reads like one `Fitted`."""

    members: tuple[Fitted, ...]
    calibrator: Calibrator = UNCALIBRATED

    @property
    def weights(self) -> tuple[np.ndarray, ...]:
        """All members' arrays, member after member: the order of the ensemble's Keras model."""
        return tuple(array for member in self.members for array in member.weights)

    @property
    def history(self) -> tuple[Epoch, ...]:
        """Each epoch as the mean over the members that were still learning; seconds as their sum."""
        rounds = zip_longest(*(member.history for member in self.members))
        return tuple(_mean_epoch([epoch for epoch in met if epoch is not None]) for met in rounds)

    @property
    def best_epoch(self) -> int:
        """Median of the members' best epochs."""
        return max(1, round(median(member.best_epoch for member in self.members)))

    @property
    def device(self) -> str:
        """Where they were fitted."""
        return self.members[0].device

    @property
    def seconds(self) -> float:
        """Time of all fits."""
        return sum(member.seconds for member in self.members)


class EnsembleTrainer:
    """Fits `TrainingSpec.members` networks, one after the other, in one traced graph."""

    def __init__(self, network: NetworkSpec, training: TrainingSpec, lookback_bars: int, feature_count: int) -> None:
        """Build and trace the network once; see `Trainer`."""
        self.trainer = Trainer(network, training, lookback_bars, feature_count)

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
        """Fit every member on the same windows, each from a seed of its own; see `Trainer.fit`.

        Args:
            windows: windows of one series.
            train_index: shape (train,), windows to learn from.
            validation_index: shape (validation,), windows to judge an epoch by; None or empty for none.
            epochs: most epochs; the spec's when None.
            on_epoch: called after each epoch of each member.
            seed: the first member's seed, from which the others' follow; the spec's when None.
            start: weights of a former ensemble of as many members; fresh ones when None.

        Raises:
            SpecError: `start` is not of as many members.
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
        said = [self.trainer.predict(member, windows) for member in fitted.members]
        return np.asarray(np.mean(said, axis=0), dtype=np.float64)

    def keras_model(self, fitted: FittedEnsemble) -> Any:
        """Return ONE `keras.Model` that answers the members' mean, fit to be stored and served as any other."""
        import keras  # here: loads TensorFlow, ten seconds, and specs are read without it

        trainer = self.trainer
        windows = keras.Input((trainer.lookback_bars, trainer.feature_count), dtype="float64", name="windows")
        said = []
        for number, member in enumerate(fitted.members, 1):
            built = build_network(trainer.network, trainer.lookback_bars, trainer.feature_count)
            built.set_weights(member.weights)
            said.append(keras.Model(built.inputs[0], built.outputs[0], name=f"{MEMBER}{number}")(windows))
        mean = keras.layers.Average(dtype="float32", name="probability")(said)
        return keras.Model(windows, mean, name=f"{trainer.network.kind}_ensemble")


@runtime_checkable
class AnyTrainer(Protocol):
    """What a `Trainer` and an `EnsembleTrainer` have in common; what one of them fitted, only that one reads."""

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

    def keras_model(self, fitted: Any) -> Any:
        """Return one `keras.Model`."""
        ...


class CalibratedTrainer:
    """Fits as another trainer does, and on each fit's validation windows a calibrator of what it says.

    A fit without validation windows gets none: its training windows would make any calibrator look perfect. The final
    fit takes over the newest fold's.
    """

    def __init__(self, trainer: AnyTrainer, calibration: CalibrationName) -> None:
        """Lay a calibration over a trainer."""
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

        Time: the calibrator depends on what the weights depend on, and on nothing else.
        """
        fitted = self.trainer.fit(windows, train_index, validation_index, epochs, on_epoch, seed, start)
        if validation_index is None or not len(validation_index):
            return fitted
        judged = windows.take(validation_index)
        said = self.trainer.predict(fitted, judged)
        return replace(fitted, calibrator=fit_calibrator(self.calibration, judged.labels, said))

    def predict(self, fitted: Any, windows: Windows) -> Float64[np.ndarray, " window"]:
        """Return the calibrated P(rise) of each window, shape (window,), float64.

        Time: entry w depends on the bars of window w, on the fitted weights and on the fitted calibrator.
        """
        calibrated: Float64[np.ndarray, " window"] = fitted.calibrator.apply(self.trainer.predict(fitted, windows))
        return calibrated

    def keras_model(self, fitted: Any) -> Any:
        """Return one `keras.Model`, which says what it says before the calibrator."""
        return self.trainer.keras_model(fitted)


def open_trainer(network: NetworkSpec, training: TrainingSpec, lookback_bars: int, feature_count: int) -> AnyTrainer:
    """Return what fits a recipe: one network, or as many as its spec asks for, calibrated or not."""
    one_or_many = Trainer if training.members == 1 else EnsembleTrainer
    trainer = one_or_many(network, training, lookback_bars, feature_count)
    return trainer if training.calibration == "none" else CalibratedTrainer(trainer, training.calibration)


def typical_member(network: Any, window: Float64[np.ndarray, "lookback feature"]) -> tuple[Any, str]:
    """Return the network to look into for one window, and what to call it.

    A network by itself is returned as it is. Of an ensemble it is the member whose answer lies nearest to the mean.

    Args:
        network: a stored `keras.Model`, one network or an ensemble.
        window: shape (lookback, feature), float64, raw.

    Time: depends on the bars of the window alone.
    """
    members = [layer for layer in network.layers if layer.name.startswith(MEMBER)]
    if not members:
        return network, str(network.name)
    said = np.array([float(np.asarray(member(window[None]))[0, 0]) for member in members])
    nearest = int(np.abs(said - said.mean()).argmin())
    return members[nearest], f"{network.name}, member {nearest + 1} of {len(members)}"


def member_seeds(seed: int, members: int) -> tuple[int, ...]:
    """Return a seed for each member: the first is the given one, so that one member is the network alone."""
    others = np.random.SeedSequence(seed).generate_state(members)[1:] % 2**31
    return (seed, *map(int, others))


def _shares(start: tuple[np.ndarray, ...] | None, members: int) -> list[tuple[np.ndarray, ...] | None]:
    """Split the weights of an ensemble into those of its members."""
    if start is None:
        return [None] * members
    size, rest = divmod(len(start), members)
    if rest:
        raise SpecError(f"warm start: expected weights of {members} members, found {len(start)} arrays")
    return [start[number * size : (number + 1) * size] for number in range(members)]


def _mean_epoch(met: list[Epoch]) -> Epoch:
    """Return the mean of one epoch over members."""
    means = {name: float(np.mean([getattr(epoch, name) for epoch in met])) for name in CURVES}
    return Epoch(number=met[0].number, seconds=sum(epoch.seconds for epoch in met), **means)

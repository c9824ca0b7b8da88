"""Train a network with early stopping: whole epochs inside one TensorFlow graph, traced once for every fold and seed.

The bars are put on the device once and each batch gathers its windows there, so memory grows with the bars, whatever
the lookback. Weights, optimizer and dropout seeds are values that go through the graph and come back; a `Trainer` keeps
none of them, so the same bars, specs and seed give the same weights, bit for bit, on a CPU of the same type and with
as many threads per operation (they decide the rounding of a sum). Which windows are training and which are validation
is decided by `model.folds`. Caution: the graph calls Keras layers through `stateless_call`; assigning weights to the
Trainer's own model changes nothing.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import BaseModel, ConfigDict, Field

from model.calibration import UNCALIBRATED, CalibrationName, Calibrator
from model.errors import BarsTooShort, SpecError, UnsoundModel
from model.metrics import TRAINING_CLIP, predicts_rise
from model.network_heads import constant_loss, first_weights, further_loss, training_targets
from model.networks import NetworkSpec, build_network
from model.sample_weights import SampleWeights, training_weights
from model.training_device import choose_device
from model.windows import Windows

log = logging.getLogger(__name__)

MIN_WINDOWS = 2  # a batch norm needs two windows
MIN_GAIN = 1e-4  # smallest fall of the validation loss that resets the plateau; Keras' min_delta


def median_epochs(best_epochs: Sequence[int]) -> int:
    """Return the median of the best epochs of folds or members, at least 1."""
    return max(1, round(median(best_epochs)))


class TrainingSpec(BaseModel):
    """How a network is trained: Nadam, reduce-on-plateau, early stopping with the weights of the best epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Training")

    epochs: int = Field(
        default=60,
        ge=1,
        le=10_000,
        description="Maximum number of epochs; early stopping usually ends a fit sooner (patience)",
    )
    batch_size: int = Field(default=128, ge=2, le=65_536, description="Windows per optimizer step")
    learning_rate: float = Field(default=1e-3, gt=0.0, le=1.0, description="Nadam's initial learning rate")
    patience: int = Field(
        default=8,
        ge=1,
        le=10_000,
        description="Early stopping: epochs without a better validation loss before the fit stops",
    )
    plateau_patience: int = Field(
        default=4,
        ge=1,
        le=10_000,
        description="Learning-rate schedule: epochs without a better validation loss before the rate is reduced",
    )
    plateau_factor: float = Field(
        default=0.5, gt=0.0, lt=1.0, description="Learning-rate schedule: factor of each reduction"
    )
    seed: int = Field(
        default=7, ge=0, le=2**31 - 1, description="Seed of initial weights, order of windows and dropout"
    )
    members: int = Field(
        default=1,
        ge=1,
        le=50,
        description="Ensemble size: networks with different seeds whose probabilities are averaged",
    )
    warm_start: bool = Field(
        default=False,
        description="Start from the weights of a former champion where one fits, instead of fresh weights",
    )
    calibration: CalibrationName = Field(
        default="none",
        description="Calibration of the probabilities, fitted on each fold's validation windows: temperature "
        "scaling, or isotonic regression (needs thousands of windows)",
    )
    require_gpu: bool = Field(default=False, description="Refuse to train where TensorFlow sees no GPU")
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="Precision of the training; bfloat16 (weights stay float32) is for large networks and batches on "
        "a GPU",
    )
    sample_weights: SampleWeights = Field(
        default=SampleWeights(), description="Weights of the training windows in the loss; default: all equal"
    )
    magnitude_weight: float = Field(
        default=1.0,
        gt=0.0,
        le=100.0,
        description="Weight of the loss of the expected move relative to that of the direction (network.magnitude); "
        "both are negative log likelihoods, so 1 is their joint likelihood",
    )


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training windows; losses are unweighted mean log losses in nats, accuracies shares of windows.

    `loss` and `accuracy` are measured during the epoch (dropout on, weights changing), those of the validation after
    it; they are NaN without validation windows. If the network has outputs after P(rise), their losses are
    added, each minus the loss of a constant forecast: the mean move, or the shares of the classes, in training windows.
    """

    number: int
    loss: float
    accuracy: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained network.

    Attributes:
        weights: the arrays of the Keras model's `weights`, in its order, after the best epoch.
        history: every epoch run, first to last.
        best_epoch: number of the epoch whose weights these are (counted from 1).
        device: `CPU`, or the name of the GPU.
        seconds: time of the fit.
        calibrator: applied to the network's probabilities; a `Trainer` fits none.
    """

    weights: tuple[np.ndarray, ...]
    history: tuple[Epoch, ...]
    best_epoch: int
    device: str
    seconds: float
    calibrator: Calibrator = UNCALIBRATED


class Trainer:
    """Traces one network for one window shape, then fits it any number of times.

    A fit leaves nothing in the Trainer but the bars on the device, so several threads may fit with one Trainer at
    once, with the same results as in sequence. A network this small uses little more than one core: two folds in
    parallel on two cores take little more than half the time.
    """

    def __init__(
        self,
        network: NetworkSpec,
        training: TrainingSpec,
        lookback_bars: int,
        feature_count: int,
        context_count: int = 0,
    ) -> None:
        """Build the network and choose the device.

        Args:
            network: shape of the network.
            training: how the network is trained.
            lookback_bars: bars of a window.
            feature_count: features of a bar.
            context_count: how many of the last features are context of a panel, which is not scaled.

        Raises:
            DeviceUnavailable: the spec requires a GPU and TensorFlow finds none.
            SpecError: a window without bars or without features.
        """
        from model.training_step import Heads, TrainingGraph  # imported here: TensorFlow takes ten seconds to load

        self.network = network
        self.training = training
        self.lookback_bars = lookback_bars
        self.feature_count = feature_count
        self.context_count = context_count
        self.device = choose_device(require_gpu=training.require_gpu)
        # The fused LSTM has a float32 kernel for the CPU only; on a GPU a Keras LSTM uses cuDNN.
        model = inference_model = self._build(fused=self.device == "CPU")
        if training.precision != "float32":
            model = self._build(mixed=True)
        sizes, weighted = (lookback_bars, feature_count, training.batch_size), not training.sample_weights.equal
        heads = Heads(training.magnitude_weight if network.magnitude else 0.0, classes=network.beyond_cost_bps > 0)
        self._graph = TrainingGraph(model, inference_model, *sizes, weighted=weighted, heads=heads)
        self._on_device: tuple[np.ndarray, Any] | None = None

    @property
    def trace_count(self) -> int:
        """Count the traces of the training epoch so far; stays 1 whatever is fitted."""
        return int(self._graph.epoch.experimental_get_tracing_count())

    def fit(
        self,
        windows: Windows,
        train_index: Int64[np.ndarray, " train"],
        validation_index: Int64[np.ndarray, " validation"] | None = None,
        epochs: int | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
        seed: int | None = None,
        start: tuple[np.ndarray, ...] | None = None,
    ) -> Fitted:
        """Fit the network, from fresh or given weights.

        With validation windows the fit uses early stopping, reduces the learning rate on a plateau and returns the
        weights of the epoch with the lowest validation loss. Without, it runs every epoch at one learning rate and
        returns the last weights.

        Args:
            windows: windows of one series or of a panel.
            train_index: shape (train,), training windows, all resolved.
            validation_index: shape (validation,), validation windows, all resolved; None or empty for none.
            epochs: maximum number of epochs; the spec's when None.
            on_epoch: called after each epoch.
            seed: seed of this fit; the spec's when None.
            start: initial weights, as `Fitted.weights`; fresh ones when None. The bars that those weights were
                trained on are in-sample for this fit too.

        Returns:
            The fitted network.

        Raises:
            BarsTooShort: there are fewer than two training windows.
            SpecError: the windows have another shape or are unresolved, there is no epoch, or no weight is positive.
            UnsoundModel: a loss is not finite.

        Time: the weights depend on `start` and on the windows at `train_index` and `validation_index` alone.
        """
        started = time.perf_counter()
        if validation_index is None:
            validation_index = np.empty(0, np.int64)
        epochs = self.training.epochs if epochs is None else epochs
        self._check(windows, train_index, validation_index, epochs)
        rng = np.random.default_rng(self.training.seed if seed is None else seed)
        train = windows.take(train_index)
        offset = constant_loss(train, self.network, self.training.magnitude_weight)
        first = first_weights(train, self.network)
        state = self._graph.initial_state(rng, first) if start is None else self._graph.warm_state(start, rng)
        inputs, weights = self._inputs(windows), training_weights(windows, train_index, self.training.sample_weights)
        stopping = EarlyStopping(self.training, has_validation=len(validation_index) > 0)
        best = state
        while not stopping.stopped and len(stopping.history) < epochs:
            epoch_started = time.perf_counter()
            order = rng.permutation(train_index)
            state, loss, accuracy = self._graph.epoch(*inputs, order, state, stopping.learning_rate, *weights)
            validation = self._validate(windows, validation_index, state, offset)
            epoch = Epoch(
                len(stopping.history) + 1,
                float(loss) - offset,
                float(accuracy),
                *validation,
                stopping.learning_rate,
                time.perf_counter() - epoch_started,
            )
            if stopping.add(epoch):
                best = state
            if on_epoch is not None:
                on_epoch(epoch)
        weights = self._graph.weights(best)
        seconds = time.perf_counter() - started
        log.debug(
            "fitted %s on %s: best epoch %d of %d", self.network.kind, self.device, stopping.best, len(stopping.history)
        )
        return Fitted(weights, tuple(stopping.history), stopping.best, self.device, seconds)

    def predict(self, fitted: Fitted, windows: Windows) -> Float64[np.ndarray, " window"]:
        """Return P(rise) of each window, shape (window,), float64.

        Time: entry w depends on the bars of window w and on the fitted weights.
        """
        return self._outputs(windows, np.arange(len(windows)), self._graph.state_of(fitted.weights))[:, 0]

    def predict_further(self, fitted: Fitted, windows: Windows) -> Float64[np.ndarray, "window output"]:
        """Return the outputs after P(rise), shape (window, output), as `model.network_heads` orders them.

        Time: entry w depends on the bars of window w and on the fitted weights.
        """
        if self.network.output_count == 1:
            return np.empty((len(windows), 0), np.float64)
        return self._outputs(windows, np.arange(len(windows)), self._graph.state_of(fitted.weights))[:, 1:]

    def keras_model(self, fitted: Fitted) -> Any:
        """Return the fitted network as a `keras.Model` that can be stored."""
        model = self._build()
        model.set_weights(fitted.weights)
        return model

    def _build(self, **variant: bool) -> Any:
        shape = (self.lookback_bars, self.feature_count)
        return build_network(self.network, *shape, context_count=self.context_count, **variant)

    def _inputs(self, windows: Windows) -> tuple[Any, Any, Any]:
        """Put features, ends and labels on the device; features that are there already are reused."""
        import tensorflow as tf  # imported here: takes ten seconds to load

        kept = self._on_device
        if kept is None or kept[0] is not windows.features:
            kept = self._on_device = (windows.features, tf.constant(windows.features))
        return kept[1], tf.constant(windows.ends), tf.constant(training_targets(windows, self.network))

    def _outputs(
        self, windows: Windows, index: Int64[np.ndarray, " index"], state: Any
    ) -> Float64[np.ndarray, "index output"]:
        self._check_shape(windows)
        if not len(index):
            return np.empty((0, self.network.output_count), np.float64)
        features, ends, _ = self._inputs(windows)
        return np.asarray(self._graph.infer(features, ends, index, state), dtype=np.float64)

    def _validate(
        self, windows: Windows, index: Int64[np.ndarray, " index"], state: Any, offset: float
    ) -> tuple[float, float]:
        """Return loss and accuracy on these windows; NaN where there are none."""
        if not len(index):
            return float("nan"), float("nan")
        outputs = self._outputs(windows, index, state)
        probabilities, rises = outputs[:, 0], windows.labels[index] == 1
        likelihood = np.where(rises, probabilities, 1.0 - probabilities)
        loss = float(-np.log(np.maximum(likelihood, TRAINING_CLIP)).mean()) - offset
        loss += further_loss(windows.take(index), outputs[:, 1:], self.network, self.training.magnitude_weight)
        return loss, float((predicts_rise(probabilities) == rises).mean())

    def _check_shape(self, windows: Windows) -> None:
        expected = (self.lookback_bars, self.feature_count, self.context_count)
        found = (windows.lookback_bars, windows.features.shape[1], windows.context_count)
        if expected != found:
            raise SpecError(
                f"training: expected windows of {expected[0]} bars and {expected[1]} features, found {found[0]} and "
                f"{found[1]} (context among them: {expected[2]} and {found[2]}). Build a Trainer for these windows."
            )

    def _check(
        self,
        windows: Windows,
        train_index: Int64[np.ndarray, " train"],
        validation_index: Int64[np.ndarray, " validation"],
        epochs: int,
    ) -> None:
        self._check_shape(windows)
        if epochs < 1:
            raise SpecError(f"training: expected at least 1 epoch, found {epochs}")
        if len(train_index) < MIN_WINDOWS:
            raise BarsTooShort(
                f"training: expected at least {MIN_WINDOWS} training windows, found {len(train_index)}. Give more "
                "bars, fewer test bars, or a shorter lookback."
            )
        used = windows.take(np.concatenate([train_index, validation_index]))
        if (used.labels < 0).any():
            first = used.decided_at[used.labels < 0].min()
            raise SpecError(
                f"training: expected resolved windows only, found {(used.labels < 0).sum()} unresolved, the "
                f"first decided at {first}. Train on `windows.resolved()`."
            )


class EarlyStopping:
    """Early stopping and learning-rate schedule: the best epoch so far, the learning rate, and whether to stop.

    Any lower loss is a new best and restarts `patience`; `plateau_patience` needs a fall of more than `MIN_GAIN`.
    """

    def __init__(self, training: TrainingSpec, *, has_validation: bool) -> None:
        """Start without an epoch; without validation windows nothing stops early and the rate stays."""
        self.history: list[Epoch] = []
        self.best = 0
        self.learning_rate = training.learning_rate
        self.stopped = False
        self._training = training
        self._has_validation = has_validation
        self._best_loss = float("inf")
        self._plateau_loss = float("inf")
        self._plateau_epochs = 0

    def add(self, epoch: Epoch) -> bool:
        """Add an epoch; return whether it is the best so far.

        Raises:
            UnsoundModel: its loss is not finite.
        """
        loss = epoch.validation_loss if self._has_validation else epoch.loss
        if not np.isfinite(loss):
            raise UnsoundModel(
                f"training: expected a finite loss, found {loss} in epoch {epoch.number}. Lower "
                "--training.learning-rate, or check that all bars are finite."
            )
        self.history.append(epoch)
        if not self._has_validation:
            self.best = epoch.number
            return True
        self._follow_plateau(loss)
        is_best = loss < self._best_loss
        if is_best:
            self.best, self._best_loss = epoch.number, loss
        self.stopped = epoch.number - self.best >= self._training.patience
        return is_best

    def _follow_plateau(self, loss: float) -> None:
        """Reduce the rate after `plateau_patience` epochs in a row with a gain below `MIN_GAIN`."""
        if loss < self._plateau_loss - MIN_GAIN:
            self._plateau_loss, self._plateau_epochs = loss, 0
            return
        self._plateau_epochs += 1
        if self._plateau_epochs >= self._training.plateau_patience:
            self.learning_rate *= self._training.plateau_factor
            self._plateau_epochs = 0

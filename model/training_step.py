"""Run whole training epochs inside one TensorFlow graph: gather windows, take gradient steps, carry the weights.

Importing this module loads TensorFlow. Everything that changes in training is a `State` that goes into the graph and
comes back; nothing is kept between calls, so one traced graph serves every fold, seed and day. Early stopping and the
choice of training and validation windows are `model.training`'s. Caution: the Keras model is called by
`stateless_call`, so its own variables only give the shapes and the initial constants.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from model.cost_classes import LEAST_SHARE
from model.initial_weights import initial_weight
from model.metrics import THRESHOLD

# Nadam after Dozat, 2016, with the constants of keras.optimizers.Nadam.
BETA_1, BETA_2, EPSILON, MOMENTUM_DECAY = 0.9, 0.999, 1e-7, 0.96
PREDICT_BARS = 32_768  # bars of all windows in one inference batch: the same memory at any lookback


class Heads(NamedTuple):
    """Outputs of a network after P(rise).

    Attributes:
        magnitude_weight: weight of the loss of the expected move; 0: the network predicts none.
        classes: the network predicts the three classes of a cost.
    """

    magnitude_weight: float = 0.0
    classes: bool = False


NO_HEADS = Heads()


class State(NamedTuple):
    """Everything that changes while a network is trained; each fit has its own.

    Attributes:
        weights: all trainable weights in one vector, float32, so that one optimizer step is a dozen operations and not
            a dozen for each weight.
        momentum: Nadam's first moment, one entry a weight.
        velocity: Nadam's second moment, one entry a weight.
        step: optimizer steps taken, float32.
        momentum_product: product of Nadam's momentum schedule so far.
        others: the model's other variables: moving statistics of batch norms, seeds of dropouts.
    """

    weights: Any
    momentum: Any
    velocity: Any
    step: Any
    momentum_product: Any
    others: tuple[Any, ...]


class TrainingGraph:
    """The traced functions of one Keras model: a training epoch, and inference."""

    def __init__(
        self,
        model: Any,
        inference_model: Any,
        lookback_bars: int,
        feature_count: int,
        batch_size: int,
        *,
        weighted: bool,
        heads: Heads = NO_HEADS,
    ) -> None:
        """Lay out the weights of the model in one vector; tracing happens at the first call.

        Args:
            model: the network to train.
            inference_model: the network for inference: the same, or its float32 version where `model` is mixed.
            lookback_bars: bars of a window.
            feature_count: features of a bar.
            batch_size: windows per optimizer step.
            weighted: the epoch takes the weights of the windows in the loss, shape (window,), as its last argument.
            heads: outputs after P(rise). With any, the labels of an epoch are `training_targets`, a column for each.
        """
        self._model, self._inference_model = model, inference_model
        self._lookback_bars = lookback_bars
        self._batch_size = batch_size
        self._heads = heads
        self._shapes = [tuple(variable.shape) for variable in model.trainable_variables]
        self._sizes = [int(np.prod(shape)) for shape in self._shapes]
        vector, number = tf.TensorSpec(sum(self._sizes), tf.float32), tf.TensorSpec((), tf.float32)
        others = tuple(tf.TensorSpec(v.shape, v.dtype) for v in model.non_trainable_variables)
        state = State(vector, vector, vector, number, number, others)
        features, index = tf.TensorSpec((None, feature_count), tf.float64), tf.TensorSpec((None,), tf.int64)
        one = tf.TensorSpec((None,), tf.float32)
        labels = tf.TensorSpec((None, 1 + sum(map(bool, heads))), tf.float32) if any(heads) else one
        inputs = [features, index, labels, index, state, number, *([one] if weighted else [])]
        self.epoch = tf.function(self._epoch, inputs, autograph=False)
        self.infer = tf.function(self._infer, [features, index, index, state], autograph=False)

    def initial_state(self, rng: np.random.Generator, first: Mapping[str, np.ndarray] = {}) -> State:
        """Draw fresh weights and seeds; the layers of `model.network_heads.first_weights` begin with those."""
        weights = [initial_weight(variable, rng, first) for variable in self._model.trainable_variables]
        return self._state(weights, self._fresh_others(rng))

    def state_of(self, weights: tuple[np.ndarray, ...]) -> State:
        """Return the state of a fitted network."""
        by_path = {v.path: w for v, w in zip(self._model.weights, weights, strict=True)}
        others = [by_path.get(v.path, np.zeros(v.shape, v.dtype)) for v in self._model.non_trainable_variables]
        return self._state([by_path[v.path] for v in self._model.trainable_variables], others)

    def warm_state(self, weights: tuple[np.ndarray, ...], rng: np.random.Generator) -> State:
        """Return the state of a warm start: fitted weights, fresh moments, fresh dropout seeds."""
        state = self.state_of(weights)
        pairs = zip(self._model.non_trainable_variables, state.others, self._fresh_others(rng), strict=True)
        others = tuple(tf.constant(new) if "seed_generator" in v.path else old for v, old, new in pairs)
        return state._replace(others=others)

    def weights(self, state: State) -> tuple[np.ndarray, ...]:
        """Return the arrays of the model's `weights`, in its order."""
        variables = [*self._model.trainable_variables, *self._model.non_trainable_variables]
        values = [*self._unpack(state.weights), *state.others]
        by_path = {v.path: np.asarray(value) for v, value in zip(variables, values, strict=True)}
        return tuple(by_path[v.path] for v in self._model.weights)

    def _state(self, weights: list[np.ndarray], others: list[np.ndarray]) -> State:
        vector = tf.constant(np.concatenate([w.ravel() for w in weights]).astype(np.float32))
        zeros = tf.zeros_like(vector)
        return State(vector, zeros, zeros, tf.constant(0.0), tf.constant(1.0), tuple(map(tf.constant, others)))

    def _fresh_others(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Return initial moving statistics, and for each dropout its own seed with the counter at zero."""
        fresh = []
        for variable in self._model.non_trainable_variables:
            if "seed_generator" in variable.path:
                fresh.append(np.array([rng.integers(2**31), 0], variable.dtype))
            else:
                fresh.append(np.full(variable.shape, float("moving_variance" in variable.path), np.float32))
        return fresh

    def _unpack(self, vector: Any) -> list[Any]:
        """Split the vector into the arrays of the trainable weights."""
        parts = tf.split(vector, self._sizes)
        return [tf.reshape(part, shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _gather(self, features: Any, ends: Any) -> Any:
        """Gather the windows that end at these bars: (window, lookback, feature), raw."""
        offsets = tf.range(1 - self._lookback_bars, 1, dtype=tf.int64)
        return tf.gather(features, ends[:, None] + offsets)

    def _epoch(
        self, features: Any, ends: Any, labels: Any, order: Any, state: State, rate: Any, sample_weights: Any = None
    ) -> Any:
        """Train on the windows in this order, batch by batch; the last batch may be smaller."""
        count = tf.size(order)

        def train_batch(start: Any, state: State, loss_sum: Any, hits: Any) -> Any:
            rows = order[start : start + self._batch_size]
            windows, weights = self._gather(features, tf.gather(ends, rows)), None
            if sample_weights is not None:
                weights = tf.gather(sample_weights, rows)
            state, loss, right = self._step(windows, tf.gather(labels, rows), weights, state, rate)
            return start + self._batch_size, state, loss_sum + loss * tf.cast(tf.size(rows), tf.float32), hits + right

        def is_left(start: Any, *_: Any) -> Any:
            return start < count

        start = (tf.constant(0), state, tf.constant(0.0), tf.constant(0.0))
        _, state, loss_sum, hits = tf.while_loop(is_left, train_batch, start, parallel_iterations=1)
        return state, loss_sum / tf.cast(count, tf.float32), hits / tf.cast(count, tf.float32)

    def _step(self, windows: Any, labels: Any, weights: Any, state: State, rate: Any) -> tuple[State, Any, Any]:
        """Take one optimizer step; return the new state, the unweighted mean loss and the count of hits."""
        targets, further = labels, None
        if any(self._heads):
            labels = targets[:, 0]
        with tf.GradientTape() as tape:
            tape.watch(state.weights)
            probabilities, others = self._model.stateless_call(
                self._unpack(state.weights), list(state.others), windows, training=True
            )
            if any(self._heads):
                probabilities, further = probabilities[:, :1], probabilities[:, 1:]
            losses = keras.ops.binary_crossentropy(labels[:, None], probabilities)
            loss = objective = tf.reduce_mean(losses)
            if weights is not None:
                objective = tf.reduce_mean(tf.reshape(losses, [-1]) * weights)
            if further is not None:  # weights are for the direction: by the move they would bias the other outputs
                added = self._further_loss(further, targets)
                loss, objective = loss + added, objective + added
        gradient = tape.gradient(objective, state.weights)
        right = tf.reduce_sum(tf.cast((probabilities[:, 0] > THRESHOLD) == (labels > THRESHOLD), tf.float32))
        return _nadam_step(state, gradient, rate)._replace(others=tuple(others)), loss, right

    def _further_loss(self, further: Any, targets: Any) -> Any:
        """Return the mean loss of the outputs after P(rise), as `model.network_heads.further_loss`."""
        loss = tf.constant(0.0)
        if self._heads.magnitude_weight:
            expected = further[:, 0]
            loss += self._heads.magnitude_weight * tf.reduce_mean(tf.math.log(expected) + targets[:, 1] / expected)
        if self._heads.classes:
            hits = tf.one_hot(tf.cast(targets[:, -1], tf.int32), 3)
            own = tf.reduce_sum(hits * further[:, -3:], axis=1)
            loss -= tf.reduce_mean(tf.math.log(tf.maximum(own, LEAST_SHARE)))
        return loss

    def _infer(self, features: Any, ends: Any, index: Any, state: State) -> Any:
        """Return the output for the windows at `index`, shape (index, 1 or 2), computed in batches."""
        weights, others = self._unpack(state.weights), list(state.others)
        count = tf.size(index)
        batch = max(1, PREDICT_BARS // self._lookback_bars)
        chunks = (count + batch - 1) // batch

        def predict_chunk(chunk: Any, results: Any) -> Any:
            rows = index[chunk * batch : (chunk + 1) * batch]
            windows = self._gather(features, tf.gather(ends, rows))
            outputs, _ = self._inference_model.stateless_call(weights, others, windows, training=False)
            return chunk + 1, results.write(chunk, outputs)

        width = self._inference_model.output_shape[1]
        results = tf.TensorArray(tf.float32, size=chunks, infer_shape=False, element_shape=(None, width))
        _, results = tf.while_loop(lambda chunk, _: chunk < chunks, predict_chunk, (tf.constant(0), results))
        return results.concat()


def _nadam_step(state: State, gradient: Any, rate: Any) -> State:
    """Take one step of Nadam on the whole vector of weights.

    Source: Dozat, 2016, algorithm 2, with the momentum schedule of `keras.optimizers.Nadam`.
    """
    step = state.step + 1.0
    now = BETA_1 * (1.0 - 0.5 * tf.pow(MOMENTUM_DECAY, step))
    following = BETA_1 * (1.0 - 0.5 * tf.pow(MOMENTUM_DECAY, step + 1.0))
    product = state.momentum_product * now
    momentum = state.momentum + (gradient - state.momentum) * (1.0 - BETA_1)
    velocity = state.velocity + (tf.square(gradient) - state.velocity) * (1.0 - BETA_2)
    ahead = momentum * (following / (1.0 - product * following)) + gradient * ((1.0 - now) / (1.0 - product))
    scale = tf.sqrt(velocity / (1.0 - tf.pow(BETA_2, step))) + EPSILON
    return State(state.weights - rate * ahead / scale, momentum, velocity, step, product, state.others)

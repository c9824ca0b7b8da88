"""Weight the training windows: by the size of the move, by age, by the uniqueness of their labels.

A weight multiplies a window's loss in training only; validation, early stopping, baselines and every score stay
unweighted. Weights depend on the training windows alone. Caution: weighted by the move, a network learns how often
large moves rise, which is not how often the close rises; its probabilities may need calibration.
"""

import numpy as np
from jaxtyping import Float32, Float64, Int64
from pydantic import BaseModel, ConfigDict, Field

from model.bars import interval_delta
from model.errors import SpecError
from model.windows import Windows


class SampleWeights(BaseModel):
    """The weights of the training windows in the loss: their product, scaled to mean 1; by default all equal."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Sample weights")

    move: bool = Field(
        default=False,
        title="By move",
        description="Weight a window by the size of its move until the outcome (label rank: by the distance from the "
        "median of the others). Probabilities then lean towards the share of rises among large moves: check the "
        "calibration",
    )
    move_bound: float = Field(
        default=3.0, ge=1.0, le=1_000.0, description="By move: a larger move counts as this multiple of the mean move"
    )
    half_life_bars: int = Field(
        default=0,
        ge=0,
        le=10_000_000,
        description="By age: the weight halves every so many bars back from the newest training window; 0: no decay",
    )
    uniqueness: bool = Field(
        default=False,
        title="By uniqueness",
        description="Weight a window by the share of its label that no other label overlaps; all equal at horizon 1",
    )

    @property
    def equal(self) -> bool:
        """All windows have the same weight."""
        return not (self.move or self.half_life_bars or self.uniqueness)


def training_weights(
    windows: Windows, train_index: Int64[np.ndarray, " train"], spec: SampleWeights
) -> tuple[Float32[np.ndarray, " window"], ...]:
    """Return the weights as `TrainingGraph.epoch` takes them: nothing where all are equal, else one array.

    Args:
        windows: windows of one series or of a panel.
        train_index: shape (train,), training windows, all resolved.
        spec: which weights are multiplied.

    Returns:
        An array of shape (window,), float32: `weight_windows` of the training windows, 0 elsewhere.

    Time: the weights depend on the training windows alone.
    """
    if spec.equal:
        return ()
    weights = np.zeros(len(windows), np.float32)
    weights[train_index] = weight_windows(windows.take(train_index), spec)
    return (weights,)


def weight_windows(train: Windows, spec: SampleWeights) -> Float64[np.ndarray, " window"]:
    """Return the weight of each training window.

    Args:
        train: the training windows alone, all resolved.
        spec: which weights are multiplied.

    Returns:
        Shape (window,), float64, mean 1.

    Raises:
        SpecError: no weight is positive, as by the move where no close differs, or one is not finite.

    Time: every weight depends on these windows and their labels alone.
    """
    weights = np.ones(len(train))
    if spec.move:
        moves = np.abs(train.label_moves)
        weights *= np.minimum(moves, spec.move_bound * moves.mean())
    if spec.half_life_bars:
        age_bars = (train.decided_at.max() - train.decided_at) / interval_delta(train.interval)
        weights *= 0.5 ** (age_bars / spec.half_life_bars)
    if spec.uniqueness:
        weights *= label_uniqueness(train)
    mean = weights.mean()
    if not (np.isfinite(mean) and mean > 0):
        raise SpecError(
            f"sample weights: expected finite weights, one of them above 0, found a mean of {mean} over {len(train)} "
            "training windows. Check that closes are positive and differ, or train without "
            "--training.sample-weights.move."
        )
    scaled: Float64[np.ndarray, " window"] = weights / mean
    return scaled


def label_uniqueness(windows: Windows) -> Float64[np.ndarray, " window"]:
    """Return the average uniqueness of each label: 1 / number of open labels, averaged over the bars it is open.

    A label is open from the bar after its decision to the bar that fixes it; labels of other series do not count.

    Args:
        windows: resolved windows of one series or of a panel.

    Returns:
        Shape (window,), float64, above 0 and at most 1.

    Time: entry w depends on the decision times and resolution times of all windows, not on prices.
    Source: Lopez de Prado, 2018, section 4.4.
    """
    bar, origin = interval_delta(windows.interval), windows.decided_at.min()
    starts, ends = (windows.decided_at - origin) // bar, (windows.resolved_at - origin) // bar
    span = int(ends.max()) + 1
    if len(windows.symbols):  # one series after the other on one axis of bars
        shift = span * np.unique(windows.symbols, return_inverse=True)[1]
        starts, ends = starts + shift, ends + shift
    size = int(ends.max()) + 1
    opened = np.cumsum(np.bincount(starts, minlength=size) - np.bincount(ends, minlength=size))
    shares = np.divide(1.0, opened, out=np.zeros(size), where=opened > 0)
    before = np.concatenate(([0.0], np.cumsum(shares)))
    uniqueness: Float64[np.ndarray, " window"] = (before[ends] - before[starts]) / (ends - starts)
    return uniqueness

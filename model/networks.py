"""Build the network of a spec as a Keras model.

The model takes raw prices in float64 and standardises them itself, so nothing done to inputs can differ between
training and serving; its output is P(rise), float32, and with `magnitude` also the expected absolute move. Training is
in `model/training.py`, serving in `model/predictor.py`. Layers have stable names (`conv_1`, `lstm`, `probability`),
which explanations and stored models refer to. Caution: with `fused=True` the recurrent layers run a CPU kernel; the
weights are the same, but such a model is for training only and is never stored.
"""

from math import ceil, log2
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from model.errors import SpecError

MOVE_FACTOR, COST_CLASSES = "move_factor", "cost_classes"  # layers that begin with weights from the training windows
LEAKY_SLOPE = 0.3  # the default of the Keras that the article ran (2.0, LeakyReLU's alpha)
# Keras' 0.99 averages over a hundred steps. A fold of daily bars has 15 to 30 per epoch, so the statistics would lag
# several epochs behind the weights, and early stopping would see the lag.
NORM_MOMENTUM = 0.95

Kind = Literal["cnn_lstm", "cnn", "lstm", "gru", "bilstm", "tcn"]
Scaling = Literal["window", "last_close"]


class NetworkSpec(BaseModel):
    """Architecture and size of the network."""

    # Source: the article's sizes, halved where that did not raise the loss.

    model_config = ConfigDict(frozen=True, extra="forbid", title="Network")

    kind: Kind = Field(
        default="cnn_lstm",
        description="Convolutions and an LSTM (cnn_lstm), convolutions only (cnn), one recurrent layer only (lstm, "
        "gru, bilstm), or dilated causal convolutions with residuals (tcn)",
    )
    filters: tuple[Annotated[int, Field(ge=1, le=512)], ...] = Field(
        default=(16, 8),
        min_length=1,
        max_length=6,
        description="Filters of each convolution of cnn_lstm and cnn; tcn: the first number, in every block",
    )
    kernel_bars: int = Field(default=4, ge=1, le=64, description="Kernel size of each convolution (bars)")
    dropout: float = Field(
        default=0.5, ge=0.0, lt=1.0, description="Dropout rate after each convolution (training only)"
    )
    units: int = Field(default=32, ge=1, le=1024, description="Units of the recurrent layer")
    scaling: Scaling = Field(
        default="window",
        description="Scaling of a window by the first layer: z-score of each channel (window), or "
        "distance from the last close in typical moves (last_close; price columns only, close last)",
    )
    dense_units: int = Field(default=64, ge=1, le=4096, description="Units of the dense layer before the probability")
    magnitude: bool = Field(
        default=False,
        description="Also predict the expected absolute move until the outcome (label rank of a panel: the distance "
        "from the median of the other series), trained with the direction; the policies threshold and no_trade_band "
        "then use the expected return. Needs close as the last feature",
    )
    beyond_cost_bps: float = Field(
        default=0.0,
        ge=0.0,
        lt=10_000.0,
        description="Above 0: also predict three classes of the outcome, down by more than this cost, neither, up by "
        "more (basis points). Needs close as the last feature; not for the label rank of a panel",
    )

    @property
    def output_count(self) -> int:
        """Outputs of the network: P(rise), the expected move, the three classes."""
        return 1 + int(self.magnitude) + 3 * bool(self.beyond_cost_bps)


def build_network(
    spec: NetworkSpec,
    lookback_bars: int,
    feature_count: int,
    *,
    context_count: int = 0,
    fused: bool = False,
    mixed: bool = False,
) -> Any:
    """Build the Keras model of a spec, with fresh weights.

    Args:
        spec: shape of the network.
        lookback_bars: bars of a window.
        feature_count: features of a bar.
        context_count: how many of the last features are context of a panel, which is not scaled.
        fused: run an LSTM in one CPU kernel (`model.layers.FusedLSTM`); same weights, for training only.
        mixed: compute in bfloat16 after the scaling; the weights stay float32. For training only.

    Returns:
        A `keras.Model`: windows (window, lookback, feature) float64, raw, oldest bar first -> P(rise)
        (window, 1) float32; then, where the spec asks for them, the expected absolute log return until the outcome and
        the probabilities of down beyond the cost, neither and up beyond it: (window, `spec.output_count`).

    Raises:
        SpecError: a window without bars or without features, or a tcn whose convolutions would see one bar each.

    Layers before a batch norm have no bias: the norm would subtract it, so its gradient is rounding noise, which an
    adaptive optimizer would amplify.

    Time: the probability of a window depends on the bars of that window alone.
    Source: the article's network (convolution, batch norm, leaky ReLU, dropout, dense) with an LSTM; tcn after
        Bai, Kolter and Koltun, 2018, section 3, with one convolution per block.
    """
    import keras  # imported here: loads TensorFlow

    own_count = feature_count - context_count
    if lookback_bars < 1 or own_count < 1:
        raise SpecError(f"network: expected at least 1 bar and 1 feature, found {lookback_bars} and {own_count}")
    if spec.kind == "tcn" and spec.kernel_bars < 2:  # noqa: PLR2004 - no dilation widens a single bar
        raise SpecError(
            f"network: expected --network.kernel-bars of at least 2 with kind tcn, found {spec.kernel_bars}: its last "
            "step would see the last bar only."
        )
    former = keras.config.dtype_policy()  # per thread
    keras.config.set_dtype_policy("mixed_bfloat16" if mixed else "float32")
    try:
        return _build(spec, lookback_bars, feature_count, context_count, fused=fused)
    finally:
        keras.config.set_dtype_policy(former)


def _build(spec: NetworkSpec, lookback_bars: int, feature_count: int, context_count: int, *, fused: bool) -> Any:
    import keras  # imported here: loads TensorFlow

    from model.layers import AnchorWindows, FusedLSTM, StandardiseWindows

    lstm = FusedLSTM if fused else keras.layers.LSTM
    windows = keras.Input((lookback_bars, feature_count), dtype="float64", name="windows")
    scale = AnchorWindows if spec.scaling == "last_close" else StandardiseWindows
    x = scale(context_count=context_count, name="standardise")(windows)
    if spec.kind in ("cnn_lstm", "cnn"):
        x = _convolutions(spec, x)
    if spec.kind in ("cnn_lstm", "lstm"):
        x = lstm(spec.units, name="lstm")(x)
    elif spec.kind == "bilstm":
        x = keras.layers.Bidirectional(lstm(spec.units, name="lstm"), name="bilstm")(x)
    elif spec.kind == "gru":
        x = keras.layers.GRU(spec.units, name="gru")(x)
    elif spec.kind == "tcn":
        x = _dilated_convolutions(spec, x, lookback_bars)
    else:
        x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(spec.dense_units, use_bias=False, name="dense")(x)
    x = keras.layers.BatchNormalization(momentum=NORM_MOMENTUM, name="dense_norm")(x)
    x = keras.layers.LeakyReLU(LEAKY_SLOPE, name="dense_leaky")(x)
    outputs = [keras.layers.Dense(1, activation="sigmoid", dtype="float32", name="probability")(x)]
    if spec.magnitude:
        outputs.append(_expected_move(x, windows, context_count))
    if spec.beyond_cost_bps:
        outputs.append(_cost_classes(x, windows, context_count, spec.beyond_cost_bps))
    output = outputs[0]
    if len(outputs) > 1:
        output = keras.layers.Concatenate(axis=-1, dtype="float32", name="forecast")(outputs)
    return keras.Model(windows, output, name=spec.kind)


def _cost_classes(x: Any, windows: Any, context_count: int, cost_bps: float) -> Any:
    """Return the probabilities of the three classes; the window's mean move in costs is an input, as its log.

    The scaled windows do not show how large moves are, on which it depends whether the next one is beyond the cost. The
    layer begins as a logistic regression on that log.
    """
    import keras  # imported here: loads TensorFlow

    from model.layers import TrailingMove

    trailing = TrailingMove(context_count=context_count, unit=cost_bps * 1e-4, name="trailing_move_in_costs")(windows)
    inputs = keras.layers.Concatenate(axis=-1, dtype="float32", name="cost_inputs")([x, trailing])
    return keras.layers.Dense(3, activation="softmax", kernel_initializer="zeros", dtype="float32", name=COST_CLASSES)(
        inputs
    )


def _expected_move(x: Any, windows: Any, context_count: int) -> Any:
    """Return the window's mean absolute move times a learned positive factor.

    The scaled windows do not show the unit of a move, so the network could not learn it from them. The kernel begins at
    zero and the bias at the factor of the training windows, so the first forecast is the moving average, rescaled.
    """
    import keras  # imported here: loads TensorFlow

    from model.layers import TrailingMove

    factor = keras.layers.Dense(
        1, activation="exponential", kernel_initializer="zeros", dtype="float32", name=MOVE_FACTOR
    )(x)
    trailing = TrailingMove(context_count=context_count, name="trailing_move")(windows)
    return keras.layers.Multiply(dtype="float32", name="expected_move")([factor, trailing])


def _convolutions(spec: NetworkSpec, x: Any) -> Any:
    """Apply one block per entry of `filters`: convolution, batch norm, leaky ReLU, dropout."""
    for number, filters in enumerate(spec.filters, 1):
        x = _block(spec, x, number, filters=filters, padding="same")
    return x


def _dilated_convolutions(spec: NetworkSpec, x: Any, lookback_bars: int) -> Any:
    """Apply residual blocks of doubling dilation until the last step covers the lookback; return that step."""
    import keras  # imported here: loads TensorFlow

    filters = spec.filters[0]
    blocks = max(1, ceil(log2((lookback_bars - 1) / max(1, spec.kernel_bars - 1) + 1)))
    for number in range(1, blocks + 1):
        shortcut = x
        if number == 1:
            shortcut = keras.layers.Conv1D(filters, 1, name="shortcut_1")(x)
        x = _block(spec, x, number, filters=filters, padding="causal", dilation_rate=2 ** (number - 1))
        x = keras.layers.Add(name=f"residual_{number}")([x, shortcut])
    x = keras.layers.Cropping1D((lookback_bars - 1, 0), name="last_bar")(x)
    return keras.layers.Flatten(name="flatten")(x)


def _block(spec: NetworkSpec, x: Any, number: int, **convolution: Any) -> Any:
    """Apply convolution, batch norm, leaky ReLU and dropout, in the article's order."""
    import keras  # imported here: loads TensorFlow

    x = keras.layers.Conv1D(kernel_size=spec.kernel_bars, use_bias=False, name=f"conv_{number}", **convolution)(x)
    x = keras.layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"norm_{number}")(x)
    x = keras.layers.LeakyReLU(LEAKY_SLOPE, name=f"leaky_{number}")(x)
    return keras.layers.Dropout(spec.dropout, name=f"dropout_{number}")(x)

"""The outputs of a network after P(rise): the expected move, then the probabilities of the three classes of a cost.

Knows their order, their targets and their losses; `model.networks` builds them. Both are off by default. Caution: a
stored network states its outputs by their number alone, so that number must name them: 1 none, 2 the move, 4 the
classes, 5 both.
"""

import numpy as np
from jaxtyping import Float32, Float64

from model.cost_classes import CLASS_COLUMNS, class_losses, class_shares, fit_trailing_move, label_cost_classes
from model.expected_moves import LEAST_MOVE, move_factor, move_losses
from model.networks import COST_CLASSES, MOVE_FACTOR, NetworkSpec
from model.windows import Windows

CLASSES = 3


def further_columns(network: NetworkSpec) -> tuple[str, ...]:
    """Return the columns of `Predictor.predict_further`."""
    sized = ("expected_move", "expected_return") if network.magnitude else ()
    return (*sized, *CLASS_COLUMNS) if network.beyond_cost_bps else sized


def split_further(
    further: Float64[np.ndarray, "window output"],
) -> tuple[Float64[np.ndarray, " _"], Float64[np.ndarray, "_ _"]]:
    """Return the expected moves, shape (window,), and the class probabilities, shape (window, 3); empty without them.

    Args:
        further: shape (window, output): the outputs after P(rise).
    """
    count = further.shape[1]
    moves = further[:, 0] if count in (1, CLASSES + 1) else np.empty(0)
    return moves, further[:, -CLASSES:] if count >= CLASSES else np.empty((0, CLASSES))


def training_targets(windows: Windows, network: NetworkSpec) -> Float32[np.ndarray, "..."]:
    """Return what the outputs are trained to: labels, shape (window,), or one column each for label, size and class."""
    targets = [windows.labels]
    if network.magnitude:
        targets.append(np.abs(windows.label_moves))
    if network.beyond_cost_bps:
        targets.append(label_cost_classes(windows.label_moves, network.beyond_cost_bps))
    columns = [each.astype(np.float32) for each in targets]
    return columns[0] if len(columns) == 1 else np.stack(columns, axis=1)


def first_weights(train: Windows, network: NetworkSpec) -> dict[str, Float64[np.ndarray, "..."]]:
    """Return the weights that the layers of further outputs begin with, by layer.

    The size begins as the rescaled mean move of the window, the classes as the logistic regression on it, both fitted
    to the training windows: what the network adds to them is what it has learned.
    """
    found: dict[str, Float64[np.ndarray, "..."]] = {}
    if network.magnitude:
        found[MOVE_FACTOR] = np.array([[np.log(move_factor(train))]])
    if network.beyond_cost_bps:
        found[COST_CLASSES] = fit_trailing_move(train, network.beyond_cost_bps)
    return found


def constant_loss(train: Windows, network: NetworkSpec, magnitude_weight: float) -> float:
    """Return the loss of constant forecasts learned on training windows: the mean move, the shares of the classes."""
    loss = 0.0
    if network.magnitude:
        mean = max(float(np.abs(train.label_moves).mean()), LEAST_MOVE)
        loss += magnitude_weight * (float(np.log(mean)) + 1.0)
    if network.beyond_cost_bps:
        shares = class_shares(label_cost_classes(train.label_moves, network.beyond_cost_bps))
        loss -= float(shares @ np.log(shares))
    return loss


def further_loss(
    windows: Windows, further: Float64[np.ndarray, "window output"], network: NetworkSpec, magnitude_weight: float
) -> float:
    """Return the mean loss of the outputs after P(rise) on resolved windows, as the training adds it; 0 without any."""
    moves, classes = split_further(further)
    loss = 0.0
    if network.magnitude:
        loss += magnitude_weight * float(move_losses(windows.label_moves, moves).mean())
    if network.beyond_cost_bps:
        actual = label_cost_classes(windows.label_moves, network.beyond_cost_bps)
        loss += float(class_losses(actual, classes).mean())
    return loss

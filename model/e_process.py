"""Test sequentially, by an e-process, whether a forecaster's log loss exceeds an allowed level.

Knows labels and probabilities, oldest first; losses are in nats. An e-process may be read after every prediction, for
ever: under the null hypothesis it reaches 1 / a with probability at most a (Ville's inequality), whereas a daily test
at 5 % would raise a false alarm within weeks. The trap: it is evidence against "the mean excess loss is at most the
allowed one" only; a small value does not show that the forecaster is good.
"""

import numpy as np
from jaxtyping import Float64, Int8

from model.metrics import log_losses

# Betting fractions per nat. The process is the mean over all of them, so none has to be the best one. Own choice.
FRACTIONS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
MAX_LOSS_SHARE = 0.9  # largest share of the process that one outcome may cost, so that it stays positive


def e_process(
    labels: Int8[np.ndarray, " prediction"],
    probabilities: Float64[np.ndarray, " prediction"],
    base_rate: float,
    excess: float,
) -> Float64[np.ndarray, " prediction"]:
    """Return the e-values, starting from 1, against "the loss exceeds the base rate's by at most `excess`".

    Under that null hypothesis the process is a supermartingale: it ever reaches 1 / a with probability at most a.
    The fraction for a prediction is limited by the worst of its two possible outcomes, which its probability gives;
    the outcome itself is not used.

    Args:
        labels: shape (prediction,), int8: 1 rise, 0 fall; oldest first.
        probabilities: shape (prediction,), float64: P(rise), as stored before the outcome.
        base_rate: P(rise) that the base rate predicts.
        excess: allowed mean log loss above the base rate's, nats.

    Returns:
        Shape (prediction,), float64, positive.

    Time: entry t depends on predictions 0..t.
    Source: Waudby-Smith and Ramdas 2024 (testing by betting); Ville 1939 (the bound). The mixture over fractions is
        our own.

    Examples:
        >>> falls = np.zeros(8, dtype=np.int8)  # a forecast of 70 % that is wrong eight times
        >>> e_process(falls, np.full(8, 0.7), base_rate=0.5, excess=0.0)[[0, -1]].round(1).tolist()
        [2.0, 543.7]
    """
    base = np.full(len(labels), base_rate)
    rises, falls = np.ones(len(labels), dtype=np.int8), np.zeros(len(labels), dtype=np.int8)
    excess_if = [log_losses(label, probabilities) - log_losses(label, base) - excess for label in (rises, falls)]
    worst = np.maximum(-np.minimum(*excess_if), 1e-12)
    gains = np.where(labels == 1, *excess_if)
    fractions = np.minimum(np.array(FRACTIONS)[:, None], MAX_LOSS_SHARE / worst)
    e_values: Float64[np.ndarray, " prediction"] = np.exp(np.cumsum(np.log1p(fractions * gains), axis=1)).mean(axis=0)
    return e_values

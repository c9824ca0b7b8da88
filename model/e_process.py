"""Sequential evidence that a forecaster has become worse than its record: an e-process, valid at any horizon.

Knows probabilities, outcomes and the out-of-sample record at promotion; no store and no clock. Losses are log losses in
nats. The null hypothesis, for each decision t: given all that is known when t is decided, the expected loss minus that
of the base rate is at most what `allowed_excesses` returns. While it holds, the e-process reaches 1 / a ever with
probability at most a, so it may be read every day. Caution: with a horizon above 1 the outcomes of neighbouring
decisions overlap, and one running product of bets is no longer a martingale; see `lagged_e_process`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int8

from model.errors import SpecError
from model.metrics import ODDS_CLIP, log_losses, losses_by_outcome

STAKES = (0.5, 1.0, 2.0, 4.0, 8.0)  # bet sizes in 1 / nat, averaged: none of them has to be the right one
LARGEST_SHARE = 0.9  # of the evidence that a single decision may cost
Z_RECORD = 1.6448536269514722  # one-sided 95 % bound of the record's mean
CAP_QUANTILE = 0.99  # of the record's divergences: forecasts that are bolder than this earn no further allowance
FIRST_BLOCK = 1024  # decisions over which a change is taken to be equally likely; then blocks of twice the length
LIMIT = 1e250  # evidence is cut here, so that it stays finite
VERSION_SHARE = 0.5  # of the false-alarm rate: for all versions together; the rest is the service-wide process's


@dataclass(frozen=True, slots=True)
class ForecastReference:
    """What a version may lose by, frozen when it is promoted.

    Attributes:
        base_rate: share of rises in the record.
        excess_slope: upper 95 % bound of (loss minus base rate's loss) / divergence over the record. About -1 for a
            calibrated forecaster, +1 for one without skill.
        divergence_cap: largest divergence that earns an allowance, nats.
        tolerance: added to the allowance of every decision, nats.
    """

    base_rate: float
    excess_slope: float
    divergence_cap: float
    tolerance: float


def freeze_reference(
    labels: Int8[np.ndarray, " window"],
    probabilities: Float64[np.ndarray, " window"],
    tolerance: float = 0.005,
    overlap: int = 1,
) -> ForecastReference:
    """Summarise the out-of-sample record of a version at its promotion.

    Args:
        labels: shape (window,), int8: 1 rise, 0 fall; oldest first.
        probabilities: shape (window,), float64: P(rise), out of sample.
        tolerance: excess loss per decision that counts as no change, nats.
        overlap: decisions made within the life of one label (`Record.overlap_bars`); 1 where labels do not overlap.

    Returns:
        The reference, to be stored with the version.

    Raises:
        SpecError: the record is empty.

    Source: own; the standard error allows for autocorrelation (Newey and West 1987).

    >>> record = freeze_reference(np.array([1, 0, 1, 0], dtype=np.int8), np.full(4, 0.5), tolerance=0.01)
    >>> record.base_rate, record.tolerance
    (0.5, 0.01)
    """
    if not len(labels):
        raise SpecError("sequential evidence: expected a record of at least one window, found none")
    base_rate = clip_base_rate(float(labels.mean()))
    base = np.full(len(labels), base_rate)
    excess = log_losses(labels, probabilities) - log_losses(labels, base)
    spread = divergence(base, probabilities)
    return reference_of(base_rate, excess, spread, spread, tolerance, overlap)


def clip_base_rate(share: float) -> float:
    """Return a share of label 1 as a base rate whose loss is finite."""
    return float(np.clip(share, 0.01, 0.99))


def reference_of(
    base_rate: float,
    excess: Float64[np.ndarray, " observation"],
    spread: Float64[np.ndarray, " observation"],
    divergences: Float64[np.ndarray, " window"],
    tolerance: float,
    overlap: int,
) -> ForecastReference:
    """Return the reference of a record, from its observations: windows, or the mean windows of a panel's closes.

    Args:
        base_rate: share of label 1.
        excess: shape (observation,): loss minus the base rate's; oldest first.
        spread: shape (observation,): divergence from the base rate.
        divergences: shape (window,): of single forecasts.
        tolerance: see `freeze_reference`.
        overlap: observations within the life of one label.
    """
    mean_spread = max(float(spread.mean()), 1e-12)
    slope = float(excess.mean()) / mean_spread
    lags = max(2 * overlap, int(np.ceil(np.cbrt(len(excess)))))
    error = float(long_run_deviation(excess - slope * spread, lags)) / np.sqrt(len(excess)) / mean_spread
    cap = float(np.quantile(divergences, CAP_QUANTILE))
    return ForecastReference(base_rate, float(slope + Z_RECORD * error), cap, float(tolerance))


def divergence(
    base_rates: Float64[np.ndarray, "*#run #decision"], probabilities: Float64[np.ndarray, "*#run #decision"]
) -> Float64[np.ndarray, "*#run #decision"]:
    """Return the Kullback-Leibler divergence of each forecast from the base rate, nats.

    It is the excess loss that the forecast is expected to have where the base rate is the truth.

    >>> divergence(np.array([0.5]), np.array([0.5, 0.7])).round(4)
    array([0.    , 0.0872])
    """
    p = np.clip(probabilities, ODDS_CLIP, 1 - ODDS_CLIP)
    nats: Float64[np.ndarray, "*#run #decision"] = base_rates * np.log(base_rates / p) + (1 - base_rates) * np.log(
        (1 - base_rates) / (1 - p)
    )
    return nats


def allowed_excesses(
    reference: ForecastReference, probabilities: Float64[np.ndarray, "*run decision"]
) -> Float64[np.ndarray, "*run decision"]:
    """Return how much each forecast may lose by against the base rate, nats.

    The allowance grows with the boldness of the forecast, as the excess of a forecaster of constant skill does: a
    calibrated one gains most, and one without skill loses most, where it strays furthest from the base rate. So a
    version as good as its record fulfils the null hypothesis on every day, not only on average.

    Time: entry t depends on probability t alone.
    """
    base = np.full_like(probabilities, reference.base_rate)
    bold = np.minimum(divergence(base, probabilities), reference.divergence_cap)
    return np.asarray(reference.tolerance + reference.excess_slope * bold, dtype=np.float64)


def lagged_e_process(
    labels: Int8[np.ndarray, "*run decision"],
    probabilities: Float64[np.ndarray, "*run decision"],
    base_rates: Float64[np.ndarray, "*run decision"],
    allowed: Float64[np.ndarray, "*run decision"],
    overlap: int = 1,
) -> Float64[np.ndarray, "*run decision"]:
    """Return the evidence that the excess loss is larger than allowed, after each decision's outcome.

    With horizon h there are h interleaved streams: decisions k, k + h, k + 2h, ... When decision t + h is made, the
    outcome of t is known, so the product of a stream's bets is a test supermartingale in that stream's own time. The
    streams are averaged. Between a decision and its outcome a bet is open, and overlapping outcomes already tell
    something about it; so every open bet counts as LOST. What is returned is therefore at most the average of the
    Doob martingales of the h streams, which is a supermartingale in the time of all decisions; Ville's inequality
    holds for it at any stopping time. With h = 1 no bet is open, and it is the usual betting process.

    Each stream is itself an average: over `STAKES`, and over the decision from which the bets begin (half the weight
    on the first, the rest spread over later ones). A long good history therefore does not hide a later change.

    Args:
        labels: shape (..., decision), int8: 1 rise, 0 fall, -1 not known yet; oldest first.
        probabilities: shape (..., decision), float64: P(rise), stored before the outcome.
        base_rates: shape (..., decision), float64: of the version that decided.
        allowed: shape (..., decision), float64: see `allowed_excesses`; of the version that decided.
        overlap: decisions made within the life of one label: the horizon over the stride.

    Returns:
        Shape (..., decision), float64, 0 or more; 1 at the start. 1 / a is an alarm at level a. A decision whose
        label is -1 repeats the value before it.

    Time: entry t depends on labels 0..t and on probabilities 0..t + overlap - 1, all known when t resolves.
    Source: Henzi and Ziegel 2022 (lagged streams); Arnold, Henzi and Ziegel 2023; Choe and Ramdas 2023 (forecast
        comparison); Waudby-Smith and Ramdas 2024 (bets); Ville 1939. Counting open bets as lost is our own.

    >>> wrong, sure = np.zeros(8, dtype=np.int8), np.full(8, 0.8)
    >>> evidence = lagged_e_process(wrong, sure, np.full(8, 0.5), np.zeros(8))
    >>> bool(evidence[-1] > 20)
    True
    >>> bool(lagged_e_process(wrong, sure, np.full(8, 0.5), np.zeros(8), overlap=4)[-1] < evidence[-1])
    True
    """
    return excess_e_process(*excess_losses(labels, probabilities, base_rates, allowed), labels >= 0, overlap)


def excess_losses(
    labels: Int8[np.ndarray, "*run decision"],
    probabilities: Float64[np.ndarray, "*run decision"],
    base_rates: Float64[np.ndarray, "*run decision"],
    allowed: Float64[np.ndarray, "*run decision"],
) -> tuple[
    Float64[np.ndarray, "*run decision"], Float64[np.ndarray, "*run decision"], Float64[np.ndarray, "*run decision"]
]:
    """Return loss minus the base rate's minus the allowance: as it was (0 where not known), at least, at most."""
    ours, theirs = losses_by_outcome(probabilities), losses_by_outcome(base_rates)
    rise, fall = (own - base - allowed for own, base in zip(ours, theirs, strict=True))
    gains = np.where(labels == 1, rise, np.where(labels == 0, fall, 0.0))
    return gains, np.minimum(rise, fall), np.maximum(rise, fall)


def excess_e_process(
    gains: Float64[np.ndarray, "*run decision"],
    lowest: Float64[np.ndarray, "*run decision"],
    highest: Float64[np.ndarray, "*run decision"],
    known: Bool[np.ndarray, "*run decision"],
    overlap: int = 1,
) -> Float64[np.ndarray, "*run decision"]:
    """Return the evidence that the expected gain is above 0, after each decision's outcome; see `lagged_e_process`.

    Args:
        gains: shape (..., decision), float64: loss above what is allowed; 0 where it is not known.
        lowest: shape (..., decision), float64: the least that the gain can be, known when the decision is made.
        highest: shape (..., decision), float64: the most.
        known: shape (..., decision), whether there is an outcome.
        overlap: decisions within the life of one label.

    Time: entry t depends on gains 0..t and on bounds 0..t + overlap - 1.
    """
    if overlap < 1:
        raise SpecError(f"e-process: expected an overlap of at least 1 decision, found {overlap}")
    *runs, count = gains.shape
    shares, factors = _bets(gains, lowest, highest)
    rounds = -(-count // overlap) + 1  # one more, so that the open bets of the last round have a place
    shape = (*runs, rounds, overlap, len(STAKES))
    padding = [(0, 0)] * len(runs) + [(0, rounds * overlap - count), (0, 0)]
    settled, if_lost = _streams(
        np.pad(shares, padding).reshape(shape), np.pad(factors, padding, constant_values=1.0).reshape(shape), overlap
    )
    evidence = _settle(settled, if_lost).reshape(*runs, rounds * overlap)[..., :count]
    return _carry(evidence, known)


def alarm_threshold(false_alarm_rate: float, version_ordinal: int | None = None) -> float:
    """Return the evidence that is an alarm: of the service-wide process, or of the n-th version ever promoted.

    Half of the rate is the service's. The versions share the other half: version k gets 1 / (k (k + 1)) of it, which
    adds up to 1 over all versions, so the probability that any process ever raises a false alarm is at most the rate.

    Args:
        false_alarm_rate: for the whole service, ever.
        version_ordinal: 1 for the first version promoted, 2 for the second, ...; None for the service-wide process.

    >>> alarm_threshold(0.05), round(alarm_threshold(0.05, 1)), round(alarm_threshold(0.05, 2))
    (40.0, 80, 240)
    """
    if version_ordinal is None:
        return 1 / ((1 - VERSION_SHARE) * false_alarm_rate)
    return version_ordinal * (version_ordinal + 1) / (VERSION_SHARE * false_alarm_rate)


def first_alarm(evidence: Float64[np.ndarray, " decision"], threshold: float) -> int | None:
    """Return the index of the first decision whose evidence reaches the threshold; None where none does.

    >>> first_alarm(np.array([1.0, 30.0, 50.0, 10.0]), 40)
    2
    """
    reached = np.flatnonzero(evidence >= threshold)
    return int(reached[0]) if len(reached) else None


def long_run_deviation(values: Float64[np.ndarray, "*run window"], lags: int) -> Float64[np.ndarray, "*run"]:
    """Return the standard deviation of the mean of a series times the root of its length; at least that of iid values.

    Args:
        values: shape (..., window), oldest first.
        lags: autocovariances that count, with Bartlett weights.

    Source: Newey and West 1987.

    >>> float(long_run_deviation(np.array([1.0, -1.0, 1.0, -1.0]), 2))
    1.0
    """
    centred = values - values.mean(axis=-1, keepdims=True)
    count = values.shape[-1]
    own = (centred**2).mean(axis=-1)
    shared = sum(
        2 * (1 - lag / (lags + 1)) * (centred[..., lag:] * centred[..., :-lag]).sum(axis=-1) / count
        for lag in range(1, min(lags, count - 1) + 1)
    )
    return np.asarray(np.sqrt(np.maximum(own + shared, own)), dtype=np.float64)


def truncated_deviation(values: Float64[np.ndarray, "*run window"], overlap: int) -> Float64[np.ndarray, "*run"]:
    """Return the long-run deviation of series whose autocovariance ends where labels no longer overlap; 0 if undefined.

    Bartlett's weights, which keep multipliers positive definite, underestimate it.

    Args:
        values: shape (..., window), oldest first, of mean zero.
        overlap: decisions made within the life of one label.

    Source: Hansen and Hodrick 1980.

    >>> float(truncated_deviation(np.array([1.0, 1.0, -1.0, -1.0]), 2))  # root of 1 + 2 * (1 - 1 + 1) / 4
    1.224744871391589
    """
    count = values.shape[-1]
    variance = (values**2).mean(axis=-1)
    for lag in range(1, min(overlap, count)):
        variance = variance + 2 * (values[..., lag:] * values[..., :-lag]).sum(axis=-1) / count
    return np.asarray(np.sqrt(np.maximum(variance, 0)), dtype=np.float64)


def change_weights(rounds: int, overlap: int) -> Float64[np.ndarray, " round"]:
    """Return the weight of each round of a stream as the one from which the bets begin; the sum over all is at most 1.

    Half lies on the first round. The other half is even over the first `FIRST_BLOCK` decisions (1/2 of it), then over
    twice as many (1/6), four times as many (1/12), and so on.

    >>> weights = change_weights(10_000, 1)
    >>> bool(weights[0] > 0.5), bool(weights.sum() < 1)
    (True, True)
    """
    first = max(1, -(-FIRST_BLOCK // overlap))
    place = np.arange(rounds)
    block = np.floor(np.log2(place / first + 1)).astype(np.int64)
    weights = 0.5 / ((block + 1.0) * (block + 2.0)) / (first * 2.0**block)
    weights[:1] += 0.5
    return np.asarray(weights, dtype=np.float64)


def _bets(
    gains: Float64[np.ndarray, "*run decision"],
    lowest: Float64[np.ndarray, "*run decision"],
    highest: Float64[np.ndarray, "*run decision"],
) -> tuple[Float64[np.ndarray, "*run decision stake"], Float64[np.ndarray, "*run decision stake"]]:
    """Return the share of the evidence that each bet risks, and the factor that its outcome made of it."""
    open_question = (lowest < 0) & (highest > 0)
    worst = np.where(open_question, -lowest, 1.0)
    shares = np.where(open_question[..., None], np.minimum(np.array(STAKES) * worst[..., None], LARGEST_SHARE), 0.0)
    return shares, 1 + shares / worst[..., None] * gains[..., None]


def _streams(
    shares: Float64[np.ndarray, "*run round stream stake"],
    factors: Float64[np.ndarray, "*run round stream stake"],
    overlap: int,
) -> tuple[Float64[np.ndarray, "*run round stream"], Float64[np.ndarray, "*run round stream"]]:
    """Return each stream's evidence after each round, and before it with the round's own bet counted as lost."""
    rounds = shares.shape[-3]
    weights = change_weights(rounds, overlap)
    waiting = 1 - np.cumsum(weights)  # weight whose bets have not begun
    settled, if_lost = np.empty(shares.shape[:-1]), np.empty(shares.shape[:-1])
    begun = np.zeros((*shares.shape[:-3], *shares.shape[-2:]))
    for place in range(rounds):
        begun = begun + weights[place]
        if_lost[..., place, :] = (begun * (1 - shares[..., place, :, :])).mean(axis=-1) + waiting[place]
        begun = np.minimum(begun * factors[..., place, :, :], LIMIT)
        settled[..., place, :] = begun.mean(axis=-1) + waiting[place]
    return settled, if_lost


def _settle(
    settled: Float64[np.ndarray, "*run round stream"], if_lost: Float64[np.ndarray, "*run round stream"]
) -> Float64[np.ndarray, "*run round stream"]:
    """Average the streams after each decision: its own is settled, each other one has an open bet."""
    later = np.cumsum(if_lost[..., ::-1], axis=-1)[..., ::-1] - if_lost  # streams after this one: same round
    following = np.concatenate([if_lost[..., 1:, :], settled[..., -1:, :]], axis=-2)
    earlier = np.cumsum(following, axis=-1) - following  # streams before this one: already in the next round
    return np.asarray((settled + later + earlier) / settled.shape[-1], dtype=np.float64)


def _carry(
    evidence: Float64[np.ndarray, "*run decision"], known: Bool[np.ndarray, "*run decision"]
) -> Float64[np.ndarray, "*run decision"]:
    """Repeat the last value of a known outcome; 1 before the first."""
    place = np.where(known, np.arange(evidence.shape[-1]) + 1, 0)
    last = np.maximum.accumulate(place, axis=-1)
    return np.take_along_axis(np.concatenate([np.ones((*evidence.shape[:-1], 1)), evidence], axis=-1), last, axis=-1)

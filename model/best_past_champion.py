"""The anchor against creep: a challenger is compared with the best of what has been champion, not only the last one.

A chain of refits, each a little worse within the margin, must not end far from the best version that ever served. So a
budget of excess loss counts from the best reference, and is not renewed by a promotion. Knows probabilities and
outcomes on common decisions; losses are log losses in nats. Caution: over 750 windows the mean log loss difference of
two forecasters has a standard error of 0.005 or more, too much to see a step of 0.01 every day for years. For
forecasters without skill the expected excess can be computed without outcomes, to 0.0005: it is the boldness, the
difference of their mean divergences from the base rate. So the boldness counts as excess, unless the outcomes are
evidence of skill; then only a part of it counts, or the measured excess.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int8
from pydantic import BaseModel, ConfigDict, Field

from model.e_process import divergence, long_run_deviation
from model.errors import SpecError
from model.metrics import ODDS_CLIP, unchecked_losses


class AnchorRule(BaseModel):
    """How far a champion may be from the best reference."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    budget: float = Field(
        default=0.008,
        ge=0,
        le=1,
        description="Largest conservative excess loss over any reference, whatever the number of promotions (nats per "
        "decision)",
    )
    tolerance: float = Field(
        default=0.002,
        ge=0,
        le=1,
        description="Hold when the challenger is worse than a reference by more than this with evidence (nats per "
        "decision)",
    )
    significance: float = Field(
        default=0.05, gt=0, lt=0.5, description="Level of that evidence, over all references together"
    )
    bound_z: float = Field(
        default=2.326,
        ge=0,
        le=6,
        description="Standard errors of the upper bound of the excess and of the lower bound of the calibration slope; "
        "2.326: 99 %, one-sided",
    )
    min_common: int = Field(
        default=100, ge=2, le=1_000_000, description="Fewest common decisions that make a version a reference"
    )


@dataclass(frozen=True, slots=True)
class AnchorComparison:
    """A challenger vs. each reference on common decisions; means in nats per decision, positive: challenger is worse.

    Attributes:
        common: shape (..., reference), int64: common decisions.
        excess: shape (..., reference), float64: mean log loss difference.
        standard_error: shape (..., reference), float64: of that mean, allowing for overlapping labels.
        boldness: shape (..., reference), float64: difference of the mean divergences from the base rate: the expected
            excess where neither has skill.
        calibration_slope: shape (...), float64: lower bound of the challenger's, 0 to 0.5. The expected excess of a
            forecaster with slope b is (1 - 2 b) times its mean divergence.
        conservative_excess: shape (..., reference), float64: what is compared with the budget: the smaller of the upper
            bound of `excess` and `boldness`, which is multiplied by (1 - 2 b) where it is positive.
        over_budget: shape (..., reference), bool.
        worse: shape (..., reference), bool: worse than the tolerance with evidence.
    """

    common: Float64[np.ndarray, "*run reference"]
    excess: Float64[np.ndarray, "*run reference"]
    standard_error: Float64[np.ndarray, "*run reference"]
    boldness: Float64[np.ndarray, "*run reference"]
    calibration_slope: Float64[np.ndarray, "*run"]
    conservative_excess: Float64[np.ndarray, "*run reference"]
    over_budget: Bool[np.ndarray, "*run reference"]
    worse: Bool[np.ndarray, "*run reference"]

    @property
    def may_be_promoted(self) -> Bool[np.ndarray, "*run"]:
        """Whether no reference speaks against the challenger; true where there is no reference."""
        return np.asarray(~(self.over_budget | self.worse).any(axis=-1))


def compare_with_past_champions(
    labels: Int8[np.ndarray, "*run window"],
    base_rate: float,
    challenger: Float64[np.ndarray, "*run window"],
    references: Float64[np.ndarray, "*run reference _"],
    rule: AnchorRule,
    overlap: int = 1,
    considered: int = 0,
    slope: Float64[np.ndarray, "*run"] | float | None = None,
) -> AnchorComparison:
    """Compare a challenger's out-of-sample record with the references' out-of-sample probabilities.

    Args:
        labels: shape (..., window), int8: 1 rise, 0 fall; oldest first.
        base_rate: mean P(rise) of the base rate on the windows of the record.
        challenger: shape (..., window), float64: its record.
        references: shape (..., reference, window), float64: of versions that have been champion, the last one among
            them. Up to its training end that is a version's own record, after it what it predicted before the outcome
            as champion or as a shadow, which does not serve; NaN where there is neither. A reference with fewer than
            `min_common` common decisions does not count.
        rule: budget, tolerance and levels.
        overlap: decisions made within the life of one label.
        considered: versions that have ever been champion. The references are the best of them, so evidence of being
            worse is corrected for all of them; 0: as many as there are references.
        slope: shape (...) or a number: `calibration_slope_bound` over a longer history than the challenger's record:
            what the series was served before it, and the record; None to take the record.

    Returns:
        The comparison; `may_be_promoted` is the decision.

    Raises:
        SpecError: the windows of challenger and references differ.

    Source: own. The split of an excess loss into boldness minus skill is that of Clark and West 2007.

    >>> labels = np.tile([1, 0], 100).astype(np.int8)
    >>> timid, bold = np.full(200, 0.51), np.full(200, 0.65)
    >>> rule = AnchorRule()
    >>> bool(compare_with_past_champions(labels, 0.5, bold, timid[None], rule).may_be_promoted)
    False
    >>> bool(compare_with_past_champions(labels, 0.5, timid, bold[None], rule).may_be_promoted)
    True
    """
    if references.shape[-1] != labels.shape[-1]:
        raise SpecError(
            f"anchor: expected references on the challenger's {labels.shape[-1]} windows, found {references.shape[-1]}"
        )
    both = np.isfinite(references)
    common = both.sum(axis=-1).astype(np.float64)
    counted = common >= rule.min_common
    theirs = np.where(both, references, challenger[..., None, :])
    per_window = np.maximum(common, 1)
    difference = unchecked_losses(labels, challenger)[..., None, :] - unchecked_losses(labels[..., None, :], theirs)
    excess = difference.sum(axis=-1) / per_window
    lags = 2 * overlap if overlap > 1 else 0
    centred = np.where(both, difference - excess[..., None], 0.0)
    error = long_run_deviation(centred, lags) * np.sqrt(labels.shape[-1]) / per_window
    bold = _divergences(base_rate, challenger)[..., None, :] - _divergences(base_rate, theirs)
    boldness = bold.sum(axis=-1) / per_window
    if slope is None:
        slope = calibration_slope_bound(labels, base_rate, challenger, rule, overlap)
    slope = np.broadcast_to(np.asarray(slope, dtype=np.float64), labels.shape[:-1])
    unproven = np.where(boldness > 0, (1 - 2 * slope[..., None]) * boldness, boldness)
    conservative = np.minimum(unproven, excess + rule.bound_z * error)
    looks = np.maximum(counted.sum(axis=-1, keepdims=True), max(considered, 1))
    from scipy.special import ndtri  # imported here: a prediction starts without scipy

    z = -ndtri(rule.significance / looks)
    return AnchorComparison(
        common=common,
        excess=excess,
        standard_error=error,
        boldness=boldness,
        calibration_slope=slope,
        conservative_excess=conservative,
        over_budget=counted & (conservative > rule.budget),
        worse=counted & (excess - z * error > rule.tolerance),
    )


def calibration_slope_bound(
    labels: Int8[np.ndarray, "*run window"],
    base_rate: float,
    probabilities: Float64[np.ndarray, "*run window"],
    rule: AnchorRule,
    overlap: int = 1,
) -> Float64[np.ndarray, "*run"]:
    """Return the lower bound of the calibration slope, cut to 0..0.5: how much boldness the outcomes confirm.

    The longest out-of-sample history of a recipe gives the best bound: what it served before the challenger's record
    began, then that record.

    Args:
        labels: shape (..., window), int8: 1 rise, 0 fall; oldest first.
        base_rate: share of rises.
        probabilities: shape (..., window), float64: P(rise), out of sample.
        rule: its `bound_z`.
        overlap: decisions made within the life of one label.

    Source: Cox 1958 (calibration slope; here the slope of skill on divergence); Newey and West 1987.

    >>> labels = np.tile([1, 0], 500).astype(np.int8)
    >>> float(calibration_slope_bound(labels, 0.5, np.where(labels == 1, 0.6, 0.4), AnchorRule()))
    0.5
    >>> float(calibration_slope_bound(labels, 0.5, np.where(labels == 1, 0.4, 0.6), AnchorRule()))
    0.0
    """
    p = np.clip(probabilities, ODDS_CLIP, 1 - ODDS_CLIP)
    skill = (labels - base_rate) * (np.log(p / (1 - p)) - np.log(base_rate / (1 - base_rate)))
    divergences = _divergences(base_rate, probabilities)
    twice = np.maximum(2 * divergences.mean(axis=-1), 1e-12)
    slope = skill.mean(axis=-1) / twice
    residual = skill - 2 * slope[..., None] * divergences
    error = long_run_deviation(residual, 2 * overlap if overlap > 1 else 0) / np.sqrt(labels.shape[-1]) / twice
    return np.asarray(np.clip(slope - rule.bound_z * error, 0.0, 0.5), dtype=np.float64)


def references_to_keep(
    labels: Int8[np.ndarray, " window"],
    base_rate: float,
    references: Float64[np.ndarray, "reference window"],
    newest: int = 5,
    min_common: int = 1,
) -> tuple[int, ...]:
    """Return the indices of the references whose shadow predictions must go on.

    They are the newest ones, the one with the lowest mean log loss vs. the base rate on its windows, and the one whose
    probabilities lie closest to the base rate: without skill that is the best one, and this is known without noise. So
    at most seven are kept.

    Args:
        labels: shape (window,), int8.
        base_rate: share of rises in the record.
        references: shape (reference, window), float64: in the order of their promotion; NaN where a version has none.
        newest: how many of the newest stay whatever they are.
        min_common: fewest windows of a reference that may be one of the other two: with few, the lowest loss is luck.

    >>> probabilities = np.array([[0.9, 0.9], [0.5, 0.5], [0.4, 0.6], [0.45, 0.5]])
    >>> references_to_keep(np.array([0, 1], dtype=np.int8), 0.5, probabilities, newest=1)
    (1, 2, 3)
    """
    kept = set(range(max(0, len(references) - newest), len(references)))
    finite = np.isfinite(references)
    known = finite.sum(axis=1) >= max(1, min_common)
    if known.any():
        candidates = np.flatnonzero(known)
        losses = unchecked_losses(labels, references) - unchecked_losses(labels, np.full(len(labels), base_rate))
        for values in (np.where(finite, each, np.nan) for each in (losses, _divergences(base_rate, references))):
            kept.add(int(candidates[np.nanmean(values[known], axis=1).argmin()]))
    return tuple(sorted(kept))


def _divergences(
    base_rate: float, probabilities: Float64[np.ndarray, "*#run window"]
) -> Float64[np.ndarray, "*#run window"]:
    return divergence(np.full_like(probabilities, base_rate), probabilities)

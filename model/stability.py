"""Does it hold over time? The numbers of a record period by period: by fold and by calendar year.

One good number over all bars may come from one good year. Each period stands beside the base rate on its own bars.
Knows records only. The trap: a period of few windows swings widely, so each carries the interval of its log loss
against the base rate, and a period with one class only has NaN where a number is undefined.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped

from model.metrics import Record, score
from model.significance import PairedDifference, paired_difference, rate_block_bars


@dataclass(frozen=True, slots=True)
class Period:
    """One part of a record.

    Attributes:
        name: `fold 1`, or the year.
        first: first decision, datetime64[us], UTC.
        last: last decision, datetime64[us], UTC.
        windows: decisions in it.
        rises_share: share of rises among its labels.
        scores: the numbers of `model.metrics.METRICS`.
        against_base_rate: log loss minus the base rate's on the same windows.
    """

    name: str
    first: np.datetime64
    last: np.datetime64
    windows: int
    rises_share: float
    scores: dict[str, float]
    against_base_rate: PairedDifference


def periods_by_fold(record: Record, base_rate: Float64[np.ndarray, " window"], seed: int) -> tuple[Period, ...]:
    """Return one period a fold, oldest first.

    Args:
        record: out-of-sample probabilities, oldest first.
        base_rate: shape (window,), float64: the base rate's P(rise) on the same windows.
        seed: of the bootstrap.
    """
    folds = np.unique(record.fold)
    return tuple(_period(f"fold {fold + 1}", record, base_rate, record.fold == fold, seed) for fold in folds)


def periods_by_year(record: Record, base_rate: Float64[np.ndarray, " window"], seed: int) -> tuple[Period, ...]:
    """Return one period a calendar year (UTC) of decisions, oldest first; arguments as in `periods_by_fold`."""
    years = record.decided_at.astype("datetime64[Y]")
    return tuple(_period(str(year), record, base_rate, years == year, seed) for year in np.unique(years))


def _period(
    name: str,
    record: Record,
    base_rate: Float64[np.ndarray, " window"],
    chosen: Shaped[np.ndarray, " window"],
    seed: int,
) -> Period:
    """Score the windows under a mask."""
    part = record.take(chosen)
    block_bars = max(rate_block_bars(len(part)), 2 * part.overlap_bars())
    return Period(
        name=name,
        first=part.decided_at[0],
        last=part.decided_at[-1],
        windows=len(part),
        rises_share=float((part.labels == 1).mean()),
        scores=score(part.labels, part.probabilities),
        against_base_rate=paired_difference(part.labels, part.probabilities, base_rate[chosen], seed, block_bars),
    )

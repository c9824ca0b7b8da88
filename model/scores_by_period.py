"""Score a record by fold, by calendar year and by seed, each period vs. the base rate on its own bars.

A good score over all bars may come from one good year or one good seed. Knows records and probabilities only. The
trap: the score of a short period varies widely, so each has the interval of its log loss difference to the base rate;
a metric that is undefined in a period is NaN; and a seed chosen by these scores is no longer measured by them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped

from model.bootstrap import Interval, PairedDifference, compare_losses, record_intervals
from model.metrics import score
from model.record import Record


@dataclass(frozen=True, slots=True)
class Period:
    """One part of a record.

    Attributes:
        name: `fold 1`, or the year.
        first: first decision, datetime64[us], UTC.
        last: last decision, datetime64[us], UTC.
        windows: decisions in it.
        rises_share: share of rises among its labels.
        scores: the metrics of `model.metrics.METRICS`.
        against_base_rate: log loss minus the base rate's on the same windows.
    """

    name: str
    first: np.datetime64
    last: np.datetime64
    windows: int
    rises_share: float
    scores: dict[str, float]
    against_base_rate: PairedDifference


@dataclass(frozen=True, slots=True)
class Seeds:
    """The same recipe on the same windows, trained from several seeds.

    Attributes:
        numbers: by seed, the record's own first, and metric.
    """

    numbers: dict[int, dict[str, Interval]]

    def spread(self, metric: str) -> float:
        """Return the highest minus the lowest value over the seeds."""
        values = self._values(metric)
        return float(values.max() - values.min())

    def deviation(self, metric: str) -> float:
        """Return the sample standard deviation over the seeds."""
        return float(self._values(metric).std(ddof=1))

    def metrics(self) -> dict[str, float]:
        """Return the numbers that a run logs: each seed's log loss and accuracy, with range and standard deviation."""
        names = ("log_loss", "accuracy")
        logged = {f"seed.{seed}.{name}": each[name].value for seed, each in self.numbers.items() for name in names}
        logged |= {f"seeds.{name}_spread": self.spread(name) for name in names}
        return logged | {f"seeds.{name}_deviation": self.deviation(name) for name in names}

    def _values(self, metric: str) -> Float64[np.ndarray, " seed"]:
        return np.array([each[metric].value for each in self.numbers.values()], dtype=np.float64)


def further_seeds(seed: int, count: int) -> tuple[int, ...]:
    """Return the further seeds of a comparison by seed: the next ones, `count` with the recipe's own."""
    return tuple((seed + further) % 2**31 for further in range(1, count))


def by_seed(record: Record, probabilities: Mapping[int, Float64[np.ndarray, " window"]]) -> Seeds:
    """Score the probabilities of several seeds on the same windows; intervals as `record_intervals`.

    Args:
        record: out-of-sample record, oldest first.
        probabilities: by seed, shape (window,), float64: P(rise); the record's own seed first.
    """
    first = next(iter(probabilities))  # one bootstrap seed, so that intervals differ by the forecasts alone
    return Seeds({seed: record_intervals(record, each, first) for seed, each in probabilities.items()})


def periods_by_fold(record: Record, base_rate: Float64[np.ndarray, " window"], seed: int) -> tuple[Period, ...]:
    """Return one period per fold, oldest first.

    Args:
        record: out-of-sample probabilities, oldest first.
        base_rate: shape (window,), float64: the base rate's P(rise) on the same windows.
        seed: of the bootstrap.
    """
    folds = np.unique(record.fold)
    return tuple(_period(f"fold {fold + 1}", record, base_rate, record.fold == fold, seed) for fold in folds)


def periods_by_year(record: Record, base_rate: Float64[np.ndarray, " window"], seed: int) -> tuple[Period, ...]:
    """Return one period per calendar year (UTC) of decisions, oldest first; arguments as in `periods_by_fold`."""
    years = record.decided_at.astype("datetime64[Y]")
    return tuple(_period(str(year), record, base_rate, years == year, seed) for year in np.unique(years))


def _period(
    name: str,
    record: Record,
    base_rate: Float64[np.ndarray, " window"],
    chosen: Shaped[np.ndarray, " window"],
    seed: int,
) -> Period:
    """Score the windows where the mask holds."""
    part = record.take(chosen)
    return Period(
        name=name,
        first=part.decided_at[0],
        last=part.decided_at[-1],
        windows=len(part),
        rises_share=float((part.labels == 1).mean()),
        scores=score(part.labels, part.probabilities),
        against_base_rate=compare_losses(part, base_rate[chosen], seed),
    )

"""The trial log: which recipe was scored on which test bars, and how often; a Delta table next to the decision log.

Each score of a recipe on test bars is a look at them, and the best of many looks is better than it will prove to be.
Retrains, replays, searches and benchmarks append a row for each recipe that they score, so that significance can be
reported after correction for the number of recipes tried. A row counts by its `trial_id`: writing it again changes
nothing. The probabilities of each trial are kept too, so that a later recipe can be tested against all of them. It has
no clock: times are passed in.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float64, Int8, Shaped

from model.correction_for_looks import Looks
from model.metrics import score
from model.recipe import Recipe
from model.record import Record
from model.times import as_utc, to_datetimes
from tasks.store.delta_table import Change, Table, append_rows, place, quoted, read_rows

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

TrialKind = Literal["retrain", "replay", "tune", "benchmark"]
TIMES = ("recorded_at", "test_first", "test_last")
NUMBERS = ("log_loss", "base_rate_log_loss", "p_value")
FORECASTS = ("decided_at", "labels", "probabilities", "base_rates")


@dataclass(frozen=True, slots=True)
class TrialForecasts:
    """Out-of-sample probabilities of a trial, oldest first.

    Attributes:
        decided_at: shape (window,), datetime64[us], UTC.
        labels: shape (window,), int8: 1 rise, 0 fall.
        probabilities: shape (window,), float64, stored as float32: P(rise).
        base_rates: shape (window,), float64, stored as float32: the base rate's P(rise).
    """

    decided_at: Shaped[np.ndarray, " window"]
    labels: Int8[np.ndarray, " window"]
    probabilities: Float64[np.ndarray, " window"]
    base_rates: Float64[np.ndarray, " window"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One recipe scored on one span of test bars.

    Attributes:
        trial_id: names the trial; the same run writes the same one.
        recorded_at: time of writing, UTC.
        kind: what scored it.
        symbol: of the bars.
        interval: of the bars.
        horizon_bars: of the labels.
        recipe: digest of the recipe.
        test_first: first decision of the test bars, UTC.
        test_last: last decision of the test bars, UTC.
        windows: number of decisions scored.
        log_loss: mean log loss of the recipe, nats.
        base_rate_log_loss: mean log loss of the base rate on the same decisions, nats.
        run_id: MLflow run that keeps the out-of-sample record; empty where there is none.
        p_value: of the Pesaran-Timmermann test, Holm-adjusted over the tests of its report; NaN where not tested.
        forecasts: out-of-sample probabilities; None where they were not stored, or not read.
    """

    trial_id: str
    recorded_at: datetime
    kind: TrialKind
    symbol: str
    interval: str
    horizon_bars: int
    recipe: str
    test_first: datetime
    test_last: datetime
    windows: int
    log_loss: float
    base_rate_log_loss: float
    run_id: str = ""
    p_value: float = math.nan
    forecasts: TrialForecasts | None = field(default=None, compare=False, repr=False)


def trial_of(
    kind: TrialKind,
    trial_id: str,
    recipe: Recipe,
    record: Record,
    base_rate: Float64[np.ndarray, " window"],
    *,
    recorded_at: datetime,
    run_id: str = "",
    p_value: float = math.nan,
) -> Trial:
    """Return the trial of an out-of-sample record.

    Args:
        kind: what scored it.
        trial_id: names the trial.
        recipe: what was trained.
        record: its out-of-sample probabilities, oldest first.
        base_rate: shape (window,), float64: the base rate's P(rise) on the same windows.
        recorded_at: time of writing, UTC.
        run_id: MLflow run that keeps the record.
        p_value: of the Pesaran-Timmermann test, Holm-adjusted; NaN where not tested.
    """
    first, last = to_datetimes(record.decided_at[[0, -1]])
    return Trial(
        trial_id=trial_id,
        recorded_at=recorded_at,
        kind=kind,
        symbol=recipe.symbol,
        interval=recipe.interval,
        horizon_bars=recipe.window.horizon_bars,
        recipe=recipe.digest,
        test_first=first,
        test_last=last,
        windows=len(record),
        log_loss=score(record.labels, record.probabilities)["log_loss"],
        base_rate_log_loss=score(record.labels, base_rate)["log_loss"],
        run_id=run_id,
        p_value=p_value,
        forecasts=TrialForecasts(record.decided_at, record.labels, record.probabilities, base_rate),
    )


def count_looks(trials: Sequence[Trial], first: datetime, last: datetime) -> Looks:
    """Count the trials whose test bars overlap the decisions from `first` to `last`, both included, UTC."""
    overlapping = overlapping_trials(trials, first, last)
    return Looks(len(overlapping), len({trial.recipe for trial in overlapping}))


def overlapping_trials(trials: Sequence[Trial], first: datetime, last: datetime) -> list[Trial]:
    """Return the trials whose test bars overlap the decisions from `first` to `last`, both included, UTC."""
    return [trial for trial in trials if trial.test_first <= as_utc(last) and as_utc(first) <= trial.test_last]


class TrialLog:
    """The table of trials below one root."""

    def __init__(self, root: str, storage_options: Mapping[str, str] | None = None) -> None:
        """Set the place of the table; nothing is opened or created yet.

        Args:
            root: folder, or `s3://bucket/prefix`.
            storage_options: connection of an S3 store, with deltalake's keys.
        """
        self.root = root
        self.storage_options = dict(storage_options or {})

    @cached_property
    def _table(self) -> Table:
        import pyarrow as pa  # imported here: a command that reads no trials starts without it

        moment, text, small = pa.timestamp("us", "UTC"), pa.string(), pa.float32()
        kinds = dict.fromkeys(TIMES, moment) | dict.fromkeys(NUMBERS, pa.float64())
        kinds |= {"horizon_bars": pa.int64(), "windows": pa.int64()}
        columns = [(part.name, kinds.get(part.name, text)) for part in fields(Trial) if part.name != "forecasts"]
        columns += zip(FORECASTS, map(pa.list_, (moment, pa.int8(), small, small)), strict=True)
        return Table(place(self.root, "trials"), pa.schema(columns), (), self.storage_options, key=("trial_id",))

    @property
    def tables(self) -> tuple[Table, ...]:
        """The table that the log is kept in, for `tasks/repair/`."""
        return (self._table,)

    @cached_property
    def _counted(self) -> "pa.Schema":
        """The columns without the probabilities: a count reads no more."""
        return self._schema(*(name for name in self._table.schema.names if name not in FORECASTS))

    def _schema(self, *names: str) -> "pa.Schema":
        import pyarrow as pa  # imported here: see _table

        return pa.schema([self._table.schema.field(name) for name in names])

    def append(self, trials: Sequence[Trial]) -> int:
        """Write trials in one commit; return how many were new, those with a known `trial_id` stay as they are."""
        added = 0

        def plan(table: "DeltaTable") -> Change | None:
            nonlocal added
            known = set(read_rows(table, self._schema("trial_id"))["trial_id"].to_pylist())
            fresh = {trial.trial_id: _fields(trial) for trial in trials if trial.trial_id not in known}
            added = len(fresh)
            return append_rows(table, self._table.schema, list(fresh.values())) if fresh else None

        if trials:
            self._table.change(plan)
        return added

    def trials(
        self, symbol: str, interval: str, *, between: tuple[datetime, datetime] | None = None, forecasts: bool = False
    ) -> tuple[Trial, ...]:
        """Return the trials on the bars of a series, in the order of writing times.

        Args:
            symbol: of the bars.
            interval: of the bars.
            between: only trials whose test bars overlap these decisions, both included, UTC; None: all.
            forecasts: read the probabilities too. A daily retrain leaves 750 a day, so name `between`, or read those
                of few trials by `with_forecasts`.
        """
        table = self._table.open()
        if table is None:
            return ()
        where = _of_bars(symbol, interval)
        if between is not None:
            first, last = (quoted(as_utc(moment).isoformat()) for moment in between)
            where += f" AND test_first <= {last} AND test_last >= {first}"
        found = read_rows(table, self._table.schema if forecasts else self._counted, where)
        rows = found.select(self._counted.names).to_pylist()
        trials = [_trial(row, _forecasts(found, place) if forecasts else None) for place, row in enumerate(rows)]
        return tuple(sorted(trials, key=lambda trial: (trial.recorded_at, trial.trial_id)))

    def newest_retrain(self, symbol: str, interval: str) -> tuple[Trial, Looks] | None:
        """Return the trial of the newest retrain with the looks at its test bars until now; None before the first.

        The others are counted in their columns: after ten years 3,000 of them would be made for one line of `status`.
        """
        import pyarrow.compute as pc  # imported here: see _table

        table = self._table.open()
        if table is None:
            return None
        found = read_rows(table, self._counted, _of_bars(symbol, interval))
        order = [(name, "descending") for name in ("recorded_at", "trial_id")]
        retrains = found.filter(pc.equal(found["kind"], "retrain")).sort_by(order).slice(0, 1).to_pylist()
        if not retrains:
            return None
        newest = _trial(retrains[0], None)
        begun = pc.less_equal(found["test_first"], newest.test_last)
        overlapping = found.filter(pc.and_(begun, pc.greater_equal(found["test_last"], newest.test_first)))
        return newest, Looks(len(overlapping), pc.count_distinct(overlapping["recipe"]).as_py())

    def with_forecasts(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return trials with their probabilities; those of no other trial are read."""
        table = self._table.open()
        if table is None or not trials:
            return list(trials)
        ids = ", ".join(quoted(trial.trial_id) for trial in trials)
        rows = read_rows(table, self._schema("trial_id", *FORECASTS), f"trial_id IN ({ids})")
        found = {name: _forecasts(rows, place) for place, name in enumerate(rows["trial_id"].to_pylist())}
        return [replace(trial, forecasts=found.get(trial.trial_id)) for trial in trials]


def _of_bars(symbol: str, interval: str) -> str:
    return f'symbol = {quoted(symbol)} AND "interval" = {quoted(interval)}'


def _trial(row: dict[str, Any], forecasts: TrialForecasts | None) -> Trial:
    return Trial(**row | {name: math.nan for name in NUMBERS if row[name] is None}, forecasts=forecasts)


def _forecasts(rows: "pa.Table", place: int) -> TrialForecasts | None:
    """Return the probabilities of one row; None where it was written without."""
    decided_at, labels, probabilities, base_rates = (rows[name][place].values for name in FORECASTS)
    if labels is None:
        return None
    return TrialForecasts(
        decided_at.to_numpy(zero_copy_only=False).astype("datetime64[us]"),
        labels.to_numpy().astype(np.int8),
        probabilities.to_numpy().astype(np.float64),
        base_rates.to_numpy().astype(np.float64),
    )


def _fields(trial: Trial) -> dict[str, Any]:
    kept = {part.name: getattr(trial, part.name) for part in fields(Trial) if part.name != "forecasts"}
    kept |= {name: as_utc(getattr(trial, name)) for name in TIMES}
    found = trial.forecasts
    return kept | {name: None if found is None else getattr(found, name) for name in FORECASTS}

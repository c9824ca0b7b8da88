"""The prediction log: every probability as it was made, stored before its outcome was known; nothing is overwritten.

What was served and what shadows predicted are two tables of one schema, `SERVED` and `SHADOWS`. It has no clock: times
are passed in. A prediction is identified by series name, symbol, `decided_at` and version: writing the same one again
changes nothing, also from two processes at once. Caution: the series name of a panel has a row for each of its symbols.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from model.bars import Series
from model.errors import SpecError
from model.label_names import LabelKind
from model.times import as_utc, to_datetime
from tasks.store.delta_table import Change, Table, append_rows, field_names, newest_first, place, quoted, read_rows

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from deltalake import DeltaTable


SERVED, SHADOWS = "predictions", "shadow_predictions"
RISE: LabelKind = "rise"
KEY = ("series_name", "symbol", "decided_at", "version")  # identity of a prediction


@dataclass(frozen=True, slots=True)
class Prediction:
    """One probability, as it was made.

    Attributes:
        series_name: registered model, such as `BTC-USD-1d` or `PANEL-1d`.
        symbol: of the bars.
        interval: of the bars.
        decided_at: close of the window's last bar, UTC.
        resolves_at: close of the bar that fixes the label, UTC.
        version: version of the model.
        probability: of label 1.
        stored_at: time of writing, UTC.
        network: SHA-256 of the network that predicted; empty in predictions of version 0.1.
        label: what was predicted; rank for some panels.
        has_opinion: of a panel, whether the version had an opinion; None where its retrain stated no share, where the
            prediction was backfilled, and for one series.
        opinion_level: of a panel, the level of the close (`model.abstention`); None likewise.
    """

    series_name: str
    symbol: str
    interval: str
    decided_at: datetime
    resolves_at: datetime
    version: str
    probability: float
    stored_at: datetime
    network: str = ""
    label: LabelKind = "rise"
    has_opinion: bool | None = None
    opinion_level: float | None = None

    @property
    def late(self) -> bool:
        """Stored after the outcome was known: no evidence of skill."""
        return as_utc(self.stored_at) >= as_utc(self.resolves_at)

    @property
    def key(self) -> tuple[str, str, datetime, str]:
        """Identity of the prediction."""
        return self.series_name, self.symbol, as_utc(self.decided_at), self.version

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and `late` ready for JSON, times in ISO 8601."""
        times = {name: getattr(self, name).isoformat() for name in ("decided_at", "resolves_at", "stored_at")}
        return {**asdict(self), **times, "late": self.late}


def new_prediction(
    series_name: str,
    series: Series,
    horizon_bars: int,
    decided_at: np.datetime64,
    version: str,
    probability: float,
    stored_at: datetime,
    network: str = "",
    *,
    label: LabelKind = "rise",
) -> Prediction:
    """Return the prediction of a version for the window decided at `decided_at`.

    Args:
        series_name: registered model; a replay has a name of its own.
        series: symbol and interval of the bars.
        horizon_bars: bars from the decision to the outcome.
        decided_at: close of the window's last bar, datetime64, UTC.
        version: version of the model.
        probability: of label 1.
        stored_at: time of writing.
        network: SHA-256 of the network that predicted.
        label: what was predicted.
    """
    return Prediction(
        series_name=series_name,
        symbol=series.symbol,
        interval=series.interval,
        decided_at=to_datetime(decided_at),
        resolves_at=to_datetime(decided_at + horizon_bars * series.delta),
        version=version,
        probability=probability,
        stored_at=stored_at,
        network=network,
        label=label,
    )


class PredictionLog:
    """Predictions below one root."""

    def __init__(self, root: str, storage_options: Mapping[str, str] | None = None, name: str = SERVED) -> None:
        """Set the place of the table; nothing is opened or created yet.

        Args:
            root: folder, or `s3://bucket/prefix`.
            storage_options: connection of an S3 store, with deltalake's keys.
            name: of the table.
        """
        self.root = root
        self.name = name
        self.storage_options = dict(storage_options or {})

    @cached_property
    def _table(self) -> Table:
        import pyarrow as pa  # imported here: a command that reads no table starts without it

        types = dict.fromkeys((part.name for part in fields(Prediction)), pa.string()) | {
            "probability": pa.float64(),
            **dict.fromkeys(("decided_at", "resolves_at", "stored_at"), pa.timestamp("us", "UTC")),
            "late": pa.bool_(),
            "has_opinion": pa.bool_(),
            "opinion_level": pa.float64(),
        }
        schema = pa.schema(list(types.items()))
        return Table(place(self.root, self.name), schema, (), self.storage_options, key=KEY)

    @property
    def tables(self) -> tuple[Table, ...]:
        """The table that the log is kept in, for `tasks/repair/`."""
        return (self._table,)

    def create(self) -> None:
        """Create the table if there is none.

        Called before the time of writing is taken: a store may take hours to answer, and a prediction that waits for
        its table would count as stored before its outcome.
        """
        if self._table.open() is None:
            self._table.create()

    def store(self, prediction: Prediction) -> bool:
        """Store a prediction; return False if it is stored already, which then stays unchanged."""
        return self.store_all([prediction]) == 1

    def store_all(self, predictions: Sequence[Prediction]) -> int:
        """Store predictions in one commit; return how many are new. Those stored already stay unchanged.

        Raises:
            SpecError: a probability outside 0 .. 1, or an outcome that is not later than its decision.
        """
        for prediction in predictions:
            _require_sense(prediction)
        if not predictions:
            return 0
        fresh: dict[tuple[str, str, datetime, str], Prediction] = {}
        moments = [as_utc(one.decided_at).isoformat() for one in predictions]
        span = f"decided_at >= {quoted(min(moments))} AND decided_at <= {quoted(max(moments))}"

        def plan(table: "DeltaTable") -> Change | None:
            nonlocal fresh
            rows = read_rows(table, self._schema(*KEY), span)
            known = set(zip(*(rows[name].to_pylist() for name in KEY), strict=True))
            fresh = {one.key: one for one in reversed(predictions) if one.key not in known}
            if not fresh:
                return None
            written = [_prediction_fields(one) for one in reversed(fresh.values())]
            return append_rows(table, self._table.schema, written)

        self._table.change(plan)
        return len(fresh)

    def find(self, series_name: str, decided_at: datetime, version: str) -> Prediction | None:
        """Return the stored prediction of a version for one decision; None without one."""
        table = self._table.open()
        if table is None:
            return None
        where = (
            f"series_name = {quoted(series_name)} AND version = {quoted(version)} "
            f"AND decided_at = {quoted(as_utc(decided_at).isoformat())}"
        )
        found = read_rows(table, self._table.schema, where).to_pylist()
        return _prediction(found[0]) if found else None

    def decided_at(self, series_name: str, moment: datetime) -> tuple[Prediction, ...]:
        """Return all stored predictions of one decision."""
        table = self._table.open()
        if table is None:
            return ()
        where = f"series_name = {quoted(series_name)} AND decided_at = {quoted(as_utc(moment).isoformat())}"
        found = read_rows(table, self._table.schema, where).to_pylist()
        return tuple(_prediction(row) for row in found)

    def versions(self, series_name: str) -> set[str]:
        """Return the versions of a series that stored a prediction."""
        table = self._table.open()
        if table is None:
            return set()
        found = read_rows(table, self._schema("version"), f"series_name = {quoted(series_name)}")
        return set(found["version"].unique().to_pylist())

    def last_predicted(self, series_name: str) -> datetime | None:
        """Return the newest `decided_at` of the stored predictions of a series; None without any."""
        table = self._table.open()
        if table is None:
            return None
        for times in newest_first(table, "decided_at"):
            where = f"series_name = {quoted(series_name)} AND {times}"
            found = read_rows(table, self._schema("decided_at"), where)["decided_at"].to_numpy()
            if len(found):
                return to_datetime(found.max())
        return None

    def _schema(self, *names: str) -> "pa.Schema":
        import pyarrow as pa  # imported here: see _table

        return pa.schema([self._table.schema.field(name) for name in names])

    def probabilities(self, series_name: str, version: str) -> dict[datetime, float]:
        """Return what a version of a series predicted, by `decided_at`; read without pandas."""
        table = self._table.open()
        if table is None:
            return {}
        where = f"series_name = {quoted(series_name)} AND version = {quoted(version)}"
        found = read_rows(table, self._schema("decided_at", "probability"), where)
        times = map(as_utc, found["decided_at"].to_pylist())
        return dict(zip(times, found["probability"].to_pylist(), strict=True))

    def read(
        self, series_name: str = "", versions: Sequence[str] = (), since: datetime | None = None
    ) -> "pd.DataFrame":
        """Read stored predictions of a series and of some versions (of all when empty), by `decided_at`, then version.

        Args:
            series_name: registered model.
            versions: of the model.
            since: earlier decisions are left out; None for all.
        """
        conditions = [f"series_name = {quoted(series_name)}"] if series_name else []
        conditions += [f"version IN ({', '.join(map(quoted, versions))})"] if versions else []
        conditions += [f"decided_at >= {quoted(as_utc(since).isoformat())}"] if since else []
        where = " AND ".join(conditions) or None
        table = self._table.open()
        schema = self._table.schema
        found = schema.empty_table() if table is None else read_rows(table, schema, where)
        rows: pd.DataFrame = found.to_pandas()
        rows = rows.assign(label=rows["label"].fillna(RISE))
        return rows.sort_values(["decided_at", "version", "symbol"], ignore_index=True)


def _prediction_fields(prediction: Prediction) -> dict[str, Any]:
    times = {name: as_utc(getattr(prediction, name)) for name in ("decided_at", "resolves_at", "stored_at")}
    return {name: getattr(prediction, name) for name in field_names(Prediction)} | times | {"late": prediction.late}


def _prediction(row: dict[str, Any]) -> Prediction:
    older = {"network": row["network"] or "", "label": row["label"] or RISE}  # columns that tables of 0.1 lack
    return Prediction(**{name: row[name] for name in field_names(Prediction)} | older)


def _require_sense(prediction: Prediction) -> None:
    """Raise SpecError if the probability or the times are impossible."""
    where = f"{prediction.series_name} version {prediction.version}, decided {prediction.decided_at}"
    if not 0 <= prediction.probability <= 1:
        raise SpecError(f"{where}: expected a probability from 0 to 1, found {prediction.probability}")
    if as_utc(prediction.resolves_at) <= as_utc(prediction.decided_at):
        raise SpecError(f"{where}: expected an outcome after the decision, found {prediction.resolves_at}")

"""The ledger: every promotion decision, and every prediction as it was made; nothing is ever overwritten.

Knows how decisions and predictions are kept (Delta tables `ledger` and `predictions`) and who was champion when. It
decides nothing and has no clock: times are passed in. A decision counts by its `decision_id`, a prediction by series
name, `decided_at` and version: writing the same one again changes nothing, also from two processes at once.

`enter` is how a decision changes the champion: it is refused unless the champion it was made against still is one.

The trap: two decisions may bear the same `decided_at` (a retrain repeated "as of" the same day), so the ledger counts
its rows in `sequence`, and of two at one time the later written one holds.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, date, datetime, time
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from model.errors import RiseOrFallError, SpecError
from tasks.store.delta_table import EVERYTHING, Change, Table, place, quoted, utc

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from deltalake import DeltaTable

Action = Literal["promote", "hold", "reject", "rollback"]
FILES = 64  # a table in more files than this is written anew with the next row


class ChampionChanged(RiseOrFallError):
    """The champion that a decision was made against is the champion no longer."""


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One promotion decision.

    Attributes:
        decision_id: names the decision; the same run makes the same one.
        decided_at: time of the decision, UTC.
        series_name: registered model, such as `BTC-USD-1d`; a replay has a name of its own.
        symbol: of the bars.
        interval: of the bars.
        action: what was decided.
        version: the challenger; for a rollback the version put back.
        champion_before: version that was champion, None when there was none.
        champion_after: version that is champion from now on, None when there is none.
        reasons: why, in sentences.
        numbers: what the reasons rest on; not finite ones become None.
        run_id: MLflow run of the challenger.
        bars_version: version of the table of bars.
        bars_sha256: hash of the bars.
        rule: name of the promotion rule.
        forced: decided by a person against the rule.
        forced_reason: that person's reason.
        sequence: place in the ledger, counted from 1 by the ledger itself.
    """

    decision_id: str
    decided_at: datetime
    series_name: str
    symbol: str
    interval: str
    action: Action
    version: str
    champion_before: str | None
    champion_after: str | None
    reasons: tuple[str, ...] = ()
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    run_id: str = ""
    bars_version: int = -1
    bars_sha256: str = ""
    rule: str = ""
    forced: bool = False
    forced_reason: str = ""
    sequence: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the fields ready for JSON, times in ISO 8601."""
        return {**asdict(self), "decided_at": self.decided_at.isoformat(), "reasons": list(self.reasons)}


@dataclass(frozen=True, slots=True)
class Prediction:
    """One probability, as it was known when it was made.

    Attributes:
        series_name: registered model, such as `BTC-USD-1d`.
        symbol: of the bars.
        interval: of the bars.
        decided_at: close of the last bar that the model saw, UTC.
        resolves_at: close of the bar that will say who was right, UTC.
        version: version of the model.
        probability: P(rise).
        stored_at: time of writing, UTC.
    """

    series_name: str
    symbol: str
    interval: str
    decided_at: datetime
    resolves_at: datetime
    version: str
    probability: float
    stored_at: datetime

    @property
    def late(self) -> bool:
        """Stored when the outcome was known already: no evidence of skill."""
        return utc(self.stored_at) >= utc(self.resolves_at)

    @property
    def key(self) -> tuple[str, datetime, str]:
        """What makes it the same prediction."""
        return self.series_name, utc(self.decided_at), self.version

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and `late` ready for JSON, times in ISO 8601."""
        times = {name: getattr(self, name).isoformat() for name in ("decided_at", "resolves_at", "stored_at")}
        return {**asdict(self), **times, "late": self.late}


class Ledger:
    """Decisions and predictions below one root."""

    def __init__(self, root: str, storage_options: Mapping[str, str] | None = None) -> None:
        """Name the place; nothing is opened or made yet.

        Args:
            root: folder, or `s3://bucket/prefix`.
            storage_options: how to reach an S3 server, as deltalake names it.
        """
        self.root = root
        self.storage_options = dict(storage_options or {})

    @cached_property
    def _decisions(self) -> Table:
        import pyarrow as pa  # here: a command that reads no ledger starts without it

        text, instant = pa.string(), pa.timestamp("us", "UTC")
        types = dict.fromkeys((part.name for part in fields(LedgerRow)), text) | {
            "decided_at": instant,
            "reasons": pa.list_(text),
            "bars_version": pa.int64(),
            "forced": pa.bool_(),
            "sequence": pa.int64(),
        }
        return Table(place(self.root, "ledger"), pa.schema(list(types.items())), storage_options=self.storage_options)

    @cached_property
    def _predictions(self) -> Table:
        import pyarrow as pa  # here: a command that reads no ledger starts without it

        types = dict.fromkeys((part.name for part in fields(Prediction)), pa.string()) | {
            "probability": pa.float64(),
            **dict.fromkeys(("decided_at", "resolves_at", "stored_at"), pa.timestamp("us", "UTC")),
            "late": pa.bool_(),
        }
        schema = pa.schema(list(types.items()))
        return Table(place(self.root, "predictions"), schema, storage_options=self.storage_options)

    def append(self, row: LedgerRow) -> bool:
        """Write a decision; False when one with its `decision_id` is there already, which then stays as it is."""
        return self._write(row, require=lambda _: None)

    def enter(self, row: LedgerRow) -> bool:
        """Write a decision if its `champion_before` is the champion by the ledger at that very moment.

        Of two processes that decide at once one is refused, whatever the store: the check and the row are one commit.

        Returns:
            False when a decision with this `decision_id` is there already, which then stays as it is.

        Raises:
            ChampionChanged: somebody else's decision came first.
        """

        def require(rows: "pa.Table") -> None:
            past = [one for one in rows.to_pylist() if one["series_name"] == row.series_name]
            champion = max(past, key=lambda one: one["sequence"])["champion_after"] if past else row.champion_before
            if champion != row.champion_before:
                raise ChampionChanged(
                    f"{row.series_name}: expected version {row.champion_before or 'none'} to be champion still when "
                    f"{row.action} of version {row.version} was written, found version {champion or 'none'}: another "
                    "decision came first. Decide again."
                )

        return self._write(row, require)

    def _write(self, row: LedgerRow, require: "Callable[[pa.Table], None]") -> bool:
        written = False

        def plan(table: "DeltaTable") -> Change | None:
            nonlocal written
            rows = _scan(table, self._decisions.schema)
            written = row.decision_id not in set(rows["decision_id"].to_pylist())
            if not written:
                return None
            require(rows)
            counted = replace(row, sequence=rows.num_rows + 1)
            return _appended(table, self._decisions.schema, rows, [_decision_fields(counted)])

        self._decisions.change(plan)
        return written

    def rows(self, series_name: str = "", last: int | None = None) -> tuple[LedgerRow, ...]:
        """Return decisions of one series (of all when empty) in the order of writing; only the `last` ones if given."""
        table = self._decisions.open()
        if table is None:
            return ()
        where = f"series_name = {quoted(series_name)}" if series_name else None
        found = sorted(_scan(table, self._decisions.schema, where).to_pylist(), key=lambda row: row["sequence"])
        start = 0 if last is None else max(0, len(found) - last)
        return tuple(_decision(row) for row in found[start:])

    def last(self, series_name: str) -> LedgerRow | None:
        """Return the decision written last about a series: its `champion_after` is the champion. None without any."""
        rows = self.rows(series_name, last=1)
        return rows[-1] if rows else None

    def find_decision(self, decision_id: str) -> LedgerRow | None:
        """Return the decision of this id; None when it was never written."""
        table = self._decisions.open()
        if table is None:
            return None
        found = _scan(table, self._decisions.schema, f"decision_id = {quoted(decision_id)}").to_pylist()
        return _decision(found[0]) if found else None

    def champion_on(self, series_name: str, on: date | datetime) -> str | None:
        """Return the version that was champion at a time (a date: at the end of that day, UTC); None if none was."""
        until = utc(on) if isinstance(on, datetime) else datetime.combine(on, time.max, UTC)
        past = [row for row in self.rows(series_name) if row.decided_at <= until]
        return max(past, key=lambda row: (row.decided_at, row.sequence)).champion_after if past else None

    def store(self, prediction: Prediction) -> bool:
        """Write a prediction; False when it is there already, which then stays as it is."""
        return self.store_all([prediction]) == 1

    def store_all(self, predictions: Sequence[Prediction]) -> int:
        """Write predictions in one commit, and return how many were not there yet; those that were stay as they are.

        Raises:
            SpecError: a probability outside 0 .. 1, or an outcome that is not later than its decision.
        """
        for prediction in predictions:
            _require_sense(prediction)
        fresh: dict[tuple[str, datetime, str], Prediction] = {}

        def plan(table: "DeltaTable") -> Change | None:
            nonlocal fresh
            rows = _scan(table, self._predictions.schema)
            known = set(
                zip(*(rows[name].to_pylist() for name in ("series_name", "decided_at", "version")), strict=True)
            )
            fresh = {one.key: one for one in reversed(predictions) if one.key not in known}
            if not fresh:
                return None
            written = [_prediction_fields(one) for one in reversed(fresh.values())]
            return _appended(table, self._predictions.schema, rows, written)

        if predictions:
            self._predictions.change(plan)
        return len(fresh)

    def find(self, series_name: str, decided_at: datetime, version: str) -> Prediction | None:
        """Return the stored prediction of a version for one decision; None when it made none."""
        table = self._predictions.open()
        if table is None:
            return None
        where = (
            f"series_name = {quoted(series_name)} AND version = {quoted(version)} "
            f"AND decided_at = {quoted(utc(decided_at).isoformat())}"
        )
        found = _scan(table, self._predictions.schema, where).to_pylist()
        return Prediction(**{name: found[0][name] for name in _names(Prediction)}) if found else None

    def last_predicted(self, series_name: str) -> datetime | None:
        """Return the newest `decided_at` of the stored predictions of a series; None when there is none."""
        table = self._predictions.open()
        if table is None:
            return None
        found = _scan(table, self._predictions.schema, f"series_name = {quoted(series_name)}")
        return max(found["decided_at"].to_pylist(), default=None)

    def predictions(self, series_name: str = "", version: str = "") -> "pd.DataFrame":
        """Read stored predictions of a series and a version (of all when empty), by `decided_at`, then version."""
        wanted = {"series_name": series_name, "version": version}
        where = " AND ".join(f"{name} = {quoted(text)}" for name, text in wanted.items() if text) or None
        table = self._predictions.open()
        schema = self._predictions.schema
        found = schema.empty_table() if table is None else _scan(table, schema, where)
        rows: pd.DataFrame = found.to_pandas()
        return rows.sort_values(["decided_at", "version"], ignore_index=True)


def _scan(table: "DeltaTable", schema: "pa.Schema", where: str | None = None) -> "pa.Table":
    import pyarrow as pa  # here: a command that reads no ledger starts without it

    return pa.table(table.scan(schema.names, where)).cast(schema)


def _appended(table: "DeltaTable", schema: "pa.Schema", rows: "pa.Table", fresh: list[dict[str, Any]]) -> Change:
    """Append rows; where the table has grown into many files, write it anew in one with them."""
    import pyarrow as pa  # here: a command that reads no ledger starts without it

    added = pa.Table.from_pylist(fresh, schema=schema)
    if len(table.file_uris()) < FILES:
        return Change(added)
    return Change(pa.concat_tables([rows, added]), replaces=EVERYTHING)


def _decision_fields(row: LedgerRow) -> dict[str, Any]:
    numbers = {name: _finite(number) for name, number in row.numbers.items()}
    told = {"decided_at": utc(row.decided_at), "reasons": list(row.reasons), "numbers": json.dumps(numbers)}
    return {name: getattr(row, name) for name in _names(LedgerRow)} | told


def _decision(found: dict[str, Any]) -> LedgerRow:
    return LedgerRow(**{**found, "reasons": tuple(found["reasons"]), "numbers": json.loads(found["numbers"])})


def _prediction_fields(prediction: Prediction) -> dict[str, Any]:
    times = {name: utc(getattr(prediction, name)) for name in ("decided_at", "resolves_at", "stored_at")}
    return {name: getattr(prediction, name) for name in _names(Prediction)} | times | {"late": prediction.late}


def _require_sense(prediction: Prediction) -> None:
    """Raise SpecError where a prediction cannot be one."""
    where = f"{prediction.series_name} version {prediction.version}, decided {prediction.decided_at}"
    if not 0 <= prediction.probability <= 1:
        raise SpecError(f"{where}: expected a probability from 0 to 1, found {prediction.probability}")
    if utc(prediction.resolves_at) <= utc(prediction.decided_at):
        raise SpecError(f"{where}: expected an outcome after the decision, found {prediction.resolves_at}")


def _names(kind: Callable[..., Any]) -> list[str]:
    return [part.name for part in fields(kind)]  # type: ignore[arg-type]


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None

"""The monitor log: the result of each run of the monitor, and the alarms that it raised; a Delta table.

It has no clock: times are passed in. Which alarms are raised again is decided in `model/monitor_alarms.py`. The Delta
table is called `monitor`; its columns are those of version 0.1 and `references`. Its rows are one a run for ever, so
that what a command needs of all of them is read by its columns alone.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from model.e_process import ForecastReference
from model.monitor_alarms import Alarm
from model.times import as_utc
from tasks.store.delta_table import Change, Table, append_rows, newest_first, place, quoted, read_rows

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

Raised = tuple[datetime, tuple[str, ...]]  # time of a run, UTC, and kinds of the alarms that it raised


@dataclass(frozen=True, slots=True)
class VersionReference:
    """What a version may lose by, and the horizon of its labels; neither ever changes.

    Attributes:
        forecast: with the tolerance of the run that wrote it.
        horizon_bars: of its labels.
    """

    forecast: ForecastReference
    horizon_bars: int


@dataclass(frozen=True, slots=True)
class MonitorEntry:
    """Result of one run of the monitor.

    Attributes:
        series_name: registered model.
        watched_at: time of the run, UTC.
        version: of the champion.
        numbers: measured values by name.
        alarms: all alarms, raised before or not.
        raised: kinds of the alarms that this run raised.
        references: of the versions whose files this run read, by number. Since 0.2.
    """

    series_name: str
    watched_at: datetime
    version: str
    numbers: Mapping[str, float]
    alarms: tuple[Alarm, ...]
    raised: tuple[str, ...]
    references: Mapping[str, VersionReference] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields ready for JSON."""
        return {
            "watched_at": self.watched_at.isoformat(),
            "version": self.version,
            **self.numbers,
            "alarms": [f"{alarm.kind}: {alarm.message}" for alarm in self.alarms],
        }


class MonitorLog:
    """Results of the monitor below one root."""

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
        import pyarrow as pa  # imported here: a command that reads no table starts without it

        texts = [pa.field(name, pa.string()) for name in ("series_name", "version", "numbers", "alarms", "raised")]
        moment = pa.field("watched_at", pa.timestamp("us", "UTC"))
        schema = pa.schema([*texts, moment, pa.field("references", pa.string())])
        return Table(place(self.root, "monitor"), schema, (), self.storage_options)

    @property
    def tables(self) -> tuple[Table, ...]:
        """The table that the log is kept in, for `tasks/repair/`."""
        return (self._table,)

    def write(self, entry: MonitorEntry) -> None:
        """Append an entry."""

        def plan(table: "DeltaTable") -> Change:
            return append_rows(table, self._table.schema, [_entry_fields(entry)])

        self._table.change(plan)

    def entries(self, series_name: str, since: datetime | None = None) -> list[MonitorEntry]:
        """Return the entries of a series, oldest first; earlier ones than `since` are left out."""
        rows = self._read(series_name, _since(since))
        return sorted((_entry(row) for row in rows), key=lambda entry: entry.watched_at)

    def last(self, series_name: str, until: datetime | None = None) -> MonitorEntry | None:
        """Return the newest entry; None without any.

        Args:
            series_name: registered model.
            until: later entries are left out, UTC. A run whose clock was ahead would otherwise stay the newest.
        """
        table = self._table.open()
        for where in () if table is None else newest_first(table, "watched_at"):
            times = [as_utc(row["watched_at"]) for row in self._read(series_name, where, ("watched_at",))]
            times = [each for each in times if until is None or each <= until]
            if times:
                return [each for each in self.entries(series_name, max(times)) if each.watched_at == max(times)][-1]
        return None

    def raised(self, series_name: str, until: datetime | None = None) -> list[Raised]:
        """Return when a run raised alarms, and which, oldest first; runs later than `until` are left out.

        An alarm of a run whose clock was ahead would otherwise silence others until that time.
        """
        rows = self._read(series_name, "raised <> '[]'", ("watched_at", "raised"))
        found = sorted((as_utc(row["watched_at"]), tuple(json.loads(row["raised"]))) for row in rows)
        return [each for each in found if until is None or each[0] <= until]

    def references(self, series_name: str) -> dict[str, VersionReference]:
        """Return what earlier runs read from the files of versions, by number."""
        rows = self._read(series_name, columns=("references",))
        texts = [row["references"] for row in rows if row["references"]]
        return {number: _reference(each) for text in texts for number, each in json.loads(text).items()}

    def _read(self, series_name: str, where: str = "", columns: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """Return rows of a series that meet a SQL condition; all columns if none are named."""
        table = self._table.open()
        if table is None:
            return []
        condition = f"series_name = {quoted(series_name)}{f' AND {where}' if where else ''}"
        found: list[dict[str, Any]] = read_rows(table, self._schema(columns), condition).to_pylist()
        return found

    def _schema(self, columns: tuple[str, ...]) -> "pa.Schema":
        import pyarrow as pa  # imported here: see _table

        schema = self._table.schema
        return pa.schema([schema.field(name) for name in columns]) if columns else schema


def score_from(raised: list[Raised]) -> datetime | None:
    """Return the time of the last `degraded` alarm, from which evidence starts anew; None without one."""
    past = [time for time, kinds in raised if "degraded" in kinds]
    return past[-1] if past else None


def _since(moment: datetime | None) -> str:
    return f"watched_at >= {quoted(as_utc(moment).isoformat())}" if moment else ""


def _entry_fields(entry: MonitorEntry) -> dict[str, Any]:
    return {
        "series_name": entry.series_name,
        "watched_at": as_utc(entry.watched_at),
        "version": entry.version,
        "numbers": json.dumps(dict(entry.numbers)),
        "alarms": json.dumps([[alarm.kind, alarm.message] for alarm in entry.alarms]),
        "raised": json.dumps(list(entry.raised)),
        "references": _references_text(entry.references),
    }


def _references_text(references: Mapping[str, VersionReference]) -> str | None:
    """Return references as JSON; None without any."""
    rows = {number: {**asdict(each.forecast), "horizon_bars": each.horizon_bars} for number, each in references.items()}
    return json.dumps(rows) if rows else None


def _reference(row: Mapping[str, float]) -> VersionReference:
    numbers = dict(row)
    horizon_bars = int(numbers.pop("horizon_bars"))
    return VersionReference(ForecastReference(**numbers), horizon_bars)


def _entry(row: Mapping[str, Any]) -> MonitorEntry:
    return MonitorEntry(
        row["series_name"],
        as_utc(row["watched_at"]),
        row["version"],
        json.loads(row["numbers"]),
        tuple(Alarm(kind, message) for kind, message in json.loads(row["alarms"])),
        tuple(json.loads(row["raised"])),
        {number: _reference(each) for number, each in json.loads(row["references"] or "{}").items()},
    )

"""The quarantine table: bars rejected by a data check, stored with the rule that failed.

Knows how entries are stored (Delta table `quarantine`) and which are still open. It does not check bars and has no
clock: times of writing are passed in. The same entry (time, rule, values) is stored once, so running twice adds
nothing. Note: one open time can have several entries, because both bars of a duplicate time are quarantined.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from data_checks.rule_definitions import NEVER_RELEASED, REMOVED
from model.bars import COLUMNS, Series
from model.errors import SpecError
from model.times import as_utc, column_times, utc_index
from tasks.store.bar_rows import VALUES, key_fields, partition, read_rows, scan_rows, scan_times
from tasks.store.delta_table import Change, Table, place
from tasks.store.stated_reason import require_one_line

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from deltalake import DeltaTable


class Quarantine:
    """The table of quarantined bars below one root."""

    def __init__(self, root: str, storage_options: Mapping[str, str]) -> None:
        """Store the location; no table is opened or created."""
        self.root = root
        self.storage_options = storage_options

    @cached_property
    def _table(self) -> Table:
        import pyarrow as pa  # imported here: a command that reads no bars starts without it

        fields = [
            *key_fields(),
            *[pa.field(name, pa.float64()) for name in VALUES],
            *[pa.field(name, pa.string()) for name in ("rule", "severity", "value", "source")],
            pa.field("quarantined_at", pa.timestamp("us", "UTC")),
            pa.field("released_at", pa.timestamp("us", "UTC")),
            pa.field("release_reason", pa.string()),
        ]
        return Table(place(self.root, "quarantine"), pa.schema(fields), ("symbol", "interval"), self.storage_options)

    @property
    def tables(self) -> tuple[Table, ...]:
        """The table that the log is kept in, for `tasks/repair/`."""
        return (self._table,)

    def add(self, series: Series, frame: "pd.DataFrame", *, at: datetime, source: str) -> int:
        """Store rejected bars (columns of `COLUMNS` and `rule`, `severity`, `value`); return how many were new."""
        return self._append_new(series, _refused(frame), at=at, source=source) if len(frame) else 0

    def add_removed(self, series: Series, frame: "pd.DataFrame", reason: str, *, at: datetime, source: str) -> None:
        """Store bars (columns of `COLUMNS`) that a person removed; an open entry of the same bar is kept as it is."""
        removed = frame.assign(rule=REMOVED, severity="warning", value=f"removed: {reason}")
        self._append_new(series, removed, at=at, source=source, open_only=True)

    def _append_new(
        self, series: Series, refused: "pd.DataFrame", *, at: datetime, source: str, open_only: bool = False
    ) -> int:
        """Append the entries that are not stored yet, or not stored as open ones, equal rows once; return how many."""
        rows = refused.assign(
            symbol=series.symbol,
            interval=series.interval,
            source=source,
            quarantined_at=as_utc(at),
            released_at=None,
            release_reason=None,
        )
        added = 0

        def plan(table: "DeltaTable") -> Change | None:
            nonlocal added
            held = scan_rows(table, self._table.schema, series)
            known = set(_refusals(held[held["released_at"].isna()] if open_only else held))
            fresh = {
                key: row for row, key in enumerate(_refusals(rows)) if key not in known
            }  # equal rows are one entry
            added = len(fresh)
            return Change(_rows(self._table.schema, rows.iloc[list(fresh.values())])) if fresh else None

        self._table.change(plan)
        return added

    def decided_by_hand(self, series: Series) -> "tuple[pd.DataFrame, pd.DataFrame]":
        """Return the bars that were released, and those that were removed; of the same bar the removal counts."""
        entries = self.read(series)
        removed = entries[entries["released_at"].isna() & (entries["rule"] == REMOVED)]
        released = entries[entries["released_at"].notna()]
        gone = set(_bars(removed))
        stays = [bar not in gone for bar in _bars(released)]
        return released[stays], removed

    def read(self, series: Series) -> "pd.DataFrame":
        """Read the quarantined bars, oldest first, released ones (`released_at`) as well."""
        return read_rows(self._table, series).sort_values(
            ["timestamp", "rule", "quarantined_at", "value"], ignore_index=True
        )

    def released(self, series: Series) -> Shaped[np.ndarray, " bar"]:
        """Return the unique open times of released bars, ascending (datetime64[us])."""
        times = scan_times(self._table.open(), series, "released_at IS NOT NULL")
        return np.unique(times) if len(times) else times  # loads numpy.ma

    def entries(self, series: Series) -> list[dict[str, Any]]:
        """Return the quarantined bars, oldest first, as mappings for JSON: ISO 8601 times, None for missing values."""
        frame = self.read(series).rename(columns={"timestamp": "opened_at"})
        times = [name for name in frame.columns if name.endswith("_at")]
        entries = frame.astype(object).where(frame.notna(), None).to_dict("records")
        return [
            {
                str(name): value.isoformat() if name in times and value is not None else value
                for name, value in each.items()
            }
            for each in entries
        ]

    def count(self, series: Series) -> int:
        """Count the open times with an entry that was not released."""
        return len(np.unique(scan_times(self._table.open(), series, "released_at IS NULL")))

    def held(self, series: Series, opened_at: Sequence[datetime], reason: str) -> "pd.DataFrame":
        """Return the quarantined bars of some open times, one each, for their release.

        Of a time whose bar was removed by hand it is the bar removed last, whatever else was refused there.

        Raises:
            SpecError: the reason is empty, a time has no open entry, the rule of one can never be waived, or entries of
                one time have different values.
        """
        if not reason.strip():
            raise SpecError("release: expected a reason, found none. Pass --reason TEXT.")
        require_one_line(reason)
        wanted = {as_utc(time) for time in opened_at}
        refusals = self.read(series)
        held = refusals[refusals["timestamp"].isin(wanted) & refusals["released_at"].isna()]
        removed = held[held["rule"] == REMOVED].drop_duplicates("timestamp", keep="last")
        held = held[~held["timestamp"].isin(removed["timestamp"]) | held.index.isin(removed.index)]
        absent = wanted - set(held["timestamp"])
        if absent:
            raise SpecError(
                f"{series.symbol} {series.interval}: expected quarantined bars at {len(wanted)} open times, found none "
                f"at {min(absent).isoformat()} ({len(absent)} such). `riseorfall quarantine` lists their times."
            )
        unusable = held[held["rule"].isin(NEVER_RELEASED)]
        if len(unusable):
            first = unusable.iloc[0]
            raise SpecError(
                f"{series.symbol} {series.interval}: expected a rule that can be waived, found {first['rule']} "
                f"({first['value']}) at {first['timestamp'].isoformat()}. Correct the source and ingest it again."
            )
        frame = held[list(COLUMNS)].drop_duplicates()
        duplicates = frame["timestamp"][frame["timestamp"].duplicated()]
        if len(duplicates):
            raise SpecError(
                f"{series.symbol} {series.interval}: expected one quarantined bar at {duplicates.iloc[0].isoformat()}, "
                "found several with different values. Correct the source and ingest it again."
            )
        return frame

    def mark_released(self, series: Series, frame: "pd.DataFrame", reason: str, *, at: datetime) -> None:
        """Mark the open entries of some bars (columns of `COLUMNS`) as released."""
        wanted = set(_bars(frame))

        def plan(table: "DeltaTable") -> Change | None:
            rows = scan_rows(table, self._table.schema, series)
            chosen = np.array([bar in wanted for bar in _bars(rows)], dtype=bool)
            released = rows["released_at"].isna() & chosen
            if not released.any():
                return None
            rows.loc[released, "released_at"] = as_utc(at)
            rows["release_reason"] = rows["release_reason"].astype(object).where(~released, reason)
            return Change(_rows(self._table.schema, rows), partition(series))

        self._table.change(plan)


def _refused(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Convert rejected bars to rows of the quarantine: times UTC-aware or missing, values float64, the rest text."""
    import pandas as pd  # imported here: reading bars needs no pandas

    rows = pd.DataFrame(index=range(len(frame)))
    rows["timestamp"] = utc_index(column_times(frame["timestamp"]))
    for name in VALUES:
        rows[name] = frame[name].to_numpy(dtype=np.float64) if name in frame.columns else np.nan
    for name in ("rule", "severity", "value"):
        rows[name] = [str(text) for text in frame[name]] if name in frame.columns else ""
    return rows


def _refusals(rows: "pd.DataFrame") -> list[tuple[tuple[int, bytes], str]]:
    """Return the key of each entry: bar and rule."""
    return list(zip(_bars(rows), rows["rule"], strict=True))


def _bars(rows: "pd.DataFrame") -> list[tuple[int, bytes]]:
    """Return the key of the bar of each entry: time and values."""
    values = rows[list(VALUES)].to_numpy(dtype=np.float64) + 0.0
    values[np.isnan(values)] = np.nan
    times = rows["timestamp"].to_numpy(dtype="datetime64[us]").astype(np.int64)
    return [(time, block.tobytes()) for time, block in zip(times.tolist(), values, strict=True)]


def _rows(schema: "pa.Schema", frame: "pd.DataFrame") -> "pa.Table":
    """Convert a frame to rows of a table, missing values to null."""
    import pyarrow as pa  # imported here: a command that reads no bars starts without it

    columns = []
    for part in schema:
        column = frame[part.name]
        if pa.types.is_timestamp(part.type):
            column = column_times(column)
            columns.append(pa.array(column.astype(np.int64), mask=np.isnat(column)).cast(part.type))
        else:
            columns.append(pa.array(column, part.type, from_pandas=True))
    return pa.Table.from_arrays(columns, schema=schema)

"""The table of revisions: old and new values of stored bars that a later ingest changed.

The trap is a crash between two tables. A merge commits `bars` first, atomically; its Delta log is the source of truth.
A commit that revises bars sets a transaction marker; `revisions` stores the last marker it has processed. The next
merge writes any missing revision rows by comparing the versions before and after the marked commit, so each revision is
recorded exactly once.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from model.bars import Bars, Series
from tasks.store.bar_rows import (
    VALUES,
    differ,
    key_fields,
    open_bars,
    picked,
    positions,
    read,
    read_rows,
    scan_times,
    spans,
    value_columns,
)
from tasks.store.delta_table import Change, Table, place

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from deltalake import DeltaTable

NOTE = "riseorfall"  # name under which a commit of `bars` keeps its record
REVISING = "revising"  # marker in `bars`: the last version that revised a bar; in `revisions`: the last one processed


class Revisions:
    """The table of revisions of one table of bars."""

    def __init__(self, bars: Table, root: str, storage_options: Mapping[str, str]) -> None:
        """Store the location; no table is opened or created."""
        self._bars = bars
        self.root = root
        self.storage_options = storage_options

    @cached_property
    def _table(self) -> Table:
        import pyarrow as pa  # imported here: a command that reads no bars starts without it

        fields = [
            *key_fields(),
            *[pa.field(f"{age}_{name}", pa.float64()) for age in ("old", "new") for name in VALUES],
            pa.field("revised_at", pa.timestamp("us", "UTC")),
            pa.field("source", pa.string()),
            pa.field("bars_version", pa.int64()),
        ]
        return Table(place(self.root, "revisions"), pa.schema(fields), ("symbol", "interval"), self.storage_options)

    @property
    def tables(self) -> tuple[Table, ...]:
        """The table itself, for `tasks/repair/`."""
        return (self._table,)

    def record(self, bars: "DeltaTable | None") -> None:
        """Write the revisions of the last revising commit of `bars`, unless they are there already."""
        version = bars.transaction_version(REVISING) if bars else None
        if version is None:
            return
        existing = self._table.open()
        if existing is not None and (existing.transaction_version(REVISING) or 0) >= version:
            return

        def plan(revisions: "DeltaTable") -> Change | None:
            if (revisions.transaction_version(REVISING) or 0) >= version:
                return None
            after, before = open_bars(self._bars, version), open_bars(self._bars, version - 1)
            note = read_note(self._bars.commit_at(version))
            series = Series(note["symbol"], note["interval"])
            ends = np.array([note["revised_first"], note["revised_last"]], "datetime64[us]")
            changes = [_pairs(before, after, series, *span) for span in spans(series, *ends)]
            return Change(_revision_rows(self._table.schema, changes, note, version), mark=(REVISING, version))

        self._table.change(plan)

    def read(self, series: Series) -> "pd.DataFrame":
        """Read the old and new values of revised bars, in the order in which they were revised, then by time."""
        return read_rows(self._table, series).sort_values(["bars_version", "timestamp"], ignore_index=True)

    def count(self, series: Series, bars_version: int) -> int:
        """Count the bars that were revised up to a version of the table of bars, each time counted."""
        return len(scan_times(self._table.open(), series, f"bars_version <= {bars_version}"))


def written_note(note: Mapping[str, str]) -> dict[str, str]:
    """Return the record of a commit as metadata of the commit."""
    return {NOTE: json.dumps(note, ensure_ascii=False)}


def read_note(entry: Mapping[str, Any]) -> dict[str, str]:
    """Read the record of a commit; empty where there is none."""
    note: dict[str, str] = json.loads(entry.get(NOTE, "{}"))
    return note


def _pairs(
    before: "DeltaTable", after: "DeltaTable", series: Series, first: np.datetime64, last: np.datetime64
) -> tuple[Bars, Bars]:
    """Return the bars of a span that two versions hold with different values: as they were, as they are."""
    old, new = read(before, series, first, last), read(after, series, first, last)
    spot, known = positions(old, new)
    old, new = picked(old, spot[known]), picked(new, known)
    revised = differ(new.ohlcv, old.ohlcv)
    return picked(old, revised), picked(new, revised)


def _revision_rows(
    schema: "pa.Schema", changes: Sequence[tuple[Bars, Bars]], note: Mapping[str, str], version: int
) -> "pa.RecordBatchReader":
    """Put old and new values of the revised bars side by side."""
    import pyarrow as pa  # imported here: a command that reads no bars starts without it

    revised_at = pa.scalar(datetime.fromisoformat(note["merged_at"]), schema.field("revised_at").type)

    def batch(old: Bars, new: Bars) -> "pa.RecordBatch":
        texts = [pa.repeat(note[name], len(new)) for name in ("symbol", "interval")]
        ends = [
            pa.repeat(end, len(new)) for end in (revised_at, note.get("source", ""), pa.scalar(version, pa.int64()))
        ]
        return pa.record_batch([*texts, *value_columns(old, new), *ends], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, (batch(*pair) for pair in changes if len(pair[0])))

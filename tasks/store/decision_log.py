"""The decision log: every promotion decision, and who was champion when; nothing is ever overwritten.

It decides nothing and has no clock: times are passed in. A decision is identified by its `decision_id`: writing the
same one again changes nothing, also from two processes at once. `append_if_current` is how a decision changes the
champion: it is refused if the champion has changed since the decision was made (optimistic concurrency).

Caution: two decisions may have the same `decided_at` (a retrain repeated "as of" the same day), so rows are numbered in
`sequence`, and of two with equal times the later row is valid. The Delta table is called `ledger`, as in version 0.1.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, date, datetime, time
from functools import cached_property
from itertools import chain, starmap
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from model.bars import Series
from model.errors import RiseOrFallError
from model.times import as_utc
from tasks.store.delta_table import Change, Table, append_rows, field_names, place, quoted, read_as_stored, read_rows
from tasks.store.table_cache import find_once

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

BLOCK = 256  # own choice: decisions that are parsed at once, 2 ms
Action = Literal["promote", "hold", "reject", "unchanged", "rollback", "lift"]


class ChampionChanged(RiseOrFallError):
    """The champion has changed since the decision was made."""


@dataclass(frozen=True, slots=True)
class LoggedDecision:
    """One promotion decision.

    Attributes:
        decision_id: identifies the decision; a repeated run has the same.
        decided_at: time of the decision, UTC.
        series_name: registered model, such as `BTC-USD-1d`; a replay has a name of its own.
        symbol: of the bars.
        interval: of the bars.
        action: what was decided; `unchanged` repeats an earlier decision on the same evidence.
        version: the challenger, of the earlier decision if unchanged; for a rollback the restored version, for `lift`
            the version that was rolled back, whose recipe is free again.
        champion_before: champion before the decision, None without one.
        champion_after: champion after the decision, None without one.
        reasons: why, in sentences.
        marks: `passed` or `failed` for each clause of the rule, `held` for a hold besides it; they belong to the last
            reasons; empty before 0.2.
        numbers: numbers behind the reasons; not finite ones become None.
        run_id: MLflow run of the challenger.
        bars_version: version of the table of bars.
        bars_sha256: hash of the bars.
        rule: name of the promotion rule.
        forced: decided by a person against the rule.
        forced_reason: that person's reason.
        sequence: row number, counted from 1 by the log.
        files: SHA-256 of the files of versions that no earlier decision recorded: version -> path -> digest. Since 0.2.
        trained_until: close of the last training bar, ISO 8601, UTC, of versions of which no earlier decision recorded
            it: version -> time. Since 0.2.
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
    marks: tuple[str, ...] = ()
    files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    trained_until: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_about_challenger(self) -> bool:
        """Whether it is a retrain's own decision about the version that it registered."""
        return self.action in {"promote", "hold", "reject"} and not self.forced and bool(self.run_id)

    def marked_reasons(self) -> tuple[tuple[str, str], ...]:
        """Return each reason with its mark, empty for a reason that is no clause of the rule."""
        return mark_reasons(self.reasons, self.marks)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields ready for JSON, times in ISO 8601."""
        return {**asdict(self), "decided_at": self.decided_at.isoformat(), "reasons": list(self.reasons),
                "marks": list(self.marks), "numbers": dict(self.numbers), "files": dict(self.files),
                "trained_until": dict(self.trained_until)}  # fmt: skip


def mark_reasons(reasons: Sequence[str], marks: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return (mark, reason) of each reason; marks belong to the last reasons, the others have an empty one.

    >>> mark_reasons(("a person held it", "log loss", "sane"), ("failed", "passed"))
    (('', 'a person held it'), ('failed', 'log loss'), ('passed', 'sane'))
    """
    return tuple(zip([""] * (len(reasons) - len(marks)) + list(marks), reasons, strict=True))


class JsonObject(Mapping[str, Any]):
    """A JSON object that is parsed when it is first read: nobody reads the numbers and files of most decisions."""

    __slots__ = ("_found", "_text")

    def __init__(self, text: str) -> None:
        """Keep the text."""
        self._text = text
        self._found: dict[str, Any] | None = None

    def _parsed(self) -> dict[str, Any]:
        if self._found is None:
            self._found = json.loads(self._text)
        return self._found

    def __getitem__(self, name: str) -> Any:
        """Return a value by its name."""
        return self._parsed()[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._parsed())

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self._parsed())

    def __repr__(self) -> str:
        """Return the object as a dict is shown."""
        return repr(self._parsed())


SAME_AS = "past_champions.same_network_as_version"  # number of a decision: the past champion that it was about again
REFERENCE = "excess_over_version_"  # number of each past champion that the gate keeps as a reference
LEFT_OUT = (
    "left_out_version_"  # number of each one whose files cannot be used: a reference again once they are restored
)


def reference_versions(rows: Sequence[LoggedDecision]) -> set[str]:
    """Return the past champions that the newest promotion was compared with, or had to leave out; empty without one.

    Those of a hold are not used: it adds no champion, and its test bars may be few.
    """
    prefixes = tuple(f"past_champions.{each}" for each in (REFERENCE, LEFT_OUT))
    for row in reversed(rows):
        named = {name.rpartition("_")[2] for name in row.numbers if name.startswith(prefixes)}
        if named and row.action == "promote":
            return named
    return set()


def decided_versions(rows: Iterable[LoggedDecision]) -> set[tuple[str, str | None]]:
    """Return name and number of every version that decisions are about, or that was champion."""
    return {
        (row.series_name, number) for row in rows for number in (row.version, row.champion_before, row.champion_after)
    }


def former_champions(rows: Sequence[LoggedDecision]) -> tuple[str, ...]:
    """Return every version that is or was champion, in the order of their promotion.

    The champion of a home without decisions is the one that the first decision was made against.
    """
    named = (version for row in rows for version in (row.champion_before, row.champion_after))
    return tuple(dict.fromkeys(version for version in named if version is not None))


def champion_since(rows: Sequence[LoggedDecision]) -> LoggedDecision | None:
    """Return the decision since which the present champion is champion; None without one."""
    since = None
    for row in rows:
        if since is None or row.champion_after != since.champion_after:
            since = row
    return since if since is not None and since.champion_after is not None else None


def standing_champions(rows: Sequence[LoggedDecision]) -> tuple[str, ...]:
    """Return all champions that no rollback has withdrawn, in the order of their promotion.

    A rollback withdraws every champion since the one that it restores; a later promotion reinstates a version.
    """
    found: list[str] = []
    for row in rows:
        number = row.champion_after
        if number is None:
            continue
        if row.action == "rollback" and number in found:
            del found[found.index(number) + 1 :]
        elif row.action == "rollback" and row.champion_before in found:
            found.remove(row.champion_before)
        if number in found:  # promoted again: it is the newest
            found.remove(number)
        found.append(number)
    return tuple(found)


def challenger_of(rows: Sequence[LoggedDecision]) -> str | None:
    """Return the newest version that was held and may still be promoted; None without one.

    A version that is older than the champion, was rejected, or was rolled back competes with the champion no longer.

    Args:
        rows: all decisions about the series, oldest first.
    """
    last: dict[str, str] = {}
    columns = (column(rows, name) for name in ("action", "version", "champion_before"))
    for action, version, before in zip(*columns, strict=True):
        if action == "rollback":
            last[before or ""] = "rollback"
        elif action in {"promote", "hold", "reject"}:
            last[version] = action
    champion = int(rows[-1].champion_after or 0) if rows else 0
    held = [int(version) for version, action in last.items() if action == "hold" and int(version) > champion]
    return str(max(held)) if held else None


class Decisions(Sequence[LoggedDecision]):
    """Decisions in the order of writing; they are parsed in blocks when they are read, because most commands read few.

    Equal to a tuple of the same decisions.
    """

    def __init__(self, table: "pa.Table") -> None:
        """Keep the rows of the log's table."""
        numbers = table["sequence"].to_numpy()
        self._order = numbers.argsort(kind="stable")
        self._sorted = bool((numbers[1:] >= numbers[:-1]).all())
        self._table = table
        self._blocks: dict[int, tuple[LoggedDecision, ...]] = {}
        self._columns: dict[str, list[Any]] = {}

    def __len__(self) -> int:
        """Return the number of decisions."""
        return len(self._order)

    def _block(self, number: int) -> tuple[LoggedDecision, ...]:
        import pyarrow as pa  # imported here: a command that reads no table starts without it

        if number not in self._blocks:
            wanted = self._order[number * BLOCK :][:BLOCK]  # a merge of files leaves the newest row first
            stored = np.sort(wanted)
            runs = np.split(stored, np.flatnonzero(np.diff(stored) != 1) + 1)
            found = _decisions(pa.concat_tables([self._table.slice(int(run[0]), len(run)) for run in runs]))
            self._blocks[number] = tuple(found[place] for place in np.searchsorted(stored, wanted).tolist())
        return self._blocks[number]

    @overload
    def __getitem__(self, place: int) -> LoggedDecision: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[LoggedDecision, ...]: ...
    def __getitem__(self, place: int | slice) -> LoggedDecision | tuple[LoggedDecision, ...]:
        """Return a decision, or a tuple of some."""
        places = range(len(self))[place]
        if isinstance(places, range):
            return tuple(self._block(each // BLOCK)[each % BLOCK] for each in places)
        return self._block(places // BLOCK)[places % BLOCK]

    def __iter__(self) -> Iterator[LoggedDecision]:
        """Iterate over all, oldest first."""
        return chain.from_iterable(map(self._block, range(-(-len(self) // BLOCK))))

    def __eq__(self, other: object) -> bool:
        """Compare with a sequence of decisions."""
        return tuple(self) == tuple(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Return the decisions as a tuple is shown."""
        return repr(tuple(self))

    def column(self, name: str) -> list[Any]:
        """Return one field of all decisions, without parsing the others."""
        if name not in self._columns:
            values = self._table[name].to_pylist()
            self._columns[name] = values if self._sorted else [values[each] for each in self._order]
        return self._columns[name]


def column(rows: Sequence[LoggedDecision], name: str) -> list[Any]:
    """Return one field of some decisions: a text or a number."""
    return rows.column(name) if isinstance(rows, Decisions) else [getattr(row, name) for row in rows]


def with_values(rows: Sequence[LoggedDecision], **values: object) -> list[LoggedDecision]:
    """Return the decisions whose fields, texts or numbers, have these values."""
    columns = [column(rows, name) for name in values]
    wanted = tuple(values.values())
    return [rows[place] for place, found in enumerate(zip(*columns, strict=True)) if found == wanted]


class DecisionLog:
    """Decisions below one root."""

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

        text, instant = pa.string(), pa.timestamp("us", "UTC")
        types = dict.fromkeys((part.name for part in fields(LoggedDecision)), text) | {
            "decided_at": instant,
            "reasons": pa.list_(text),
            "marks": pa.list_(text),
            "bars_version": pa.int64(),
            "forced": pa.bool_(),
            "sequence": pa.int64(),
        }
        schema = pa.schema(list(types.items()))
        return Table(place(self.root, "ledger"), schema, (), self.storage_options, key=("decision_id",))

    @property
    def tables(self) -> tuple[Table, ...]:
        """The table that the log is kept in, for `tasks/repair/`."""
        return (self._table,)

    def append(self, row: LoggedDecision) -> bool:
        """Append a decision; return False if its `decision_id` is stored already, which then stays unchanged."""
        return self._write(row, require=lambda _: None)

    def append_if_current(self, row: LoggedDecision) -> bool:
        """Append a decision if its `champion_before` still is the champion.

        Of two processes that decide at once one is refused, on any store: check and row are one commit.

        Returns:
            False if its `decision_id` is stored already, which then stays unchanged.

        Raises:
            ChampionChanged: another decision was committed first.
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

    def _write(self, row: LoggedDecision, require: "Callable[[pa.Table], None]") -> bool:
        written = False

        def plan(table: "DeltaTable") -> Change | None:
            nonlocal written
            rows = read_rows(table, self._schema("decision_id", "series_name", "sequence", "champion_after"))
            written = row.decision_id not in set(rows["decision_id"].to_pylist())
            if not written:
                return None
            require(rows)
            counted = replace(row, sequence=max(rows["sequence"].to_pylist(), default=0) + 1)  # a repair may lose rows
            return append_rows(table, self._table.schema, [_decision_fields(counted)])

        self._table.change(plan)
        return written

    def rows(self, series_name: str = "", last: int | None = None) -> Sequence[LoggedDecision]:
        """Return decisions of one series (of all when empty) in the order of writing; only the `last` ones if given.

        A command asks many times; the rows of a version of the table are read once, and parsed when they are needed.
        """
        table = self._table.open()
        if table is None:
            return ()
        conditions = [f"series_name = {quoted(series_name)}"] if series_name else []
        if last is not None:
            numbers = read_rows(table, self._schema("sequence"), " AND ".join(conditions) or None)["sequence"]
            newest = sorted(numbers.to_pylist(), reverse=True)[:last]
            if not newest:
                return ()
            conditions.append(f"sequence >= {newest[-1]}")
        where = " AND ".join(conditions) or None

        def found() -> Decisions:
            return Decisions(read_as_stored(table, self._table.schema, where))

        return find_once(table, ("decisions", where), found, slot=("decisions",) if last is None else ())

    def _schema(self, *names: str) -> "pa.Schema":
        import pyarrow as pa  # imported here: see _table

        return pa.schema([self._table.schema.field(name) for name in names])

    def series_names(self) -> tuple[str, ...]:
        """Return every name about which there are decisions, those of replays too, sorted."""
        table = self._table.open()
        names = read_rows(table, self._schema("series_name"))["series_name"].to_pylist() if table else ()
        return tuple(sorted(set(names)))

    def series(self) -> tuple[Series, ...]:
        """Return every series and panel about which there are decisions, without replays, by symbol and interval."""
        table = self._table.open()
        if table is None:
            return ()

        def found() -> tuple[Series, ...]:
            names = ("symbol", "interval", "series_name")
            rows = read_rows(table, self._schema(*names)).select(names)
            pairs = set(zip(*(column.to_pylist() for column in rows.columns), strict=True))
            return tuple(Series(*each) for *each, name in sorted(pairs) if Series(*each).name == name)

        return find_once(table, ("series",), found)

    def last(self, series_name: str) -> LoggedDecision | None:
        """Return the decision written last about a series: its `champion_after` is the champion. None without any."""
        rows = self.rows(series_name, last=1)
        return rows[-1] if rows else None

    def find_decision(self, decision_id: str) -> LoggedDecision | None:
        """Return the decision of this id; None when it was never written."""
        table = self._table.open()
        if table is None:
            return None
        found = _decisions(read_rows(table, self._table.schema, f"decision_id = {quoted(decision_id)}"))
        return found[0] if found else None

    def champion_on(self, series_name: str, on: date | datetime) -> str | None:
        """Return the version that was champion at a time (a date: at the end of that day, UTC); None if none was."""
        until = as_utc(on) if isinstance(on, datetime) else datetime.combine(on, time.max, UTC)
        past = [row for row in self.rows(series_name) if row.decided_at <= until]
        return max(past, key=lambda row: (row.decided_at, row.sequence)).champion_after if past else None


def _decision_fields(row: LoggedDecision) -> dict[str, Any]:
    numbers = {name: _finite(number) for name, number in row.numbers.items()}
    converted = {
        "decided_at": as_utc(row.decided_at),
        "reasons": list(row.reasons),
        "marks": list(row.marks),
        "numbers": json.dumps(numbers),
        "files": json.dumps(dict(row.files)) if row.files else None,
        "trained_until": json.dumps(dict(row.trained_until)) if row.trained_until else None,
    }
    return {name: getattr(row, name) for name in field_names(LoggedDecision)} | converted


def _decisions(found: "pa.Table") -> tuple[LoggedDecision, ...]:
    """Return the rows of a table, column by column: ten years of them take half as long as one by one."""
    columns = {name: found[name].to_pylist() for name in found.column_names if name != "decided_at"}
    instants = found["decided_at"].to_numpy().astype("datetime64[us]").tolist()
    columns |= {
        "decided_at": [instant.replace(tzinfo=UTC) for instant in instants],
        "reasons": [tuple(each) for each in columns["reasons"]],
        "marks": [tuple(each or ()) for each in columns["marks"]],
        "numbers": [JsonObject(text) for text in columns["numbers"]],
        **{name: [JsonObject(text) if text else {} for text in columns[name]] for name in ("files", "trained_until")},
    }
    return tuple(starmap(LoggedDecision, zip(*(columns[name] for name in field_names(LoggedDecision)), strict=True)))


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None

"""Find bars that are not those that a decision was made on: a value may change on disk without damage to its file.

Each decision has the hash of its bars and the version of their table, which never changes. The newest decision whose
version can still be read is compared. Bars that are newer than it, and those of panels, are not: no log has their hash.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from model.bars import Bars, Series
from model.times import to_datetime
from tasks.repair.home_finding import HomeFinding
from tasks.repair.table_damage import REPAIR
from tasks.settings import Settings
from tasks.store.bar_store import BarStore
from tasks.store.bars_hash import count_prefixes, hash_bars
from tasks.store.decision_log import LoggedDecision
from tasks.workspace import Workspace

HASH_LENGTH = 64  # of a decision by hand about a version of an earlier release the first digits are known only


def find_changed_bars(settings: Settings, rows: Sequence[LoggedDecision]) -> Iterator[HomeFinding]:
    """Yield a finding for each series whose bars are not those of its newest decision.

    Args:
        settings: with tables in a folder, all whole.
        rows: of the decision log.
    """
    store = Workspace(settings).bar_store
    path = Path(store.tables[0].uri)
    for series in store.stored_series():
        own = [row for row in rows if row.series_name == series.name and len(row.bars_sha256) == HASH_LENGTH]
        found = _newest_readable(store, series, own)
        if found is None:
            continue
        row, bars = found
        if hash_bars(bars) == row.bars_sha256:
            continue
        known = count_prefixes(bars, {each.bars_sha256 for each in own})
        # The newest version counts too: what has changed may have been read again.
        if row.bars_sha256 in known | count_prefixes(store.bars(series), {row.bars_sha256}):
            continue
        whole = max(known.values(), default=0)
        is_told = 0 < whole < len(bars)  # by an earlier decision
        period = f" from {to_datetime(bars.opened_at[whole]):%Y-%m-%d %H:%M} UTC on" if is_told else ""
        ingest = f"riseorfall ingest{Workspace(settings, series).source_flags}"
        yield HomeFinding(
            f"bars {series.symbol} {series.interval}",
            "damaged",
            path,
            f"expected in version {row.bars_version} of the table the bars of the decision of "
            f"{row.decided_at:%Y-%m-%d %H:%M} UTC, found others: bars{period} have changed on disk or are missing",
            f"restore a backup, or remove bars that are wrong with `riseorfall remove` and read them again with "
            f"`{ingest}`",
        )


def _newest_readable(
    store: BarStore, series: Series, rows: Sequence[LoggedDecision]
) -> tuple[LoggedDecision, Bars] | None:
    """Return the newest decision whose version of the bars can be read, and all bars of that version."""
    table = store.tables[0].open()
    repaired = [entry["version"] for entry in table.history() if entry.get("operation") == REPAIR] if table else []
    for row in reversed(rows):
        if row.bars_version < 0 or any(number <= row.bars_version for number in repaired):
            continue  # a repair has lost rows of this version
        try:
            return row, store.bars(series, row.bars_version)
        except Exception:  # noqa: BLE001, S112 - a file of an earlier version is gone, which `housekeeping` may delete
            continue
    return None

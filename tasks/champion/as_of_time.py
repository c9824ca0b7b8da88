"""Which time counts as now for a series or a panel: the one requested, the clock, or the newest close of a file."""

from collections.abc import Sequence
from datetime import UTC, datetime

from model.bars import Bars, Series
from model.times import as_utc, to_datetime, to_timedelta
from tasks.registry.model_registry import Version
from tasks.store.bar_store import BarStore
from tasks.workspace import Workspace


def resolve_as_of(workspace: Workspace, champion: Version, bars: Bars, as_of: datetime | None) -> datetime:
    """Return the as-of time, UTC-aware.

    Args:
        workspace: of the series.
        champion: its run names the source of the bars.
        bars: shape (bar,), oldest first.
        as_of: the time requested; None takes the clock for bars of an exchange, else the newest close, because a file
            ends in the past.
    """
    if as_of is not None:
        return as_utc(as_of)
    if source_kind(workspace, champion) == "exchange":
        return datetime.now(UTC)
    return to_datetime(bars.closed_at[-1]) if len(bars) else datetime.now(UTC)


def source_kind(workspace: Workspace, champion: Version) -> str:
    """Return the kind of source of the champion's bars: sample, csv or exchange; empty if its run does not say."""
    return workspace.runs.run_params(champion.run_id).get("source.kind", "")


def panel_as_of(store: BarStore, series: Sequence[Series], as_of: datetime | None) -> datetime:
    """Return the as-of time of a panel, UTC-aware: the same for each of its series.

    Args:
        store: the stored bars.
        series: every series that the panel predicts or shows; each has bars.
        as_of: the time requested; None takes the clock where bars of any of them came from an exchange, else the
            newest close of all.
    """
    if as_of is not None:
        return as_utc(as_of)
    if store.has_exchange_bars(series):
        return datetime.now(UTC)
    closes = [newest + to_timedelta(each.delta) for each in series if (newest := store.newest(each))]
    return max(closes, default=datetime.now(UTC))


def time_of_writing(bars: Bars) -> datetime:
    """Return the clock's time; the newest close if the clock is behind it, because a stored bar had closed.

    A prediction that is stored by a clock that runs behind would count as stored before its outcome.
    """
    now = datetime.now(UTC)
    return max(now, to_datetime(bars.closed_at[-1])) if len(bars) else now

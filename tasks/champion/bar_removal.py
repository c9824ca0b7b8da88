"""Remove stored bars that turned out to be wrong, and name the versions that were trained on them. No Prefect.

A removed bar stays in quarantine with the reason, and a later ingest of the same values refuses it again; corrected
values are accepted. Nothing is retrained: a version trained on wrong bars keeps its weights until the next retrain.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from model.bars import Series
from model.errors import SpecError
from model.times import as_utc, column_times, to_datetimes, to_timedelta
from tasks.settings import Settings
from tasks.store.bar_store import BarStore
from tasks.workspace import Workspace

MOST_VERSIONS = 1_000  # newest versions that are looked at: a thousand take about a minute


@dataclass(frozen=True, slots=True)
class BarRemoval:
    """What was removed, and which versions learned from it.

    Attributes:
        series: name of the series.
        opened_at: open times of the removed bars, ascending, ISO 8601.
        version: version of the bar table without them.
        trained: numbers of the registered versions that were trained on at least one of them, newest first.
        champion: number of the champion; empty where there is none.
    """

    series: str
    opened_at: tuple[str, ...]
    version: int
    trained: tuple[str, ...]
    champion: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields ready for JSON."""
        return asdict(self)


def remove_bars(
    series: Series,
    settings: Settings,
    reason: str,
    *,
    removed_at: datetime,
    at: Sequence[datetime] = (),
    first: datetime | None = None,
    last: datetime | None = None,
) -> BarRemoval:
    """Remove the bars of some open times, or of a range of open times, both ends included.

    Raises:
        SpecError: the reason is empty; neither times nor a range are given, or both, or one end of a range only; there
            are no such bars.
    """
    if bool(at) == (first is not None or last is not None) or (first is None) != (last is None):
        raise SpecError(
            "remove: expected --at TIME, or --from TIME and --to TIME; found neither, both, or one end only"
        )
    workspace = Workspace(settings, series)
    times = [as_utc(time) for time in at]
    if first is not None and last is not None:
        times = _stored_between(workspace.bar_store, series, as_utc(first), as_utc(last))
    # Versions first: if MLflow does not answer, nothing is removed.
    trained = versions_trained_on(workspace, times)
    version = workspace.bar_store.remove(series, times, reason, removed_at=removed_at)
    texts = tuple(time.isoformat() for time in sorted(set(times)))
    return BarRemoval(series.name, texts, version, trained, workspace.registry.alias_number("champion") or "")


def versions_trained_on(workspace: Workspace, times: Sequence[datetime]) -> tuple[str, ...]:
    """Return the registered versions that were trained on a bar of one of these open times, newest first.

    A version was trained on the bars of its table version that had closed by its training end.
    """
    registry, store = workspace.registry, workspace.bar_store
    delta: timedelta = to_timedelta(registry.series.delta)
    found = []
    for number in registry.newest_versions(MOST_VERSIONS):
        version = registry.version(number)
        known = [time for time in times if time + delta <= version.trained_until]
        if known and version.bars_version is not None:
            with suppress(SpecError):  # that version of the table is gone: the training end alone decides
                frame = store.read_frame(registry.series, version.bars_version, as_of=version.trained_until)
                known = [time for time in known if (frame["timestamp"] == time).any()]
        if known:
            found.append(number)
    return tuple(found)


def _stored_between(store: BarStore, series: Series, first: datetime, last: datetime) -> list[datetime]:
    frame = store.read_frame(series)
    times = frame["timestamp"][(frame["timestamp"] >= first) & (frame["timestamp"] <= last)]
    if times.empty:
        raise SpecError(
            f"{series.symbol} {series.interval}: expected stored bars from {first.isoformat()} to {last.isoformat()}, "
            f"found none among {len(frame)}. `riseorfall bars` shows the stored period."
        )
    return to_datetimes(column_times(times))

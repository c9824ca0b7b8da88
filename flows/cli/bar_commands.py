"""Commands about bars: ingest, bars, quarantine, release, remove."""

from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from data_checks.check_spec import CheckSpec
from flows.cli.free_space import require_space
from flows.cli.series_options import DEFAULT_SERIES, JsonFlag, SeriesOptions
from flows.cli.terminal_session import flow_progress, load_settings, print_json
from model.plurals import counted
from model.times import format_time
from tasks.sources.source_spec import SourceSpec, require_readable
from tasks.workspace import Workspace


def ingest(*, source: SourceSpec = SourceSpec(), check: CheckSpec = CheckSpec(), as_of: datetime | None = None) -> None:
    """Fetch, check and store the bars that closed since the last run; nothing is trained.

    Parameters
    ----------
    as_of
        Time of the run, UTC; default: now for an exchange, the last close for a file.
    """
    from tasks.console.command_output import show_lines

    settings = load_settings()
    require_readable(source)  # before the imports, which take seconds
    with flow_progress(settings) as (run, log_file):
        with run.step("import"):
            from tasks.services.prefect_server import local_server

            with local_server():
                from flows.ingest import ingest as flow
        stored = flow(source=source, check=check, as_of=as_of)
    ref, merge = stored.ref, stored.merge
    first, last = (format_time(at.isoformat()) for at in (ref.first, ref.last))
    show_lines(
        [
            f"{ref.symbol} {ref.interval}: {merge.added} added, {merge.revised} revised, {merge.unchanged} unchanged",
            f"{counted(ref.rows, 'bar')} from {first} to {last} UTC, version {ref.version}",
            *([f"warning: {stored.warning}"] if stored.warning else []),
            f"log: {log_file}",
        ]
    )


def bars(*, options: SeriesOptions = DEFAULT_SERIES, table_version: int | None = None, json: JsonFlag = False) -> None:
    """List the stored series, or the one chosen: number of bars, period, gaps, quarantined and revised bars.

    Parameters
    ----------
    table_version
        Version of the bar table to read; default: the newest.
    """
    from tasks.console.command_output import show_bars

    settings = load_settings()
    store = Workspace(settings).bar_store
    fitting = options.choose(store.stored_series(table_version))
    if not fitting and options != DEFAULT_SERIES:
        fitting = (options.chosen,)  # raises, and names what is stored
    found = [each.to_dict() for each in (store.summary(series, table_version) for series in fitting) if each]
    if json:
        print_json(found)
    else:
        show_bars(found)


def quarantine(*, options: SeriesOptions = DEFAULT_SERIES, json: JsonFlag = False) -> None:
    """List the bars that the data checks refused, released ones included: time, rule, value, source."""
    from tasks.console.command_output import show_lines, show_quarantine

    settings, series = load_settings(), options.series_or_new
    found = Workspace(settings).bar_store.refusals(series)
    if json:
        print_json(found)
    else:
        show_lines([f"{series.symbol} {series.interval}", *options.others])
        show_quarantine(found)


def release(
    *,
    options: SeriesOptions = DEFAULT_SERIES,
    at: Annotated[list[datetime], Parameter(consume_multiple=True)],
    reason: str,
) -> None:
    """Accept refused bars; later checks accept them too, as long as the source reports the same values.

    Parameters
    ----------
    at
        Open times of the bars, UTC, one or more.
    reason
        Why these bars are correct; stored with the release.
    """
    from tasks.console.command_output import show_lines

    settings = load_settings()
    require_space(settings.root)
    series, store = options.chosen_or_new, Workspace(settings).bar_store
    merged = store.release(series, at, reason, released_at=datetime.now(UTC))
    counts = f"{counted(merged.added, 'bar')} released, {merged.revised} revised; version {merged.version}"
    show_lines([f"{series.symbol} {series.interval}: {counts}"])


def remove(
    *,
    options: SeriesOptions = DEFAULT_SERIES,
    at: Annotated[list[datetime] | None, Parameter(consume_multiple=True)] = None,
    first: Annotated[datetime | None, Parameter(name="--from")] = None,
    last: Annotated[datetime | None, Parameter(name="--to")] = None,
    reason: str,
    json: JsonFlag = False,
) -> None:
    """Move accepted bars into quarantine; later checks refuse them as long as the source reports the same values.

    Parameters
    ----------
    at
        Open times of the bars, UTC, one or more.
    first
        Open time of the first bar of a range, UTC; needs --to.
    last
        Open time of the last bar of the range, UTC.
    reason
        Why these bars are wrong; stored with them.
    """
    from tasks.champion.bar_removal import remove_bars
    from tasks.console.command_output import show_lines

    settings = load_settings()
    require_space(settings.root)
    series = options.chosen
    found = remove_bars(series, settings, reason, removed_at=datetime.now(UTC), at=at or (), first=first, last=last)
    if json:
        print_json(found.to_dict())
        return
    times = found.opened_at
    span = times[0] if len(times) == 1 else f"{times[0]} to {times[-1]}"
    lines = [f"{found.series}: {counted(len(times), 'bar')} removed ({span}); version {found.version} of the bars"]
    if found.trained:
        champion = f", the champion ({found.champion}) included" if found.champion in found.trained else ""
        lines.append(f"trained on them: versions {', '.join(found.trained)}{champion}; a retrain learns without them")
    else:
        lines.append("no registered version was trained on them")
    command = f'riseorfall release{Workspace(settings, series).series_flags} --at TIME --reason "..."'
    lines.append(f"an ingest of the same values refuses them; `{command}` accepts them again")
    show_lines(lines)

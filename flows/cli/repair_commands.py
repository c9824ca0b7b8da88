"""Commands that repair and keep a home: doctor, backup, restore, housekeeping."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli.series_options import JsonFlag
from flows.cli.terminal_session import load_settings, print_json, quiet_libraries
from model.errors import HomeDamageFound, SpecError
from tasks.repair.retention_spec import RetentionSpec

if TYPE_CHECKING:
    from tasks.settings import Settings


def doctor(*, repair: bool = False, json: JsonFlag = False) -> None:
    """Examine the home: tables, MLflow's database, versions and their files; exit with 4 if something is damaged.

    Parameters
    ----------
    repair
        Repair what can be repaired; damaged files are moved to HOME/data/damaged. Exit with 4 if damage remains.
    """
    from tasks.console.home_tables import show_findings
    from tasks.repair.home_examination import examine_home, repair_home

    settings = load_settings()
    with (
        quiet_libraries(writes=repair) as own_log,
        _nothing_else_running(settings, "doctor --repair", own_log) if repair else nullcontext(),
    ):
        before, after = repair_home(settings) if repair else (examine_home(settings),) * 2
    left = [each for each in after if each.is_damage]
    repaired = [each for each in before if each.is_damage and each not in left]
    if json:
        print_json({"findings": [each.to_dict() for each in after], "repaired": [each.to_dict() for each in repaired]})
    else:
        show_findings(after, repaired)
    if left:
        advice = "" if repair else " `riseorfall doctor --repair` repairs what can be repaired."
        raise HomeDamageFound(f"{len(left)} of {len(after)} parts are damaged.{advice}")


def backup(folder: Path, /) -> None:
    """Copy the home to a folder; runs may go on.

    Copied: tables, MLflow's database, files of runs and versions, reports, pictures of the monitor, trials of searches.
    Not copied: Data Docs (HTML pages of the data checks, which no command reads; the next check writes new ones),
    Prefect's database, logs, and the password of `up`.

    Parameters
    ----------
    folder
        Folder that does not exist yet or is empty, outside the home.
    """
    from tasks.console.command_output import show_lines
    from tasks.repair.home_backup import back_up

    settings = load_settings()
    lines: list[str] = []
    with quiet_libraries(occupies=True):
        back_up(settings, folder, lines.append)
    show_lines([*lines, f"backup of {settings.root} in {folder}; `riseorfall restore` reads it"])


def restore(folder: Path, /) -> None:
    """Copy a backup into an empty home, the one that RISEORFALL_HOME names.

    Parameters
    ----------
    folder
        Folder that `riseorfall backup` wrote.
    """
    from tasks.console.command_output import show_lines
    from tasks.repair.home_restore import restore as restore_home

    settings = load_settings()
    lines: list[str] = []
    with quiet_libraries(writes=True) as own_log, _nothing_else_running(settings, "restore", own_log):
        restore_home(settings, folder, lines.append)
    show_lines([*lines, f"restored into {settings.root}; `riseorfall doctor` examines it"])


def housekeeping(*, retention: RetentionSpec = RetentionSpec(), dry_run: bool = False, json: JsonFlag = False) -> None:
    """End the runs of killed processes, and delete what exceeds the retention; champions and decisions stay.

    Parameters
    ----------
    retention
        What is kept, and how long.
    dry_run
        List what would be deleted, and change nothing.
    """
    from tasks.console.home_tables import show_removals
    from tasks.repair.retention import apply_removals, find_removals
    from tasks.services.scheduled_runs import with_local_registry

    settings = load_settings()
    with quiet_libraries(writes=not dry_run):
        ended = [] if dry_run else _end_dead_runs(settings)
        found = find_removals(with_local_registry(settings), retention)
        done = found if dry_run else apply_removals(found)
    if json:
        removed = [{"kind": each.kind, "name": each.name, "bytes": each.size} for each in done]
        print_json({"dry_run": dry_run, "ended_runs": ended, "removed": removed})
    else:
        show_removals(done, ended, dry_run=dry_run)


def _end_dead_runs(settings: "Settings") -> list[str]:
    from tasks.services.dead_runs import clean_up_after_dead_runs
    from tasks.services.prefect_server import use_server

    if settings.local_database is not None and not settings.local_database.exists():
        return []  # MLflow's client would create it
    use_server(settings)
    return clean_up_after_dead_runs(settings)


@contextmanager
def _nothing_else_running(settings: "Settings", command: str, own_log: Path) -> Iterator[None]:
    """Keep `up` from starting inside the context.

    Raises:
        SpecError: an `up` of the home runs, whose servers have the files open, or starts; or another process writes.
    """
    from tasks.repair.live_writers import live_writers
    from tasks.services.up_lock import AlreadyRunning, keep_up_out

    with ExitStack() as stack:
        try:
            stack.enter_context(keep_up_out(settings.up_lock, settings.up_state))
        except AlreadyRunning as error:
            raise SpecError(
                f"{command}: expected no running `riseorfall up` of {settings.root}, found one. Stop it first."
            ) from error
        if writers := live_writers(settings, own_log):
            raise SpecError(
                f"{command}: expected no process that writes to {settings.root}, found {', '.join(writers)}. Wait "
                "until it has ended, or stop it."
            )
        yield

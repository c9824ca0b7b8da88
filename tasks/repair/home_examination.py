"""Examine a home, part by part, and repair what can be repaired: `riseorfall doctor`.

Tables are examined first: the decision log is what the registry is compared with. Parts on other machines (S3, an
MLflow server) are named and not examined.
"""

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from model.bars import Series
from model.errors import StoreUnavailable
from tasks.registry.local_database import opened_database
from tasks.repair.changed_bars import find_changed_bars
from tasks.repair.home_finding import HomeFinding, database_files, set_aside
from tasks.repair.registry_damage import examine_database, examine_versions, moved_paths
from tasks.repair.table_damage import examine_table
from tasks.settings import Settings
from tasks.store.decision_log import LoggedDecision
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

MAX_ROUNDS = 4  # a repaired log shows duplicate rows, the decision log what is wrong with the registry, that versions


def examine_home(settings: Settings) -> list[HomeFinding]:
    """Return the state of every part of a home; nothing is changed."""
    tables = _examine_tables(settings, deep=True)
    rows = _decisions(settings, tables)
    database = examine_database(settings, rows)
    if database.is_damage and not _has_decisions(tables):  # it would be rebuilt without a version
        database = replace(database, repair=None, remedy="rebuild it once the decision log can be read")
    moved = moved_paths(settings) if database.state == "whole" else None
    lost_log = tuple(_missing_decisions(settings, tables))
    # Without bars no series is known, without the decision log every version would look like one without a decision.
    is_known = not lost_log and all(each.state == "whole" for each in tables)
    stored = Workspace(settings).bar_store.stored_series() if is_known else ()
    is_whole = database.state == "whole" and not moved
    versions = examine_versions(settings, rows, stored, is_known=is_known) if is_whole else iter(())
    missing = (*lost_log, *_missing_bars(settings, rows, tables))
    changed = find_changed_bars(settings, rows) if is_known else iter(())
    return [*tables, *missing, *changed, database, *([moved] if moved else []), *versions, *_examine_prefect(settings)]


def first_damage(settings: Settings) -> HomeFinding | None:
    """Return one damaged file of the tables or of MLflow's database, found quickly, or one that cannot be read."""
    tables = _examine_tables(settings, deep=False)
    broken = [each for each in tables if each.is_damage] or [each for each in tables if each.is_unreadable]
    if broken:
        return broken[0]
    database = examine_database(settings, _decisions(settings, tables))
    return next((each for each in (database, *_examine_prefect(settings)) if each.is_damage), None)


def repair_home(settings: Settings) -> tuple[list[HomeFinding], list[HomeFinding]]:
    """Repair what can be repaired; return the findings before and after.

    Damaged files are moved to `HOME/data/damaged/TIME`, so that nothing is destroyed.
    """
    aside = settings.data_folder / "damaged" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    before = found = examine_home(settings)
    for _ in range(MAX_ROUNDS):
        repairs = [each for each in found if each.is_damage and each.repair is not None]
        if not repairs:
            break
        for each in repairs:
            log.warning("repair %s: %s; %s", each.path, each.problem, each.remedy)
            assert each.repair is not None
            each.repair(aside)
        found = examine_home(settings)
    return before, found


def _examine_tables(settings: Settings, *, deep: bool) -> list[HomeFinding]:
    if settings.local_store is None:
        return [HomeFinding("tables", "not examined", Path(settings.store_root), "", "they are on S3")]
    tables = Workspace(settings).tables
    return [each for table in tables for each in examine_table(Path(table.uri).name, table, deep=deep)]


def _has_decisions(tables: Sequence[HomeFinding]) -> bool:
    """Return whether the decision log can be read, or was never written."""
    return all(each.state == "whole" for each in tables if each.part == "table ledger")


def _decisions(settings: Settings, tables: Sequence[HomeFinding]) -> Sequence[LoggedDecision]:
    """Return the rows of the decision log; none where it cannot be read."""
    if not _has_decisions(tables):
        return ()
    return Workspace(settings).decision_log.rows()


def _examine_prefect(settings: Settings) -> Iterator[HomeFinding]:
    """Yield the state of Prefect's own database, if the home has one."""
    path = settings.prefect_home / "prefect.db"
    if settings.has_prefect_database_elsewhere or not path.exists():
        return
    try:
        with opened_database(path) as database:
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except StoreUnavailable as error:
        problem = f"cannot be read: {error.__cause__}"
        yield HomeFinding("Prefect's database", "not examined", path, problem, problem)
        return
    except sqlite3.Error as error:
        answer = str(error)
    if answer == "ok":
        yield HomeFinding("Prefect's database", "whole", path)
        return

    def repair(aside: Path) -> None:
        for each in database_files(path):
            if each.exists():
                set_aside(each, path.parent, aside / "prefect")

    yield HomeFinding(
        "Prefect's database",
        "damaged",
        path,
        f"expected a whole SQLite database, found: {answer}",
        "move it away: Prefect creates it anew; the history of its runs and its notification blocks are lost",
        repair,
    )


def _missing_decisions(settings: Settings, tables: Sequence[HomeFinding]) -> Iterator[HomeFinding]:
    """Yield the decision log if its folder is gone."""
    if any(each.part in {"table ledger", "tables"} for each in tables):
        return
    workspace = Workspace(settings)
    if problem := workspace.decision_log_problem():
        (ledger,) = workspace.decision_log.tables
        remedy = "restore a backup: without it the next retrain is compared with no champion"
        yield HomeFinding("table ledger", "gone", Path(ledger.uri), problem, remedy)


def _missing_bars(
    settings: Settings, rows: Sequence[LoggedDecision], tables: Sequence[HomeFinding]
) -> Iterator[HomeFinding]:
    """Yield the series about which decisions were made and whose bars are gone."""
    if any(each.part == "table bars" and each.state != "whole" for each in tables):
        return
    store = Workspace(settings).bar_store
    stored = set(store.stored_series())
    for symbol, interval in dict.fromkeys((row.symbol, row.interval) for row in rows):
        if (series := Series(symbol, interval)) not in stored and not series.is_panel:
            ingest = f"riseorfall ingest{Workspace(settings, series).source_flags}"
            yield HomeFinding(
                f"bars {symbol} {interval}",
                "gone",
                Path(store.root) / "bars",
                "expected bars, because decisions were made about them; found none",
                f"restore a backup, or read them again with `{ingest}`",
            )

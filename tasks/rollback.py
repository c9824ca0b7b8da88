"""Rollback: put a former champion back, with a reason, written down like every other decision."""

import uuid
from datetime import UTC, datetime

from model.bars import Series
from model.errors import NoChampion, SpecError
from model.predictor import Predictor
from tasks.decisions import enact
from tasks.ledger import Ledger, LedgerRow
from tasks.settings import Settings
from tasks.tracking import Tracking


def roll_back(series: Series, settings: Settings, to: str = "", reason: str = "") -> LedgerRow:
    """Make a former champion the champion again.

    Args:
        series: whose champion.
        settings: where registry and ledger are.
        to: the version; empty takes the champion before this one.
        reason: why, for the ledger.

    Returns:
        The row that the ledger now holds.

    Raises:
        NoChampion: there is no champion, or no former one.
        SpecError: the version is the champion already.
        UnsoundModel: the files of the version cannot be loaded; the champion stays.
    """
    tracking = Tracking(settings.mlflow_uri, settings.artifact_root, series)
    ledger = Ledger(settings.store_root, settings.storage_options())
    champion = tracking.champion()
    version = tracking.version(to or _former(ledger, series, champion.version))
    if version.version == champion.version:
        raise SpecError(f"{series.name}: version {to} is the champion already. Name another with --to.")
    loaded = tracking.read_version(version.version)
    recipe = loaded.recipe()
    Predictor(loaded.onnx(), recipe.window)
    row = LedgerRow(
        decision_id=uuid.uuid4().hex,
        decided_at=datetime.now(UTC),
        series_name=series.name,
        symbol=series.symbol,
        interval=series.interval,
        action="rollback",
        version=version.version,
        champion_before=champion.version,
        champion_after=version.version,
        reasons=(reason or f"rolled back from version {champion.version}",),
        run_id=version.run_id,
        bars_version=int(version.tags.get("bars_version", "-1")),
        bars_sha256=version.tags.get("bars_sha256", ""),
        rule="rollback",
        forced=True,
        forced_reason=reason,
    )
    enact(tracking, ledger, row)
    return row


def _former(ledger: Ledger, series: Series, champion: str) -> str:
    """Return the champion before this one, by the ledger."""
    for row in reversed(ledger.rows(series.name)):
        if row.champion_after == champion and row.champion_before not in (None, champion):
            return str(row.champion_before)
    raise NoChampion(
        f"{series.name}: expected a champion before version {champion} in the ledger, found none. Name one with --to."
    )

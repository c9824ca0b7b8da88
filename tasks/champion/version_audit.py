"""Audit a registered version for leaks, on the bars that it was trained on. No Prefect."""

import logging
from dataclasses import dataclass
from typing import Any

from model.bars import Series
from model.leak_audit import FULL_SAMPLE, Audit, audit
from tasks.champion.commit_decision import sync_champion_alias
from tasks.registry.model_registry import Version
from tasks.settings import Settings
from tasks.store.bar_store import BarStore
from tasks.store.bars_ref import BarsRef
from tasks.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VersionAudit:
    """Result of the leak audit of a version.

    Attributes:
        series_name: of the version.
        version: number of the version.
        bars: the bars of the audit.
        same_bars: they are the bars that it was trained on, by their hash.
        audit: the findings.
    """

    series_name: str
    version: str
    bars: BarsRef
    same_bars: bool
    audit: Audit

    def to_dict(self) -> dict[str, Any]:
        """Return everything ready for JSON."""
        return {
            "series": self.series_name,
            "version": self.version,
            "passed": self.audit.passed,
            "bars": self.bars.to_dict(),
            "same_bars": self.same_bars,
            "findings": [
                {"name": each.name, "passed": each.passed, "looked_at": each.checked, "detail": each.detail}
                for each in self.audit.findings
            ],
        }


def audit_version(series: Series, settings: Settings, version: str = "", sample: int = FULL_SAMPLE) -> VersionAudit:
    """Audit a version for leaks: its windows, folds, out-of-sample record and predictions.

    Args:
        series: symbol and interval.
        settings: addresses of registry and bars.
        version: the version; empty takes the champion.
        sample: windows and predictions to re-derive.

    Raises:
        NoChampion: there is no such version.
        UnsoundModel: its files cannot be read.
    """
    from mlflow.exceptions import MlflowException  # imported here: MLflow takes 2 seconds

    workspace = Workspace(settings, series)
    registry = workspace.registry
    chosen = registry.version(version) if version else sync_champion_alias(workspace).require(workspace)
    store = workspace.bar_store
    ref = _bars_of(store, series, chosen)
    loaded = workspace.registry.read_version(chosen.version)
    recipe = loaded.recipe()
    predict = loaded.predictor(calibrated=False).predict_outputs
    found = audit(store.read_bars(ref), recipe.window, recipe.folds, loaded.record(), predict, sample=sample)
    try:
        workspace.runs.log_values(chosen.run_id, tags={"audit": found.summary()})
    except MlflowException as error:
        log.warning("%s version %s: its run could not be noted on: %s", series.name, chosen.version, error)
    return VersionAudit(series.name, chosen.version, ref, _are(ref, chosen.tags.get("bars_sha256", "")), found)


def _are(ref: BarsRef, sha256: str) -> bool:
    """Return whether bars have a hash: version tags hold its first characters, those of version 0.1 all of it."""
    return bool(sha256) and ref.sha256.startswith(sha256)


def _bars_of(store: BarStore, series: Series, version: Version) -> BarsRef:
    """Return the bars that a version was trained on: table version and training end by its tags."""
    return store.ref(series, version.bars_version, as_of=version.trained_until)

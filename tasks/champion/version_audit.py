"""The leak self-test of a registered version, on the bars that it was trained on. Plain; no Prefect."""

from dataclasses import dataclass
from typing import Any

from model.bars import Series
from model.leak_audit import FULL_SAMPLE, Audit, audit
from tasks.champion.commit_decision import sync_champion_alias
from tasks.registry.model_registry import Version
from tasks.settings import Settings
from tasks.store.bar_store import BarsRef, BarStore
from tasks.workspace import Workspace


@dataclass(frozen=True, slots=True)
class VersionAudit:
    """What the leak self-test found in a version.

    Attributes:
        series_name: of the version.
        version: number of the version.
        bars: the bars that it was held against.
        same_bars: they are the very bars it was trained on, by their hash.
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
    """Look for leaks in a version: its windows, folds, out-of-sample record and predictions.

    Args:
        series: whose version.
        settings: where registry and bars are.
        version: the version; empty takes the champion.
        sample: windows and predictions to re-derive.

    Raises:
        NoChampion: there is no such version.
        UnsoundModel: its files cannot be read.
    """
    workspace = Workspace(settings, series)
    registry = workspace.registry
    chosen = registry.version(version) if version else sync_champion_alias(workspace).require(series.name)
    store = workspace.bar_store
    ref = _bars_of(store, series, chosen)
    loaded = workspace.registry.read_version(chosen.version)
    recipe = loaded.recipe()
    predict = loaded.predictor(calibrated=False).predict
    found = audit(store.read_bars(ref), recipe.window, recipe.folds, loaded.record(), predict, sample=sample)
    workspace.runs.log_values(chosen.run_id, **values(found))
    return VersionAudit(series.name, chosen.version, ref, ref.sha256 == chosen.tags.get("bars_sha256"), found)


def values(found: Audit) -> dict[str, dict[str, Any]]:
    """Return what a run logs of an audit: metrics and tags."""
    failed = [finding for finding in found.findings if not finding.passed]
    told = "; ".join(f"{finding.name}: {finding.detail}" for finding in failed)
    return {
        "metrics": {"audit.looked_at": float(found.checked), "audit.failed": float(len(failed))},
        "tags": {"audit": "passed" if found.passed else f"failed: {told}"[:5000]},
    }


def _bars_of(store: BarStore, series: Series, version: Version) -> BarsRef:
    """Name the bars that a version was trained on, as far as its tags tell: table version and close of the last."""
    number = version.tags.get("bars_version")
    return store.ref(series, int(number) if number else None, as_of=version.trained_until)

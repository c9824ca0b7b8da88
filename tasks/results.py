"""Values that one task hands to the next: small, frozen, without frames or arrays.

Pages, the console and flows import these instead of the tasks. Bars and arrays stay where they are stored; a value
carries the reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from model.bars import Series
from model.errors import SpecError
from model.evaluation import Evaluation
from model.panel_evaluation import PanelEvaluation
from model.windows import WindowSpec
from tasks.registry.model_registry import Version
from tasks.repair.retention import Removal
from tasks.store.bar_store import MergeResult
from tasks.store.bars_ref import AnyBarsRef, BarsRef, PanelBarsRef


@dataclass(frozen=True, slots=True)
class Landing:
    """Bars as their source gave them, in a file, not yet checked.

    Attributes:
        path: of the Parquet file.
        symbol: of the series.
        interval: length of a bar.
        rows: bars closed by `as_of`.
        unfinished: bars dropped because they closed later.
        as_of: what counts as now, UTC.
        layout: what the reader found out about the source.
        from_file: their source is a file.
        bars_version: version of the table of bars when the source was read, -1 before the first; None: not known.
    """

    path: str
    symbol: str
    interval: str
    rows: int
    unfinished: int
    as_of: datetime
    layout: dict[str, str] = field(default_factory=dict)
    from_file: bool = False
    bars_version: int | None = None

    @property
    def series(self) -> Series:
        """The series that the bars belong to."""
        return Series(self.symbol, self.interval)


@dataclass(frozen=True, slots=True)
class Checked:
    """Result of the data checks.

    Attributes:
        accepted: path of a Parquet file with the landed bars that were accepted.
        rows: accepted bars, those stored before included.
        refused: bars put into the quarantine.
        refused_by: their number by rule.
        failed: rule, severity, observed and message of each failed check.
        gaps: gaps between accepted bars.
        docs: address of the Data Docs; empty without a page.
    """

    accepted: str
    rows: int
    refused: int
    refused_by: dict[str, int]
    failed: tuple[dict[str, Any], ...]
    gaps: int
    docs: str


@dataclass(frozen=True, slots=True)
class Stored:
    """Result of a merge into the bar store, and the bars to use from now on.

    Attributes:
        ref: all stored bars of the series.
        merge: what changed.
        warning: one that names flags, where most of the bars that were there already changed.
    """

    ref: BarsRef
    merge: MergeResult
    warning: str = ""


@dataclass(frozen=True, slots=True)
class WindowsRef:
    """Windows that can be cut again: their bars and how they are cut.

    Attributes:
        bars: the stored bars of one series, or of a panel.
        window: how they are cut.
        windows: number of windows.
        resolved: number of windows with an outcome.
        rises_share: share of rises among the resolved ones.
        filled_bars: bars filled into gaps.
    """

    bars: AnyBarsRef
    window: WindowSpec
    windows: int
    resolved: int
    rises_share: float
    filled_bars: int = 0

    @property
    def series_bars(self) -> BarsRef:
        """The stored bars, of windows of one series.

        Raises:
            SpecError: they are those of a panel.
        """
        if isinstance(self.bars, BarsRef):
            return self.bars
        raise SpecError(f"{self.bars.series.name}: expected the bars of one series, found those of a panel")


@dataclass(frozen=True, slots=True)
class FoldOutcome:
    """Result of training one fold; its record is in its MLflow run.

    Attributes:
        index: of the fold, from 0.
        run_id: of its MLflow run.
        best_epoch: epoch with the lowest validation loss, from 1.
        epochs: epochs run.
        seconds: time of the fit.
        device: where it was fitted.
        log_loss: on the test fold, nats.
    """

    index: int
    run_id: str
    best_epoch: int
    epochs: int
    seconds: float
    device: str
    log_loss: float


@dataclass(frozen=True, slots=True)
class FinalFit:
    """Result of the final fit; its files are in the retrain's MLflow run.

    Attributes:
        epochs: epochs run.
        seconds: time of the fit.
        device: where it was fitted.
        trained_until: close of the last bar it learned from, ISO 8601, UTC.
    """

    epochs: int
    seconds: float
    device: str
    trained_until: str


@dataclass(frozen=True, slots=True)
class Promotion:
    """Decision about a version, and the champion before and after it."""

    action: str
    reasons: tuple[str, ...]
    numbers: dict[str, float]
    champion_before: str | None
    champion_after: str | None
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Results of a retrain that would have repeated an earlier decision: nothing was trained."""

    run_id: str
    landing: Landing
    checked: Checked
    stored: Stored
    promotion: Promotion


@dataclass(frozen=True, slots=True)
class PanelUnchanged:
    """Results of a retrain of a panel that would have repeated an earlier decision: nothing was trained."""

    run_id: str
    bars: PanelBarsRef
    promotion: Promotion


@dataclass(frozen=True, slots=True)
class Monitoring:
    """Result of the monitor.

    Attributes:
        version: of the champion.
        numbers: by name.
        alarms: kind and message of each alarm that is on.
        raised: kinds of the alarms that are new.
    """

    version: str
    numbers: dict[str, float]
    alarms: tuple[str, ...]
    raised: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Retrain:
    """Results of all steps of a retrain."""

    run_id: str
    landing: Landing
    checked: Checked
    stored: Stored
    windows: WindowsRef
    evaluation: Evaluation
    final: FinalFit
    version: Version
    promotion: Promotion
    report: str = ""


@dataclass(frozen=True, slots=True)
class PanelRetrain:
    """Results of all steps of a retrain of a panel."""

    run_id: str
    windows: WindowsRef
    evaluation: PanelEvaluation
    final: FinalFit
    version: Version
    promotion: Promotion
    report: str = ""


@dataclass(frozen=True, slots=True)
class Housekeeping:
    """What one run of housekeeping did.

    Attributes:
        ended: MLflow runs whose process was gone.
        removed: what was deleted.
    """

    ended: tuple[str, ...]
    removed: tuple[Removal, ...]

    def rows(self) -> list[dict[str, str]]:
        """Return a table: kind, number, bytes."""
        return [dict(zip(("deleted", "number", "bytes"), each, strict=True)) for each in totals(self.removed)]


def totals(removed: Sequence[Removal]) -> list[tuple[str, str, str]]:
    """Return kind, number and bytes of removals as text, one row for each kind."""
    kinds = dict.fromkeys(each.kind for each in removed)
    own = {kind: [each for each in removed if each.kind == kind] for kind in kinds}
    return [(kind, str(len(found)), f"{sum(each.size for each in found):,}") for kind, found in own.items()]

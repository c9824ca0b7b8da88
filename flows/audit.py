"""Audit a registered version for look-ahead in its windows, labels, folds, record and predictions."""

from typing import Annotated

from prefect import flow
from pydantic import Field

from model.bars import IntervalName, Series
from model.leak_audit import FULL_SAMPLE
from tasks.champion.version_audit import audit_version
from tasks.pages.prefect_artifacts import show_audit, shown
from tasks.services.flow_run_names import flow_run_name
from tasks.services.prefect_run_page import completed, readable
from tasks.settings import Settings
from tasks.workspace import require_stored

HOUR = 3600


@flow(name="audit", flow_run_name=flow_run_name, timeout_seconds=HOUR)
@readable
def audit(
    symbol: Annotated[str, Field(min_length=1)],
    interval: IntervalName,
    version: Annotated[str, Field(pattern=r"^\d*$")] = "",
    sample: Annotated[int, Field(ge=1, le=10_000)] = FULL_SAMPLE,
) -> int:
    """Test a version for look-ahead, and return the number of values checked; fail if there is any.

    Args:
        symbol: Symbol of the series.
        interval: Length of its bars.
        version: Version to audit; empty: the champion.
        sample: Number of windows and predictions computed again, without later bars and with scrambled ones.
    """
    with shown("audit") as run, run.step("audit"):
        found = audit_version(require_stored(Series(symbol, interval)), Settings(), version, sample)
        for finding in found.audit.findings:
            report = run.report_line if finding.passed else run.report_warning
            report(f"audit: {finding.name}: {finding.detail}")
        show_audit(found)
        found.audit.require(f"{found.series_name} version {found.version}")
        checked = found.audit.checked
        return completed(checked, f"version {found.version} passed: {checked:,} values checked, no look-ahead")

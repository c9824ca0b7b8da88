"""The report of a check: a result a rule, the bars accepted, the bars refused, and where the pages are.

It words results and decides whether they stop a run; it computes no rule and writes no file. The trap: a rule whose
check itself broke is reported as a critical failure, never left out.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from data_checks.suites import CheckSpec, Severity
from model.bars import Series
from model.errors import ChecksFailed

log = logging.getLogger(__name__)

STOPPING: dict[str, tuple[Severity, ...]] = {"critical": ("critical",), "warning": ("critical", "warning")}
LOG_LEVELS: dict[Severity, int] = {"critical": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one rule found.

    Attributes:
        rule: name of the rule.
        severity: how grave its failure is.
        passed: whether it held.
        unexpected: bars, gaps or breaks against it.
        observed: what was found, with numbers.
        message: expected, found, where, and what to do next.
        first_at: open time of the first offending bar in ISO form, UTC; empty when there is none.
    """

    rule: str
    severity: Severity
    passed: bool
    unexpected: int
    observed: str
    message: str
    first_at: str = ""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found, rule by rule, and what it leaves.

    Attributes:
        series: the series that was checked.
        results: one result a rule, in the order of the rules.
        accepted: bars that may be used, oldest first (columns of `COLUMNS`; timestamps UTC-aware).
        quarantined: refused bars with `rule`, `severity` and `value`, the offending value in words; `line` where the
            bars came with one.
        gaps: last_before, first_after (UTC), missing_bars: the holes in the clock of the accepted bars.
        unfinished_bars: bars left out because they had not closed, or not even opened; they are not bad.
        docs_url: path of the Data Docs' first page; empty when none were written.
        page_url: path of this check's own page; empty when none was written.
    """

    series: Series
    results: tuple[CheckResult, ...]
    accepted: pd.DataFrame
    quarantined: pd.DataFrame
    gaps: pd.DataFrame
    unfinished_bars: int
    docs_url: str
    page_url: str

    def failed(self) -> tuple[CheckResult, ...]:
        """Return the results of the rules that did not hold."""
        return tuple(result for result in self.results if not result.passed)

    def stopping(self, spec: CheckSpec) -> tuple[CheckResult, ...]:
        """Return the failures that stop a run under `spec`."""
        return tuple(result for result in self.failed() if result.severity in STOPPING[spec.stop_on])

    def passed(self, spec: CheckSpec) -> bool:
        """Whether nothing that stops a run under `spec` failed."""
        return not self.stopping(spec)

    def summary(self) -> dict[str, Any]:
        """Return the report as JSON-able figures: counts, and one entry a rule that failed."""
        return {
            "symbol": self.series.symbol,
            "interval": self.series.interval,
            "accepted_bars": len(self.accepted),
            "quarantined_bars": len(self.quarantined),
            "quarantined_by_rule": {
                str(rule): int(count) for rule, count in self.quarantined["rule"].value_counts(sort=False).items()
            },
            "unfinished_bars": self.unfinished_bars,
            "gaps": len(self.gaps),
            "missing_bars": int(self.gaps["missing_bars"].sum()),
            "rules": len(self.results),
            "failed": [
                {
                    "rule": result.rule,
                    "severity": result.severity,
                    "unexpected": result.unexpected,
                    "observed": result.observed,
                    "first_at": result.first_at,
                    "message": result.message,
                }
                for result in self.failed()
            ],
            "docs_url": self.docs_url,
            "page_url": self.page_url,
        }

    def lines(self) -> tuple[str, ...]:
        """Return the report in lines for a log: the counts, then each failure."""
        counts = f"{self.series.symbol} {self.series.interval}: {len(self.accepted)} bars accepted, "
        counts += f"{len(self.quarantined)} quarantined, {self.unfinished_bars} unfinished, {len(self.gaps)} gaps"
        return (counts, *(f"{result.severity}: {result.message}" for result in self.failed()))


def log_failures(report: CheckReport) -> None:
    """Log each failure at the level of its severity."""
    for result in report.failed():
        log.log(LOG_LEVELS[result.severity], "%s: %s", result.rule, result.message)


def require_passed(report: CheckReport, spec: CheckSpec) -> None:
    """Raise when a failure stops the run.

    Raises:
        ChecksFailed: names each stopping rule, what it expected and found, where, and what to do next.
    """
    stopping = report.stopping(spec)
    if not stopping:
        return
    raise ChecksFailed("\n".join(_failure_lines(report, stopping, spec)))


def _failure_lines(report: CheckReport, stopping: Iterable[CheckResult], spec: CheckSpec) -> list[str]:
    stopping = tuple(stopping)
    rules = "rule" if len(stopping) == 1 else "rules"
    where = f"{report.series.symbol} {report.series.interval}"
    lines = [f"{where}: {len(stopping)} {rules} of severity {spec.stop_on} or above failed"]
    lines += [f"  {result.rule}: {result.message}" for result in stopping]
    if report.page_url:
        lines.append(f"  All rules, with the bars: {report.page_url}")
    return lines

"""The report of a check: the result of each rule, the accepted and the refused bars, and the paths of the pages.

It formats results and decides whether they stop a run; it computes no rule and writes no file. Caution: a rule whose
check raised an exception is reported as a critical failure, never dropped.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from data_checks.check_spec import CheckSpec, Severity
from model.bars import Series
from model.errors import ChecksFailed
from model.plurals import counted

log = logging.getLogger(__name__)

STOPPING: dict[str, tuple[Severity, ...]] = {"critical": ("critical",), "warning": ("critical", "warning")}
LOG_LEVELS: dict[Severity, int] = {"critical": logging.ERROR, "warning": logging.WARNING, "info": logging.INFO}


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one rule, as reported.

    Attributes:
        rule: name of the rule.
        severity: of a failure.
        passed: whether the rule passed.
        unexpected: number of bars, gaps or breaks that violate it.
        observed: what was found, with numbers.
        message: expected, found, where, and what to do next.
        first_at: open time of the first offending bar in ISO form, UTC; empty when there is none.
        required: what the rule requires, in a sentence; empty when its check raised an exception.
        advice: what to do next; empty when the rule passed.
    """

    rule: str
    severity: Severity
    passed: bool
    unexpected: int
    observed: str
    message: str
    first_at: str = ""
    required: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result of each rule, the accepted bars and the refused ones.

    Attributes:
        series: the series that was checked.
        results: one per rule, in the order of the rules.
        accepted: bars that may be used, oldest first (columns of `COLUMNS`; timestamps UTC-aware).
        quarantined: refused bars with `rule`, `severity` and `value`, the offending value as text; `line` where the
            input had it.
        gaps: last_before, first_after (UTC), missing_bars: the gaps between accepted bars.
        unfinished_bars: bars dropped because they had not closed, or not opened; they are not bad.
        docs_url: path of the Data Docs' first page; empty when none were written.
        page_url: path of this check's own page, or its address where it is served; empty when none was written.
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
        """Return the results of the rules that failed."""
        return tuple(result for result in self.results if not result.passed)

    def stopping(self, spec: CheckSpec) -> tuple[CheckResult, ...]:
        """Return the failures that stop a run under `spec`."""
        return tuple(result for result in self.failed() if result.severity in STOPPING[spec.stop_on])

    def passed(self, spec: CheckSpec) -> bool:
        """Whether no failure stops a run under `spec`."""
        return not self.stopping(spec)

    def summary(self) -> dict[str, Any]:
        """Return the report as JSON values: counts, and one entry per failed rule."""
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
                    "required": result.required,
                    "advice": result.advice,
                    "message": result.message,
                }
                for result in self.failed()
            ],
            "docs_url": self.docs_url,
            "page_url": self.page_url,
        }

    def lines(self) -> tuple[str, ...]:
        """Return the report as log lines: the counts, then each failure."""
        counts = f"{self.series.symbol} {self.series.interval}: {counted(len(self.accepted), 'bar')} accepted, "
        counts += f"{len(self.quarantined)} refused, "
        if self.unfinished_bars:  # where the source read drops them, this count is always 0
            counts += f"{self.unfinished_bars} not closed yet, "
        counts += counted(len(self.gaps), "gap")
        return (counts, *(f"{result.severity}: {result.message}" for result in self.failed()))


def log_failures(report: CheckReport) -> None:
    """Log each failure at the level of its severity."""
    for result in report.failed():
        log.log(LOG_LEVELS[result.severity], "%s: %s", result.rule, result.message)


def require_passed(report: CheckReport, spec: CheckSpec) -> None:
    """Raise if a failure stops the run.

    Raises:
        ChecksFailed: lists each rule that stops the run: expected, found, where, what to do next.
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

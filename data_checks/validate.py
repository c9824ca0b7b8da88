"""Checks bars and windows: applies the rules, validates the same rules in Great Expectations, and reports.

Our masks decide what is quarantined; Great Expectations runs the same rules as a suite and writes the Data Docs. If the
two differ, or a check raises an exception, the rule is a critical failure. This module reads no source and no clock
(`as_of` is an argument), and writes only into the docs folder. Caution: an unfinished bar is not in `accepted`,
although it is not bad.
"""

import logging
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from data_checks.apply_rules import (
    NOT_YET,
    RuleFinding,
    RuleResults,
    accepted_bars,
    apply_bar_rules,
    gap_list,
    line_at,
)
from data_checks.check_report import CheckReport, CheckResult, log_failures
from data_checks.check_spec import CheckSpec
from data_checks.great_expectations_run import Outcome, Validation, validate_batch
from data_checks.offending_values import time_text
from data_checks.rule_definitions import WINDOW_RULES, Rule, Suite, applicable_rules
from data_checks.second_source import cross_check
from data_checks.window_rules import apply_window_rules, window_batch
from model.bars import COLUMNS, PRICES, Series
from model.errors import SpecError
from model.times import column_times, to_datetime64, utc_index
from model.windows import Windows, WindowSpec

log = logging.getLogger(__name__)


def check_bars(
    frame: pd.DataFrame,
    series: Series,
    spec: CheckSpec,
    as_of: datetime | None = None,
    docs_dir: Path | None = None,
    against: pd.DataFrame | None = None,
    released: pd.DataFrame | None = None,
    removed: pd.DataFrame | None = None,
    *,
    last_is_whole: bool = False,
) -> CheckReport:
    """Apply the rules for bars; bad bars raise nothing here: see `check_report.require_passed`.

    Args:
        frame: bars as read (columns of `COLUMNS`, volume optional; times UTC-aware or naive UTC). An optional column
            `line` is the line of each bar in its file (from 1; missing where there is none); an optional column
            `ingested` is false for bars that were stored before this ingest.
        series: symbol and interval of the bars.
        spec: limits, and which failures stop a run.
        as_of: the current time of the check, UTC-aware; None omits the rules that need it.
        docs_dir: folder of the Data Docs; None writes none.
        against: bars of a second source of the same interval, in the same columns.
        released: bars that were refused before and released by a person, in the same columns. They are accepted as
            long as their values have not changed, and replace other bars with the same open time.
        removed: bars that a person removed, in the same columns. They are refused as long as their values have not
            changed.
        last_is_whole: the last bar cannot be a part bar, since its source has later ones or returns whole bars only.
            Otherwise its volume decides; an `as_of` after its close does not show when a file was downloaded.

    Returns:
        The report, with the accepted bars (sorted, closed by `as_of`) and the refused ones.

    Raises:
        SpecError: a column is missing, or a bar has no time.
    """
    bars = _plain_bars(frame, series)
    if released is not None and len(released):
        bars["released"] = _found_again(bars, _plain_bars(released, series))
    if removed is not None and len(removed):
        bars["removed"] = _found_again(bars, _plain_bars(removed, series), every=True)
    now = None if as_of is None else time_text(to_datetime64(as_of))
    stay = bars[~bars["removed"]] if "removed" in bars else bars
    comparison = None if against is None else cross_check(stay, _plain_bars(against, series), series.interval, spec)
    limits = spec.model_dump(mode="json") | {
        "interval": series.interval,
        "as_of": now,
        "last_is_whole": last_is_whole,
        "comparison": None if comparison is None else comparison.to_dict(),
    }
    rules = applicable_rules(with_clock=as_of is not None, with_second_series=against is not None)
    suite = Suite(f"{series.name}-bars", rules, limits, spec.tolerate)
    applied = apply_bar_rules(bars, suite)
    validation = validate_batch(applied.batch, suite, (f"as of {now}" if now else "bars").replace(" ", "-"), docs_dir)
    report = _bar_report(applied, series, suite, validation)
    log.info(report.lines()[0])
    log_failures(report)
    return report


def check_windows(
    windows: Windows,
    window: WindowSpec,
    series: Series,
    spec: CheckSpec,
    docs_dir: Path | None = None,
) -> CheckReport:
    """Apply the rules for windows; `accepted` and `quarantined` of the report are empty.

    Args:
        windows: as cut; unresolved ones are ignored.
        window: the spec that they were cut with.
        series: symbol and interval of the windows.
        spec: limits, and which failures stop a run.
        docs_dir: folder of the Data Docs; None writes none.
    """
    limits = spec.model_dump(mode="json") | {
        "interval": series.interval,
        "horizon_bars": window.horizon_bars,
        "min_rise_share": 1 - spec.max_rise_share,
    }
    suite = Suite(f"{series.name}-windows", WINDOW_RULES, limits, ())
    batch = window_batch(windows)
    validation = validate_batch(batch, suite, "windows", docs_dir)
    results = _results(suite, apply_window_rules(batch, suite), validation, series, batch)
    none = pd.DataFrame(columns=[*COLUMNS, "rule", "severity", "value"])
    gaps = pd.DataFrame(columns=["last_before", "first_after", "missing_bars"])
    report = CheckReport(series, results, none[list(COLUMNS)], none, gaps, 0, validation.docs_url, validation.page_url)
    log_failures(report)
    return report


def _plain_bars(frame: pd.DataFrame, series: Series) -> pd.DataFrame:
    """Return the columns of `COLUMNS` as naive UTC times and float64, without copying what needs no change."""
    missing = [name for name in COLUMNS[:-1] if name not in frame.columns]
    if missing:
        found = ", ".join(map(str, frame.columns))
        raise SpecError(
            f"{series.name}: expected columns {', '.join(COLUMNS)}, found {found}; missing {', '.join(missing)}"
        )
    times = column_times(frame["timestamp"])
    if np.isnat(times).any():
        row = int(np.isnat(times).argmax())
        raise SpecError(f"{series.name}: expected a time in each bar, found none in bar {row}; correct the source")
    plain = {"timestamp": times}
    for name in (*PRICES, "volume"):
        plain[name] = (
            frame[name].to_numpy(dtype=np.float64, na_value=np.nan) if name in frame else np.full(len(frame), np.nan)
        )
    if "ingested" in frame:
        plain["ingested"] = frame["ingested"].to_numpy(dtype=bool)
    if "line" in frame:
        plain["line"] = frame["line"].fillna(0).to_numpy(dtype=np.int64)
    return pd.DataFrame(plain, copy=False)


def _found_again(bars: pd.DataFrame, known: pd.DataFrame, *, every: bool = False) -> Bool[np.ndarray, " bar"]:
    """Mark bars equal to a known one in time and values, shape (bar,): of identical bars the first, or `every` one."""
    columns = list(COLUMNS)
    near = np.flatnonzero(bars["timestamp"].isin(known["timestamp"]))
    both = pd.concat([known[columns].drop_duplicates(), bars[columns].iloc[near]], ignore_index=True)
    copies: Any = both.groupby(columns, dropna=False).cumcount().to_numpy()[-len(near) :] if len(near) else []
    found = np.zeros(len(bars), dtype=bool)
    found[near] = np.greater_equal(copies, 1) if every else np.equal(copies, 1)
    return found


def _results(
    suite: Suite, findings: dict[str, RuleFinding], validation: Validation, series: Series, batch: pd.DataFrame
) -> tuple[CheckResult, ...]:
    """Return the result of each rule; one that Great Expectations does not confirm is a critical failure."""
    results = []
    for rule in suite.rules:
        finding = findings[rule.name]
        finding = replace(finding, first_line=finding.first_line or line_at(batch, finding.first_at))
        problem = _disagreement(finding, validation.outcomes.get(rule.name))
        results.append(_broken(rule, problem, series) if problem else _result(rule, finding, suite, series))
    return tuple(results)


def _disagreement(finding: RuleFinding, outcome: Outcome | None) -> str:
    """Return why Great Expectations does not confirm a finding; empty if it does."""
    if outcome is None:
        return "Great Expectations returned no result for it"
    if outcome.broken:
        return f"the check raised: {outcome.broken}"
    if outcome.success != finding.passed or outcome.unexpected not in {None, finding.unexpected}:
        counted = f"{outcome.unexpected} by Great Expectations, {finding.unexpected} by the rule itself"
        return f"two runs of the rule disagree: {counted}"
    return ""


def _broken(rule: Rule, problem: str, series: Series) -> CheckResult:
    advice = "report this as a bug"
    message = f"expected a check that runs; found: {problem} ({series.symbol} {series.interval}). Report this as a bug."
    return CheckResult(
        rule.name, "critical", passed=False, unexpected=0, observed=problem, message=message, advice=advice
    )


def _result(rule: Rule, finding: RuleFinding, suite: Suite, series: Series) -> CheckResult:
    first_at = "" if np.isnat(finding.first_at) else time_text(finding.first_at)
    where = f"{series.symbol} {series.interval}" + (f", first at {first_at}" if first_at else "")
    where += f", line {finding.first_line}" if finding.first_line else ""
    required = rule.statement(suite.limits)
    expected = required[0].lower() + required[1:]
    message = f"expected: {expected}; found {finding.observed} ({where})"
    advice = "" if finding.passed else rule.advice()
    if advice:
        message += f". What to do: {advice}."
    return CheckResult(
        rule.name,
        suite.severity(rule),
        finding.passed,
        finding.unexpected,
        finding.observed,
        message,
        first_at,
        required,
        advice,
    )


def _bar_report(applied: RuleResults, series: Series, suite: Suite, validation: Validation) -> CheckReport:
    times, ohlcv = accepted_bars(applied.batch)
    accepted = pd.DataFrame(ohlcv, columns=list(COLUMNS[1:]), copy=False)
    accepted.insert(0, "timestamp", utc_index(times))
    gaps = gap_list(times, series.delta)
    for column in ("last_before", "first_after"):
        gaps[column] = utc_index(gaps[column].to_numpy())
    return CheckReport(
        series,
        _results(suite, applied.findings, validation, series, applied.batch),
        accepted,
        _quarantined(applied, suite),
        gaps,
        int(applied.batch["verdict"].isin(NOT_YET).sum()),
        validation.docs_url,
        validation.page_url,
    )


def _quarantined(applied: RuleResults, suite: Suite) -> pd.DataFrame:
    severities = {rule.name: suite.severity(rule) for rule in suite.rules}
    bad = applied.refused().reset_index(drop=True)
    bad["timestamp"] = utc_index(bad["timestamp"].to_numpy())
    bad["severity"] = bad["rule"].map(severities).astype("str")
    lines = ["line"] if "line" in bad else []
    return bad[[*COLUMNS, "rule", "severity", "value", *lines]]

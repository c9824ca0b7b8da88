"""Checks bars and windows: judges them, has Great Expectations confirm and show it, and reports.

Our masks decide what is quarantined; Great Expectations runs the same rules as a suite and writes the Data Docs. Where
the two differ, or a check raised, that rule is a critical failure. It fetches nothing, knows no clock (`as_of` is
given), and writes only into the docs folder. The trap: `accepted` leaves out the unfinished bar without calling it bad.
"""

import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from data_checks.apply_rules import (
    NOT_YET,
    Figure,
    Judgement,
    accepted_bars,
    gap_list,
    judge_bars,
    line_at,
    moment_words,
)
from data_checks.check_report import CheckReport, CheckResult, log_failures, require_passed
from data_checks.cross_check import cross_check
from data_checks.data_docs import Outcome, Validation, validate_batch
from data_checks.suites import WINDOW_RULES, CheckSpec, Rule, Suite, applicable_rules
from data_checks.window_rules import judge_windows, window_batch
from model.bars import COLUMNS, PRICES, Series
from model.errors import SpecError
from model.windows import Windows, WindowSpec

__all__ = ["CheckReport", "CheckResult", "CheckSpec", "check_bars", "check_windows", "require_passed"]

log = logging.getLogger(__name__)


def check_bars(
    frame: pd.DataFrame,
    series: Series,
    spec: CheckSpec,
    as_of: datetime | None = None,
    docs_dir: Path | None = None,
    against: pd.DataFrame | None = None,
    released: pd.DataFrame | None = None,
) -> CheckReport:
    """Hold bars to the suite of bars; nothing is raised for bad bars: see `require_passed`.

    Args:
        frame: bars as they came (columns of `COLUMNS`, volume optional; times UTC-aware or naive UTC). A column `line`,
            if there, says where each bar stands in its file (from 1; missing where it is in none).
        series: what they are bars of.
        spec: limits, and which failures stop.
        as_of: what counts as now, UTC-aware; None leaves out the rules that need it.
        docs_dir: folder of the Data Docs; None writes none.
        against: bars of a second source of the same interval, in the same columns.
        released: bars that were refused once and released by a person, in the same columns: they pass as long as the
            source says the same of them, and they settle a doubled time.

    Returns:
        The report, with the accepted bars (sorted, closed by `as_of`) and the refused ones.

    Raises:
        SpecError: a column is missing, or a bar has no time.
    """
    bars = _plain_bars(frame, series)
    if released is not None and len(released):
        bars["released"] = _found_again(bars, _plain_bars(released, series))
    moment = None if as_of is None else moment_words(as_of.astimezone(UTC).replace(tzinfo=None))
    comparison = None if against is None else cross_check(bars, _plain_bars(against, series), series.interval, spec)
    limits = spec.model_dump(mode="json") | {
        "interval": series.interval,
        "as_of": moment,
        "comparison": None if comparison is None else comparison.figures(),
    }
    rules = applicable_rules(with_clock=as_of is not None, with_second_series=against is not None)
    suite = Suite(f"{series.name}-bars", rules, limits, spec.tolerate)
    judgement = judge_bars(bars, suite)
    validation = validate_batch(
        judgement.batch, suite, (f"as of {moment}" if moment else "bars").replace(" ", "-"), docs_dir
    )
    report = _bar_report(judgement, series, suite, validation)
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
    """Hold windows to the suite of windows; `accepted` and `quarantined` of the report are empty.

    Args:
        windows: as cut; unresolved ones are left out.
        window: the spec that they were cut with.
        series: what they are windows of.
        spec: limits, and which failures stop.
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
    results = _results(suite, judge_windows(batch, suite), validation, series, batch)
    none = pd.DataFrame(columns=[*COLUMNS, "rule", "severity", "value"])
    gaps = pd.DataFrame(columns=["last_before", "first_after", "missing_bars"])
    report = CheckReport(series, results, none[list(COLUMNS)], none, gaps, 0, validation.docs_url, validation.page_url)
    log_failures(report)
    return report


def _plain_bars(frame: pd.DataFrame, series: Series) -> pd.DataFrame:
    """Return the columns of `COLUMNS` as naive UTC times and float64, sharing what needs no change."""
    missing = [name for name in COLUMNS[:-1] if name not in frame.columns]
    if missing:
        found = ", ".join(map(str, frame.columns))
        raise SpecError(
            f"{series.name}: expected columns {', '.join(COLUMNS)}, found {found}; missing {', '.join(missing)}"
        )
    times = pd.to_datetime(frame["timestamp"], utc=True).dt.tz_localize(None).astype("datetime64[us]")
    if times.isna().any():
        row = int(times.isna().to_numpy().argmax())
        raise SpecError(f"{series.name}: expected a time in each bar, found none in bar {row}; correct the source")
    plain = {"timestamp": times.to_numpy()}
    for name in (*PRICES, "volume"):
        plain[name] = (
            frame[name].to_numpy(dtype=np.float64, na_value=np.nan) if name in frame else np.full(len(frame), np.nan)
        )
    if "line" in frame:
        plain["line"] = frame["line"].fillna(0).to_numpy(dtype=np.int64)
    return pd.DataFrame(plain, copy=False)


def _found_again(bars: pd.DataFrame, released: pd.DataFrame) -> Bool[np.ndarray, " bar"]:
    """Mark bars that equal a released one in time and values, of copies the first, shape (bar,)."""
    columns = list(COLUMNS)
    near = np.flatnonzero(bars["timestamp"].isin(released["timestamp"]))
    both = pd.concat([released[columns].drop_duplicates(), bars[columns].iloc[near]], ignore_index=True)
    copies: Any = both.groupby(columns, dropna=False).cumcount().to_numpy()[-len(near) :] if len(near) else []
    found = np.zeros(len(bars), dtype=bool)
    found[near] = np.equal(copies, 1)
    return found


def _results(
    suite: Suite, figures: dict[str, Figure], validation: Validation, series: Series, batch: pd.DataFrame
) -> tuple[CheckResult, ...]:
    """Word the figure of each rule; one that Great Expectations does not confirm becomes a critical failure."""
    results = []
    for rule in suite.rules:
        figure = figures[rule.name]
        figure = replace(figure, first_line=figure.first_line or line_at(batch, figure.first_at))
        fault = _fault(figure, validation.outcomes.get(rule.name))
        results.append(_broken(rule, fault, series) if fault else _result(rule, figure, suite, series))
    return tuple(results)


def _fault(figure: Figure, outcome: Outcome | None) -> str:
    """Say how Great Expectations failed to confirm a figure; empty when it confirms it."""
    if outcome is None:
        return "Great Expectations returned no result for it"
    if outcome.broken:
        return f"the check raised: {outcome.broken}"
    if outcome.success != figure.passed or outcome.unexpected not in {None, figure.unexpected}:
        counted = f"{outcome.unexpected} by Great Expectations, {figure.unexpected} by the rule itself"
        return f"two runs of the rule disagree: {counted}"
    return ""


def _broken(rule: Rule, fault: str, series: Series) -> CheckResult:
    message = f"expected a check that runs; found that {fault} ({series.symbol} {series.interval}). Report this fault."
    return CheckResult(rule.name, "critical", passed=False, unexpected=0, observed=fault, message=message)


def _result(rule: Rule, figure: Figure, suite: Suite, series: Series) -> CheckResult:
    first_at = "" if np.isnat(figure.first_at) else moment_words(figure.first_at)
    where = f"{series.symbol} {series.interval}" + (f", first at {first_at}" if first_at else "")
    where += f", line {figure.first_line}" if figure.first_line else ""
    expected = rule.statement(suite.limits)
    expected = expected[0].lower() + expected[1:]
    message = f"expected: {expected}; found {figure.observed} ({where})"
    if not figure.passed:
        message += f". What to do: {rule.advice()}."
    return CheckResult(
        rule.name, suite.severity(rule), figure.passed, figure.unexpected, figure.observed, message, first_at
    )


def _bar_report(judgement: Judgement, series: Series, suite: Suite, validation: Validation) -> CheckReport:
    times, ohlcv = accepted_bars(judgement.batch)
    accepted = pd.DataFrame(ohlcv, columns=list(COLUMNS[1:]), copy=False)
    accepted.insert(0, "timestamp", pd.DatetimeIndex(times).tz_localize("UTC"))
    gaps = gap_list(times, series.delta)
    for column in ("last_before", "first_after"):
        gaps[column] = pd.DatetimeIndex(gaps[column]).tz_localize("UTC")
    return CheckReport(
        series,
        _results(suite, judgement.figures, validation, series, judgement.batch),
        accepted,
        _quarantined(judgement, suite),
        gaps,
        int(judgement.batch["verdict"].isin(NOT_YET).sum()),
        validation.docs_url,
        validation.page_url,
    )


def _quarantined(judgement: Judgement, suite: Suite) -> pd.DataFrame:
    severities = {rule.name: suite.severity(rule) for rule in suite.rules}
    bad = judgement.refused().reset_index(drop=True)
    bad["timestamp"] = pd.DatetimeIndex(bad["timestamp"]).tz_localize("UTC")
    bad["severity"] = bad["rule"].map(severities).astype("str")
    lines = ["line"] if "line" in bad else []
    return bad[[*COLUMNS, "rule", "severity", "value", *lines]]

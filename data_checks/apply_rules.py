"""Applies every rule to bars: which bars each rule refuses, and what it finds in the series as a whole.

Each rule gives one `RuleFinding`: whether it passed, how many bars violate it, and the first of them. The expectations
call the same two functions, `row_mask` and `series_finding`, on the same batch, so the Data Docs and the quarantine
agree. Limits are a mapping of JSON values (fields of the spec, `interval`, `as_of`, `comparison`), because they pass
through Great Expectations. A bar marked `released` was accepted by a person: only the rules of `NEVER_RELEASED` can
refuse it, and other bars of its open time are duplicates. Caution: rules about the series see ACCEPTED bars only.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int8, Int64, Shaped

from data_checks import bar_rules
from data_checks.offending_values import offending_values, time_text
from data_checks.rule_definitions import BAR_RULES, FEWEST_INGESTED, NEVER_RELEASED, Suite
from model.bars import PRICES, interval_delta
from model.plurals import counted

Limits = Mapping[str, Any]
ACCEPTED = "accepted"
NOT_YET = ("unfinished_bar", "future_bar")  # dropped because they have not closed; not bad, so not quarantined
VERDICTS = (ACCEPTED, *NOT_YET, *(rule.name for rule in BAR_RULES if rule.quarantines))
SHOWN_BREAKS = 3  # volume breaks listed in a message
NEVER = np.datetime64("NaT", "us")
RELEASABLE = frozenset(rule.name for rule in BAR_RULES if rule.quarantines and rule.name not in NEVER_RELEASED)
NOT_A_LOSS = (
    "lesser_double",
    "removed_bar",
)  # a more complete bar of the same open time is accepted; a person's choice


@dataclass(frozen=True, slots=True)
class RuleFinding:
    """The result of one rule.

    Attributes:
        passed: whether the rule passed.
        unexpected: number of bars (or gaps, or breaks) that violate it.
        observed: what was found, with numbers.
        first_at: open time of the first bar that violates it, UTC; NaT when there is none.
        first_line: line of that bar in its file, from 1; 0 when it is not known.
    """

    passed: bool
    unexpected: int
    observed: str
    first_at: np.datetime64 = NEVER
    first_line: int = 0


@dataclass(frozen=True, slots=True)
class RuleResults:
    """The verdict on each bar, and the finding of each rule that was applied.

    Attributes:
        batch: the bars in input order, with the categorical column `verdict`: `accepted`, or the rule that refused it.
        findings: by rule name, in the order of the rules.
    """

    batch: pd.DataFrame
    findings: dict[str, RuleFinding]

    def refused(self) -> pd.DataFrame:
        """Return the quarantined bars in input order, with `rule` and `value`, the offending value as text."""
        codes = self.batch["verdict"].cat.codes.to_numpy()
        rows = np.flatnonzero(codes > len(NOT_YET))
        bars = self.batch.take(rows)
        values = np.empty(len(rows), dtype=object)
        for code in np.unique(codes[rows]).tolist():
            chosen = codes[rows] == code
            values[chosen] = offending_values(VERDICTS[code], bars[chosen])
        bars = bars.rename(columns={"verdict": "rule"})
        return bars.assign(rule=bars["rule"].astype("str"), value=pd.Series(values, index=bars.index, dtype="str"))


def apply_bar_rules(bars: pd.DataFrame, suite: Suite) -> RuleResults:
    """Apply the rules of a suite to bars, in the order of precedence.

    Args:
        bars: columns of `COLUMNS`, naive UTC times. Optional columns: `released` marks bars that a person accepted,
            `removed` bars that a person removed, `ingested` bars that this ingest brought (absent: all of them); `line`
            is the line of the bar in its file (0: not known).
        suite: the rules and their limits.
    """
    verdict = np.zeros(len(bars), dtype=np.int8)
    absent = {"released": False, "removed": False, "ingested": True}
    bars = bars.assign(**{name: value for name, value in absent.items() if name not in bars})
    batch = bars.assign(verdict=_verdicts(verdict))
    findings: dict[str, RuleFinding] = {}
    for rule in suite.rules:
        if not rule.columns:
            findings[rule.name] = series_finding(rule.name, batch, suite.limits)
            continue
        mask = row_mask(rule.name, batch, suite.limits)
        findings[rule.name] = _row_finding(rule.name, batch, mask)
        fresh = np.flatnonzero(mask & (verdict == 0))
        if len(fresh) and rule.name in VERDICTS:
            verdict[fresh] = VERDICTS.index(rule.name)
            batch = bars.assign(verdict=_verdicts(verdict))
    return RuleResults(batch, findings)


def _verdicts(codes: Int8[np.ndarray, " bar"]) -> pd.Series:
    return pd.Series(pd.Categorical.from_codes(codes.copy(), dtype=pd.CategoricalDtype(list(VERDICTS))))


def row_mask(rule: str, batch: pd.DataFrame, limits: Limits) -> Bool[np.ndarray, " bar"]:
    """Mark the bars of a batch that violate a rule, shape (bar,), in the order of the batch."""
    mask = _ROW_RULES[rule](batch, limits)
    return _apply_releases(rule, batch, mask) if rule in RELEASABLE else mask


def _apply_releases(rule: str, batch: pd.DataFrame, mask: Bool[np.ndarray, " bar"]) -> Bool[np.ndarray, " bar"]:
    """Accept released bars; other bars of their open times are duplicates, whatever else is wrong with them."""
    released = batch["released"].to_numpy(dtype=bool)
    if not released.any():
        return mask
    times = _times(batch)
    decided = np.isin(times, times[released])
    duplicates: Bool[np.ndarray, " bar"] = decided & ~released & (rule == "lesser_double")
    return np.asarray((mask & ~decided) | duplicates, dtype=np.bool_)


def series_finding(rule: str, batch: pd.DataFrame, limits: Limits) -> RuleFinding:
    """Apply a rule about the whole series to the accepted bars of a batch."""
    return _SERIES_RULES[rule](batch, limits)


def _row_finding(rule: str, batch: pd.DataFrame, mask: Bool[np.ndarray, " bar"]) -> RuleFinding:
    count = int(mask.sum())
    if not count:
        return RuleFinding(passed=True, unexpected=0, observed="none")
    rows = np.flatnonzero(mask)
    times = _times(batch)
    first = rows[int(times[rows].argmin())]
    alike = rows[times[rows] == times[first]]  # for rows of one time the report shows the values that differ
    value = offending_values(rule, batch.iloc[alike])[int(np.flatnonzero(alike == first)[0])]
    return RuleFinding(
        passed=False,
        unexpected=count,
        observed=f"{count} of {counted(len(batch), 'bar')}, first {value}",
        first_at=times[first],
        first_line=int(batch["line"].iloc[first]) if "line" in batch else 0,
    )


def line_at(batch: pd.DataFrame, opened_at: np.datetime64) -> int:
    """Return the line of the first bar with an open time in its file; 0 when there is none or it is not known."""
    if np.isnat(opened_at) or "line" not in batch:
        return 0
    rows = np.flatnonzero(_times(batch) == opened_at)
    return int(batch["line"].iloc[rows[0]]) if len(rows) else 0


def accepted_bars(batch: pd.DataFrame) -> tuple[Shaped[np.ndarray, " bar"], Float64[np.ndarray, "bar 5"]]:
    """Return times and OHLCV of the accepted bars of a batch, oldest first."""
    accepted = batch["verdict"].cat.codes.to_numpy() == VERDICTS.index(ACCEPTED)
    times, ohlcv = _times(batch), _ohlcv(batch)
    if not accepted.all():
        times, ohlcv = times[accepted], ohlcv[accepted]
    if (np.diff(times) < np.timedelta64(0)).any():
        order = np.argsort(times, kind="stable")
        times, ohlcv = times[order], ohlcv[order]
    return times, ohlcv


def gap_list(times: Shaped[np.ndarray, " bar"], delta: np.timedelta64) -> pd.DataFrame:
    """List the gaps between strictly increasing times: last bar before, first bar after, bars missing."""
    missing = bar_rules.missing_before(times, delta)
    after = np.flatnonzero(missing)
    return pd.DataFrame({"last_before": times[after - 1], "first_after": times[after], "missing_bars": missing[after]})


def _times(batch: pd.DataFrame) -> Shaped[np.ndarray, " bar"]:
    return batch["timestamp"].to_numpy().astype("datetime64[us]", copy=False)


def _prices(batch: pd.DataFrame) -> Float64[np.ndarray, "bar 4"]:
    return batch[list(PRICES)].to_numpy(dtype=np.float64)


def _ohlcv(batch: pd.DataFrame) -> Float64[np.ndarray, "bar 5"]:
    return batch[[*PRICES, "volume"]].to_numpy(dtype=np.float64)


def _known(batch: pd.DataFrame) -> Float64[np.ndarray, "bar 5"]:
    """Return prices and volume; Great Expectations passes only the columns of a rule, the others become NaN."""
    return batch.reindex(columns=[*PRICES, "volume"]).to_numpy(dtype=np.float64)


def _volume(batch: pd.DataFrame) -> Float64[np.ndarray, " bar"]:
    return batch["volume"].to_numpy(dtype=np.float64)


def _delta(limits: Limits) -> np.timedelta64:
    return interval_delta(limits["interval"])


def _as_of(limits: Limits) -> np.datetime64:
    return np.datetime64(limits["as_of"], "us")


def _in_time(batch: pd.DataFrame, rule: str) -> tuple[Int64[np.ndarray, " row"], Shaped[np.ndarray, " row"]]:
    """Return the rows that no rule before `rule` refuses, and their times, oldest first.

    Great Expectations calls this with the final verdicts, our own run with those so far: both give the same rows.
    """
    before = itertools.takewhile(lambda name: name != rule, (each.name for each in BAR_RULES))
    refused = [VERDICTS.index(name) for name in before if name in VERDICTS]
    rows = np.flatnonzero(~np.isin(batch["verdict"].cat.codes.to_numpy(), refused))
    times = _times(batch)[rows]
    if (np.diff(times) < np.timedelta64(0)).any():
        order = np.argsort(times, kind="stable")
        rows, times = rows[order], times[order]
    return rows, times


def _absurd_prices(batch: pd.DataFrame, limits: Limits) -> Bool[np.ndarray, " bar"]:
    """Mark bars far from the level of their neighbours."""
    rows, _ = _in_time(batch, "absurd_price")
    mask = np.zeros(len(batch), dtype=bool)
    mask[rows] = bar_rules.absurd_prices(_prices(batch)[rows], limits["absurd_price_factor"])
    return mask


def _part_bars(batch: pd.DataFrame, limits: Limits) -> Bool[np.ndarray, " bar"]:
    """Mark a part bar among those that have closed and that no other rule refuses."""
    rows, times = _in_time(batch, "part_bar")
    mask = np.zeros(len(batch), dtype=bool)
    delta = _delta(limits)
    if not len(rows) or delta < np.timedelta64(1, "h"):
        return mask  # volumes of shorter bars vary too much for a small one to mean anything
    edge = np.r_[rows[: bar_rules.PART_BAR_NEIGHBOURS + 1], rows[-bar_rules.PART_BAR_NEIGHBOURS - 1 :]]
    if len(rows) <= 2 * (bar_rules.PART_BAR_NEIGHBOURS + 1):
        edge = rows
    check_last = not limits["last_is_whole"] and bool(times[-1] == _times(batch).max())
    mask[edge] = bar_rules.part_bars(_ohlcv(batch.take(edge)), limits["part_bar_share"], check_last=check_last)
    return mask


def _unfinished(batch: pd.DataFrame, limits: Limits) -> Bool[np.ndarray, " bar"]:
    return bar_rules.unfinished_bars(_times(batch), _delta(limits), _as_of(limits))


def _by_values(rule: str, batch: pd.DataFrame, limits: Limits) -> Bool[np.ndarray, " bar"]:
    return bar_rules.by_values(rule, _known(batch), limits["absurd_tick_factor"])


_ROW_RULES: dict[str, Callable[[pd.DataFrame, Limits], Bool[np.ndarray, " bar"]]] = {
    **{name: partial(_by_values, name) for name in bar_rules.VALUE_RULES},
    "undecided_double": lambda batch, _: bar_rules.doubled_times(_times(batch), _ohlcv(batch))[1],
    "lesser_double": lambda batch, _: bar_rules.doubled_times(_times(batch), _ohlcv(batch))[0],
    "removed_bar": lambda batch, _: batch["removed"].to_numpy(dtype=bool),
    "absurd_price": _absurd_prices,
    "off_grid": lambda batch, limits: bar_rules.times_off_grid(_times(batch), _delta(limits)),
    "future_bar": lambda batch, limits: bar_rules.future_bars(_times(batch), _as_of(limits)),
    "unfinished_bar": _unfinished,
    "part_bar": _part_bars,
    "running_back": lambda batch, _: bar_rules.times_running_back(_times(batch)),
    "unknown_volume": lambda batch, _: bar_rules.unknown_volumes(_volume(batch)),
}


def _too_many_refused(batch: pd.DataFrame, limits: Limits) -> RuleFinding:
    codes = batch["verdict"].cat.codes.to_numpy()
    harmless = [VERDICTS.index(name) for name in (ACCEPTED, *NOT_YET, *NOT_A_LOSS)]
    refused, ingested = ~np.isin(codes, harmless), batch["ingested"].to_numpy(dtype=bool)
    count, total, limit = int(refused.sum()), len(codes), limits["max_quarantined_share"]
    observed = f"{count} of {counted(total, 'bar')} ({count / max(1, total):.2%})"
    fresh, read = int((refused & ingested).sum()), int(ingested.sum())
    if read < total:
        observed += f", {fresh} of {read} read by this ingest ({fresh / max(1, read):.2%})"
    passed = count / max(1, total) <= limit and fresh / max(FEWEST_INGESTED, read) <= limit
    return RuleFinding(passed, count, observed)


def _enough_bars(batch: pd.DataFrame, limits: Limits) -> RuleFinding:
    count = int((batch["verdict"].cat.codes.to_numpy() == VERDICTS.index(ACCEPTED)).sum())
    return RuleFinding(count >= limits["min_bars"], max(0, limits["min_bars"] - count), counted(count, "bar"))


def _gap(batch: pd.DataFrame, limits: Limits) -> RuleFinding:
    gaps = gap_list(accepted_bars(batch)[0], _delta(limits))
    if gaps.empty:
        return RuleFinding(passed=True, unexpected=0, observed="no gap")
    missing, before = gaps["missing_bars"].to_numpy(), gaps["last_before"].to_numpy()
    longest, total, refused = int(missing.argmax()), int(missing.sum()), _refused_in_gaps(batch, _delta(limits))
    observed = f"{counted(total, 'bar')} missing in {counted(len(gaps), 'gap')}"
    observed += f" ({refused} refused, {total - refused} absent)" if refused else ""
    observed += f", the longest of {counted(int(missing[longest]), 'bar')}" if len(gaps) > 1 else ""
    observed += f" after {time_text(before[longest])}"
    first_at = before[0].astype("datetime64[us]") + _delta(limits)
    return RuleFinding(passed=False, unexpected=len(gaps), observed=observed, first_at=first_at)


def _refused_in_gaps(batch: pd.DataFrame, delta: np.timedelta64) -> int:
    """Count the missing bars that the source has: they were refused."""
    accepted, _ = accepted_bars(batch)
    others = np.setdiff1d(_times(batch), accepted)
    inside = others[(others > accepted[0]) & (others < accepted[-1])]
    return int(((inside - accepted[0]) % delta == np.timedelta64(0)).sum())


def _stale(batch: pd.DataFrame, limits: Limits) -> RuleFinding:
    times, _ = accepted_bars(batch)
    if not len(times):
        return RuleFinding(passed=False, unexpected=0, observed="no bar")
    age = bar_rules.age_bars(times, _delta(limits), _as_of(limits))
    fresh = age <= limits["max_age_bars"]
    return RuleFinding(fresh, int(not fresh), f"newest bar opened {time_text(times[-1])}, closed {age:.1f} bars before")


def _clock_phase(batch: pd.DataFrame, limits: Limits) -> RuleFinding:
    phase = bar_rules.clock_phase(accepted_bars(batch)[0], _delta(limits))
    minutes = int(phase // np.timedelta64(1, "m"))
    observed = f"bars open {minutes // 60:02d}:{minutes % 60:02d} after it" if minutes else "bars open on it"
    return RuleFinding(minutes == 0, int(minutes != 0), observed)


def _price_jump(batch: pd.DataFrame, limits: Limits) -> RuleFinding:
    times, ohlcv = accepted_bars(batch)
    close = ohlcv[:, 3]
    jumps = np.flatnonzero(bar_rules.price_jumps(close, limits["max_jump_factor"]))
    if not len(jumps):
        return RuleFinding(passed=True, unexpected=0, observed="none")
    change = close[jumps] / close[jumps - 1]
    largest = int(np.abs(np.log(change)).argmax())
    where = time_text(times[jumps[largest]])
    observed = f"{counted(len(jumps), 'jump')}, largest {change[largest] - 1:+.1%} at {where}"
    return RuleFinding(passed=False, unexpected=len(jumps), observed=observed, first_at=times[jumps[0]])


def _flat_run(batch: pd.DataFrame, limits: Limits) -> RuleFinding:
    times, ohlcv = accepted_bars(batch)
    flat = np.flatnonzero(bar_rules.flat_runs(ohlcv, limits["max_flat_bars"]))
    if not len(flat):
        return RuleFinding(passed=True, unexpected=0, observed="none longer")
    return RuleFinding(False, len(flat), f"{counted(len(flat), 'bar')} in longer runs", times[flat[0]])


def _volume_unit(batch: pd.DataFrame, limits: Limits) -> RuleFinding:
    times, ohlcv = accepted_bars(batch)
    breaks = bar_rules.volume_breaks(ohlcv[:, 4], ohlcv[:, 3], limits["volume_jump_factor"])
    if not breaks:
        return RuleFinding(passed=True, unexpected=0, observed="none")
    listed = [
        f"factor {found.factor:.3g} from {time_text(times[found.bar])}{_swap_note(found)}"
        for found in breaks[:SHOWN_BREAKS]
    ]
    more = f"; {len(breaks) - SHOWN_BREAKS} more" if len(breaks) > SHOWN_BREAKS else ""
    return RuleFinding(False, len(breaks), "; ".join(listed) + more, times[breaks[0].bar])


def _swap_note(found: bar_rules.VolumeBreak) -> str:
    if not found.is_swap:
        return ""
    return f" (the price is {found.price:.3g}: the volume switches between coin and quote currency)"


def _second_series(_: pd.DataFrame, limits: Limits) -> RuleFinding:
    comparison = limits["comparison"]
    return RuleFinding(comparison["agrees"], int(not comparison["agrees"]), comparison["message"])


_SERIES_RULES: dict[str, Callable[[pd.DataFrame, Limits], RuleFinding]] = {
    "too_many_refused": _too_many_refused,
    "enough_bars": _enough_bars,
    "gap": _gap,
    "stale": _stale,
    "clock_phase": _clock_phase,
    "price_jump": _price_jump,
    "flat_run": _flat_run,
    "volume_unit": _volume_unit,
    "second_series": _second_series,
}

"""Judges bars by every rule: which bars are refused under which rule, and what the series as a whole shows.

One `Figure` a rule: whether it held, how many bars broke it, the first of them, in words. The expectations call the
same two functions, `row_mask` and `series_figure`, on the same batch, so that the Data Docs and the quarantine cannot
tell different stories. Limits are a plain mapping: the fields of the spec, `interval`, `as_of` and `comparison`,
because they travel through Great Expectations as JSON. A bar marked `released` was let through by a person: no
judgement of taste refuses it, and it settles its time against any double. The trap: rules about the series look at
ACCEPTED bars only.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int8, Shaped

from data_checks import bar_rules
from data_checks.suites import BAR_RULES, NEVER_RELEASED, Suite
from model.bars import PRICES, interval_delta

Limits = Mapping[str, Any]
ACCEPTED = "accepted"
NOT_YET = ("unfinished_bar", "future_bar")  # left out because they had not closed; not bad, so not quarantined
VERDICTS = (ACCEPTED, *NOT_YET, *(rule.name for rule in BAR_RULES if rule.quarantines))
SHOWN_BREAKS = 3  # breaks of volume named in a message
NEVER = np.datetime64("NaT", "us")
RELEASABLE = frozenset(rule.name for rule in BAR_RULES if rule.quarantines and rule.name not in NEVER_RELEASED)
NOT_A_LOSS = ("lesser_double",)  # refused, but a fuller bar of the same time stays


@dataclass(frozen=True, slots=True)
class Figure:
    """What a rule found.

    Attributes:
        passed: whether the rule holds.
        unexpected: bars (or gaps, or breaks) against it.
        observed: what was found, with numbers.
        first_at: open time of the first offending bar, UTC; NaT when there is none.
        first_line: where that bar stands in its file, from 1; 0 when that is not known.
    """

    passed: bool
    unexpected: int
    observed: str
    first_at: np.datetime64 = NEVER
    first_line: int = 0


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on each bar, and the figure of each rule that applies.

    Attributes:
        batch: the bars in the order they came, with the categorical column `verdict`.
        figures: figure by name of rule, in the order of the rules.
    """

    batch: pd.DataFrame
    figures: dict[str, Figure]

    def refused(self) -> pd.DataFrame:
        """Return the quarantined bars as they came, with `rule` and `value`, the offending value in words."""
        codes = self.batch["verdict"].cat.codes.to_numpy()
        rows = np.flatnonzero(codes > len(NOT_YET))
        bars = self.batch.take(rows)
        values = np.empty(len(rows), dtype=object)
        for code in np.unique(codes[rows]).tolist():
            chosen = codes[rows] == code
            values[chosen] = offending_values(VERDICTS[code], bars[chosen])
        bars = bars.rename(columns={"verdict": "rule"})
        return bars.assign(rule=bars["rule"].astype("str"), value=pd.Series(values, index=bars.index, dtype="str"))


def judge_bars(bars: pd.DataFrame, suite: Suite) -> Judgement:
    """Hold bars to the rules of a suite, in the order of precedence.

    Args:
        bars: columns of `COLUMNS`, naive UTC times; `released` marks bars that a person let through (none without it),
            `line` says where a bar stands in its file (0 or no column: not known).
        suite: the rules and their limits.
    """
    verdict = np.zeros(len(bars), dtype=np.int8)
    bars = bars if "released" in bars else bars.assign(released=False)
    batch = bars.assign(verdict=_verdicts(verdict))
    figures: dict[str, Figure] = {}
    for rule in suite.rules:
        if not rule.columns:
            figures[rule.name] = series_figure(rule.name, batch, suite.limits)
            continue
        mask = row_mask(rule.name, batch, suite.limits)
        figures[rule.name] = _row_figure(rule.name, batch, mask)
        fresh = np.flatnonzero(mask & (verdict == 0))
        if len(fresh) and rule.name in VERDICTS:
            verdict[fresh] = VERDICTS.index(rule.name)
            batch = bars.assign(verdict=_verdicts(verdict))
    return Judgement(batch, figures)


def _verdicts(codes: Int8[np.ndarray, " bar"]) -> pd.Series:
    return pd.Series(pd.Categorical.from_codes(codes.copy(), dtype=pd.CategoricalDtype(list(VERDICTS))))


def row_mask(rule: str, batch: pd.DataFrame, limits: Limits) -> Bool[np.ndarray, " bar"]:
    """Mark the bars of a batch that break a rule, shape (bar,), in the order of the batch."""
    mask = _ROW_RULES[rule](batch, limits)
    return _settled(rule, batch, mask) if rule in RELEASABLE else mask


def _settled(rule: str, batch: pd.DataFrame, mask: Bool[np.ndarray, " bar"]) -> Bool[np.ndarray, " bar"]:
    """Let released bars through; other bars of their times are doubles, whatever else they may be."""
    released = batch["released"].to_numpy(dtype=bool)
    if not released.any():
        return mask
    times = _times(batch)
    settled = np.isin(times, times[released])
    doubles: Bool[np.ndarray, " bar"] = settled & ~released & (rule == "lesser_double")
    return np.asarray((mask & ~settled) | doubles, dtype=np.bool_)


def series_figure(rule: str, batch: pd.DataFrame, limits: Limits) -> Figure:
    """Say what the accepted bars of a batch show about a rule of the whole series."""
    return _SERIES_RULES[rule](batch, limits)


def _row_figure(rule: str, batch: pd.DataFrame, mask: Bool[np.ndarray, " bar"]) -> Figure:
    count = int(mask.sum())
    if not count:
        return Figure(passed=True, unexpected=0, observed="none")
    rows = np.flatnonzero(mask)
    times = _times(batch)
    first = rows[int(times[rows].argmin())]
    value = offending_values(rule, batch.iloc[[first]])[0]
    return Figure(
        passed=False,
        unexpected=count,
        observed=f"{count} of {len(batch)} bars, first {value}",
        first_at=times[first],
        first_line=int(batch["line"].iloc[first]) if "line" in batch else 0,
    )


def line_at(batch: pd.DataFrame, moment: np.datetime64) -> int:
    """Return where the first bar of an open time stands in its file; 0 when there is none or it is not known."""
    if np.isnat(moment) or "line" not in batch:
        return 0
    rows = np.flatnonzero(_times(batch) == moment)
    return int(batch["line"].iloc[rows[0]]) if len(rows) else 0


def offending_values(rule: str, rows: pd.DataFrame) -> list[str]:
    """Name the column and the value that offend, such as `low 0.06`, one string a row."""
    volumes = [f"volume {value:g}" for value in rows["volume"].tolist()]
    if rule in {"unreal_volume", "lesser_double", "part_bar"}:
        return volumes
    if rule == "undecided_double":
        return [f"close {close:.10g}, {volume}" for close, volume in zip(rows["close"], volumes, strict=True)]
    if rule in _PRICE_OFFENCES:
        return _PRICE_OFFENCES[rule](_prices(rows))
    return [f"opened {moment_words(value)}" for value in _times(rows)]


def _absent(prices: Float64[np.ndarray, "bar 4"]) -> list[str]:
    return [f"{PRICES[column]} absent" for column in np.isnan(prices).argmax(axis=1).tolist()]


def _unreal(prices: Float64[np.ndarray, "bar 4"]) -> list[str]:
    return _named_values(((prices <= 0) | np.isinf(prices)).argmax(axis=1), prices)


def _absurd(prices: Float64[np.ndarray, "bar 4"]) -> list[str]:
    opened, high, low, close = prices.T
    return _named_values(np.where(np.fmin(opened, close) / low > high / np.fmax(opened, close), 2, 1), prices)


def _beyond_edge(prices: Float64[np.ndarray, "bar 4"]) -> list[str]:
    """Name the edge that does not hold, and the price beyond it: `high 90 under close 100`."""
    opened, high, low, close = prices.T
    high_fails = high < np.fmax(np.fmax(opened, close), low)  # otherwise it is the low
    others = prices[:, [0, 2, 3]]
    beyond = np.array([0, 2, 3])[np.where(high_fails, others.argmax(axis=1), others.argmin(axis=1))]
    edges, words = _named_values(np.where(high_fails, 1, 2), prices), np.where(high_fails, "under", "over").tolist()
    return [
        f"{edge} {word} {price}" for edge, word, price in zip(edges, words, _named_values(beyond, prices), strict=True)
    ]


_PRICE_OFFENCES: dict[str, Callable[[Float64[np.ndarray, "bar 4"]], list[str]]] = {
    "absent_price": _absent,
    "unreal_price": _unreal,
    "absurd_tick": _absurd,
    "contradicting_price": _beyond_edge,
}


def _named_values(column: np.ndarray, prices: Float64[np.ndarray, "bar 4"]) -> list[str]:
    chosen = np.take_along_axis(prices, column[:, None], axis=1)[:, 0]
    return [f"{PRICES[index]} {value:.10g}" for index, value in zip(column.tolist(), chosen.tolist(), strict=True)]


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


def moment_words(moment: Any) -> str:
    """Return a time as `2019-10-17`, with hours, minutes and seconds only as far as they are not zero."""
    words = pd.Timestamp(moment).strftime("%Y-%m-%d %H:%M:%S")
    return words.removesuffix(":00").removesuffix(" 00:00")


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
    """Return prices and volume; Great Expectations hands over the columns of a rule only, the others are NaN."""
    return batch.reindex(columns=[*PRICES, "volume"]).to_numpy(dtype=np.float64)


def _volume(batch: pd.DataFrame) -> Float64[np.ndarray, " bar"]:
    return batch["volume"].to_numpy(dtype=np.float64)


def _delta(limits: Limits) -> np.timedelta64:
    return interval_delta(limits["interval"])


def _as_of(limits: Limits) -> np.datetime64:
    return np.datetime64(limits["as_of"], "us")


def _part_bars(batch: pd.DataFrame, limits: Limits) -> Bool[np.ndarray, " bar"]:
    """Mark a part bar among those that no other rule refused, and that had closed."""
    verdict = batch["verdict"].cat.codes.to_numpy()
    rows = np.flatnonzero((verdict == VERDICTS.index(ACCEPTED)) | (verdict == VERDICTS.index("part_bar")))
    mask = np.zeros(len(batch), dtype=bool)
    delta = _delta(limits)
    if not len(rows) or delta < np.timedelta64(1, "h"):
        return mask  # volumes of shorter bars differ so much by nature that a small one says nothing
    times = _times(batch)[rows]
    if (np.diff(times) < np.timedelta64(0)).any():
        order = np.argsort(times, kind="stable")
        rows, times = rows[order], times[order]
    # A clock past the close of the last bar says that the bar is whole; without one, the volume is asked.
    judge_last = limits["as_of"] is None or bool(_as_of(limits) <= times[-1] + delta)
    edge = np.r_[rows[: bar_rules.PART_BAR_NEIGHBOURS + 1], rows[-bar_rules.PART_BAR_NEIGHBOURS - 1 :]]
    if len(rows) <= 2 * (bar_rules.PART_BAR_NEIGHBOURS + 1):
        edge = rows
    mask[edge] = bar_rules.part_bars(_ohlcv(batch.take(edge)), limits["part_bar_share"], judge_last=judge_last)
    return mask


def _unfinished(batch: pd.DataFrame, limits: Limits) -> Bool[np.ndarray, " bar"]:
    return bar_rules.unfinished_bars(_times(batch), _delta(limits), _as_of(limits))


def _by_values(rule: str, batch: pd.DataFrame, limits: Limits) -> Bool[np.ndarray, " bar"]:
    return bar_rules.by_values(rule, _known(batch), limits["absurd_tick_factor"])


_ROW_RULES: dict[str, Callable[[pd.DataFrame, Limits], Bool[np.ndarray, " bar"]]] = {
    **{name: partial(_by_values, name) for name in bar_rules.VALUE_RULES},
    "undecided_double": lambda batch, _: bar_rules.doubled_times(_times(batch), _ohlcv(batch))[1],
    "lesser_double": lambda batch, _: bar_rules.doubled_times(_times(batch), _ohlcv(batch))[0],
    "off_grid": lambda batch, limits: bar_rules.times_off_grid(_times(batch), _delta(limits)),
    "future_bar": lambda batch, limits: bar_rules.future_bars(_times(batch), _as_of(limits)),
    "unfinished_bar": _unfinished,
    "part_bar": _part_bars,
    "running_back": lambda batch, _: bar_rules.times_running_back(_times(batch)),
    "unknown_volume": lambda batch, _: bar_rules.unknown_volumes(_volume(batch)),
}


def _too_many_refused(batch: pd.DataFrame, limits: Limits) -> Figure:
    codes = batch["verdict"].cat.codes.to_numpy()
    harmless = [VERDICTS.index(name) for name in (ACCEPTED, *NOT_YET, *NOT_A_LOSS)]
    refused = int((~np.isin(codes, harmless)).sum())
    share = refused / max(1, len(batch))
    return Figure(share <= limits["max_quarantined_share"], refused, f"{refused} of {len(batch)} bars ({share:.2%})")


def _enough_bars(batch: pd.DataFrame, limits: Limits) -> Figure:
    count = int((batch["verdict"].cat.codes.to_numpy() == VERDICTS.index(ACCEPTED)).sum())
    return Figure(count >= limits["min_bars"], max(0, limits["min_bars"] - count), f"{count} bars")


def _gap(batch: pd.DataFrame, limits: Limits) -> Figure:
    gaps = gap_list(accepted_bars(batch)[0], _delta(limits))
    if gaps.empty:
        return Figure(passed=True, unexpected=0, observed="no gap")
    missing, before = gaps["missing_bars"].to_numpy(), gaps["last_before"].to_numpy()
    longest = int(missing.argmax())
    observed = (
        f"{_count(len(gaps), 'gap')}, {_count(int(missing.sum()), 'bar')} missing, "
        f"longest {missing[longest]} after {moment_words(before[longest])}"
    )
    first_at = before[0].astype("datetime64[us]") + _delta(limits)
    return Figure(passed=False, unexpected=len(gaps), observed=observed, first_at=first_at)


def _stale(batch: pd.DataFrame, limits: Limits) -> Figure:
    times, _ = accepted_bars(batch)
    if not len(times):
        return Figure(passed=False, unexpected=0, observed="no bar")
    age = bar_rules.age_bars(times, _delta(limits), _as_of(limits))
    fresh = age <= limits["max_age_bars"]
    return Figure(fresh, int(not fresh), f"newest bar opened {moment_words(times[-1])}, closed {age:.1f} bars before")


def _clock_phase(batch: pd.DataFrame, limits: Limits) -> Figure:
    phase = bar_rules.clock_phase(accepted_bars(batch)[0], _delta(limits))
    minutes = int(phase // np.timedelta64(1, "m"))
    observed = f"bars open {minutes // 60:02d}:{minutes % 60:02d} after it" if minutes else "bars open on it"
    return Figure(minutes == 0, int(minutes != 0), observed)


def _price_jump(batch: pd.DataFrame, limits: Limits) -> Figure:
    times, ohlcv = accepted_bars(batch)
    close = ohlcv[:, 3]
    jumps = np.flatnonzero(bar_rules.price_jumps(close, limits["max_jump_factor"]))
    if not len(jumps):
        return Figure(passed=True, unexpected=0, observed="none")
    change = close[jumps] / close[jumps - 1]
    largest = int(np.abs(np.log(change)).argmax())
    where = moment_words(times[jumps[largest]])
    observed = f"{_count(len(jumps), 'jump')}, largest {change[largest] - 1:+.1%} at {where}"
    return Figure(passed=False, unexpected=len(jumps), observed=observed, first_at=times[jumps[0]])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _flat_run(batch: pd.DataFrame, limits: Limits) -> Figure:
    times, ohlcv = accepted_bars(batch)
    flat = np.flatnonzero(bar_rules.flat_runs(ohlcv, limits["max_flat_bars"]))
    if not len(flat):
        return Figure(passed=True, unexpected=0, observed="none longer")
    return Figure(False, len(flat), f"{len(flat)} bars in longer runs", times[flat[0]])


def _volume_unit(batch: pd.DataFrame, limits: Limits) -> Figure:
    times, ohlcv = accepted_bars(batch)
    breaks = bar_rules.volume_breaks(ohlcv[:, 4], ohlcv[:, 3], limits["volume_jump_factor"])
    if not breaks:
        return Figure(passed=True, unexpected=0, observed="none")
    words = [
        f"factor {found.factor:.3g} from {moment_words(times[found.bar])}{_swap_words(found)}"
        for found in breaks[:SHOWN_BREAKS]
    ]
    more = f"; {len(breaks) - SHOWN_BREAKS} more" if len(breaks) > SHOWN_BREAKS else ""
    return Figure(False, len(breaks), "; ".join(words) + more, times[breaks[0].bar])


def _swap_words(found: bar_rules.VolumeBreak) -> str:
    if not found.is_swap:
        return ""
    return f" (the price is {found.price:.3g}: volumes in coin and in quote currency change places)"


def _second_series(_: pd.DataFrame, limits: Limits) -> Figure:
    comparison = limits["comparison"]
    return Figure(comparison["agrees"], int(not comparison["agrees"]), comparison["message"])


_SERIES_RULES: dict[str, Callable[[pd.DataFrame, Limits], Figure]] = {
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

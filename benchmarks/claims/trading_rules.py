"""The best of several trading rules, chosen on the bars that it is scored on, vs. chosen on earlier bars.

Moving averages (long while the short one is above the long one) and trading range breakout (long from a close above the
highest of the n closes before it until a close below the lowest). A rule is long or flat; its position at a close
depends on closes up to it. A rule states a direction, no probability, so there is an accuracy and no log loss.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from benchmarks.claims.claim_scores import COSTS, Row, accuracy_text, folds_from, load_bars, net_text, record_of
from model.bars import Bars
from model.folds import Fold, FoldSpec, split_folds
from model.record import Record
from model.trading import YEAR, TradingSpec, net_returns
from model.windows import Windows, WindowSpec, cut_windows

AVERAGES = tuple((short, long) for long in (50, 150, 200) for short in (1, 2, 5))
RANGES = (50, 150, 200)
WARM_UP_BARS = max(RANGES) + 1
FREE = TradingSpec(kind="long_flat", cost_bps=0, slippage_bps=0)
LONG, FLAT = 0.75, 0.25  # stand for the direction only
PUBLISHED_UNTIL = np.datetime64("2019-01-01", "us")
Signals = Float64[np.ndarray, "rule bar"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """A rule and its annualised Sharpe ratio where it was chosen, with that of buy-and-hold there."""

    rule: int
    sharpe: float
    buy_and_hold: float


def row() -> Row:
    """Rerun the claim on daily Bitstamp bars."""
    bars = load_bars("btc_usd_daily_bitstamp_long.csv.gz")
    before = bars.closed_by(PUBLISHED_UNTIL)
    published, every = labelled(before), labelled(bars)
    best, breakout = choose_in_sample(published, before), choose_in_sample(published, before, len(AVERAGES))
    record = walk_forward(every, bars, folds_from(every, "2019-01-01", 5))
    own_span = walk_forward(published, before, folds_from(published, "2015-01-01", 4))
    return Row(
        "Trading range breakout beats buy-and-hold on Bitcoin, 2010 to 2019, by its Sharpe ratio",
        "Gerritsen et al. 2020, abstract",
        f"in sample, April 2012 to 2018, without costs: {NAMES[breakout.rule]}, the best of {len(RANGES)}, Sharpe "
        f"{breakout.sharpe:.2f}; {NAMES[best.rule]}, the best of {len(NAMES)} rules, {best.sharpe:.2f}; buy-and-hold "
        f"{best.buy_and_hold:.2f}",
        f"rule chosen on earlier days, 2019 to 2023: {accuracy_text(record)}",
        f"{net_text(record, bars)}. Rule chosen on earlier days, 2015 to 2018: {net_text(own_span, before)}",
        "an interval for the difference; a rule chosen before it is scored",
    )


def labelled(bars: Bars) -> Windows:
    """Cut the resolved windows of one bar at which every rule is defined."""
    windows = cut_windows(bars, WindowSpec(lookback_bars=2, features=("close",))).resolved()
    return windows.take(windows.ends >= WARM_UP_BARS)


def choose_in_sample(windows: Windows, bars: Bars, first_rule: int = 0) -> Chosen:
    """Choose the rule with the highest Sharpe ratio without costs on all windows, and score it on the same ones."""
    every = np.arange(len(windows))
    found = sharpes(windows, bars, every, FREE)[first_rule:]
    long = _record(windows, every, np.ones(len(windows)))
    return Chosen(first_rule + int(np.argmax(found)), float(found.max()), sharpe_of(long, bars, FREE))


def walk_forward(windows: Windows, bars: Bars, spec: FoldSpec) -> Record:
    """Return the record of the rule that was best net of costs on the windows before each fold."""
    folds = split_folds(windows, spec)
    signals, parts = rules(bars.column("close"))[:, windows.ends], []
    for fold in folds:
        learned = np.concatenate([fold.train, fold.validation])
        best = int(np.argmax(sharpes(windows, bars, learned, COSTS)))
        parts.append(np.where(signals[best, fold.test] > 0, LONG, FLAT))
    return record_of(windows, folds, np.concatenate(parts))


def sharpes(
    windows: Windows, bars: Bars, index: Int64[np.ndarray, " window"], costs: TradingSpec
) -> Float64[np.ndarray, " rule"]:
    """Return the annualised Sharpe ratio of each rule on these windows."""
    signals = rules(bars.column("close"))[:, windows.ends[index]]
    return np.array([sharpe_of(_record(windows, index, signal), bars, costs) for signal in signals])


def rules(closes: Float64[np.ndarray, " bar"]) -> Signals:
    """Return the position of each rule at each close, 1 long and 0 flat; flat while undefined.

    Time: entry t depends on closes 0..t.
    """
    averages = {bars: _means(closes, bars) for bars in {bars for pair in AVERAGES for bars in pair}}
    crossed = [(averages[short] > averages[long]).astype(np.float64) for short, long in AVERAGES]
    return np.stack([*crossed, *(_breakout(closes, bars) for bars in RANGES)])


NAMES = [f"moving averages of {short} and {long} days" for short, long in AVERAGES] + [
    f"breakout of {bars} days" for bars in RANGES
]


def _means(closes: Float64[np.ndarray, " bar"], bars: int) -> Float64[np.ndarray, " bar"]:
    """Return the mean of the last closes; NaN while there are too few, which compares as false."""
    means = np.full(len(closes), np.nan)
    means[bars - 1 :] = np.lib.stride_tricks.sliding_window_view(closes, bars).mean(axis=1)
    return means


def _breakout(closes: Float64[np.ndarray, " bar"], bars: int) -> Float64[np.ndarray, " bar"]:
    earlier = np.lib.stride_tricks.sliding_window_view(closes[:-1], bars)
    now = closes[bars:]
    broken = np.where(now > earlier.max(axis=1), 1, np.where(now < earlier.min(axis=1), -1, 0))
    newest = np.maximum.accumulate(np.where(broken != 0, np.arange(len(now)), -1))
    held = np.where(newest >= 0, broken[np.maximum(newest, 0)] > 0, False)
    return np.concatenate([np.zeros(bars), held.astype(np.float64)])


def _record(windows: Windows, index: Int64[np.ndarray, " window"], signal: Float64[np.ndarray, " window"]) -> Record:
    nothing = np.empty(0, np.int64)
    return record_of(windows, (Fold(0, nothing, nothing, index),), np.where(signal > 0, LONG, FLAT))


def sharpe_of(record: Record, bars: Bars, costs: TradingSpec) -> float:
    """Return the annualised Sharpe ratio of trading a record; 0 where nothing is earned or lost."""
    returns = net_returns(record, bars, costs)
    return float(returns.mean() / returns.std() * np.sqrt(YEAR / bars.delta)) if returns.any() else 0.0

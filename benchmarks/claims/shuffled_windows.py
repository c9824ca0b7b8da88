"""Overlapping windows split at random: a forest recognises a test day by its neighbours, which it was trained on.

A label of 20 days shares 19 of them with its neighbour's, and indicators that hold price levels place each day in time;
so a random test day has almost the label of a training day next to it. The model and the inputs are those of the claim
as far as they are public: a random forest on 13 technical indicators. Left out: the ten macroeconomic series.
Caution: a split in time leaks too unless it is purged; `without_purge` shows that.
"""

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from benchmarks.claims.claim_scores import (
    SEED,
    Row,
    accuracy,
    accuracy_text,
    folds_from,
    load_bars,
    loss_text,
    net_text,
    percent,
    predict_folds,
    record_of,
)
from model.bars import Bars
from model.folds import Fold, split_folds
from model.record import Record
from model.windows import Windows, WindowSpec, cut_windows

WARM_UP_BARS = 200  # the longest indicator
TREES = 100  # for speed; more trees average the same votes
TEST_SHARE = 0.2
FIRST_TEST, FOLDS = "2021-01-01", 6  # three years, refitted twice a year
STEPS = 73  # refits without a purge: every fifteenth day of the same test
Inputs = Float64[np.ndarray, "bar indicator"]


def row() -> Row:
    """Rerun the claim on daily Bitcoin."""
    bars = load_bars("btc_usd_daily_yahoo.csv.gz")
    shuffled = []
    for horizon in (5, 10, 20):
        windows = labelled(bars, horizon)
        shuffled.append(accuracy(random_split(windows, indicators(bars))))
    inputs, folds = indicators(bars), split_folds(windows, folds_from(windows, FIRST_TEST, FOLDS))
    unpurged = accuracy(without_purge(windows, inputs, folds[0].test[0], STEPS))
    record = walk_forward(windows, inputs, folds)
    texts = ", ".join(percent(found) for found in shuffled)
    return Row(
        "Random forests predict the direction of Bitcoin over 5 days with 75-80 %, over 10-20 days with more than 85 %",
        "Basher and Sadorsky 2022, abstract",
        f"windows split at random: accuracy {texts} over 5, 10, 20 days; split in time without a purge, 20 days: "
        f"{percent(unpurged)}",
        f"20 days: {accuracy_text(record)}; {loss_text(record, windows, folds)}",
        net_text(record, bars),
        "purging: no training label may reach into the test",
    )


def labelled(bars: Bars, horizon_bars: int) -> Windows:
    """Cut the resolved windows for which every indicator is known."""
    spec = WindowSpec(lookback_bars=WARM_UP_BARS, horizon_bars=horizon_bars, features=("close",))
    return cut_windows(bars, spec).resolved()


def random_split(windows: Windows, inputs: Inputs, trees: int = TREES) -> Record:
    """Return the record of a random fifth of the windows, predicted from the others."""
    shuffled = np.random.default_rng(SEED).permutation(len(windows))
    count = round(TEST_SHARE * len(windows))
    test, learned = np.sort(shuffled[:count]), np.sort(shuffled[count:])
    return _pooled(windows, test, fit_forest(windows, inputs, learned, test, trees))


def without_purge(windows: Windows, inputs: Inputs, first: np.int64, steps: int, trees: int = TREES // 4) -> Record:
    """Return the record of evenly spaced windows from `first` on, each predicted from all windows before it.

    The order is that of time, but the newest training labels are resolved only after the decision.
    """
    tests = np.unique(np.linspace(first, len(windows) - 1, steps).astype(np.int64))
    found = [fit_forest(windows, inputs, np.arange(test), np.array([test]), trees)[0] for test in tests]
    return _pooled(windows, tests, np.array(found))


def walk_forward(windows: Windows, inputs: Inputs, folds: tuple[Fold, ...], trees: int = TREES) -> Record:
    """Return the out-of-sample record, purged by the horizon."""
    return predict_folds(windows, folds, lambda learned, test: fit_forest(windows, inputs, learned, test, trees))


def fit_forest(
    windows: Windows,
    inputs: Inputs,
    learned: Int64[np.ndarray, " learned"],
    test: Int64[np.ndarray, " test"],
    trees: int,
) -> Float64[np.ndarray, " test"]:
    """Fit a random forest and return P(rise), one rise and one fall added to the votes."""
    from sklearn.ensemble import RandomForestClassifier  # imported here: seconds

    forest = RandomForestClassifier(trees, max_features="sqrt", random_state=SEED)
    forest.fit(inputs[windows.ends[learned]], windows.labels[learned])
    rise = list(forest.classes_).index(1)
    return np.asarray((trees * forest.predict_proba(inputs[windows.ends[test]])[:, rise] + 1) / (trees + 2))


def _pooled(windows: Windows, test: Int64[np.ndarray, " test"], probabilities: Float64[np.ndarray, " test"]) -> Record:
    nothing = np.empty(0, np.int64)
    return record_of(windows, (Fold(0, nothing, nothing, test),), probabilities)


def indicators(bars: Bars) -> Inputs:
    """Return RSI, fast and slow stochastics, ADX, MACD and signal, ROC, OBV, MFI, WAD, and means of 50 and 200 closes.

    Time: row t depends on bars 0..t; the first rows are NaN.
    Source: Achelis, Technical Analysis from A to Z; the usual parameters.
    """
    high, low, close, volume = (pd.Series(bars.column(name)) for name in ("high", "low", "close", "volume"))
    move = close.diff()
    lowest, highest = low.rolling(14).min(), high.rolling(14).max()
    fast = 100 * (close - lowest) / (highest - lowest)
    slow = fast.rolling(3).mean()
    macd = close.ewm(span=12).mean() - close.ewm(span=26).mean()
    typical = (high + low + close) / 3
    flow = np.sign(typical.diff()) * typical * volume
    former = close.shift()
    true_low, true_high = np.minimum(low, former), np.maximum(high, former)
    accumulated = np.where(move > 0, close - true_low, np.where(move < 0, close - true_high, 0.0))
    columns = (
        _share_up(move),
        fast,
        slow,
        slow.rolling(3).mean(),
        _directional_index(high, low, true_high - true_low),
        macd,
        macd.ewm(span=9).mean(),
        close / close.shift(10) - 1,
        (np.sign(move) * volume).cumsum(),
        _share_up(flow),
        pd.Series(accumulated).cumsum(),
        close.rolling(50).mean(),
        close.rolling(200).mean(),
    )
    return np.column_stack(columns).astype(np.float64)


def _share_up(values: "pd.Series[float]", bars: int = 14) -> "pd.Series[float]":
    """Return the share of the upward sum in the last values, percent: RSI of moves, money flow index of flows."""
    up, down = values.clip(lower=0).rolling(bars).sum(), (-values.clip(upper=0)).rolling(bars).sum()
    return 100 * up / (up + down)


def _directional_index(
    high: "pd.Series[float]", low: "pd.Series[float]", true_range: "pd.Series[float]", bars: int = 14
) -> "pd.Series[float]":
    rise, fall = high.diff(), -low.diff()
    plus, minus = rise.where((rise > fall) & (rise > 0), 0.0), fall.where((fall > rise) & (fall > 0), 0.0)
    size = true_range.ewm(alpha=1 / bars).mean()
    up, down = plus.ewm(alpha=1 / bars).mean() / size, minus.ewm(alpha=1 / bars).mean() / size
    return (100 * (up - down).abs() / (up + down)).ewm(alpha=1 / bars).mean()

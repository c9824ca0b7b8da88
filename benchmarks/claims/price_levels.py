"""Tomorrow's price level regressed: R2 near 1 is what the last price has as well, and no direction.

Levels are so close to the level before that any copy of it explains almost all variance. The claim's network is left
out on purpose: linear regression on the same windows has the same R2, and so has the last close itself. For the
walk-forward record the predicted level becomes P(rise): the normal distribution function of the predicted move divided
by the standard deviation of the errors, both in units of the last close.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from benchmarks.claims.claim_scores import Row, accuracy_text, load_bars, loss_text, net_text, predict_folds
from model.bar_resampling import resample_bars
from model.bars import Bars
from model.folds import Fold, FoldSpec, split_folds
from model.record import Record
from model.windows import Windows, WindowSpec, cut_windows

WINDOW = WindowSpec(lookback_bars=30, features=("open", "high", "low", "close"))
TEST_SHARE = 0.2
FOLDS = FoldSpec(test_bars=2190, count=4)  # a year of bars of four hours, refitted each quarter
END = np.datetime64("2023-02-01", "us")  # before the 10,000 hourly bars that docs/log.md keeps count of


@dataclass(frozen=True, slots=True)
class Fit:
    """How well levels were predicted on the newest fifth: coefficients of determination, and share of right signs."""

    r2: float
    r2_of_last_close: float
    accuracy: float


def row() -> Row:
    """Rerun the claim on bars of four hours of Binance BTC/USDT."""
    bars = resample_bars(load_bars("btc_usdt_hourly_binance.parquet", END, "1h"), "4h")
    windows = cut_windows(bars, WINDOW).resolved()
    fit, folds = as_published(windows, bars), split_folds(windows, FOLDS)
    record = walk_forward(windows, bars, folds)
    return Row(
        "An LSTM predicts the next price of Bitcoin, bars of four hours, with R2 0.994",
        "Alkhodhairi et al. 2021, abstract; a design of many notebooks",
        f"R2 {fit.r2:.4f} by linear regression, {fit.r2_of_last_close:.4f} by repeating the last close",
        f"{accuracy_text(record)}; {loss_text(record, windows, folds)}",
        net_text(record, bars),
        "scoring the direction instead of the level",
    )


def as_published(windows: Windows, bars: Bars) -> Fit:
    """Scale by the minimum and maximum of ALL bars, split in time, and score the level."""
    inputs, levels, last = _levels(windows, bars)
    low, span = bars.ohlcv[:, :4].min(), np.ptp(bars.ohlcv[:, :4])
    inputs, levels, last = (inputs - low) / span, (levels - low) / span, (last - low) / span
    count = round(TEST_SHARE * len(windows))
    predicted = _fit(inputs[:-count], levels[:-count], inputs[-count:])
    actual, before = levels[-count:], last[-count:]
    right = np.sign(predicted - before) == np.sign(actual - before)
    return Fit(_r2(actual, predicted), _r2(actual, before), float(right.mean()))


def walk_forward(windows: Windows, bars: Bars, folds: tuple[Fold, ...]) -> Record:
    """Return the out-of-sample record of the same regression, scaled by its training bars."""
    inputs, levels, last = _levels(windows, bars)

    def fit_predict(learned: Int64[np.ndarray, " learned"], test: Int64[np.ndarray, " test"]) -> np.ndarray:
        from scipy.stats import norm  # imported here: 1 s

        low, span = inputs[learned].min(), np.ptp(inputs[learned])
        both = np.concatenate([learned, test])
        predicted = _fit((inputs[learned] - low) / span, (levels[learned] - low) / span, (inputs[both] - low) / span)
        moves = (predicted * span + low) / last[both] - 1
        errors = levels[learned] / last[learned] - 1 - moves[: len(learned)]
        return np.asarray(norm.cdf(moves[len(learned) :] / errors.std()))

    return predict_folds(windows, folds, fit_predict)


def _levels(windows: Windows, bars: Bars) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the flattened windows, the closes that they are to predict, and their last closes, all as prices."""
    close = bars.column("close")
    return windows.values().reshape(len(windows), -1), close[windows.ends + 1], close[windows.ends]


def _fit(inputs: np.ndarray, levels: np.ndarray, asked: np.ndarray) -> Float64[np.ndarray, " window"]:
    from sklearn.linear_model import LinearRegression  # imported here: seconds

    return np.asarray(LinearRegression().fit(inputs, levels).predict(asked), dtype=np.float64)


def _r2(actual: Float64[np.ndarray, " window"], predicted: Float64[np.ndarray, " window"]) -> float:
    return float(1 - np.square(actual - predicted).sum() / np.square(actual - actual.mean()).sum())

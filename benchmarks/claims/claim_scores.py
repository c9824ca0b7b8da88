"""What all claims share: the row of the table, walk-forward records, and their scores with intervals.

Every walk-forward record is out of sample: `model.folds` cuts it, nothing that is resolved at or after a fold's first
decision is learned from. Costs are 10 basis points a side, positions are long or flat. Intervals are 95 % by the
stationary block bootstrap. Caution: where a price rises over the test, a long-flat strategy earns the rise whenever it
is invested, so its Sharpe ratio and break-even cost mean something only next to buy-and-hold.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from model.bars import Bars, bars_from_frame
from model.baselines import predict_baseline
from model.bootstrap import (
    Interval,
    bootstrap_intervals,
    compare_losses,
    optimal_block_bars,
    percentile_bounds,
    resample,
)
from model.folds import Fold, FoldSpec
from model.metrics import predicts_rise
from model.record import Record
from model.trading import YEAR, TradingResult, TradingSpec, trade
from model.windows import Windows
from tasks.sources.file_source import FileSource
from tasks.sources.source_spec import SourceSpec

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"  # not part of the repository
COSTS = TradingSpec(kind="long_flat", cost_bps=10, slippage_bps=0)
SEED = 7
HELD_BACK_FROM = np.datetime64("2024-01-01", "us")  # daily bars from here on are kept for docs/does-it-pay.md
Forecast = Float64[np.ndarray, " test"]
FitPredict = Callable[[Int64[np.ndarray, " learned"], Int64[np.ndarray, " test"]], Forecast]


@dataclass(frozen=True, slots=True)
class Row:
    """One claim rerun both ways, as cells of the table."""

    claim: str
    source: str
    as_published: str
    walk_forward: str
    net: str
    difference: str

    def text(self) -> str:
        """Return the row in Markdown."""
        return (
            f"| {self.claim} | {self.source} | {self.as_published} | {self.walk_forward} | {self.net} "
            f"| {self.difference} |"
        )


def load_bars(file: str, end: np.datetime64 = HELD_BACK_FROM, interval: str = "1d") -> Bars:
    """Read a file of one series; bars that close after `end` are dropped before anything else sees them."""
    if file.endswith(".parquet"):
        frame = pd.read_parquet(DATA / file).rename(columns={"date": "timestamp"})
    else:
        frame = FileSource(SourceSpec(kind="csv", path=str(DATA / file))).fetch().frame
    return bars_from_frame(frame, interval).closed_by(end)


def predict_folds(windows: Windows, folds: tuple[Fold, ...], fit_predict: FitPredict) -> Record:
    """Return the out-of-sample record of a model that is fitted anew for each fold, validation windows included."""
    parts = [fit_predict(np.concatenate([fold.train, fold.validation]), fold.test) for fold in folds]
    return record_of(windows, folds, np.concatenate(parts))


def record_of(windows: Windows, folds: tuple[Fold, ...], probabilities: Forecast) -> Record:
    """Return the record of the pooled test folds with these probabilities."""
    tested = windows.take(np.concatenate([fold.test for fold in folds]))
    number = np.concatenate([np.full(len(fold.test), fold.index, np.int64) for fold in folds])
    return Record(tested.decided_at, tested.resolved_at, tested.labels, probabilities, number, tested.symbols)


def accuracy(record: Record) -> float:
    """Return the share of decisions whose predicted direction came true."""
    return float((predicts_rise(record.probabilities) == record.labels).mean())


def accuracy_text(record: Record) -> str:
    """Describe the accuracy with its interval, and that of always predicting the more frequent class."""
    bars = record.bar_numbers() if len(record.symbols) else None
    overlap = record.overlap_bars()
    found = bootstrap_intervals(record.labels, record.probabilities, SEED, bar_numbers=bars, overlap_bars=overlap)
    right = found["accuracy"]
    rises = float(record.labels.mean())
    majority = "" if len(record.symbols) else f"; the more frequent class {percent(max(rises, 1 - rises))}"
    return f"accuracy {percent(right.value)} [{100 * right.low:.1f}, {100 * right.high:.1f}]{majority}"


def loss_text(record: Record, windows: Windows, folds: tuple[Fold, ...]) -> str:
    """Describe log loss minus that of the base rate of each fold's training windows."""
    base = predict_folds(windows, folds, lambda learned, test: predict_baseline("base_rate", windows, learned, test, 0))
    paired = compare_losses(record, base.probabilities, SEED)
    return f"log loss minus base rate {paired.mean:+.4f} [{paired.low:+.4f}, {paired.high:+.4f}]"


def net_text(record: Record, bars: Bars) -> str:
    """Describe what trading the record earns net of costs, vs. buy-and-hold."""
    found = trade(record, bars, COSTS, SEED)
    ours, held = found.strategy, found.buy_and_hold
    even = ours.break_even_bps
    ahead = sharpe_difference(found, float(YEAR / bars.delta))
    return (
        f"Sharpe {ours.sharpe.value:.2f}, buy-and-hold {held.sharpe.value:.2f}, difference "
        f"{ahead.value:+.2f} [{ahead.low:+.2f}, {ahead.high:+.2f}]; break-even {even.value:.0f} bps "
        f"[{even.low:.0f}, {even.high:.0f}]"
    )


def sharpe_difference(found: TradingResult, bars_a_year: float) -> Interval:
    """Return the annualised Sharpe ratio of a strategy minus that of buy-and-hold, with its 95 % interval."""
    both = np.stack([found.strategy.net_returns, found.buy_and_hold.net_returns])
    n = both.shape[1]

    def difference(counts: Float64[np.ndarray, "resample bar"]) -> Float64[np.ndarray, "resample number"]:
        means = counts @ both.T / n
        deviations = np.sqrt(np.maximum(counts @ np.square(both).T / n - means**2, np.finfo(np.float64).tiny))
        ratios = means / deviations * np.sqrt(bars_a_year)
        return ratios[:, :1] - ratios[:, 1:]

    value = float(difference(np.ones((1, n)))[0, 0])
    blocks = optimal_block_bars(both[0] - both[1])
    return Interval(value, *percentile_bounds(resample(difference, n, blocks, SEED)[:, 0]))


def folds_from(windows: Windows, first: str, count: int) -> FoldSpec:
    """Return a spec whose test is all windows decided from a date on."""
    return FoldSpec(test_bars=int((np.unique(windows.decided_at) >= np.datetime64(first)).sum()), count=count)


def percent(share: float) -> str:
    """Describe a share."""
    return f"{100 * share:.1f} %"

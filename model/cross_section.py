"""Describe each bar of a panel by the other series at the same close: ranks, the market's move, Bitcoin's move.

Five numbers per bar and series, free of the unit of price, so they need no scaling: three ranks among the series
present (-1 lowest, 1 highest), and two moves in multiples of their typical size, which counts them too, so that they
are between -4.5 and 4.5. A series that is not listed yet, or that misses a bar, is left out of the ranks and of the
market at that bar; where nothing is known an entry is 0, its neutral value. Cautions: a rank depends on which series
are present, so serving must see the same panel; bars filled into gaps must not be given, because they exist only where
a later bar does.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64, Int64, Shaped

from model.bars import Bars, interval_delta

CONTEXT = ("rank_of_move", "rank_of_trend", "rank_of_volatility", "market_move", "reference_move")
# Rankings that need no model, by the column whose lowest value they rank highest. Source: Jegadeesh 1990 (reversal);
# Ang, Hodrick, Xing and Zhang 2006 (low volatility).
PLAIN_RANKS = {
    "reversal_1_bar": "rank_of_move",
    "reversal_20_bars": "rank_of_trend",
    "low_volatility": "rank_of_volatility",
}
# What else a baseline knows of a bar; no input of a network.
FURTHER_FACTORS = ("rank_of_momentum", "rank_of_volume", "unusual_move")
TREND_BARS = 20  # own choice: a month of trading days
MIN_TREND_BARS = 10  # own choice: fewer moves say nothing about a typical one
MOMENTUM_BARS = (
    80  # own choice: the moves before those of the trend, as a year without its newest month does for stocks
)
OpenTimes = Mapping[str, Shaped[np.ndarray, " _"]]  # by symbol, datetime64[us], UTC


def cross_section(
    bars: Mapping[str, Bars], reference: str = "", opened_at: OpenTimes | None = None
) -> dict[str, Float64[np.ndarray, "bar 5"]]:
    """Return the context of every bar, by series.

    Args:
        bars: by symbol, oldest first, all of one interval; none filled into a gap.
        reference: symbol whose own move is an input for all, such as `BTC-USD`; its entries are 0 where the panel does
            not hold it.
        opened_at: by symbol, the open times of the rows to return, ascending; None: of its bars. Where the series has
            no bar, a row has no ranks, but the moves of the market and the reference.

    Returns:
        By symbol, shape (bar, 5), float64, columns as in `CONTEXT`, finite: the rank of the close's move from the bar
        before, of the move over 20 bars, and of the typical move (root mean square over 20 bars) among the series that
        have one; the median over series of move / typical move; and that of the reference.

    Time: a row depends on the bars of all series up to its time, and on no later one; a bar counts for the close at
        which it ends, never before.
    Source: own.

    Examples:
        Three series rise by 1, 2 and 3 %: the ranks of their last moves are -1, 0 and 1.

        >>> opened_at = np.datetime64("2024-01-01", "us") + np.arange(2) * np.timedelta64(1, "D")
        >>> moves = {"A": 0.01, "B": 0.02, "C": 0.03}
        >>> bars = {symbol: Bars("1d", opened_at, np.full((2, 5), [[1], [1 + move]])) for symbol, move in moves.items()}
        >>> {symbol: rows[:, 0].tolist() for symbol, rows in cross_section(bars).items()}
        {'A': [0.0, -1.0], 'B': [0.0, 0.0], 'C': [0.0, 1.0]}
    """
    times, rows = _times_and_rows(bars)
    moves = _moves(np.log(_grid(bars, rows, len(times), "close")), times, next(iter(bars.values())).interval)
    typical = _typical_moves(moves)
    unusual = _unusual(moves, typical)
    context = np.zeros((len(times), len(bars), len(CONTEXT)))
    context[:, :, 0] = _ranks(moves)
    context[:, :, 1] = _ranks(_trends(moves))
    context[:, :, 2] = _ranks(typical)
    context[:, :, 3] = _median(unusual)[:, None]
    if reference in bars:
        context[:, :, 4] = np.nan_to_num(unusual[:, list(bars).index(reference)])[:, None]
    return _rows_at(context, times, bars, opened_at)


def further_factors(
    bars: Mapping[str, Bars], opened_at: OpenTimes | None = None
) -> dict[str, Float64[np.ndarray, "bar 3"]]:
    """Return what baselines know of every bar besides `cross_section`, by series.

    Args:
        bars: by symbol, oldest first, all of one interval.
        opened_at: by symbol, the open times of the rows to return, ascending; None: of its bars. Where the series has
            no bar, a row is 0.

    Returns:
        By symbol, shape (bar, 3), float64, columns as in `FURTHER_FACTORS`, finite, 0 where unknown: the rank of the
        move over the 80 bars before the last 20, and of the mean value traded (close times volume) over 20 bars, among
        the series that have one; the close's own move from the bar before in multiples of its typical size.

    Caution: the value traded is right only where the volume of every series is in units of its coin.

    Time: a row depends on the bars of all series up to its time, and on no later one.
    Source: momentum without the newest moves: Jegadeesh and Titman 1993; value traded as size: own.
    """
    import pandas as pd  # imported here: pandas takes a second

    times, rows = _times_and_rows(bars)
    closes, volumes = (_grid(bars, rows, len(times), name) for name in ("close", "volume"))
    moves = _moves(np.log(closes), times, next(iter(bars.values())).interval)
    older = pd.DataFrame(moves).shift(TREND_BARS).rolling(MOMENTUM_BARS, min_periods=MOMENTUM_BARS // 2)
    traded = pd.DataFrame(closes * volumes).rolling(TREND_BARS, min_periods=MIN_TREND_BARS)
    present = np.isfinite(closes)
    found = np.zeros((len(times), len(bars), len(FURTHER_FACTORS)))
    for column, values in enumerate((older.sum(), traded.mean())):
        found[:, :, column] = _ranks(np.where(present, values.to_numpy(dtype=np.float64), np.nan))
    found[:, :, 2] = np.nan_to_num(_unusual(moves, _typical_moves(moves)))
    return _rows_at(found, times, bars, opened_at)


def _times_and_rows(
    bars: Mapping[str, Bars],
) -> tuple[Shaped[np.ndarray, " bar"], dict[str, Int64[np.ndarray, " _"]]]:
    """Return the opening times of all series, and the place of each series' bars among them."""
    times = np.unique(np.concatenate([each.opened_at for each in bars.values()]))
    return times, {symbol: np.searchsorted(times, each.opened_at) for symbol, each in bars.items()}


def _grid(
    bars: Mapping[str, Bars], rows: Mapping[str, Int64[np.ndarray, " _"]], count: int, column: str
) -> Float64[np.ndarray, "bar series"]:
    """Return a column of all series by time; NaN where a series has no bar."""
    grid = np.full((count, len(bars)), np.nan)
    for number, (symbol, each) in enumerate(bars.items()):
        grid[rows[symbol], number] = each.column(column)
    return grid


def _rows_at(
    found: Float64[np.ndarray, "bar series column"],
    times: Shaped[np.ndarray, " bar"],
    bars: Mapping[str, Bars],
    opened_at: OpenTimes | None,
) -> dict[str, Float64[np.ndarray, "_ column"]]:
    """Return the rows of each series at its open times; 0 at a time at which no series has a bar."""
    by_series = {}
    for number, (symbol, each) in enumerate(bars.items()):
        wanted = each.opened_at if opened_at is None else opened_at[symbol]
        rows = np.minimum(np.searchsorted(times, wanted), len(times) - 1)
        by_series[symbol] = np.where((times[rows] == wanted)[:, None], found[rows, number], 0.0)
    return by_series


def _unusual(
    moves: Float64[np.ndarray, "bar series"], typical: Float64[np.ndarray, "bar series"]
) -> Float64[np.ndarray, "bar series"]:
    return np.where(typical > 0, moves / np.where(typical > 0, typical, 1.0), np.nan)


def _moves(
    log_closes: Float64[np.ndarray, "bar series"], times: Shaped[np.ndarray, " bar"], interval: str
) -> Float64[np.ndarray, "bar series"]:
    """Return the log move of each close from the bar before; NaN across a gap and where a close is missing."""
    moves = np.diff(log_closes, axis=0, prepend=np.nan)
    moves[1:][np.diff(times) != interval_delta(interval)] = np.nan
    return moves


def _trends(moves: Float64[np.ndarray, "bar series"]) -> Float64[np.ndarray, "bar series"]:
    """Return the sum of the last moves; NaN with fewer than `MIN_TREND_BARS` of them, or without the newest."""
    return _rolling(moves)[0]


def _typical_moves(moves: Float64[np.ndarray, "bar series"]) -> Float64[np.ndarray, "bar series"]:
    """Return the root mean square of the last moves; NaN with fewer than `MIN_TREND_BARS` of them."""
    sums, known = _rolling(np.square(moves))
    return np.asarray(np.sqrt(sums / np.maximum(known, 1)))


def _rolling(
    values: Float64[np.ndarray, "bar series"],
) -> tuple[Float64[np.ndarray, "bar series"], Float64[np.ndarray, "bar series"]]:
    """Return sum and count of the known values among the last `TREND_BARS`; each window is summed by itself."""
    padded = np.concatenate([np.full((TREND_BARS - 1, values.shape[1]), np.nan), values])
    recent = np.lib.stride_tricks.sliding_window_view(padded, TREND_BARS, axis=0)
    known = np.isfinite(recent).sum(axis=2).astype(np.float64)
    sums = np.nansum(recent, axis=2)
    sums[(known < MIN_TREND_BARS) | np.isnan(values)] = np.nan
    return sums, known


def _ranks(values: Float64[np.ndarray, "bar series"]) -> Float64[np.ndarray, "bar series"]:
    """Return the rank of each known value within its bar from -1 to 1, equal values alike; 0 for unknown ones."""
    import pandas as pd  # imported here: pandas takes a second

    ranks = pd.DataFrame(values).rank(axis=1).to_numpy(dtype=np.float64)
    spread = np.isfinite(values).sum(axis=1, keepdims=True) - 1
    return np.asarray(np.nan_to_num(2 * (ranks - 1) / np.maximum(spread, 1) - (spread > 0)))


def _median(values: Float64[np.ndarray, "bar series"]) -> Float64[np.ndarray, " bar"]:
    """Return the median of the known values of each bar; 0 where there is none."""
    known = np.isfinite(values).any(axis=1)
    medians = np.zeros(len(values))
    medians[known] = np.nanmedian(values[known], axis=1)
    return medians

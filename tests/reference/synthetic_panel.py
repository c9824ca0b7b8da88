"""Random walks of six coins, for tests of panels, with folds that fit them."""

from synthetic_bars import random_walk

from model.bars import Bars
from model.folds import FoldSpec

SYMBOLS = tuple("ABCDEF")
FOLDS = FoldSpec(test_bars=40, count=2)


def panel_bars(count: int = 200, **listed_later: int) -> dict[str, Bars]:
    """Return random walks of six coins; a coin given by name starts that many bars later."""
    bars = {symbol: random_walk(count, seed=number) for number, symbol in enumerate(SYMBOLS)}
    for symbol, first in listed_later.items():
        bars[symbol] = Bars(bars[symbol].interval, bars[symbol].opened_at[first:], bars[symbol].ohlcv[first:])
    return bars

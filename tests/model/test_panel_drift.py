"""Drift of a panel: closes are counted, not coins; rates of alarms over simulated years of clustered volatility."""

from collections.abc import Iterator

import numpy as np
import pytest
from synthetic_bars import garch_bars

from model.bars import Bars
from model.drift import Drift, bar_properties, compare_with_references, drift_references, measure_drift
from model.errors import SpecError
from model.panel_drift import counted_closes, mean_properties, measure_panel_drift

RECENT, SLACK, LEVEL = 120, 1.3, 3.0  # the defaults of MonitorSpec
TRAINED, YEAR, COINS = 1500, 250, 20


def first(bars: Bars, count: int, start: int = 0) -> Bars:
    return Bars(bars.interval, bars.opened_at[start:count], bars.ohlcv[start:count])


def scaled(bars: Bars, factor: float) -> Bars:
    return Bars(bars.interval, bars.opened_at, bars.ohlcv * factor)


def blended(market: Bars, own: Bars, share: float) -> Bars:
    """Return bars whose log moves are a mix of the market's and their own; `share` is the squared correlation."""
    ours, theirs = (np.diff(np.log(each.column("close"))) for each in (own, market))
    close = 100 * np.exp(np.concatenate([[0.0], np.cumsum(np.sqrt(share) * theirs + np.sqrt(1 - share) * ours)]))
    opened = np.concatenate([close[:1], close[:-1]])
    high = np.maximum(opened, close) * own.column("high") / np.maximum(own.column("open"), own.column("close"))
    low = np.minimum(opened, close) * own.column("low") / np.minimum(own.column("open"), own.column("close"))
    return Bars("1d", own.opened_at, np.stack([opened, high, low, close, np.ones(len(own))], axis=1))


def panel(
    rng: np.random.Generator, share: float, scale: np.ndarray | float = 1.0, count: int = TRAINED + YEAR
) -> dict[str, Bars]:
    """Return twenty coins whose moves follow the market by a share of their variance."""
    market = garch_bars(count, rng, scale=scale)
    return {f"C{k}": blended(market, garch_bars(count, rng, scale=scale), share) for k in range(COINS)}


def looks(bars: dict[str, Bars]) -> Iterator[tuple[Drift, ...]]:
    """Yield the drift at each tenth close of the year after the training, where each close promotes a new champion."""
    for end in range(TRAINED + 10, TRAINED + YEAR + 1, 10):
        now = {symbol: first(each, end) for symbol, each in bars.items()}
        yield measure_panel_drift(now, now["C0"].closed_at[-1], RECENT, SLACK, LEVEL)


def drifts(found: tuple[Drift, ...]) -> bool:
    return any(each.drifted for each in found if each.name != "level")


def test_copies_of_one_coin_drift_exactly_as_that_coin_does() -> None:
    """At other prices, and whether or not the champion was trained until yesterday."""
    bars = garch_bars(700, np.random.default_rng(3))
    copies = {f"C{k}": scaled(bars, 1.5**k) for k in range(10)}
    for until in (399, 650, 699):
        end = min(until, 700 - RECENT - 1)
        single = measure_drift(first(bars, end + 1), bars, RECENT, SLACK, LEVEL)
        found = measure_panel_drift(copies, bars.closed_at[until], RECENT, SLACK, LEVEL)
        assert [each.name for each in found] == ["move", "move size", "range", "level"]
        for ours, theirs in zip(found, single, strict=True):
            for name in ("ks", "ks_limit", "psi", "psi_limit"):
                assert getattr(ours, name) == pytest.approx(getattr(theirs, name), nan_ok=True), (ours.name, name)
            assert ours.drifted == theirs.drifted


def test_a_mean_over_coins_each_in_its_own_unit_by_hand() -> None:
    """A coin with tenfold moves weighs as much as the other; a coin listed late is left out, and changes nothing."""
    rng = np.random.default_rng(4)
    calm, wild = garch_bars(500, rng), garch_bars(500, rng, scale=10.0)
    late = first(garch_bars(500, rng), 500, start=420)
    two = {"A": calm, "B": wild}
    found, with_late = (
        measure_panel_drift(each, calm.closed_at[-1], RECENT, SLACK, LEVEL)[:3] for each in (two, two | {"C": late})
    )
    assert found == with_late
    sizes = []
    for each in (calm, wild):
        size = np.abs(np.diff(np.log(each.column("close"))))
        sizes.append(size / np.median(size[: 499 - RECENT]))
    mean = np.mean(sizes, axis=0)
    reference, recent = np.sort(mean[:-RECENT]), np.sort(mean[-RECENT:])
    points = np.concatenate([reference, recent])
    shares = [np.searchsorted(each, points, side="right") / len(each) for each in (reference, recent)]
    assert found[1].ks == pytest.approx(np.abs(shares[0] - shares[1]).max(), abs=1e-12)


def test_scaled_prices_of_all_coins_are_a_drift_and_of_one_coin_are_not() -> None:
    bars = panel(np.random.default_rng(5), 0.5, count=700)
    factors = np.where(np.arange(700) < 690, 1.0, 100.0)[:, None]
    jumped = {symbol: Bars("1d", each.opened_at, each.ohlcv * factors) for symbol, each in bars.items()}
    at = bars["C0"].closed_at[-1]
    for found, expected in ((jumped, True), (bars | {"C0": jumped["C0"]}, False)):
        assert measure_panel_drift(found, at, RECENT, SLACK, LEVEL)[-1].drifted is expected


def test_a_close_with_few_series_does_not_count_and_too_few_closes_are_refused() -> None:
    bars = panel(np.random.default_rng(6), 0.5, count=500)
    at = bars["C0"].closed_at[-1]
    behind = {symbol: first(each, 500 if k < 9 else 499) for k, (symbol, each) in enumerate(bars.items())}
    before = {symbol: first(each, 499) for symbol, each in bars.items()}
    found, expected = (measure_panel_drift(each, at, RECENT, SLACK, LEVEL)[:3] for each in (behind, before))
    assert found == expected  # nine of twenty have the newest close
    with pytest.raises(SpecError, match=r"expected 240 training closes and 120 newer ones .* found 179 and 120"):
        measure_panel_drift({symbol: first(each, 300) for symbol, each in bars.items()}, at, RECENT, SLACK, LEVEL)
    ended = {symbol: first(each, 500 if k < 8 else 400) for k, (symbol, each) in enumerate(bars.items())}
    rest = {symbol: bars[symbol] for k, symbol in enumerate(bars) if k < 8}
    assert len(counted_closes(ended)) == 499 - 3  # three bars pass before the twelve count as ended
    assert [each.drifted for each in measure_panel_drift(ended, at, RECENT, SLACK, LEVEL)] == [False] * 4
    levels = [measure_panel_drift(each, at, 50, SLACK, LEVEL)[-1].psi for each in (ended, rest)]
    assert levels[0] == levels[1]
    with pytest.raises(SpecError, match=r"found 109 and 120"):  # and not none: no series has a unit yet
        measure_panel_drift({symbol: first(each, 230) for symbol, each in bars.items()}, at, RECENT, SLACK, LEVEL)


@pytest.mark.e2e  # a hundred and twenty years of twenty coins
@pytest.mark.parametrize("share", [0.0, 0.6], ids=["independent", "correlated"])
def test_years_of_clustered_volatility_rarely_drift(share: float) -> None:
    """Stated rate, that of a single series: at most one year of 250 days in ten with a drift alarm.

    Coins that all do the same have the rate of one coin: see the test of copies.
    """
    rng = np.random.default_rng(7)
    years = []
    for _ in range(60):
        bars = panel(rng, share)
        means = mean_properties(bars, counted_closes(bars), bars["C0"].closed_at[TRAINED - 1])
        years.append(drifts_within_the_year(means))
    assert np.mean(years) <= 0.1


def drifts_within_the_year(found: dict[str, np.ndarray]) -> bool:
    """Return whether a comparison in the year after the training, one each tenth close, finds a drift."""
    references = drift_references({name: each[: TRAINED - 1] for name, each in found.items()}, RECENT, SLACK)
    newest = (
        {name: each[: end - 1] for name, each in found.items()} for end in range(TRAINED + 10, TRAINED + YEAR + 1, 10)
    )
    return any(each.drifted for values in newest for each in compare_with_references(references, values))


@pytest.mark.e2e
@pytest.mark.parametrize("share", [0.0, 0.6], ids=["independent", "correlated"])
def test_doubled_volatility_is_found_within_the_year_although_each_day_promotes(share: float) -> None:
    rng = np.random.default_rng(8)
    scale = np.where(np.arange(TRAINED + YEAR) < TRAINED, 1.0, 2.0)
    assert np.mean([any(map(drifts, looks(panel(rng, share, scale)))) for _ in range(5)]) >= 0.7


@pytest.mark.e2e
def test_a_test_for_each_coin_would_raise_many_alarms() -> None:
    rng = np.random.default_rng(9)
    years = [any(drifts_within_the_year(bar_properties(each)) for each in panel(rng, 0.0).values()) for _ in range(5)]
    assert np.mean(years) >= 0.5

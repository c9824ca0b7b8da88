"""Bars from exchanges: the real ccxt client against a real HTTP server, with and without faults."""

from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from loopback_exchange import Fault, LoopbackExchange, Rows
from misbehaviours import CHANGES, FAULTS
from synthetic_bars import random_walk

from model.bar_resampling import resample_bars
from model.bars import Bars, bars_from_frame
from model.errors import SourceUnavailable, SpecError
from tasks.sources.exchange_client import RetryRule
from tasks.sources.exchange_source import ExchangeSource, label_agreement
from tasks.sources.source_spec import SourceBars, SourceSpec, open_cross_check, open_source, require_readable

QUICK = RetryRule(attempts=4, first_delay_seconds=0.02, longest_delay_seconds=2, timeout_seconds=0.7)
START = "2018-01-01"
FILES = Path(__file__).parents[5] / "shared" / "data"


def spec_of(exchange: LoopbackExchange, name: str = "coinbase", **more: str) -> SourceSpec:
    fields = {"backfill_from": START, "base_url": exchange.base_url, "exchange": name, **more}
    return SourceSpec(kind="exchange", **fields)  # type: ignore[arg-type]


def fetch(spec: SourceSpec, since: datetime | None = None) -> SourceBars:
    return ExchangeSource(spec, QUICK).fetch(since)


def require_equal(bars: SourceBars, expected: Bars) -> None:
    received = bars_from_frame(bars.frame, expected.interval)
    np.testing.assert_array_equal(received.opened_at, expected.opened_at)
    np.testing.assert_array_equal(received.ohlcv, expected.ohlcv)


def part(bars: Bars, start: int, stop: int | None = None) -> Bars:
    return Bars(bars.interval, bars.opened_at[start:stop], bars.ohlcv[start:stop])


def utc(moment: np.datetime64) -> datetime:
    return moment.astype("datetime64[us]").astype(datetime).replace(tzinfo=UTC)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("name", "reach"), [("coinbase", 1000), ("binance", 1000), ("kraken", 720)])
def test_each_exchange_returns_every_closed_bar(
    name: str, reach: int, exchange: LoopbackExchange, day_bars: Bars
) -> None:
    source = ExchangeSource(spec_of(exchange, name), QUICK)
    bars = source.fetch()
    require_equal(bars, part(day_bars, len(day_bars) - reach, -1))
    assert source.default_as_of() == utc(exchange.now)
    assert bars.layout["source"] == name
    assert bars.layout["volume unit"] == "base"
    if name == "kraken":
        assert "kraken has no bar before" in bars.layout["notes"]


def test_fetching_since_a_time_requests_no_more(exchange: LoopbackExchange, day_bars: Bars) -> None:
    bars = fetch(spec_of(exchange), utc(day_bars.opened_at[-30]))
    require_equal(bars, part(day_bars, -30, -1))
    assert exchange.candles_asked() == 1


def test_without_a_date_three_thousand_bars_are_fetched(exchange: LoopbackExchange) -> None:
    exchange.now = exchange.series["1m"].opened_at[-1] + np.timedelta64(20, "s")
    bars = fetch(spec_of(exchange, "binance", interval="1m", backfill_from=""))
    require_equal(bars, part(exchange.series["1m"], 5_000 - 3_001, -1))


def test_pages_are_reported(exchange: LoopbackExchange, day_bars: Bars) -> None:
    pages: list[tuple[datetime, datetime, datetime]] = []
    source = open_source(spec_of(exchange), on_page=lambda *moments: pages.append(moments))
    source.fetch(utc(day_bars.opened_at[0]))
    reached = [moment for _, moment, _ in pages]
    assert len(pages) >= 4
    assert reached == sorted(reached)
    assert {(start, end) for start, _, end in pages} == {(utc(day_bars.opened_at[0]), utc(exchange.now))}
    assert reached[-1] == utc(exchange.now)


@pytest.mark.parametrize(
    ("fault", "name"),
    [*((fault, "binance") for fault in FAULTS), ("HTML instead of JSON", "coinbase"), ("500 as JSON", "coinbase")],
)
def test_transient_faults_are_retried(fault: str, name: str, exchange: LoopbackExchange, day_bars: Bars) -> None:
    exchange.faults[name] = deque([FAULTS[fault], FAULTS[fault]])
    bars = fetch(spec_of(exchange, name), utc(day_bars.opened_at[-250]))
    require_equal(bars, part(day_bars, -250, -1))
    assert bars.layout["retries"] == "2"


@pytest.mark.parametrize(
    "fault", [pytest.param(each, marks=[pytest.mark.e2e] if each == "slow" else []) for each in FAULTS]
)
def test_lasting_faults_are_an_error_with_the_reason(fault: str, exchange: LoopbackExchange, day_bars: Bars) -> None:
    exchange.faults["binance"] = deque([FAULTS[fault]] * 20)
    with pytest.raises(SourceUnavailable, match="found none in 4 attempts; last: ") as caught:
        fetch(spec_of(exchange, "binance"), utc(day_bars.opened_at[-250]))
    assert "binance: bars BTC/USD 1d from" in str(caught.value)
    assert exchange.candles_asked() == 4


def test_kraken_errors_inside_a_response_are_retried(exchange: LoopbackExchange, day_bars: Bars) -> None:
    exchange.faults["kraken"] = deque([Fault(body='{"error": ["EService:Unavailable"]}')])
    require_equal(fetch(spec_of(exchange, "kraken"), utc(day_bars.opened_at[-50])), part(day_bars, -50, -1))


def test_retry_after_is_respected(exchange: LoopbackExchange, day_bars: Bars, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tasks.sources.exchange_client.time", SimpleNamespace(sleep=waits.append))
    exchange.faults["binance"] = deque([Fault(status=429, headers={"Retry-After": "1"}, body="{}")])
    ExchangeSource(spec_of(exchange, "binance"), QUICK).fetch(utc(day_bars.opened_at[-50]))
    assert waits == [1.0]


def test_a_wait_above_the_limit_is_an_error(exchange: LoopbackExchange, day_bars: Bars) -> None:
    exchange.faults["binance"] = deque([Fault(status=429, headers={"Retry-After": "3600"}, body="{}")])
    with pytest.raises(SourceUnavailable, match="it demands a wait of 3600 s, the limit is 2 s"):
        fetch(spec_of(exchange, "binance"), utc(day_bars.opened_at[-50]))


def test_a_refusal_is_not_retried(exchange: LoopbackExchange, day_bars: Bars) -> None:
    exchange.faults["binance"] = deque([Fault(status=403, body='{"code": -1, "msg": "Not from there."}')] * 9)
    with pytest.raises(SourceUnavailable, match=r"refused, HTTP 403.*Not from there"):
        fetch(spec_of(exchange, "binance"), utc(day_bars.opened_at[-50]))
    assert exchange.candles_asked() == 1


def test_an_exchange_that_does_not_answer(exchange: LoopbackExchange) -> None:
    exchange.always["coinbase"] = Fault(closes=True)
    with pytest.raises(SourceUnavailable, match="coinbase: markets: expected an answer, found none in 4 attempts"):
        fetch(spec_of(exchange))


@pytest.mark.parametrize(
    ("change", "name"), [*((change, "binance") for change in CHANGES), ("holes", "coinbase"), ("no bars", "coinbase")]
)
def test_a_faulty_page_is_corrected(change: str, name: str, exchange: LoopbackExchange, day_bars: Bars) -> None:
    exchange.faults[name] = deque([Fault(change=CHANGES[change])])
    require_equal(fetch(spec_of(exchange, name)), part(day_bars, 0, -1))


def test_a_bar_of_the_future_does_not_end_the_fetch() -> None:
    """Of five pages; before, the fetch continued after that bar, and returned two."""
    bars = random_walk(2_500, seed=5)

    def with_the_future(rows: Rows) -> Rows:
        return [*rows[:-1], (rows[-1][0] + 4_000 * 86_400, *rows[-1][1:])]

    with LoopbackExchange({"1d": bars}, bars.opened_at[-1] + np.timedelta64(5, "h")).running() as exchange:
        exchange.faults["binance"] = deque([Fault(change=with_the_future)])
        require_equal(fetch(spec_of(exchange, "binance")), part(bars, 0, -1))


def test_overlapping_pages_give_each_bar_once(exchange: LoopbackExchange, day_bars: Bars) -> None:
    def with_the_past(rows: Rows) -> Rows:
        return [*exchange.rows("1d")[:700], *rows]

    exchange.faults["binance"] = deque([Fault(), Fault(change=with_the_past)])
    require_equal(fetch(spec_of(exchange, "binance")), part(day_bars, 0, -1))


def test_bars_that_do_not_exist_stay_absent(exchange: LoopbackExchange, day_bars: Bars) -> None:
    present = np.setdiff1d(np.arange(len(day_bars)), [*range(100, 560), 700])
    thin = Bars("1d", day_bars.opened_at[present], day_bars.ohlcv[present])
    exchange.series["1d"] = thin
    bars = fetch(spec_of(exchange))
    require_equal(bars, part(thin, 0, -1))
    assert bars.layout["notes"] == "2 gaps, 0 of them closed by fetching them again"


def test_the_unfinished_bar_is_dropped_until_it_has_closed(exchange: LoopbackExchange, day_bars: Bars) -> None:
    since = utc(day_bars.opened_at[-20])
    require_equal(fetch(spec_of(exchange), since), part(day_bars, -20, -1))
    exchange.now = day_bars.opened_at[-1] + np.timedelta64(24, "h")
    require_equal(fetch(spec_of(exchange), since), part(day_bars, -20))


@pytest.mark.parametrize("error_seconds", [-7200, 40 * 86_400])
def test_a_wrong_clock_admits_no_unfinished_bar(error_seconds: int, exchange: LoopbackExchange, day_bars: Bars) -> None:
    exchange.clock_error_seconds = error_seconds
    require_equal(fetch(spec_of(exchange), utc(day_bars.opened_at[-20])), part(day_bars, -20, -1))


def test_a_clock_ahead_of_the_date_of_its_response_is_ignored(exchange: LoopbackExchange, day_bars: Bars) -> None:
    source = ExchangeSource(spec_of(exchange), QUICK)
    exchange.clock_error_seconds = 10**6
    source.fetch(utc(day_bars.opened_at[-20]))
    assert source.default_as_of() == utc(exchange.now)


def test_a_revised_bar_is_fetched_again(exchange: LoopbackExchange, day_bars: Bars) -> None:
    since = utc(day_bars.opened_at[-20])
    before = fetch(spec_of(exchange), since)
    revised = Bars("1d", day_bars.opened_at, day_bars.ohlcv.copy())
    revised.ohlcv[-5, 3] *= 1.0001
    exchange.series["1d"] = revised
    after = fetch(spec_of(exchange), since)
    require_equal(after, part(revised, -20, -1))
    assert int((before.frame["close"] != after.frame["close"]).sum()) == 1


@pytest.mark.parametrize(("interval", "made_from"), [("4h", "2h"), ("8h", "2h"), ("12h", "6h")])
def test_a_missing_interval_is_made_from_a_shorter_one(
    interval: str, made_from: str, exchange: LoopbackExchange
) -> None:
    hours = exchange.series["1h"]
    exchange.series["6h"] = resample_bars(hours, "6h")
    exchange.now = hours.opened_at[-1] - np.timedelta64(150, "m")
    bars = fetch(spec_of(exchange, interval=interval))
    expected = resample_bars(hours, interval).closed_by(exchange.now)
    received = bars_from_frame(bars.frame, interval)
    np.testing.assert_array_equal(received.opened_at, expected.opened_at)
    np.testing.assert_allclose(received.ohlcv, expected.ohlcv, rtol=1e-12)
    assert f"made from {made_from}" in bars.layout["bars"]


@pytest.mark.parametrize(("published", "newest"), [(5, 18), (6, 0), (7, 0)])
def test_a_bar_made_from_shorter_ones_waits_for_its_last_part(
    published: int, newest: int, exchange: LoopbackExchange
) -> None:
    """At 06:00:20 the newest published hour is 04:00, 05:00, or the unfinished 06:00."""
    hours = exchange.series["1h"]
    day = hours.opened_at[20 * 24]
    exchange.now = day + np.timedelta64(6 * 3600 + 20, "s")
    exchange.series["1h"] = part(hours, 0, 20 * 24 + published)
    bars = bars_from_frame(fetch(spec_of(exchange, "kraken", interval="6h")).frame, "6h")
    expected = resample_bars(part(hours, 0, 20 * 24 + (6 if newest == 0 else 0)), "6h")
    np.testing.assert_array_equal(bars.opened_at, expected.opened_at)
    np.testing.assert_allclose(bars.ohlcv, expected.ohlcv, rtol=1e-12)
    assert bars.opened_at[-1].astype("datetime64[h]").astype(int) % 24 == newest


def test_an_hour_without_a_trade_keeps_the_bar_made_from_the_others(exchange: LoopbackExchange) -> None:
    hours = exchange.series["1h"]
    exchange.now = hours.opened_at[20 * 24 + 6] + np.timedelta64(20, "s")
    traded = np.delete(np.arange(20 * 24 + 7), 20 * 24 + 5)  # none from 05:00 to 06:00, the next one after 06:00
    exchange.series["1h"] = thin = Bars("1h", hours.opened_at[traded], hours.ohlcv[traded])
    bars = bars_from_frame(fetch(spec_of(exchange, "kraken", interval="6h")).frame, "6h")
    np.testing.assert_allclose(bars.ohlcv, resample_bars(part(thin, 0, -1), "6h").ohlcv, rtol=1e-12)


def test_the_first_bar_made_from_shorter_ones_is_whole(exchange: LoopbackExchange) -> None:
    """Kraken serves 720 hours: the oldest, 21:00, is the fourth of its six."""
    hours = exchange.series["1h"]
    exchange.now = hours.opened_at[-4] + np.timedelta64(20, "m")
    assert hours.opened_at[len(hours) - 3 - 720].astype("datetime64[h]").astype(int) % 24 == 21
    bars = bars_from_frame(fetch(spec_of(exchange, "kraken", interval="6h")).frame, "6h")
    expected = resample_bars(hours, "6h").closed_by(exchange.now)
    expected = part(expected, len(expected) - len(bars))
    np.testing.assert_array_equal(bars.opened_at, expected.opened_at)
    np.testing.assert_allclose(bars.ohlcv, expected.ohlcv, rtol=1e-12)
    assert bars.opened_at[0] == hours.opened_at[len(hours) - 3 - 720] + np.timedelta64(3, "h")


def test_fail_over_reports_the_agreement_of_both_exchanges(exchange: LoopbackExchange, day_bars: Bars) -> None:
    exchange.always["coinbase"] = Fault(status=503, body="<html>down</html>")
    spec = spec_of(exchange, "coinbase,binance")
    known = part(day_bars, 900, 990).frame()
    bars = ExchangeSource(spec, QUICK, known=known).fetch(utc(day_bars.opened_at[800]))
    require_equal(bars, part(day_bars, 800, -1))
    assert bars.layout["source"] == "binance"
    assert "coinbase: markets: expected an answer" in bars.layout["fail-over"]
    assert bars.layout["agreement"] == ("labels agree on 100.0% of 89 bars in common, closes differ by 0.00% (median)")


def test_fail_over_in_the_middle_compares_what_was_received(exchange: LoopbackExchange, day_bars: Bars) -> None:
    exchange.faults["coinbase"] = deque([Fault(), Fault(), *[Fault(status=500, body="{}")] * 20])
    bars = fetch(spec_of(exchange, "coinbase,binance"))
    require_equal(bars, part(day_bars, 0, -1))
    assert "of 599 bars in common" in bars.layout["agreement"]  # two whole pages of 300 were received


def test_all_exchanges_down_names_each(exchange: LoopbackExchange) -> None:
    exchange.always["coinbase"] = exchange.always["binance"] = Fault(closes=True)
    with pytest.raises(SourceUnavailable, match=r"coinbase: markets.*\| binance: markets"):
        fetch(spec_of(exchange, "coinbase,binance"))


def test_a_fail_over_that_lacks_the_symbol_leaves_the_first_exchange_unavailable(exchange: LoopbackExchange) -> None:
    exchange.always["coinbase"] = Fault(closes=True)
    with pytest.raises(SourceUnavailable, match=r"coinbase: markets.*\| .*binance does not trade BTC/EUR"):
        fetch(spec_of(exchange, "coinbase,binance", symbol="BTC-EUR"))
    require_readable(spec_of(exchange, "coinbase,binance", symbol="BTC-EUR"))


def test_an_answer_without_markets_is_no_unknown_symbol(exchange: LoopbackExchange, day_bars: Bars) -> None:
    exchange.always["coinbase"] = Fault(body='{"products": []}')
    with pytest.raises(SourceUnavailable, match="coinbase: expected its spot markets, found none"):
        fetch(spec_of(exchange))
    bars = fetch(spec_of(exchange, "coinbase,binance"), utc(day_bars.opened_at[-20]))
    assert bars.layout["source"] == "binance"


def test_a_misspelt_fail_over_is_refused_before_it_is_needed(exchange: LoopbackExchange) -> None:
    with pytest.raises(SpecError, match="no exchange 'binanse'; similar: binance"):
        require_readable(spec_of(exchange, "coinbase,binanse"))


def test_errors_for_unknown_names_list_similar_ones(exchange: LoopbackExchange) -> None:
    with pytest.raises(SpecError, match=r"no exchange 'coinbse'; similar: coinbase"):
        fetch(spec_of(exchange, "coinbse"))
    with pytest.raises(SpecError, match=r"coinbase does not trade BTC/USDD; similar: BTC/USD, .*it has 3 symbols"):
        fetch(spec_of(exchange, symbol="BTC-USDD"))
    with pytest.raises(SpecError, match=r"expected a date such as 2017-01-01, found 'soon'"):
        fetch(spec_of(exchange, backfill_from="soon"))
    with pytest.raises(SpecError, match=r"found none; set it with --source\.exchange"):
        fetch(spec_of(exchange, " , "))


def test_symbols_may_be_written_in_any_common_form(exchange: LoopbackExchange, day_bars: Bars) -> None:
    for symbol in ("BTC/USD", "btc-usd", "BTC_USD"):
        assert len(fetch(spec_of(exchange, symbol=symbol), utc(day_bars.opened_at[-5]))) == 4


def test_no_closed_bar_is_an_error(exchange: LoopbackExchange) -> None:
    with pytest.raises(SourceUnavailable, match=r"expected bars of BTC/USD 1d from .*, found none"):
        fetch(spec_of(exchange), utc(exchange.now))


def test_an_exchange_can_be_the_second_source(exchange: LoopbackExchange, day_bars: Bars) -> None:
    first = spec_of(exchange, "coinbase", cross_check="exchange:binance")
    second = open_cross_check(first)
    assert second is not None
    require_equal(second.fetch(), part(day_bars, 0, -1))


def test_label_agreement_by_hand() -> None:
    days = pd.date_range("2020-01-01", periods=5, tz="UTC")
    flat = {"open": 1.0, "high": 9.0, "low": 0.5, "volume": 1.0}
    first = bars_from_frame(pd.DataFrame({"timestamp": days, **flat, "close": [1.0, 2, 3, 2, 1]}), "1d")
    second = bars_from_frame(pd.DataFrame({"timestamp": days[1:], **flat, "close": [2.0, 3.3, 2.2, 4]}), "1d")
    agreement = label_agreement(first, second)
    assert agreement.bars == 4
    assert agreement.same_labels == pytest.approx(2 / 3)  # up/up, down/down, down/up
    assert agreement.median_difference == pytest.approx((0.2 / 2.2 + 0.3 / 3.3) / 2)
    assert "fewer than two bars in common" in str(label_agreement(first, part(second, 0, 0)))


@pytest.mark.skipif(not FILES.is_dir(), reason="the collection of bar files is not here")
def test_real_bars_come_through_unchanged(exchange: LoopbackExchange) -> None:
    file = FILES / "btc_usd_daily_yahoo.csv.gz"
    frame = open_source(SourceSpec(kind="csv", path=str(file))).fetch().frame
    bars = bars_from_frame(frame, "1d")
    exchange.series["1d"], exchange.now = bars, bars.opened_at[-1] + np.timedelta64(1, "h")
    require_equal(fetch(spec_of(exchange, "binance", backfill_from="2014-01-01")), part(bars, 0, -1))

"""Files of another coin, currency or quantity than the requested one are refused; other spellings of it are read."""

import re
import time
from pathlib import Path

import pytest

from model.errors import AmbiguousFile, RiseOrFallError, SpecError, UnreadableFile
from tasks.sources.source_spec import SourceBars, SourceSpec, open_source

NAMES = ("open", "high", "low", "close")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bars.csv"


def read(path: Path, content: str, symbol: str = "BTC-USD", **fields: str) -> SourceBars:
    path.write_text(content)
    return open_source(SourceSpec(kind="csv", path=str(path), symbol=symbol, **fields)).fetch()


def of_symbol(found: str, column: str = "symbol") -> str:
    return f"date,{column},open,high,low,close\n2017-09-05,{found},1,2,1,2\n2017-09-06,{found},1,2,1,2\n"


def named(names: list[str]) -> str:
    return f"date,{','.join(names)}\n2017-09-05,{','.join('1212'[: len(names)])}\n"


@pytest.mark.parametrize(
    ("found", "symbol"),
    [
        *((found, "BTC-USD") for found in ("ETHUSDT", "BTC-TRY", "BTCTRY", "BTC/BRL", "BTC-AUD", "BTC_ETH", "ETH-BTC")),
        *((found, "BTC-USD") for found in ("BTCB/USD", "WBTCUSD", "BTCDOM-USD", "btcdom", "eth-usd", "ethusdt")),
        *((found, "BTC-USD") for found in ("dogecoin", "Bitcoin Cash", "Eth/Usd", "KRAKEN:ETHUSD", "ETH:BTC", "TBTC")),
        *((found, "BTC-USD") for found in ("Bitcoin (ETH)", "ETH-PERPETUAL", "BTCUSD_240329", "AAPL.US", "PERP")),
        *((found, "ETH-USD") for found in ("ETHWUSD", "ETH-BTC", "STETH", "eth-try", "BITSTAMP:ETHEUR")),
        ("SOLO-USD", "SOL-USD"),
        ("BTCUSD", "BTC-AUD"),
        ("BRK-A", "BRK-B"),
        *((found, "BTC-USD-2") for found in ("BTC/EUR", "ETHUSD")),
    ],
)
def test_a_file_of_another_symbol_is_refused(found: str, symbol: str, path: Path) -> None:
    with pytest.raises(
        SpecError, match=re.escape(f"expected bars of {symbol}, found {found!r} in column 'symbol'; set")
    ):
        read(path, of_symbol(found), symbol)


@pytest.mark.parametrize(
    ("found", "symbol"),
    [
        *((found, "BTC-USD") for found in ("BINANCE:BTCUSDT", "BTCUSDT.P", "tBTCUSD", "XBTUSD", "XXBTZUSD", "XBT/USD")),
        *((found, "BTC-USD") for found in ("Bitcoin", "bitcoin", "btc", "BTC-USDT-SWAP", "BITSTAMP_SPOT_BTC_USD")),
        *((found, "BTC-USD") for found in ("BTC-USDC", "BTC/FDUSD", "X:BTCUSD", "BTC-USD.CC", "BTC/USD:BTC")),
        *((found, "BTCUSDT") for found in ("BTC/USDT", "BTCUSDT", "BTC")),
        *((found, "BTC-USD") for found in ("BTC-PERPETUAL", "BTC.V", "Bitcoin (BTC)", "Bitcoin USD", "BTCUSD_PERP")),
        ("AAPL.US", "AAPL"),
        ("PERP/USDT", "PERP-USD"),
        ("XETHZEUR", "ETH-EUR"),
        ("Bitcoin Cash", "BCH-USD"),
        ("NASDAQ:AAPL", "AAPL"),
        ("BRK.B", "BRK-B"),
        *((found, "BTC-USD-2") for found in ("BTC/USD", "BTCUSDT", "BTC")),
        ("BTC/USDT", "BTCUSDT-2"),
        ("BTC/USDT", "BTC/USDT:USDT"),
        ("EURUSD=X", "EUR-USD"),
        ("^GSPC", "^GSPC"),
    ],
)
def test_another_spelling_of_the_symbol_is_read(found: str, symbol: str, path: Path) -> None:
    assert len(read(path, of_symbol(found), symbol)) == 2


@pytest.mark.parametrize(
    ("column", "found"),
    [("coin", "ETH"), ("currency", "EUR"), ("quote", "EUR"), ("base", "ETH"), ("base_asset", "ETH")],
)
def test_any_column_of_symbols_can_name_another_series(column: str, found: str, path: Path) -> None:
    with pytest.raises(SpecError, match=f"found {found!r} in column {column!r}"):
        read(path, of_symbol(f"BTCUSD,{found}", f"symbol,{column}"))


def test_a_symbol_of_many_characters_is_refused_at_once(path: Path) -> None:
    start = time.process_time()
    with pytest.raises(SpecError, match="expected bars of BTC-USD, found 'A-A-"):
        read(path, of_symbol("A-" * 30_000))
    assert time.process_time() - start < 1


def test_columns_of_the_base_and_of_the_quote_are_read(path: Path) -> None:
    assert len(read(path, of_symbol("BTC,USD", "base_currency,quote_currency"))) == 2
    content = "date,base,quote,open,high,low,close\n2017-09-05,BTC,17.5,1,2,1,2\n2017-09-06,BTC,17.6,1,2,1,2\n"
    assert len(read(path, content)) == 2


def test_a_further_column_of_symbols_is_read_and_one_of_numbers_left_out(path: Path) -> None:
    content = (
        "date,symbol,market_dominance,open,high,low,close\n2017-09-05,BTC,0.5,1,2,1,2\n2017-09-06,BTC,0.6,1,2,1,2\n"
    )
    assert len(read(path, content)) == 2
    several = "date,market,coin,open,high,low,close\n2017-09-05,spot,BTC,1,2,1,2\n2017-09-05,spot,ETH,3,4,3,4\n"
    assert read(path, several, "ETH-USD").frame["close"].tolist() == [4]
    with pytest.raises(AmbiguousFile, match="found 2 symbols in column 'coin', none of them SOL-USD"):
        read(path, several, "SOL-USD")


def test_a_column_of_venues_names_no_series(path: Path) -> None:
    assert len(read(path, of_symbol("Binance,spot,BTCUSDT", "market,product,symbol"))) == 2


@pytest.mark.parametrize("pair", ["ETHBTC", "eth-try"])
def test_none_of_several_symbols_is_the_requested_one(pair: str, path: Path) -> None:
    content = "date,symbol,open,high,low,close\n" + "".join(f"2017-09-05,{each},1,2,1,2\n" for each in (pair, "LTCUSD"))
    with pytest.raises(AmbiguousFile, match="found 2 symbols in column 'symbol', none of them ETH-USD"):
        read(path, content, "ETH-USD")


@pytest.mark.parametrize(
    "name", ["WBTC_{}", "PEPE {}", "{}_satoshi", "log_{}", "{} (thousands)", "{}_z", "Bitcoin Cash {}"]
)
def test_columns_named_after_something_else_are_refused_unless_they_are_chosen(name: str, path: Path) -> None:
    content = named([name.format(each) for each in NAMES])
    with pytest.raises(RiseOrFallError, match=r"expected .*of BTC-USD, found .*--source\.columns"):
        read(path, content)
    assert len(read(path, content, columns="open=2,high=3,low=4,close=5")) == 1


@pytest.mark.parametrize("name", ["{}_TRY", "BTCBRL {}", "{} (AUD)"])
def test_columns_of_another_currency_are_refused(name: str, path: Path) -> None:
    with pytest.raises(SpecError, match=r"expected prices of BTC-USD, found (TRY|BRL|AUD) in the names of the columns"):
        read(path, named([name.format(each) for each in NAMES]))


def test_one_column_of_another_currency_is_refused(path: Path) -> None:
    with pytest.raises(SpecError, match="found EUR in the names of the columns, such as 'close_EUR'"):
        read(path, named(["open", "high", "low", "close_EUR"]))


@pytest.mark.parametrize(
    "name", ["{} (USDT)", "Bitcoin {}", "price_{}", "1. {}", "1a. {} (USD)", "binance_btc_{}", "{}.x"]
)
def test_neutral_words_in_the_names_of_columns_are_read(name: str, path: Path) -> None:
    assert len(read(path, named([name.format(each) for each in NAMES]))) == 1


@pytest.mark.parametrize(
    "close",
    [
        *("next_close", "close_yesterday", "predicted close", "close_diff", "prev_close", "close_pct", "close_lag1"),
        *("last close", "close_t-1", "close_t+1", "close(-1)", "close_forecast", "52w close", "pre close", "close_z"),
    ],
)
def test_a_column_of_another_close_is_not_the_close(close: str, path: Path) -> None:
    with pytest.raises(SpecError, match=r"expected a column of the close of BTC-USD, found only .*'close=") as caught:
        read(path, named(["open", "high", "low", close]))
    assert repr(close) in str(caught.value)
    both = read(path, f"date,{close},open,high,low,close\n2017-09-05,7,1,2,1,2\n")
    assert both.frame["close"].tolist() == [2]


@pytest.mark.parametrize("name", ["next_date", "previous date", "expiry_date", "date_lag1"])
def test_a_column_of_another_time_is_not_the_time(name: str, path: Path) -> None:
    with pytest.raises(UnreadableFile, match="expected a column of times, found"):
        read(path, named(list(NAMES)).replace("date", name))
    both = read(path, f"{name},date,open,high,low,close\n2017-09-08,2017-09-05,1,2,1,2\n")
    assert str(both.frame["timestamp"][0].date()) == "2017-09-05"


def test_two_columns_of_one_name_are_ambiguous(path: Path) -> None:
    with pytest.raises(AmbiguousFile, match=r"'close' and 'close\.1' could each be the close"):
        read(path, "date,open,high,low,close,close.1\n2017-09-05,1,2,1,2,3\n")


def test_close_last_is_the_close(path: Path) -> None:
    assert read(path, "Date,Close/Last,Volume,Open,High,Low\n09/15/2017,2,9,1,2,1\n").frame["close"].tolist() == [2]


def test_a_missing_price_is_still_named(path: Path) -> None:
    with pytest.raises(UnreadableFile, match="missing low among"):
        read(path, named(["open", "high", "close"]))

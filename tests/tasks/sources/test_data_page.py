"""The table of docs/data.md lists what reading each file gives: it is made from the files and compared with them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from model.bars import interval_delta
from model.errors import AmbiguousFile
from tasks.sources.source_spec import SourceSpec, open_source

ROOT = Path(__file__).parents[3]
FILES = ROOT.parent / "shared" / "data"
PAGE = ROOT / "docs" / "data.md"


@dataclass(frozen=True)
class Row:
    """One file, the options it needs, and a remark that does not come from reading."""

    file: str
    interval: str
    remark: str
    symbol: str = "BTC-USD"
    timezone: str = ""

    def options(self) -> str:
        return "--source.timezone " + self.timezone if self.timezone else "none"


ROWS = (
    Row("btc_usd_daily_yahoo.csv.gz", "1d", "no gap, no bad bar; volume in USD, though nothing in the file says so"),
    Row("btc_usd_daily_bitstamp_long.csv.gz", "1d", "low of 1.5 on 2016-06-23, high of 15 on 2011-11-25"),
    Row(
        "btc_usd_daily_coinmarketcap.csv.gz",
        "1d",
        "dates such as \"Sep 05, 2017\"; volume is '-' on the oldest 243 days",
    ),
    Row(
        "btc_usd_daily_coinbase.csv.gz",
        "1d",
        "the sample: banner line; low of 0.06 on 2017-04-15; first row a part day",
    ),
    Row(
        "btc_usd_daily_bitstamp.csv.gz",
        "1d",
        "a part-day row before each doubled day; volumes swapped up to 2018-02-27",
    ),
    Row("btc_usd_daily_coindesk.csv.gz", "1d", "dated a day late: only a cross-check shows it"),
    Row("btc_usd_daily_ccdata.csv.gz", "1d", "last row a part day; volume in USD, though nothing in the file says so"),
    Row(
        "btc_usdt_daily_binance_stockindicators.csv.gz",
        "1d",
        "dated a day early: only a cross-check shows it",
        symbol="BTC-USDT",
    ),
    Row("btc_usdt_hourly_binance.parquet", "1h", "hours of exchange maintenance are missing", symbol="BTC-USDT"),
    Row("btc_usd_hourly_bitstamp.csv.gz", "1h", "volumes swapped up to 2020-10-12 08:00"),
    Row("btc_usd_hourly_coinbase.csv.gz", "1h", 'times such as "2019-10-17 09-AM"; one day out of order'),
    Row("btc_usd_hourly_kraken.csv.gz", "1h", "no column names; hours without a trade are left out"),
    Row("btc_usd_30min_gymcrypto.csv.gz", "30m", "columns in the order open, close, high, low"),
    Row("btc_usdt_5min_binance.parquet", "5m", "clean", symbol="BTC-USDT"),
    Row("btc_usdt_1min_binance_2025.parquet", "1m", "clean", symbol="BTC-USDT"),
    Row(
        "btc_usdt_1min_binance_2026.parquet",
        "1m",
        "times are Korean, unmarked: without the option they read as UTC, and only a cross-check shows it",
        symbol="BTC-USDT",
        timezone="Asia/Seoul",
    ),
)


def table_line(row: Row) -> str:
    """Read a file and write its line of the table; the counts are computed by this test."""
    spec = SourceSpec(
        kind="csv",
        path=str(FILES / row.file),
        symbol=row.symbol,
        interval=row.interval,  # type: ignore[arg-type]
        timezone=row.timezone,
    )
    bars = open_source(spec).fetch()
    frame, layout = bars.frame, bars.layout
    times = frame["timestamp"].dt.tz_localize(None).to_numpy()
    unique = np.unique(times)
    expected = int((unique[-1] - unique[0]) / interval_delta(row.interval)) + 1
    body = frame[["open", "close"]]
    absurd = (frame["low"] < 0.3 * body.min(axis=1)) | (frame["high"] > 3 * body.max(axis=1))
    outside = (frame["low"] > body.min(axis=1)) | (frame["high"] < body.max(axis=1))
    cells = (
        f"`{row.file}`",
        layout["kind"],
        row.interval,
        row.options(),
        str(len(bars)),
        "none",
        f"{frame['timestamp'].iloc[0]:%Y-%m-%d %H:%M}",
        f"{frame['timestamp'].iloc[-1]:%Y-%m-%d %H:%M}",
        layout["order"],
        f"{layout['time unit']}, {layout['time format']}",
        layout["volume unit"].split(":")[0],
        str(expected - len(unique)),
        str(len(times) - len(unique)),
        str(int(absurd.sum())),
        str(int(outside.sum())),
        row.remark,
    )
    return "| " + " | ".join(cells) + " |"


@pytest.mark.skipif(not FILES.is_dir(), reason="the collection of bar files is not here")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.file)
def test_the_page_lists_what_reading_gives(row: Row) -> None:
    assert table_line(row) in PAGE.read_text().splitlines()


@pytest.mark.skipif(not FILES.is_dir(), reason="the collection of bar files is not here")
def test_every_file_of_the_collection_is_on_the_page() -> None:
    held = {path.name for path in FILES.iterdir() if path.suffix in {".gz", ".parquet"}}
    assert {name for name in held if not name.startswith("panel_")} == {row.file for row in ROWS}


@pytest.mark.skipif(not FILES.is_dir(), reason="the collection of bar files is not here")
@pytest.mark.parametrize("path", sorted(FILES.glob("panel_*.parquet")), ids=lambda path: path.name)
def test_a_file_of_many_symbols_is_read_by_symbol(path: Path) -> None:
    spec = SourceSpec(kind="csv", path=str(path), symbol="BTC/USDT", interval="1h" if "hourly" in path.name else "1d")
    every = pd.read_parquet(path)
    expected = every[every["symbol"] == "BTC/USDT"].drop(columns="symbol").sort_values("timestamp")
    frame = open_source(spec).fetch().frame
    assert frame["timestamp"].tolist() == expected["timestamp"].tolist()
    assert frame[["open", "high", "low", "close", "volume"]].to_numpy().tolist() == (
        expected[["open", "high", "low", "close", "volume"]].to_numpy().tolist()
    )
    absent = spec.model_copy(update={"symbol": "NONE/USDT"})
    found = rf"found {every['symbol'].nunique()} symbols in column 'symbol', none of them NONE/USDT: "
    with pytest.raises(AmbiguousFile, match=found):
        open_source(absent).fetch()


def test_the_sample_has_the_defects_that_the_page_lists() -> None:
    frame = open_source(SourceSpec()).fetch().frame.set_index("timestamp")
    days = pd.date_range(frame.index[0], frame.index[-1], freq="D")
    missing = days.difference(frame.index)
    assert (missing[0].date().isoformat(), missing[-1].date().isoformat(), len(missing)) == (
        "2019-03-20",
        "2019-03-31",
        12,
    )
    assert frame["low"].idxmin() == pd.Timestamp("2017-04-15", tz="UTC")
    assert frame["low"].min() == 0.06
    flat = (frame["high"] == frame["low"]) & (frame["volume"] == 0)
    still = frame["volume"] == 0
    assert (int(flat.sum()), int(still.sum())) == (37, 38)
    assert int(still[:"2015-04-13"].sum()) == 35

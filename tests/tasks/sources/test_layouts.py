"""Layouts of files of bars: each must give the same four bars."""

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.bars import COLUMNS
from model.errors import AmbiguousFile, SpecError, UnreadableFile
from tasks.sources.source_spec import SourceBars, SourceSpec, open_cross_check, open_source

TIMES = pd.DatetimeIndex(["2017-09-13", "2017-09-14", "2017-09-15", "2017-09-16"], tz="UTC")
OHLCV = np.array(
    [
        [4131.5, 4789.25, 4000.0, 4201.0, 1100.5],
        [4202.0, 4300.0, 3900.0, 3950.5, 2200.0],
        [3951.0, 3960.0, 2900.0, 3700.0, 3300.25],
        [3701.0, 3810.5, 3500.0, 3690.0, 440.0],
    ]
)
BARS = pd.DataFrame({"timestamp": TIMES, **{name: OHLCV[:, at] for at, name in enumerate(COLUMNS[1:])}})
DAYS = [str(time.date()) for time in TIMES]
Write = Callable[..., SourceSpec]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file and return the spec that reads it."""

    def write_file(content: str | bytes, name: str = "bars.csv", **spec: str) -> SourceSpec:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return SourceSpec(kind="csv", path=str(path), **spec)  # type: ignore[arg-type]

    return write_file


def fetch(spec: SourceSpec) -> SourceBars:
    return open_source(spec).fetch()


def rows(times: list[str], order: str = "ohlcv", between: str = ",", extra: str = "") -> list[str]:
    return [
        between.join([time, *(f"{bar['ohlcv'.index(at)]:.2f}" for at in order)]) + extra
        for time, bar in zip(times, OHLCV, strict=True)
    ]


def text(header: str, lines: list[str]) -> str:
    return "\n".join([header, *lines]) + "\n"


def unix(scale: int) -> list[str]:
    return [str(int(time.timestamp()) * scale) for time in TIMES]


def shown(style: str) -> list[str]:
    return [time.strftime(style) for time in TIMES]


def european(line: str) -> str:
    return line.replace(".", ",")


PLAIN = text("Date,Open,High,Low,Close,Volume", rows(DAYS))
HEADED = "date,open,high,low,close,volume"
LAYOUTS = {
    "plain": PLAIN,
    "windows line ends": PLAIN.replace("\n", "\r\n"),
    "byte order mark": "\ufeff" + PLAIN,
    "no newline at the end": PLAIN.rstrip(),
    "adjusted close too": text("Date,Open,High,Low,Close,Adj Close,Volume", rows(DAYS, "ohlccv")),
    "newest first": text(HEADED, rows(DAYS)[::-1]),
    "out of order": text(HEADED, [rows(DAYS)[at] for at in (0, 2, 1, 3)]),
    "banner": "Created on 10-17-2019,https://example.org\n" + PLAIN,
    "blank lines": "\n\n" + PLAIN.replace("\n", "\n\n"),
    "other order": text("Date,BTC.open,BTC.close,BTC.high,BTC.low,BTC.volume", rows(DAYS, "ochlv")),
    "semicolons, decimal commas": text(HEADED.replace(",", ";"), [european(line) for line in rows(DAYS, between=";")]),
    "tabs, angle brackets": text("<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<VOL>", rows(DAYS, between="\t")),
    "date and time of day in two columns": text(
        "<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>", rows([f"{day},00:00" for day in DAYS])
    ),
    "unix seconds": text("unix,open,high,low,close,volume", rows(unix(1))),
    "unix milliseconds": text("Open time,open,high,low,close,volume", rows(unix(10**3))),
    "unix microseconds": text("timestamp,open,high,low,close,volume", rows(unix(10**6))),
    "unix nanoseconds": text("timestamp,open,high,low,close,volume", rows(unix(10**9))),
    "unix seconds as decimals": text("time,open,high,low,close,volume", rows([f"{time}.0" for time in unix(1)])),
    "seconds, then milliseconds": text("unix,open,high,low,close,volume", rows(unix(1)[:2] + unix(10**3)[2:])),
    "unix and date": text(
        "unix,date,open,high,low,close,volume", rows([f"{u},{d} 00:00:00" for u, d in zip(unix(1), DAYS, strict=True)])
    ),
    "no header, as Kraken": text("", rows(unix(1), extra=",17")).lstrip("\n"),
    "no header, as Binance": text("", rows(unix(10**3), extra=",1505347199999,1.5,9,0.5,0.5,0")).lstrip("\n"),
    "written month": text(HEADED, rows([f'"{day}"' for day in shown("%b %d, %Y")])),
    "long month": text(HEADED, rows(shown("%d %B %Y"))),
    "day first": text(HEADED, rows(shown("%d/%m/%Y"))),
    "month first": text(HEADED, rows(shown("%m/%d/%Y %H:%M"))),
    "dots": text(HEADED, rows(shown("%d.%m.%Y"))),
    "digits": text(HEADED, rows(shown("%Y%m%d"))),
    "digits with clock": text(HEADED, rows(shown("%Y%m%d%H%M%S"))),
    "twelve hours": text(HEADED, rows(shown("%Y-%m-%d %I-%p"))),
    "zone": text(HEADED, rows([f"{day}T00:00:00Z" for day in DAYS])),
    "offset": text(HEADED, rows([f"{day} 09:00:00+09:00" for day in DAYS])),
    "UTC spelt out": text(HEADED, rows([f"{day} 00:00:00 UTC" for day in DAYS])),
    "index column": text("," + HEADED, [f"{at},{line}" for at, line in enumerate(rows(DAYS))]),
    "nameless time": text(",open,high,low,close,volume", rows(DAYS)),
    "row names without a header": text(HEADED, [f"{at},{line}" for at, line in enumerate(rows(DAYS))]),
    "comma at each end": text(HEADED, [line + "," for line in rows(DAYS)]),
    "two volumes": text(
        "date,symbol,open,high,low,close,Volume USD,Volume BTC", rows([f"{d},BTC/USD" for d in DAYS], "ohlccv")
    ),
    "volume without unit and in USD": text("date,open,high,low,close,volume,Volume USD", rows(DAYS, "ohlcvc")),
    "currency signs": text(HEADED, [line.replace(",4", ",$4").replace(",3", ",$3") for line in rows(DAYS)]),
    "exports": text(
        "Currency,Date,Closing Price (USD),24h Open (USD),24h High (USD),24h Low (USD),Vol.",
        rows([f"BTC,{day}" for day in DAYS], "cohlv"),
    ),
    "price is the close": text("Date,Price,Open,High,Low,Vol.,Change %", rows(DAYS, "cohlv", extra=",1.5%")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_gives_the_same_bars(layout: str, write: Write) -> None:
    pd.testing.assert_frame_equal(fetch(write(LAYOUTS[layout])).frame, BARS, check_dtype=False)


def test_the_frame_has_the_columns_and_types_that_were_documented(write: Write) -> None:
    frame = fetch(write(PLAIN)).frame
    assert tuple(frame.columns) == COLUMNS
    assert str(frame["timestamp"].dtype) == "datetime64[us, UTC]"
    assert set(frame.dtypes.iloc[1:].astype(str)) == {"float64"}


@pytest.mark.parametrize(
    "kind", ["parquet", "parquet without zone", "feather", "decimal index", "gzip", "bzip2", "zip"]
)
def test_each_kind_of_file_gives_the_same_bars(kind: str, write: Write) -> None:
    buffer = io.BytesIO()
    if kind.startswith("parquet"):
        frame = BARS.assign(timestamp=BARS["timestamp"].dt.tz_localize(None)) if "without" in kind else BARS
        frame.to_parquet(buffer)
    elif kind == "feather":
        BARS.to_feather(buffer)
    elif kind == "decimal index":
        BARS.set_index("timestamp").rename_axis(None).to_parquet(buffer)
    elif kind == "gzip":
        buffer.write(gzip.compress(PLAIN.encode()))
    elif kind == "bzip2":
        import bz2

        buffer.write(bz2.compress(PLAIN.encode()))
    else:
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("__MACOSX/._bars.csv", b"\0\5\26\7")
            archive.writestr("folder/bars.csv", PLAIN)
    bars = fetch(write(buffer.getvalue(), "bars.whatever"))
    pd.testing.assert_frame_equal(bars.frame, BARS, check_dtype=False)


def test_a_parquet_file_inside_a_zip_is_read(write: Write) -> None:
    inner, outer = io.BytesIO(), io.BytesIO()
    BARS.to_parquet(inner)
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("bars.parquet", inner.getvalue())
    pd.testing.assert_frame_equal(fetch(write(outer.getvalue(), "bars.zip")).frame, BARS, check_dtype=False)


def test_thousands_commas_and_empty_volumes(write: Write) -> None:
    lines = [
        '"Sep 14, 2017",4228.29,"4,427.84",998.11,4376.53,"2,697,970,000","69,954,400,000"',
        '"Sep 13, 2017",591.63,591.63,408.40,436.51,-,"1,164,940,000"',
    ]
    bars = fetch(write(text("Date,Open,High,Low,Close,Volume,Market Cap", lines)))
    assert bars.frame["high"].tolist() == [591.63, 4427.84]
    assert bars.frame["volume"].isna().tolist() == [True, False]
    assert bars.frame["volume"].iloc[1] == 2_697_970_000
    assert bars.layout["numbers"] == "decimal point, thousands comma in High, Volume"
    assert bars.layout["order"] == "newest first"


@pytest.mark.parametrize(
    ("cell", "price", "symbol"),
    [
        *(("$1,234.50", 1234.5, "BTC-USD"), ("1 234.50", 1234.5, "BTC-USD"), ("1'234'567.5", 1234567.5, "BTC-USD")),
        *(("- 1 234.5", -1234.5, "BTC-USD"), ("$ 1234.5", 1234.5, "BTC-USDT"), ("1\u00a0234.5 $", 1234.5, "BTC-USD")),
        *(
            ("1\u202f234\u202f567.5", 1234567.5, "BTC-USD"),
            ("-$1234.5", -1234.5, "BTC-USD"),
            ("$-1234.5", -1234.5, "BTC"),
        ),
        *(("1234.50 €", 1234.5, "BTC-EUR"), ("£1 234.5", 1234.5, "BTC-GBP"), ("$1234.5", 1234.5, "BTC-AUD")),
    ],
)
def test_signs_of_the_currency_and_separators_of_thousands(cell: str, price: float, symbol: str, write: Write) -> None:
    lines = [f'{day},1,1,"{cell}",1.5,7' for day in DAYS]
    assert set(fetch(write(text(HEADED, lines), symbol=symbol)).frame["low"]) == {price}


def test_a_thousands_separator_far_down_the_file_is_found(write: Write) -> None:
    days = pd.date_range("2000-01-01", periods=5000).strftime("%Y-%m-%d")
    lines = [f"{day},1.5,1.5,1.5,1.5,7" for day in days[:-1]] + [f'{days[-1]},1.5,"1,001.50",1.5,1.5,7']
    bars = fetch(write(text(HEADED, lines)))
    assert bars.frame["high"].iloc[-1] == 1001.5
    assert "thousands comma in high" in bars.layout["numbers"]


def test_german_thousands_points(write: Write) -> None:
    bars = fetch(write(text(HEADED.replace(",", ";"), ["2017-09-13;4.131,50;4.789,25;999,00;4.201,00;1.100,50"])))
    assert bars.frame.iloc[0, 1:].tolist() == [4131.5, 4789.25, 999.0, 4201.0, 1100.5]


@pytest.mark.parametrize(("decimal", "price"), [(".", 8.0), (",", 8000.0)])
def test_the_meaning_of_a_point_can_be_set(decimal: str, price: float, write: Write) -> None:
    lines = [f"{day};8.000;8.250;7.900;8.100" for day in DAYS]
    bars = fetch(write(text("date;open;high;low;close", lines), decimal=decimal))
    assert bars.frame["open"].tolist() == [price] * 4


def test_one_german_decimal_settles_the_points_of_every_column(write: Write) -> None:
    lines = [f"{day};8.000;8.250;7.900;8.100;12,5" for day in DAYS]
    bars = fetch(write(text("date;open;high;low;close;volume", lines)))
    assert bars.frame.iloc[0, 1:].tolist() == [8000.0, 8250.0, 7900.0, 8100.0, 12.5]


def test_indian_groups_of_two_digits(write: Write) -> None:
    lines = [f'{day},"9,92,65,40,000","9,93,00,00,000","1,00,000",9900000000.5,7' for day in DAYS]
    bars = fetch(write(text(HEADED, lines)))
    assert bars.frame.iloc[0, 1:].tolist() == [9_926_540_000.0, 9_930_000_000.0, 100_000.0, 9_900_000_000.5, 7.0]
    alone = [f'{day},"9,92,65,40,000","9,92,65,40,000","9,92,65,40,000","9,92,65,40,000",7' for day in DAYS]
    assert set(fetch(write(text(HEADED, alone))).frame["close"]) == {9_926_540_000.0}


@pytest.mark.parametrize(
    "named",
    ["{coin}:{part}", "{part}_{coin}", "{coin}USDT {part}", "{coin}/USD {part}", "{part} ({coin})", "{coin}-{part}"],
)
@pytest.mark.parametrize("symbol", ["ETH-USD", "BTC-USD", "ETH/USD"])
def test_a_wide_file_of_several_coins_is_read_by_symbol(named: str, symbol: str, write: Write) -> None:
    parts = ("open", "high", "low", "close", "volume")
    names = [named.format(coin=coin, part=part) for coin in ("BTC", "ETH", "SOL") for part in parts]
    own = rows(DAYS)
    other = ",".join("7" for _ in parts)
    lines = [
        f"{line},{other},{other}" if "BTC" in symbol else f"{line[:10]},{other},{line[11:]},{other}" for line in own
    ]
    bars = fetch(write(text(",".join(["date", *names]), lines), symbol=symbol))
    pd.testing.assert_frame_equal(bars.frame, BARS, check_dtype=False)


@pytest.mark.parametrize(
    "names", [("BTC/USDT", "ETH/USDT"), ("BTCUSD", "ETHUSD"), ("BTC", "ETH"), ("XBTUSD", "ETHXBT")]
)
def test_a_long_file_of_several_symbols_is_read_by_symbol(names: tuple[str, str], write: Write) -> None:
    own = [f"{names[0]},{line}" for line in rows(DAYS)]
    other = [f"{names[1]},{day},7,7,7,7,7" for day in DAYS]
    mixed = [line for pair in zip(other, own, strict=True) for line in pair]
    bars = fetch(write(text("symbol," + HEADED, mixed)))
    pd.testing.assert_frame_equal(bars.frame, BARS, check_dtype=False)
    assert bars.line_numbers.tolist() == [3, 5, 7, 9]
    assert f"of 2 symbols {names[0]!r} was read" in bars.layout["notes"]


def test_one_coin_in_two_currencies_is_read_by_its_quote(write: Write) -> None:
    names = [f"BTC {money} {part}" for money in ("EUR", "USD") for part in ("open", "high", "low", "close", "volume")]
    lines = [f"{line[:10]},7,7,7,7,7,{line[11:]}" for line in rows(DAYS)]
    pd.testing.assert_frame_equal(fetch(write(text(",".join(["date", *names]), lines))).frame, BARS, check_dtype=False)


def test_rows_before_a_listing_and_after_a_delisting_are_left_out(write: Write) -> None:
    header = "date,BTC:open,BTC:high,BTC:low,BTC:close,ETH:open,ETH:high,ETH:low,ETH:close,ETH:volume"
    own = [f"{line[:10]},7,7,7,7,{line[11:]}" for line in rows(DAYS)]
    early = [f"2017-09-{day:02d},7,7,7,7,,,,,0" for day in range(3, 13)]
    bars = fetch(write(text(header, [*early, *own, "2017-09-17,7,7,7,7,,,,,"]), symbol="ETH-USD"))
    pd.testing.assert_frame_equal(bars.frame, BARS, check_dtype=False)
    assert bars.line_numbers.tolist() == [12, 13, 14, 15]
    assert "10 rows without prices before the first bar were left out" in bars.layout["notes"]
    assert "1 rows without prices after the last bar were left out" in bars.layout["notes"]
    with pytest.raises(UnreadableFile, match="expected prices, found 10 rows without one"):
        fetch(write(text(header, early), symbol="ETH-USD"))


def test_volume_suffixes(write: Write) -> None:
    bars = fetch(
        write(
            text(
                "Date,Price,Open,High,Low,Vol.",
                ["2017-09-13,1.5,1.5,1.5,1.5,12.5K", "2017-09-14,1.5,1.5,1.5,1.5,1.25M"],
            )
        )
    )
    assert bars.frame["volume"].tolist() == [12_500.0, 1_250_000.0]


def test_a_file_without_volume_reads_as_nan(write: Write) -> None:
    bars = fetch(write(text("Date,Open,High,Low,Close", rows(DAYS, "ohlc"))))
    assert bars.frame["volume"].isna().all()
    assert bars.layout["volume unit"] == "none: the file has no volume"


def test_bad_bars_are_passed_on(write: Write) -> None:
    lines = rows(DAYS)
    lines[1] = f"{DAYS[1]},-1,,inf,0,-5"
    bar = fetch(write(text(HEADED, lines))).frame.iloc[1]
    assert [bar["open"], bar["low"], bar["close"], bar["volume"]] == [-1, np.inf, 0, -5]
    assert np.isnan(bar["high"])


def test_the_layout_records_what_was_inferred(write: Write) -> None:
    lines = rows([f"{d},BTCUSD" for d in shown("%d/%m/%Y")], "ohlcvc")[::-1]
    bars = fetch(write("a banner\n" + text("date,symbol,open,high,low,close,volume_btc,volume", lines)))
    assert bars.layout == {
        "source": "bars.csv",
        "kind": "text",
        "header": "line 2",
        "first bar": "line 3",
        "delimiter": "comma",
        "columns": "timestamp=date, open=open, high=high, low=low, close=close, volume=volume_btc",
        "order": "newest first",
        "time unit": "date and time",
        "time format": "%d/%m/%Y",
        "timezone": "UTC, assumed: the file names no zone",
        "bar stamp": "open time (assumed; see --source.bar-stamp)",
        "numbers": "decimal point",
        "volume unit": "base",
        "notes": "of several volumes 'volume_btc' was used, the one in base units; not used: 'volume'",
    }


def test_the_main_part_of_the_layout_is_one_line(write: Write) -> None:
    bars = fetch(write(LAYOUTS["day first"]))
    assert bars.layout_line == (
        "layout: delimiter comma; numbers decimal point; time format %d/%m/%Y; "
        "timezone UTC, assumed: the file names no zone"
    )


@pytest.mark.parametrize(
    ("name", "unit"),
    [("Volume BTC", "base"), ("Volume_(Currency)", "quote"), ("Volume USD", "quote"), ("volume", "unknown")],
)
def test_the_volume_unit_is_read_from_the_name(name: str, unit: str, write: Write) -> None:
    assert fetch(write(text(f"date,open,high,low,close,{name}", rows(DAYS)))).layout["volume unit"] == unit


def test_mixed_unix_units_are_recorded(write: Write) -> None:
    bars = fetch(write(LAYOUTS["seconds, then milliseconds"]))
    assert bars.layout["time unit"] == "unix seconds (2 rows), milliseconds (2 rows)"


def test_closing_stamps_move_to_the_open(write: Write) -> None:
    bars = fetch(write(PLAIN, bar_stamp="close"))
    assert (bars.frame["timestamp"] == BARS["timestamp"] - pd.Timedelta(days=1)).all()
    assert bars.layout["bar stamp"] == "close time"


@pytest.mark.parametrize("clock", ["23:59:59", "23:59:59.999"])
@pytest.mark.parametrize(("zone", "ahead_hours"), [("", 0.0), ("Asia/Seoul", 9.0), ("Asia/Kolkata", 5.5)])
def test_a_close_just_before_midnight_belongs_to_its_day(
    clock: str, zone: str, ahead_hours: float, write: Write
) -> None:
    content = text(HEADED, rows([f"{day} {clock}" for day in DAYS]))
    expected = BARS.assign(timestamp=BARS["timestamp"] - pd.Timedelta(hours=ahead_hours))
    bars = fetch(write(content, bar_stamp="close", timezone=zone))
    pd.testing.assert_frame_equal(bars.frame, expected, check_dtype=False)
    with pytest.raises(AmbiguousFile, match=r"--source\.bar-stamp close"):
        fetch(write(content, timezone=zone))


def test_a_zone_moves_times_to_utc(write: Write) -> None:
    bars = fetch(write(PLAIN, timezone="Asia/Seoul"))
    assert (bars.frame["timestamp"] == BARS["timestamp"] - pd.Timedelta(hours=9)).all()
    assert bars.layout["timezone"] == "Asia/Seoul, from --source.timezone"


def test_a_zone_that_contradicts_the_file_is_refused(write: Write) -> None:
    with pytest.raises(SpecError, match=r"have their own zone \(UTC\)"):
        fetch(write(LAYOUTS["offset"], timezone="Asia/Seoul"))
    assert len(fetch(write(LAYOUTS["offset"], timezone="UTC"))) == 4


def test_columns_can_be_set_by_name_and_number(write: Write) -> None:
    content = text("when,a,b,c,d,Volume BTC,Volume USD", rows(DAYS, "ohlcvc"))
    spec = write(content, columns="timestamp=when,open=a,high=b,low=c,close=5,volume=Volume BTC")
    pd.testing.assert_frame_equal(fetch(spec).frame, BARS, check_dtype=False)


def test_columns_without_names_can_be_set_by_number(write: Write) -> None:
    content = "\n".join(rows(unix(1), "lhocv"))
    columns = "timestamp=1,low=2,high=3,open=4,close=5,volume=6"
    pd.testing.assert_frame_equal(fetch(write(content, columns=columns)).frame, BARS, check_dtype=False)
    with pytest.raises(AmbiguousFile, match=r"no column names.*--source\.columns"):
        fetch(write(content))


@pytest.mark.parametrize("given_format", ["%d/%m/%Y", "%m/%d/%Y"])
def test_the_format_of_an_ambiguous_date_can_be_set(given_format: str, write: Write) -> None:
    days = pd.date_range("2017-03-01", periods=9).strftime(given_format)
    content = text(HEADED, [f"{day},1,2,1,2,3" for day in days])
    assert fetch(write(content, timestamp_format=given_format)).frame["timestamp"].iloc[0] == pd.Timestamp(
        "2017-03-01", tz="UTC"
    )


def test_line_numbers_are_the_lines_of_the_file(write: Write) -> None:
    lines = rows(DAYS)
    content = "banner\n\n" + text(HEADED, [lines[3], "", lines[2], lines[0], "", "", lines[1]])
    bars = fetch(write(content))
    named = [content.split("\n")[line - 1] for line in bars.line_numbers]
    assert named == lines


def test_line_numbers_hold_across_blocks_and_blank_lines(write: Write) -> None:
    days = pd.date_range("2020-01-01", periods=90_000, freq="min").strftime("%Y-%m-%d %H:%M:%S")
    lines = [f"{day},1.5,1.5,1.5,1.5,{at}" for at, day in enumerate(days)]
    for at in (80_000, 79_999, 40_000, 10, 3):
        lines.insert(at, "")
    content = text(HEADED, lines)
    bars = fetch(write(content, interval="1m"))
    all_lines = content.split("\n")
    assert len(bars) == 90_000
    assert all(float(all_lines[line - 1].rsplit(",", 1)[1]) == at for at, line in enumerate(bars.line_numbers))


def test_duplicated_bars_keep_their_order(write: Write) -> None:
    lines = rows(DAYS)
    lines.insert(2, f"{DAYS[1]},1,1,1,1,1")
    bars = fetch(write(text(HEADED, lines)))
    assert bars.frame["open"].tolist() == [4131.5, 4202.0, 1.0, 3951.0, 3701.0]
    assert bars.line_numbers.tolist() == [2, 3, 4, 5, 6]


@given(
    steps=st.lists(st.integers(0, 3), min_size=3, max_size=30).filter(lambda steps: any(steps[1:])),
    data=st.data(),
)
def test_newest_first_equals_oldest_first(
    steps: list[int], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    days = np.datetime64("2018-01-01") + np.cumsum(steps)
    close = data.draw(st.lists(st.integers(1, 10_000), min_size=len(days), max_size=len(days)))
    lines = [f"{day},{price},{price},{price},{price},1" for day, price in zip(days, close, strict=True)]
    folder = tmp_path_factory.mktemp("orders")
    frames = []
    for name, ordered in (("oldest", lines), ("newest", lines[::-1])):
        (folder / name).write_text(text(HEADED, ordered))
        try:
            frames.append(fetch(SourceSpec(kind="csv", path=str(folder / name))).frame)
        except SpecError as error:  # the most common step is not a day: refused in both orders
            frames.append(pd.DataFrame([str(error).split(":", 1)[1]]))
    pd.testing.assert_frame_equal(frames[0], frames[1])


def test_fetching_since_a_time_omits_bars_that_opened_before(write: Write) -> None:
    source = open_source(write(LAYOUTS["newest first"]))
    later = source.fetch(TIMES[2].to_pydatetime())
    assert later.frame["timestamp"].tolist() == list(TIMES[2:])
    assert later.line_numbers.tolist() == [3, 2]
    assert len(source.fetch()) == 4


def test_the_default_as_of_of_a_file_is_the_close_of_its_last_bar(write: Write) -> None:
    assert open_source(write(LAYOUTS["newest first"])).default_as_of().isoformat() == "2017-09-17T00:00:00+00:00"


def test_the_sample_is_the_published_file_and_ends_before_its_part_day() -> None:
    source = open_source(SourceSpec())
    bars = source.fetch()
    assert len(bars) == 1770
    assert bars.frame["timestamp"].iloc[0] == pd.Timestamp("2014-12-01", tz="UTC")
    assert bars.frame["timestamp"].iloc[-1] == pd.Timestamp("2019-10-17", tz="UTC")
    assert source.default_as_of().isoformat() == "2019-10-17T00:00:00+00:00"
    assert bars.layout["volume unit"] == "base"


def test_a_second_file_is_read_by_its_own_layout(write: Write) -> None:
    second = write(LAYOUTS["unix milliseconds"], "second.csv")
    first = write(PLAIN, timezone="Asia/Seoul", cross_check=second.path)
    source = open_cross_check(first)
    assert source is not None
    pd.testing.assert_frame_equal(source.fetch().frame, BARS, check_dtype=False)
    assert open_cross_check(SourceSpec()) is None


@pytest.mark.parametrize("kind", ["file", "parquet", "feather"])
def test_the_format_of_a_file_is_taken_for_the_kind_of_all_files(kind: str) -> None:
    assert SourceSpec.model_validate({"kind": kind}).kind == "csv"
    with pytest.raises(ValueError, match="Input should be 'sample', 'csv' or 'exchange'"):
        SourceSpec.model_validate({"kind": f"{kind}s"})
    with pytest.raises(ValueError, match="Input should be 'sample', 'csv' or 'exchange'"):
        SourceSpec.model_validate({"kind": [kind]})


def test_no_bar_is_lost_where_lines_end_in_two_carriage_returns_and_a_newline(write: Write) -> None:
    """A file written twice in text mode on Windows; before, a bar was lost for each line above the first one."""
    doubled = "\r\r\n".join(["# exported", "# daily", *PLAIN.splitlines(), ""])
    found = open_source(write(doubled)).fetch()
    pd.testing.assert_frame_equal(found.frame, BARS, check_dtype=False)
    assert found.line_numbers.tolist() == [4, 5, 6, 7]


@pytest.mark.parametrize("blank", ["", "\r", "\r\r"])
def test_blank_lines_between_doubled_carriage_returns_are_counted(blank: str, write: Write) -> None:
    head, *bars = PLAIN.splitlines()
    content = "\r\r\n".join([head, bars[0], blank, bars[1], "", blank, *bars[2:], ""])
    assert open_source(write(content)).fetch().line_numbers.tolist() == [2, 4, 7, 8]


@pytest.mark.parametrize(("above", "line"), [("# exported\rby a shop\n", 1), ("# daily\n# exported\rby a shop\n", 2)])
def test_a_carriage_return_inside_a_line_is_refused_with_the_line(above: str, line: int, write: Write) -> None:
    with pytest.raises(UnreadableFile, match=f"line {line}: .* found a carriage return inside a line"):
        open_source(write(above + PLAIN)).fetch()

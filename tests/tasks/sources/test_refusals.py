"""Files that cannot be read, or can be read in two ways: the message names the line and the option that settles it."""

import gzip
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pytest
from pydantic import ValidationError

from model.errors import AmbiguousFile, RiseOrFallError, SpecError, UnreadableFile
from tasks.sources.source_spec import SourceSpec, open_source

HEADER = "date,open,high,low,close,volume\n"
LINES = [f"2017-09-{day},10.5,12.5,9.5,11.5,100\n" for day in (13, 14, 15, 16)]
PLAIN = HEADER + "".join(LINES)
Refuse = Callable[..., str]


@pytest.fixture
def refuse(tmp_path: Path) -> Refuse:
    """Write a file, read it, and return the message of the expected error."""

    def read(content: str | bytes, error: type[RiseOrFallError], name: str = "bars.csv", **spec: str) -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(error) as caught:
            open_source(SourceSpec(kind="csv", path=str(path), **spec)).fetch()  # type: ignore[arg-type]
        assert caught.type is error
        assert name in str(caught.value) or "--source." in str(caught.value)
        return str(caught.value)

    return read


def dated(dates: list[str]) -> str:
    return HEADER + "".join(f"{date},1,2,1,2,3\n" for date in dates)


def zipped(**members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"nowhere\.csv: .*found none; check --source\.path"):
        open_source(SourceSpec(kind="csv", path=str(tmp_path / "nowhere.csv"))).fetch()
    with pytest.raises(UnreadableFile, match="found a folder; choose a file in it"):
        open_source(SourceSpec(kind="csv", path=str(tmp_path))).fetch()


@pytest.mark.parametrize("content", ["", "\n\n  \n", gzip.compress(b"", mtime=0)])
def test_an_empty_file(content: str | bytes, refuse: Refuse) -> None:
    assert "found an empty file" in refuse(content, UnreadableFile)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "a PNG picture"),
        (gzip.compress(b"\x89PNG\r\n\x1a\n" + bytes(100), mtime=0), "a PNG picture"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"\xd0\xcf\x11\xe0" + bytes(100), "Excel workbook; save the sheet as CSV"),
        (b"2017-09-05,1,2\0,3", "a binary file"),
        (PLAIN.encode("utf-16"), "UTF-16 text; save it as UTF-8"),
    ],
)
def test_files_of_another_kind(content: bytes, named: str, refuse: Refuse) -> None:
    assert named in refuse(content, UnreadableFile)


def test_a_header_alone(refuse: Refuse) -> None:
    assert "below the column names of line 2, found none" in refuse("a banner\n" + HEADER, UnreadableFile)


def test_a_header_above_no_bar(refuse: Refuse) -> None:
    message = refuse(HEADER + "no bars today\n", UnreadableFile)
    assert "column names of line 1, found 'no bars today' on line 2" in message


@pytest.mark.parametrize("content", ["Dear reader,\nnothing to see here\n", ",,,,\n,,,,\n", "one\ntwo\nthree\n"])
def test_text_that_is_no_table(content: str, refuse: Refuse) -> None:
    assert "found" in refuse(content, UnreadableFile)


def test_missing_price_columns(refuse: Refuse) -> None:
    message = refuse("date,close,volume\n2017-09-05,1.5,2\n2017-09-06,1.5,2\n", UnreadableFile)
    assert "missing open, high, low among date, close, volume; set them with --source.columns" in message


def test_a_missing_time_column(refuse: Refuse) -> None:
    message = refuse("open,high,low,close\n1,2,1,2\n1,2,1,2\n", UnreadableFile)
    assert "expected a column of times, found open, high, low, close; set it with --source.columns" in message


@pytest.mark.parametrize("column", [1, 3, 4, 5])
def test_a_cell_that_is_no_number(column: int, refuse: Refuse) -> None:
    fields = LINES[2].strip().split(",")
    fields[column] = "abc"
    message = refuse(HEADER + LINES[0] + LINES[1] + ",".join(fields) + "\n" + LINES[3], UnreadableFile)
    assert f"bars.csv line 4: expected a number in column {HEADER.strip().split(',')[column]!r}, found 'abc'" in message


def test_a_header_in_the_middle(refuse: Refuse) -> None:
    assert "line 6: expected a time" in refuse(PLAIN + HEADER + LINES[0], UnreadableFile)


def test_a_delimiter_that_changes_in_the_file(refuse: Refuse) -> None:
    """Before, the bars above the change were taken for a banner and left out."""
    message = refuse(PLAIN + "".join(LINES + LINES).replace(",", ";"), UnreadableFile)
    assert "line 2: expected a banner or column names above the bars, which begin on line 6, found a bar" in message
    assert "'2017-09-13,10.5,12.5,9.5,11.5,100'" in message


def test_a_width_that_changes_in_the_file(refuse: Refuse) -> None:
    message = refuse("".join(LINES) + "".join(line.strip() + ",7\n" for line in LINES + LINES), UnreadableFile)
    assert "line 1: expected a banner or column names above the bars, which begin on line 5, found a bar" in message


def test_a_line_cut_off(refuse: Refuse) -> None:
    message = refuse(PLAIN + "\n2017-09-17,10.5,12", UnreadableFile)
    assert "bars.csv line 7: expected 6 fields as on line 2, found 3 ('2017-09-17,10.5,12')" in message


def test_a_line_too_long(refuse: Refuse) -> None:
    assert "line 3: expected 6 fields as on line 2, found 7" in refuse(
        HEADER + LINES[0] + LINES[1].strip() + ",7\n" + LINES[2], UnreadableFile
    )


@pytest.mark.parametrize(
    ("dates", "bad"),
    [
        (["2017-09-05", "2017-09-06", "2017-13-07"], "2017-13-07"),
        (["2017-09-05 01:00", "2017-09-06 01:00", "yesterday"], "yesterday"),
        (["2017-09-05T00:00:00Z", "2017-09-06T00:00:00Z", "2017-09-32T00:00:00Z"], "2017-09-32T00:00:00Z"),
        (["1504569600", "1504656000", "soon"], "soon"),
        (['"Sep 05, 2017"', '"Sep 06, 2017"', '"Sep 31, 2017"'], "Sep 31, 2017"),
        (["13/09/2017", "14/09/2017", "09/15/2017"], "09/15/2017"),
    ],
)
def test_a_time_that_cannot_be_read(dates: list[str], bad: str, refuse: Refuse) -> None:
    message = refuse(dated(dates), UnreadableFile)
    assert "bars.csv line 4: expected a time" in message
    assert f"found {bad!r} (1 such)" in message
    assert "--source.timestamp-format" in message


def test_an_empty_time(refuse: Refuse) -> None:
    assert "line 3: expected a time, found an empty cell" in refuse(
        dated(["2017-09-05", "", "2017-09-06"]), UnreadableFile
    )


def test_numbers_that_are_no_times(refuse: Refuse) -> None:
    message = refuse(dated(["43000", "43001", "43002"]), UnreadableFile)
    assert "line 2: expected a time, found 43000, which is no unix time of 1990 to 2100 (3 such)" in message
    assert "--source.timestamp-format s|ms|us|ns" in message


@pytest.mark.parametrize("style", ["%d/%m/%Y", "%m-%d-%Y", "%d.%m.%Y", "%d/%m/%y", "%m/%d/%Y %H:%M"])
def test_a_date_that_could_be_day_first_or_month_first(style: str, refuse: Refuse) -> None:
    message = refuse(dated(list(pd.date_range("2017-03-04", periods=9).strftime(style))), AmbiguousFile)
    assert message.startswith(f"bars.csv line 2: {pd.Timestamp('2017-03-04').strftime(style)!r} could be")
    assert "2017-03-04" in message
    assert "2017-04-03" in message
    assert "choose with --source.timestamp-format" in message


@pytest.mark.parametrize(("one", "other"), [("%d/%m/%Y", "%m/%d/%Y"), ("%m-%d-%Y", "%d-%m-%Y")])
@pytest.mark.parametrize(
    ("step", "line", "found"), [(1, 14, "(2017-01-13) after"), (-1, 21, "(2017-12-03) after")], ids=["oldest", "newest"]
)
def test_days_and_months_that_are_swapped_in_a_part_of_the_lines(
    one: str, other: str, step: int, line: int, found: str, refuse: Refuse
) -> None:
    """A table program that expects another order of dates swaps the days up to 12 and leaves the others."""
    days = pd.date_range("2017-01-01", "2017-03-31")[::step]
    content = dated([day.strftime(one if day.day <= 12 else other) for day in days])
    message = refuse(content, UnreadableFile)
    assert message.startswith(f"bars.csv line {line}: expected dates in order, found ")
    assert found in message
    assert "day and month may be swapped in a part of the lines. Correct the dates" in message
    assert message.endswith(f"if they are right, confirm them with --source.timestamp-format '{other}'")
    given = refuse(content, UnreadableFile, timestamp_format=other)
    assert f"bars.csv line {line}: expected dates in order" in given
    assert given.endswith("Correct the dates")


def test_unsorted_dates_can_be_confirmed(tmp_path: Path) -> None:
    days = [*pd.date_range("2017-03-01", periods=40), *pd.date_range("2017-01-01", periods=40)]
    path = tmp_path / "bars.csv"
    for style in ("%d/%m/%Y", "%b %d %Y", "%Y/%m/%d"):
        path.write_text(dated([day.strftime(style) for day in days]))
        spec = SourceSpec(kind="csv", path=str(path))
        if style == "%d/%m/%Y":
            with pytest.raises(UnreadableFile, match=r"confirm them with --source\.timestamp-format '%d/%m/%Y'"):
                open_source(spec).fetch()
            spec = spec.model_copy(update={"timestamp_format": style})
        assert open_source(spec).fetch().frame["timestamp"].dt.tz_localize(None).tolist() == sorted(days)


def test_dates_that_are_out_of_order_by_days_are_read(tmp_path: Path) -> None:
    """Swapped days and months lie a month apart."""
    path = tmp_path / "bars.csv"
    days = [f"{day:02}/09/2017" for day in (1, 2, 3, 7, 8, 9, 4, 5, 6, 13)]
    path.write_text(dated(days))
    times = open_source(SourceSpec(kind="csv", path=str(path))).fetch().frame["timestamp"]
    assert times.dt.day.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 13]


def test_digits_that_are_a_date_and_a_unix_time(refuse: Refuse) -> None:
    message = refuse(dated(["2017090500", "2017090600"]), AmbiguousFile)
    assert "2017090500 could be unix seconds or a date" in message
    assert "--source.timestamp-format s or --source.timestamp-format '%Y%m%d%H'" in message


def test_the_remedies_for_digits_that_are_a_date_and_a_unix_time_work_in_a_table_of_numbers(tmp_path: Path) -> None:
    path, days = tmp_path / "bars.parquet", pd.date_range("2017-09-05", periods=4)
    prices = {"open": 1.0, "high": 2.0, "low": 1.0, "close": 2.0}
    pd.DataFrame({"date": days.strftime("%Y%m%d%H").astype(int), **prices}).to_parquet(path)
    spec = SourceSpec(kind="csv", path=str(path))
    with pytest.raises(AmbiguousFile, match=r"--source.timestamp-format s or --source.timestamp-format '%Y%m%d%H'"):
        open_source(spec).fetch()
    bars = open_source(spec.model_copy(update={"timestamp_format": "%Y%m%d%H"})).fetch()
    assert bars.frame["timestamp"].dt.tz_localize(None).tolist() == days.tolist()


def test_a_unit_that_changes_where_time_runs_back(refuse: Refuse) -> None:
    message = refuse(dated(["1504569600", "1504656000", "1504483200000", "1504742400"]), UnreadableFile)
    assert "line 4: the unit of the unix times changes here and time runs backwards" in message


def test_time_columns_that_disagree(refuse: Refuse) -> None:
    content = "unix,date,open,high,low,close\n1504569600,2017-09-05,1,2,1,2\n1504656000,2017-09-07,1,2,1,2\n"
    message = refuse(content, AmbiguousFile)
    assert "line 3: 'unix' is 2017-09-06T00:00:00.000000, 'date' is 2017-09-07" in message
    assert "choose with --source.columns 'timestamp=unix' or 'timestamp=date'" in message


def test_a_time_column_that_seems_to_hold_closing_times(refuse: Refuse) -> None:
    content = PLAIN.replace("date", "close_time")
    assert "--source.columns 'timestamp=close_time' --source.bar-stamp close" in refuse(content, AmbiguousFile)


def test_two_columns_of_the_same_role(refuse: Refuse) -> None:
    message = refuse("date,first open,open,high,low,close\n2017-09-05,1,1,2,1,2\n", AmbiguousFile)
    assert "'first open' and 'open' could each be the open; choose with --source.columns 'open=first open'" in message
    message = refuse("date,open,open,high,low,close\n2017-09-05,1,1,2,1,2\n", AmbiguousFile)
    assert "choose with --source.columns 'open=2' or 'open=3'" in message
    message = refuse("date,open,high,low,close,volume,vol\n2017-09-05,1,2,1,2,3,3\n", AmbiguousFile)
    assert "could each be the volume" in message


WIDE = "date,{0}.open,{0}.high,{0}.low,{0}.close,{1}.open,{1}.high,{1}.low,{1}.close\n2017-09-05,1,2,1,2,3,4,3,4\n"


@pytest.mark.parametrize(("one", "other"), [("BTC", "SOL"), ("AAPL", "MSFT"), ("BTCUSDT", "SOLUSDT")])
def test_columns_of_other_series_are_not_suggested(one: str, other: str, refuse: Refuse) -> None:
    message = refuse(WIDE.format(one, other), SpecError, symbol="ETH-USD")
    assert f"expected columns of ETH-USD, found '{one}.open', '{other}.open', of another series" in message
    assert "set --source.symbol" in message
    assert f"open={one}" not in message


def test_a_file_whose_only_columns_are_named_after_another_coin(refuse: Refuse) -> None:
    content = "date,ETH.open,ETH.high,ETH.low,ETH.close\n2017-09-05,1,2,1,2\n"
    assert "expected columns of BTC-USD, found 'ETH.open', of another series" in refuse(content, SpecError)


def test_wrong_columns_in_the_spec(refuse: Refuse) -> None:
    assert "has no column 'Close price'; it has date, open" in refuse(PLAIN, SpecError, columns="close=Close price")
    assert "with a role of timestamp, open" in refuse(PLAIN, SpecError, columns="price=close")
    message = refuse(PLAIN.replace("volume", "close"), AmbiguousFile, columns="close=close")
    assert "columns 5 and 6 are both named 'close'; use the number" in message


def test_a_comma_that_could_mark_decimals_or_thousands(refuse: Refuse) -> None:
    content = HEADER.replace(",", ";") + "2017-09-05;1,234;1,234;1,234;1,234;7\n"
    message = refuse(content, AmbiguousFile)
    assert "line 2: the comma in '1,234' could mark decimals or thousands" in message
    assert "choose with --source.decimal . or --source.decimal ," in message


GERMAN = [f"2017-09-{day};8.000;8.250;7.900;8.{day}0\n" for day in (13, 14, 15, 16)]  # 8,000 euros, or 8


def test_a_point_that_could_mark_decimals_or_thousands(refuse: Refuse) -> None:
    message = refuse("date;open;high;low;close\n" + "".join(GERMAN), AmbiguousFile)
    assert (
        "bars.csv line 2: the point in '8.000' could mark decimals or thousands, and no other cell settles it"
        in message
    )
    assert "choose with --source.decimal . or --source.decimal ," in message


def test_a_point_that_first_occurs_below_whole_numbers(refuse: Refuse) -> None:
    days = [f"{2000 + at // 336}-{1 + at // 28 % 12:02d}-{1 + at % 28:02d}" for at in range(6000)]
    content = "date;open;high;low;close\n" + "".join(f"{day};950;950;950;950\n" for day in days[:-1])
    assert len(content) > 1 << 17  # beyond what the layout is inferred from
    message = refuse(content + f"{days[-1]};1.050;1.050;1.050;1.050\n", AmbiguousFile)
    assert "line 6001: the point in '1.050' could mark decimals or thousands" in message


@pytest.mark.parametrize("cell", ["1,2,3", "12,3456.5", "1,234,56"])
def test_digits_that_are_not_grouped_as_thousands(cell: str, refuse: Refuse) -> None:
    content = HEADER + LINES[0] + f'2017-09-14,"{cell}",1,1,1,1\n'
    assert f"line 3: expected a number in column 'open', found {cell!r}" in refuse(content, UnreadableFile)


@pytest.mark.parametrize(
    "cell",
    [
        "1000'00",
        "1000 00",
        "1000$00",
        "1000'16",
        "10'00",
        "1 00 000",
        "1'000 000",
        "1  000",
        "12'345'67",
        "1€000",
        "1 000'5",
    ],
)
def test_signs_blanks_and_apostrophes_that_group_no_thousands(cell: str, refuse: Refuse) -> None:
    content = HEADER + LINES[0] + f"2017-09-14,{cell},1,1,1,1\n"
    symbol = "BTC-EUR" if "€" in cell else "BTC-USD"
    message = refuse(content, UnreadableFile, symbol=symbol)
    assert f"line 3: expected a number in column 'open', found {cell!r}" in message


@pytest.mark.parametrize(
    ("cell", "symbol"),
    [("€1000.5", "BTC-USD"), ("£1000", "BTC-USD"), ("1000.00 €", "BTC-USD"), ("$10.5", "BTC-EUR"), ("$9", "ETH-BTC")],
)
def test_the_sign_of_another_currency(cell: str, symbol: str, refuse: Refuse) -> None:
    content = HEADER + LINES[0] + f"2017-09-14,1,1,1,{cell},1\n"
    message = refuse(content, SpecError, symbol=symbol)
    assert f"line 3: expected numbers of {symbol}, found {cell!r} in column 'close', in another currency" in message


def test_a_zone_that_contradicts_an_offset_in_any_format(refuse: Refuse) -> None:
    days = [f"2017/09/{day} 00:00:00+0000" for day in (13, 14, 15, 16)]
    assert "its times have their own zone (UTC)" in refuse(dated(days), SpecError, timezone="Asia/Seoul")


def test_several_symbols_in_one_file(refuse: Refuse) -> None:
    lines = ["2017-09-05,BTCUSD,1,2,1,2\n", "2017-09-05,ETHUSD,1,2,1,2\n"]
    message = refuse("date,symbol,open,high,low,close\n" + "".join(lines), AmbiguousFile, symbol="SOL-USD")
    assert "found 2 symbols in column 'symbol', none of them SOL-USD: BTCUSD, ETHUSD. Name it as the file" in message
    lines = ["2017-09-05,BTCUSDC,1,2,1,2\n", "2017-09-05,BTCUSDT,1,2,1,2\n"]
    message = refuse("date,symbol,open,high,low,close\n" + "".join(lines), AmbiguousFile)
    assert "2 of them may be meant: BTCUSDC, BTCUSDT. Name it" in message
    lines = ["2017-09-05,BTCEUR,1,2,1,2\n", "2017-09-05,ETHEUR,1,2,1,2\n"]
    message = refuse("date,symbol,open,high,low,close\n" + "".join(lines), AmbiguousFile)
    assert "found 2 symbols in column 'symbol', none of them BTC-USD: BTCEUR, ETHEUR. Name it" in message
    lines = [f"2017-09-05,C{number:02}/USDT,1,2,1,2\n" for number in range(70)] + ["2017-09-05,LINK/USDT,1,2,1,2\n"]
    message = refuse("date,symbol,open,high,low,close\n" + "".join(lines), AmbiguousFile, symbol="LIMK-USDT")
    assert "found 71 symbols in column 'symbol', none of them LIMK-USDT: LINK/USDT, C" in message  # the nearest first
    assert "C28/USDT, ..." in message


REMEDY = re.compile(r"--source\.([a-z-]+),?(?: such as)? ('[^']*'|\S+)")


@pytest.mark.parametrize(
    "content",
    [
        "date;open;high;low;close\n" + "".join(GERMAN),
        dated(list(pd.date_range("2017-03-04", periods=9).strftime("%d/%m/%Y"))),
        dated([f"{day} 23:59:59" for day in ("2017-09-05", "2017-09-06")]),
        PLAIN.replace("date", "close_time"),
        "date,date,open,high,low,close\n2017-09-05,2017-09-07,1,2,1,2\n2017-09-06,2017-09-08,1,2,1,2\n",
        "unix,date,open,high,low,close\n1504569600,2017-09-05,1,2,1,2\n1504656000,2017-09-07,1,2,1,2\n",
        "date,open,open,high,low,close\n2017-09-05,1,1,2,1,2\n2017-09-06,1,1,2,1,2\n",
        dated([f"2017-09-05 {hour:02d}:00" for hour in range(9)]),
        "\n".join(f"{1504569600 + 86400 * at},1.5,2.5,0.5,1.5,5,6,7" for at in range(9)),
    ],
)
def test_the_named_remedy_works(content: str, tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(content)
    spec = SourceSpec(kind="csv", path=str(path))
    with pytest.raises(RiseOrFallError) as caught:
        open_source(spec).fetch()
    remedy = re.split("choose with|confirm with|; set ", str(caught.value), maxsplit=1)[1]
    named = REMEDY.findall(remedy.partition(" or ")[0])
    assert named
    options = {flag.replace("-", "_"): value.strip("'") for flag, value in named}
    bars = open_source(SourceSpec(**(spec.model_dump() | options))).fetch()
    assert len(bars) == len(content.splitlines()) - (not content[:1].isdigit())


@pytest.mark.parametrize(
    ("found", "symbol"),
    [
        ("ETHUSD", "BTC-USD"),
        ("BTCEUR", "BTC-USD"),
        ("btc-eur", "BTC-USD"),
        ("XBT/USD", "BTC-EUR"),
        ("ETH/BTC", "BTC-USD"),
        ("ETHUSD", "ETH-BTC"),
    ],
)
def test_another_symbol_than_the_spec(found: str, symbol: str, refuse: Refuse) -> None:
    content = f"date,symbol,open,high,low,close\n2017-09-05,{found},1,2,1,2\n"
    assert f"expected bars of {symbol}, found {found!r}" in refuse(content, SpecError, symbol=symbol)


@pytest.mark.parametrize("named", ["BTC_EUR_{}", "{}_eur", "{} (EUR)", "BTCEUR:{}"])
def test_columns_of_another_currency_than_the_spec(named: str, refuse: Refuse, tmp_path: Path) -> None:
    names = ",".join(named.format(role) for role in ("open", "high", "low", "close"))
    content = f"date,{names}\n2017-09-05,1,2,1,2\n"
    assert "expected prices of BTC-USD, found EUR in the names of the columns" in refuse(content, SpecError)
    path = tmp_path / "euro.csv"
    path.write_text(content)
    for fields in ({"symbol": "BTC-EUR"}, {"columns": "open=2,high=3,low=4,close=5"}):
        spec = SourceSpec(kind="csv", path=str(path), **fields)  # type: ignore[arg-type]
        assert len(open_source(spec).fetch()) == 1


@pytest.mark.parametrize(
    ("found", "symbol"), [("BTCUSDT", "BTC-USD"), ("BTC", "BTC-EUR"), ("BTC/EUR", "BTC"), ("bitcoin", "BTC-USD"),
                          ("BTCEUR", "BTCEUR"), ("BTC-BUSD", "BTC-USD"), ("BTCUSD", "BTC-BUSD"),
                          ("BTC/USDT:USDT", "BTC-USD")]
)  # fmt: skip
def test_another_spelling_of_the_symbol_is_read(found: str, symbol: str, tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(f"date,symbol,open,high,low,close\n2017-09-05,{found},1,2,1,2\n")
    assert len(open_source(SourceSpec(kind="csv", path=str(path), symbol=symbol)).fetch()) == 1


def test_another_interval_than_the_spec(refuse: Refuse) -> None:
    assert "expected bars of 1h, found 1d between 3 of 4 bars; set --source.interval 1d" in refuse(
        PLAIN, SpecError, interval="1h"
    )
    weeks = dated(list(pd.date_range("2017-09-04", periods=5, freq="7D").strftime("%Y-%m-%d")))
    assert "found 7 days 00:00:00" in refuse(weeks, SpecError)


def test_columns_without_names_whose_prices_contradict_the_order(refuse: Refuse) -> None:
    prices = [(10, 13, 9, 12), (12, 15, 11, 14), (14, 15, 12, 13), (13, 13, 10, 11)]
    swapped = [f"{1504569600 + 86400 * at},{c},{h},{low},{o},5" for at, (o, h, low, c) in enumerate(prices)]
    assert "columns 2 and 5 look like close and open" in refuse("\n".join(swapped), AmbiguousFile)
    wide = [f"{1504569600 + 86400 * at},{o},{h},{low},{c},5,6,7" for at, (o, h, low, c) in enumerate(prices)]
    assert "no column names, and no known layout has 8 columns" in refuse("\n".join(wide), AmbiguousFile)


def test_an_adjusted_close_without_a_name_is_no_volume(refuse: Refuse, tmp_path: Path) -> None:
    """Yahoo's seven columns without their names: date, open, high, low, close, adjusted close, volume."""
    content = "".join(f"2017-09-{day:02},{day},{day + 2},{day - 1},{day + 1},{day + 1},777\n" for day in range(2, 20))
    message = refuse(content, AmbiguousFile)
    assert "column 6 lies between the lowest and the highest price in 18 of 18 bars, so it is no volume" in message
    (columns,) = re.findall("--source.columns, such as '(.*)'", message)
    path = tmp_path / "yahoo.csv"
    path.write_text(content)
    bars = open_source(SourceSpec(kind="csv", path=str(path), columns=columns)).fetch()
    assert set(bars.frame["volume"]) == {777.0}


def test_archives_that_are_refused(refuse: Refuse, tmp_path: Path) -> None:
    message = refuse(zipped(**{"a.csv": PLAIN, "b.csv": PLAIN}), AmbiguousFile, "bars.zip")
    assert "found 2 (a.csv, b.csv); unpack it and choose one of them with --source.path" in message
    for name in ("../../evil.csv", "/etc/evil.csv", "C:\\evil.csv", "..\\evil.csv"):
        assert "the path" in refuse(zipped(**{name: PLAIN}), UnreadableFile, "bars.zip")
    assert "found none" in refuse(zipped(**{"folder/": ""}), UnreadableFile, "bars.zip")
    workbook = zipped(**{"[Content_Types].xml": "<x/>", "xl/workbook.xml": "<x/>"})
    assert "Excel workbook; save the sheet as CSV" in refuse(workbook, UnreadableFile, "bars.xlsx")
    assert not list(tmp_path.rglob("evil*"))


def test_damaged_archives(refuse: Refuse) -> None:
    whole = gzip.compress((HEADER + "".join(LINES) * 5000).encode())
    assert "damaged" in refuse(whole[: len(whole) // 2], UnreadableFile, "bars.csv.gz")
    damaged = bytearray(zipped(**{"bars.csv": PLAIN}))
    damaged[60] ^= 255
    assert "damaged" in refuse(bytes(damaged), UnreadableFile, "bars.zip")
    assert "damaged" in refuse(zipped(**{"bars.csv": PLAIN})[:80], UnreadableFile, "bars.zip")
    buffer = io.BytesIO()
    pd.DataFrame({"date": pd.date_range("2017-01-01", periods=9)}).to_parquet(buffer)
    assert "damaged" in refuse(buffer.getvalue()[:-20], UnreadableFile, "bars.parquet")


def test_parquet_columns_of_the_wrong_type(refuse: Refuse) -> None:
    frame = pd.DataFrame({"date": pd.date_range("2017-01-01", periods=3), "open": [[1], [2], [3]]})
    frame = frame.assign(high=1.0, low=1.0, close="abc")
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    assert "expected numbers in column 'open', found list" in refuse(buffer.getvalue(), UnreadableFile, "bars.parquet")
    buffer = io.BytesIO()
    frame.assign(open=1.0).to_parquet(buffer)
    message = refuse(buffer.getvalue(), UnreadableFile, "bars.parquet")
    assert "bars.parquet row 1: expected a number in column 'close', found 'abc'" in message


@pytest.mark.parametrize(
    ("kind", "day", "far"),
    [
        (pa.timestamp("s"), 86_400, 2**62),
        (pa.timestamp("s", "UTC"), 86_400, -(2**62)),
        (pa.timestamp("ms"), 86_400_000, 2**62),
        (pa.date32(), 1, 2**30),
        (pa.date64(), 86_400_000, 10**11 * 86_400_000),
    ],
)
def test_a_time_that_microseconds_cannot_hold_is_named_by_its_own_row(
    kind: pa.DataType, day: int, far: int, refuse: Refuse
) -> None:
    counts = [17_000 * day, 17_001 * day, far, 17_003 * day]
    times = pa.array(counts, pa.int32() if kind == pa.date32() else pa.int64()).view(kind)
    prices = {name: [1.0] * 4 for name in ("open", "high", "low", "close")}
    buffer = io.BytesIO()
    pa.feather.write_feather(pa.table({"date": times, **prices}), buffer)
    message = refuse(buffer.getvalue(), UnreadableFile, "bars.feather")
    assert "bars.feather row 3: expected a time of the years 1900 to 2099, found a time beyond 9999 (1 such)" in message


def test_a_zone_that_does_not_exist(refuse: Refuse) -> None:
    assert "no zone 'Asia/Soul'; similar: Asia/Seoul" in refuse(PLAIN, SpecError, timezone="Asia/Soul")


def test_a_zone_in_which_a_time_does_not_exist(refuse: Refuse) -> None:
    hours = ["2021-03-14 01:00", "2021-03-14 02:00", "2021-03-14 03:00"]
    message = refuse(dated(hours), AmbiguousFile, interval="1h", timezone="America/New_York")
    assert "not every time exists exactly once in --source.timezone America/New_York" in message


def test_specs_that_contradict_themselves() -> None:
    with pytest.raises(SpecError, match=r"found no path; set it with --source\.path FILE"):
        open_source(SourceSpec(kind="csv"))
    with pytest.raises(SpecError, match=r"add --source\.kind csv"):
        open_source(SourceSpec(path="bars.csv"))
    with pytest.raises(SpecError, match="expected BTC-USD at 1d, found BTC-USD at 1h"):
        open_source(SourceSpec(interval="1h"))
    with pytest.raises(SpecError, match=r"found --source\.exchange kraken; add --source\.kind exchange"):
        open_source(SourceSpec(exchange="kraken"))  # the sample would be retrained as if it were Kraken's bars
    with pytest.raises(ValidationError, match="extra"):
        SourceSpec(pth="bars.csv")  # type: ignore[call-arg]

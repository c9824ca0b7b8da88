"""A given format neither shifts nor invents times: it states whole times, and a zone only where it is read."""

import io
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from flows.cli.app import run
from model.errors import AmbiguousFile, SpecError
from tasks.sources.source_spec import SourceSpec, open_source

HEADER = "date,open,high,low,close,volume\n"


def first_time(content: str | bytes, folder: Path, **spec: str) -> datetime:
    path = folder / "bars"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    bars = open_source(SourceSpec(kind="csv", path=str(path), **spec)).fetch()  # type: ignore[arg-type]
    found: datetime = bars.frame["timestamp"].iloc[0].to_pydatetime()
    return found


def dated(pattern: str) -> str:
    return HEADER + "".join(f"{pattern.format(day)},1,2,1,2,3\n" for day in (13, 14, 15))


@pytest.mark.parametrize(
    "written",
    [
        *("%d %m", "%m/%d %H:%M", "2017-%m-%d", "%Y-%m", "%Y%m", "%Y", "%j", "%H:%M", "%Y-%m-%d %j", "%Y %y-%m-%d"),
        *("%Y %U", "%Y %W %m", "%G %V", "%G-%V-%d", "%%Y-%m-%d", "ISO8601", "mixed", "%a %d %Y"),
    ],
)
def test_a_format_without_one_whole_date_is_refused(written: str) -> None:
    with pytest.raises(ValidationError, match="one whole date, such as '%Y-%m-%d'"):
        SourceSpec(timestamp_format=written)


@pytest.mark.parametrize(
    "clock", ["%I:%M", "%H:%M %p", "%H %I %p", "%p", "%M", "%H:%S", "%S", "%H:%M.%f", "%M:%S", "%X %H"]
)
def test_a_format_without_a_whole_time_of_day_is_refused(clock: str) -> None:
    with pytest.raises(ValidationError, match="a whole time of day, such as"):
        SourceSpec(timestamp_format=f"%Y-%m-%d {clock}")


@pytest.mark.parametrize(
    "clock",
    [
        *("%H:%M+09:00", "%H:%M EST", "%H:%M est", "%H:%M Asia/Seoul", "%H:%M KST", "%H:%M UTC+9", "%H:%M-0500"),
        *("09:00", "23:59:59", "%H:%M PM", "%H:%M am", "%H:30"),
    ],
)
def test_a_zone_or_a_time_as_text_is_refused(clock: str) -> None:
    with pytest.raises(ValidationError, match="use %z for an offset, %Z for the name of a zone"):
        SourceSpec(timestamp_format=f"%Y-%m-%d {clock}")


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("%d.%m.%y", "{}.09.17"),
        ("%a %b %d %Y", "Wed Sep {} 2017"),
        ("%d %B %Y at %I %p", "{} September 2017 at 12 AM"),
        ("%Y年%m月%d日 %H:%M:%S.%f", "2017年09月{}日 00:00:00.0"),
        ("%Y%m%d%H%M", "201709{}0000"),
        ("%Y-%m-%dT00:00:00", "2017-09-{}T00:00:00"),
        ("%c", "Wed Sep {} 00:00:00 2017"),
        ("%x %X", "09/{}/17 00:00:00"),
    ],
)
def test_whole_times_are_read(written: str, text: str, tmp_path: Path) -> None:
    assert first_time(dated(text), tmp_path, timestamp_format=written) == datetime(2017, 9, 13, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "text"), [("%Y %j", "2017 {}"), ("%Y %W %w", "2017 {} 1"), ("%G %V %a", "2017 {} Mon")]
)
def test_days_and_weeks_of_a_year_are_whole_dates(written: str, text: str) -> None:
    first = pd.to_datetime(text.format(13), format=written)
    assert first in (datetime(2017, 1, 13), datetime(2017, 3, 27))  # noqa: DTZ001 - the 13th day; Monday of week 13
    assert SourceSpec(timestamp_format=written).timestamp_format == written


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("%Y-%m-%dT%H:%M:%SZ", "2017-09-{}T00:00:00Z"),
        ("%Y-%m-%d %H:%M utc", "2017-09-{} 00:00 UTC"),
        ("%Y-%m-%d %H:%M GMT", "2017-09-{} 00:00 GMT"),
        ("%d/%m/%Y %H:%M+00:00", "{}/09/2017 00:00+00:00"),
        ("%d/%m/%Y %H:%M +0000", "{}/09/2017 00:00 +0000"),
    ],
)
def test_utc_as_text_in_a_format_is_the_zone_of_the_file(written: str, text: str, tmp_path: Path) -> None:
    for zone in ("", "UTC"):
        read = first_time(dated(text), tmp_path, timestamp_format=written, timezone=zone)
        assert read == datetime(2017, 9, 13, tzinfo=UTC)
    with pytest.raises(SpecError, match=r"own zone \(UTC\), which --source\.timezone Asia/Seoul contradicts"):
        first_time(dated(text), tmp_path, timestamp_format=written, timezone="Asia/Seoul")


@pytest.mark.parametrize("unit", [1, 1000], ids=["seconds", "milliseconds"])
@pytest.mark.parametrize("kind", ["text", "parquet", "parquet of text", "feather of decimals"])
def test_unix_times_are_utc_whatever_the_timezone(unit: int, kind: str, tmp_path: Path) -> None:
    """1,505,260,800 is 2017-09-13T00:00Z."""
    times = [(1_505_260_800 + 86_400 * day) * unit for day in range(3)]
    content: str | bytes = HEADER + "".join(f"{at},1,2,1,2,3\n" for at in times)
    if kind != "text":
        column: list[int] | list[str] | list[float] = (
            [str(at) for at in times] if "text" in kind else [float(at) for at in times] if "deci" in kind else times
        )
        frame = pd.DataFrame({"date": column, "open": 1.0, "high": 2.0, "low": 1.0, "close": 2.0, "volume": 3.0})
        buffer = io.BytesIO()
        (frame.to_feather if "feather" in kind else frame.to_parquet)(buffer)
        content = buffer.getvalue()
    for zone in ("", "UTC"):
        assert first_time(content, tmp_path, timezone=zone) == datetime(2017, 9, 13, tzinfo=UTC)
    with pytest.raises(SpecError, match=r"unix times are UTC; leave out --source\.timezone Asia/Seoul"):
        first_time(content, tmp_path, timezone="Asia/Seoul")


def test_a_column_of_times_with_a_zone_keeps_it(tmp_path: Path) -> None:
    days = pd.date_range("2017-09-13", periods=3, tz="Asia/Seoul")
    prices = {"open": 1.0, "high": 2.0, "low": 1.0, "close": 2.0, "volume": 3.0}
    buffer = io.BytesIO()
    pd.DataFrame({"date": days, **prices}).to_parquet(buffer)
    for zone in ("", "Asia/Seoul"):
        assert first_time(buffer.getvalue(), tmp_path, timezone=zone) == datetime(2017, 9, 12, 15, tzinfo=UTC)
    with pytest.raises(SpecError, match=r"own zone \(Asia/Seoul\)"):
        first_time(buffer.getvalue(), tmp_path, timezone="Europe/Berlin")


def test_a_second_time_column_in_unix_time_is_compared_in_utc(tmp_path: Path) -> None:
    """The dates are those of Seoul: 00:00 there is 15:00 of the day before."""
    lines = [f"2017-09-{13 + day},{1_505_228_400 + 86_400 * day},1,2,1,2,3\n" for day in range(3)]
    content = "".join(["date,time,open,high,low,close,volume\n", *lines])
    assert first_time(content, tmp_path, timezone="Asia/Seoul") == datetime(2017, 9, 12, 15, tzinfo=UTC)
    with pytest.raises(AmbiguousFile, match="1 rows differ"):
        first_time(content.replace("2017-09-13,", "2017-09-12,"), tmp_path, timezone="Asia/Seoul")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--source.timestamp-format", "%d %m"], "one whole date"),
        (["--source.columns", "open=" + "9" * 5000], "has no column"),
    ],
)
def test_the_command_line_refuses_with_2(
    words: list[str], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    (tmp_path / "bars.csv").write_text(dated("{} 09"))
    assert run(["ingest", "--source.kind", "csv", "--source.path", str(tmp_path / "bars.csv"), *words]) == 2
    assert found in capsys.readouterr().err

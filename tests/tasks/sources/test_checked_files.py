"""The second table of docs/data.md lists what the checks find: it is made from the files and compared with them."""

import gzip
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
import pytest

from data_checks.check_report import CheckReport
from data_checks.check_spec import CheckSpec
from data_checks.second_source import cross_check
from data_checks.validate import check_bars
from tasks.sources.source_spec import SourceBars, SourceSpec, open_source

ROOT = Path(__file__).parents[3]
FILES = ROOT.parent / "shared" / "data"
PAGE = ROOT / "docs" / "data.md"
YAHOO, LONG = "btc_usd_daily_yahoo.csv.gz", "btc_usd_daily_bitstamp_long.csv.gz"
COINDESK, EARLY = "btc_usd_daily_coindesk.csv.gz", "btc_usdt_daily_binance_stockindicators.csv.gz"
KOREAN = "btc_usdt_1min_binance_2026.parquet"
needs_files = pytest.mark.skipif(not FILES.is_dir(), reason="the collection of bar files is not here")


@dataclass(frozen=True)
class Case:
    """A file, how it is read, and the file it is cross-checked with."""

    file: str
    interval: str
    timezone: str = ""
    against: str = YAHOO

    def spec(self) -> SourceSpec:
        return SourceSpec(
            kind="csv",
            path=str(FILES / self.file),
            symbol="BTC-USDT" if "usdt" in self.file else "BTC-USD",
            interval=self.interval,  # type: ignore[arg-type]
            timezone=self.timezone,
        )


CASES = (
    Case(YAHOO, "1d", against=LONG),
    Case(LONG, "1d"),
    Case("btc_usd_daily_coinmarketcap.csv.gz", "1d"),
    Case("btc_usd_daily_coinbase.csv.gz", "1d"),
    Case("btc_usd_daily_bitstamp.csv.gz", "1d"),
    Case(COINDESK, "1d"),
    Case("btc_usd_daily_ccdata.csv.gz", "1d"),
    Case(EARLY, "1d"),
    Case("btc_usdt_hourly_binance.parquet", "1h"),
    Case("btc_usd_hourly_bitstamp.csv.gz", "1h"),
    Case("btc_usd_hourly_coinbase.csv.gz", "1h"),
    Case("btc_usd_hourly_kraken.csv.gz", "1h"),
    Case("btc_usd_30min_gymcrypto.csv.gz", "30m"),
    Case("btc_usdt_5min_binance.parquet", "5m"),
    Case("btc_usdt_1min_binance_2025.parquet", "1m", against="btc_usdt_5min_binance.parquet"),
    Case(KOREAN, "1m"),
    Case(KOREAN, "1m", timezone="Asia/Seoul"),
)


@cache
def read(file: str) -> pd.DataFrame:
    """Read a second series as ingestion does: by its own layout, at its own interval."""
    interval = "5m" if "5min" in file else "1d"
    return open_source(SourceSpec(kind="csv", path=str(FILES / file), interval=interval)).fetch().frame  # type: ignore[arg-type]


@cache
def checked(case: Case) -> tuple[SourceBars, CheckReport]:
    """Check a file as ingestion does."""
    source = open_source(case.spec())
    bars = source.fetch()
    frame = bars.frame.assign(line=bars.line_numbers)
    return bars, check_bars(frame, case.spec().series, CheckSpec(), source.default_as_of(), against=read(case.against))


def table_line(case: Case) -> str:
    bars, report = checked(case)
    second = next(result for result in report.results if result.rule == "second_series")
    refusing = set(report.quarantined["rule"]) | {"second_series"}
    cells = (
        f"`{case.file}`" + (f" with `--source.timezone {case.timezone}`" if case.timezone else ""),
        str(len(bars)),
        str(len(report.accepted)),
        "; ".join(_refused(report.quarantined)) or "none",
        "; ".join(f"{result.rule}: {result.observed}" for result in report.failed() if result.rule not in refusing)
        or "nothing",
        ("accepted" if report.passed(CheckSpec()) else "REFUSED") + f": {second.observed}",
    )
    return "| " + " | ".join(cells) + " |"


def _refused(quarantined: pd.DataFrame) -> list[str]:
    """Return the refused bars by rule: up to two with day, value and line, more as a range."""
    listed = []
    for rule, bars in quarantined.groupby("rule", sort=False):
        named = [f"{bar.timestamp:%Y-%m-%d} {bar.value} (line {bar.line})" for bar in bars.itertuples()]
        text = ", ".join(named) if len(named) <= 2 else f"{named[0]} to {named[-1]}"
        listed.append(f"{rule} {len(bars)}: {text}")
    return listed


@pytest.mark.e2e
@needs_files
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}-{case.timezone}")
def test_the_page_lists_what_the_checks_find(case: Case) -> None:
    assert table_line(case) in PAGE.read_text(encoding="utf-8").splitlines()


@needs_files
@pytest.mark.parametrize(
    ("file", "shift"),
    [(COINDESK, "dates look 1 day late"), (EARLY, "dates look 1 day early"), (KOREAN, "times look 9 hours late")],
)
def test_shifted_files_are_refused_with_the_shift_that_fits(file: str, shift: str) -> None:
    _, report = checked(next(case for case in CASES if case.file == file and not case.timezone))
    assert not report.passed(CheckSpec())
    (stopping,) = report.stopping(CheckSpec())
    assert shift in stopping.message


@needs_files
def test_the_last_day_of_the_long_file_is_a_part_day() -> None:
    """Its last trade was 17 minutes before midnight, that of every other recent day less than four minutes."""
    raw = pd.read_csv(FILES / LONG)
    ends = pd.to_datetime(raw["time_period_end"], utc=True, format="ISO8601")
    early = ends - pd.to_datetime(raw["time_close"], utc=True, format="ISO8601")
    assert str(early.iloc[-1].round("s")) == "0 days 00:16:45"
    assert early.iloc[-1001:-1].max() < pd.Timedelta(minutes=4)


@pytest.mark.e2e
@needs_files
def test_the_line_of_each_refused_bar_is_the_line_in_the_file() -> None:
    for case in CASES:
        if not case.file.endswith(".csv.gz"):
            continue
        _, report = checked(case)
        with gzip.open(FILES / case.file, "rt", encoding="utf-8") as file:
            lines = file.read().splitlines()
        for bar in report.quarantined.itertuples():
            numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*", lines[int(bar.line) - 1])]
            assert {bar.open, bar.close} <= set(numbers)


@pytest.mark.e2e  # reads 70,000 bars
@needs_files
def test_each_part_of_a_file_is_compared_by_itself() -> None:
    """Coinbase's hours of autumn 2017 are in New York's time, four or five hours early; the others are in UTC."""
    ours, kraken = (
        open_source(SourceSpec(kind="csv", path=str(FILES / f"btc_usd_hourly_{name}.csv.gz"), interval="1h"))
        .fetch()
        .frame
        for name in ("coinbase", "kraken")
    )
    for first, end, start in (
        ("2017-07-01", "2017-08-31", "86.0% of 1452 labels agree"),
        ("2017-07-01", "2017-10-27", "the newest 50 closes in common: times look 4 hours early"),
        ("2017-07-01", "2018-03-31", "50 closes in common from 2017-11-09 to 2017-11-11: times look 5 hours early"),
        ("2017-11-13", "2019-10-31", "91.5% of 16817 labels agree"),
    ):
        period = ours["timestamp"].between(pd.Timestamp(first, tz="UTC"), pd.Timestamp(end, tz="UTC"), "left")
        found = cross_check(ours[period], kraken, "1h", CheckSpec())
        assert found.message.startswith(start)
        assert found.agrees == ("look" not in start)

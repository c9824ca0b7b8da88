"""Real files with their real defects; skipped where they are absent, except the bundled sample."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data_checks.apply_rules import RuleResults, apply_bar_rules
from data_checks.check_report import require_passed
from data_checks.check_spec import CheckSpec
from data_checks.rule_definitions import Suite, applicable_rules
from data_checks.second_source import CrossCheck, cross_check
from data_checks.validate import check_bars
from model.bars import Series

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
SAMPLE = ROOT / "tasks" / "sources" / "Coinbase_BTCUSD_d.csv"
PRICES = ("open", "high", "low", "close")
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the real files are not here")


def read(name: str, time: str, columns: tuple[str, ...] = (*PRICES, "volume"), **options: Any) -> pd.DataFrame:
    """Read a file's columns as bars, oldest first."""
    path = SHARED / name
    raw = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, **options)
    times = pd.to_datetime(raw[time], utc=True).dt.tz_localize(None).to_numpy().astype("datetime64[us]")
    bars = {
        name: raw[column].to_numpy(dtype=np.float64) for name, column in zip((*PRICES, "volume"), columns, strict=False)
    }
    return pd.DataFrame({"timestamp": times, **bars}).sort_values("timestamp", kind="stable", ignore_index=True)


def results_of(bars: pd.DataFrame, interval: str) -> RuleResults:
    limits = CheckSpec().model_dump(mode="json") | {
        "interval": interval,
        "as_of": None,
        "last_is_whole": False,
        "comparison": None,
    }
    rules = applicable_rules(with_clock=False, with_second_series=False)
    return apply_bar_rules(bars, Suite("bars", rules, limits, ()))


def test_the_sample_passes_with_its_one_bad_tick_quarantined() -> None:
    raw = pd.read_csv(SAMPLE, skiprows=1)[::-1].reset_index(drop=True)
    bars = raw.rename(columns={"date": "timestamp", "volume": "quote", "volume_btc": "volume"})
    report = check_bars(bars, Series("BTC-USD", "1d"), CheckSpec(), datetime(2019, 10, 17, tzinfo=UTC))
    require_passed(report, CheckSpec())
    (bad,) = report.quarantined.to_dict("records")
    assert (bad["timestamp"], bad["rule"], bad["value"]) == (
        pd.Timestamp("2017-04-15", tz="UTC"),
        "absurd_tick",
        "low 0.06",
    )
    assert len(report.accepted) == 1768
    assert report.unfinished_bars == 1
    assert report.gaps["missing_bars"].tolist() == [1, 12]
    assert {result.rule for result in report.failed()} == {
        "absurd_tick",
        "unfinished_bar",
        "gap",
        "price_jump",
        "flat_run",
    }


@needs_shared
def test_the_nine_doubled_days_and_the_swapped_volumes_of_bitstamp() -> None:
    bars = read("btc_usd_daily_bitstamp.csv.gz", "date", (*PRICES, "Volume BTC"))
    applied = results_of(bars, "1d")
    refused = applied.refused()
    assert refused["rule"].tolist() == ["lesser_double"] * 9
    assert refused["timestamp"].dt.strftime("%Y-%m-%d").tolist() == [f"2023-01-{day}" for day in range(11, 20)]
    assert (refused["volume"] < 20).all()
    swapped = applied.findings["volume_unit"]
    assert str(swapped.first_at) == "2018-02-28T00:00:00.000000"
    assert "the volume switches between coin and quote currency" in swapped.observed


@needs_shared
def test_part_days_absurd_ticks_and_gaps_of_the_long_files() -> None:
    long = results_of(read("btc_usd_daily_bitstamp_long.csv.gz", "timestamp"), "1d")
    assert set(long.refused().query("rule == 'absurd_tick'")["value"]) == {"high 15", "low 1.5"}
    part = results_of(read("btc_usd_daily_coinbase.csv.gz", "date", (*PRICES, "volume_btc"), skiprows=1), "1d")
    assert part.findings["part_bar"].observed == "1 of 1770 bars, first volume 1570.08"
    hourly = results_of(read("btc_usdt_hourly_binance.parquet", "date"), "1h")
    assert hourly.findings["gap"].observed == "128 bars missing in 28 gaps, the longest of 33 bars after 2018-02-08"


@needs_shared
@pytest.mark.parametrize("name", ["btc_usd_daily_yahoo.csv.gz"])
def test_the_cleanest_file_breaks_no_rule(name: str) -> None:
    applied = results_of(read(name, "Date", ("Open", "High", "Low", "Close", "Volume")), "1d")
    assert [rule for rule, finding in applied.findings.items() if not finding.passed] == []


@pytest.fixture(scope="module")
def yahoo() -> pd.DataFrame:
    return read("btc_usd_daily_yahoo.csv.gz", "Date", ("Open", "High", "Low", "Close", "Volume"))


@needs_shared
@pytest.mark.parametrize(
    ("name", "time", "columns", "interval", "start"),
    [
        ("btc_usd_daily_coindesk.csv.gz", "Date", ("Closing Price (USD)",) * 4, "1d", "dates look 1 day late"),
        ("btc_usdt_daily_binance_stockindicators.csv.gz", "date", PRICES, "1d", "dates look 1 day early"),
        ("btc_usdt_1min_binance_2026.parquet", "timestamp", PRICES, "1m", "times look 9 hours late"),
        ("btc_usd_daily_bitstamp.csv.gz", "date", PRICES, "1d", ""),
        ("btc_usdt_hourly_binance.parquet", "date", PRICES, "1h", ""),
        ("btc_usdt_1min_binance_2025.parquet", "date", PRICES, "1m", ""),
    ],
)
def test_shifted_files_are_refused_with_their_shift_and_correct_ones_agree(
    yahoo: pd.DataFrame, name: str, time: str, columns: tuple[str, ...], interval: str, start: str
) -> None:
    found: CrossCheck = cross_check(read(name, time, columns), yahoo, interval, CheckSpec())
    assert found.agrees == (start == "")
    assert found.message.startswith(start)

"""The warning of a file of another exchange under a symbol whose bars are stored already names what to change."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from prefect import flow
from synthetic_bars import random_walk

from data_checks.check_spec import CheckSpec
from data_checks.great_expectations_run import Validation
from data_checks.validate import check_bars
from flows.cli import run
from model.errors import ChecksFailed
from tasks.ingestion import ingest, store
from tasks.results import Stored
from tasks.sources.source_spec import SourceSpec
from tasks.validation import _with_stored, check_landing
from tasks.workspace import open_workspace

DAYS = 240
OF_ITS_OWN = "store it as a series of its own, such as {} BTC-USD-2; `riseorfall bars --table-version 1`"


@pytest.fixture
def file_of_another_exchange(home: Path, tmp_path: Path) -> SourceSpec:
    """A file whose bars are stored already, with slightly different prices."""
    assert not any(home.iterdir())
    frame = random_walk(DAYS, seed=5).frame()
    open_workspace().bar_store.merge(SourceSpec().series, frame, {}, merged_at=datetime(2026, 1, 1, tzinfo=UTC))
    frame[["open", "high", "low", "close"]] *= 1.001
    frame.to_csv(tmp_path / "bars.csv", index=False)
    return SourceSpec(kind="csv", path=str(tmp_path / "bars.csv"))


@pytest.mark.e2e
@pytest.mark.parametrize(("deployment", "shown"), [("ingest", "`source.symbol`"), ("quick", "`symbol`")])
def test_the_warning_of_a_file_of_another_exchange_names_fields_in_a_form(
    deployment: str, shown: str, file_of_another_exchange: SourceSpec, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    @flow(name="ingest-without-checks")
    def unchecked() -> Stored:
        landing = ingest(file_of_another_exchange, None, "test")
        return store(landing, landing.path)

    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__NAME", deployment)
    assert OF_ITS_OWN.format("--source.symbol") in unchecked().warning
    assert OF_ITS_OWN.format(shown) in caplog.text


@pytest.mark.e2e
def test_the_warning_of_a_file_of_another_exchange_names_flags_in_a_shell(
    home: Path, file_of_another_exchange: SourceSpec, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["ingest", "--source.kind", "csv", "--source.path", file_of_another_exchange.path]
    assert run(words) == 0
    shown = capfd.readouterr()
    printed = " ".join(shown.out.split())
    assert f"warning: {DAYS} of {DAYS} bars of BTC-USD that were stored already have other values now" in printed
    assert OF_ITS_OWN.format("--source.symbol") in printed
    reported = " ".join(shown.err.split())
    assert "layout: delimiter comma; numbers decimal point; time format ISO 8601 with zone; timezone UTC" in reported
    (log,) = (home / "data" / "logs").glob("*T*.log")
    assert "'columns': 'timestamp=timestamp, open=open, high=high, low=low, close=close" in log.read_text()
    assert run(words) == 0
    assert "warning:" not in capfd.readouterr().out


@pytest.mark.e2e
def test_a_file_of_another_time_zone_puts_no_stored_bar_into_quarantine(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of its bars open at 15:00 than of the stored ones at 00:00, so that the stored ones are off the grid."""
    assert not any(home.iterdir())
    monkeypatch.setattr("data_checks.validate.validate_batch", lambda *_: Validation({}, "", ""))
    monkeypatch.setattr("data_checks.validate._disagreement", lambda *_: "")
    frame, series = random_walk(2 * DAYS, seed=5).frame(), SourceSpec().series
    open_workspace().bar_store.merge(series, frame[:DAYS], {}, merged_at=datetime(2026, 1, 1, tzinfo=UTC))
    source = SourceSpec(kind="csv", path=str(tmp_path / "bars.csv"), timezone="Asia/Seoul")
    frame.assign(timestamp=frame["timestamp"].dt.tz_localize(None)).to_csv(source.path, index=False)

    @flow(name="ingest-until-the-checks")
    def checked() -> None:
        check_landing(ingest(source, None, "test"), source, CheckSpec())

    with pytest.raises(ChecksFailed, match="too_many_refused"):
        checked()
    assert open_workspace().bar_store.read_quarantine(series).empty


def test_bad_bars_of_a_small_ingest_are_too_many_however_many_are_stored() -> None:
    stored, series = random_walk(2000, seed=5).frame(), SourceSpec().series
    landed = stored[-51:].assign(line=range(2, 53))
    landed.iloc[10:15, landed.columns.get_loc("low")] = 0.01
    report = check_bars(_with_stored(landed, stored), series, CheckSpec(), last_is_whole=True)
    failed = {each.rule: each.observed for each in report.failed()}
    assert failed["too_many_refused"] == "5 of 2000 bars (0.25%), 5 of 51 read by this ingest (9.80%)"
    assert not report.passed(CheckSpec())


@pytest.mark.e2e
def test_an_older_file_replaces_no_stored_bar_by_a_part_of_it(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It starts and ends within a day; the bars between are revised, as by any file."""
    assert not any(home.iterdir())
    monkeypatch.setattr("data_checks.validate.validate_batch", lambda *_: Validation({}, "", ""))
    monkeypatch.setattr("data_checks.validate._disagreement", lambda *_: "")
    frame, series = random_walk(2 * DAYS, seed=5).frame(), SourceSpec().series
    open_workspace().bar_store.merge(series, frame, {}, merged_at=datetime(2026, 1, 1, tzinfo=UTC))
    older = frame[10:DAYS].copy()
    for row, kept in ((10, "close"), (DAYS - 1, "open")):
        older.loc[row, ["open", "high", "low", "close"]] = older.loc[row, kept]
    older.loc[[10, 50, DAYS - 1], "volume"] *= 0.8
    source = SourceSpec(kind="csv", path=str(tmp_path / "bars.csv"))
    older.to_csv(source.path, index=False)

    @flow(name="ingest-an-older-file")
    def ingested() -> Stored:
        landing = ingest(source, None, "test")
        return store(landing, check_landing(landing, source, CheckSpec()).accepted)

    merged = ingested().merge
    assert (merged.added, merged.revised, merged.unchanged) == (0, 1, DAYS - 13)
    expected = frame.assign(volume=frame["volume"].where(frame.index != 50, older["volume"]))
    pd.testing.assert_frame_equal(open_workspace().bar_store.read_frame(series), expected)
    for line, row in ((2, 10), (231, DAYS - 1)):
        assert f"bars.csv line {line}: the bar of {frame['timestamp'][row]:%Y-%m-%d} 00:00 covers a part" in caplog.text

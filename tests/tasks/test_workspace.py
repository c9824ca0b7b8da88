"""Commands that messages name: they choose the series and the source of its bars, so that they can be copied."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from synthetic_bars import random_walk

from model.bars import Series
from tasks.settings import Settings
from tasks.sources.bundled_sample import SAMPLE_FILE
from tasks.sources.source_spec import SourceSpec
from tasks.store.decision_log import LoggedDecision
from tasks.workspace import Workspace

NOW = datetime(2026, 11, 28, tzinfo=UTC)
BTC, HOURLY, ETH = Series("BTC-USD", "1d"), Series("BTC-USD", "1h"), Series("ETH/USD", "1d")


@pytest.fixture(scope="module")
def template(template_home: Path) -> Path:
    settings = Settings(home=template_home, tracking_uri="", store="", public_url="")
    Workspace(settings, BTC).runs.start_run("retrain", {})  # creates the database
    return template_home


@pytest.mark.parametrize(
    ("source", "flags"),
    [
        (SourceSpec(), ""),
        (
            SourceSpec(kind="csv", path="/data/my bars.csv"),
            " --source.kind csv --source.path '/data/my bars.csv' --source.symbol BTC-USD --source.interval 1d",
        ),
        (SourceSpec(kind="exchange"), " --source.kind exchange --source.symbol BTC-USD --source.interval 1d"),
        (
            SourceSpec(kind="exchange", exchange="kraken", symbol="ETH/USD"),
            " --source.kind exchange --source.exchange kraken --source.symbol ETH/USD --source.interval 1d",
        ),
    ],
)
def test_a_command_that_messages_name_reads_the_source_of_the_newest_retrain(
    settings: Settings, source: SourceSpec, flags: str
) -> None:
    """Plain `riseorfall retrain` would merge the bundled sample into the bars of an exchange."""
    workspace = Workspace(settings, source.series)
    run_id = workspace.runs.start_run("retrain", {})
    logged = source.model_dump(exclude={"symbol", "interval"})
    workspace.runs.log_values(run_id, params={f"source.{name}": value for name, value in logged.items()})
    names = source.series.name, source.symbol, source.interval
    workspace.decision_log.append(LoggedDecision(run_id, NOW, *names, "hold", "1", None, None, run_id=run_id))
    assert workspace.source_flags == flags
    assert workspace.retrain_command == f"riseorfall retrain{flags}"


@pytest.mark.parametrize(
    ("series", "read_from", "flags"),
    [
        (BTC, "", ""),
        (BTC, SAMPLE_FILE.name, ""),
        (BTC, "kraken", " --source.kind KIND --source.symbol BTC-USD --source.interval 1d"),
        (HOURLY, "", " --source.kind KIND --source.symbol BTC-USD --source.interval 1h"),
        (ETH, "kraken", " --source.kind KIND --source.symbol ETH/USD --source.interval 1d"),
    ],
)
def test_before_the_first_retrain_the_reader_chooses_the_source_unless_the_bars_are_the_sample(
    settings: Settings, series: Series, read_from: str, flags: str
) -> None:
    workspace = Workspace(settings, series)
    if read_from:
        bars = random_walk(5, interval=series.interval).frame()
        workspace.bar_store.merge(series, bars, {"source": read_from, "columns": "close=close"}, merged_at=NOW)
    assert workspace.retrain_command == f"riseorfall retrain{flags}"


@pytest.mark.parametrize(("interval", "flags"), [("1d", ""), ("1h", " --interval 1h")])
def test_the_command_of_a_panel_names_its_interval(settings: Settings, interval: str, flags: str) -> None:
    assert Workspace(settings, Series("PANEL", interval)).retrain_command == f"riseorfall retrain-panel{flags}"

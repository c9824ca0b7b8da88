"""Names of flow runs: what runs, on which series, as of when, so that a list of runs can be read."""

from datetime import UTC, datetime

from prefect import runtime

from tasks.ingestion import as_utc
from tasks.sources.source_spec import SourceSpec


def flow_run_name() -> str:
    """Name a run after its flow, its series and its as-of time: `retrain BTC-USD 1d as of 2026-11-24`.

    Without an as-of time an exchange's run is as of today; a file's newest bar is not known before it is read.
    """
    given = runtime.flow_run.parameters
    source: SourceSpec | None = given.get("source")
    symbol = source.symbol if source else given.get("symbol", "BTC-USD")
    interval = source.interval if source else given.get("interval", "1d")
    as_of: datetime | None = given.get("as_of")
    live = source is not None and source.kind == "exchange"
    moment = as_utc(as_of) if as_of else datetime.now(UTC) if live else None
    return f"{runtime.flow_run.flow_name} {symbol} {interval}{f' as of {moment:%Y-%m-%d}' if moment else ''}"

"""Name flow runs by flow, series and as-of time."""

from datetime import UTC, datetime

from prefect import runtime

from model.times import as_utc
from tasks.sources.source_spec import SourceSpec


def flow_run_name() -> str:
    """Return the name of the current flow run, such as `retrain BTC-USD 1d as of 2026-11-24`.

    Without an as-of time a run on an exchange is as of today; the newest bar of a file is unknown before it is read.
    """
    given = runtime.flow_run.parameters
    source: SourceSpec | None = given.get("source")
    symbol = source.symbol if source else given.get("symbol", "BTC-USD")
    interval = source.interval if source else given.get("interval", "1d")
    as_of: datetime | None = given.get("as_of")
    live = source is not None and source.kind == "exchange"
    moment = as_utc(as_of) if as_of else datetime.now(UTC) if live else None
    return f"{runtime.flow_run.flow_name} {symbol} {interval}{f' as of {moment:%Y-%m-%d}' if moment else ''}"

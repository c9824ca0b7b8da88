"""The bundled sample: Coinbase BTC-USD, daily, 2014-12-01 to 2019-10-17, as published.

It is read like any other file, with its defects (docs/data.md lists them). Its last bar covers only part of a day; with
`SAMPLE_AS_OF` as the default as-of time the usual rule drops it: a bar is used once it has closed.
"""

from datetime import UTC, datetime
from pathlib import Path

from model.errors import SpecError
from tasks.sources.file_source import FileSource
from tasks.sources.source_spec import SourceBars, SourceSpec

SAMPLE_FILE = Path(__file__).with_name("Coinbase_BTCUSD_d.csv")
SAMPLE_AS_OF = datetime(2019, 10, 17, tzinfo=UTC)  # close of the last whole bar


class SampleSource:
    """The bundled sample as a source."""

    def __init__(self, spec: SourceSpec) -> None:
        """Take the spec; the symbol and the interval of the sample are fixed.

        Raises:
            SpecError: the spec is for another series than the sample.
        """
        if spec.interval != "1d" or spec.symbol.upper().replace("/", "-") != "BTC-USD":
            raise SpecError(
                f"source sample: expected BTC-USD at 1d, found {spec.symbol} at {spec.interval}; "
                "to read your own file, use --source.kind csv --source.path FILE"
            )
        self._file = FileSource(SourceSpec(kind="csv", path=str(SAMPLE_FILE), symbol=spec.symbol, interval="1d"))

    def fetch(self, since: datetime | None = None) -> SourceBars:
        """Return the sample's bars that opened at `since` or later."""
        return self._file.fetch(since)

    def default_as_of(self) -> datetime:
        """Return 2019-10-17T00:00Z, the close of the last whole bar."""
        return SAMPLE_AS_OF

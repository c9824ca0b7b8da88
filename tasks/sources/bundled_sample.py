"""The bars that come along: Coinbase BTC-USD, daily, 2014-12-01 to 2019-10-17, as they were published.

The file is read as any other file is, with its defects (docs/data.md lists them). Its last bar is a part of a day:
with `SAMPLE_AS_OF` as the default moment it falls away by the ordinary rule: a bar may be used once it has closed.
"""

from datetime import UTC, datetime
from pathlib import Path

from model.errors import SpecError
from tasks.sources.files import FileSource
from tasks.sources.source_spec import SourceBars, SourceSpec

SAMPLE_FILE = Path(__file__).with_name("Coinbase_BTCUSD_d.csv")
SAMPLE_AS_OF = datetime(2019, 10, 17, tzinfo=UTC)  # the moment at which the file's last whole bar had closed


class SampleSource:
    """The sample as a source."""

    def __init__(self, spec: SourceSpec) -> None:
        """Take the spec of the sample; its interval and its symbol are fixed.

        Raises:
            SpecError: the spec asks for another series than the sample holds.
        """
        if spec.interval != "1d" or spec.symbol.upper().replace("/", "-") != "BTC-USD":
            raise SpecError(
                f"source sample: it holds BTC-USD at 1d only, found {spec.symbol} at {spec.interval}; "
                "read a file of your own with --source.kind csv --source.path FILE"
            )
        self._file = FileSource(SourceSpec(kind="csv", path=str(SAMPLE_FILE), symbol=spec.symbol, interval="1d"))

    def fetch(self, since: datetime | None = None) -> SourceBars:
        """Return the sample's bars that opened at `since` or later."""
        return self._file.fetch(since)

    def default_as_of(self) -> datetime:
        """Return 2019-10-17T00:00Z: the sample is a picture of the past."""
        return SAMPLE_AS_OF

"""Exchanges as sources: bars fetched page by page from a date on, closed ones only, by the first exchange that answers.

Knows pages, gaps between them, and which exchange comes next when one fails; a single exchange is `exchange_client.py`.
Whatever order, overlap or repetition an exchange answers in, each open time comes out once, with the values heard last.
The trap: an exchange serves the bar that is not finished, so bars that had not closed by the exchange's own clock are
dropped here.
"""

import itertools
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from model.bar_resampling import resample_bars
from model.bars import Bars, bars_from_frame, interval_delta
from model.errors import SourceUnavailable, SpecError
from tasks.sources.exchange_client import ExchangeClient, RetryRule
from tasks.sources.source_spec import OnPage, SourceBars, SourceSpec

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

BACKFILL_BARS = 3_000  # where neither a stored bar nor the spec says from when on
HOLES_ASKED = 20  # holes that are asked for a second time; real ones stay
ASK_ONCE = RetryRule(attempts=1, timeout_seconds=10.0)  # a look at the names before a run
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well two sources of one series agree.

    Attributes:
        bars: bars that both have.
        same_labels: share of those bars on which both closes rise, or both do not; NaN with fewer than two bars.
        median_difference: median of the closes' relative difference; NaN without bars.
    """

    bars: int
    same_labels: float
    median_difference: float

    def __str__(self) -> str:
        """Say it in a line."""
        if self.bars < 2:  # noqa: PLR2004 - a label needs two
            return "no two bars in common to compare labels on"
        return (
            f"labels agree on {self.same_labels:.1%} of {self.bars - 1} bars in common, "
            f"closes differ by {self.median_difference:.2%} (median)"
        )


def label_agreement(first: Bars, second: Bars) -> Agreement:
    """Compare the closes of two sources on the bars that both have.

    Time: says something about the past alone, decides nothing.
    Source: own.
    """
    _, here, there = np.intersect1d(first.opened_at, second.opened_at, return_indices=True)
    one, other = first.column("close")[here], second.column("close")[there]
    if not len(one):
        return Agreement(0, float("nan"), float("nan"))
    same = (np.diff(one) > 0) == (np.diff(other) > 0)
    share = float(same.mean()) if len(same) else float("nan")
    return Agreement(len(one), share, float(np.median(np.abs(one / other - 1))))


class ExchangeSource:
    """Exchanges in order of preference as one source."""

    def __init__(
        self,
        spec: SourceSpec,
        retry: RetryRule | None = None,
        on_page: OnPage | None = None,
        known: "pd.DataFrame | None" = None,
    ) -> None:
        """Take the spec; nothing is asked before `fetch`.

        Args:
            spec: which exchanges and which series.
            retry: how patiently each exchange is asked.
            on_page: called after each page with the start, the moment reached, and the end of what is fetched.
            known: stored bars (columns of `COLUMNS`), which a fail-over is compared with.
        """
        self._spec = spec
        self._names = [name.strip().lower() for name in spec.exchange.split(",") if name.strip()]
        if not self._names:
            raise SpecError("source exchange: expected an exchange, found none; name it with --source.exchange")
        self._retry = retry or RetryRule()
        self._on_page = on_page
        self._known = known
        self._clock: datetime | None = None

    def fetch(self, since: datetime | None = None) -> SourceBars:
        """Return the closed bars that opened at `since` or later, from the first exchange that answers.

        Args:
            since: from when on; without it, from the spec's `backfill_from`, else 3,000 bars back.

        Raises:
            SourceUnavailable: none of the exchanges gave the bars; each one's reason is named.
            SpecError: an exchange, the symbol or the interval does not exist.
        """
        failures: list[str] = []
        partial: Bars | None = self._known_bars()
        for name in self._names:
            fetching = _Fetch(self._spec, ExchangeClient(name, self._spec.base_url, self._retry), self._on_page)
            try:
                bars = fetching.closed_bars(since)
            except SourceUnavailable as error:
                failures.append(str(error))
                log.warning("%s", error)
                partial = fetching.whole_bars() if partial is None else partial
                continue
            finally:
                fetching.client.close()
            self._clock = fetching.now
            layout = fetching.layout()
            if failures:
                layout["fail-over"] = "; ".join(failures)
                layout["agreement"] = (
                    str(label_agreement(partial, bars)) if partial is not None else "nothing to compare with"
                )
                log.warning("%s instead of %s: %s", name, self._names[0], layout["agreement"])
            return SourceBars(bars.frame(), layout, np.arange(1, len(bars) + 1, dtype=np.int64))
        raise SourceUnavailable(" | ".join(failures))

    def require_traded(self) -> None:
        """Raise where the first exchange that answers does not trade the symbol; if none answers, nothing is known.

        Raises:
            SpecError: an exchange, the symbol or the interval does not exist.
        """
        for name in self._names:
            client = ExchangeClient(name, self._spec.base_url, ASK_ONCE)
            try:
                client.market(self._spec.symbol)
                client.finest_interval(self._spec.interval)
            except SourceUnavailable as error:
                log.warning("%s", error)
                continue
            finally:
                client.close()
            return

    def default_as_of(self) -> datetime:
        """Return the time by the clock of the exchange that gave the bars."""
        if self._clock is None:
            self.fetch()
        assert self._clock is not None
        return self._clock

    def _known_bars(self) -> Bars | None:
        """Return the stored bars, if there are any."""
        if self._known is None or self._known.empty:
            return None
        return bars_from_frame(self._known, self._spec.interval)


class _Fetch:
    """One fetch from one exchange."""

    def __init__(self, spec: SourceSpec, client: ExchangeClient, on_page: OnPage | None) -> None:
        self.client = client
        self.now = EPOCH
        self._spec = spec
        self._on_page = on_page
        self._rows: dict[int, list[float]] = {}
        self._interval: str = spec.interval
        self._pages = 0
        self._start = EPOCH
        self._notes: list[str] = []

    def closed_bars(self, since: datetime | None) -> Bars:
        """Fetch all pages, ask again for holes, and return what had closed."""
        market = self.client.market(self._spec.symbol)
        self._interval = self.client.finest_interval(self._spec.interval)
        self.now = self.client.clock()
        self._start = _aligned(since or self._first_wanted(), self._spec.interval)
        step = _milliseconds(self._interval)
        start, end = _epoch_ms(self._start), _epoch_ms(self.now)
        limit = self.client.page_bars(market)
        self._pages_between(market, start, end - step, limit)
        self._ask_for_holes(market, step, limit)
        late = [at for at in self._rows if at + step > end]
        for at in late:
            del self._rows[at]
        bars = self.whole_bars().closed_by(np.datetime64(self.now.replace(tzinfo=None), "us"))
        if not len(bars):
            raise SourceUnavailable(
                f"{self.client.name}: expected bars of {market} {self._spec.interval} from "
                f"{self._start:%Y-%m-%d %H:%M} to {self.now:%Y-%m-%d %H:%M} UTC, found none"
            )
        first = bars.opened_at[0].astype(datetime).replace(tzinfo=UTC)
        if first > self._start:
            self._notes.append(
                f"{self.client.name} has no bar before {first:%Y-%m-%d %H:%M}; "
                f"{self._start:%Y-%m-%d %H:%M} was asked for"
            )
        return bars

    def whole_bars(self) -> Bars:
        """Return the bars heard so far, of the wanted interval, oldest first, each open time once."""
        at = sorted(self._rows)
        values = [[float("nan") if value is None else value for value in self._rows[time]] for time in at]
        opened_at = (np.asarray(at, dtype=np.int64) * 1000).astype("datetime64[us]")
        bars = Bars(self._interval, opened_at, np.asarray(values, dtype=np.float64).reshape(-1, 5))
        return resample_bars(bars, self._spec.interval)

    def layout(self) -> dict[str, str]:
        """Say how the bars were got."""
        made = f", made from {self._interval}" if self._interval != self._spec.interval else ""
        said = {
            "source": self.client.name,
            "kind": "exchange",
            "columns": "timestamp, open, high, low, close, volume",
            "bars": f"{self._spec.symbol} {self._spec.interval}{made}",
            "from": f"{self._start:%Y-%m-%d %H:%M}",
            "exchange clock": f"{self.now:%Y-%m-%d %H:%M:%S}",
            "timezone": "UTC",
            "bar stamp": "open time",
            "volume unit": "base",
            "pages": str(self._pages),
            "asked again": str(self.client.retries),
        }
        return said | ({"notes": "; ".join(self._notes)} if self._notes else {})

    def _first_wanted(self) -> datetime:
        """Return from when on bars are fetched where nothing is stored."""
        if not self._spec.backfill_from:
            return self.now - BACKFILL_BARS * timedelta(milliseconds=_milliseconds(self._spec.interval))
        try:
            moment = datetime.fromisoformat(self._spec.backfill_from)
        except ValueError as error:
            raise SpecError(
                f"--source.backfill-from: expected a date such as 2017-01-01, found {self._spec.backfill_from!r}"
            ) from error
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)

    def _pages_between(self, market: str, start: int, end: int, limit: int) -> None:
        """Fetch pages from `start` until the bar that opens at `end` or before; both in ms."""
        step, at = _milliseconds(self._interval), start
        while at <= end:
            new = self._page(market, at, limit)
            # An empty page may lie in a hole: go on half a page later, as limits are not always what they seem.
            at = max(max(new) + step, at + step) if new else at + step * max(1, limit // 2)
            if self._on_page is not None:
                reached = min(_from_ms(at), self.now)
                self._on_page(self._start, reached, self.now)

    def _page(self, market: str, at: int, limit: int) -> list[int]:
        """Fetch one page, keep its bars, and return their open times (ms) from `at` on."""
        step = _milliseconds(self._interval)
        self._pages += 1
        heard = []
        for opened, *values in self.client.bars(market, self._interval, at, limit):
            opened_ms = int(opened)
            if opened_ms % step:
                raise SourceUnavailable(
                    f"{self.client.name}: expected {self._interval} bars of {market} that open at whole intervals, "
                    f"found one at {_from_ms(opened_ms):%Y-%m-%d %H:%M:%S}"
                )
            if opened_ms >= _epoch_ms(self._start):
                self._rows[opened_ms] = values[:5]
            if opened_ms >= at:
                heard.append(opened_ms)
        return heard

    def _ask_for_holes(self, market: str, step: int, limit: int) -> None:
        """Ask once more for the bars that are missing between others: a page may have left some out."""
        at = [_epoch_ms(self._start) - step, *sorted(self._rows)]
        holes = [here + step for here, after in itertools.pairwise(at) if after - here > step]
        reached = 0
        for hole in holes[-HOLES_ASKED:]:
            if hole >= reached:
                self._page(market, hole, limit)
                reached = hole + limit * step
        inner = [hole for hole in holes if hole > at[0] + step]
        if inner:
            closed = sum(hole in self._rows for hole in inner)
            self._notes.append(f"bars missing in {len(inner)} places, {closed} of them closed by asking again")


def _aligned(moment: datetime, interval: str) -> datetime:
    """Return the open of the bar that a moment falls into."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    milliseconds = _epoch_ms(aware)
    return _from_ms(milliseconds - milliseconds % _milliseconds(interval))


def _milliseconds(interval: str) -> int:
    """Length of an interval in ms."""
    return int(interval_delta(interval) / np.timedelta64(1, "ms"))


def _epoch_ms(moment: datetime) -> int:
    """Return a moment in ms since 1970."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def _from_ms(milliseconds: int) -> datetime:
    """Return the moment of ms since 1970."""
    return EPOCH + timedelta(milliseconds=milliseconds)

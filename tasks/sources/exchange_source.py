"""Exchanges as a source: closed bars, fetched page by page from a date on, from the first exchange that answers.

Handles pages, gaps between them, and the fail-over to the next exchange; calls to one exchange are in
`exchange_client.py`. Pages may be unordered, overlap or repeat: each open time is returned once, with the values
received last. Caution: an exchange also serves the unfinished bar, so bars that have not closed by the exchange's own
clock are dropped here.
"""

import itertools
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64

from model.bar_resampling import resample_bars
from model.bars import Bars, bars_from_frame, interval_delta
from model.errors import SourceUnavailable, SpecError
from model.times import EPOCH, as_utc, from_milliseconds, to_datetime, to_datetime64, to_milliseconds
from tasks.sources.exchange_client import ExchangeClient, RetryRule
from tasks.sources.source_spec import FAIL_OVER, OnPage, SourceBars, SourceSpec

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

BACKFILL_BARS = 3_000  # without a stored bar and without `backfill_from`
MAX_REFETCHED_GAPS = 20  # newest gaps that are fetched a second time; real ones remain
ONE_ATTEMPT = RetryRule(attempts=1, timeout_seconds=10.0)  # to check names before a run


@dataclass(frozen=True, slots=True)
class Agreement:
    """The agreement of two sources of one series.

    Attributes:
        bars: bars that both have.
        same_labels: share of those bars with the same label, from the second on; NaN with fewer than two bars.
        median_difference: median relative difference of the closes; NaN without bars.
    """

    bars: int
    same_labels: float
    median_difference: float

    def __str__(self) -> str:
        """Return the agreement as one line."""
        if self.bars < 2:  # noqa: PLR2004 - a label needs two
            return "fewer than two bars in common, no labels to compare"
        return (
            f"labels agree on {self.same_labels:.1%} of {self.bars - 1} bars in common, "
            f"closes differ by {self.median_difference:.2%} (median)"
        )


def label_agreement(first: Bars, second: Bars) -> Agreement:
    """Compare the closes of two sources on the bars that both have.

    Time: label t depends on closes t-1 and t.
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
    """One or more exchanges, in order of preference, as one source."""

    def __init__(
        self,
        spec: SourceSpec,
        retry: RetryRule | None = None,
        on_page: OnPage | None = None,
        known: "pd.DataFrame | None" = None,
    ) -> None:
        """Take the spec; no request is made before `fetch`.

        Args:
            spec: exchanges and series.
            retry: attempts, delays and timeout for each exchange.
            on_page: called after each page with the start, the time reached, and the end of the fetch.
            known: stored bars (columns of `COLUMNS`), to compare with those of a fail-over exchange.
        """
        self._spec = spec
        self._names = [name.strip().lower() for name in spec.exchange.split(",") if name.strip()]
        if not self._names:
            raise SpecError("source exchange: expected an exchange, found none; set it with --source.exchange")
        self._retry = retry or RetryRule()
        self._on_page = on_page
        self._known = known
        self._clock: datetime | None = None

    def fetch(self, since: datetime | None = None) -> SourceBars:
        """Return the closed bars that opened at `since` or later, from the first exchange that answers.

        Args:
            since: start; without it, `backfill_from` of the spec, else 3,000 bars back.

        Raises:
            SourceUnavailable: no exchange returned bars; the message has the reason of each.
            SpecError: an exchange does not exist, or the first that answers has no such symbol or interval.
        """
        failures: list[str] = []
        partial: Bars | None = self._known_bars()
        for name in self._names:
            fetching = _Fetch(self._spec, ExchangeClient(name, self._spec.base_url, self._retry), self._on_page)
            try:
                bars = fetching.closed_bars(since)
            except (SourceUnavailable, SpecError) as error:
                if isinstance(error, SpecError) and not failures:
                    raise
                failures.append(str(error))  # of a fail-over too: the first exchange may answer the next attempt
                log.warning("%s", error)
                partial = fetching.whole_bars() if partial is None else partial
                continue
            finally:
                fetching.client.close()
            self._clock = fetching.now
            layout = fetching.layout()
            if failures:
                layout[FAIL_OVER] = "; ".join(failures)
                layout["agreement"] = (
                    str(label_agreement(partial, bars)) if partial is not None else "nothing to compare with"
                )
                log.warning("%s instead of %s: %s", name, self._names[0], layout["agreement"])
            return SourceBars(bars.frame(), layout, np.arange(1, len(bars) + 1, dtype=np.int64))
        raise SourceUnavailable(" | ".join(failures))

    def require_traded(self) -> None:
        """Raise if an exchange does not exist, or if the first one answers that it does not trade the symbol.

        Without an answer it does nothing: a fetch retries for longer.

        Raises:
            SpecError: an exchange, the symbol or the interval does not exist.
        """
        client, *_ = [ExchangeClient(name, self._spec.base_url, ONE_ATTEMPT) for name in self._names]
        try:
            client.market(self._spec.symbol)
            client.finest_interval(self._spec.interval)
        except SourceUnavailable as error:
            log.warning("%s", error)
        finally:
            client.close()

    def default_as_of(self) -> datetime:
        """Return the time by the clock of the exchange that returned the bars."""
        if self._clock is None:
            self.fetch()
        assert self._clock is not None
        return self._clock

    def _known_bars(self) -> Bars | None:
        """Return the stored bars; None without any."""
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
        """Fetch all pages, fetch gaps again, and return the bars that had closed."""
        market = self.client.market(self._spec.symbol)
        self._interval = self.client.finest_interval(self._spec.interval)
        self.now = self.client.clock()
        self._start = _aligned(since or self._default_start(), self._spec.interval)
        step = _milliseconds(self._interval)
        start, end = to_milliseconds(self._start), to_milliseconds(self.now)
        limit = self.client.page_bars(market)
        self._fetch_pages(market, start, end - step, limit)
        self._refetch_gaps(market, step, limit)
        received = np.asarray(sorted(self._rows), dtype=np.int64)
        unfinished = [at for at in self._rows if at + step > end]
        for at in unfinished:
            del self._rows[at]
        bars = _received_whole(self.whole_bars().closed_by(to_datetime64(self.now)), received, step)
        if not len(bars):
            raise SourceUnavailable(
                f"{self.client.name}: expected bars of {market} {self._spec.interval} from "
                f"{self._start:%Y-%m-%d %H:%M} to {self.now:%Y-%m-%d %H:%M} UTC, found none"
            )
        first = to_datetime(bars.opened_at[0])
        if first > self._start:
            self._notes.append(
                f"{self.client.name} has no bar before {first:%Y-%m-%d %H:%M}; "
                f"{self._start:%Y-%m-%d %H:%M} was requested"
            )
        return bars

    def whole_bars(self) -> Bars:
        """Return the bars received so far, of the requested interval, oldest first, each open time once."""
        at = sorted(self._rows)
        values = [[float("nan") if value is None else value for value in self._rows[time]] for time in at]
        opened_at = (np.asarray(at, dtype=np.int64) * 1000).astype("datetime64[us]")
        bars = Bars(self._interval, opened_at, np.asarray(values, dtype=np.float64).reshape(-1, 5))
        return resample_bars(bars, self._spec.interval)

    def layout(self) -> dict[str, str]:
        """Return how the bars were fetched, by name."""
        resampled = f", made from {self._interval}" if self._interval != self._spec.interval else ""
        layout = {
            "source": self.client.name,
            "kind": "exchange",
            "columns": "timestamp, open, high, low, close, volume",
            "bars": f"{self._spec.symbol} {self._spec.interval}{resampled}",
            "from": f"{self._start:%Y-%m-%d %H:%M}",
            "exchange clock": f"{self.now:%Y-%m-%d %H:%M:%S}",
            "timezone": "UTC",
            "bar stamp": "open time",
            "volume unit": "base",
            "pages": str(self._pages),
            "retries": str(self.client.retries),
        }
        return layout | ({"notes": "; ".join(self._notes)} if self._notes else {})

    def _default_start(self) -> datetime:
        """Return the start of the fetch if no bar is stored."""
        if not self._spec.backfill_from:
            return self.now - BACKFILL_BARS * timedelta(milliseconds=_milliseconds(self._spec.interval))
        try:
            moment = datetime.fromisoformat(self._spec.backfill_from)
        except ValueError as error:
            raise SpecError(
                f"--source.backfill-from: expected a date such as 2017-01-01, found {self._spec.backfill_from!r}"
            ) from error
        return as_utc(moment)

    def _fetch_pages(self, market: str, start: int, end: int, limit: int) -> None:
        """Fetch pages from `start` until the bar that opens at `end` or before; both in ms."""
        step, at = _milliseconds(self._interval), start
        while at <= end:
            new = self._page(market, at, limit)
            # An empty page may lie in a gap: continue half a page later, as real limits may be smaller than stated.
            at = max(max(new) + step, at + step) if new else at + step * max(1, limit // 2)
            if self._on_page is not None:
                reached = min(from_milliseconds(at), self.now)
                self._on_page(self._start, reached, self.now)

    def _page(self, market: str, at: int, limit: int) -> list[int]:
        """Fetch one page, keep its bars, and return their open times (ms) from `at` on."""
        step, first, last = _milliseconds(self._interval), to_milliseconds(self._start), to_milliseconds(self.now)
        self._pages += 1
        received = []
        for opened, *values in self.client.bars(market, self._interval, at, limit):
            opened_ms = int(opened)
            if opened_ms % step:
                raise SourceUnavailable(
                    f"{self.client.name}: expected {self._interval} bars of {market} that open at whole intervals, "
                    f"found one at {from_milliseconds(opened_ms):%Y-%m-%d %H:%M:%S}"
                )
            if first <= opened_ms <= last:  # one of the future is no bar, and would end the fetch
                self._rows[opened_ms] = values[:5]
            if at <= opened_ms <= last:
                received.append(opened_ms)
        return received

    def _refetch_gaps(self, market: str, step: int, limit: int) -> None:
        """Fetch once more the bars that are missing between others: a page may have omitted some."""
        at = [to_milliseconds(self._start) - step, *sorted(self._rows)]
        gaps = [here + step for here, after in itertools.pairwise(at) if after - here > step]
        reached = 0
        for gap in gaps[-MAX_REFETCHED_GAPS:]:
            if gap >= reached:
                self._page(market, gap, limit)
                reached = gap + limit * step
        inner = [gap for gap in gaps if gap > at[0] + step]
        if inner:
            closed = sum(gap in self._rows for gap in inner)
            self._notes.append(f"{len(inner)} gaps, {closed} of them closed by fetching them again")


def _received_whole(bars: Bars, received: Int64[np.ndarray, " part"], step: int) -> Bars:
    """Return resampled bars without a first or last one that the exchange may have returned in part only.

    A part that is missing between others had no trade. One before the first received part is older than what the
    exchange serves, one after the last may not be published yet.

    Args:
        bars: of the requested interval.
        received: open times of the shorter bars, the unfinished one included, in ms, ascending.
        step: length of a shorter bar in ms.
    """
    if not len(bars):
        return bars
    first_part = bars.opened_at.astype("datetime64[ms]").astype(np.int64)
    last_part = bars.closed_at.astype("datetime64[ms]").astype(np.int64) - step
    whole = (first_part >= received[0]) & (last_part <= received[-1])
    return Bars(bars.interval, bars.opened_at[whole], bars.ohlcv[whole])


def _aligned(moment: datetime, interval: str) -> datetime:
    """Return the open time of the bar that contains a time."""
    milliseconds = to_milliseconds(moment)
    return from_milliseconds(milliseconds - milliseconds % _milliseconds(interval))


def _milliseconds(interval: str) -> int:
    """Return the length of an interval in ms."""
    return int(interval_delta(interval) / np.timedelta64(1, "ms"))

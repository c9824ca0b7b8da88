"""One exchange, called through ccxt: its markets, its clock, its bars, with retries.

Every call goes through `ExchangeClient._request`, which waits and retries where that can help (time-outs, 429, 5xx,
broken connections, responses that are no JSON) and raises `SourceUnavailable` otherwise. Bars are returned as the
exchange sent them. Caution: ccxt treats an HTML page with status 200 as "no bars", so this module checks itself whether
a response was JSON.
"""

import difflib
import email.utils
import logging
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from model.bars import INTERVAL_NAMES, interval_delta
from model.errors import SourceUnavailable, SpecError
from model.times import from_milliseconds

if TYPE_CHECKING:
    import requests

log = logging.getLogger(__name__)

RETRY_STATUS = frozenset({408, 418, 425, 429})  # and every 5xx; 418 is Binance's answer to requests after 429
SERVER_ERRORS = 500
DEFAULT_PAGE_BARS = 300  # if ccxt does not know the limit of the exchange
NEAR_MISSES = 3
TEXT_SHOWN = 160  # characters of a response in a message


@dataclass(frozen=True, slots=True)
class RetryRule:
    """Attempts, delays and timeout of the requests to an exchange.

    Attributes:
        attempts: of one request, the first included.
        first_delay_seconds: wait after the first failure; it doubles with each failure, with a jitter of 50 %.
        longest_delay_seconds: largest wait; if an exchange demands a longer one (Retry-After), the request fails.
        timeout_seconds: of one response.
    """

    attempts: int = 6
    first_delay_seconds: float = 1.0
    longest_delay_seconds: float = 120.0
    timeout_seconds: float = 20.0


@dataclass(slots=True)
class _LastResponse:
    """Status and headers of the last HTTP response."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)

    def record(self, response: "requests.Response", *_: Any, **__: Any) -> None:
        """Record status and headers; `requests` calls this with each response."""
        self.status = response.status_code
        self.headers = response.headers


class ExchangeClient:
    """A ccxt exchange with retries; each failure has a reason."""

    def __init__(self, name: str, base_url: str, retry: RetryRule) -> None:
        """Create the client; no request is made yet.

        Args:
            name: of the exchange in ccxt.
            base_url: scheme and host that replace the exchange's own; `{exchange}` is replaced by its name. Empty: the
                exchange's own.
            retry: attempts, delays and timeout.

        Raises:
            SpecError: ccxt has no such exchange.
        """
        import ccxt  # imported here: it takes a second to import, and files need none of it

        if name not in ccxt.exchanges:
            near = difflib.get_close_matches(name, ccxt.exchanges, n=NEAR_MISSES, cutoff=0.5)
            raise SpecError(
                f"--source.exchange: there is no exchange {name!r}; similar: {', '.join(near) or 'none'} "
                "(names as in ccxt, such as coinbase, kraken, binance)"
            )
        self.name = name
        self.retries = 0
        self._retry = retry
        self._errors = ccxt
        self._last = _LastResponse()
        self._jitter = random.Random()  # noqa: S311 - spreads waits, no security
        self._exchange = getattr(ccxt, name)(
            {
                "enableRateLimit": True,
                "enableLastJsonResponse": True,
                "timeout": int(retry.timeout_seconds * 1000),
                "has": {"fetchCurrencies": False},  # not needed for bars
                "options": {"fetchMarkets": {"types": ["spot"]}},  # no futures
            }
        )
        self._exchange.session.hooks["response"].append(self._last.record)
        if base_url:
            self._exchange.urls["api"] = _moved(self._exchange.urls["api"], base_url.format(exchange=name).rstrip("/"))
        else:
            self._exchange.session.trust_env = True  # proxies of the environment

    def close(self) -> None:
        """Close the connections."""
        self._exchange.session.close()

    def market(self, symbol: str) -> str:
        """Return the exchange's spelling of a symbol.

        Raises:
            SpecError: the exchange does not trade it; the message lists similar symbols.
            SourceUnavailable: the exchange does not answer, or its answer has no market.
        """
        self._request("markets", self._exchange.load_markets)
        wanted = re.sub(r"[-_ ]", "/", symbol.upper())
        spot = [name for name, market in self._exchange.markets.items() if market.get("spot")]
        if not spot and self._exchange.has.get("spot"):
            raise SourceUnavailable(f"{self.name}: expected its spot markets, found none in its response")
        if wanted in spot:
            return wanted
        near = difflib.get_close_matches(wanted, spot, n=NEAR_MISSES, cutoff=0.5)
        raise SpecError(
            f"--source.symbol: {self.name} does not trade {wanted}; similar: {', '.join(near) or 'none'} "
            f"(it has {len(spot)} symbols)"
        )

    def finest_interval(self, interval: str) -> str:
        """Return the interval to request: the given one, else the longest one that divides it.

        Raises:
            SpecError: the exchange has no interval that divides it; the message lists its intervals.
        """
        offered = [name for name in INTERVAL_NAMES if name in (self._exchange.timeframes or {})]
        if interval in offered:
            return interval
        wanted = interval_delta(interval).astype(int)
        parts = [name for name in offered if wanted % interval_delta(name).astype(int) == 0]
        if not parts:
            raise SpecError(
                f"--source.interval: {self.name} has no {interval} bars and no shorter interval that divides it; "
                f"it has {', '.join(offered) or 'no bars'}"
            )
        return max(parts, key=lambda name: interval_delta(name).astype(int))

    def page_bars(self, market: str) -> int:
        """Return the number of bars per page."""
        limit = self._exchange.feature_value(market, "fetchOHLCV", "limit", DEFAULT_PAGE_BARS)
        return int(limit or DEFAULT_PAGE_BARS)

    def clock(self) -> datetime:
        """Return the time of the exchange: the earlier of its clock and the date of its HTTP response.

        Raises:
            SourceUnavailable: it reports no time.
        """
        times = []
        if self._exchange.has.get("fetchTime"):
            milliseconds = self._request("time", self._exchange.fetch_time)
            if not isinstance(milliseconds, int):
                raise SourceUnavailable(f"{self.name}: expected its time in milliseconds, found {milliseconds!r}")
            times.append(from_milliseconds(milliseconds))
        dated = _http_date(self._last.headers.get("Date", ""))
        if dated is not None:
            times.append(dated)
        if not times:
            raise SourceUnavailable(
                f"{self.name}: expected a clock or a dated response, found neither; the unfinished bar "
                "cannot be identified"
            )
        return min(times)

    def bars(self, market: str, interval: str, since_ms: int, limit: int) -> list[list[float]]:
        """Return a page of bars as rows of open time (ms), open, high, low, close, volume.

        Raises:
            SourceUnavailable: the exchange does not answer, or the response contains no bars.
        """
        page = self._request(
            f"bars {market} {interval} from {from_milliseconds(since_ms):%Y-%m-%d %H:%M}",
            lambda: self._exchange.fetch_ohlcv(market, interval, since_ms, limit),
        )
        if not isinstance(page, list) or any(len(row) < 6 or not row[0] for row in page):  # noqa: PLR2004 - OHLCV and time
            raise SourceUnavailable(f"{self.name}: expected rows of time and OHLCV, found {str(page)[:TEXT_SHOWN]}")
        return page

    def _request(self, what: str, call: Callable[[], Any]) -> Any:
        """Call until there is a response, with growing waits; raise SourceUnavailable if retries cannot help."""
        delay = self._retry.first_delay_seconds
        for attempt in range(1, self._retry.attempts + 1):
            self._last.status, self._last.headers = 0, {}
            self._exchange.last_json_response = None
            try:
                answer = call()
            except self._errors.BaseError as error:
                reason = self._reason(error)
                if not self._is_transient(error):
                    raise SourceUnavailable(f"{self.name}: {what}: refused, {reason}") from error
            except (
                AttributeError,
                IndexError,
                KeyError,
                TypeError,
                ValueError,
            ) as error:  # ccxt on an unexpected response
                if self._last.status == 0:
                    raise
                reason = f"the response could not be parsed ({error!r})"
            else:
                if self._last.status == 0 or self._exchange.last_json_response is not None:
                    return answer  # status 0: ccxt had it cached
                reason = "the response was no JSON"
            if attempt < self._retry.attempts:
                wait = self._wait_seconds(delay, what)
                log.warning("%s: %s: %s; retrying in %.1f s", self.name, what, reason, wait)
                self.retries += 1
                time.sleep(wait)
                delay *= 2
        raise SourceUnavailable(
            f"{self.name}: {what}: expected an answer, found none in {self._retry.attempts} attempts; last: "
            f"{reason}. Try again later, or add another exchange with --source.exchange"
        )

    def _is_transient(self, error: Exception) -> bool:
        """Whether a retry can help."""
        status = self._last.status
        if status >= SERVER_ERRORS or status in RETRY_STATUS:
            return True
        if 400 <= status < SERVER_ERRORS:  # noqa: PLR2004 - HTTP's own bounds
            return False
        return isinstance(error, self._errors.OperationFailed)

    def _reason(self, error: Exception) -> str:
        """Return a short description of an error."""
        status = f"HTTP {self._last.status}, " if self._last.status else ""
        return f"{status}{type(error).__name__}: {re.sub(r'<[^<>]*>', ' ', str(error))[:TEXT_SHOWN]}"

    def _wait_seconds(self, delay: float, what: str) -> float:
        """Return how long to wait: the time in Retry-After, else the delay with a jitter of 50 %."""
        retry_after = self._last.headers.get("Retry-After", "")
        dated, sent = _http_date(retry_after), _http_date(self._last.headers.get("Date", ""))
        if retry_after.strip().isdecimal():
            delay = float(retry_after)
        elif dated is not None and sent is not None:
            delay = max(0.0, (dated - sent).total_seconds())
        else:
            delay *= self._jitter.uniform(0.5, 1.5)
            return min(delay, self._retry.longest_delay_seconds)
        if delay > self._retry.longest_delay_seconds:
            raise SourceUnavailable(
                f"{self.name}: {what}: it demands a wait of {delay:.0f} s, the limit is "
                f"{self._retry.longest_delay_seconds:.0f} s"
            )
        return delay


def _moved(urls: Any, base: str) -> Any:
    """Replace scheme and host of every address in ccxt's nested `urls`."""
    if isinstance(urls, dict):
        return {name: _moved(url, base) for name, url in urls.items()}
    return re.sub(r"^https?://[^/]+", base, urls) if isinstance(urls, str) else urls


def _http_date(text: str) -> datetime | None:
    """Parse an HTTP date; None if the text is none."""
    try:
        return email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None

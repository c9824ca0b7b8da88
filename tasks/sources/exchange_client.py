"""One exchange, called through ccxt: its markets, its clock, its bars, and what to do when it does not answer.

Every call goes through `ExchangeClient._answer`, which waits and asks again where asking again can help (time-outs,
429, 5xx, broken connections, answers that are no JSON) and raises `SourceUnavailable` where it cannot. Bars come as
arrays, oldest first, as the exchange gave them. The trap: ccxt takes an HTML page with status 200 for "no bars";
whether an answer was JSON is therefore looked at here.
"""

import difflib
import email.utils
import logging
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from model.bars import INTERVAL_NAMES, interval_delta
from model.errors import SourceUnavailable, SpecError

if TYPE_CHECKING:
    import requests

log = logging.getLogger(__name__)

ASK_AGAIN_STATUS = frozenset({408, 418, 425, 429})  # and every 5xx; 418 is Binance's "you went on after 429"
SERVER_ERRORS = 500
DEFAULT_PAGE_BARS = 300  # where ccxt does not know the exchange's limit
NEAR_MISSES = 3
TEXT_SHOWN = 160  # characters of an exchange's answer in a message


@dataclass(frozen=True, slots=True)
class RetryRule:
    """How patiently an exchange is asked.

    Attributes:
        attempts: calls of one question, the first included.
        first_delay_seconds: wait after the first failure; it doubles from failure to failure, and varies by half.
        longest_delay_seconds: bound of a wait; an exchange that asks for a longer one (Retry-After) is given up.
        timeout_seconds: how long one answer may take.
    """

    attempts: int = 6
    first_delay_seconds: float = 1.0
    longest_delay_seconds: float = 120.0
    timeout_seconds: float = 20.0


@dataclass(slots=True)
class _Heard:
    """What the last HTTP answer said besides its body."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)

    def listen(self, response: "requests.Response", *_: Any, **__: Any) -> None:
        """Take down status and headers; `requests` calls this with each answer."""
        self.status = response.status_code
        self.headers = response.headers


class ExchangeClient:
    """A ccxt exchange whose questions are answered or refused with a reason."""

    def __init__(self, name: str, base_url: str, retry: RetryRule) -> None:
        """Set an exchange up; nothing is asked yet.

        Args:
            name: ccxt's name of the exchange.
            base_url: scheme and host that replace the exchange's own, `{exchange}` in it standing for the name; empty:
                the exchange's own.
            retry: how patiently it is asked.

        Raises:
            SpecError: ccxt knows no such exchange.
        """
        import ccxt  # here: it takes a second to import, and files need none of it

        if name not in ccxt.exchanges:
            near = difflib.get_close_matches(name, ccxt.exchanges, n=NEAR_MISSES, cutoff=0.5)
            raise SpecError(
                f"--source.exchange: there is no exchange {name!r}; near it: {', '.join(near) or 'nothing'} "
                "(names are ccxt's, such as coinbase, kraken, binance)"
            )
        self.name = name
        self.retries = 0
        self._retry = retry
        self._errors = ccxt
        self._heard = _Heard()
        self._jitter = random.Random()  # noqa: S311 - spreads waits, guards nothing
        self._exchange = getattr(ccxt, name)(
            {
                "enableRateLimit": True,
                "enableLastJsonResponse": True,
                "timeout": int(retry.timeout_seconds * 1000),
                "has": {"fetchCurrencies": False},  # bars need no list of coins
                "options": {"fetchMarkets": {"types": ["spot"]}},  # nor Binance's futures
            }
        )
        self._exchange.session.hooks["response"].append(self._heard.listen)
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
            SpecError: the exchange does not trade it; the near misses are named.
            SourceUnavailable: the exchange does not answer.
        """
        self._answer("markets", self._exchange.load_markets)
        wanted = re.sub(r"[-_ ]", "/", symbol.upper())
        spot = [name for name, market in self._exchange.markets.items() if market.get("spot")]
        if wanted in spot:
            return wanted
        near = difflib.get_close_matches(wanted, spot, n=NEAR_MISSES, cutoff=0.5)
        raise SpecError(
            f"--source.symbol: {self.name} does not trade {wanted}; near it: {', '.join(near) or 'nothing'} "
            f"(it has {len(spot)} symbols)"
        )

    def finest_interval(self, interval: str) -> str:
        """Return the interval to ask for: the one wanted, else the longest that divides it.

        Raises:
            SpecError: the exchange has no interval to make it from; what it has is named.
        """
        offered = [name for name in INTERVAL_NAMES if name in (self._exchange.timeframes or {})]
        if interval in offered:
            return interval
        wanted = interval_delta(interval).astype(int)
        parts = [name for name in offered if wanted % interval_delta(name).astype(int) == 0]
        if not parts:
            raise SpecError(
                f"--source.interval: {self.name} has no {interval} and nothing to make it from; "
                f"it has {', '.join(offered) or 'no bars at all'}"
            )
        return max(parts, key=lambda name: interval_delta(name).astype(int))

    def page_bars(self, market: str) -> int:
        """Return how many bars the exchange gives at once."""
        limit = self._exchange.feature_value(market, "fetchOHLCV", "limit", DEFAULT_PAGE_BARS)
        return int(limit or DEFAULT_PAGE_BARS)

    def clock(self) -> datetime:
        """Return the exchange's time: the earlier of what it says and what its HTTP answer is dated.

        Raises:
            SourceUnavailable: it tells no time.
        """
        moments = []
        if self._exchange.has.get("fetchTime"):
            said = self._answer("time", self._exchange.fetch_time)
            if not isinstance(said, int):
                raise SourceUnavailable(f"{self.name}: expected its time in milliseconds, found {said!r}")
            moments.append(datetime.fromtimestamp(said / 1000, UTC))
        dated = _http_date(self._heard.headers.get("Date", ""))
        if dated is not None:
            moments.append(dated)
        if not moments:
            raise SourceUnavailable(f"{self.name}: it tells no time, so the unfinished bar cannot be told apart")
        return min(moments)

    def bars(self, market: str, interval: str, since_ms: int, limit: int) -> list[list[float]]:
        """Return a page of bars as rows of open time (ms), open, high, low, close, volume.

        Raises:
            SourceUnavailable: the exchange does not answer, or answers with something that is not bars.
        """
        page = self._answer(
            f"bars {market} {interval} from {datetime.fromtimestamp(since_ms / 1000, UTC):%Y-%m-%d %H:%M}",
            lambda: self._exchange.fetch_ohlcv(market, interval, since_ms, limit),
        )
        if not isinstance(page, list) or any(len(row) < 6 or not row[0] for row in page):  # noqa: PLR2004 - OHLCV and time
            raise SourceUnavailable(f"{self.name}: expected rows of time and OHLCV, found {str(page)[:TEXT_SHOWN]}")
        return page

    def _answer(self, question: str, ask: Callable[[], Any]) -> Any:
        """Ask until there is an answer, with growing waits; raise SourceUnavailable where there will be none."""
        delay = self._retry.first_delay_seconds
        for attempt in range(1, self._retry.attempts + 1):
            self._heard.status, self._heard.headers = 0, {}
            self._exchange.last_json_response = None
            try:
                answer = ask()
            except self._errors.BaseError as error:
                reason = self._reason(error)
                if not self._may_pass(error):
                    raise SourceUnavailable(f"{self.name}: {question}: refused, {reason}") from error
            except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:  # ccxt on a strange answer
                if self._heard.status == 0:
                    raise
                reason = f"the answer could not be understood ({error!r})"
            else:
                if self._heard.status == 0 or self._exchange.last_json_response is not None:
                    return answer  # status 0: ccxt knew the answer already
                reason = "the answer was no JSON"
            if attempt < self._retry.attempts:
                wait = self._wait_seconds(delay, question)
                log.warning("%s: %s: %s; asking again in %.1f s", self.name, question, reason, wait)
                self.retries += 1
                time.sleep(wait)
                delay *= 2
        raise SourceUnavailable(
            f"{self.name}: {question}: expected an answer, found none in {self._retry.attempts} attempts; last: "
            f"{reason}. Try later, or name a further exchange with --source.exchange"
        )

    def _may_pass(self, error: Exception) -> bool:
        """Tell whether asking again can help."""
        status = self._heard.status
        if status >= SERVER_ERRORS or status in ASK_AGAIN_STATUS:
            return True
        if 400 <= status < SERVER_ERRORS:  # noqa: PLR2004 - HTTP's own bounds
            return False
        return isinstance(error, self._errors.OperationFailed)

    def _reason(self, error: Exception) -> str:
        """Say in a few words what went wrong."""
        status = f"HTTP {self._heard.status}, " if self._heard.status else ""
        return f"{status}{type(error).__name__}: {re.sub(r'<[^>]*>', ' ', str(error))[:TEXT_SHOWN]}"

    def _wait_seconds(self, delay: float, question: str) -> float:
        """Return how long to wait: as asked for by Retry-After, else the delay varied by half."""
        asked = self._heard.headers.get("Retry-After", "")
        dated, sent = _http_date(asked), _http_date(self._heard.headers.get("Date", ""))
        if asked.strip().isdecimal():
            delay = float(asked)
        elif dated is not None and sent is not None:
            delay = max(0.0, (dated - sent).total_seconds())
        else:
            delay *= self._jitter.uniform(0.5, 1.5)
            return min(delay, self._retry.longest_delay_seconds)
        if delay > self._retry.longest_delay_seconds:
            raise SourceUnavailable(
                f"{self.name}: {question}: it asks to wait {delay:.0f} s, longer than "
                f"{self._retry.longest_delay_seconds:.0f} s"
            )
        return delay


def _moved(urls: Any, base: str) -> Any:
    """Replace scheme and host of every address in ccxt's nested `urls`."""
    if isinstance(urls, dict):
        return {name: _moved(url, base) for name, url in urls.items()}
    return re.sub(r"^https?://[^/]+", base, urls) if isinstance(urls, str) else urls


def _http_date(text: str) -> datetime | None:
    """Read an HTTP date, or return None where the text is none."""
    try:
        return email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None

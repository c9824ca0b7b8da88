"""A real HTTP server on loopback that speaks the public candle endpoints of Coinbase, Binance and Kraken.

It serves given bars as of a moment that the test sets, the unfinished bar included, and can be told to misbehave: each
fault of a queue spoils one answer to a question for candles. What is spoken is what ccxt asks; ccxt stays
untouched, but for its waits.
"""

import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

import numpy as np

from model.bars import Bars

Rows = list[tuple[int, float, float, float, float, float]]  # open time in seconds, OHLCV
GRANULARITY = {
    "ONE_MINUTE": "1m",
    "FIVE_MINUTE": "5m",
    "FIFTEEN_MINUTE": "15m",
    "THIRTY_MINUTE": "30m",
    "ONE_HOUR": "1h",
    "TWO_HOUR": "2h",
    "SIX_HOUR": "6h",
    "ONE_DAY": "1d",
}
KRAKEN_MINUTES = {"1": "1m", "5": "5m", "15": "15m", "30": "30m", "60": "1h", "240": "4h", "1440": "1d"}
KRAKEN_BARS = 720
COINBASE_BARS = 350


@dataclass(frozen=True)
class Fault:
    """What is wrong with one answer.

    Attributes:
        status: HTTP status other than 200.
        headers: headers beside it.
        body: a body that replaces the right one.
        cut_bytes: how many bytes are missing at the end of the body, while the length says that none is.
        truncated: whether the body is half of the JSON, with a length that fits.
        closes: whether the connection closes without a word.
        delay_seconds: how long the answer takes.
        change: what happens to the bars of the answer.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    cut_bytes: int = 0
    truncated: bool = False
    closes: bool = False
    delay_seconds: float = 0.0
    change: Callable[[Rows], Rows] | None = None


class LoopbackExchange:
    """Three exchanges in one process: the first part of a path is the exchange's name."""

    def __init__(self, series: dict[str, Bars], now: np.datetime64) -> None:
        self.series = series
        self.now = now
        self.clock_error_seconds = 0
        self.first_served: dict[str, np.datetime64] = {}
        self.faults: dict[str, deque[Fault]] = {"coinbase": deque(), "binance": deque(), "kraken": deque()}
        self.always: dict[str, Fault] = {}
        self.asked: list[str] = []
        exchange = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                exchange.answer(self)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate(exchange.seconds() if timestamp is None else timestamp, usegmt=True)

            def log_message(self, *_: Any) -> None:
                """Keep the terminal quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{{exchange}}"

    @contextmanager
    def running(self) -> Iterator["LoopbackExchange"]:
        """Answer; ccxt does not wait between its requests, as it would for the rate limit of a real exchange."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            with patch("ccxt.Exchange.throttle"):
                yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def seconds(self) -> int:
        return int(self.now.astype("datetime64[s]").astype(np.int64))

    def candles_asked(self) -> int:
        return sum("andles" in path or "klines" in path or "OHLC" in path for path in self.asked)

    def rows(self, interval: str) -> Rows:
        """The bars that have opened by now; the last one is not finished, and shows a part of itself."""
        bars = self.series[interval]
        opened = bars.opened_at[bars.opened_at <= self.now]
        seconds = opened.astype("datetime64[s]").astype(np.int64)
        rows = [(int(at), *map(float, bar)) for at, bar in zip(seconds, bars.ohlcv[: len(opened)], strict=True)]
        if rows and opened[-1] + bars.delta > self.now:
            at, start, _, _, _, volume = rows[-1]
            rows[-1] = (at, start, start * 1.001, start * 0.999, start * 1.0005, volume / 7)
        return rows  # type: ignore[return-value]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request, well or badly."""
        self.asked.append(handler.path)
        url = urlsplit(handler.path)
        name, _, path = url.path.lstrip("/").partition("/")
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        is_candles = path.endswith(("candles", "klines", "OHLC"))
        fault = self.always.get(name) or (self.faults[name].popleft() if is_candles and self.faults[name] else Fault())
        if fault.delay_seconds:
            time.sleep(fault.delay_seconds)
        if fault.closes:
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        content = getattr(self, f"_{name}")(path, query, fault.change or (lambda rows: rows))
        status = 404 if content is None else fault.status
        body = (fault.body or json.dumps(content if content is not None else {"error": "not found"})).encode()
        if fault.truncated:
            body = body[: len(body) // 2]
        handler.send_response(status)
        handler.send_header("Content-Type", "text/html" if fault.body.startswith("<") else "application/json")
        handler.send_header("Content-Length", str(len(body)))
        for header, value in fault.headers.items():
            handler.send_header(header, value)
        handler.end_headers()
        with suppress(BrokenPipeError, ConnectionResetError):  # the client may have waited long enough
            handler.wfile.write(body[: len(body) - fault.cut_bytes])

    def _coinbase(self, path: str, query: dict[str, str], change: Callable[[Rows], Rows]) -> Any:
        if path == "v2/time":
            return {"data": {"epoch": self.seconds() + self.clock_error_seconds, "iso": ""}}
        if path == "api/v3/brokerage/market/products":
            pairs = [] if query.get("product_type") == "FUTURE" else ["BTC-USD", "BTC-EUR", "ETH-USD"]
            return {"products": [_coinbase_product(pair) for pair in pairs]}
        if path.startswith("api/v3/brokerage/market/products/BTC-USD/candles"):
            start, end = int(query["start"]), int(query["end"])
            rows = [row for row in self.rows(GRANULARITY[query["granularity"]]) if start <= row[0] <= end]
            names = ("start", "open", "high", "low", "close", "volume")
            newest_first = change(rows[-COINBASE_BARS:][::-1])
            return {"candles": [dict(zip(names, map(_text, row), strict=True)) for row in newest_first]}
        return None

    def _binance(self, path: str, query: dict[str, str], change: Callable[[Rows], Rows]) -> Any:
        if path == "api/v3/time":
            return {"serverTime": (self.seconds() + self.clock_error_seconds) * 1000}
        if path == "api/v3/exchangeInfo":
            return {
                "timezone": "UTC",
                "serverTime": 0,
                "symbols": [_binance_symbol("BTC", "USDT"), _binance_symbol("BTC", "USD")],
            }
        if path == "api/v3/klines":
            start, limit = int(query["startTime"]) // 1000, int(query.get("limit", "500"))
            rows = change([row for row in self.rows(query["interval"]) if row[0] >= start][:limit])
            return [[at * 1000, *map(_text, ohlcv), at * 1000, "0", 1, "0", "0", "0"] for at, *ohlcv in rows]
        return None

    def _kraken(self, path: str, query: dict[str, str], change: Callable[[Rows], Rows]) -> Any:
        if path == "0/public/Time":
            return {"error": [], "result": {"unixtime": self.seconds() + self.clock_error_seconds, "rfc1123": ""}}
        if path == "0/public/AssetPairs":
            return {"error": [], "result": {"XXBTZUSD": _kraken_pair()}}
        if path == "0/public/OHLC":
            rows = self.rows(KRAKEN_MINUTES[query["interval"]])[-KRAKEN_BARS:]
            rows = change([row for row in rows if row[0] > int(query.get("since", "0"))])
            told = [
                [at, _text(o), _text(h), _text(low), _text(c), _text(c), _text(v), 9] for at, o, h, low, c, v in rows
            ]
            return {"error": [], "result": {"XXBTZUSD": told, "last": rows[-1][0] if rows else 0}}
        return None


def _text(number: float) -> str:
    return repr(number)


def _coinbase_product(pair: str) -> dict[str, Any]:
    base, quote = pair.split("-")
    return {
        "product_id": pair,
        "base_currency_id": base,
        "quote_currency_id": quote,
        "product_type": "SPOT",
        "status": "online",
        "base_increment": "0.00000001",
        "quote_increment": "0.01",
        "price_increment": "0.01",
        "quote_min_size": "1",
        "quote_max_size": "1000",
        "base_min_size": "0.1",
        "base_max_size": "10",
        "trading_disabled": False,
        "price": "1",
    }


def _binance_symbol(base: str, quote: str) -> dict[str, Any]:
    return {
        "symbol": base + quote,
        "status": "TRADING",
        "baseAsset": base,
        "quoteAsset": quote,
        "isSpotTradingAllowed": True,
        "baseAssetPrecision": 8,
        "quoteAssetPrecision": 8,
        "quotePrecision": 8,
        "filters": [],
        "permissions": ["SPOT"],
        "orderTypes": ["LIMIT"],
        "permissionSets": [["SPOT"]],
    }


def _kraken_pair() -> dict[str, Any]:
    return {
        "altname": "XBTUSD",
        "wsname": "XBT/USD",
        "base": "XXBT",
        "quote": "ZUSD",
        "status": "online",
        "pair_decimals": 1,
        "lot_decimals": 8,
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": [[0, 0.26]],
        "fees_maker": [[0, 0.16]],
        "ordermin": "0.0001",
        "costmin": "0.5",
        "tick_size": "0.1",
    }

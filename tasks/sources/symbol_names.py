"""How files name the symbol of a series: BTC/USD, btcusdt, XBTUSD, BINANCE:BTCUSDT, Bitcoin; and what is another one.

A name is the symbol's only if every part of it is: BTC-TRY, BTCB/USD and Bitcoin Cash are not BTC-USD. Dollar
currencies count as one. Caution: a bare base (BTC) fits every quote.
"""

import re

DOLLARS = frozenset({"usd", "usdt", "usdc", "busd", "fdusd"})
CURRENCIES = DOLLARS | {
    *("eur", "gbp", "jpy", "krw", "aud", "cad", "chf", "cny", "try", "brl", "inr", "rub", "mxn", "zar", "sgd", "hkd"),
    *("sek", "nok", "dkk", "pln", "nzd", "idr", "thb", "php", "vnd", "ngn", "ars", "uah", "ils", "aed", "czk", "huf"),
}
COINS = {  # own list: the full names of coins; a column named after one of them is that coin's, whatever the file holds
    "btc": ("xbt", "bitcoin"),
    "eth": ("ethereum", "ether"),
    "xrp": ("ripple",),
    "ltc": ("litecoin",),
    "bch": ("bitcoincash",),
    "sol": ("solana",),
    "ada": ("cardano",),
    "doge": ("xdg", "dogecoin"),
    "bnb": ("binancecoin",),
    "dot": ("polkadot",),
    "avax": ("avalanche",),
    "trx": ("tron",),
    "xlm": ("stellar",),
    "xmr": ("monero",),
    "etc": ("ethereumclassic",),
    "eos": (),
}
ALIASES = {alias: coin for coin, aliases in COINS.items() for alias in aliases}
VENUE = re.compile(r"[A-Za-z_]+(?::|_SPOT_)(?=\w)")  # BINANCE:BTCUSDT, BITSTAMP_SPOT_BTC_USD
CONTRACT = re.compile(  # BTCUSDT.P, BTC-PERPETUAL, BTC-USDT-SWAP, BTC-USD.CC, BTC.V, AAPL.US
    r"(?i:\.P|\.X|\.V|\.CC|\.US|=X|[-_.]?PERP(ETUAL)?|[-_]SWAP|[-_]SPOT)$"
)
SHORTEST_BASE = 2
LONGEST_NAME = 100  # of a symbol in a file


def base_and_quote(symbol: str) -> tuple[str, str]:
    """Return base and quote of a symbol in small letters, such as btc and usd; an empty quote where it has none."""
    base, *rest = re.findall(r"[a-z0-9]+", symbol.lower()) or [""]
    quote = rest[0] if rest and rest[0] in CURRENCIES | COINS.keys() else "".join(rest)  # BTC-USD-2 is BTC in USD, too
    if not quote or quote.isdecimal():
        for currency in sorted(CURRENCIES, key=len, reverse=True):
            if base.endswith(currency) and len(base) >= len(currency) + SHORTEST_BASE:
                base, quote = base.removesuffix(currency), currency
                break
    return ALIASES.get(base, base), quote


def spellings(base: str) -> frozenset[str]:
    """Return the names of a base in small letters, such as btc, xbt and bitcoin."""
    return frozenset({base, *COINS.get(base, ())})


def is_same_currency(currency: str, quote: str) -> bool:
    """Return whether a currency is a quote, or both are dollars, in small letters; an unknown quote may be any."""
    return (quote not in CURRENCIES and quote not in COINS) or currency == quote or {currency, quote} <= DOLLARS


def is_exactly(name: str, symbol: str) -> bool:
    """Return whether a name is base and quote of a symbol, whatever separates them."""
    base, quote = base_and_quote(symbol)
    return _is_pair(name, spellings(base), frozenset({quote}))


def names_symbol(name: str, symbol: str) -> bool:
    """Return whether a name in a file means a symbol, or, as in a column of currencies, its quote."""
    base, quote = base_and_quote(symbol)
    bases, quotes = spellings(base), frozenset({quote})
    if quote in DOLLARS:
        quotes = DOLLARS
    elif not quote:
        quotes = CURRENCIES | {""}
    name = name.strip()
    plain = CONTRACT.sub("", name)
    if _is_pair(name, bases, quotes) or _is_pair(plain, bases, quotes | {""}) or name.lower() in quotes:
        return True
    inner = [name[1:]] if re.match("t[A-Z]", name) else []  # tBTCUSD, as Bitfinex writes it
    if VENUE.match(plain):
        inner.append(VENUE.sub("", plain, count=1))
    pair, _, settled = name.partition(":")  # BTC/USDT:USDT
    if settled.lower() in quotes | bases:
        inner.append(pair)
    return any(_is_pair(each, bases, quotes) for each in inner)


def _is_pair(name: str, bases: frozenset[str], quotes: frozenset[str]) -> bool:
    """Return whether a name is a base and a quote; a separator counts: BTC/BUSD and BTCB/USD differ."""
    if len(name) > LONGEST_NAME:
        return False
    parts = re.findall(r"[^\W_]+", name.lower())
    if len(parts) == 1:
        pairs = ((base, quote) for base in bases for quote in quotes)
        return any(parts[0] in (base + quote, f"x{base}z{quote}") for base, quote in pairs)  # XXBTZUSD, as Kraken does
    if parts and bases.issuperset(parts):
        return True  # Bitcoin (BTC)
    return any("".join(parts[:at]) in bases and "".join(parts[at:]) in quotes for at in range(1, len(parts) + 1))

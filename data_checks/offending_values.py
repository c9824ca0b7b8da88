"""Text of the value that breaks a rule, such as `low 0.06`: for messages and for the quarantine table."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64

from model.bars import PRICES

SHOWN_DIFFERENCES = 2


def offending_values(rule: str, rows: pd.DataFrame) -> list[str]:
    """Return the column and the value that break a rule, such as `low 0.06`, one string per row."""
    volumes = [f"volume {value:g}" for value in rows["volume"].tolist()]
    if rule in {"unreal_volume", "lesser_double", "part_bar"}:
        return volumes
    if rule == "undecided_double":
        return _differences(rows)
    if rule in _PRICE_OFFENCES:
        return _PRICE_OFFENCES[rule](rows[list(PRICES)].to_numpy(dtype=np.float64))
    return [f"opened {time_text(value)}" for value in rows["timestamp"].to_numpy()]


def _differences(rows: pd.DataFrame) -> list[str]:
    """Return for each of several rows of one time the values that differ from another one's: `close 105 vs. 106`."""
    texts = []
    values = rows[[*PRICES, "volume"]].to_numpy(dtype=np.float64)
    groups = rows.groupby("timestamp").indices
    for at, time in enumerate(rows["timestamp"]):
        others = values[groups[time]]
        unlike = (others != values[at]) & ~(np.isnan(others) & np.isnan(values[at]))
        named = [
            f"{name} {values[at, column]:.10g} vs. {others[unlike[:, column].argmax(), column]:.10g}"
            for column, name in enumerate((*PRICES, "volume"))
            if unlike[:, column].any()
        ]
        texts.append(", ".join(named[:SHOWN_DIFFERENCES]) or "the same values")
    return texts


def _absent(prices: Float64[np.ndarray, "bar 4"]) -> list[str]:
    return [f"{PRICES[column]} absent" for column in np.isnan(prices).argmax(axis=1).tolist()]


def _unreal(prices: Float64[np.ndarray, "bar 4"]) -> list[str]:
    return _named_values(((prices <= 0) | np.isinf(prices)).argmax(axis=1), prices)


def _absurd(prices: Float64[np.ndarray, "bar 4"]) -> list[str]:
    opened, high, low, close = prices.T
    return _named_values(np.where(np.fmin(opened, close) / low > high / np.fmax(opened, close), 2, 1), prices)


def _beyond_edge(prices: Float64[np.ndarray, "bar 4"]) -> list[str]:
    """Return the high or low that is wrong, and the price beyond it: `high 90 under close 100`."""
    opened, high, low, close = prices.T
    high_fails = high < np.fmax(np.fmax(opened, close), low)  # otherwise it is the low
    others = prices[:, [0, 2, 3]]
    beyond = np.array([0, 2, 3])[np.where(high_fails, others.argmax(axis=1), others.argmin(axis=1))]
    edges, relations = _named_values(np.where(high_fails, 1, 2), prices), np.where(high_fails, "under", "over").tolist()
    return [
        f"{edge} {relation} {price}"
        for edge, relation, price in zip(edges, relations, _named_values(beyond, prices), strict=True)
    ]


def _range(prices: Float64[np.ndarray, "bar 4"]) -> list[str]:
    edges = zip(prices.min(axis=1).tolist(), prices.max(axis=1).tolist(), strict=True)
    return [f"prices {low:.10g} to {high:.10g}" for low, high in edges]


_PRICE_OFFENCES: dict[str, Callable[[Float64[np.ndarray, "bar 4"]], list[str]]] = {
    "absent_price": _absent,
    "unreal_price": _unreal,
    "absurd_tick": _absurd,
    "absurd_price": _range,
    "contradicting_price": _beyond_edge,
}


def _named_values(column: np.ndarray, prices: Float64[np.ndarray, "bar 4"]) -> list[str]:
    chosen = np.take_along_axis(prices, column[:, None], axis=1)[:, 0]
    return [f"{PRICES[index]} {value:.10g}" for index, value in zip(column.tolist(), chosen.tolist(), strict=True)]


def time_text(time: Any) -> str:
    """Return a time as `2019-10-17`, with hours, minutes and seconds where they are not zero."""
    text = pd.Timestamp(time).strftime("%Y-%m-%d %H:%M:%S")
    return text.removesuffix(":00").removesuffix(" 00:00")

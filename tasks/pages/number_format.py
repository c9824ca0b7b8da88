"""How pages write numbers: a value with its confidence interval, shares, p-values; `undefined` for NaN."""

import math

import numpy as np
from markupsafe import Markup

from model.bootstrap import Interval
from tasks.pages.html_page import value_with_note

LEAST_P_VALUE = 0.001  # the usual least p-value worth printing


def with_interval(interval: Interval, form: str) -> Markup:
    """Return a value with its 95 % interval below it; one that is undefined has none."""
    bounds = "" if np.isnan(interval.value) else interval_text(interval.low, interval.high, form)
    return value_with_note(number_text(interval.value, form), bounds)


def interval_text(low: float, high: float, form: str = ".4f") -> str:
    """Return an interval as `[low, high]`."""
    return f"[{low:{form}}, {high:{form}}]"


def number_text(value: float, form: str = ".3f") -> str:
    """Return a number; `undefined` for NaN."""
    return "undefined" if np.isnan(value) else f"{value:{form}}"


def price_text(price: float) -> str:
    """Return a price with six significant digits and without an exponent, such as `60,123.5` and `0.0000123`."""
    decimals = max(0, 5 - math.floor(math.log10(price)))
    text = f"{price:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def points_text(difference: float, decimals: int) -> str:
    """Return a difference of two shares in percentage points."""
    return f"{100 * difference:+.{decimals}f} pp"


def p_value_text(p_value: float, equals: str = "") -> str:
    """Return a p-value, never as 0.

    Args:
        p_value: 0 to 1.
        equals: written before a value that is not below `LEAST_P_VALUE`.
    """
    return f"< {LEAST_P_VALUE}" if p_value < LEAST_P_VALUE else f"{equals}{p_value:.3f}"


def moment_text(at: np.datetime64) -> str:
    """Return a time to the minute, UTC."""
    return f"{np.datetime_as_string(at, unit='m').item().replace('T', ' ')} UTC"


def day_span(first: np.datetime64, last: np.datetime64) -> str:
    """Return the days of the first and the last of some times."""
    return f"{np.datetime_as_string(first, unit='D')} to {np.datetime_as_string(last, unit='D')}"

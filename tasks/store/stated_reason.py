"""The reason that a person states for a decision or about bars: one line of text, stored and shown for ever."""

import unicodedata

from model.errors import SpecError

ACTING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # controls, marks such as right-to-left, halves of characters
JOINERS = "\u200c\u200d"  # part of words and of emoji


def require_one_line(reason: str) -> None:
    r"""Raise SpecError if a reason has characters that a terminal obeys, such as escapes and newlines; it may be empty.

    Examples:
        >>> require_one_line("the exchange was down; größer ist anders")
        >>> require_one_line("two\nlines")
        Traceback (most recent call last):
        model.errors.SpecError: --reason: expected one line of text without control characters, found 'two\nlines'
    """
    if any(unicodedata.category(each) in ACTING and each not in JOINERS for each in reason):
        raise SpecError(f"--reason: expected one line of text without control characters, found {reason!r}")

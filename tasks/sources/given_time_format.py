"""What `--source.timestamp-format` states about times: a unit of unix times, whole dates, whole clock times, UTC.

strptime fills in what a format leaves out (1900, the first of a month, midnight) and compares text in a format without
reading it: with `%H:%M+09:00` the offset is lost. Such formats are refused. Nothing here reads a file.
"""

import re

UNIX_UNITS = {  # name, and microseconds in one
    "s": ("seconds", 10**6),
    "ms": ("milliseconds", 10**3),
    "us": ("microseconds", 1),
    "ns": ("nanoseconds", 0),
}
SAME = str.maketrans({"y": "Y", "b": "m", "B": "m", "W": "U", "A": "a", "w": "a", "u": "a"})  # read as the same part
DATES = tuple(map(frozenset, ("Ymd", "Yj", "YUa", "GVa", "x", "c")))
CLOCKS = tuple(map(frozenset, ("", "H", "HM", "HMS", "HMSf", "Ip", "IpM", "IpMS", "IpMSf", "X")))
UTC_WORDS = frozenset({"z", "utc", "gmt"})
LONGEST_WORD = 2  # letters of text that is no zone, such as T or st; `am` and `pm` are times
OFFSET = re.compile(r"[+-]00(:?00)?(?!\d)")


def require_whole_times(written: str) -> None:
    """Raise ValueError unless a format states one whole date, a clock time or none, and neither zone nor time as text.

    A unit of unix times passes, and so does an empty text.

    Examples:
        >>> require_whole_times("%d.%m.%Y %H:%M")
        >>> require_whole_times("%d.%m.")
        Traceback (most recent call last):
        ValueError: expected a format of one whole date, such as '%Y-%m-%d', '%d %b %y' or '%Y %j'
    """
    if written in ("", *UNIX_UNITS):
        return
    text, directives = _text_and_directives(written)
    listed = [directive.translate(SAME) for directive in directives if directive != "%"]
    parts = set(listed)
    date = parts & set("YmdjUGVxca")
    if len(parts) < len(listed) or (date not in DATES and date - {"a"} not in DATES):
        raise ValueError("expected a format of one whole date, such as '%Y-%m-%d', '%d %b %y' or '%Y %j'")
    if parts & set("HIMSfpX") not in CLOCKS:
        raise ValueError("expected a format of a whole time of day, such as '%H', '%H:%M:%S' or '%I:%M %p', or of none")
    words = {word for word in _words(text) if len(word) > LONGEST_WORD or word in ("am", "pm")} - UTC_WORDS
    if words or re.search(r"[^\D0]", text):
        raise ValueError(
            "expected no zone and no time as text in a format, where it is not read: use %z for an offset, %Z for the "
            "name of a zone, %H, %M and %S for a time of day"
        )


def states_utc(written: str) -> bool:
    """Return whether times in a format have a zone: read by %z or %Z, or UTC as text (Z, UTC, GMT, +00:00)."""
    text, directives = _text_and_directives(written)
    return bool({"z", "Z"}.intersection(directives) or UTC_WORDS & _words(text) or OFFSET.search(text))


def _text_and_directives(written: str) -> tuple[str, list[str]]:
    """Split a format into its text, with a blank for each directive, and the letters of its directives."""
    pieces = re.split(r"%(.)", written, flags=re.DOTALL)
    return " ".join(pieces[::2]), pieces[1::2]


def _words(text: str) -> set[str]:
    """Return the words of a text in small letters, as strptime compares text without regard to case."""
    return set(re.findall(r"[^\W\d_]+", text.lower()))

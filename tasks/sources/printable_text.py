"""Text from outside (paths, column names, members of archives, cells) made safe to print.

A terminal obeys escape sequences, and a right-to-left mark reorders what follows it: both are shown as escapes.
"""

LONGEST_QUOTE = 2_000  # characters of an error or of a line of the layout: a column may have a name of 64 kB


def shortened(text: str) -> str:
    """Return a text without its middle where it is longer than a page."""
    return text if len(text) <= LONGEST_QUOTE else f"{text[:1500]} ... {text[-400:]}"


def printable(text: str) -> str:
    """Return a text with an escape for every character that does not print, except a newline."""
    return "".join(
        character if character.isprintable() or character == "\n" else character.encode("unicode_escape").decode()
        for character in text.encode(errors="backslashreplace").decode()  # a file name may hold half a character
    )

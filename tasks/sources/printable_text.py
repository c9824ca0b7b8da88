"""Text from outside (paths, column names, members of archives, cells) made safe to print.

A terminal obeys escape sequences, and a right-to-left mark reorders what follows it: both are shown as escapes.
"""


def printable(text: str) -> str:
    """Return a text with an escape for every character that does not print, except a newline."""
    return "".join(
        character if character.isprintable() or character == "\n" else character.encode("unicode_escape").decode()
        for character in text.encode(errors="backslashreplace").decode()  # a file name may hold half a character
    )

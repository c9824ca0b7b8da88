"""Count things in words."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one.

    Examples:
        >>> counted(1, "bar"), counted(0, "gap"), counted(2, "live decision")
        ('1 bar', '0 gaps', '2 live decisions')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"

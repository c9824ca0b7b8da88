"""Print a table so that no word is cut: as a table where the terminal is wide enough, else row by row.

Rich cuts words with an ellipsis, and numbers with them, where the columns do not fit.
"""

from collections import Counter
from io import StringIO

from rich.measure import Measurement
from rich.table import Table

from tasks.console.escaping_console import Console

WIDE = 10_000  # columns in which every table fits


def print_table(console: Console, table: Table) -> None:
    """Print a table; where a word would be cut, print each row as lines of name and value instead."""
    options = console.options.update(width=WIDE)
    fits = Measurement.get(console, options, table).maximum <= console.width
    if fits or _words(table, console.width) == _words(table, WIDE):
        console.print(table)
    else:
        _print_rows(console, table)


def _words(table: Table, width: int) -> Counter[str]:
    """Return the words that a table shows at a width."""
    written = StringIO()
    Console(file=written, width=width).print(table)
    return Counter(word for word in written.getvalue().split() if not set(word) <= set("─━│┃┏┓┗┛┡┩└┘├┤┬┴┼┳╇╋"))


def _print_rows(console: Console, table: Table) -> None:
    """Print the title, each row as lines of name and value with an empty line between two rows, and the caption."""
    names = [" ".join(str(column.header).split("\n")) for column in table.columns]
    if table.title:
        console.print(table.title, style="table.title")
    for place, cells in enumerate(zip(*(column.cells for column in table.columns), strict=True)):
        if place:
            console.print()
        row = Table.grid(padding=(0, 1, 0, 0))
        row.add_column(no_wrap=True, style="bold")
        row.add_column(overflow="fold")
        for name, cell in zip(names, cells, strict=True):
            row.add_row(name, " ".join(str(cell).split("\n")))
        console.print(row)
    if table.caption:
        console.print(table.caption, style="table.caption")

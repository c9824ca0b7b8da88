"""A table is printed as one where it fits, else row by row; no word is cut."""

import pytest
from rich.console import Console
from rich.table import Table

from tasks.console.fitting_tables import print_table


def shown(capsys: pytest.CaptureFixture[str], width: int, *rows: tuple[str, str]) -> str:
    table = Table("part", "what\nhelps", title="two parts", caption="a caption")
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*row)
    print_table(Console(width=width), table)
    out: str = capsys.readouterr().out
    return "\n".join(line.rstrip() for line in out.splitlines())


def test_a_table_that_fits_is_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys, 40, ("table bars", "restore a backup, or do without it"))
    assert "│ table bars │ restore a backup, or do" in found  # wrapped between words


def test_a_table_that_does_not_fit_is_printed_row_by_row(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys, 24, ("BTC-USD-1d version 12", "[bold]run[/bold] `riseorfall`"), ("registry", ""))
    assert found == (
        "two parts\npart       BTC-USD-1d\n           version 12\nwhat helps run\n           `riseorfall`\n\n"
        "part       registry\nwhat helps\na caption"
    )


def test_a_word_longer_than_the_terminal_goes_on_in_the_next_line(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/a/very/long/path/of/a/file"
    found = shown(capsys, 24, (path, "x"))
    assert path in "".join(line.removeprefix("part").strip() for line in found.splitlines())

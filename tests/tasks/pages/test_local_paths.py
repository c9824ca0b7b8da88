"""A report that is sent to others names no folder of the machine it was made on."""

from pathlib import Path

import pytest

from tasks.pages.local_paths import hide_local_paths
from tasks.settings import Settings


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('<a href="file:///home/ann/my%20home/data/docs/S/a.html">', '<a href="../../docs/S/a.html">'),
        ("<dd>/home/ann/my home/data/tables/bars</dd>", "<dd>HOME/data/tables/bars</dd>"),
        ("<dd>/home/ann/Downloads/btc.csv</dd>", "<dd>~/Downloads/btc.csv</dd>"),
        ("read /home/ann", "read ~"),
        ("<dd>/home/anna/btc.csv</dd>", "<dd>/home/anna/btc.csv</dd>"),
        ('<a href="http://127.0.0.1:8900/home/ann/x">', '<a href="http://127.0.0.1:8900/home/ann/x">'),
    ],
)
def test_paths_are_replaced(before: str, after: str) -> None:
    assert hide_local_paths(before, Settings(home=Path("/home/ann/my home")), Path("/home/ann")) == after


def test_a_home_at_the_root_replaces_nothing() -> None:
    assert hide_local_paths("<p>1 / 2</p>", Settings(home=Path("/")), Path("/")) == "<p>1 / 2</p>"

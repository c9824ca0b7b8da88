"""A retrain of the bundled sample on terminals of 80 and 120 columns: whole words, and no line of a library."""

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running_up import SMALL
from terminal import lines_left, on_a_terminal

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals"),
]

WIDTHS = (80, 120)
LIBRARY = re.compile(r"Downloading|INFO|WARNING|DEBUG|[Tt]ensor[Ff]low|absl|keras|cuda|\bI0000\b|\d+it/s|Traceback")
# One line each, at any width, to click on or to copy.
ADDRESS = re.compile(r"(MLflow    mlflow ui \S+|run      |Data Docs|report   |log      ) \S+")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[int, str]:
    """What the same retrain, in a new home each, showed on terminals of these widths."""
    command = [str(Path(sys.executable).with_name("riseorfall")), "retrain", *SMALL]

    def retrain(columns: int) -> str:
        home = tmp_path_factory.mktemp("home") / "riseorfall"
        return on_a_terminal(command, columns, {"RISEORFALL_HOME": str(home)})

    with ThreadPoolExecutor() as pool:
        return dict(zip(WIDTHS, pool.map(retrain, WIDTHS), strict=True))


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_retrain_shows_its_progress_and_its_decision_and_no_line_of_a_library(
    shown: dict[int, str], columns: int
) -> None:
    assert not LIBRARY.findall(shown[columns])
    assert "fold 2 of 2" in shown[columns]  # a bar, which is erased at the end
    left = lines_left(shown[columns])
    assert not [line for line in left if "fold 2 of 2" in line]
    assert [line for line in left if line.startswith("decision  promote version 1")]
    assert left[-1] == ""  # the prompt of the shell begins on a line of its own


@pytest.mark.parametrize("columns", WIDTHS)
def test_only_an_address_is_longer_than_the_terminal(shown: dict[int, str], columns: int) -> None:
    long = [line for line in lines_left(shown[columns]) if len(line) > columns]
    assert [line for line in long if not ADDRESS.fullmatch(line)] == []


def test_no_word_is_broken_at_80_columns(shown: dict[int, str]) -> None:
    """A part of a broken word would be missing among the words of the wider terminal."""
    narrow, wide = (words_of(lines_left(shown[columns])) for columns in WIDTHS)
    assert len(narrow) > 100
    assert narrow - wide == set()


def words_of(lines: list[str]) -> set[str]:
    """Return the words with a letter, punctuation included, of all lines that are not an address."""
    words = " ".join(line for line in lines if not ADDRESS.fullmatch(line)).split()
    return {word for word in words if re.search("[A-Za-z]", word)}

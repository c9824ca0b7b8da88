"""Commands and flags of version 0.1 go on working, with a warning that names the new spelling."""

import pytest

from flows.cli import run
from flows.cli.old_spellings import replace_old_spellings


@pytest.mark.parametrize(
    ("old", "new", "warning"),
    [
        (["ledger", "--json"], ["decisions", "--json"], "the command ledger is deprecated, use decisions"),
        (["bars", "--as-of", "3"], ["bars", "--table-version", "3"], "--as-of is deprecated, use --table-version"),
        (["bars", "--as-of=3"], ["bars", "--table-version=3"], "--as-of is deprecated, use --table-version"),
        (
            ["up", "--when.retrain-cron", "1 0 * * *"],
            ["up", "--schedule.retrain-cron", "1 0 * * *"],
            "--when.retrain-cron is deprecated, use --schedule.retrain-cron",
        ),
        (
            ["predict", "--limits.max-age-days=9"],
            ["predict", "--staleness.max-age-days=9"],
            "--limits.max-age-days is deprecated, use --staleness.max-age-days",
        ),
    ],
)
def test_an_old_spelling_is_replaced_with_a_warning(old: list[str], new: list[str], warning: str) -> None:
    assert replace_old_spellings(old) == (new, [warning])
    assert replace_old_spellings(new) == (new, [])


@pytest.mark.parametrize("words", [[], ["predict", "--as-of", "2026-01-01"], ["bars", "--as-offset"], ["--version"]])
def test_other_words_are_unchanged(words: list[str]) -> None:
    assert replace_old_spellings(words) == (words, [])


@pytest.mark.parametrize(
    ("words", "warning"),
    [
        (["ledger", "--help"], "use decisions"),
        (["bars", "--as-of", "3", "--help"], "use --table-version"),
        (["up", "--when.collision", "CANCEL_NEW", "--help"], "use --schedule.collision"),
        (["predict", "--limits.max-age-days", "9", "--help"], "use --staleness.max-age-days"),
    ],
)
def test_the_command_runs_and_warns_on_standard_error(
    words: list[str], warning: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 0
    printed = capsys.readouterr()
    assert warning in printed.err
    assert warning not in printed.out

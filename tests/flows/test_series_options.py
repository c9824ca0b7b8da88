"""Which series a command works on, and what a home with several says."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from synthetic_bars import random_walk

from flows.cli import run
from flows.cli.series_options import SeriesOptions
from model.bars import Series
from model.errors import SpecError
from tasks.services.server_password import ensure_password
from tasks.settings import Settings
from tasks.workspace import Workspace

ETH, SOL = Series("ETH/USD", "1h"), Series("SOL/USD", "1h")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def store(*stored: Series) -> None:
    bars = random_walk(40, seed=1).frame()
    for series in stored:
        Workspace(Settings()).bar_store.merge(series, bars, {}, merged_at=datetime(2026, 1, 1, tzinfo=UTC))


def test_a_home_without_bars_has_the_default_series(home: Path) -> None:
    assert home.is_dir()
    assert SeriesOptions().series == Series("BTC-USD", "1d")
    assert SeriesOptions("ETH/USD", "1h").series == ETH


def test_the_only_stored_series_needs_no_flag(home: Path) -> None:
    assert home.is_dir()
    store(ETH)
    assert SeriesOptions().series == ETH
    assert SeriesOptions(interval="1h").series == ETH


def test_of_several_the_flags_choose_one(home: Path) -> None:
    assert home.is_dir()
    store(ETH, SOL)
    assert SeriesOptions("SOL/USD").series == SOL
    with pytest.raises(SpecError, match=r"for 1h, found more than one: ETH/USD 1h, SOL/USD 1h\. Give --symbol"):
        _ = SeriesOptions(interval="1h").series
    with pytest.raises(SpecError, match=r"for BTC-USD, found none; stored: ETH/USD 1h, SOL/USD 1h"):
        _ = SeriesOptions("BTC-USD").series


def test_of_several_the_default_needs_no_flag(home: Path) -> None:
    assert home.is_dir()
    store(ETH, Series("BTC-USD", "1d"))
    assert SeriesOptions().series == Series("BTC-USD", "1d")
    assert SeriesOptions(interval="1h").series == ETH


def test_a_series_may_have_bars_in_quarantine_only(home: Path) -> None:
    assert home.is_dir()
    store(ETH, SOL)
    assert SeriesOptions("DOGE-USD").series_or_new == Series("DOGE-USD", "1d")
    assert SeriesOptions("SOL/USD").series_or_new == SOL
    with pytest.raises(SpecError, match="more than one"):
        _ = SeriesOptions().series_or_new


def test_a_command_on_an_unknown_series_names_the_stored_ones(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert home.is_dir()
    store(ETH, SOL)
    assert run(["predict", "--symbol", "DOGE-USD"]) == 2
    assert "stored: ETH/USD 1h, SOL/USD 1h" in capsys.readouterr().err


def test_status_of_several_series_is_one_line_each(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert home.is_dir()
    store(ETH, SOL)
    assert run(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines if "-USD-1h" in line] == [["ETH-USD-1h", "none"], ["SOL-USD-1h", "none"]]


@pytest.mark.parametrize(
    "words",
    [
        ["rollback"],
        ["rollback", "--lift", "--reason", "r"],
        ["promote", "--version", "1"],
        ["release", "--at", "2024-01-01", "--reason", "r"],
        ["remove", "--at", "2024-01-01", "--reason", "r"],
        ["replay", "--from", "2024-01-01", "--to", "2024-01-02"],
        ["tune"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_of_several_a_command_that_changes_one_wants_a_choice(
    home: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert home.is_dir()
    store(ETH, Series("BTC-USD", "1d"))
    assert run(words) == 2
    assert "expected a choice of the series, found more than one: BTC-USD 1d, ETH/USD 1h" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["quarantine", "decisions"])
def test_of_several_a_command_that_reads_prints_which_it_shows(
    home: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert home.is_dir()
    store(ETH, Series("BTC-USD", "1d"))
    assert run([command]) == 0
    assert capsys.readouterr().out.splitlines()[0].replace("-", " ") == "BTC USD 1d"
    assert run([command, "--symbol", "ETH/USD"]) == 0
    assert "ETH" in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize("command", ["predictions", "decisions", "quarantine"])
def test_of_several_a_list_of_one_names_the_others(
    home: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert home.is_dir()
    store(Series("BTC-USD", "1d"))
    assert run([command]) == 0
    assert "not shown" not in capsys.readouterr().out
    store(ETH, SOL)
    assert run([command]) == 0
    others = "(not shown: ETH/USD 1h, SOL/USD 1h; choose with --symbol and --interval)"
    assert capsys.readouterr().out.splitlines()[1] == others
    for chosen in (["--symbol", "ETH/USD"], ["--json"]):
        assert run([command, *chosen]) == 0
        assert "not shown" not in capsys.readouterr().out


def test_the_password_is_alone_on_standard_output_and_a_person_is_told_where_it_goes(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "data").mkdir()
    password = ensure_password(Settings().up_password)
    for of_person in (False, True):
        monkeypatch.setattr("sys.stdout.isatty", lambda shown=of_person: shown)
        assert run(["up", "--show-password"]) == 0
        printed = capsys.readouterr()
        assert printed.out == f"{password}\n"
        assert ("into the one field of Prefect's page" in printed.err) is of_person


def test_a_release_prints_its_series(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert home.is_dir()
    store(ETH)
    opened_at = random_walk(40, seed=1).opened_at[3]
    assert run(["remove", "--at", str(opened_at), "--reason", "r"]) == 0
    capsys.readouterr()
    assert run(["release", "--at", str(opened_at), "--reason", "r"]) == 0
    assert capsys.readouterr().out.startswith("ETH/USD 1h: ")


def test_bars_lists_all_series_or_the_chosen(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert home.is_dir()
    store(ETH, SOL)
    assert run(["bars", "--json"]) == 0
    assert [each["symbol"] for each in json.loads(capsys.readouterr().out)] == ["ETH/USD", "SOL/USD"]
    assert run(["bars", "--json", "--symbol", "SOL/USD"]) == 0
    assert [each["symbol"] for each in json.loads(capsys.readouterr().out)] == ["SOL/USD"]
    assert run(["bars", "--symbol", "DOGE-USD"]) == 2
    assert "stored: ETH/USD 1h, SOL/USD 1h" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "hints"), [(["predict", "--source.kind", "csv"], True), (["retrain", "--x"], False)])
def test_a_flag_of_the_source_gets_a_hint_at_the_series(
    words: list[str], hints: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    assert ("choose the series with --symbol and --interval" in capsys.readouterr().err) is hints


def test_the_links_of_mlflow_do_not_break_the_display_of_progress() -> None:
    from mlflow.environment_variables import MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT as SUPPRESS

    environment: dict[str, str] = {}
    Settings().announce(environment)
    assert environment[SUPPRESS.name] == "true"

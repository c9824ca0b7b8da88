"""The command line: exit codes, JSON, what a command may import, what a person reads."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic_bars import random_walk

from flows.cli import run
from model.bars import Series
from tasks.results import Retrain
from tasks.settings import Settings
from tasks.sources.source_spec import SourceSpec, open_source
from tasks.workspace import Workspace

HEAVY = (
    *("tensorflow", "keras", "mlflow", "great_expectations", "sklearn", "scipy"),
    *("pandas", "matplotlib", "prefect", "ccxt"),
)


@pytest.mark.parametrize(
    "words",
    [
        *(pytest.param([*words, "--help"], marks=pytest.mark.e2e) for words in ([], ["predict"], ["status"])),
        ["retrain", "--help"],
    ],
)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    loaded = _modules_after(words)
    assert not [name for name in HEAVY if name in loaded]


def test_the_help_of_retrain_has_a_panel_for_each_part_with_the_most_used_flags_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["retrain", "--help"]) == 0
    panels = re.findall(r"^╭─ (.+?) ─", capsys.readouterr().out, re.MULTILINE)
    assert panels == ["Basics", "Source", "Window", "Training", "Folds", "Network", "Promotion", "Abstention",
                      "Data checks"]  # fmt: skip


def test_predict_needs_no_tensorflow(first: Retrain) -> None:
    assert first.promotion.champion_after == "1"
    loaded = _modules_after(["predict", "--json"])
    assert "onnxruntime" in loaded
    assert not {"tensorflow", "keras", "scipy", "sklearn"} & loaded
    assert not {"flows.cli.training_commands", "model.evaluation"} & loaded  # of other commands


def test_status_shows_champion_bars_and_decisions(first: Retrain, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["champion"]["trained_until"] == "2019-10-17T00:00:00+00:00"
    assert 0.5 < found["champion"]["log_loss"] < 1
    costs = found["after_costs"]
    assert costs["costs_bps"] == 15.0
    assert costs["break_even_bps_low"] < costs["break_even_bps"] < costs["break_even_bps_high"]
    assert {"version", "balanced_accuracy"} <= found["champion"].keys()
    bars = found["bars"]
    assert (bars["symbol"], bars["interval"], bars["rows"]) == ("BTC-USD", "1d", 1768)
    assert (bars["first"], bars["last"]) == ("2014-12-01T00:00:00+00:00", "2019-10-16T00:00:00+00:00")
    assert found["decisions"][0]["run_id"] == first.run_id


def test_status_of_an_unknown_series_names_the_stored_ones(first: Retrain, capsys: pytest.CaptureFixture[str]) -> None:
    assert first.version.version == "1"
    assert run(["status", "--symbol", "ETH-USD", "--json"]) == 2
    assert "expected one stored series for ETH-USD, found none; stored: BTC-USD 1d" in capsys.readouterr().err


def test_midnight_in_another_zone_is_a_time_and_no_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    for on, when in (
        ("2026-11-28", "at the end of 2026-11-28 (UTC)"),
        ("2026-11-28T00:00:00+05:00", "at 2026-11-28T00:00:00+05:00"),
    ):
        assert run(["decisions", "--on", on]) == 0
        assert capsys.readouterr().out == f"BTC-USD-1d: no version was champion {when}\n"


def test_what_a_terminal_cannot_show_is_escaped(tmp_path: Path) -> None:
    command = "from flows.cli import main; main(['decisions', '--name', 'größer'])"
    own = {"RISEORFALL_HOME": str(tmp_path), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, check=True, env={**os.environ, **own})
    assert done.stdout.startswith(b"gr\\xf6\\xdfer\n")


def test_bars_lists_gaps_and_quarantine(first: Retrain, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bars", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["gaps"], found["missing_bars"]) == (2, 13)  # twelve days in March 2019, and the refused bar
    assert found["version"] == first.stored.ref.version


SLOW = [pytest.param(each, marks=pytest.mark.e2e) for each in ("audit", "explain")]


@pytest.mark.parametrize("command", ["monitor", *SLOW])
def test_of_several_a_command_about_one_names_the_others(
    first: Retrain, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bars = random_walk(40, seed=1).frame()
    Workspace(Settings()).bar_store.merge(Series("ETH/USD", "1h"), bars, {}, merged_at=first.landing.as_of)
    assert run([command]) == 0
    assert "(not shown: ETH/USD 1h; choose with --symbol and --interval)" in capsys.readouterr().out.splitlines()
    assert run([command, "--symbol", "BTC-USD"]) == 0
    assert "not shown" not in capsys.readouterr().out


def test_predict_prints_what_it_stored(first: Retrain, capsys: pytest.CaptureFixture[str]) -> None:
    assert first.version.version == "1"
    assert run(["predict", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    names = (
        "symbol",
        "interval",
        "decided_at",
        "resolves_at",
        "probability",
        "version",
        "late",
        "backfilled",
        "opinion",
        "source",
    )
    assert found.keys() == set(names)
    assert found["source"] == "sample"  # of the bars of a late prediction
    assert found["opinion"] in {"rise", "fall", "none"}
    assert (found["late"], found["backfilled"]) == (True, 0)  # bars of 2019, predicted today
    assert (found["decided_at"], found["resolves_at"]) == ("2019-10-17T00:00:00+00:00", "2019-10-18T00:00:00+00:00")
    assert 0 < found["probability"] < 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["retrain", "--window.lookback-bars", "1"], "lookback_bars"),
        (["retrain", "--window.lookbak-bars", "20"], "--window.lookback-bars"),
        (["retrain", "--source.interval", "7d"], "1d"),
        (["retrain", "--folds.count", "0"], "count"),
        (["retrain", "--as-of", "yesterday"], "as-of"),
        (["rertain"], "retrain"),
        (["decisions", "--last=-1"], "--last"),
        (["predictions", "--last=-1"], "--last"),
        (["audit", "--sample", "0"], "--sample"),
        (["serve", "--port", "99999"], "--port"),
        (["up", "--files-port", "99999"], "--files-port"),
    ],
)
def test_wrong_usage_exits_with_2_and_names_the_flag(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "pydantic" not in error


@pytest.mark.parametrize(
    "words",
    [
        *(["predict", "--as-of"], ["predict", "--panel", "--as-of"], ["monitor", "--as-of"], ["explain", "--at"]),
        *(["decisions", "--on"], ["ingest", "--as-of"], ["retrain", "--as-of"], ["retrain-panel", "--as-of"]),
        *(["release", "--reason", "x", "--at"], ["remove", "--reason", "x", "--at", "2019-01-01"]),
        *(["remove", "--reason", "x", "--from", "2019-01-01", "--to"], ["replay", "--to", "2019-01-01", "--from"]),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("time", ["0001-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_of_a_year_without_bars_is_refused_by_every_option(
    words: list[str], time: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, time]) == 2
    assert "expected a time of the years 1900 to 2099, found " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "code", "message"),
    [
        ("absent.csv", None, 2, "absent.csv"),
        ("empty.csv", b"", 2, "empty"),
        ("picture.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256)), 2, "PNG"),
        pytest.param("close.csv", "close", 3, "-1", marks=pytest.mark.e2e),
        ("high.csv", "high", 3, "low <= open, close <= high"),
    ],
)
def test_bad_files_exit_with_their_code_and_a_reason(
    first: Retrain,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
    content: bytes | str | None,
    code: int,
    message: str,
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        _write_bad_bars(path, content)
    assert run(["retrain", "--source.kind", "csv", "--source.path", str(path), "--training.epochs", "1"]) == code
    assert message in capfd.readouterr().err
    assert run(["status", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["champion"]["run_id"] == first.run_id


@pytest.mark.e2e
@pytest.mark.usefixtures("first")
def test_two_rows_of_one_day_are_refused_and_the_rest_of_the_file_is_read(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _write_bad_bars(tmp_path / "doubled.csv", "doubled")
    assert run(["ingest", "--source.kind", "csv", "--source.path", str(tmp_path / "doubled.csv")]) == 0
    captured = capfd.readouterr()
    assert "0 added, 0 revised" in captured.out
    assert "undecided_double" in captured.err
    assert "vs. 1, high" in captured.err.replace("\n", " ")
    assert "2015-06-19" in captured.err


def _write_bad_bars(path: Path, defect: str) -> None:
    """Write 400 sample bars, one of them bad on 2015-06-19."""
    frame = open_source(SourceSpec()).fetch().frame.head(400).reset_index(drop=True)
    day = frame.index[frame["timestamp"] == "2015-06-19"][0]
    if defect == "close":
        frame.loc[day, "close"] = -1.0
    elif defect == "high":
        frame.loc[day, ["high", "low"]] = frame.loc[day, ["low", "high"]].to_numpy()
    else:
        other = frame.loc[[day]].assign(open=1.0, high=1000.0, low=0.9, close=999.0)
        frame = type(frame)(
            frame.iloc[: day + 1].to_dict("records")
            + other.to_dict("records")
            + frame.iloc[day + 1 :].to_dict("records")
        )
    frame.to_csv(path, index=False)


def _modules_after(words: list[str]) -> set[str]:
    code = f"import sys; from flows.cli import run; assert run({words!r}) == 0; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_a_missing_file_is_reported_before_heavy_imports(tmp_path: Path) -> None:
    script = (
        "import sys; from flows.cli import run; "
        f"code = run(['retrain', '--source.kind', 'csv', '--source.path', r'{tmp_path / 'none.csv'}']); "
        "print(code, [name for name in ('prefect', 'mlflow', 'tensorflow') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env={**os.environ, "RISEORFALL_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout == "2 []\n"
    assert "none.csv" in done.stderr


def test_a_retrain_links_the_pages_of_a_running_up(
    first: Retrain, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address becomes known while the flow is imported; the links shown afterwards are of the page server."""

    @contextmanager
    def imported_under_up(_: object) -> Iterator[None]:
        monkeypatch.setenv("RISEORFALL_PUBLIC_URL", "http://127.0.0.1:4299/data")
        yield

    report = Settings().report_path("BTC-USD-1d", first.run_id)
    monkeypatch.setattr("flows.cli.training_commands.tensorflow_imported", imported_under_up)
    monkeypatch.setattr("flows.retrain.retrain", lambda **_: replace(first, report=str(report)))
    assert run(["retrain"]) == 0
    assert "http://127.0.0.1:4299/data/" in capsys.readouterr().out


def test_ingest_prints_what_the_checks_found(first: Retrain, capfd: pytest.CaptureFixture[str]) -> None:
    assert first.run_id
    assert run(["ingest"]) == 0
    shown = " ".join(capfd.readouterr().err.split())  # the terminal's width decides where lines break
    assert "warning: absurd_tick: expected: low and high are less than 3 times away from open and close" in shown
    assert "warning: gap: expected: no 1d bar is missing" in shown
    assert re.search(r"\d{4} bars accepted in all, \d+ refused", shown)


def test_numpy_computes_on_one_thread() -> None:
    """A second thread spins between the products of a bootstrap: 0.9 s of CPU time of a retrain."""
    code = """
import flows, numpy
from threadpoolctl import threadpool_info
print({each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"})
"""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "{1}\n"


@pytest.mark.e2e
def test_the_end_of_a_process_collects_no_garbage_once_more() -> None:
    code = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 100_000))  # before the import: runs after the handler of flows
import flows.retrain
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"

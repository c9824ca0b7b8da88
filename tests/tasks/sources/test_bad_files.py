"""Every bad file gives bars or an error with exit code 2, in little time and memory, and prints nothing that acts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import bad_files
import pytest
from bad_files import CSV

from flows.cli.app import run
from model.errors import RiseOrFallError, UnreadableFile
from tasks.sources.source_spec import SourceSpec, open_source, require_readable

READER = Path(bad_files.__file__).with_name("bad_file_reader.py")
MEGABYTES = 1024


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.e2e)])
def test_bad_files_give_bars_or_a_reason(step: int, tmp_path: Path) -> None:
    """They are read in a process of their own, whose peak of memory no other test has raised."""
    command = [sys.executable, str(READER), str(step), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(READER.parent)}  # a command in this process sets PYTHONSAFEPATH
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found = json.loads(done.stdout)
    assert found["faults"] == {}
    assert found["read"] == len(list(bad_files.bad_files())[::step])
    assert found["peak_mb"] < MEGABYTES


def test_there_are_many_bad_files() -> None:
    names = [file.name for file in bad_files.bad_files()]
    assert len(names) > 500
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("content", "spec", "message"),
    [
        (CSV.replace("2017-09-05", "9999-12-31"), {}, "bars.csv line 6: expected a time of the years 1900 to 2099"),
        (
            CSV.replace("2017-09-05", "0001-01-01"),
            {},
            "line 6: expected a time of the years 1900 to 2099, found 0001-01-01",
        ),
        (CSV, {"timezone": "Europe"}, "there is no zone 'Europe'; similar: Europe/"),
        (CSV, {"timestamp_format": "%Y-%m-%d (?P<Y>x)"}, "line 2: expected a time written as '%Y-%m-%d (?P<Y>x)'"),
        (CSV.replace("2017-09-05", "1\x1b[31m"), {}, r"found '1\x1b[31m'"),
        (CSV.replace("10.5", "\x1b[31m", 1), {}, r"line 2: expected a number in column 'open', found '\x1b[31m'"),
    ],
)
def test_the_reason_names_the_line_or_the_option(
    content: str, spec: dict[str, str], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(content)
    with pytest.raises(RiseOrFallError) as caught:
        open_source(SourceSpec(kind="csv", path=str(path), **spec)).fetch()  # type: ignore[arg-type]
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "~nosuchuser/x",
        "/proc/self/mem",
        "x" * 5000,
        "a\0b",
        "/dev/zero",
        "/dev/null",
        "/proc/self/fd/99",
        "",
        "/root/\x1b[31m",
    ],
)
def test_paths_that_are_no_files(path: str) -> None:
    for read in (require_readable, lambda spec: open_source(spec).fetch()):
        with pytest.raises(RiseOrFallError) as caught:
            read(SourceSpec(kind="csv", path=path))
        assert caught.value.exit_code == 2
        assert str(caught.value).isprintable()


def test_a_file_without_permission(tmp_path: Path) -> None:
    """A process without the rights of root reads it."""
    path = tmp_path / "bars.csv"
    path.write_text(CSV)
    path.chmod(0)
    reader = (
        "import os, sys\n"
        "from tasks.sources.source_spec import SourceSpec, open_source\n"
        "import tasks.sources.file_source\n"
        "os.getuid() or os.setuid(65534)\n"
        "try:\n    open_source(SourceSpec(kind='csv', path=sys.argv[1])).fetch()\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    tmp_path.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", reader, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("UnreadableFile")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--source.path", "~nosuchuser/x"], "expected a path of a file"),
        (["--source.path", "/proc/self/mem"], "damaged one or none"),
        (["--source.path", "{csv}", "--source.symbol", "../../../x"], "symbol"),
        (["--source.path", "{csv}", "--source.symbol", "x" * 5000], "at most 40 characters"),
        (["--source.path", "{csv}", "--source.timezone", "Europe"], "there is no zone"),
        (["--source.path", "/tmp/\x1b[31m"], r"/tmp/\x1b[31m: expected a file of bars, found none"),
    ],
)
def test_the_command_line_exits_with_2(
    words: list[str], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    (tmp_path / "bars.csv").write_text(CSV)
    words = [word.format(csv=tmp_path / "bars.csv") for word in words]
    assert run(["ingest", "--source.kind", "csv", *words]) == 2
    printed = capsys.readouterr().err
    assert found in printed
    assert "\x1b" not in printed


def test_a_message_about_a_member_of_an_archive_prints_no_escape(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "bars.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("\x1b[31mbars.csv", "no bars")
    with pytest.raises(UnreadableFile, match=r"^bars\.zip/\\x1b\[31mbars\.csv: expected a table"):
        open_source(SourceSpec(kind="csv", path=str(path))).fetch()

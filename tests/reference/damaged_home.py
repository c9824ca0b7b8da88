"""Find files of a home and damage them; run a command and return what it prints."""

from pathlib import Path

import pytest

from flows.cli import run


def output(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = run(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def database(home: Path) -> Path:
    return home / "mlruns" / "mlflow.db"


def log_file(home: Path, table: str, version: int) -> Path:
    return home / "data" / "tables" / table / "_delta_log" / f"{version:020}.json"


def parquet(home: Path, table: str) -> Path:
    return max((home / "data" / "tables" / table).rglob("part-*.parquet"))


def halve(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def remove(path: Path) -> Path:
    path.unlink()
    return path

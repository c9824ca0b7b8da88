"""Whatever a file contains, reading it gives bars or one of the project's errors."""

import gzip
import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.errors import RiseOrFallError
from tasks.sources.source_spec import SourceSpec, open_source

DAYS = pd.date_range("2017-09-01", periods=40)
CSV = "Date,Open,High,Low,Close,Volume\n" + "".join(
    f'"{day:%b %d, %Y}",{at + 10}.5,{at + 12},{at + 9},{at + 11},"1,{at + 100},000"\n' for at, day in enumerate(DAYS)
)
buffer = io.BytesIO()
pd.DataFrame({"time": DAYS, "open": 1.5, "high": 2.0, "low": 1.0, "close": 1.5}).to_parquet(buffer)
SEEDS = (CSV.encode(), gzip.compress(CSV.encode(), mtime=0), buffer.getvalue())
PIECES = (b"", b",", b"\n", b'"', b";", b"\0", b"-", b"\xff\xfe", b"nan", b"1e999", b"\r", b"\n\n", b"open", b"9" * 400)


@pytest.mark.e2e
@settings(max_examples=400)
@given(
    seed=st.sampled_from(SEEDS),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 60), st.sampled_from(PIECES)), max_size=4),
    keep=st.floats(0, 1),
)
def test_corrupted_files(
    seed: bytes, cuts: list[tuple[float, int, bytes]], keep: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(seed)
    for place, length, piece in cuts:
        at = int(place * len(content))
        content[at : at + length] = piece
    if keep < 0.2:
        del content[int(keep * 5 * len(content)) :]
    require_bars_or_reason(bytes(content), tmp_path_factory.getbasetemp() / "corrupted")


@settings(max_examples=200)
@given(
    content=st.one_of(st.binary(max_size=300), st.text(',;\n\t" .-0123456789openhighlowclosedatetime', max_size=300))
)
def test_any_content(content: bytes | str, tmp_path_factory: pytest.TempPathFactory) -> None:
    raw = content if isinstance(content, bytes) else content.encode()
    require_bars_or_reason(raw, tmp_path_factory.getbasetemp() / "any")


def require_bars_or_reason(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    try:
        bars = open_source(SourceSpec(kind="csv", path=str(path))).fetch()
    except RiseOrFallError:
        return
    assert len(bars) > 0
    assert bars.frame["timestamp"].is_monotonic_increasing
    assert len(bars.line_numbers) == len(bars.frame)

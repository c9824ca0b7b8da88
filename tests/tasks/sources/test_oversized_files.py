"""Small files that unpack to gigabytes are refused within 2 seconds of processor time and 1 GB of memory."""

import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from oversized_files import BARS, OVERSIZED

from model.bars import COLUMNS
from model.errors import UnreadableFile
from tasks.sources.source_spec import SourceSpec, open_source, require_readable
from tasks.sources.unpacked_size_limits import MAX_LINE_BYTES

# One process reads all of them: the peak of its memory is that of the worst.
READER = """
import json, os, resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
import pandas, tasks.sources.file_source
from pathlib import Path
from model.errors import UnreadableFile
from tasks.sources.source_spec import SourceSpec, open_source, require_readable
for path in sys.argv[1:]:
    table = path.endswith(("constants", "column", "footer"))  # 200 MB are quicker to write than 600
    os.environ["RISEORFALL_MAX_FILE_MB"] = "128" if table else "512"
    start = time.process_time()
    try:
        open_source(SourceSpec(kind="csv", path=path)).fetch()
        found = "read"
    except UnreadableFile as error:
        found = str(error)
    except BaseException as error:
        found = repr(error)
    peak = int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) / 1024  # a fork inherits ru_maxrss
    print(json.dumps([found, time.process_time() - start, peak]), flush=True)
"""
REASONS = {
    "gzip_of_blank_lines": "bytes that unpack to over 16 MB",
    "gzip_of_one_line": "line 32: expected a line of bars, found one of more than 65,536 characters",
    "gzip_without_line_ends": "line 1: expected a line of bars, found one of more than 65,536 characters",
    "gzip_of_one_bar": "bytes that unpack to over 16 MB",
    "bzip2_of_one_bar": "bytes that unpack to over 16 MB",
    "zip_of_four_gigabytes": "at most 512 MB of bars, unpacked; found more",
    "zip_that_states_less": "bytes that unpack to over 16 MB",
    "nested_zips": "found an archive in 2 archives",
    "zip_of_many_files": "expected one file in the archive, found thousands",
    "parquet_of_constants": "expected at most 4,194,304 rows",
    "parquet_of_long_texts": "in column 'open', found a text of more than 1,024 bytes",
    "parquet_with_a_false_footer": "at most 128 MB of bars, unpacked; found more",
    "parquet_of_column_descriptions": "expected a footer of at most 2 MB",
    "feather_of_constants": "expected at most 4,194,304 rows",
    "feather_of_an_unused_column": "at most 128 MB of bars, unpacked; found more",
}


@pytest.mark.e2e  # gigabytes are packed
def test_small_files_that_unpack_to_gigabytes_are_refused_in_little_time_and_memory(tmp_path: Path) -> None:
    paths = []
    for name, write in OVERSIZED.items():
        write(tmp_path / name)
        paths.append(tmp_path / name)
    done = subprocess.run([sys.executable, "-c", READER, *map(str, paths)], capture_output=True, text=True, check=True)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(paths) == len(REASONS)
    for path, (found, seconds, peak_mb) in zip(paths, results, strict=True):
        assert REASONS[path.name] in found, path.name
        assert found.startswith(path.name)
        assert seconds < 2
        assert peak_mb < 1024


@pytest.fixture
def one_megabyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RISEORFALL_MAX_FILE_MB", "1")


@pytest.mark.usefixtures("one_megabyte")
@pytest.mark.parametrize(("suffix", "pack"), [("csv", bytes), ("csv.gz", gzip.compress)])
def test_the_limit_is_a_setting(
    suffix: str, pack: type[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [
        f"{2000 + year}-{month:02d}-{day:02d}" for year in range(100) for month in range(1, 13) for day in range(1, 29)
    ]
    lines = "".join(f"{day},10.5,12.5,9.5,11.5,{at}\n" for at, day in enumerate(days))
    content = ("date,open,high,low,close,volume\n" + lines).encode()
    assert len(content) > 1 << 20
    path = tmp_path / f"bars.{suffix}"
    path.write_bytes(pack(content))
    with pytest.raises(UnreadableFile, match=r"at most 1 MB .*raise RISEORFALL_MAX_FILE_MB|at most 32,768 rows"):
        open_source(SourceSpec(kind="csv", path=str(path))).fetch()
    monkeypatch.setenv("RISEORFALL_MAX_FILE_MB", "2")
    assert len(open_source(SourceSpec(kind="csv", path=str(path))).fetch()) == len(days)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is large above 500 bytes, and its first 1,000 are read at once: 30 lines of bars."""
    monkeypatch.setattr("tasks.sources.source_spec.QUICK_BYTES", 500)
    monkeypatch.setattr("tasks.sources.file_source.PREVIEW_BYTES", 1000)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"open", b"bids", "expected columns open, high, low, close; missing open"),
        (b"2017-09-02,10.5", b"2017-09-02,10.5,1", "line 3: expected 6 fields as on line 2, found 7"),
    ],
)
def test_the_beginning_of_a_large_file_is_read_at_once(
    old: bytes, new: bytes, reason: str, pack: type[bytes], tmp_path: Path
) -> None:
    """Before, a temporary Prefect server was started first, in 20 seconds."""
    path = tmp_path / "bars.csv"
    incompressible = b"".join(b"2018-01-01,%d,1,1,1,1\n" % (at * 7919**9) for at in range(100))
    path.write_bytes(pack(BARS.replace(old, new) + incompressible))
    with pytest.raises(UnreadableFile, match=reason):
        require_readable(SourceSpec(kind="csv", path=str(path)))


@pytest.mark.usefixtures("large")
def test_what_a_large_file_holds_further_down_is_not_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_bytes(BARS + BARS[32:].replace(b"2017", b"2018") + b"2019-01-01,1,1\n")
    require_readable(SourceSpec(kind="csv", path=str(path)))
    with pytest.raises(UnreadableFile, match="line 62: expected 6 fields"):
        open_source(SourceSpec(kind="csv", path=str(path))).fetch()


@pytest.mark.usefixtures("large")
def test_a_large_table_is_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    pyarrow.parquet.write_table(pa.table({"time": ["2018-01-01"], "open": [1.5]}), path)
    assert path.stat().st_size > 500
    with pytest.raises(UnreadableFile, match="missing high, low, close"):
        require_readable(SourceSpec(kind="csv", path=str(path)))


def test_the_longest_line_of_bars(tmp_path: Path) -> None:
    longest = BARS + b"2017-10-01,1,1,1,1," + b"0" * (MAX_LINE_BYTES - 19) + b"\n"
    path = tmp_path / "bars.csv"
    path.write_bytes(longest)
    assert len(open_source(SourceSpec(kind="csv", path=str(path))).fetch()) == 31
    path.write_bytes(longest.replace(b",00", b",000"))
    with pytest.raises(
        UnreadableFile, match=r"bars\.csv line 32: expected a line of bars, found one of more than 65,536"
    ):
        open_source(SourceSpec(kind="csv", path=str(path))).fetch()


@pytest.mark.parametrize("filler", ["1", " ", "\u00a0"])
def test_a_long_cell_that_is_no_number_is_refused_at_once(filler: str, tmp_path: Path) -> None:
    """Each pattern for numbers takes time in proportion to its length; 60,000 digits took twenty minutes."""
    path = tmp_path / "bars.csv"
    cell = b"1" + filler.encode() * 30_000 + b"x"
    path.write_bytes(BARS.replace(b"11.5", cell, 1))
    started = time.process_time()
    with pytest.raises(UnreadableFile, match="line 2: expected a number in column 'close', found"):
        open_source(SourceSpec(kind="csv", path=str(path))).fetch()
    assert time.process_time() - started < 2


def repeated(text: str, encoding: str, rows: int) -> pa.Array:
    """One text for every row, stored once."""
    kind = pa.string_view() if "view" in encoding else pa.string()
    once = pa.array([text], kind)
    if encoding == "views":
        _, view, *texts = once.buffers()
        return pa.Array.from_buffers(kind, rows, [None, pa.py_buffer(view.to_pybytes() * rows), *texts])
    if encoding.startswith("dictionary"):
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), once)
    return pa.RunEndEncodedArray.from_arrays(pa.array([rows], pa.int32()), once)


ENCODINGS = ["dictionary", "dictionary of views", "run ends", "views"]


@pytest.mark.parametrize(
    ("encoding", "suffix"),
    [*[(each, "feather") for each in ENCODINGS], ("dictionary", "parquet"), ("views", "parquet")],
)
def test_one_text_for_many_rows_is_refused_before_it_is_written_out(encoding: str, suffix: str, tmp_path: Path) -> None:
    """A million times 1,000 characters; each text is below its limit."""
    times, path = repeated("2019-01-01" + " " * 990, encoding, rows=1_000_000), tmp_path / "bars"
    table = pa.table({"timestamp": times, **dict.fromkeys(COLUMNS[1:5], pa.nulls(len(times), pa.float32()))})
    if suffix == "feather":
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table)
    else:
        pyarrow.parquet.write_table(table, path)
    with pytest.raises(UnreadableFile, match="at most 512 MB of bars, unpacked; found more"):
        open_source(SourceSpec(kind="csv", path=str(path))).fetch()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_column_of_one_symbol_is_read_however_it_is_stored(encoding: str, tmp_path: Path) -> None:
    opened = np.datetime64("2019-01-01", "us") + np.arange(30) * np.timedelta64(1, "D")
    prices = dict.fromkeys(COLUMNS[1:5], pa.array(np.full(30, 4000.5)))
    table, path = (
        pa.table({"timestamp": opened, "symbol": repeated("BTC-USD", encoding, 30), **prices}),
        tmp_path / "bars",
    )
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table)
    assert len(open_source(SourceSpec(kind="csv", path=str(path))).fetch()) == 30


def test_one_long_text_is_not_counted_for_every_row(tmp_path: Path) -> None:
    """A million symbols of which one has 1,000 characters: 8 MB written out."""
    rows = 1_000_000
    opened = np.datetime64("2019-01-01", "us") + np.arange(rows) * np.timedelta64(1, "m")
    which = pa.array(np.r_[np.zeros(rows - 1, np.int8), np.int8(1)])
    symbols = pa.DictionaryArray.from_arrays(which, pa.array(["BTC-USD", "9" * 1000]))
    table = pa.table({"timestamp": opened, "symbol": symbols, **dict.fromkeys(COLUMNS[1:5], np.full(rows, 4000.5))})
    pyarrow.parquet.write_table(table, tmp_path / "bars")
    spec = SourceSpec(kind="csv", path=str(tmp_path / "bars"), symbol="BTC-USD", interval="1m")
    assert len(open_source(spec).fetch()) == rows - 1


def test_a_zip_in_a_zip_is_read_and_one_more_is_not(tmp_path: Path) -> None:
    import io
    import zipfile

    content, path = BARS, tmp_path / "bars.zip"
    for depth in range(1, 4):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("bars.zip", content)
        content = buffer.getvalue()
        path.write_bytes(content)
        if depth < 3:
            assert len(open_source(SourceSpec(kind="csv", path=str(path))).fetch()) == 30
    with pytest.raises(UnreadableFile, match="an archive in 2 archives; unpack it"):
        open_source(SourceSpec(kind="csv", path=str(path))).fetch()

"""The pages of a Parquet file as their headers state them, and files whose footer or headers state something false."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from oversized_files import varint

from model.errors import UnreadableFile
from tasks.sources.arrow_tables import MAX_FOOTER_BYTES
from tasks.sources.parquet_pages import Page, chunk_pages
from tasks.sources.source_spec import SourceSpec, open_source

DAYS = (np.datetime64("2017-01-01") + np.arange(1000)).astype(str)
PRICES = 100 + np.arange(1000) / 8
CODECS = ["none", "snappy", "gzip", "zstd", "brotli", "lz4"]
PLAIN, RLE_DICTIONARY = 0, 8


def write(path: Path, times: Any = DAYS, **options: Any) -> Path:
    """Write bars without absent values."""
    table = pa.table({"time": pa.array(times), **dict.fromkeys(("open", "high", "low", "close"), pa.array(PRICES))})
    required = pa.schema([field.with_nullable(nullable=False) for field in table.schema])
    pyarrow.parquet.write_table(table.cast(required), path, **options)
    return path


def pages(path: Path, column: int) -> list[Page]:
    with path.open("rb") as stream:
        return list(chunk_pages(stream, pyarrow.parquet.read_metadata(path).row_group(0).column(column)))


def fetch(path: Path) -> int:
    return len(open_source(SourceSpec(kind="csv", path=str(path))).fetch())


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", CODECS)
def test_pages_have_the_size_of_their_values(codec: str, version: Literal["1.0", "2.0"], tmp_path: Path) -> None:
    path = write(tmp_path / "bars.parquet", compression=codec, data_page_version=version, use_dictionary=["time"])
    assert pages(path, 1) == [Page(8 * 1000, 1000, PLAIN)]
    dictionary, *indices = pages(path, 0)
    assert dictionary == Page((4 + 10) * 1000)  # length and text of each day
    assert [(page.values, page.encoding) for page in indices] == [(1000, RLE_DICTIONARY)]
    assert fetch(path) == 1000


def test_a_column_of_many_pages(tmp_path: Path) -> None:
    options: dict[str, Any] = {"use_dictionary": False, "data_page_size": 800, "write_batch_size": 100}
    path = write(tmp_path / "bars.parquet", **options)
    assert pages(path, 1) == [Page(800, 100, PLAIN)] * 10
    assert fetch(path) == 1000


# A data page in Thrift's compact protocol: type 0, unpacked 8, packed 8, header of the type (1 value, plain, RLE, RLE).
HEADER = b"\x15\x00\x15\x10\x15\x10\x2c\x15\x02\x15\x00\x15\x06\x15\x06\x00\x00"
BAD_HEADERS = {
    "unpacked size is negative": HEADER.replace(b"\x15\x10\x15\x10", b"\x15\x0f\x15\x10"),
    "packed size is negative": HEADER.replace(b"\x15\x10\x15\x10", b"\x15\x10\x15\x0f"),
    "packed size is beyond the chunk": HEADER.replace(b"\x15\x10\x15\x10", b"\x15\x10\x15\xff\x7f"),
    "number of values is negative": HEADER.replace(b"\x2c\x15\x02", b"\x2c\x15\x01"),
    "number of values is beyond the chunk": HEADER.replace(b"\x2c\x15\x02", b"\x2c\x15\x04"),
    "a field occurs twice": HEADER.replace(b"\x15\x10\x15\x10", b"\x15\x10\x15\x10\x05\x04\x02"),
    "a size of 33 bits": HEADER.replace(b"\x15\x10\x15\x10", b"\x15\x90\x80\x80\x80\x20\x15\x10"),
    "a field beyond 16 bits": HEADER[:-1] + b"\x05\x84\x80\x08\x02\x00",
    "a number without end": HEADER.replace(b"\x15\x10\x15\x10", b"\x15\x10\x15" + b"\xff" * 99),
    "the type has no header of its own": b"\x15\x00\x15\x10\x15\x10\x00",
    "no size": b"\x15\x00\x00",
    "deeply nested": b"\x1c" * 400,
    "an unknown type of field": b"\x1d",
    "a text without end": b"\x18\xff\xff\x03",
    "cut off": HEADER[:5],
    "empty": b"",
}


def chunk(size: int) -> Any:
    return SimpleNamespace(data_page_offset=4, dictionary_page_offset=None, total_compressed_size=size, num_values=1)


def test_a_header_is_read_by_its_fields() -> None:
    stream = io.BytesIO(b"PAR1" + HEADER + bytes(8))
    assert list(chunk_pages(stream, chunk(len(HEADER) + 8))) == [Page(8, 1, PLAIN)]


@pytest.mark.parametrize("content", BAD_HEADERS.values(), ids=BAD_HEADERS.keys())
def test_a_header_that_could_be_read_in_another_way_is_refused(content: bytes) -> None:
    stream = io.BytesIO(b"PAR1" + content + (bytes(8) if len(content) > 5 else b""))
    with pytest.raises((ValueError, IndexError)):
        list(chunk_pages(stream, chunk(stream.seek(0, 2) - 4)))


@pytest.mark.parametrize(("start", "size"), [(4, 10**6), (4, -1), (-1, 30), (2**62, 1)])
def test_a_chunk_outside_the_file_is_refused(start: int, size: int) -> None:
    place = chunk(size)
    place.data_page_offset = start
    with pytest.raises(ValueError, match="a column chunk from byte"):
        list(chunk_pages(io.BytesIO(b"PAR1" + HEADER + bytes(8)), place))


def test_each_number_of_rows_in_the_footer_must_be_that_of_the_others(tmp_path: Path) -> None:
    """One for each column of bars, one of the row group, one of the file."""
    content = write(tmp_path / "bars.parquet", write_statistics=False, store_schema=False).read_bytes()
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    body, footer, end = content[:start], content[start:-8], content[-8:]
    assert footer.count(varint(1000)) == 7
    parts = footer.split(varint(1000))
    for at in range(1, len(parts)):
        changed = varint(1000).join(parts[:at]) + varint(8000) + varint(1000).join(parts[at:])
        path = tmp_path / f"{at}.parquet"
        path.write_bytes(body + changed + end)
        with pytest.raises(UnreadableFile, match="expected a whole parquet file, found a damaged one"):
            fetch(path)


@pytest.mark.parametrize("codec", CODECS[1:])
def test_a_page_that_unpacks_to_more_than_its_header_states_is_damaged(codec: str, tmp_path: Path) -> None:
    """The limits hold because pyarrow unpacks no page beyond the size in its header."""
    path = write(tmp_path / "bars.parquet", compression=codec, use_dictionary=False, write_statistics=False)
    content = path.read_bytes()
    start = pyarrow.parquet.read_metadata(path).row_group(0).column(1).data_page_offset
    assert content[start:].startswith(b"\x15\x00\x15" + varint(8000))
    path.write_bytes(content[: start + 3] + varint(4000) + content[start + 5 :])
    assert pages(path, 1)[0].size == 4000
    with pytest.raises(UnreadableFile, match="expected a whole parquet file, found a damaged one"):
        fetch(path)


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_texts_that_refer_to_the_text_before_are_refused(encoding: str, tmp_path: Path) -> None:
    """100 kB of them may unpack to a gigabyte, and no header states how much; pyarrow does not read them, either."""
    path = write(tmp_path / "bars.parquet", use_dictionary=False, column_encoding={"time": encoding})
    with pytest.raises(UnreadableFile, match="expected column 'time' in a plain or dictionary encoding, found DELTA_"):
        fetch(path)


def test_a_long_value_of_fixed_length_is_counted_for_each_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dictionary holds 20 kB once, and pyarrow writes it out for each of 1,000 rows."""
    monkeypatch.setenv("RISEORFALL_MAX_FILE_MB", "16")
    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "read", None)  # refused before it is read
    path = write(tmp_path / "bars.parquet", pa.array([b"1" * 20_000] * 1000, pa.binary(20_000)))
    assert path.stat().st_size < 100_000
    with pytest.raises(UnreadableFile, match="at most 16 MB of bars, unpacked; found more"):
        fetch(path)


def test_more_pages_than_bars_can_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "bars.parquet", use_dictionary=False, data_page_size=800, write_batch_size=100)
    monkeypatch.setattr("tasks.sources.arrow_tables.MAX_PAGES", 49)
    with pytest.raises(UnreadableFile, match="expected at most 49 pages, found more"):
        fetch(path)
    monkeypatch.setattr("tasks.sources.arrow_tables.MAX_PAGES", 60)
    assert fetch(path) == 1000


def test_a_text_that_is_no_text_is_damaged(tmp_path: Path) -> None:
    path = write(tmp_path / "bars.parquet", compression="none", write_statistics=False)
    path.write_bytes(path.read_bytes().replace(b"2017-01-05", b"2017-01-\xff5"))
    with pytest.raises(UnreadableFile, match="expected a whole parquet file, found a damaged one"):
        fetch(path)


def test_a_column_that_pyarrow_cannot_describe_does_not_end_the_process(tmp_path: Path) -> None:
    """One changed byte in the footer; the process was aborted by an exception of C++."""
    table = pa.table({"time": DAYS, **dict.fromkeys(("open", "high", "low", "close"), PRICES)})
    path = tmp_path / "bars.parquet"
    pyarrow.parquet.write_table(table, path, store_schema=False)
    content, optional = path.read_bytes(), b"\x25\x02\x18\x04open"
    assert content.count(optional) == 1
    path.write_bytes(content.replace(optional, b"\x25\x00\x18\x04open"))  # required
    with pytest.raises(UnreadableFile, match="expected a whole parquet file, found a damaged one"):
        fetch(path)


def test_feather_of_version_1_is_refused(tmp_path: Path) -> None:
    """The reader of pyarrow ends the process on some damaged files of this version."""
    path = tmp_path / "bars.feather"
    path.write_bytes(b"FEA1" + bytes(100) + b"FEA1")
    with pytest.raises(UnreadableFile, match="found a Feather file of version 1; save the table as Parquet or CSV"):
        fetch(path)


def test_the_largest_footer(tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    footer = bytes(MAX_FOOTER_BYTES + 1)
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(UnreadableFile, match="expected a footer of at most 2 MB, found 2,097,153 bytes"):
        fetch(path)

"""Small files that unpack to gigabytes, or nest deeply: each is written in a few seconds.

`OVERSIZED` maps a name to a function that writes the file. A reader that unpacks before it counts takes all memory.
"""

import bz2
import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

BARS = b"date,open,high,low,close,volume\n" + b"".join(
    b"2017-09-%02d,10.5,12.5,9.5,11.5,100\n" % day for day in range(1, 31)
)
BAR = BARS[-34:]
MEGABYTE = 1 << 20
BLOCK = 16 * MEGABYTE


def gzip_of(path: Path, beginning: bytes, repeated: bytes, blocks: int) -> None:
    """Write a gzip file of a beginning and of blocks of 16 MB, each a member of its own and all the same."""
    block = gzip.compress(repeated * (BLOCK // len(repeated)), 9)
    path.write_bytes((gzip.compress(beginning) if beginning else b"") + block * blocks)


def gzip_of_blank_lines(path: Path) -> None:
    """306 kB that unpack to 300 MB of blank lines after 30 bars: over 5 GB where each line becomes an object."""
    gzip_of(path, BARS, b"\n", 19)


def gzip_of_one_line(path: Path) -> None:
    """One line of 2 GB after 30 bars."""
    gzip_of(path, BARS, b"9", 128)


def gzip_without_line_ends(path: Path) -> None:
    """One line of 1 GB and nothing else."""
    gzip_of(path, b"", b"a", 64)


def gzip_of_one_bar(path: Path) -> None:
    """The same bar on 50 million lines."""
    gzip_of(path, BARS, BAR, 112)


def bzip2_of_one_bar(path: Path) -> None:
    """The same bar on 30 million lines."""
    path.write_bytes(bz2.compress(BARS) + bz2.compress(BAR * (BLOCK // len(BAR))) * 64)


def zip_of(path: Path, stated_bytes: int, blocks: int) -> None:
    """Write a zip whose member holds bars, then blank lines, and states a size."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = packer.compress(BARS) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b"\n" * BLOCK) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = head + block * blocks + packer.flush()
    name = b"bars.csv"
    fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0, 0, len(packed), stated_bytes, len(name), 0)
    local = b"PK\3\4" + fields + name + packed
    entry = b"PK\1\2" + struct.pack("<H", 20) + fields + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    path.write_bytes(local + entry + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local), 0))


def zip_of_four_gigabytes(path: Path) -> None:
    """4 MB that unpack to 4 GB."""
    zip_of(path, stated_bytes=0xFFFF_FFF0, blocks=255)


def zip_that_states_less(path: Path) -> None:
    """The same, with a header that states 400 MB."""
    zip_of(path, stated_bytes=400 * MEGABYTE, blocks=255)


def nested_zips(path: Path) -> None:
    """1,200 zips, each inside the next."""
    content = BARS
    for _ in range(1200):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("bars.zip", content)
        content = buffer.getvalue()
    path.write_bytes(content)


def zip_of_many_files(path: Path) -> None:
    """A zip that lists a million files, in 47 MB."""
    entry = b"PK\1\2" + bytes(24) + b"\1\0" + bytes(16) + b"a"
    directory = entry * 1_000_000
    path.write_bytes(
        b"PK\3\4" + directory + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 65535, 65535, len(directory), 4, 0)
    )


def constant_table(rows: int) -> pa.Table:
    """Return bars of one day, repeated."""
    prices = pa.array(np.full(rows, 1.5))
    times = pa.array(np.full(rows, np.datetime64("2017-09-05", "us")))
    return pa.table({"time": times, **dict.fromkeys(("open", "high", "low", "close"), prices)})


def parquet_of_constants(path: Path) -> None:
    """120 kB of Parquet with 5 million rows, 200 MB: runs of one value."""
    part = constant_table(1_000_000)
    with pyarrow.parquet.ParquetWriter(path, part.schema, compression="zstd") as writer:
        for _ in range(5):
            writer.write_table(part)


def parquet_of_long_texts(path: Path) -> None:
    """A text of 1 MB that 20,000 rows refer to: 20 GB as plain text."""
    rows = 20_000
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int32)), pa.array(["9" * MEGABYTE]))
    pyarrow.parquet.write_table(constant_table(rows).set_column(1, "open", texts), path)


def parquet_with_a_false_footer(path: Path) -> None:
    """A text of 200 MB in a page that the footer states to have 1,000 bytes."""
    table = constant_table(30).append_column("symbol", pa.array(["9"] * 29 + ["9" * (200 * MEGABYTE)]))
    pyarrow.parquet.write_table(table, path, compression="zstd", use_dictionary=["time"], write_statistics=False)
    stated = pyarrow.parquet.read_metadata(path).row_group(0).column(5).total_uncompressed_size
    content = path.read_bytes()
    assert content.count(varint(stated)) == 1
    path.write_bytes(content.replace(varint(stated), varint(1000, len(varint(stated)))))


def parquet_of_column_descriptions(path: Path) -> None:
    """A footer of 12 MB that lists four million empty columns: 4 GB as pyarrow keeps them."""
    column = b"\x15\x0a\x25\x00\x18\x04time\x00"  # type double, required, its name
    schema = b"\x19\x2c" + b"\x48\x01r\x15\x02\x00" + column
    number = 500_000
    # The length of a list is not doubled, as that of a number is.
    group = b"\x19\xfc" + varint(number // 2) + b"\x26\x00\x00" * number + b"\x16\x00\x16\x00\x00"
    footer = b"\x15\x02" + schema + b"\x16\x00" + b"\x19\x8c" + group * 8 + b"\x00"
    path.write_bytes(b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1")


def varint(number: int, length: int = 0) -> bytes:
    """Return a number that is not negative in Thrift's compact protocol, in at least `length` bytes."""
    number, content = 2 * number, []
    while number > 127 or len(content) + 1 < length:
        content.append(number & 127 | 128)
        number >>= 7
    return bytes([*content, number])


def feather_of_constants(path: Path) -> None:
    """20 kB of Feather with 5 million rows, 200 MB, in one compressed batch."""
    pyarrow.feather.write_feather(constant_table(5_000_000), path, compression="zstd", chunksize=5_000_000)


def feather_of_an_unused_column(path: Path) -> None:
    """30 bars and a column that nobody reads, of 150 MB in one compressed buffer."""
    wide = pa.array([b"\0" * (5 * MEGABYTE)] * 30, pa.large_binary())
    pyarrow.feather.write_feather(constant_table(30).append_column("note", wide), path, compression="zstd")


OVERSIZED: dict[str, Callable[[Path], None]] = {
    made.__name__: made
    for made in (
        gzip_of_blank_lines,
        gzip_of_one_line,
        gzip_without_line_ends,
        gzip_of_one_bar,
        bzip2_of_one_bar,
        zip_of_four_gigabytes,
        zip_that_states_less,
        nested_zips,
        zip_of_many_files,
        parquet_of_constants,
        parquet_of_long_texts,
        parquet_with_a_false_footer,
        parquet_of_column_descriptions,
        feather_of_constants,
        feather_of_an_unused_column,
    )
}

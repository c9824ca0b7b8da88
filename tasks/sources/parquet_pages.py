"""Reads the page headers of a Parquet file, so that its size is known before anything is unpacked.

The footer of a file may state any size; pyarrow unpacks each page into as many bytes as the header of the page states,
and fails where it holds more. Pages are found as pyarrow finds them: one after the other from the start of a column
chunk. Stricter than Thrift, so that no header can be read in two ways: fields ascend, and numbers fit 32 bits. It reads
no values.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow.parquet

HEADER_BYTES, MAX_HEADER_BYTES = 1 << 9, 1 << 16  # own: read at first, and at most; a header has 20 to 200 bytes
PADDING_BYTES = 100  # old writers leave the header of the dictionary out of the chunk's size (PARQUET-816)
DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = 0, 2, 3  # PageType; this and what follows: parquet-format's parquet.thrift
SIZES = {1: "type", 2: "uncompressed_page_size", 3: "compressed_page_size"}
VALUES = {DATA_PAGE: (5, 2), DATA_PAGE_V2: (8, 4)}  # field of the type's own header, and of the encoding within it
TRUE, FALSE, BYTE, INT16, INT32, INT64, DOUBLE, BINARY, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12  # Thrift compact protocol

Struct = dict[int, "int | Struct"]


@dataclass(frozen=True, slots=True)
class Page:
    """What the header of a page states.

    Attributes:
        size: bytes, unpacked.
        values: number of values, absent ones included; 0 of a dictionary.
        encoding: number of the encoding of its values; -1 of a dictionary.
    """

    size: int
    values: int = 0
    encoding: int = -1


def chunk_pages(stream: BinaryIO, chunk: pyarrow.parquet.ColumnChunkMetaData) -> Iterator[Page]:
    """Yield the pages of a column chunk, until they hold the values that the chunk states.

    Raises:
        ValueError: a header cannot be read, or contradicts the chunk.
        IndexError: a header is cut off.
    """
    start = chunk.data_page_offset
    if chunk.dictionary_page_offset:
        start = min(start, chunk.dictionary_page_offset)
    file_size = stream.seek(0, 2)
    at, end, values = start, start + chunk.total_compressed_size, 0
    if not 0 <= start <= end <= file_size:
        raise ValueError(f"a column chunk from byte {start:,} to {end:,} in a file of {file_size:,}")
    while values < chunk.num_values:
        header, length = _read_header(stream, at)
        kind, size, packed = (_number(header, field) for field in SIZES)
        at += length + packed
        if min(size, packed) < 0 or at > min(end + PADDING_BYTES, file_size):
            raise ValueError(f"a page of {packed:,} bytes, unpacked {size:,}, that ends {at - end:,} after its chunk")
        if kind not in VALUES:
            yield Page(size)
            continue
        place, encoding = VALUES[kind]
        stated = _struct(header, place)
        page = Page(size, _number(stated, 1), _number(stated, encoding))
        if not 0 <= page.values <= chunk.num_values - values:
            raise ValueError(f"a page of {page.values:,} values in a column chunk of {chunk.num_values:,}")
        values += page.values
        yield page


def _number(struct: Struct, field: int) -> int:
    found = struct.get(field)
    if not isinstance(found, int):
        raise ValueError(f"a page header without field {field}")  # noqa: TRY004 - a damaged file
    return found


def _struct(struct: Struct, field: int) -> Struct:
    found = struct.get(field)
    if not isinstance(found, dict):
        raise ValueError(f"a page header without field {field}")  # noqa: TRY004 - a damaged file
    return found


def _read_header(stream: BinaryIO, at: int) -> tuple[Struct, int]:
    """Return the header at a position of the file, and its length."""
    stream.seek(at)
    content = stream.read(HEADER_BYTES)
    try:
        return _read_struct(content, 0)
    except IndexError:
        content += stream.read(MAX_HEADER_BYTES - HEADER_BYTES)
        return _read_struct(content, 0)


def _read_struct(content: bytes, at: int, depth: int = 0) -> tuple[Struct, int]:
    """Return the integers and structs of a struct by field, and the position after it."""
    fields: Struct = {}
    last = 0
    while head := content[at]:
        kind, at = head & 15, at + 1
        if head >> 4:
            number = last + (head >> 4)
        else:
            number, at = _read_integer(content, at)
        if not last < number <= 255 or depth > 3:  # noqa: PLR2004 - a header has eight fields and two levels
            raise ValueError("a page header that cannot be read")
        last = number
        if kind in {TRUE, FALSE}:
            continue
        if kind in {INT16, INT32, INT64}:
            integer, at = _read_integer(content, at)
            fields[number] = integer
            if kind != INT64 and not -(1 << 31) <= integer < 1 << 31:
                raise ValueError("a page header with a number of more than 32 bits")
        elif kind == STRUCT:
            fields[number], at = _read_struct(content, at, depth + 1)
        elif kind == BINARY:
            length, at = _read_varint(content, at)
            at += length
        elif kind in {BYTE, DOUBLE}:
            at += 1 if kind == BYTE else 8
        else:
            raise ValueError("a page header that cannot be read")
    return fields, at + 1


def _read_integer(content: bytes, at: int) -> tuple[int, int]:
    value, at = _read_varint(content, at)
    return (value >> 1) ^ -(value & 1), at


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        value |= (content[at] & 127) << shift
        at += 1
        if content[at - 1] < 128:  # noqa: PLR2004 - the last byte
            return value, at
    raise ValueError("a page header that cannot be read")

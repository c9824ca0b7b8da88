"""Reads the page headers and the footer of a Parquet file, so that its size is known before anything is unpacked.

The footer of a file may state any size; pyarrow unpacks each page into as many bytes as the header of the page states,
and fails where it holds more. Pages are found as pyarrow finds them: one after the other from the start of a column
chunk. Stricter than Thrift, so that no header can be read in two ways: fields ascend, and numbers fit their type. It
reads no values. The footer is read only to refuse what would end the process in pyarrow.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow.parquet

HEADER_BYTES, MAX_HEADER_BYTES = 1 << 9, 1 << 16  # own: read at first, and at most; a header has 20 to 200 bytes
PADDING_BYTES = 100  # old writers leave the header of the dictionary out of the chunk's size (PARQUET-816)
DATA_PAGE, DICTIONARY_PAGE, DATA_PAGE_V2 = 0, 2, 3  # PageType; this and what follows: parquet-format's parquet.thrift
ROW_GROUPS, COLUMNS, COLUMN_METADATA, CRYPTO_METADATA, SIZE_STATISTICS = 4, 1, 3, 8, 16  # fields of a footer
TEXT_BYTES, REPETITIONS, DEFINITIONS = 1, 2, 3  # fields of the size statistics of a column chunk
FOOTER_END_BYTES = 8  # its length, and PAR1
SIZES = {1: "type", 2: "uncompressed_page_size", 3: "compressed_page_size"}
VALUES = {DATA_PAGE: (5, 2), DATA_PAGE_V2: (8, 4)}  # field of the type's own header, and of the encoding within it
# What follows: Thrift's compact protocol. No description has maps, sets or more than six levels.
TRUE, FALSE, BYTE, INT16, INT32, INT64, DOUBLE, BINARY, LIST, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 12
BITS = {INT16: 16, INT32: 32, INT64: 64}
FIXED_BYTES = {TRUE: 1, FALSE: 1, BYTE: 1, DOUBLE: 8}
MAX_DEPTH, MAX_FIELD, LONG_LIST = 12, 255, 15

Struct = dict[int, Any]


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


def require_describable(
    stream: BinaryIO, footer_bytes: int, metadata: pyarrow.parquet.FileMetaData, used: Sequence[int]
) -> None:
    """Raise ValueError if pyarrow would end the process, with an exception of C++, over the description of a column.

    Args:
        stream: the file.
        footer_bytes: length of its footer.
        metadata: of the same file.
        used: positions of the columns that will be read.
    """
    stream.seek(-FOOTER_END_BYTES - footer_bytes, 2)
    footer, _ = _read_struct(stream.read(footer_bytes), 0)
    for group in _structs(footer, ROW_GROUPS):
        chunks = _structs(group, COLUMNS)
        for at in used:
            column, chunk = metadata.schema.column(at), chunks[at]
            if CRYPTO_METADATA in chunk:
                raise ValueError(f"column {column.path!r} is encrypted")
            described = _struct(chunk, COLUMN_METADATA)
            stated = _struct(described, SIZE_STATISTICS) if SIZE_STATISTICS in described else {}
            levels = {REPETITIONS: column.max_repetition_level, DEFINITIONS: column.max_definition_level}
            counts = {field: stated.get(field) or [] for field in levels}
            if (TEXT_BYTES in stated and column.physical_type != "BYTE_ARRAY") or any(
                not isinstance(found, list) or len(found) not in {0, levels[field] + 1}
                for field, found in counts.items()
            ):
                raise ValueError(f"size statistics of another type than column {column.path!r}")


def _structs(struct: Struct, field: int) -> list[Struct]:
    found = struct.get(field)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError(f"a description without field {field}")
    return found


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
        raise ValueError(f"a description without field {field}")  # noqa: TRY004 - a damaged file
    return found


def _struct(struct: Struct, field: int) -> Struct:
    found = struct.get(field)
    if not isinstance(found, dict):
        raise ValueError(f"a description without field {field}")  # noqa: TRY004 - a damaged file
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
    """Return the fields of a struct by number, without booleans, and the position after it."""
    fields: Struct = {}
    last = 0
    while head := content[at]:
        kind, at = head & 15, at + 1
        if head >> 4:
            number = last + (head >> 4)
        else:
            number, at = _read_integer(content, at, INT16)
        if not last < number <= MAX_FIELD:
            raise ValueError("fields out of order")
        last = number
        if kind not in {TRUE, FALSE}:
            fields[number], at = _read_value(content, at, kind, depth + 1)
    return fields, at + 1


def _read_value(content: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    """Return a value of a field or a list, and the position after it."""
    if depth > MAX_DEPTH:
        raise ValueError(f"structs in more than {MAX_DEPTH} others")
    if kind in BITS:
        return _read_integer(content, at, kind)
    if kind == STRUCT:
        return _read_struct(content, at, depth)
    if kind in FIXED_BYTES:
        return None, at + FIXED_BYTES[kind]
    if kind == BINARY:
        length, at = _read_varint(content, at)
        return None, at + length
    if kind != LIST:
        raise ValueError(f"an unknown type, {kind}")
    head, at = content[at], at + 1
    length = head >> 4
    if length == LONG_LIST:
        length, at = _read_varint(content, at)
    values = []
    for _ in range(length):
        value, at = _read_value(content, at, head & 15, depth + 1)
        values.append(value)
        if at > len(content):
            raise IndexError("cut off")
    return values, at


def _read_integer(content: bytes, at: int, kind: int) -> tuple[int, int]:
    value, at = _read_varint(content, at)
    if value >> BITS[kind]:
        raise ValueError(f"a number of more than {BITS[kind]} bits")
    return (value >> 1) ^ -(value & 1), at


def _read_varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        value |= (content[at] & 127) << shift
        at += 1
        if content[at - 1] < 128:  # noqa: PLR2004 - the last byte
            return value, at
    raise ValueError("a number of more than 64 bits")

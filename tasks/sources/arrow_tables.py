"""Reads the used columns of a Parquet or Feather file, without converting them.

The size is known before anything is unpacked: in Parquet from the rows of the used columns and the header of each of
their pages (`parquet_pages.py`), in Feather from the buffers of each batch. Text stays a dictionary until the size of
its values is known. Caution: what a Parquet footer states about sizes is not trusted.
"""

import io
import struct
from collections.abc import Iterator
from itertools import islice, product
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from jaxtyping import Int32

from model.errors import AmbiguousFile, UnreadableFile
from tasks.sources.archives import OpenedFile
from tasks.sources.column_roles import Columns, choose_columns
from tasks.sources.file_tables import FileTable
from tasks.sources.parquet_pages import Page, chunk_pages, require_describable
from tasks.sources.source_spec import SourceSpec
from tasks.sources.time_formats import Place
from tasks.sources.unpacked_size_limits import MAX_TEXT_BYTES, SizeLimits

MAGIC_BYTES = 8  # ARROW1 and two zero bytes; the batches follow, then the footer
DICTIONARY_BATCH, RECORD_BATCH = 2, 3  # types of a message: Arrow's format/Message.fbs
MAX_PAGES = 100_000  # own; of the used columns: 512 MB in pages of 8 KB are 65,000, and pages of 1 MB are usual
MAX_FOOTER_BYTES = 2 << 20  # own; of a column 100 to 200 bytes in each row group; 3 bytes unpack to a kilobyte
INDEX_BYTES = 4  # of a text in a dictionary
# Texts of these encodings lie in a page as they are; those of the two delta encodings unpack to any size.
# parquet-format's parquet.thrift: PLAIN, PLAIN_DICTIONARY, RLE_DICTIONARY, BYTE_STREAM_SPLIT
BOUNDED_ENCODINGS = {0, 2, 8, 9}


def read_arrow_table(opened: OpenedFile, spec: SourceSpec, limits: SizeLimits) -> FileTable:
    """Read the columns of a Parquet or Feather file that hold bars.

    Raises:
        UnreadableFile: the file is damaged, no table of bars, or larger than the limits.
        AmbiguousFile: its columns can be read in more than one way.
        SpecError: the spec names a column that does not exist.
    """
    name = opened.name
    try:
        if opened.kind == "parquet":
            names, columns, fields = _read_parquet(opened.stream, name, spec, limits)
        else:
            names, columns, fields = _read_feather(opened.stream, name, spec, limits)
        limits.require_size(sum(_plain_size(field, names[at], name) for at, field in fields.items()), name)
        plain = {at: _plain_column(field) for at, field in fields.items()}
    except UnreadableFile:
        raise
    except (pa.ArrowException, OSError, EOFError, ValueError, struct.error, IndexError, OverflowError) as error:
        raise UnreadableFile(f"{name}: expected a whole {opened.kind} file, found a damaged one ({error})") from error
    numbers = np.arange(1, len(next(iter(plain.values()))) + 1, dtype=np.int64)
    return FileTable(plain, columns, names, Place(name, "row", numbers), {"kind": opened.kind})


Fields = dict[int, pa.ChunkedArray]


def _read_parquet(
    stream: BinaryIO, name: str, spec: SourceSpec, limits: SizeLimits
) -> tuple[tuple[str, ...], Columns, Fields]:
    """Read the used columns of a Parquet file."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(max(0, size - MAGIC_BYTES))
    footer_size, magic = int.from_bytes(stream.read(4), "little"), stream.read(4)
    if MAX_FOOTER_BYTES < footer_size < size and magic == b"PAR1":
        raise UnreadableFile(
            f"{name}: expected a footer of at most {MAX_FOOTER_BYTES >> 20} MB, found {footer_size:,} bytes; write the "
            "file with fewer columns or larger row groups"
        )
    stream.seek(0)
    metadata = pyarrow.parquet.read_metadata(stream)
    schema = metadata.schema.to_arrow_schema()
    names = tuple(schema.names)
    columns = choose_columns(names, spec.columns, spec.symbol, name, [False] * len(names))
    _require_flat(schema, columns, name)
    used = {names[at]: schema.field(at).type for at in columns.used}
    limits.require_rows(metadata.num_rows, name)
    paths = [metadata.schema.column(at).path for at in range(metadata.num_columns)]
    leaves = {at: used[path] for at, path in enumerate(paths) if path in used}
    require_describable(stream, footer_size, metadata, tuple(leaves))
    _require_bounded(stream, metadata, leaves, name, limits)
    stream.seek(0)
    texts = [column for column, kind in used.items() if _is_text_like(kind) or _is_view(kind)]
    file = pyarrow.parquet.ParquetFile(stream, metadata=metadata, read_dictionary=texts)
    read = file.read(columns=sorted(used))
    read.validate(full=True)  # texts may be no UTF-8
    return names, columns, {at: read[names[at]] for at in columns.used}


def _require_bounded(
    stream: BinaryIO,
    metadata: pyarrow.parquet.FileMetaData,
    used: dict[int, pa.DataType],
    name: str,
    limits: SizeLimits,
) -> None:
    """Raise if the used columns of a Parquet file unpack to more than the limits, whatever its footer states."""
    groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
    rows = [group.num_rows for group in groups]
    if min(rows, default=0) < 0 or sum(rows) != metadata.num_rows:
        raise ValueError(f"row groups that do not have {metadata.num_rows:,} rows together")
    size = pages = 0
    for group, (at, kind) in product(groups, used.items()):
        chunk = group.column(at)
        if chunk.num_values != group.num_rows:
            raise ValueError(f"{chunk.num_values:,} values in a column of {group.num_rows:,} rows")
        found = list(islice(chunk_pages(stream, chunk), MAX_PAGES + 1 - pages))
        pages += len(found)
        if pages > MAX_PAGES:
            raise UnreadableFile(
                f"{name}: expected at most {MAX_PAGES:,} pages, found more; write the file with larger row groups"
            )
        size += _unpacked_size(found, chunk, kind, name)
        limits.require_size(size, name)


def _unpacked_size(pages: list[Page], chunk: pyarrow.parquet.ColumnChunkMetaData, kind: pa.DataType, name: str) -> int:
    """Return the most bytes that a column chunk takes: its pages, or the values that they stand for."""
    sizes = [page.size for page in pages]
    if "BYTE_ARRAY" in chunk.physical_type and any(
        page.values and page.encoding not in BOUNDED_ENCODINGS for page in pages
    ):
        raise UnreadableFile(
            f"{name}: expected column {chunk.path_in_schema!r} in a plain or dictionary encoding, found "
            "DELTA_BYTE_ARRAY or DELTA_LENGTH_BYTE_ARRAY, which may unpack to any size; write the file with another "
            "encoding"
        )
    if _is_text_like(kind) or _is_view(kind) or pa.types.is_dictionary(kind):
        width = INDEX_BYTES
    elif chunk.physical_type == "BYTE_ARRAY":  # a decimal; each value is at most as long as a page
        width = max(sizes, default=0)
    else:
        width = 0 if pa.types.is_null(kind) else -(-kind.bit_width // 8)
    return max(sum(sizes), width * int(chunk.num_values))


def _read_feather(
    stream: BinaryIO, name: str, spec: SourceSpec, limits: SizeLimits
) -> tuple[tuple[str, ...], Columns, Fields]:
    """Read the used columns of a Feather file."""
    content = pa.py_buffer(stream.read())
    limits.require_size(content.size, name)
    rows = size = 0
    for batch_rows, batch_size in _batch_sizes(content[MAGIC_BYTES:]):
        rows, size = rows + batch_rows, size + batch_size
        limits.require_rows(rows, name)
        limits.require_size(size, name)
    reader = pa.ipc.open_stream(content[MAGIC_BYTES:])
    names = tuple(reader.schema.names)
    columns = choose_columns(names, spec.columns, spec.symbol, name, [False] * len(names))
    _require_flat(reader.schema, columns, name)
    read = reader.read_all()
    read.validate(full=True)
    return names, columns, {at: read.column(at) for at in columns.used}


def _batch_sizes(messages: pa.Buffer) -> Iterator[tuple[int, int]]:
    """Yield rows and unpacked bytes of each batch, from the messages' own description: nothing is unpacked."""
    reader = pa.MessageReader.open_stream(messages)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        yield _batch_size(message.metadata.to_pybytes(), message.body)


def _batch_size(head: bytes, body: pa.Buffer) -> tuple[int, int]:
    """Return rows and unpacked bytes of one message; none for a schema.

    Source: Arrow columnar format, Message.fbs (a flatbuffer): a compressed buffer begins with its unpacked size.
    """
    root = _number(head, 0, "I")
    kind, place = _field(head, root, 1), _field(head, root, 2)
    kind = head[kind] if kind else 0
    if kind not in {DICTIONARY_BATCH, RECORD_BATCH}:
        return 0, 0
    batch = place + _number(head, place, "I")
    if kind == DICTIONARY_BATCH:
        data = _field(head, batch, 1)
        batch = data + _number(head, data, "I")
    length = _field(head, batch, 0)
    rows = _number(head, length, "q") if length and kind == RECORD_BATCH else 0
    buffers = _field(head, batch, 2)
    if not _field(head, batch, 3) or not buffers:
        return rows, body.size
    first = buffers + _number(head, buffers, "I")
    size = 0
    for at in range(_number(head, first, "I")):
        offset, packed = struct.unpack_from("<qq", head, first + 4 + 16 * at)
        if packed >= 8:  # noqa: PLR2004 - the size, int64
            size += max(packed, struct.unpack_from("<q", body, offset)[0])
    return rows, size


def _number(buffer: bytes, at: int, kind: str) -> int:
    return int(struct.unpack_from(f"<{kind}", buffer, at)[0])


def _field(buffer: bytes, table: int, number: int) -> int:
    """Return the position of a field of a flatbuffer's table; 0 where it is absent."""
    layout = table - _number(buffer, table, "i")
    if 4 + 2 * number >= _number(buffer, layout, "H"):
        return 0
    offset = _number(buffer, layout + 4 + 2 * number, "H")
    return table + offset if offset else 0


def _is_text_like(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


def _is_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind))


def _require_flat(schema: pa.Schema, columns: Columns, name: str) -> None:
    """Raise if a used column is nested, as a list of one row may unpack to any size, or one of several of its name."""
    for at in columns.used:
        kind = schema.field(at).type
        if schema.names.count(schema.names[at]) > 1:
            raise AmbiguousFile(f"{name}: several columns are named {schema.names[at]!r}; write it with other names")
        if pa.types.is_nested(kind):
            wanted = "numbers" if at in (*columns.prices, columns.volume) else "times or symbols"
            raise UnreadableFile(
                f"{name}: expected {wanted} in column {schema.names[at]!r}, found {kind}; "
                "choose another column with --source.columns"
            )


def _plain_size(field: pa.ChunkedArray, column: str, name: str) -> int:
    """Return the most bytes that a column takes once its dictionaries or repeated values are written out."""
    kind = field.type
    is_dictionary = pa.types.is_dictionary(kind)
    if _is_view(kind):  # many rows may name one text
        return sum(int(_lengths(chunk).sum(dtype=np.int64)) for chunk in field.chunks)
    if not is_dictionary and not pa.types.is_run_end_encoded(kind):
        return int(field.nbytes)
    if not (_is_text_like(kind.value_type) or _is_view(kind.value_type)):
        return len(field) * int(kind.value_type.bit_width) // 8
    size = 0
    for chunk in field.chunks:
        lengths = _lengths(chunk.dictionary if is_dictionary else chunk.values)
        longest = int(lengths.max(initial=0))
        if longest > MAX_TEXT_BYTES:
            raise UnreadableFile(
                f"{name}: expected times, numbers or symbols in column {column!r}, found a text of more than "
                f"{MAX_TEXT_BYTES:,} bytes; choose another column with --source.columns"
            )
        exact = pc.sum(pa.array(lengths).take(chunk.indices)).as_py() or 0 if is_dictionary else 0
        size += exact if is_dictionary else len(chunk) * longest
    return size


def _plain_column(field: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of text as strings, and any other as it is; dictionaries and repeated values are written out."""
    kind = field.type
    if pa.types.is_run_end_encoded(kind):
        field = pc.run_end_decode(field)
        kind = field.type
    if pa.types.is_dictionary(kind):
        if _is_view(kind.value_type):  # which pyarrow does not write out
            parts = [pa.DictionaryArray.from_arrays(c.indices, c.dictionary.cast(pa.string())) for c in field.chunks]
            field = pa.chunked_array(parts, pa.dictionary(kind.index_type, pa.string()))
        kind = field.type.value_type
        field = field.cast(kind)
    if _is_text_like(kind) or _is_view(kind):
        return field.cast(pa.string())
    return field


def _lengths(texts: pa.Array) -> Int32[np.ndarray, " text"]:
    """Return the bytes of each text, shape (text,); 0 where there is none.

    Source: Arrow columnar format: a view has 16 bytes and begins with its length.
    """
    if _is_view(texts.type):
        views = np.frombuffer(texts.buffers()[1], np.int32)[::4]
        return np.maximum(views[texts.offset : texts.offset + len(texts)], 0)
    lengths = pc.fill_null(pc.binary_length(texts).cast(pa.int32()), 0)
    return np.asarray(lengths.to_numpy(zero_copy_only=False))

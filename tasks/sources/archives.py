"""Opens a file of bars by its first bytes, not its name: plain or compressed text, zip, Parquet, Feather.

Nothing is unpacked to disk: compressed text and a zip member are read as streams, within `unpacked_size_limits.py`.
Caution: names in an archive come from outside; a path that leaves the archive is refused.
"""

import bz2
import gzip
import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Literal, cast

from model.errors import AmbiguousFile, UnreadableFile
from tasks.sources.unpacked_size_limits import MAX_NESTING, SizeLimits, bounded

FileKind = Literal["text", "gzipped text", "bzip2 text", "parquet", "feather"]
HEAD_BYTES = 1 << 17  # enough for any banner, and for a few hundred bars
LISTED = 5  # names in a message
ZIP_END_BYTES = 22 + (1 << 16)  # the end record of a zip archive and the longest comment
MAX_DIRECTORY_BYTES = 1 << 18  # the list of a zip archive's files: a few thousand of them
MAGIC = {
    b"\x1f\x8b": "gzipped",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
    b"PAR1": "parquet",
    b"ARROW1": "feather",
}
REFUSED_MAGIC = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"%PDF": "a PDF",
    b"PK\x05\x06": "a zip archive without members",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV",
    b"\x89HDF": "an HDF5 file; save the table as Parquet or CSV",
    b"FEA1": "a Feather file of version 1; save the table as Parquet or CSV",  # pyarrow crashes on damaged ones
    b"SQLite format 3": "a SQLite database; export the table as CSV",
    b"\xfd7zXZ": "an xz archive; unpack it",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"\x28\xb5\x2f\xfd": "a zstd archive; unpack it",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
}


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """An opened file of bars, without its compression.

    Attributes:
        stream: its bytes.
        name: for messages; a member of an archive is `archive/member`.
        kind: how it is stored.
    """

    stream: BinaryIO
    name: str
    kind: FileKind


@contextmanager
def open_unpacked(stream: BinaryIO, name: str, limits: SizeLimits, depth: int = 0) -> Iterator[OpenedFile]:
    """Open a file by its first bytes; a zip archive by its only member.

    Args:
        stream: the file, at its start.
        name: for messages.
        limits: on its unpacked size.
        depth: number of archives that it lies in.

    Raises:
        UnreadableFile: a file is larger than the limits; an archive is empty, encrypted, damaged, a workbook, in more
            than `MAX_NESTING` archives, or its member's path leaves it.
        AmbiguousFile: an archive has several members.
    """
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    kind = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "text")
    if depth and kind != "text":
        stream = io.BytesIO(stream.read())  # archives and tables are read from their end, which unpacks a stream anew
    if kind == "zip":
        if depth == MAX_NESTING:
            raise UnreadableFile(f"{name}: expected bars, found an archive in {depth} archives; unpack it")
        with (
            _zip_member(stream, name, limits) as (member, inner),
            open_unpacked(inner, f"{name}/{member}", limits, depth + 1) as opened,
        ):
            yield opened
    elif kind in {"gzipped", "bzip2"}:
        with gzip.open(stream) if kind == "gzipped" else bz2.open(stream) as text:
            yield OpenedFile(
                bounded(cast("BinaryIO", text), name, stream, limits), name, cast("FileKind", f"{kind} text")
            )
    elif kind == "text":
        yield OpenedFile(bounded(stream, name, stream, limits), name, "text")
    else:
        limits.require_size(stream.seek(0, io.SEEK_END), name)
        stream.seek(0)
        yield OpenedFile(stream, name, cast("FileKind", kind))


@contextmanager
def _zip_member(stream: BinaryIO, name: str, limits: SizeLimits) -> Iterator[tuple[str, BinaryIO]]:
    """Open the only file of a zip archive as a stream."""
    _require_short_directory(stream, name)
    with zipfile.ZipFile(stream) as archive:
        entry = _only_entry(archive, name)
        member = re.split(r"[/\\]", entry.filename)[-1]
        limits.require_size(entry.file_size, f"{name}/{member}", entry.compress_size)
        try:
            packed = archive.open(entry)
        except NotImplementedError as error:  # a compression or a version that zipfile does not know
            raise UnreadableFile(
                f"{name}: expected an archive that can be unpacked, found: {error}; unpack it"
            ) from error
        except RuntimeError as error:
            raise UnreadableFile(
                f"{name}: expected an archive without password, found an encrypted one ({error})"
            ) from error
        with packed:
            yield member, bounded(cast("BinaryIO", packed), f"{name}/{member}", stream, limits)


def _only_entry(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """Return the entry of the only file in a zip archive."""
    members = [
        entry for entry in archive.infolist() if not entry.is_dir() and not entry.filename.startswith("__MACOSX/")
    ]
    if any(entry.filename == "[Content_Types].xml" for entry in members):
        raise UnreadableFile(f"{name}: expected bars, found an Excel workbook; save the sheet as CSV")
    if not members:
        raise UnreadableFile(f"{name}: expected one file in the archive, found none")
    if len(members) > 1:
        listed = first_few([entry.filename for entry in members])
        raise AmbiguousFile(
            f"{name}: expected one file in the archive, found {len(members)} ({listed}); "
            "unpack it and choose one of them with --source.path"
        )
    (entry,) = members
    parts = re.split(r"[/\\]", entry.filename)
    if ".." in parts or not parts[0] or ":" in parts[0]:
        raise UnreadableFile(
            f"{name}: expected a file inside the archive, found the path {entry.filename!r}, which leaves it"
        )
    return entry


def _require_short_directory(stream: BinaryIO, name: str) -> None:
    """Raise if a zip archive lists far more files than one, before the list is read into memory."""
    start = max(0, stream.seek(0, io.SEEK_END) - ZIP_END_BYTES)
    stream.seek(start)
    tail = stream.read()
    stream.seek(0)
    at = tail.rfind(b"PK\x05\x06")
    size = int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else 0
    if size > MAX_DIRECTORY_BYTES or b"PK\x06\x07" in tail[max(0, at - 20) : max(0, at)]:
        raise UnreadableFile(
            f"{name}: expected one file in the archive, found thousands, or a zip64 archive; unpack it"
        )


def require_text(head: bytes, name: str) -> None:
    """Raise if the first bytes of a file are not text.

    Raises:
        UnreadableFile: it is a picture, a database, another archive, UTF-16, or binary.
    """
    refused = next((text for magic, text in REFUSED_MAGIC.items() if head.startswith(magic)), None)
    if refused or b"\0" in head:
        raise UnreadableFile(f"{name}: expected bars, found {refused or 'a binary file'}")


def first_few(names: list[str]) -> str:
    """Return the first few names, for a message."""
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")

"""Opens a file of bars by its first bytes, not its name: plain or compressed text, zip, Parquet, Feather.

Nothing is unpacked to disk: a zip member and compressed text are read as streams. Caution: names in an archive come
from outside; a path that leaves the archive is refused.
"""

import bz2
import gzip
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Literal, cast

from model.errors import AmbiguousFile, UnreadableFile

FileKind = Literal["text", "gzipped text", "bzip2 text", "parquet", "feather"]
HEAD_BYTES = 1 << 17  # enough for any banner, and for a few hundred bars
LISTED = 5  # names in a message
MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"PK\x03\x04": "zip",
    b"PAR1": "parquet",
    b"ARROW1": "feather",
    b"FEA1": "feather",
}
REFUSED_MAGIC = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"%PDF": "a PDF",
    b"PK\x05\x06": "a zip archive without members",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook; save the sheet as CSV",
    b"\x89HDF": "an HDF5 file; save the table as Parquet or CSV",
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
def open_unpacked(stream: BinaryIO, name: str) -> Iterator[OpenedFile]:
    """Open a file by its first bytes; a zip archive by its only member.

    Raises:
        UnreadableFile: an archive is empty, encrypted, a workbook, or its member's path leaves it.
        AmbiguousFile: an archive has several members.
    """
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    kind = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "text")
    if kind == "zip":
        with _zip_member(stream, name) as (member, inner), open_unpacked(inner, f"{name}/{member}") as opened:
            yield opened
    elif kind == "gzip":
        with gzip.open(stream) as text:
            yield OpenedFile(cast("BinaryIO", text), name, "gzipped text")
    elif kind == "bz2":
        with bz2.open(stream) as text:
            yield OpenedFile(cast("BinaryIO", text), name, "bzip2 text")
    else:
        yield OpenedFile(stream, name, cast("FileKind", kind))


@contextmanager
def _zip_member(stream: BinaryIO, name: str) -> Iterator[tuple[str, BinaryIO]]:
    """Open the only file of a zip archive, in memory."""
    with zipfile.ZipFile(stream) as archive:
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
        try:
            with archive.open(entry) as inner:
                yield parts[-1], cast("BinaryIO", inner)
        except RuntimeError as error:
            raise UnreadableFile(
                f"{name}: expected an archive without password, found an encrypted one ({error})"
            ) from error


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

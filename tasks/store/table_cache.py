"""The newest version of a local table, and what was read from it, kept until somebody commits.

A command opens each table and reads the same rows many times. A version of a Delta table never changes, so a read
stays true; whether the version still is the newest is a look at the log's folder. Tables on S3 are not kept. Caution:
a kept table is shared, and a commit through it would change it under the others, so it is for reading only.
"""

import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable

MOST_TABLES = 32  # own choice: a home has nine
MOST_READS = 64  # own choice, of one table
LARGEST_READ_BYTES = 1 << 20  # own choice: a larger read is not kept

Found = TypeVar("Found")
State = tuple[int, ...]  # of a log: version, and what its folder and its newest entry look like
Stamps = tuple[int, ...]  # of data files: when each was written


@dataclass(slots=True)
class _Kept:
    """A table, the state of its log, and what was read from it."""

    table: "DeltaTable"
    state: State
    reads: dict[tuple[object, ...], tuple[Stamps, tuple[object, ...], Any]] = field(default_factory=dict)  # by slot


_kept: OrderedDict[str, _Kept] = OrderedDict()  # oldest use first
_lock = Lock()


def newest_version(uri: str, load: "Callable[[], DeltaTable | None]") -> "DeltaTable | None":
    """Return the newest version of a table, for reading; None if there is no table.

    Args:
        uri: folder or address.
        load: loads it from the store.
    """
    kept = _current(uri)
    if kept is not None:
        return kept.table
    table = load()
    state = None if table is None else _state(uri, table.version())
    with _lock:
        _kept.pop(uri, None)
        if table is not None and state is not None:
            _kept[uri] = _Kept(table, state)
            while len(_kept) > MOST_TABLES:
                _kept.popitem(last=False)
    return table


def read_once(table: "DeltaTable", question: tuple[object, ...], read: "Callable[[], pa.Table]") -> "pa.Table":
    """Return what a question about a table finds; about its newest version it is read once, if it is small.

    Args:
        table: at any version.
        question: what is read.
        read: reads it.
    """
    return find_once(table, question, read, lambda found: found.nbytes <= LARGEST_READ_BYTES)


def find_once(
    table: "DeltaTable",
    question: tuple[object, ...],
    read: Callable[[], Found],
    is_kept: Callable[[Found], bool] = lambda _: True,
    slot: tuple[object, ...] = (),
) -> Found:
    """Return anything that is made of the rows of a table, as `read_once` does.

    Args:
        table: at any version.
        question: what is made; the result must not be changed.
        read: makes it.
        is_kept: whether a result is kept.
        slot: results of one slot replace each other, for large ones; empty: each question has its own.
    """
    kept = _current(unquote(urlsplit(table.table_uri).path).rstrip("/"))
    if kept is None or kept.table.version() != table.version():
        return read()
    stamps = tuple(_written_at(file) for file in local_files(kept.table))
    known = kept.reads.get(slot or question)
    if known is not None and known[:2] == (stamps, question):
        kept_result: Found = known[2]
        return kept_result
    found = read()
    if is_kept(found):
        with _lock:
            while len(kept.reads) >= MOST_READS:
                del kept.reads[next(iter(kept.reads))]
            kept.reads[slot or question] = (stamps, question, found)
    return found


def local_files(table: "DeltaTable") -> list[str]:
    """Return the paths of the files of a table in a folder.

    deltalake encodes the folder's path in them as an address does (`My%20Home`), but not what follows it.
    """
    encoded = urlsplit(table.table_uri).path
    folder, files = unquote(encoded), table.file_uris()
    return files if folder == encoded else [folder + file[len(encoded) :] for file in files]


def is_small(table: "DeltaTable") -> bool:
    """Return whether all rows of a local table may be kept; False on S3."""
    sizes = [_size(Path(file)) for file in local_files(table)] if table.table_uri.startswith("file:") else []
    return bool(sizes) and sum(sizes) <= LARGEST_READ_BYTES


def _current(uri: str) -> _Kept | None:
    """Return the kept table of a folder if it still is the newest version."""
    with _lock:
        kept = _kept.get(uri)
        if kept is None or _state(uri, kept.table.version()) != kept.state:
            return None
        _kept.move_to_end(uri)
        return kept


def _state(uri: str, version: int) -> State | None:
    """Return the state of a log that ends with this version; None if it does not, or is not in a local folder."""
    log = Path(uri) / "_delta_log"
    try:
        folder, newest = log.stat(), (log / f"{version:020}.json").stat()
    except OSError:
        return None
    if (log / f"{version + 1:020}.json").exists():
        return None
    return version, folder.st_ino, folder.st_mtime_ns, newest.st_ino, newest.st_mtime_ns, newest.st_size


def _size(path: Path) -> int:
    """Return the size of a file; 0 if it is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _written_at(path: str) -> int:
    """Return when a file was written; 0 if it is gone."""
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116 - a Path takes ten times as long, and there are thousands
    except OSError:
        return 0

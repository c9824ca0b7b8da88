"""Limits on what a file of bars may unpack to: bytes, rows, length of a line, nested archives, compression ratio.

Limits apply while a file is read, so a small file that unpacks to gigabytes is refused before it takes the memory. The
size is a setting (`RISEORFALL_MAX_FILE_MB`): it depends on the machine and does not change an experiment. The others
are far from any real file of bars and are constants. It knows no format.
"""

import io
from dataclasses import dataclass
from typing import BinaryIO

from model.errors import UnreadableFile
from tasks.settings import Settings

MEGABYTE = 1 << 20
BYTES_PER_ROW = 32  # a short line of bars: a unix time and four prices of a few digits
MAX_LINE_BYTES = 1 << 16  # far above a line of a wide file with 500 coins
MAX_TEXT_BYTES = 1 << 10  # of one cell of a Parquet or Feather file: far above a time, a number or a symbol
MAX_NESTING = 2  # a zip inside a zip
MAX_RATIO = 100  # bars compress to a third or a tenth of their size; flat bars with increasing times to a twentieth
RATIO_FROM_BYTES = 16 * MEGABYTE  # below this size a high ratio costs nothing


@dataclass(frozen=True, slots=True)
class SizeLimits:
    """The largest file of bars that is read.

    Attributes:
        megabytes: size, unpacked.
    """

    megabytes: int

    @classmethod
    def configured(cls) -> "SizeLimits":
        """Return the limits of this machine's settings."""
        return cls(Settings().max_file_mb)

    @property
    def size(self) -> int:
        """Bytes, unpacked."""
        return self.megabytes * MEGABYTE

    @property
    def rows(self) -> int:
        """Rows or lines, blank lines included."""
        return self.size // BYTES_PER_ROW

    def require_size(self, size: int, name: str, packed: int = 0) -> None:
        """Raise if a file unpacks to more than the limit, or to far more than bars can be packed into.

        Args:
            size: bytes unpacked so far, or as stated.
            name: of the file, for the message.
            packed: bytes that they were unpacked from; 0 if they are not packed.

        Raises:
            UnreadableFile: it does.
        """
        if size > self.size:
            raise UnreadableFile(
                f"{name}: expected at most {self.megabytes:,} MB of bars, unpacked; found more. Split the file, or "
                "raise RISEORFALL_MAX_FILE_MB"
            )
        if packed and size > RATIO_FROM_BYTES and size > MAX_RATIO * packed:
            raise UnreadableFile(
                f"{name}: expected bars, which compress to more than 1/{MAX_RATIO} of their size; found {packed:,} "
                f"bytes that unpack to over {RATIO_FROM_BYTES // MEGABYTE} MB. Unpack the file if it holds bars"
            )

    def require_rows(self, rows: int, name: str) -> None:
        """Raise UnreadableFile if a file has more rows, or lines, than the limit."""
        if rows > self.rows:
            raise UnreadableFile(
                f"{name}: expected at most {self.rows:,} rows (a row for each {BYTES_PER_ROW} bytes of "
                f"RISEORFALL_MAX_FILE_MB, {self.megabytes:,} MB); found more. Split the file, or raise the setting"
            )


class BoundedStream(io.RawIOBase):
    """An unpacked stream that raises UnreadableFile where it becomes larger than the limits allow."""

    def __init__(self, stream: BinaryIO, name: str, packed: BinaryIO, limits: SizeLimits) -> None:
        """Wrap a stream at its start; `packed` is the stream that it is unpacked from."""
        self._stream, self._name, self._packed, self._limits = stream, name, packed, limits
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True: text is read once for its layout and again for its bars."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position; moving forward unpacks, so only the start and where one has been are quick."""
        self._position = self._stream.seek(offset, whence)
        return self._position

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]  # any writable buffer; io gives a memoryview
        """Read the next bytes into a buffer."""
        chunk = self._stream.read(len(buffer))
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        self._limits.require_size(self._position, self._name, self._packed.tell())
        return len(chunk)


def bounded(stream: BinaryIO, name: str, packed: BinaryIO, limits: SizeLimits) -> BinaryIO:
    """Return a buffered stream that raises UnreadableFile where it becomes larger than the limits allow."""
    return io.BufferedReader(BoundedStream(stream, name, packed, limits), MEGABYTE)

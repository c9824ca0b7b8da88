"""Files that no person meant to be read as bars: over 500 of them, made from a few good ones by a list of faults.

`bad_files()` yields a name, the bytes, and the fields of the spec. Some of them can still be read; none may end in
anything but bars or an error of the project's own with exit code 2.
"""

import bz2
import gzip
import io
import lzma
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet

HEADER = "date,open,high,low,close,volume"
DAYS = [f"2017-09-{day:02d}" for day in range(1, 29)]
CSV = "\n".join([HEADER, *(f"{day},10.5,12.5,9.5,11.5,100" for day in DAYS)]) + "\n"
PRICES = {name: pa.array([10.5] * 28) for name in ("open", "high", "low", "close")}


@dataclass(frozen=True)
class BadFile:
    """A file by what is wrong with it."""

    name: str
    content: bytes
    spec: dict[str, str] = field(default_factory=dict)


FAR_TIMES = (
    *("0001-01-01", "0000-00-00", "1677-09-21", "1899-12-31", "2100-01-01", "2262-04-12", "9999-12-31", "10000-01-01"),
    *("-2017-09-05", "292277-01-01", "2017-09-31", "2017-02-29", "2017-00-10", "24:00", "2017-09-05T25:00:00"),
    *(
        "2017-09-05T00:00:60Z",
        "2017-W36-2",
        "2017-248",
        "1e300",
        "-1",
        "0",
        "999999999999999999999",
        "nan",
        "inf",
        "NaT",
    ),
    *("9223372036854775807", "-9223372036854775808", "18446744073709551616", "0x5F3759DF", "١٤/٩/٢٠١٧", "2017年9月5日"),
    *(
        "today",
        "now",
        "\x1b[31mred\x1b[0m",
        "\u202e2017-09-05",
        "2017-09-05\x00",
        "'",
        '"',
        '"2017-09-05',
        "  ",
        "=1+1",
    ),
    *(
        "2017-09-05 00:00:00+99:99",
        "2017-09-05 00:00:00 Europe/Berlin",
        "Sep 31, 2017",
        "31/02/2017",
        "1.7976931348623157e308",
    ),
)
CELLS = (
    *(
        "1e999",
        "-1e999",
        "1e-999",
        "1e99999999999999999999",
        "nan",
        "inf",
        "-inf",
        "infinity",
        "0x10",
        "1_000",
        "1e",
        "e5",
    ),
    *(
        "--5",
        "+5",
        "+-5",
        "5-",
        "(5)",
        "5%",
        "5K",
        "5KK",
        "1,2,3,4",
        ".",
        ",",
        "1.2.3",
        "1,2.3,4",
        "٣",
        "½",
        "5 5",
        "NULL",
    ),
    *(
        "\x1b]0;title\x07",
        "=SUM(A1)",
        "#REF!",
        "$",
        "€5€",
        "9" * 400,
        "0." + "0" * 400 + "1",
        "True",
        "1\x002",
        "\ufeff5",
    ),
)
FORMATS = (
    *(
        "%",
        "%%",
        "%Y",
        "%Y%Y",
        "%q",
        "%",
        "%Y-%m-%d%",
        "%Z",
        "%z",
        "%Y-%m-%d %Z",
        "%Y-%m-%d%z",
        "%j",
        "%U",
        "%G-%V",
        "%c",
    ),
    *(
        "%Y-%m-%d %H:%M:%S:%f",
        "(",
        "[",
        "(?P<Y>x)",
        "\\",
        "*",
        "s",
        "ms",
        "us",
        "ns",
        "min",
        "iso8601",
        "ISO8601",
        "mixed",
    ),
    *("%Y" * 50, "x" * 5000, "\x00", "\x1b[2J", "%-d", "%_d", "%E", "%:z", "%s"),
)
ZONES = (
    "Europe",
    "America",
    "../../etc/passwd",
    "/etc/localtime",
    "UTC+25",
    "x" * 5000,
    "Asia/Seoul/",
    "\x00",
    ".",
    "EST5EDT",
)
SYMBOLS = (
    "../../../x",
    "/",
    "",
    " ",
    "x" * 5000,
    "BTC\x00USD",
    "BTC\nUSD",
    "..",
    "BTC/../USD",
    "\x1b[31m",
    "-BTC",
    "BTC-",
)
COLUMNS = (
    *(
        "timestamp",
        "=",
        "open=",
        "open=open,open=close",
        "timestamp=7",
        "timestamp=0",
        "timestamp=-1",
        "open=date",
        "x=date",
    ),
    *(
        "open=99999999999999999999",
        "open=" + "9" * 5000,
        "timestamp=volume",
        "timestamp=open",
        "close=\x1b[31m",
        "open=²",
        "," * 5000,
        "open=٣",
    ),
)


def bad_files() -> Iterator[BadFile]:
    """Yield every bad file."""
    for at, text in enumerate(FAR_TIMES):
        lines = CSV.splitlines()
        lines[5] = lines[5].replace(lines[5].split(",")[0], text)
        yield BadFile(f"time {at} {text!r:.20}", "\n".join(lines).encode())
        if at % 4 == 0:
            yield BadFile(f"all times {at}", "\n".join([HEADER, *(f"{text},1,2,1,2,3" for _ in DAYS)]).encode())
    for at, cell in enumerate(CELLS):
        yield BadFile(f"price {at} {cell!r:.20}", CSV.replace("10.5", cell, 1).encode())
        yield BadFile(f"volume {at}", CSV.replace(",100\n", f',"{cell}"\n').encode())
    for name, options in (
        ("timestamp_format", FORMATS),
        ("timezone", ZONES),
        ("symbol", SYMBOLS),
        ("columns", COLUMNS),
    ):
        for at, option in enumerate(options):
            yield BadFile(f"{name} {at} {option!r:.20}", CSV.encode(), {name: option})
    yield from _bad_texts()
    yield from _bad_archives()
    yield from _bad_tables()


def _bad_texts() -> Iterator[BadFile]:
    """Texts with another structure or encoding than bars."""
    good = CSV.encode()
    faults = {
        "latin-1 header": CSV.replace("date", "Zeit für").encode("latin-1"),
        "half a character": good[:100] + b"\xe2\x82" + good[100:],
        "utf-16": CSV.encode("utf-16"),
        "utf-16 without mark": CSV.encode("utf-16-le"),
        "utf-32": CSV.encode("utf-32"),
        "ebcdic": CSV.encode("cp037"),
        "one quote": good.replace(b"10.5", b'"10.5', 1),
        "quote at the end": good + b'"',
        "quoted line end": good.replace(b"10.5", b'"10\n.5"', 1),
        "carriage returns": CSV.replace("\n", "\r").encode(),
        "mixed line ends": CSV.replace("\n", "\r\n", 5).replace("\n", "\r", 3).encode(),
        "form feeds": CSV.replace("\n", "\f\n").encode(),
        "vertical tabs": CSV.replace(",", "\v").encode(),
        "escape in a header": CSV.replace("volume", "\x1b[31mvolume").encode(),
        "header of escapes": CSV.replace(HEADER, ",".join(["\x1b[2J"] * 6)).encode(),
        "same name six times": CSV.replace(HEADER, ",".join(["open"] * 6)).encode(),
        "header twice": (HEADER + "\n" + CSV).encode(),
        "ten thousand columns": (",".join(["open"] * 10_000) + "\n" + ",".join(["1"] * 10_000)).encode(),
        "ten thousand empty columns": ("," * 10_000 + "\n").encode() * 5,
        "one column": "\n".join(DAYS).encode(),
        "json": b'[{"date": "2017-09-05", "open": 1}]',
        "json lines": b'{"date": "2017-09-05", "open": 1}\n' * 30,
        "xml": b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]><bars><bar open='1'/></bars>",
        "html": b"<html><body><table><tr><td>2017-09-05</td><td>1</td></tr></table></body></html>",
        "yaml": b"- date: 2017-09-05\n  open: 1\n" * 10,
        "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07builtin\x94.",
        "numpy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }",
        "tar": b"bars.csv" + bytes(248) + b"ustar\x0000" + bytes(300),
        "elf": b"\x7fELF\x02\x01\x01" + bytes(60),
        "ole": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500),
        "sqlite": b"SQLite format 3\0" + bytes(84),
        "a nul at the end": good + b"\0",
        "nuls": bytes(1000),
        "high bytes": b"\xff" * 1000,
        "only delimiters": b",;|\t\n" * 100,
        "only quotes": b'"' * 1001,
        "backwards": CSV[::-1].encode(),
        "all on one line": CSV.replace("\n", ",").encode(),
        "a time alone": b"date,open,high,low,close\n2017-09-05\n",
        "no volume, two times": b"date,date,open,high,low,close\n2017-09-05,2017-09-06,1,2,1,2\n",
        "the same bar": (HEADER + "\n" + "2017-09-05,1,2,1,2,3\n" * 50).encode(),
        "microseconds apart": "\n".join(
            ["date,open,high,low,close", *(f"2017-09-05T00:00:00.{at:06d},1,2,1,2" for at in range(50))]
        ).encode(),
    }
    for name, content in faults.items():
        yield BadFile(name, content)


def _zip(method: int, name: str = "bars.csv", content: bytes | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, CSV * 30 if content is None else content)
    return buffer.getvalue()


def _bad_archives() -> Iterator[BadFile]:
    """Archives cut off, with changed bytes, of other formats, with strange names."""
    text = (CSV * 30).encode()
    good = {
        "gzip": gzip.compress(text, mtime=0),
        "bzip2": bz2.compress(text),
        "xz": lzma.compress(text),
        "lzma": lzma.compress(text, lzma.FORMAT_ALONE),
        "zip stored": _zip(zipfile.ZIP_STORED),
        "zip deflated": _zip(zipfile.ZIP_DEFLATED),
        "zip bzip2": _zip(zipfile.ZIP_BZIP2),
        "zip lzma": _zip(zipfile.ZIP_LZMA),
        "zip of gzip": _zip(zipfile.ZIP_STORED, content=gzip.compress(text, mtime=0)),
        "zip of bzip2": _zip(zipfile.ZIP_STORED, content=bz2.compress(text)),
        "zip of xz": _zip(zipfile.ZIP_STORED, content=lzma.compress(text)),
    }
    for name, content in good.items():
        yield BadFile(f"{name} whole", content)
        for share in (0.02, 0.5, 0.98):
            yield BadFile(f"{name} cut at {share:.0%}", content[: int(share * len(content))])
        for share in (0.05, 0.3, 0.6, 0.97):
            at = int(share * len(content))
            yield BadFile(
                f"{name} changed at {share:.0%}", content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]
            )
        yield BadFile(f"{name} then noise", content + b"\x00\xff" * 50)
    member = _zip(zipfile.ZIP_STORED, "bars\u00e9.csv")
    yield BadFile("zip with a name in bad UTF-8", member.replace("bars\u00e9".encode(), b"bars\xff\xfe"))
    for name in ("\x1b[31mbars.csv", "a/\x1b[2J", "\u202evsc.srab", "bars\n.csv", "CON", " ", ".", "x" * 60_000):
        yield BadFile(f"zip with the name {name!r:.20}", _zip(zipfile.ZIP_STORED, name))
    for method in (1, 6, 9, 93, 95, 99, 65535):
        content = _zip(zipfile.ZIP_STORED)
        place = content.index(b"PK\1\2")
        packed = struct.pack("<H", method)
        yield BadFile(
            f"zip of method {method}", content[:8] + packed + content[10 : place + 10] + packed + content[place + 12 :]
        )


def _times() -> dict[str, pa.Array]:
    """Return columns of 28 times in every type that might hold one."""
    moments = [datetime(2017, 9, day, tzinfo=UTC).replace(tzinfo=None) for day in range(1, 29)]
    texts, seconds = pa.array(DAYS), pa.array(np.arange(28, dtype=np.int64) * 86_400 + 1_504_224_000)
    runs = pa.RunEndEncodedArray.from_arrays(pa.array(np.arange(1, 29, dtype=np.int32)), texts)
    return {
        "dictionary": texts.dictionary_encode(),
        "dictionary of integers": seconds.dictionary_encode(),
        "binary": pa.array([day.encode() for day in DAYS]),
        "binary of noise": pa.array([b"\xff\xfe\x00"] * 28),
        "fixed binary": pa.array([day.encode() for day in DAYS], pa.binary(10)),
        "large string": texts.cast(pa.large_string()),
        "string view": texts.cast(pa.string_view()),
        "run-end encoded": runs,
        "struct": pa.StructArray.from_arrays([texts], ["day"]),
        "list": pa.array([[day] for day in DAYS]),
        "map": pa.array([[("a", 1)]] * 28, pa.map_(pa.string(), pa.int32())),
        "time32": pa.array([time(1)] * 28, pa.time32("s")),
        "time64": pa.array([time(1)] * 28, pa.time64("us")),
        "duration": pa.array([timedelta(at) for at in range(28)], pa.duration("us")),
        "bool": pa.array([True] * 28),
        "null": pa.nulls(28),
        "decimal": pa.array([Decimal(int(second.as_py())) for second in seconds], pa.decimal128(20)),
        "decimal256": pa.array([Decimal(int(second.as_py())) for second in seconds], pa.decimal256(60)),
        "float16": pa.array(np.arange(28).astype(np.float16)),
        "float with nan": pa.array([float("nan")] * 28),
        "uint64": pa.array(np.full(28, 2**64 - 1, dtype=np.uint64)),
        "far seconds": pa.array(np.full(28, 2**62), pa.timestamp("s")),
        "far milliseconds": pa.array(np.full(28, -(2**62)), pa.timestamp("ms")),
        "year 9999": pa.array([datetime(9999, 12, 31)] * 28, pa.timestamp("us")),  # noqa: DTZ001
        "date of year 1": pa.array([date(1, 1, 1)] * 28),
        "date64": pa.array(moments, pa.date64()),
        "zone that is none": pa.array(moments, pa.timestamp("us", "Mars/Phobos")),
        "with a gap": pa.array([*moments[:-1], None], pa.timestamp("us")),
    }


def _bad_tables() -> Iterator[BadFile]:
    """Parquet and Feather files with other types, names and bytes than bars have."""
    numbers = {name: column for name, column in _times().items() if name not in {"with a gap", "date64"}}
    days = pa.array([datetime(2017, 9, day, tzinfo=UTC) for day in range(1, 29)])
    tables = {f"time as {name}": pa.table({"time": column, **PRICES}) for name, column in _times().items()}
    tables |= {
        f"open as {name}": pa.table({"time": days, **PRICES, "open": column}) for name, column in numbers.items()
    }
    tables["two columns named open"] = pa.table(
        [days, *PRICES.values(), pa.array([1.0] * 28)], ["time", *PRICES, "open"]
    )
    tables["two columns named time"] = pa.table([days, days, *PRICES.values()], ["time", "time", *PRICES])
    tables["no rows"] = pa.table({"time": days, **PRICES}).slice(0, 0)
    tables["no columns"] = pa.table({})
    tables["escape in a name"] = pa.table({"time": days, "\x1b[31mopen": PRICES["open"], **PRICES})
    for name, table in tables.items():
        for kind in ("parquet", "feather"):
            buffer = io.BytesIO()
            try:
                if kind == "parquet":
                    pyarrow.parquet.write_table(table, buffer)
                else:
                    pyarrow.feather.write_feather(table, buffer, compression="lz4")
            except (pa.ArrowException, ValueError):
                continue  # the format has no such type
            yield BadFile(f"{kind}: {name}", buffer.getvalue())
    for kind in ("parquet", "feather"):
        buffer = io.BytesIO()
        table = pa.table({"time": days, **PRICES})
        if kind == "parquet":
            pyarrow.parquet.write_table(table, buffer)
        else:
            pyarrow.feather.write_feather(table, buffer, compression="zstd")
        content = buffer.getvalue()
        for share in np.linspace(0.001, 0.999, 25):
            at = int(share * len(content))
            yield BadFile(f"{kind} cut at {share:.1%}", content[:at])
            yield BadFile(
                f"{kind} changed at {share:.1%}", content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]
            )

"""Read every STEP-th bad file in FOLDER, in this process; print the faults and the peak of its memory as JSON.

Usage: python bad_file_reader.py STEP FOLDER
"""

import json
import sys
import time
from pathlib import Path

from bad_files import BadFile, bad_files
from pydantic import ValidationError

from model.errors import RiseOrFallError
from tasks.sources.printable_text import LONGEST_QUOTE
from tasks.sources.source_spec import SourceSpec, require_readable

SECONDS = 5.0


def fault_of(file: BadFile, path: Path) -> str:
    """Return what is wrong with the way in which a file is read; empty if nothing is."""
    start = time.process_time()
    try:
        require_readable(SourceSpec(kind="csv", path=str(path), **file.spec))  # type: ignore[arg-type]
    except ValidationError:
        return ""
    except RiseOrFallError as error:
        text = str(error)
        if error.exit_code != 2:
            return f"exit code {error.exit_code}: {text}"
        if not all(character.isprintable() or character == "\n" for character in text):
            return f"prints control characters: {text!r}"
        if len(text) > LONGEST_QUOTE:
            return f"prints {len(text)} characters: {text[:80]}"
    except Exception as error:  # noqa: BLE001 - what this test looks for
        return f"unexpected {error!r}"
    seconds = time.process_time() - start
    return f"took {seconds:.1f} s" if seconds > SECONDS else ""


def peak_megabytes() -> float:
    """Return the peak of this process's memory; `ru_maxrss` would include that of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main(step: int, folder: Path) -> None:
    """Read the files and print what was found."""
    path, faults = folder / "bars.csv", {}
    files = list(bad_files())[::step]
    for file in files:
        path.write_bytes(file.content)
        if fault := fault_of(file, path):
            faults[file.name] = fault
    json.dump({"read": len(files), "faults": faults, "peak_mb": peak_megabytes()}, sys.stdout)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

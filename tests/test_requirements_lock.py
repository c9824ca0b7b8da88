"""The lock pins each package by version and hash, and names no address of an index."""

import re
from pathlib import Path

LOCK = (Path(__file__).parents[1] / "requirements.lock").read_text(encoding="utf-8")
PIN = re.compile(r"[\w.-]+(\[[\w,.-]+\])?==\S+( ; [^\\]+)? \\(\n    --hash=sha256:[0-9a-f]{64}( \\)?)+")


def test_each_package_has_a_version_and_hashes_as_require_hashes_wants_it() -> None:
    packages = re.split(r"\n(?=\S)", LOCK.rstrip("\n"))
    assert len(packages) > 200
    assert [each.partition("\n")[0] for each in packages if not PIN.fullmatch(each)] == []


def test_the_lock_names_no_index() -> None:
    assert "://" not in LOCK
    assert "--index" not in LOCK

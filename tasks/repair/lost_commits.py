"""What later commits of a Delta log prove about one that was lost: files that it added, and files that it replaced.

A commit that removes a file which no commit before it added proves that the lost one added it. A commit that overwrites
partitions removes every file in them, so a file that it leaves there was replaced by the lost one already; if it
stayed, its rows would stand twice, or rows removed by hand would return. Only logs that are kept from their first
commit on say so: others begin with a checkpoint.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tasks.registry.unreachable_store import regular_content

Action = dict[str, Any]


def read_actions(commit: Path) -> list[Action]:
    """Return the actions of a whole commit."""
    # Not splitlines: a text in JSON may contain characters at which that divides, such as U+2028.
    lines = regular_content(commit).decode().removesuffix("\n").split("\n")
    return [json.loads(line) for line in lines]


def prove_actions(root: Path, commits: Mapping[int, Path], lost: Sequence[int]) -> dict[int, list[Action]]:
    """Return actions of lost commits that later ones prove, by version; none where the log begins with a checkpoint.

    Args:
        root: folder of the table.
        commits: files of the log, by version; those that are not lost are whole.
        lost: versions whose commit is damaged or gone, ascending.
    """
    proven: dict[int, list[Action]] = {number: [] for number in lost}
    if not set(range(max(commits, default=-1) + 1)) <= {*commits, *lost}:
        return proven
    active: dict[str, Action] = {}
    suspect = None  # the newest lost commit before the one that is read
    for number in range(max(commits, default=-1) + 1):
        if number in proven:
            suspect = number
            continue
        actions = read_actions(commits[number])
        added, removed = _named(actions, "add"), _named(actions, "remove")
        if suspect is not None:
            unknown = [each for path, each in removed.items() if path not in active]
            proven[suspect] += [{"add": add} for each in unknown if (add := _added(root, each))]
            for path in _left_behind(actions, active):
                proven[suspect].append({"remove": _removed(active[path])})
                del active[path]
        active = {path: each for path, each in active.items() if path not in removed} | added
    return proven


def _named(actions: Sequence[Action], kind: str) -> dict[str, Action]:
    return {action[kind]["path"]: action[kind] for action in actions if kind in action}


def _left_behind(actions: Sequence[Action], active: Mapping[str, Action]) -> list[str]:
    """Return the files that a commit leaves in the partitions that it overwrites; none for another commit."""
    notes = [action["commitInfo"] for action in actions if "commitInfo" in action]
    if not any((note.get("operationParameters") or {}).get("mode") == "Overwrite" for note in notes):
        return []
    removed = _named(actions, "remove")
    partitions = [each.get("partitionValues") for each in (*removed.values(), *_named(actions, "add").values())]
    return [
        path
        for path, each in active.items()
        if path not in removed and each.get("partitionValues") is not None and each["partitionValues"] in partitions
    ]


def _added(root: Path, removed: Action) -> Action | None:
    """Return the action that added a file, by the one that removed it; None if the file cannot be read any more."""
    import pyarrow as pa  # imported here: `riseorfall --help` starts without it
    import pyarrow.parquet as pq  # imported here: the same

    path = root / unquote(removed["path"])
    try:
        rows, found = pq.read_metadata(path).num_rows, path.stat()
    except (OSError, pa.ArrowInvalid):
        return None
    return {
        "path": removed["path"],
        "partitionValues": removed.get("partitionValues") or {},
        "size": found.st_size,
        "modificationTime": found.st_mtime_ns // 1_000_000,
        "dataChange": True,
        "stats": json.dumps({"numRecords": rows}),
    }


def _removed(added: Action) -> Action:
    """Return the action that removes a file, by the one that added it."""
    kept = {name: added[name] for name in ("path", "partitionValues", "size")}
    return {**kept, "dataChange": True, "deletionTimestamp": added["modificationTime"], "extendedFileMetadata": True}

"""The ledger as a table on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def show_ledger(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print decisions, oldest first; forced ones are marked."""
    table = Table("#", "decided at", "action", "version", "champion", "rule", "log loss vs base rate", "reasons")
    for row in rows:
        numbers = row["numbers"]
        difference = numbers.get("base_rate.difference")
        table.add_row(
            str(row["sequence"]),
            row["decided_at"][:16].replace("T", " "),
            f"{row['action']}{' (forced)' if row['forced'] else ''}",
            row["version"],
            f"{row['champion_before'] or 'none'} -> {row['champion_after'] or 'none'}",
            row["rule"],
            "" if difference is None else f"{difference:+.4f}",
            "; ".join(row["reasons"]),
        )
    Console().print(table if rows else "no decisions yet; `riseorfall retrain` makes one")

"""The ledger as lines on a terminal, fit for any width."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console


def show_ledger(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print decisions, oldest first, each with its first reason; forced ones are marked."""
    console = Console()
    for row in rows:
        forced = " (forced)" if row["forced"] and row["action"] == "promote" else ""
        console.print(
            f"{row['sequence']:>4}  {row['decided_at'][:16].replace('T', ' ')}  "
            f"[bold]{row['action']}{forced}[/bold] version {row['version']}; "
            f"champion {row['champion_before'] or 'none'} -> {row['champion_after'] or 'none'}",
            highlight=False,
        )
        for reason in row["reasons"][:1]:
            console.print(
                f"      {reason}", highlight=False, markup=False, style="dim", no_wrap=True, overflow="ellipsis"
            )
    if not rows:
        console.print("no decisions yet; `riseorfall retrain` makes one")

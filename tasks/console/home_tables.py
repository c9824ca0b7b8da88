"""Tables about a home in the terminal: what an examination found, what was deleted."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from model.plurals import counted
from tasks.console.escaping_console import Console
from tasks.console.fitting_tables import print_table
from tasks.repair.home_finding import HomeFinding
from tasks.repair.retention import Removal
from tasks.results import totals


def show_findings(found: Sequence[HomeFinding], repaired: Sequence[HomeFinding]) -> None:
    """Print one line for each part, then what is wrong and what helps, file by file."""
    console = Console(highlight=False)
    table = Table("part", "state", "what helps", box=SIMPLE_HEAD)
    for each in found:
        helps = f"doctor --repair: {each.remedy}" if each.repair and each.is_damage else each.remedy
        style = "bold red" if each.is_damage else ""
        table.add_row(escape(each.part), f"[{style}]{each.state}[/{style}]" if style else each.state, escape(helps))
    print_table(console, table)
    for each in found:
        if each.is_damage or each.is_unreadable:
            console.print(f"[bold red]{each.state}[/bold red] {escape(f'{each.path}: {each.problem}')}", soft_wrap=True)
    unread = sum(each.is_unreadable for each in found)
    if unread:
        console.print(f"{counted(unread, 'part')} could not be read and may be damaged")
    elif not any(each.is_damage for each in found):
        console.print("everything is whole; of whole versions only champions are listed")
    for each in repaired:
        console.print(f"repaired {escape(f'{each.path}: {each.problem}; {each.remedy}')}", soft_wrap=True)


def show_removals(found: Sequence[Removal], ended: Sequence[str], *, dry_run: bool) -> None:
    """Print what was deleted, or would be, by kind; in a dry run also each name."""
    console = Console(highlight=False)
    for each in found if dry_run else ():
        console.print(f"would delete {escape(f'{each.kind}: {each.name}')} ({each.size:,} bytes)", soft_wrap=True)
    table = Table("would be deleted" if dry_run else "deleted", "number", "bytes", box=SIMPLE_HEAD)
    for row in totals(found):
        table.add_row(*row)
    if found:
        print_table(console, table)
    else:
        console.print("nothing to delete")
    if ended:
        console.print(f"ended {len(ended)} runs whose process was gone")

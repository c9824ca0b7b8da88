"""What a store or a file holds is printed with escapes: the terminal does not obey it."""

import pytest

from tasks.console.command_output import print_field, show_decisions, show_lines, show_quarantine
from tasks.console.escaping_console import Console
from tasks.console.status_tables import show_health

ACTS = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J \u202eright [bold]kept[/bold]"
SHOWN = r"\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J \u202eright [bold]kept[/bold]"
ROW = {"decided_at": "2026-11-28T00:00", "action": "rollback", "version": "1", "champion_before": "2"}
REFUSED = {"opened_at": "2017-04-15T00:00:00+00:00", "rule": "removed", "value": "1", "released_at": "2026-11-28T00:00"}


@pytest.mark.parametrize("width", ["200", "60"])
def test_every_kind_of_output_escapes(
    width: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    reasons = {"reasons": [ACTS], "marks": [""], "numbers": {}, "forced": False, "champion_after": "1"}
    health = {"champion_age_days": None, "bars_age_hours": None, "live_source": False, "source": "panel", "up": {}}
    health |= {"alarms": [ACTS], "next_runs": [], "predicted_by": "PANEL-1d", "live": {}, "bars_closed_at": None}
    for show in (
        lambda: show_lines([ACTS]),
        lambda: show_decisions([ROW | reasons]),
        lambda: show_quarantine([REFUSED | {"source": ACTS, "release_reason": ACTS}]),
        lambda: print_field(Console(), "run", ACTS),
        lambda: show_health(health, "BTC-USD 1d"),
    ):
        show()
        printed = capsys.readouterr().out
        assert all(each.isprintable() or each == "\n" for each in printed)
        assert "".join(SHOWN.split()) in "".join(printed.split()).replace("│", "")


def test_its_own_colours_stay(capsys: pytest.CaptureFixture[str]) -> None:
    Console(force_terminal=True, color_system="standard", highlight=False).print("[red]alarm[/red] \x1b[32mno")
    assert capsys.readouterr().out == "\x1b[31malarm\x1b[0m \\x1b[32mno\n"

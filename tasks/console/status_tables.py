"""Print the status of a series, or of all in one table: champion, bars, live score, decisions, health.

Each `show_...` function prints the plain values that `--json` prints; it computes nothing.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from model.bars import PANEL, Series, interval_delta
from model.plurals import counted
from model.times import format_time, to_timedelta
from model.trading import TradingSpec
from tasks.champion.promotion_summary import costs_text
from tasks.champion.served_predictions import maker_text
from tasks.console.command_output import decision_reasons, print_bullet
from tasks.console.escaping_console import Console
from tasks.console.fitting_tables import print_table
from tasks.console.panel_tables import panel_outcome_text, panel_prediction_text
from tasks.console.prediction_tables import right_or_wrong
from tasks.registry.metric_names import BREAK_EVEN
from tasks.services.scheduled_runs import is_scheduled

WIDE = 100  # columns of a terminal from which on a time stands on one line
NOT_SCHEDULED = "no known schedule reads it again"
LIVE_VERSIONS = 6  # champion and newest shadows that `status` prints; --json has the newest `NEWEST_VERSIONS`


def show_status(found: Mapping[str, Any]) -> None:
    """Print the status of a series, with its `health` where it is given."""
    console = Console(highlight=False)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in _status_rows(found):
        grid.add_row(name, escape(text))
    console.print(f"[bold]{found['series']}[/bold]")
    console.print(grid)
    if found["decisions"]:
        console.print("last decisions, newest first:")
    for place, row in enumerate(reversed(found["decisions"])):
        _print_decision(console, row, whole=place == 0)
    if "health" in found:
        bars = found["bars"]
        show_health(found["health"], f"{bars['symbol']} {bars['interval']}")


def _status_rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of each line that is no decision."""
    champion, challenger, bars = found["champion"], found["challenger"], found["bars"]
    is_panel = Series(bars["symbol"], bars["interval"]).is_panel
    unit = "windows" if is_panel else "bars"
    panel = found.get("health", {}).get("predicted_by")
    yield (
        "champion",
        _format_version(champion, unit) if champion else f"none; predicted by {panel}" if panel else "none",
    )
    if challenger:
        yield "challenger", _format_version(challenger, unit)
    no_bars = "those of its series" if is_panel else "none"
    no_prediction = "none; `riseorfall predict --panel` stores them" if is_panel else "none"
    no_prediction = f"those of {panel}: `riseorfall predictions --symbol PANEL`" if panel else no_prediction
    yield (
        "bars",
        f"{bars['rows']}, the first closed at {_close_time(bars, 'first')}, the last at {_close_time(bars, 'last')} UTC"
        if bars["rows"]
        else no_bars,
    )
    prediction, outcome = found["prediction"], found["last_outcome"]
    formats = (panel_prediction_text, panel_outcome_text) if is_panel else (_format_prediction, _format_outcome)
    by = maker_text(prediction["version"], champion["version"] if champion else None) if prediction else ""
    yield "prediction", formats[0](prediction | {"by": by}) if prediction else no_prediction
    if outcome:
        yield "last outcome", formats[1](outcome)
    if found["after_costs"]:
        yield "after costs", _format_costs(found["after_costs"])
    yield from (("hold", hold) for hold in found["holds"])
    if found["looks"]:
        yield "evidence", found["looks"]["text"]
    if "health" in found and not panel:
        yield "live", _format_live(found["health"]["live"])
    yield from (("live", each["text"]) for each in found["live_comparison"][:LIVE_VERSIONS])


def _close_time(bars: Mapping[str, Any], name: str) -> str:
    """Return when the first or last bar closed: every time of `status` is that of a close, but a bar has its open."""
    return format_time(
        (datetime.fromisoformat(bars[name]) + to_timedelta(interval_delta(bars["interval"]))).isoformat()
    )


def _print_decision(console: Console, row: Mapping[str, Any], *, whole: bool) -> None:
    """Print a decision on one line with its deciding reason, or with all its reasons below."""
    reasons = decision_reasons(row, whole=whole)
    text = f"{row['action']} version {row['version']}; champion: {row['champion_after'] or 'none'}"
    line = Table.grid()
    line.add_column(width=20, no_wrap=True)
    line.add_column(overflow="fold")
    line.add_row(f"  {format_time(row['decided_at'])}", escape(text if whole else "; ".join([text, *reasons])))
    console.print(line)
    for each in reasons if whole else ():
        print_bullet(console, each)


def show_all_status(found: Sequence[Mapping[str, Any]]) -> None:
    """Print one line a series: champion, its log loss, newest close, last decision, alarms."""
    console = Console(highlight=False)
    apart = " " if console.width >= WIDE else "\n"
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name in ("series", "champion", "log loss", "newest close", f"last{apart}decision", "alarms"):
        table.add_column(name, no_wrap=name != "alarms")
    for each in found:
        champion, decided, health = each["champion"], each["decisions"], each["health"]
        bars, without = each["bars"], f"by {health['predicted_by']}" if health["predicted_by"] else "none"
        table.add_row(
            each["series"],
            f"version {champion['version']}" if champion else without,
            f"{champion['log_loss']:.4f}" if champion and "log_loss" in champion else "",
            _close_time(bars, "last").replace(" ", apart) if bars["last"] else "none",
            f"{decided[-1]['action']}{apart}{decided[-1]['decided_at'][:10]}" if decided else "none",
            escape("; ".join(short_alarm(alarm, each["series"]) for alarm in health["alarms"])) or "none",
        )
    print_table(console, table)
    console.print("`riseorfall status --symbol SYMBOL --interval INTERVAL` shows one of them")


def short_alarm(alarm: str, series_name: str) -> str:
    """Return what an alarm is: without the name of its series, numbers after a semicolon, and remedies.

    >>> short_alarm("BTC-USD-1d: expected a champion, found none. Run `riseorfall retrain` first.", "BTC-USD-1d")
    'expected a champion, found none'
    >>> short_alarm("degraded: log loss 0.7100, +0.0169 vs. the record. Run `riseorfall retrain`", "BTC-USD-1d")
    'degraded: log loss 0.7100, +0.0169 vs. the record'
    """
    return re.split(r"[.] (?=[A-Z`])|; |, it ", alarm.removeprefix(f"{series_name}: "))[0].rstrip(".")


def show_health(found: Mapping[str, Any], series: str) -> None:
    """Print the age of the champion, the next scheduled runs and the alarms of a series, such as `BTC-USD 1d`."""
    console = Console(highlight=False)
    age, addresses = found["champion_age_days"], found["up"] or {}
    if age is not None:
        _print_row(console, "age", _format_age(found, series))
    for name, address in {name: place for name, place in addresses.items() if place}.items():
        console.print(f"up: {name} {address}", soft_wrap=True)
    for each in found["next_runs"]:
        if each["series"] not in {"", series} and not each["series"].startswith(f"{PANEL} "):
            continue  # of another series: a service may have hundreds
        console.print(f"next: {each['at'][:16].replace('T', ' ')} UTC  {each['name']}", soft_wrap=True)
    for alarm in found["alarms"]:
        _print_row(console, "[bold red]alarm[/bold red]", alarm)
    if not found["alarms"]:
        _print_row(console, "alarms", "none")


def _print_row(console: Console, name: str, text: str) -> None:
    """Print a name and its text, wrapped between words."""
    row = Table.grid(padding=(0, 2))
    row.add_column(width=len("prediction"), no_wrap=True)
    row.add_column(overflow="fold")
    row.add_row(name, escape(text))
    console.print(row)


def _format_age(found: Mapping[str, Any], series: str) -> str:
    """Format how old champion and bars are; bars that do not go on have no clock."""
    if found["bars_closed_at"] is None:
        return "no bars are stored"
    close = f"{format_time(found['bars_closed_at'])} UTC"
    if found["live_source"]:
        age, hours = found["champion_age_days"], found["bars_age_hours"]
        return f"the champion's newest training bar is {age:.1f} days old; the newest bar closed {hours:.1f} hours ago"
    if found["source"] == "csv":
        again = "the next ingest reads it again, and adds bars if it has new ones"
        reader = again if is_scheduled(series, found["next_runs"]) else NOT_SCHEDULED
        return f"bars from a file; {reader}; the newest closed at {close}"
    if found["source"] == "panel":
        return f"bars from files; the newest closed at {close}"
    bars = "the bundled sample" if found["source"] == "sample" else "historical bars"
    return f"{bars}: scheduled runs find no newer bars; the last one closed at {close}"


def _format_version(version: Mapping[str, Any], unit: str) -> str:
    same = f" (the same network as past champion version {same})" if (same := version.get("same_network_as")) else ""
    text = f"version {version['version']}{same}, trained until {format_time(version['trained_until'])} UTC"
    if "log_loss" not in version:
        return f"{text}, without scores (run `riseorfall doctor`)"
    scored = f" on {version['windows']:.0f} {unit}" if version.get("windows") else ""
    balanced = version["balanced_accuracy"]  # undefined where all bars rose, or all fell
    accuracy = "undefined" if math.isnan(balanced) else f"{balanced:.3f}"
    return f"{text}, log loss {version['log_loss']:.4f}{scored}, balanced accuracy {accuracy}"


def _format_prediction(found: Mapping[str, Any]) -> str:
    late = "; late: stored after its outcome was due" if found["late"] else ""
    return (
        f"P(rise) {found['probability']:.4f} for the close at {format_time(found['resolves_at'])}, decided at that of "
        f"{format_time(found['decided_at'])} UTC ({found['by']}){late}"
    )


def _format_outcome(row: Mapping[str, Any]) -> str:
    """Format a prediction whose outcome is known: `close at 2026-11-26, P(rise) 53.7%, rise: right`."""
    late = "; late" if row["late"] else ""
    outcome = f"{row['outcome']}: {right_or_wrong(row)}"
    return f"close at {format_time(row['resolves_at'])}, P(rise) {row['probability']:.1%}, {outcome}{late}"


def _format_costs(found: Mapping[str, Any]) -> str:
    """Format the net returns and the break-even costs: returns alone say nothing about skill."""
    trading, break_even = TradingSpec.model_validate(found["trading"]), (found[name] for name in BREAK_EVEN)
    return costs_text(found["net_return"], found["buy_and_hold_net_return"], trading, *break_even)


def _format_live(live: Mapping[str, Any]) -> str:
    """Format the live score of the last monitor run."""
    if not live.get("live_predictions"):
        return "no prediction has an outcome yet" if live else "no monitor run yet"
    count = counted(int(live["live_predictions"]), "prediction")
    closes = f" at {counted(int(live['live_closes']), 'close')}" if "live_closes" in live else ""
    opinions = counted(int(live.get("opinions", 0)), "opinion")
    return (
        f"{count}{closes}, accuracy {live['live_accuracy']:.3f}, log loss "
        f"{live['live_log_loss']:.4f} (base rate {live['base_rate_log_loss']:.4f})"
        + (f"; {opinions}, accuracy {live['opinion_accuracy']:.3f}" if live.get("opinions") else "")
    )

"""Print the results of commands as tables and lines that fit any terminal width.

Each `show_...` function prints one result; it computes nothing. Most take the plain values that `--json` prints.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from model.bars import Series
from model.bootstrap import Interval
from model.metrics import METRICS
from model.plurals import counted
from model.trading import TradingSpec
from tasks.champion.promotion_summary import missing_for_promotion, skill_and_costs
from tasks.settings import Settings
from tasks.store.decision_log import mark_reasons

NAME_WIDTH = 10
LINES_TO_COPY = ("MLflow", "run", "Data Docs", "report", "log")

if TYPE_CHECKING:
    from model.evaluation import Evaluation
    from tasks.champion.champion_monitor import MonitorResult
    from tasks.results import Retrain, Unchanged

LIVE_VERSIONS = 6  # champion and newest shadows that `status` prints; --json has all


def show_retrain(
    result: "Retrain | Unchanged",
    seconds: Mapping[str, float],
    settings: Settings,
    log_file: Path,
    costs: TradingSpec = TradingSpec(),
) -> None:
    """Print the result of a retrain: metrics vs. the best baseline, bars, decision, links, seconds of each step."""
    from tasks.results import Retrain  # imported here: importing it loads the data checks

    console = Console(highlight=False)
    if isinstance(result, Retrain):
        console.print(metrics_table(result.evaluation))
    for name, text in _retrain_lines(result, seconds, settings, log_file, costs):
        print_field(console, name, text)


def print_field(console: Console, name: str, text: str) -> None:
    """Print a name and its text, wrapped between words; a path or command is one line, so that it can be copied."""
    if name in LINES_TO_COPY:
        console.print(f"[bold]{name:<{NAME_WIDTH}}[/bold]{escape(text)}", soft_wrap=True)
        return
    row = Table.grid()
    row.add_column(width=NAME_WIDTH, no_wrap=True)
    row.add_column(overflow="fold")
    row.add_row(f"[bold]{name}[/bold]", escape(text))
    console.print(row)


def _print_bullet(console: Console, text: str) -> None:
    """Print an indented item of a list, wrapped between words."""
    item = Table.grid()
    item.add_column(width=6, no_wrap=True)
    item.add_column(overflow="fold")
    item.add_row("    -", escape(text))
    console.print(item)


def metrics_table(evaluation: "Evaluation") -> Table:
    """Return the metrics of the network and of the best baseline."""
    best = evaluation.best_baseline()
    title = f"{evaluation.windows} out-of-sample windows, {evaluation.first[:16]} to {evaluation.last[:16]}"
    numbers = Table(title=title, caption="value [95 % block bootstrap interval]", min_width=len(title))
    numbers.add_column("metric")
    numbers.add_column("network", justify="right", no_wrap=True)
    numbers.add_column(f"best baseline: {best.replace('_', ' ')}", justify="right", no_wrap=True)
    for name in METRICS:
        numbers.add_row(
            name.replace("_", " "), *(_format_interval(evaluation.numbers[who][name]) for who in ("network", best))
        )
    return numbers


def _retrain_lines(
    result: "Retrain | Unchanged",
    seconds: Mapping[str, float],
    settings: Settings,
    log_file: Path,
    costs: TradingSpec,
) -> Iterator[tuple[str, str]]:
    """Yield (name, text) for each line below the metrics; an empty name continues the line before."""
    from tasks.results import Retrain  # imported here: see show_retrain

    merge, promotion, checked = result.stored.merge, result.promotion, result.checked
    yield "bars", f"{result.landing.rows} read, {merge.added} added, {merge.revised} revised, {checked.rows} accepted"
    if result.stored.doubt:
        yield "", f"warning: {result.stored.doubt}"
    by_rule = ", ".join(f"{rule} {count}" for rule, count in checked.refused_by.items())
    yield (
        "refused",
        f"{checked.refused}{f' ({by_rule})' if by_rule else ''}; not closed yet {result.landing.unfinished}",
    )
    decided = promotion.action
    if isinstance(result, Retrain):
        windows = result.windows
        yield "windows", f"{windows.windows}, {windows.resolved} with an outcome, {windows.rises_share:.1%} rises"
        decided = f"{promotion.action} version {result.version.version}"
    yield "decision", f"{decided}; champion: {promotion.champion_after or 'none'}"
    for mark, reason in mark_reasons(promotion.reasons, promotion.marks):
        yield "", f"- {f'{mark}: ' if mark else ''}{reason}"
    if isinstance(result, Retrain):
        if promotion.action != "promote":
            yield "missing", "; ".join(missing_for_promotion(promotion.reasons, promotion.marks, promotion.numbers))
        yield from zip(("skill", "costs"), skill_and_costs(result.evaluation, costs), strict=True)
    from tasks.workspace import Workspace  # imported here: no other table needs the stores

    local = settings.mlflow_uri.startswith("sqlite:")
    yield "MLflow", f"mlflow ui --backend-store-uri {settings.mlflow_uri}" if local else settings.mlflow_uri
    yield "run", Workspace(settings, result.stored.ref.series).runs.run_link(result.run_id)
    yield "Data Docs", checked.docs
    if isinstance(result, Retrain) and result.report:
        yield "report", settings.link(Path(result.report))
    yield "log", str(log_file)
    yield "seconds", ", ".join(f"{step} {spent:.1f}" for step, spent in seconds.items())


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
        show_health(found["health"])


def _status_rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of each line that is no decision."""
    for role in ("champion", "challenger"):
        yield role, _format_version(found[role]) if found[role] else "none"
    bars, is_panel = found["bars"], Series(found["bars"]["symbol"], found["bars"]["interval"]).is_panel
    no_bars, no_prediction = ("those of its series", "not stored; see `predict --panel`") if is_panel else ("none",) * 2
    yield "bars", f"{bars['rows']} from {bars['first']} to {bars['last']}" if bars["rows"] else no_bars
    yield "prediction", _format_prediction(found["prediction"]) if found["prediction"] else no_prediction
    if found["last_outcome"]:
        yield "last outcome", _format_outcome(found["last_outcome"])
    if found["after_costs"]:
        yield "after costs", _format_costs(found["after_costs"])
    yield from (("hold", hold) for hold in found["holds"])
    if found["looks"]:
        yield "evidence", found["looks"]["text"]
    if "health" in found:
        yield "live", _format_live(found["health"]["live"])
    yield from (("live", each["text"]) for each in found["live_comparison"][:LIVE_VERSIONS])


def _print_decision(console: Console, row: Mapping[str, Any], *, whole: bool) -> None:
    """Print a decision on one line with its deciding reason, or with all its reasons below."""
    marked = [f"{mark}: {reason}" if mark else reason for mark, reason in mark_reasons(row["reasons"], row["marks"])]
    text = f"{row['action']} version {row['version']}; champion: {row['champion_after'] or 'none'}"
    line = Table.grid()
    line.add_column(width=20, no_wrap=True)
    line.add_column(overflow="fold")
    line.add_row(f"  {_format_time(row['decided_at'])}", escape(text if whole else "; ".join([text, *marked[:1]])))
    console.print(line)
    for each in marked if whole else ():
        _print_bullet(console, each)


def show_predictions(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print served predictions, oldest first, with their outcomes."""
    table = Table("close of (UTC)", "P(rise)", "predicted", "outcome", "version", "stored", box=SIMPLE_HEAD)
    for row in rows:
        outcome = f"{row['outcome']}, {_right(row)}" if row["outcome"] else "open"
        stored = "late" if row["late"] else "in time"
        chance = f"{row['probability']:.1%}"
        table.add_row(_format_time(row["resolves_at"]), chance, row["predicted"], outcome, row["version"], stored)
    Console().print(table if rows else "no predictions yet; `riseorfall predict` makes one")


def _right(row: Mapping[str, Any]) -> str:
    return "right" if row["right"] else "wrong"


def show_all_status(found: Sequence[Mapping[str, Any]]) -> None:
    """Print one line a series: champion, its log loss, newest bar, last decision, alarms."""
    table = Table("series", "champion", "log loss", "newest bar", "last decision", "alarms", box=SIMPLE_HEAD)
    for each in found:
        champion, decided, alarms = each["champion"], each["decisions"], each["health"]["alarms"]
        table.add_row(
            each["series"],
            f"version {champion['version']}" if champion else "none",
            f"{champion['log_loss']:.4f}" if champion and "log_loss" in champion else "",
            _format_time(each["bars"]["last"]) if each["bars"]["last"] else "none",
            f"{decided[-1]['action']}, {_format_time(decided[-1]['decided_at'])}" if decided else "none",
            "; ".join(escape(alarm.split(":")[0]) for alarm in alarms) or "none",
        )
    console = Console(highlight=False)
    console.print(table)
    console.print("`riseorfall status --symbol SYMBOL --interval INTERVAL` shows one of them")


def show_decisions(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print logged decisions, oldest first, each with its deciding reason, those of a person with all of them."""
    console = Console()
    for row in rows:
        forced = " (forced)" if row["forced"] and row["action"] == "promote" else ""
        console.print(
            f"{row['sequence']:>4}  {row['decided_at'][:16].replace('T', ' ')}  "
            f"[bold]{row['action']}{forced}[/bold] version {row['version']}; "
            f"champion {row['champion_before'] or 'none'} -> {row['champion_after'] or 'none'}",
            highlight=False,
        )
        marked = mark_reasons(row["reasons"], row["marks"])
        for mark, reason in marked if row["forced"] else marked[:1]:
            _print_bullet(console, f"{mark}: {reason}" if mark else reason)
    if not rows:
        console.print("no decisions yet; `riseorfall retrain` makes one, for a panel `riseorfall retrain-panel`")


def show_health(found: Mapping[str, Any]) -> None:
    """Print the age of the champion, the next scheduled runs and the alarms."""
    console = Console(highlight=False)
    age, hours = found["champion_age_days"], found["bars_age_hours"]
    if age is not None:
        if found["source"] == "panel":
            line = f"the champion's newest training bar is {age:.1f} days old; panels have no monitor yet"
        elif found["bars_closed_at"] is None:
            line = "no bars are stored"
        elif found["live_source"]:
            line = (
                f"the champion's newest training bar is {age:.1f} days old; the newest bar closed {hours:.1f} hours ago"
            )
        else:
            close = f"{_format_time(found['bars_closed_at'])} UTC"
            from_file = f"bars from a file; read again by the next ingest; the newest closed at {close}"
            line = f"historical bars: the clock stops at their last close, {close}"
            line = from_file if found["source"] == "csv" else line
        console.print(line)
    for name, address in {name: place for name, place in (found["up"] or {}).items() if place}.items():
        console.print(f"up: {name} {address}", soft_wrap=True)
    for each in found["next_runs"]:
        console.print(f"next: {each['at'][:16].replace('T', ' ')} UTC  {each['name']}", soft_wrap=True)
    alarms = Table.grid(padding=(0, 1))
    alarms.add_column(no_wrap=True)
    alarms.add_column(overflow="fold")
    for alarm in found["alarms"]:
        alarms.add_row("[bold red]alarm[/bold red]", escape(alarm))
    console.print(alarms if found["alarms"] else "no alarm")


def show_watched(watched: "MonitorResult") -> None:
    """Print the result of a monitor run."""
    console = Console(highlight=False)
    table = Table(
        "check", "value", "range or limit", title=f"{watched.entry.series_name} version {watched.entry.version}"
    )
    for row in watched.rows():
        table.add_row(*(escape(text) for text in row.values()))
    console.print(table)
    for alarm in watched.entry.alarms:
        console.print(f"[bold red]{alarm.kind}[/bold red] {escape(alarm.message)}", soft_wrap=True)
    for line in watched.notes:
        console.print(f"skipped: {escape(line)}", soft_wrap=True)
    console.print(f"chart: {watched.picture}", soft_wrap=True)


def show_bars(found: Sequence[Mapping[str, Any]]) -> None:
    """Print the stored series."""
    table = Table("series", "bars", "span", "gaps (bars)", "quarantined", "revised", "version", box=SIMPLE_HEAD)
    for each in found:
        table.add_row(
            f"{each['symbol']} {each['interval']}",
            str(each["rows"]),
            f"{_format_time(each['first'])}\n{_format_time(each['last'])}",
            f"{each['gaps']} ({each['missing_bars']})",
            *(str(each[name]) for name in ("quarantined", "revised", "version")),
        )
    Console().print(table if found else "no bars yet; `riseorfall ingest` fetches some")


def _format_time(written: str) -> str:
    """Shorten an ISO 8601 time (UTC) to `2019-10-17 08:00`; at midnight to the date."""
    return written[:16].replace("T", " ").removesuffix(" 00:00")


def show_quarantine(found: Sequence[Mapping[str, Any]]) -> None:
    """Print the quarantined bars of a series."""
    table = Table("opened at", "rule", "value", "source", "released", box=SIMPLE_HEAD)
    for each in found:
        released = f"{_format_time(each['released_at'])}: {each['release_reason']}" if each["released_at"] else ""
        texts = (each[name] for name in ("rule", "value", "source"))
        table.add_row(_format_time(each["opened_at"]), *map(escape, texts), escape(released))
    Console().print(table if found else "no quarantined bars")


def show_forecast(found: Mapping[str, Any]) -> None:
    """Print a prediction."""
    console = Console(highlight=False)
    console.print(
        f"{found['symbol']} {found['interval']}: P(rise) [bold]{found['probability']:.4f}[/bold], decided at "
        f"{found['decided_at']}, resolves at {found['resolves_at']} (version {found['version']})"
    )
    if found["opinion"]:
        among = "not among" if found["opinion"] == "none" else "among"
        console.print(
            f"opinion: {found['opinion']} ({among} its most confident decisions, by the share stated at retrain)"
        )
    if found["late"]:
        console.print("late: it was stored after its outcome was due, so it does not count as evidence")
    if found["backfilled"]:
        bars = f"{found['backfilled']} missed bar{'s' if found['backfilled'] > 1 else ''}"
        console.print(
            f"backfilled: predictions of {bars} before it were stored; those whose outcome was already due are "
            "marked late"
        )


def show_explanation(found: Mapping[str, Any], rows: int = 5) -> None:
    """Print the prediction for a window, the bars that changed it most, and the path of the page."""
    console = Console()
    outcome = f"outcome: {found['outcome']}" if found["outcome"] else "outcome not known yet"
    console.print(
        f"{found['symbol']} {found['interval']}: P(rise) [bold]{found['probability']:.4f}[/bold], decided at "
        f"{found['decided_at']} ({outcome}; version {found['version']}); the explained network "
        f"predicts {found['network_probability']:.4f}, and {found['flat_probability']:.4f} at constant prices",
        highlight=False,
    )
    strongest = {at: place for place, at in enumerate(found["strongest"][:rows])}
    chosen = (bar for bar in found["bars"] if bar["opened_at"] in strongest)
    bars = sorted(chosen, key=lambda bar: strongest[bar["opened_at"]])
    table = Table("bar opened at", "contribution", *(f"of {name}" for name in bars[0]["added_by"]))
    for bar in bars:
        shares = (bar["added"], *bar["added_by"].values())
        table.add_row(bar["opened_at"][:16].replace("T", " "), *(f"{share:+.4f}" for share in shares))
    console.print(table)
    if found["learned"]:
        console.print("In-sample: the network was trained on this window, so this explains a fit, not a forecast.")
    console.print(f"page: {found['page']}", soft_wrap=True, highlight=False)


def show_lines(lines: Sequence[str]) -> None:
    """Print plain lines."""
    for line in lines:
        Console().print(line, highlight=False)


def _format_version(version: Mapping[str, Any]) -> str:
    text = f"version {version['version']}, trained until {version['trained_until']}"
    if "log_loss" not in version:
        return f"{text}, without scores (run `riseorfall doctor`)"
    bars = f" on {version['windows']:.0f} bars" if version.get("windows") else ""
    return f"{text}, log loss {version['log_loss']:.4f}{bars}, balanced accuracy {version['balanced_accuracy']:.3f}"


def _format_prediction(found: Mapping[str, Any]) -> str:
    late = "; late: stored after its outcome was due" if found["late"] else ""
    return (
        f"P(rise) {found['probability']:.4f} at {_format_time(found['resolves_at'])}, decided at "
        f"{_format_time(found['decided_at'])} UTC (version {found['version']}){late}"
    )


def _format_outcome(row: Mapping[str, Any]) -> str:
    """Format a prediction whose outcome is known: `2026-11-26, P(rise) 53.7%, rise: right`."""
    late = "; late" if row["late"] else ""
    return (
        f"{_format_time(row['resolves_at'])}, P(rise) {row['probability']:.1%}, {row['outcome']}: {_right(row)}{late}"
    )


def _format_costs(found: Mapping[str, float]) -> str:
    """Format break-even costs with their interval before the returns: those alone say nothing about skill."""
    return (
        f"breaks even at {found['break_even_bps']:.0f} bps per side [{found['break_even_bps_low']:.0f}, "
        f"{found['break_even_bps_high']:.0f}], costs assumed {found['costs_bps']:g} bps; net "
        f"{found['net_return']:+.0%} out of sample, buy and hold {found['buy_and_hold_net_return']:+.0%}"
    )


def _format_live(live: Mapping[str, Any]) -> str:
    """Format the live score of the last monitor run."""
    if not live.get("live_predictions"):
        return "no prediction has an outcome yet" if live else "no monitor run yet"
    return (
        f"{counted(int(live['live_predictions']), 'prediction')}, accuracy {live['live_accuracy']:.3f}, log loss "
        f"{live['live_log_loss']:.4f} (base rate {live['base_rate_log_loss']:.4f})"
    )


def _format_interval(interval: Interval) -> str:
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"

"""Print the results of commands as tables and lines that fit any terminal width.

Each `show_...` function prints one result; it computes nothing. Most take the plain values that `--json` prints.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from model.bootstrap import Interval
from model.forecaster_names import POLICY_NAMES, traded_name
from model.metrics import METRIC_NAMES, METRICS
from model.times import format_time
from model.trading import TradingSpec
from tasks.champion.promotion_summary import missing_for_promotion, skill_and_costs, what_to_do
from tasks.console.escaping_console import Console
from tasks.console.fitting_tables import print_table
from tasks.settings import Settings, masked
from tasks.store.decision_log import mark_reasons

NAME_WIDTH = 10
BREAK_EVEN_HEAD = "break-even (bps)"
CAPTION = "value [95 % block bootstrap interval]"
LINES_TO_COPY = ("MLflow", "run", "Data Docs", "report", "log")

if TYPE_CHECKING:
    from model.evaluation import Evaluation
    from model.trading_policy_comparison import PolicyComparison
    from tasks.champion.champion_monitor import MonitorResult
    from tasks.results import Retrain, Unchanged


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
        print_table(console, metrics_table(result.evaluation))
        if result.evaluation.policies:
            print_table(console, policies_table(result.evaluation.policies))
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


def print_bullet(console: Console, text: str) -> None:
    """Print an indented item of a list, wrapped between words."""
    item = Table.grid()
    item.add_column(width=6, no_wrap=True)
    item.add_column(overflow="fold")
    item.add_row("    -", escape(text))
    console.print(item)


def metrics_table(evaluation: "Evaluation") -> Table:
    """Return the metrics of the network and of the best baseline."""
    best = evaluation.best_baseline()
    title = f"{evaluation.windows} out-of-sample windows, {evaluation.span}"
    caption = f"{CAPTION}\n{evaluation.baselines_note}".rstrip()
    numbers = Table(title=title, caption=caption, min_width=len(title))
    numbers.add_column("metric")
    numbers.add_column("network", justify="right", no_wrap=True)
    numbers.add_column(f"best baseline: {best.replace('_', ' ')}", justify="right", no_wrap=True)
    for name in METRICS:
        numbers.add_row(
            METRIC_NAMES[name], *(_format_interval(evaluation.numbers[who][name]) for who in ("network", best))
        )
    return numbers


def policies_table(comparison: "PolicyComparison", *, of_panel: bool = False) -> Table:
    """Return what each policy earned, by the network and by the baselines; a panel has no chosen policy."""
    spec = comparison.spec
    chosen = "" if of_panel else f"; chosen: {POLICY_NAMES[spec.policy]}"
    title = f"Policies, {spec.kind.replace('_', ' or ')}, at {spec.side_bps:g} bps per side{chosen}"
    found = figures_table(title, ("policy", "by"), ("net return", BREAK_EVEN_HEAD))
    for name, result in comparison.results.items():
        policy, who = traded_name(name)
        found.add_row(policy, who, f"{result.figures['net_return']:+.1%}", break_even_text(result.figures))
    return found


def figures_table(title: str, names: Sequence[str], figures: Sequence[str]) -> Table:
    """Return an empty table with columns of text and columns of figures with intervals, for 80 columns."""
    found = Table(*names, title=title, caption=CAPTION, box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    found.min_width = len(title)
    for head in figures:
        found.add_column(head, justify="right", no_wrap=True)
    return found


def break_even_text(figures: Mapping[str, float]) -> str:
    """Return a break-even cost with its interval: `9.1 [3.9, 14.1]`."""
    value, low, high = (figures[f"break_even_bps{bound}"] for bound in ("", "_low", "_high"))
    return f"{value:.1f} [{low:.1f}, {high:.1f}]" if value == value else "nothing traded"  # noqa: PLR0124 - NaN


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
    if result.stored.warning:
        yield "", f"warning: {result.stored.warning}"
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
            missing = missing_for_promotion(promotion.reasons, promotion.marks, promotion.numbers)
            if missing:
                yield "missing", "; ".join(missing)
            series = result.stored.ref.series
            if to_do := what_to_do(promotion.action, promotion.marks, result.version.version, series):
                yield "to do", to_do
        yield from zip(("skill", "costs"), skill_and_costs(result.evaluation, costs), strict=True)
    from tasks.workspace import Workspace  # imported here: no other table needs the stores

    local = settings.mlflow_uri.startswith("sqlite:")
    yield "MLflow", f"mlflow ui --backend-store-uri {settings.mlflow_uri}" if local else masked(settings.mlflow_uri)
    yield "run", Workspace(settings, result.stored.ref.series).runs.run_link(result.run_id)
    yield "Data Docs", checked.docs
    if isinstance(result, Retrain) and result.report:
        yield "report", settings.link(Path(result.report))
    yield "log", str(log_file)
    yield "seconds", ", ".join(f"{step} {spent:.1f}" for step, spent in seconds.items())


def decision_reasons(row: Mapping[str, Any], *, whole: bool) -> list[str]:
    """Return the marked reasons of a decision: all, or the deciding one and how many others there are and failed."""
    found = mark_reasons(row["reasons"], row["marks"])
    marked = [f"{mark}: {reason}" if mark else reason for mark, reason in found]
    if whole or not found[1:]:
        return marked
    failed = sum(mark == "failed" for mark, _ in found[1:])
    return [f"{marked[0]} (+{len(found) - 1} more{f', {failed} failed' if failed else ''})"]


def show_decisions(rows: Sequence[Mapping[str, Any]], *, whole: bool = True) -> None:
    """Print logged decisions, oldest first, each with all its reasons, or with the deciding one only.

    Args:
        rows: decisions; `number` is that in the log of the series, else they are counted from 1.
        whole: whether all reasons are printed.
    """
    console = Console()
    for place, row in enumerate(rows, 1):
        forced = " (forced)" if row["forced"] and row["action"] == "promote" else ""
        console.print(
            f"{row.get('number', place):>4}  {row['decided_at'][:16].replace('T', ' ')}  "
            f"[bold]{row['action']}{forced}[/bold] version {row['version']}; "
            f"champion {row['champion_before'] or 'none'} -> {row['champion_after'] or 'none'}",
            highlight=False,
        )
        for text in decision_reasons(row, whole=whole):
            print_bullet(console, text)
    if not rows:
        console.print("no decisions yet; `riseorfall retrain` makes one, for a panel `riseorfall retrain-panel`")


def show_watched(watched: "MonitorResult") -> None:
    """Print the result of a monitor run."""
    console = Console(highlight=False)
    table = Table(
        "check",
        "value",
        "range or limit",
        title=f"{watched.entry.series_name} version {watched.entry.version}",
        caption="KS: Kolmogorov-Smirnov statistic, PSI: population stability index, of recent and training bars",
    )
    for row in watched.rows():
        table.add_row(*(escape(text) for text in row.values()))
    print_table(console, table)
    for alarm in watched.entry.alarms:
        console.print(f"[bold red]{alarm.kind}[/bold red] {escape(alarm.message)}", soft_wrap=True)
    if not watched.entry.alarms:
        console.print("no alarm")
    for line in watched.notes:
        console.print(f"skipped: {escape(line)}", soft_wrap=True)
    console.print(f"chart: {watched.picture}", soft_wrap=True, markup=False)


def show_bars(found: Sequence[Mapping[str, Any]]) -> None:
    """Print the stored series."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name in ("series", "bars", "span", "gaps (bars)", "quarantined", "revised", "version"):
        table.add_column(name, no_wrap=name not in {"span", "gaps (bars)"}, min_width=10 if name == "span" else None)
    for each in found:
        table.add_row(
            f"{each['symbol']} {each['interval']}",
            str(each["rows"]),
            f"{format_time(each['first'])}\n{format_time(each['last'])}",
            f"{each['gaps']}\n({each['missing_bars']})" if each["gaps"] else "0",
            *(str(each[name]) for name in ("quarantined", "revised", "version")),
        )
    if found:
        print_table(Console(), table)
    else:
        Console().print("no bars yet; `riseorfall ingest` fetches some")


def show_quarantine(found: Sequence[Mapping[str, Any]]) -> None:
    """Print the quarantined bars of a series."""
    table = Table("opened at", "rule", "value", "source", box=SIMPLE_HEAD)
    if any(each["released_at"] for each in found):
        table.add_column("released")
    for each in found:
        released = [f"{format_time(each['released_at'])}: {each['release_reason']}"] if each["released_at"] else []
        texts = (each[name] for name in ("rule", "value", "source"))
        table.add_row(format_time(each["opened_at"]), *map(escape, (*texts, *released)))
    if found:
        print_table(Console(), table)
    else:
        Console().print("no quarantined bars")


def show_explanation(found: Mapping[str, Any], rows: int = 5) -> None:
    """Print the prediction for a window, the bars that changed it most, and the path of the page."""
    console = Console()
    outcome = f"outcome: {found['outcome']}" if found["outcome"] else "outcome not known yet"
    console.print(
        f"{found['symbol']} {found['interval']}: P(rise) [bold]{found['probability']:.4f}[/bold], decided at "
        f"{format_time(found['decided_at'])} UTC ({outcome}; version {found['version']}); the explained network "
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
    print_table(console, table)
    if found["learned"]:
        console.print("In-sample: the network was trained on this window, so this explains a fit, not a forecast.")
    console.print(f"page: {found['page']}", soft_wrap=True, highlight=False, markup=False)


def show_lines(lines: Sequence[str]) -> None:
    """Print plain lines: what stands in brackets, such as in a person's reason or a path, is text and no style.

    A command is one line, so that it can be copied.
    """
    for line in lines:
        Console().print(line, highlight=False, markup=False, soft_wrap=line.startswith("riseorfall "))


def _format_interval(interval: Interval) -> str:
    if math.isnan(interval.value):
        return "undefined"
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"

"""The results of a replay as Markdown for Prefect, and in one line."""

from collections import Counter
from typing import TYPE_CHECKING

from tasks.registry.mlflow_run_names import DONE

if TYPE_CHECKING:
    from tasks.champion.replay_summary import ReplaySummary

SHOWN_DAYS = 30
ALWAYS_COUNTED = ("promote", "hold")  # other actions are named where they occur


def replay_headline(summary: "ReplaySummary") -> str:
    """Return the number of days, and of those with each outcome, in one line."""
    counts: Counter[str] = Counter(row.action for row in summary.decisions)
    outcomes = [
        f"{counts[action]} {outcome}" for action, outcome in DONE.items() if counts[action] or action in ALWAYS_COUNTED
    ]
    return f"{len(summary.decisions)} days: {', '.join(outcomes)}"


def replay_page(summary: "ReplaySummary", link: str) -> str:
    """Return a replay as Markdown: its results, the MLflow run, and a table of the newest days, newest first."""
    rows = [
        f"| {row.decided_at:%Y-%m-%d} | {row.action} | {row.version} | {row.reasons[0].replace('|', chr(92) + '|')} |"
        for row in summary.decisions[: -SHOWN_DAYS - 1 : -1]
    ]
    title = f"Newest {SHOWN_DAYS} of {len(summary.decisions)} days:" if len(summary.decisions) > SHOWN_DAYS else "Days:"
    table = "\n".join(["| date | action | version | deciding reason |", "|---|---|---|---|", *rows])
    results = "\n".join(f"- {line}" for line in summary.lines())
    return "\n\n".join([f"# {summary.name}", results, f"[MLflow run of the summary]({link})", title, table]) + "\n"

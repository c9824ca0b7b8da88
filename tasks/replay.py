"""Replay past days: one task per day, one for the summary. The work is `tasks/champion/daily_replay.py`'s."""

from dataclasses import replace
from datetime import date

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from model.promotion_rule import PromotionRule
from model.recipe import Recipe
from tasks.champion.daily_replay import Replay
from tasks.champion.replay_summary import ReplaySummary
from tasks.console.progress import current_progress
from tasks.pages.prefect_artifacts import show_page
from tasks.pages.replay_page import replay_page


def open_replay(recipe: Recipe, rule: PromotionRule, first: date, last: date, name: str) -> Replay:
    """Open a replay, or resume one that was interrupted."""
    replay = Replay(recipe, rule, first, last, name=name)
    done = len(replay.days) - len(replay.pending())
    current_progress().report_line(f"{replay.name}: {len(replay.days)} days, {done} of them decided before")
    return replay


@task(name="replay day", task_run_name="replay {day}", cache_policy=NO_CACHE)
def replay_day(replay: Replay, day: date) -> str:
    """Retrain and decide as of a day; return the decision as text."""
    run = current_progress()
    with run.step("replay"):
        row = replay.run_day(day)
    done = f"{replay.days.index(day) + 1} of {len(replay.days)}"
    line = f"{day} ({done}): {row.action} version {row.version}; champion: {row.champion_after or 'none'}"
    run.report_line(line)
    get_run_logger().info("%s", line)
    return line


@task(name="summarise replay", task_run_name="summarise replay", cache_policy=NO_CACHE)
def summarise(replay: Replay) -> ReplaySummary:
    """Score the replay, log it to MLflow and show it in Prefect."""
    summary = replay.summary()
    summary = replace(summary, run_id=replay.show(summary))
    show_page("replay", replay_page(summary, replay.workspace.runs.run_link(summary.run_id)), "Summary of a replay")
    return summary

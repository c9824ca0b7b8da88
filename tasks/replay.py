"""Replay as tasks: thin covers over `tasks/champion/daily_replay.py`, one for each day and one for the end."""

from dataclasses import replace
from datetime import date

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from model.promotion_rule import PromotionRule
from model.recipe import Recipe
from tasks.champion.daily_replay import Replay, ReplaySummary
from tasks.console.progress import current_progress


def open_replay(recipe: Recipe, rule: PromotionRule, first: date, last: date, name: str) -> Replay:
    """Open a replay, or go on with one that was interrupted."""
    replay = Replay(recipe, rule, first, last, name=name)
    done = len(replay.days) - len(replay.pending())
    current_progress().report_line(f"{replay.name}: {len(replay.days)} days, {done} of them done already")
    return replay


@task(name="replay day", task_run_name="replay {day}", cache_policy=NO_CACHE)
def replay_day(replay: Replay, day: date) -> str:
    """Retrain and decide as of a day, and return what was decided."""
    run = current_progress()
    with run.step("replay"):
        row = replay.run_day(day)
    told = f"{day}: {row.action} version {row.version}; champion: {row.champion_after or 'none'}"
    run.report_line(told)
    get_run_logger().info("%s", told)
    return told


@task(name="summarise replay", cache_policy=NO_CACHE)
def summarise(replay: Replay) -> ReplaySummary:
    """Score the replay, log it to MLflow and show it."""
    summary = replay.summary()
    summary = replace(summary, run_id=replay.show(summary))
    page = "\n".join(f"- {line}" for line in summary.lines())
    create_markdown_artifact(f"# {summary.name}\n\n{page}\n", key="replay", description="What a replay showed")
    return summary

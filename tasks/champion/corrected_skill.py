"""What was scored on a challenger's test bars before, from the table `trials`, to correct evidence and figures for it.

Every trial counts, refits of the challenger's own recipe too: near-identical forecasts barely change the corrected
p-value, because the correction allows for the correlation between trials. A replayed day is decided as it was on that
day: trials recorded later do not count.
"""

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from model.bars import Bars
from model.correction_for_looks import Looks, RecipesTried
from model.evaluation import WAYS
from model.multiple_testing import deflate_sharpe_ratio, forecast_skill
from model.recipe import Recipe
from model.record import Record, common_places
from model.times import to_datetimes
from model.trading import TradingSpec, net_returns
from tasks.registry.run_artifacts import read_evaluation
from tasks.store.trial_log import Trial, TrialKind, TrialLog, overlapping_trials, trial_of
from tasks.workspace import Workspace


def record_look(
    workspace: Workspace, kind: TrialKind, trial_id: str, recipe: Recipe, run_id: str, recorded_at: datetime
) -> None:
    """Record the out-of-sample record of a registered version's run as a trial, once.

    Called after the registration: a version that is trained again after a crash is one look.
    """
    record, base_rate = read_evaluation(workspace.runs, run_id)
    trial = trial_of(kind, trial_id, recipe, record, base_rate, recorded_at=recorded_at, run_id=run_id)
    workspace.trial_log.append([trial])


def recipes_tried(workspace: Workspace, run_id: str, record: Record) -> RecipesTried:
    """Return the trials on the test bars of a challenger.

    Args:
        workspace: trial log and series.
        run_id: run of the challenger.
        record: its out-of-sample record.
    """
    series = workspace.runs.series
    first, last = to_datetimes(record.decided_at[[0, -1]])
    trials = workspace.trial_log.trials(series.symbol, series.interval, between=(first, last), forecasts=True)
    own = next((trial for trial in trials if trial.run_id == run_id), None)
    others = [
        trial
        for trial in trials
        if trial.run_id != run_id and not (own and own.kind == "replay" and trial.recorded_at > own.recorded_at)
    ]
    rows = {trial.trial_id: skill_on(trial, record) for trial in others}
    known = [trial for trial in others if np.isfinite(rows[trial.trial_id]).any()]
    mine = {own.recipe if own else ""}
    recipes = {trial.recipe for trial in others} | mine
    strict = {row.run_id for row in workspace.decision_log.rows(workspace.name) if row.rule == "strict"}
    return RecipesTried(
        looks=Looks(len(others) + 1, len(recipes)),
        skill=np.array([rows[trial.trial_id] for trial in known]).reshape(-1, len(record)),
        unknown=len(recipes - {trial.recipe for trial in known} - mine),
        decided=len({trial.recipe for trial in others if trial.run_id in strict} - mine),
    )


def comparable_records(log: TrialLog, trials: Sequence[Trial], own: Trial, record: Record) -> list[Record]:
    """Return the forecasts of each other recipe by its newest trial, if it decided at least half of the record.

    Args:
        log: the forecasts of the trials are read from it; a refit of the same recipe every day has none to read.
        trials: of the series, oldest first.
        own: trial of the record.
        record: out-of-sample record.
    """
    overlapping = overlapping_trials(trials, own.test_first, own.test_last)
    newest = {trial.recipe: trial for trial in overlapping if trial.horizon_bars == own.horizon_bars}
    others = [
        record.with_probabilities(trial.forecasts.decided_at, trial.forecasts.probabilities)
        for trial in log.with_forecasts([each for each in newest.values() if each.recipe != own.recipe])
        if trial.forecasts is not None
    ]
    return [each for each in others if len(each) >= len(record) / 2]


def sign_returns(others: Sequence[Record], bars: Bars, costs: TradingSpec) -> list[np.ndarray]:
    """Return the net returns of other recipes, traded by sign: their validation windows are not stored with trials."""
    return [net_returns(each, bars, costs.model_copy(update={"policy": "sign"})) for each in others]


def deflated_sharpe_ratios(
    record: Record,
    others: Sequence[Record],
    recipes: int,
    bars: Bars,
    costs: TradingSpec,
    validation: Sequence[Record] = (),
) -> dict[str, float]:
    """Return the deflated Sharpe ratio of a record by way of trading (`WAYS`), given the recipes tried.

    Args:
        record: out-of-sample record.
        others: `comparable_records`.
        recipes: tried on the record's windows, unknown ones included.
        bars: shape (bar,), oldest first.
        costs: of the trades.
        validation: of the record's folds, for the policies that learn from them.
    """
    ratios = {}
    for way in WAYS:
        spec = costs.model_copy(update={"kind": way})
        own = net_returns(record, bars, spec, validation)
        ratios[way] = deflate_sharpe_ratio(own, sign_returns(others, bars, spec), recipes)
    return ratios


def skill_on(trial: Trial, record: Record) -> np.ndarray:
    """Return the skill of a trial's forecasts on the windows of a record, shape (window,); NaN where it has none.

    Labels and base rates are the trial's own: it may have predicted another horizon.
    """
    skill, found = np.full(len(record), np.nan), trial.forecasts
    if found is not None:
        here, there = common_places(record.decided_at, found.decided_at)
        skill[here] = forecast_skill(found.labels, found.base_rates, found.probabilities)[there]
    return skill

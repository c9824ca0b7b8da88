"""Status of a series: champion, challenger, bars, live predictions, looks, decisions.

`series_alarms.py` says whether all is well.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from model.bars import Series
from model.correction_for_looks import Looks
from model.errors import NoChampion, UnsoundModel
from model.evaluation import WAYS
from tasks.champion.commit_decision import sync_champion_alias
from tasks.champion.live_comparison import NEWEST_VERSIONS, LiveComparison, compare_live, compare_live_panel
from tasks.champion.panel_status import newest_close, newest_outcome, recent_predictions
from tasks.champion.recipe_hold import held_recipes
from tasks.champion.served_predictions import served_predictions
from tasks.registry.metric_names import BREAK_EVEN
from tasks.registry.model_registry import Version
from tasks.registry.run_metrics import logged_trading
from tasks.settings import Settings
from tasks.store.decision_log import SAME_AS, LoggedDecision, challenger_of, with_values
from tasks.store.delta_table import RECENT
from tasks.store.trial_log import Trial
from tasks.workspace import Workspace

LAST_DECISIONS = 5


def series_status(series: Series, settings: Settings, live_versions: int = NEWEST_VERSIONS) -> dict[str, Any]:
    """Return champion, challenger and newest prediction (None where there is none), bars, looks, holds and decisions.

    Decisions are listed newest last.
    An alias that a crash left out of date is corrected first; `problem` says what could not be corrected.

    Args:
        series: symbol and interval.
        settings: addresses of tables and MLflow.
        live_versions: how many versions are compared on live decisions; older ones need resamples, 15 ms each.
    """
    workspace = Workspace(settings, series)
    state, rows = sync_champion_alias(workspace), workspace.decision_log.rows(series.name)
    number, problem = challenger_of(rows), state.problem
    try:
        challenger = workspace.registry.version(number) if number else None
    except (NoChampion, UnsoundModel) as error:
        challenger, problem = None, problem or str(error)
    summary = workspace.bar_store.summary(series)
    bars = {"symbol": series.symbol, "interval": series.interval, "rows": 0, "first": None, "last": None}
    of_panel = recent_predictions(workspace) if series.is_panel else None
    return {
        "series": series.name,
        "champion": _summary(state.version, rows),
        "problem": problem,
        "challenger": _summary(challenger, rows),
        "bars": summary.to_dict() if summary else bars,
        "after_costs": _after_costs(workspace, state.version),
        "prediction": _newest_prediction(workspace) if of_panel is None else newest_close(of_panel),
        "last_outcome": _last_outcome(workspace) if of_panel is None else newest_outcome(of_panel),
        "live_comparison": [
            each.to_dict() | {"text": each.text()} for each in _live(workspace, state.number, live_versions)
        ],
        "looks": _newest_looks(workspace.trial_log.newest_retrain(series.symbol, series.interval)),
        "holds": [str(hold) for hold in held_recipes(workspace).values()],
        "decisions": [row.to_dict() for row in rows[-LAST_DECISIONS:]],
    }


def _summary(version: Version | None, rows: Sequence[LoggedDecision]) -> dict[str, Any] | None:
    """Return the summary of a version with what its decisions know, or None.

    `windows` is the number of bars that it was scored on, `same_network_as` a past champion with the same network.
    """
    if version is None:
        return None
    numbers = [row.numbers for row in with_values(rows, version=version.version)]
    windows, same = (
        next((found for each in numbers if (found := each.get(name))), None) for name in ("base_rate.n", SAME_AS)
    )
    return version.summary() | {"windows": windows, "same_network_as": f"{same:.0f}" if same else None}


def _live(workspace: Workspace, champion: str | None, versions: int) -> tuple[LiveComparison, ...]:
    """Compare champion and shadows on live decisions; empty, without reading bars, where no shadow predicted."""
    if not versions or workspace.shadow_log.last_predicted(workspace.name) is None:
        return ()
    if workspace.runs.series.is_panel:
        return compare_live_panel(workspace, champion, versions=versions)
    return compare_live(workspace, None, champion, versions=versions)


def _newest_prediction(workspace: Workspace) -> dict[str, Any] | None:
    """Return the newest served prediction; None before the first."""
    newest = workspace.prediction_log.last_predicted(workspace.name)
    if newest is None:
        return None
    found = workspace.prediction_log.decided_at(workspace.name, newest)
    return min(found, key=lambda each: each.stored_at).to_dict()


def _last_outcome(workspace: Workspace) -> dict[str, Any] | None:
    """Return the newest served prediction whose outcome is known; None before the first."""
    newest = workspace.prediction_log.last_predicted(workspace.name)
    for since in (newest - RECENT, None) if newest else ():
        found = served_predictions(workspace, since)
        known = np.flatnonzero(found.labels >= 0)
        if len(known):
            return found.row(int(known[-1]))
    return None


def _after_costs(workspace: Workspace, champion: Version | None) -> dict[str, Any] | None:
    """Return the costs per side at which the champion's long-or-flat strategy breaks even, bps, and its net returns.

    Besides, how it traded, its costs included.
    None without a champion, for runs before 0.2, for a run without its costs, for a strategy that never traded, and
    where MLflow is a server: its client takes seconds to import.
    """
    if champion is None:
        return None
    metrics = workspace.runs.database.metrics(champion.run_id)
    found = {name: metrics.get(f"trading/{WAYS[0]}_{name}") for name in BREAK_EVEN}
    found |= {name: metrics.get(f"headline/{name}") for name in ("net_return", "buy_and_hold_net_return")}
    known = {name: value for name, value in found.items() if value is not None}
    if len(known) < len(found):
        return None
    params = workspace.runs.run_params(champion.run_id)
    if "promotion.trading.slippage_bps" not in params:
        return None
    trading = logged_trading(params)
    return {**known, "costs_bps": trading.side_bps, "trading": trading.model_dump(mode="json")}


def _newest_looks(newest: tuple[Trial, Looks] | None) -> dict[str, Any] | None:
    """Return how often the test bars of the newest retrain have been scored until now; None before the first.

    The p-value is corrected for all recipes tried until now, so it may be larger than in that retrain's report.
    """
    if newest is None:
        return None
    trial, found = newest
    tested = math.isfinite(trial.p_value)
    return {
        "text": f"newest retrain: {found.evidence(trial.p_value)}",
        "looks": found.looks,
        "recipes": found.recipes,
        "test_first": trial.test_first.isoformat(),
        "test_last": trial.test_last.isoformat(),
        "p_value": found.adjusted(trial.p_value) if tested else None,
    }

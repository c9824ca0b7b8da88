"""Retrain a panel: read stored bars, cut windows, train folds, evaluate, fit, audit, register, promote, report.

The steps are those of `flows/retrain.py` without ingestion and data checks: stored bars have passed them.
"""

from dataclasses import replace
from datetime import datetime

from prefect import flow

from model.abstention import AbstentionSpec
from model.bars import IntervalName
from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.panel import PanelSpec
from model.panel_promotion import PanelPromotion
from model.panel_recipe import panel_recipe_for
from model.times import as_utc
from model.training import TrainingSpec
from model.windows import WindowSpec
from tasks.auditing import audit_panel_retrain
from tasks.earlier_decision import find_earlier_decision
from tasks.panel_evaluation import evaluate_panel
from tasks.panel_reporting import report_panel
from tasks.promotion import promote
from tasks.registration import register
from tasks.results import PanelRetrain, PanelUnchanged
from tasks.retrain_mlflow_run import HOURS_6, PANEL_STEPS, open_run, track_run
from tasks.services.flow_run_names import flow_run_name
from tasks.services.prefect_run_page import readable
from tasks.training import fit_final, train_folds
from tasks.windowing import cut_panel_windows, read_stored


@flow(name="retrain_panel", flow_run_name=flow_run_name, timeout_seconds=HOURS_6)
@readable
def retrain_panel(
    interval: IntervalName = "1d",
    panel: PanelSpec = PanelSpec(),
    window: WindowSpec = WindowSpec(),
    training: TrainingSpec = TrainingSpec(),
    folds: FoldSpec = FoldSpec(),
    network: NetworkSpec = NetworkSpec(),
    promotion: PanelPromotion = PanelPromotion(),
    as_of: datetime | None = None,
    *,
    abstention: AbstentionSpec = AbstentionSpec(),
    force: bool = False,
) -> PanelRetrain | PanelUnchanged:
    """Retrain one network on the stored bars of many series, and promote it if the daily rule allows it.

    Args:
        interval: Bar length. All stored series with it form the panel, unless you name some below; nothing is fetched.
        panel: Which series form the panel, what is predicted for each, and what a window shows of the others.
        window: Lookback, horizon, features and gaps, the same for every series; the stride must be 1.
        training: Optimiser, epochs, early stopping, ensemble size and seed; panels have no warm start.
        folds: Walk-forward evaluation on out-of-sample closes; test bars count closes, not windows.
        network: Architecture of the network, one for all series.
        promotion: Daily rule that promotes, holds or rejects, and the costs that the report assumes.
        abstention: Stated share of decisions with an opinion, and stated coverage; no condition of a promotion.
        as_of: Use only bars that had closed by this time (UTC); empty: all stored bars.
        force: Retrain even if a decision on the same bars, series, recipe, rule and code exists.
    """
    rule = promotion.rule()
    bars = read_stored(interval, panel, as_utc(as_of) if as_of else None)
    recipe = panel_recipe_for(interval, bars.panel, window, folds, network, training)
    run_id = open_run(recipe, None, rule)
    with track_run(recipe, run_id, PANEL_STEPS):
        earlier = None if force else find_earlier_decision(bars, recipe, rule, run_id)
        if earlier is not None:
            return PanelUnchanged(run_id, bars, earlier)
        windows = cut_panel_windows(bars, recipe)
        outcomes = train_folds(windows, recipe, run_id)
        evaluation = evaluate_panel(windows, bars, recipe, outcomes, run_id, rule.trading, abstention)
        final = fit_final(windows, recipe, outcomes, run_id)
        audit_panel_retrain(bars, recipe, run_id)
        version = register(windows, recipe, outcomes, final, evaluation.pooled, rule, run_id)
        decision = promote(windows, recipe, version, rule, run_id)
        result = PanelRetrain(run_id, windows, evaluation, final, version, decision)
        return replace(result, report=report_panel(result, recipe, outcomes))

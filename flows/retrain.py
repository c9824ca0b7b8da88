"""Retrain: ingest, check, store, cut windows, train walk-forward, fit, evaluate, audit, register, promote, report.

Each line of the flow is a step; docs/one-retrain.md explains them in this order, with limits and defaults. Steps pass
small references (`tasks/results.py`): bars stay in the store, arrays in MLflow. A step that raises ends the run as
failed, and until `promote` has committed its decision the champion stays what it was.
"""

from dataclasses import replace
from datetime import datetime

from prefect import flow

from data_checks.check_spec import CheckSpec
from model.abstention import AbstentionSpec
from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.presets import recipe_for
from model.promotion_rule import PromotionRule
from model.training import TrainingSpec
from model.windows import WindowSpec
from tasks.auditing import audit_retrain
from tasks.baseline_fits import fit_baselines
from tasks.earlier_decision import find_earlier_decision
from tasks.evaluation import evaluate
from tasks.ingestion import ingest, store
from tasks.promotion import promote
from tasks.registration import register
from tasks.reporting import report
from tasks.results import Retrain, Unchanged
from tasks.retrain_mlflow_run import HOURS_6, open_run, track_run
from tasks.services.flow_run_names import flow_run_name
from tasks.services.prefect_run_page import readable
from tasks.sources.source_spec import SourceSpec, require_readable
from tasks.training import fit_final, train_folds
from tasks.validation import check_landing
from tasks.windowing import cut


@flow(name="retrain", flow_run_name=flow_run_name, timeout_seconds=HOURS_6)
@readable
def retrain(
    source: SourceSpec = SourceSpec(),
    window: WindowSpec = WindowSpec(),
    training: TrainingSpec = TrainingSpec(),
    folds: FoldSpec = FoldSpec(),
    network: NetworkSpec = NetworkSpec(),
    promotion: PromotionRule = PromotionRule(),
    check: CheckSpec = CheckSpec(),
    as_of: datetime | None = None,
    *,
    abstention: AbstentionSpec = AbstentionSpec(),
    force: bool = False,
) -> Retrain | Unchanged:
    """Retrain one series, and promote the new version if the promotion rule allows it.

    Args:
        source: Where the bars come from.
        window: Lookback, horizon, features and gaps.
        training: Optimiser, epochs, early stopping, ensemble size and seed.
        folds: Walk-forward evaluation on out-of-sample bars.
        network: Architecture of the network.
        promotion: Rule that promotes, holds or rejects.
        check: Rules for bars, and which failures stop the run.
        as_of: Time of the run (UTC); empty: now for an exchange, the last close for a file.
        abstention: Stated share of decisions with an opinion, and stated coverage; no condition of a promotion.
        force: Retrain even if a decision on the same bars, recipe, rule and code exists.
    """
    require_readable(source)
    recipe = recipe_for(source.symbol, source.interval, window, folds, network, training)
    run_id = open_run(recipe, source, promotion)
    with track_run(recipe, run_id):
        landing = ingest(source, as_of, run_id)
        checked = check_landing(landing, source, check)
        stored = store(landing, checked.accepted, run_id)
        earlier = None if force else find_earlier_decision(stored.ref, recipe, promotion, run_id)
        if earlier is not None:
            return Unchanged(run_id, landing, checked, stored, earlier)
        windows = cut(stored.ref, recipe.window, recipe.folds, check)
        baselines = fit_baselines.submit(windows, recipe)  # in a thread while the folds train
        outcomes = train_folds(windows, recipe, run_id)
        final_fit = fit_final.submit(windows, recipe, outcomes, run_id)  # in a thread during the evaluation
        fitted = baselines.result()
        evaluation = evaluate(windows, recipe, outcomes, fitted, run_id, promotion.trading, abstention)
        final = final_fit.result()
        audit_retrain(windows, recipe, run_id)
        version = register(windows, recipe, outcomes, final, evaluation, promotion, run_id)
        decision = promote(windows, recipe, version, promotion, run_id)
        result = Retrain(run_id, landing, checked, stored, windows, evaluation, final, version, decision)
        return replace(result, report=report(result, recipe, outcomes))

"""Evaluate the folds' pooled out-of-sample record, and log numbers, tests, trades and pictures to the retrain's run.

Reads what the folds left in MLflow. Four baselines learn fold by fold from the network's windows; `evaluate_record`
gives all five their scores with intervals and tests. This scoring is then counted as a look at its test bars (table
`trials`), and p-values and Sharpe ratios are corrected for the recipes tried on them. Gradient boosting and the
short-term reversal are traded by the network's policies. Everything is reported; the daily
promotion rule reads no more of it than the record, the base rate and the fold networks' probabilities.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from prefect import get_run_logger, task

from model.abstention import AbstentionSpec, rank_record, score_abstention, signed_moves
from model.bars import Bars
from model.baseline_records import BOOSTING, REVERSAL, BaselineRecords, fold_records, reversal_records
from model.baselines import capped_windows_note
from model.confusion_picture import confusion_svg
from model.cost_class_evaluation import evaluate_cost_classes
from model.cost_classes import label_cost_classes, walk_class_baselines
from model.cross_section import FURTHER_FACTORS, further_factors
from model.evaluation import Evaluation, evaluate_record, performances, trade_both_ways
from model.expected_moves import moves_of_folds, walk_move_baselines
from model.folds import Fold
from model.gap_filling import fill_gaps
from model.metrics import CLASSES, METRIC_NAMES, classification_report, normalise_rows
from model.move_evaluation import evaluate_moves
from model.recipe import Recipe
from model.record import Record
from model.trading import TradingResult, TradingSpec
from model.trading_policy_comparison import compare_policies
from model.windows import Windows
from tasks.baseline_fits import FittedBaselines
from tasks.champion.corrected_skill import comparable_records, deflated_sharpe_ratios, sign_returns
from tasks.console.progress import current_progress
from tasks.pages.prefect_artifacts import show_links, show_table
from tasks.registry.experiment_runs import flatten_specs
from tasks.registry.run_artifacts import (
    CLASSIFICATION_REPORT,
    COST_CLASSES_REPORT,
    DETAILS,
    NUMBERS,
    POLICIES,
    log_charts,
    log_equity,
    log_fold_networks,
    log_record,
    log_validation,
    pooled_fold_networks,
    pooled_record,
    pooled_seeds,
    validation_records,
)
from tasks.registry.run_metrics import evaluation_details, evaluation_metrics
from tasks.results import FoldOutcome, WindowsRef
from tasks.store.trial_log import Trial, count_looks, trial_of
from tasks.windowing import read_folds
from tasks.workspace import Workspace, open_workspace

SHOWN_METRICS = ("log_loss", "accuracy", "roc_auc")  # in Prefect, which cuts off a table of more than three intervals


@task(name="evaluate", task_run_name="evaluate")
def evaluate(
    ref: WindowsRef,
    recipe: Recipe,
    folds: list[FoldOutcome],
    fitted: FittedBaselines,
    run_id: str,
    costs: TradingSpec = TradingSpec(),
    abstention: AbstentionSpec = AbstentionSpec(),
) -> Evaluation:
    """Evaluate the network and the baselines on the pooled test folds, and log the results."""
    with current_progress().step("evaluate"):
        workspace, seed = open_workspace(recipe.series), recipe.training.seed
        fold_run_ids = [fold.run_id for fold in folds]
        record = pooled_record(workspace.runs, fold_run_ids)
        windows, split = read_folds(ref.bars, ref.window, recipe.folds)
        baselines = fitted.tested
        bars = workspace.bar_store.read_bars(ref.series_bars)
        validation = validation_records(workspace.runs, fold_run_ids)
        traded = trade_both_ways(record, bars, costs, seed, validation)
        further_seeds = pooled_seeds(workspace.runs, fold_run_ids) if recipe.folds.seeds > 1 else None
        ranks = rank_record(record, validation)
        moves, base_rate = signed_moves(record, bars), baselines["base_rate"]
        opinions = score_abstention(abstention, record, ranks, base_rate, moves, seed)
        evaluation = evaluate_record(record, baselines, traded, seed, further_seeds).with_abstention(opinions)
        evaluation = with_further(evaluation, record, windows, split, recipe)
        log_record(workspace.runs, run_id, record, baselines)
        log_validation(workspace.runs, run_id, validation)
        log_fold_networks(workspace.runs, run_id, pooled_fold_networks(workspace.runs, fold_run_ids))
        trial = trial_of(
            "retrain",
            run_id,
            recipe,
            record,
            baselines["base_rate"],
            recorded_at=datetime.now(UTC),
            run_id=run_id,
            p_value=evaluation.skill.holm_adjusted()["pesaran_timmermann"],
        )
        workspace.trial_log.append([trial])
        between = trial.test_first, trial.test_last
        trials = workspace.trial_log.trials(recipe.symbol, recipe.interval, between=between)
        looks = count_looks(trials, *between)
        others = comparable_records(workspace.trial_log, trials, trial, record)
        evaluation = evaluation.after_looks(
            looks,
            deflated_sharpe_ratios(record, others, looks.recipes, bars, costs, validation),
            compare_policies(
                record,
                validation,
                bars,
                costs,
                seed,
                looks.recipes,
                sign_returns(others, bars, costs),
                _traded_baselines(windows, split, bars, recipe, fitted),
            ),
        )
        workspace.runs.log_values(run_id, params=flatten_specs({"abstention": abstention.model_dump()}))
        log_numbers(workspace, run_id, evaluation, ref)
        log_looks(workspace, trial, evaluation)
        log_report(workspace, run_id, record, np.array(evaluation.confusion))
        _log_trades(workspace, run_id, traded)
        _log_pictures(workspace, run_id, record, bars, np.array(evaluation.confusion), fold_run_ids)
        show_metrics(evaluation, trial, workspace, run_id)
    return evaluation


def _traded_baselines(
    windows: Windows, folds: Sequence[Fold], bars: Bars, recipe: Recipe, fitted: FittedBaselines
) -> dict[str, BaselineRecords]:
    """Return the baselines that are traded as the network is."""
    filled, _ = fill_gaps(bars, recipe.window.gaps)
    moves = further_factors({recipe.symbol: filled})[recipe.symbol][:, FURTHER_FACTORS.index("unusual_move")]
    decided = np.searchsorted(filled.closed_at, windows.decided_at)
    return {
        BOOSTING: fold_records(windows, folds, fitted.tested[BOOSTING], fitted.boosting_validated),
        REVERSAL: reversal_records(windows, folds, moves[decided]),
    }


def with_further(
    evaluation: Evaluation, record: Record, windows: Windows, folds: Sequence[Fold], recipe: Recipe
) -> Evaluation:
    """Return the evaluation of a series or a panel with what needs its folds.

    That is the note on windows that baselines left out, and the scores of what the network predicts besides P(rise).
    """
    network, seed = recipe.network, recipe.training.seed
    note = capped_windows_note([len(fold.train) + len(fold.validation) for fold in folds])
    evaluation = replace(evaluation, baselines_note=note)
    moves = moves_of_folds(windows, folds)
    if network.magnitude:
        sizes = walk_move_baselines(windows, folds)
        evaluation = replace(evaluation, moves=evaluate_moves(record, moves, sizes, seed))
    if network.beyond_cost_bps:
        cost, others = network.beyond_cost_bps, walk_class_baselines(windows, folds, network.beyond_cost_bps)
        scored = evaluate_cost_classes(record, label_cost_classes(moves, cost), cost, others, seed)
        evaluation = replace(evaluation, cost_classes=scored)
    return evaluation


def log_numbers(workspace: Workspace, run_id: str, evaluation: Evaluation, ref: WindowsRef) -> None:
    """Log the metrics, the test bars as a dataset, and every number as files."""
    tags = {"filled_bars": str(ref.filled_bars)}
    if evaluation.baselines_note:
        tags["baselines"] = evaluation.baselines_note
    workspace.runs.log_values(run_id, metrics=evaluation_metrics(evaluation), tags=tags)
    workspace.runs.log_bars(run_id, ref.bars, "test", evaluation.span)
    table = {
        forecaster: {name: [each.value, each.low, each.high] for name, each in numbers.items()}
        for forecaster, numbers in evaluation.numbers.items()
    }
    workspace.runs.log_text(run_id, json.dumps(table, indent=2), NUMBERS)
    workspace.runs.log_text(run_id, json.dumps(evaluation_details(evaluation), indent=2), DETAILS)
    if evaluation.cost_classes:
        workspace.runs.log_text(run_id, evaluation.cost_classes.report(), COST_CLASSES_REPORT)
    if evaluation.policies:
        workspace.runs.log_text(run_id, json.dumps(evaluation.policies.to_json(), indent=2), POLICIES)


def log_looks(workspace: Workspace, trial: Trial, evaluation: Evaluation) -> None:
    """Log how often these test bars were scored, and the p-value after correction for tests and recipes, as a tag."""
    evidence = evaluation.looks.evidence(trial.p_value)
    workspace.runs.log_values(trial.run_id, tags={"looks": evidence})
    get_run_logger().info("%s", evidence)


def log_report(
    workspace: Workspace, run_id: str, record: Record, confusion: np.ndarray, classes: tuple[str, str] = CLASSES
) -> None:
    """Log the classification report as text."""
    text = (
        f"{classification_report(record.labels, record.probabilities, classes)}\n\n"
        f"confusion matrix (rows: actual {', '.join(classes)}; columns: predicted)\n{confusion}\n\n"
        f"row-normalised\n{np.array2string(normalise_rows(confusion), precision=3)}\n"
    )
    workspace.runs.log_text(run_id, text, CLASSIFICATION_REPORT)


def _log_trades(
    workspace: Workspace,
    run_id: str,
    traded: Mapping[str, TradingResult],
) -> None:
    """Log the equity curves of each way of trading."""
    lines = performances(traded)
    closed_at = next(iter(traded.values())).closed_at
    log_equity(workspace.runs, run_id, closed_at, {name: line.equity for name, line in lines.items()})


def _log_pictures(
    workspace: Workspace, run_id: str, record: Record, bars: Bars, confusion: np.ndarray, fold_run_ids: list[str]
) -> None:
    """Log pictures of the record and of the folds' training."""
    from model import report_charts  # imported here: plotly takes half a second

    close = bars.column("close")[np.searchsorted(bars.closed_at, record.decided_at)]
    charts = {
        "learning_curves": report_charts.learning_chart([workspace.runs.read_curves(each) for each in fold_run_ids]),
        "probabilities": report_charts.probabilities_chart(record, close),
        "reliability": report_charts.reliability_chart(record),
    }
    log_charts(workspace.runs, run_id, charts, confusion_svg(confusion))


def show_metrics(evaluation: Evaluation, trial: Trial, workspace: Workspace, run_id: str) -> None:
    """Show forecasters with their main metrics and intervals in Prefect, the looks, and the links to MLflow."""
    rows = [
        {"forecaster": forecaster.replace("_", " ")}
        | {
            METRIC_NAMES[metric]: f"{each.value:.4f} [{each.low:.4f}, {each.high:.4f}]"
            for metric, each in values.items()
            if metric in SHOWN_METRICS
        }
        for forecaster, values in evaluation.numbers.items()
    ]
    looks = evaluation.looks.evidence(trial.p_value)
    note = "Out of sample, with 95 % block bootstrap intervals; more metrics are in the report and in MLflow"
    show_table("metrics", rows, f"{note}; {looks}. {evaluation.baselines_note}".rstrip(". "))
    show_links({"MLflow run": workspace.runs.run_link(run_id), "All runs in MLflow": workspace.runs.experiment_link()})

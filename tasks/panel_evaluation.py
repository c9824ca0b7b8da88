"""Evaluate the pooled out-of-sample record of a panel, and log numbers, the table by series and pictures to its run.

The arithmetic is `model/panel_evaluation.py`'s. Caution: the look is counted for the panel, not for each of its series.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from prefect import task

from model.abstention import AbstentionSpec, rank_record, score_abstention
from model.bars import interval_delta
from model.baseline_records import BOOSTING, REVERSAL, boosting_records, reversal_records
from model.baselines import LEARNERS
from model.confusion_picture import confusion_svg
from model.evaluation import NETWORK
from model.factor_model import FACTOR_MODEL, walk_factor_model
from model.label_names import LABEL_NAMES, LabelNames
from model.metrics import THRESHOLD
from model.panel import Panel, series_left_out
from model.panel_evaluation import PanelEvaluation, SeriesScores, evaluate_panel_record, score_held_out
from model.panel_policies import compare_panel_policies
from model.panel_portfolio import compare_rank_portfolios
from model.panel_recipe import PanelRecipe
from model.record import Record
from model.sharpe_and_break_even import BPS
from model.trading import TradingSpec
from model.walk_forward import pool_records, walk_baselines_forward
from tasks.console.progress import current_progress
from tasks.evaluation import log_looks, log_numbers, log_report, show_metrics, with_further
from tasks.pages.prefect_artifacts import show_table
from tasks.registry.experiment_runs import flatten_specs
from tasks.registry.run_artifacts import (
    SERIES_TABLE,
    held_out_record,
    log_charts,
    log_fold_networks,
    log_record,
    pooled_fold_networks,
    pooled_record,
    pooled_seeds,
    validation_records,
)
from tasks.results import FoldOutcome, WindowsRef
from tasks.store.bars_ref import PanelBarsRef
from tasks.store.trial_log import count_looks, trial_of
from tasks.windowing import read_folds, read_panel_windows
from tasks.workspace import Workspace, open_workspace

# Figures of a portfolio that a run logs as metrics; the file of policies has every number.
OF_NETWORK = (
    "gross_bps",
    "net_bps",
    "net_return",
    "turnover",
    "timing_return",
    "deflated_sharpe",
    *(f"{name}{bound}" for name in ("break_even_bps", "sharpe") for bound in ("", "_low", "_high")),
)
OF_BASELINE = ("net_bps", "break_even_bps", "sharpe")  # of a portfolio of ranks
OF_TRADED_BASELINE = ("break_even_bps",)  # by each of three policies
# Of the decisions with an opinion at the stated share, likewise; `evaluation/details.json` has every number.
OF_OPINIONS = ("share", "accuracy", "accuracy_low", "accuracy_high")


@task(name="evaluate", task_run_name="evaluate")
def evaluate_panel(
    ref: WindowsRef,
    bars: PanelBarsRef,
    recipe: PanelRecipe,
    folds: list[FoldOutcome],
    run_id: str,
    costs: TradingSpec,
    abstention: AbstentionSpec = AbstentionSpec(),
) -> PanelEvaluation:
    """Evaluate the network and the baselines on the pooled test folds of all series, and log the results."""
    with current_progress().step("evaluate"):
        workspace, seed = open_workspace(recipe.series), recipe.training.seed
        fold_run_ids = [fold.run_id for fold in folds]
        record = pooled_record(workspace.runs, fold_run_ids)
        windows, split = read_folds(bars, recipe.window, recipe.folds)
        panel = read_panel_windows(bars, recipe.window).resolved()
        tested, factors = panel.tested(split), walk_factor_model(panel, split, recipe.panel.label)
        baselines = walk_baselines_forward(windows, split, seed, recipe.network.scaling)
        baselines[FACTOR_MODEL] = factors.records.test.probabilities
        scores = {FACTOR_MODEL: factors.scores, **tested.plain_ranks()}
        further_seeds = pooled_seeds(workspace.runs, fold_run_ids) if recipe.folds.seeds > 1 else None
        found = evaluate_panel_record(record, baselines, scores, recipe, further_seeds)
        found = replace(
            found,
            pooled=with_further(found.pooled, record, windows, split, recipe),
            left_out=series_left_out(recipe.panel, recipe.window, panel, split),
        )
        if recipe.panel.held_out:
            held_out = held_out_record(workspace.runs, fold_run_ids)
            scored = score_held_out(held_out, record, baselines["base_rate"], seed)
            found = replace(found, held_out=scored, left_out={**found.left_out, **untested(recipe, scored)})
        validation = validation_records(workspace.runs, fold_run_ids)
        ranks, moves = rank_record(record, validation), panel_moves(record, tested, recipe)
        opinions = score_abstention(abstention, record, ranks, baselines["base_rate"], moves, seed)
        found = replace(found, pooled=found.pooled.with_abstention(opinions))
        workspace.runs.log_values(run_id, params=flatten_specs({"abstention": abstention.model_dump()}))
        log_record(workspace.runs, run_id, record, baselines)
        log_fold_networks(workspace.runs, run_id, pooled_fold_networks(workspace.runs, fold_run_ids))
        p_value = found.pooled.skill.holm_adjusted()["pesaran_timmermann"]
        trial = trial_of(
            "retrain", run_id, recipe, record, baselines["base_rate"],
            recorded_at=datetime.now(UTC), run_id=run_id, p_value=p_value,
        )  # fmt: skip
        # Forecasts are stored by close alone, which several windows of a panel share.
        workspace.trial_log.append([replace(trial, forecasts=None)])
        trials = workspace.trial_log.trials(recipe.symbol, recipe.interval)
        looks = count_looks(trials, trial.test_first, trial.test_last)
        policies = None
        if recipe.window.horizon_bars == 1:  # longer positions would overlap
            bar = interval_delta(recipe.interval)
            if recipe.panel.label == "rank":
                ranked = {name: baselines[name] for name in LEARNERS} | scores
                policies = compare_rank_portfolios(record, ranked, tested.returns, costs, bar, seed, looks.recipes)
            else:
                policies = compare_panel_policies(
                    record, tested.returns, pool_records(validation),
                    panel.returns[np.concatenate([fold.validation for fold in split])], costs, bar, seed,
                    recipes=looks.recipes, baselines={
                        BOOSTING: boosting_records(windows, split, baselines[BOOSTING], seed, recipe.network.scaling),
                        FACTOR_MODEL: factors.records,
                        REVERSAL: reversal_records(windows, split, panel.unusual_moves()),
                    },
                )  # fmt: skip
        found = replace(found, pooled=found.pooled.after_looks(looks, {}, policies))
        log_numbers(workspace, run_id, found.pooled, ref)
        log_looks(workspace, trial, found.pooled)
        names, confusion = LABEL_NAMES[recipe.panel.label], np.array(found.pooled.confusion)
        rows = series_rows(found, names)
        _log_panel(workspace, run_id, found, rows)
        log_report(workspace, run_id, record, confusion, names.classes)
        _log_pictures(workspace, run_id, record, confusion, fold_run_ids, names)
        show_metrics(found.pooled, trial, workspace, run_id)
        show_table("series", rows, "Out of sample, by series; intervals not corrected for their number")
    return found


def untested(recipe: PanelRecipe, scores: Sequence[SeriesScores]) -> dict[str, str]:
    """Return why a held-out series has no scores, by symbol."""
    scored = {each.symbol for each in scores}
    reason = "held out, but not tested: it has no window with an outcome in the test period"
    return {each: reason for each in recipe.panel.held_out if each not in scored}


def panel_moves(record: Record, tested: Panel, recipe: PanelRecipe) -> np.ndarray:
    """Return the move until the outcome, in the predicted direction, in basis points, shape (window,).

    Of a rank it is the distance of the log return from that of the median of the other series.
    """
    moves = tested.windows.label_moves if recipe.panel.label == "rank" else tested.returns
    return np.asarray(np.where(record.probabilities > THRESHOLD, moves, -moves) / BPS, dtype=np.float64)


def series_rows(found: PanelEvaluation, names: LabelNames) -> list[dict[str, Any]]:
    """Return the table by series, one row each."""
    return [
        {
            "symbol": each.symbol,
            "trained_on": each.trained_on,
            "windows": each.windows,
            names.share: round(each.rises_share, 4),
            **{name: None if np.isnan(value) else round(value, 5) for name, value in each.scores.items()},
            "vs_base_rate": round(each.against_base_rate.mean, 5),
            "vs_base_rate_low": round(each.against_base_rate.low, 5),
            "vs_base_rate_high": round(each.against_base_rate.high, 5),
        }
        for each in (*found.series, *found.held_out)
    ]


def panel_metrics(found: PanelEvaluation) -> dict[str, float]:
    """Return what a run of a panel logs besides the pooled metrics."""
    metrics = {"test/series": float(len(found.series)), "test/closes": float(found.closes)}
    if found.pooled.policies:
        for name, result in found.pooled.policies.results.items():
            of_baseline = OF_BASELINE if found.ranks else OF_TRADED_BASELINE
            logged = OF_NETWORK if "deflated_sharpe" in result.figures else of_baseline
            known = (figure for figure in logged if not np.isnan(result.figures[figure]))  # NaN: nothing was traded
            metrics |= {f"trading/{name}_{figure}": result.figures[figure] for figure in known}
    if found.held_out:
        scores = found.held_out[0]  # of all, if there are several
        metrics["test/held_out_log_loss"] = scores.scores["log_loss"]
        versus = scores.against_base_rate
        metrics |= {
            f"test/held_out_vs_base_rate{end}": each
            for end, each in zip(("", "_low", "_high"), (versus.mean, versus.low, versus.high), strict=True)
        }
    if opinions := found.pooled.abstention.get("share"):
        numbers = opinions.numbers()
        of_opinions = {f"test/opinion_{name}": numbers[name] for name in OF_OPINIONS}
        metrics |= {name: value for name, value in of_opinions.items() if value is not None}
    if found.ranks:
        for name, auc in found.ranks.auc.items():
            metrics["test/auc_within_close" if name == NETWORK else f"baseline/{name}_auc_within_close"] = auc.value
    return metrics


def _log_panel(workspace: Workspace, run_id: str, found: PanelEvaluation, rows: list[dict[str, Any]]) -> None:
    """Log the numbers of a panel, and the table by series as a table of MLflow."""
    import pandas as pd  # imported here: pandas takes a second

    table = pd.DataFrame(rows).astype({"symbol": object})  # MLflow knows no text columns of pandas 3
    workspace.runs.client.log_table(run_id, table, SERIES_TABLE)
    workspace.runs.log_values(run_id, metrics=panel_metrics(found))


def _log_pictures(
    workspace: Workspace,
    run_id: str,
    record: Record,
    confusion: np.ndarray,
    fold_run_ids: list[str],
    names: LabelNames,
) -> None:
    """Log pictures of the pooled record and of the folds' training."""
    from model import report_charts  # imported here: plotly takes half a second

    charts = {
        "learning_curves": report_charts.learning_chart([workspace.runs.read_curves(each) for each in fold_run_ids]),
        "reliability": report_charts.reliability_chart(record, names),
    }
    log_charts(workspace.runs, run_id, charts, confusion_svg(confusion, names.classes))

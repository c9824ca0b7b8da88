"""Evaluation as a task: the folds' unseen probabilities pooled, beside the baselines' on the same bars.

Reads what the folds left in MLflow, lets the baselines learn from the same training windows, logs numbers, intervals,
tests of skill, trades and pictures to the retrain's run, and returns the numbers. The arithmetic is `model/`'s.
"""

import json
from dataclasses import dataclass

import numpy as np
from prefect import task

from model.baseline_comparison import Skill, measure_skill
from model.baselines import BASELINES, predict_baseline
from model.bootstrap import Interval, bootstrap_intervals
from model.calibration import reliability_curve
from model.metrics import METRICS, Record, classification_report, confusion_matrix, normalise_rows
from model.recipe import Recipe
from model.scores_by_period import Seeds, by_seed
from model.trading import TradingSpec, trade
from tasks.console.progress import current_progress
from tasks.pages.prefect_artifacts import show_links, show_table
from tasks.registry.run_artifacts import parquet_bytes, pooled_record, pooled_seeds
from tasks.registry.tracking import Tracking
from tasks.training import FoldOutcome
from tasks.windowing import WindowsRef, read_folds
from tasks.workspace import open_workspace

NETWORK = "network"
BUY_AND_HOLD = "buy_and_hold"
WAYS = ("long_flat", "long_short")  # both are traded; the spec's own `kind` says which one a rule looks at


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The numbers of one retrain on unseen bars.

    Attributes:
        windows: how many there were.
        first: first decision, ISO 8601, UTC.
        last: last decision.
        numbers: by forecaster (`network` and each baseline) and metric.
        confusion: rows what happened (fall, rise), columns what was said.
        calibration_error: expected calibration error of the network.
        skill: the tests, beside each baseline.
        trading: by way of trading (`WAYS`, `buy_and_hold`) and figure, after costs.
        seeds: the same recipe from other seeds; None where the folds were trained with one.
    """

    windows: int
    first: str
    last: str
    numbers: dict[str, dict[str, Interval]]
    confusion: tuple[tuple[int, int], tuple[int, int]]
    calibration_error: float
    skill: Skill
    trading: dict[str, dict[str, float]]
    seeds: Seeds | None = None

    def best_baseline(self) -> str:
        """Return the baseline with the lowest log loss."""
        return min(BASELINES, key=lambda name: self.numbers[name]["log_loss"].value)


@task(name="evaluate")
def evaluate(
    ref: WindowsRef, recipe: Recipe, folds: list[FoldOutcome], run_id: str, costs: TradingSpec = TradingSpec()
) -> Evaluation:
    """Judge the network and the baselines on the pooled test blocks; log numbers, tests, trades and pictures."""
    with current_progress().step("evaluate"):
        tracking = open_workspace(recipe.series).tracking
        record = pooled_record(tracking, [fold.run_id for fold in folds])
        baselines = baseline_probabilities(ref, recipe)
        seed = recipe.training.seed
        forecasts = {NETWORK: record.probabilities, **baselines}
        numbers = {name: bootstrap_intervals(record.labels, given, seed) for name, given in forecasts.items()}
        confusion = confusion_matrix(record.labels, record.probabilities)
        skill = measure_skill(record, baselines, seed)
        calibration_error = reliability_curve(record.labels, record.probabilities).expected_error
        seeds = _seeds(tracking, recipe, record, folds)
        _log_numbers(tracking, run_id, record, baselines, numbers, confusion)
        tracking.log_values(
            run_id,
            metrics={
                **skill.metrics(),
                **(seeds.metrics() if seeds else {}),
                "expected_calibration_error": calibration_error,
                "filled_bars": ref.filled_bars,
            },
        )
        trading = _log_trades(tracking, run_id, ref, record, costs, seed)
        _log_pictures(tracking, run_id, ref, record, confusion, folds)
        _show(numbers, tracking.run_link(run_id))
    return Evaluation(
        len(record),
        np.datetime_as_string(record.decided_at[0], unit="s").item() + "Z",
        np.datetime_as_string(record.decided_at[-1], unit="s").item() + "Z",
        numbers,
        (tuple(confusion[0].tolist()), tuple(confusion[1].tolist())),
        calibration_error,
        skill,
        trading,
        seeds,
    )


def _seeds(tracking: Tracking, recipe: Recipe, record: Record, folds: list[FoldOutcome]) -> Seeds | None:
    """Score the folds' further seeds beside the record's own; None where there are none."""
    if recipe.folds.seeds == 1:
        return None
    others = pooled_seeds(tracking, [fold.run_id for fold in folds])
    return by_seed(record.labels, {recipe.training.seed: record.probabilities, **others})


def _show(numbers: dict[str, dict[str, Interval]], link: str) -> None:
    """Show each forecaster's numbers with their intervals, and where the MLflow run is."""
    rows = [
        {"forecaster": who.replace("_", " ")}
        | {
            metric.replace("_", " "): f"{each.value:.4f} [{each.low:.4f}, {each.high:.4f}]"
            for metric, each in values.items()
        }
        for who, values in numbers.items()
    ]
    show_table("metrics", rows, "On unseen bars, with 95 % block bootstrap intervals")
    show_links({"MLflow run": link})


def baseline_probabilities(ref: WindowsRef, recipe: Recipe) -> dict[str, np.ndarray]:
    """Return each baseline's P(rise) on the pooled test windows: shape (window,), learned fold by fold."""
    windows, folds = read_folds(ref.bars, ref.window, recipe.folds)
    return {
        name: np.concatenate(
            [
                predict_baseline(
                    name,
                    windows,
                    np.concatenate([fold.train, fold.validation]),
                    fold.test,
                    recipe.training.seed,
                    recipe.network.scaling,
                )
                for fold in folds
            ]
        )
        for name in BASELINES
    }


def _log_numbers(
    tracking: Tracking,
    run_id: str,
    record: Record,
    baselines: dict[str, np.ndarray],
    numbers: dict[str, dict[str, Interval]],
    confusion: np.ndarray,
) -> None:
    metrics = {name: interval.value for name, interval in numbers[NETWORK].items()}
    metrics |= {f"{name}_low": interval.low for name, interval in numbers[NETWORK].items()}
    metrics |= {f"{name}_high": interval.high for name, interval in numbers[NETWORK].items()}
    metrics |= {f"{rival}_{name}": numbers[rival][name].value for rival in baselines for name in METRICS}
    tracking.log_values(run_id, metrics=metrics)
    frame = record.frame().assign(**baselines)
    tracking.log_files(run_id, {"record.parquet": parquet_bytes(frame)}, "evaluation")
    table = {
        who: {name: [each.value, each.low, each.high] for name, each in found.items()} for who, found in numbers.items()
    }
    tracking.log_text(run_id, json.dumps(table, indent=2), "evaluation/numbers.json")
    report = (
        f"{classification_report(record.labels, record.probabilities)}\n\n"
        f"confusion matrix (rows: fall, rise as they were; columns: as predicted)\n{confusion}\n\n"
        f"row-normalised\n{np.array2string(normalise_rows(confusion), precision=3)}\n"
    )
    tracking.log_text(run_id, report, "evaluation/classification_report.txt")


def _log_trades(
    tracking: Tracking, run_id: str, ref: WindowsRef, record: Record, costs: TradingSpec, seed: int
) -> dict[str, dict[str, float]]:
    """Trade the record both ways beside buying and holding; log figures and equity, and return the figures."""
    import pandas as pd

    bars = open_workspace().bar_store.read_bars(ref.bars)
    results = {way: trade(record, bars, costs.model_copy(update={"kind": way}), seed) for way in WAYS}
    lines = {way: result.strategy for way, result in results.items()}
    lines[BUY_AND_HOLD] = results[WAYS[0]].buy_and_hold
    figures = {name: line.numbers() for name, line in lines.items()}
    equity = pd.DataFrame({name: line.equity for name, line in lines.items()})
    equity.insert(0, "closed_at", pd.DatetimeIndex(results[WAYS[0]].closed_at).tz_localize("UTC"))
    tracking.log_files(run_id, {"equity.parquet": parquet_bytes(equity)}, "evaluation")
    metrics = {f"trading.{name}.{key}": value for name, found in figures.items() for key, value in found.items()}
    params = {f"trading.{key}": value for key, value in costs.model_dump().items()}
    tracking.log_values(run_id, metrics=metrics, params=params)
    return figures


def _log_pictures(
    tracking: Tracking, run_id: str, ref: WindowsRef, record: Record, confusion: np.ndarray, folds: list[FoldOutcome]
) -> None:
    from model import static_pictures

    histories = [tracking.read_curves(fold.run_id) for fold in folds]
    bars = open_workspace().bar_store.read_bars(ref.bars)
    close = bars.column("close")[np.searchsorted(bars.closed_at, record.decided_at)]
    pictures = {
        "learning_curves": static_pictures.learning_curves(histories),
        "confusion_matrix": static_pictures.confusion_picture(confusion),
        "probabilities": static_pictures.probabilities_picture(record, close),
        "reliability": static_pictures.reliability_picture(record),
    }
    for name, figure in pictures.items():
        tracking.log_figure(run_id, figure, f"pictures/{name}.png")

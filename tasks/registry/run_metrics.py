"""Metrics of MLflow runs: their values, by the names of `metric_names`. A search and the live score add a few.

A retrain logs a choice; every number is in its files `evaluation/numbers.json` and `evaluation/details.json`, and in
the decision log. Caution: runs of version 0.1 have names without a section, which `read_curves` still finds.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from model.evaluation import BUY_AND_HOLD, NETWORK, WAYS, Evaluation
from model.trading import TradingSpec
from model.trading_policy_comparison import policy_and_forecaster
from model.training import Epoch
from tasks.registry.metric_names import (
    BASE_RATE,
    BREAK_EVEN,
    CURVES,
    LOG_LOSS,
    P_VALUE,
    PROMOTED,
    VS_BASE_RATE,
    VS_CHAMPION,
)

KEPT = ("loss", "accuracy", "validation_loss", "validation_accuracy")  # curves of which a fold logs the kept epoch
BASELINE_METRICS = ("log_loss", "accuracy")
TRADING = {  # the headline has net return and Sharpe ratio of the first, and the net return of the last
    WAYS[0]: ("max_drawdown", "turnover", "deflated_sharpe", *BREAK_EVEN),
    WAYS[1]: ("net_return", "sharpe"),
    BUY_AND_HOLD: ("sharpe", "max_drawdown"),
}
TRADED_BASELINE = ("net_return", "sharpe", "break_even_bps")  # of the chosen policy
# Of the expected move; the file of details has every number.
MOVES = (
    "network_score",
    "vs_training_mean",
    *(f"vs_trailing_mean{bound}" for bound in ("", "_low", "_high")),
    "ratio",
    "return_slope",
)
# Of the three classes of a cost, likewise.
COST_CLASSES = (
    "network_log_loss",
    "network_brier_score",
    "vs_base_rates",
    *(f"vs_trailing_move{bound}" for bound in ("", "_low", "_high")),
    "accuracy",
    "share_neither",
)
# Numbers of a clause that a run logs. Limits and levels are parameters of the run; the decision log has every number.
# The base rate's clause repeats the headline, and the p-value of the recipes tried is logged corrected.
OF_CLAUSE = ("difference", "low", "high", "p_value", "p_value_corrected", "disagreement", "complaints")


def logged_trading(params: Mapping[str, str]) -> TradingSpec:
    """Return how a retrain traded, from the parameters of its run."""
    start = "promotion.trading."
    logged = {name.removeprefix(start): value for name, value in params.items() if name.startswith(start)}
    return TradingSpec.model_validate(logged)


def score_metrics(scores: Mapping[str, float]) -> dict[str, float]:
    """Return out-of-sample scores, by the names of `model.metrics.METRICS`."""
    return {f"test/{name}": value for name, value in scores.items()}


def evaluation_metrics(evaluation: Evaluation) -> dict[str, float]:
    """Return what a retrain logs of its evaluation: at most 48 metrics, 7 more of the expected move, 8 of classes."""
    network = evaluation.numbers[NETWORK]
    # In full precision: rounded here and again where it is shown, a value may differ from the report's.
    metrics = _headline(evaluation) | score_metrics({name: each.value for name, each in network.items()})
    metrics |= {
        "test/accuracy_low": network["accuracy"].low,
        "test/accuracy_high": network["accuracy"].high,
        "test/expected_calibration_error": evaluation.calibration_error,
        "test/windows": float(evaluation.windows),
        "test/looks": float(evaluation.looks.looks),
        "test/recipes_tried": float(evaluation.looks.recipes),
    }
    for baseline, numbers in evaluation.numbers.items():
        if baseline != NETWORK:
            metrics |= {f"baseline/{baseline}_{name}": numbers[name].value for name in BASELINE_METRICS}
    for way, names in TRADING.items():
        figures = evaluation.trading.get(way, {})
        found = {name: figures[name] for name in names if name in figures and not math.isnan(figures[name])}
        metrics |= {f"trading/{way}_{name}": value for name, value in found.items()}
    metrics |= _traded_baselines(evaluation)
    if evaluation.seeds:
        metrics["test/log_loss_deviation_over_seeds"] = evaluation.seeds.deviation("log_loss")
    if evaluation.moves:
        of_moves = evaluation.moves.numbers()
        metrics |= {f"test/move_{name.removeprefix('network_')}": of_moves[name] for name in MOVES}
    if evaluation.cost_classes:
        of_classes = evaluation.cost_classes.numbers()
        metrics |= {f"test/class_{name.removeprefix('network_')}": of_classes[name] for name in COST_CLASSES}
    return metrics


def _traded_baselines(evaluation: Evaluation) -> dict[str, float]:
    """Return what the chosen policy earned by each baseline of a single series; a panel logs its own."""
    if not evaluation.policies or not evaluation.trading:
        return {}
    chosen = evaluation.policies.spec.policy
    found: dict[str, float] = {}
    for result, each in evaluation.policies.results.items():
        policy, baseline = policy_and_forecaster(result)
        if baseline and policy == chosen:
            known = (name for name in TRADED_BASELINE if not math.isnan(each.figures[name]))
            found |= {f"trading/{baseline}_{name}": each.figures[name] for name in known}
    return found


def _headline(evaluation: Evaluation) -> dict[str, float]:
    """Return the headline, skill before returns: MLflow's page of a run lists metrics in the order of logging."""
    difference = evaluation.skill.baselines["base_rate"].difference
    network, base_rate = evaluation.numbers[NETWORK], evaluation.numbers["base_rate"]
    strategy, holding = evaluation.trading.get(WAYS[0]), evaluation.trading.get(BUY_AND_HOLD)
    returns = {
        "headline/net_return": strategy["net_return"],
        "headline/sharpe": strategy["sharpe"],
        "headline/buy_and_hold_net_return": holding["net_return"],
    } if strategy and holding else {}  # fmt: skip
    skill = {
        LOG_LOSS: network["log_loss"].value,
        BASE_RATE: base_rate["log_loss"].value,
        VS_BASE_RATE: difference.mean,
        f"{VS_BASE_RATE}_low": difference.low,
        f"{VS_BASE_RATE}_high": difference.high,
        P_VALUE: evaluation.corrected()["pesaran_timmermann"],
        "headline/accuracy": network["accuracy"].value,
    }
    return skill | returns


def evaluation_details(evaluation: Evaluation) -> dict[str, Any]:
    """Return every number of an evaluation that `numbers.json` does not have, by the names of version 0.1."""
    return {
        "skill": {name.removeprefix("skill."): value for name, value in evaluation.skill.metrics().items()},
        "p_values_corrected": evaluation.corrected(),
        "trading": evaluation.trading,
        "seeds": evaluation.seeds.metrics() if evaluation.seeds else {},
        "moves": evaluation.moves.numbers() if evaluation.moves else {},
        "cost_classes": evaluation.cost_classes.numbers() if evaluation.cost_classes else {},
        "abstention": {rule: scores.numbers() for rule, scores in evaluation.abstention.items()},
    }


def decision_metrics(action: str, numbers: Mapping[str, float | None]) -> dict[str, float]:
    """Return what a run logs of its decision.

    Args:
        action: promote, hold or reject.
        numbers: of the decision, by `clause.number`.
    """
    known = {name: value for name, value in numbers.items() if value is not None}
    split = {tuple(name.split(".", 1)): value for name, value in known.items() if "." in name}
    metrics = {
        f"promotion/{clause}_{number}": value
        for (clause, number), value in split.items()
        if number in OF_CLAUSE and clause != "base_rate" and (clause, number) != ("recipes_tried", "p_value")
    }
    if "champion.difference" in known:
        metrics[VS_CHAMPION] = known["champion.difference"]
    return {**metrics, PROMOTED: float(action == "promote")}


def curves(history: Sequence[Epoch]) -> dict[str, list[float]]:
    """Return the learning curves by metric name, one value an epoch."""
    return {name: [getattr(epoch, field) for epoch in history] for field, name in CURVES.items()}


def kept_epoch_metrics(history: Sequence[Epoch], number: int) -> dict[str, float]:
    """Return number, losses and accuracies of the epoch that early stopping kept; a curve's own value is the last."""
    epoch = next(epoch for epoch in history if epoch.number == number)
    values = {f"train_kept_epoch/{CURVES[field].removeprefix('train/')}": getattr(epoch, field) for field in KEPT}
    return {"train_kept_epoch/number": float(number), **values}


def read_curves(history_of: Callable[[str], Mapping[int, float]]) -> list[Epoch]:
    """Return the epochs of a fold's run, first to last.

    Args:
        history_of: returns the values of a metric by step; empty where the run has none of that name.
    """
    named = {field: history_of(name) for field, name in CURVES.items()}
    if not named["loss"]:  # a run of version 0.1
        named = {field: history_of(field) for field in CURVES}
    return [
        Epoch(number=number, seconds=math.nan, **{field: each.get(number, math.nan) for field, each in named.items()})
        for number in sorted(named["loss"])
    ]

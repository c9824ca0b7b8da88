"""Evaluate a retrain out of sample: metrics with intervals, tests of skill, calibration, trading, spread between seeds.

Combines what other modules of `model/` compute, for the network and each baseline on the same pooled test folds. All
intervals are 95 % and come from the stationary block bootstrap of `model/bootstrap.py`, which also chooses the block
lengths: for scores the one optimal for the losses' autocorrelation, for differences of losses the cube root of the
number of windows, both at least twice the overlap of labels. Tests that need independent windows skip those whose
labels overlap. Knows no MLflow and no pages. Caution: a record that was used to choose is no longer out of sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Float64

from model.abstention import OpinionScores
from model.bars import Bars
from model.baseline_comparison import ALPHA, Skill, measure_skill
from model.bootstrap import Interval, record_intervals
from model.calibration_error import reliability_curve
from model.correction_for_looks import Looks
from model.cost_class_evaluation import CostClassEvaluation
from model.label_names import RISE_NAMES, LabelNames
from model.metrics import confusion_matrix
from model.move_evaluation import MoveEvaluation
from model.record import Record
from model.scores_by_period import Seeds, by_seed
from model.trading import Performance, TradingResult, TradingSpec, trade
from model.trading_policy_comparison import PolicyComparison

NETWORK = "network"
BUY_AND_HOLD = "buy_and_hold"
WAYS = ("long_flat", "long_short")  # both are reported; the strict rule uses `spec.kind`


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Out-of-sample results of one retrain.

    Attributes:
        windows: number of test windows.
        first: first decision, ISO 8601, UTC.
        last: last decision.
        numbers: by forecaster (`network` and each baseline) and metric.
        confusion: rows actual (fall, rise), columns predicted.
        calibration_error: expected calibration error of the network.
        skill: tests of the network, alone and vs. each baseline.
        trading: by way of trading (`WAYS`, `buy_and_hold`) and figure, net of costs; `deflated_sharpe` where recipes
            were counted; empty for a panel.
        seeds: the same recipe with other seeds; None where the folds were trained with one.
        looks: how often these test bars were scored.
        abstention: all decisions and those with an opinion, by rule of `model.abstention.score_abstention`.
        policies: every trading policy on the record; None where they were not compared.
        moves: scores of the expected move; None without a magnitude head.
        cost_classes: scores of the three classes of a cost; None where they are not predicted.
        baselines_note: which windows baselines left out (`model.baselines.capped_windows_note`); "" where none.
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
    looks: Looks = field(default_factory=Looks)
    abstention: dict[str, OpinionScores] = field(default_factory=dict)
    policies: PolicyComparison | None = None
    moves: MoveEvaluation | None = None
    cost_classes: CostClassEvaluation | None = None
    baselines_note: str = ""

    @property
    def span(self) -> str:
        """The days of the first and the last decision."""
        return f"{self.first[:10]} to {self.last[:10]}"

    def best_baseline(self) -> str:
        """Return the baseline with the lowest log loss."""
        return min(self.skill.baselines, key=lambda name: self.numbers[name]["log_loss"].value)

    def with_abstention(self, scores: Mapping[str, OpinionScores]) -> "Evaluation":
        """Return the evaluation with opinions scored; `all` decisions get the intervals of `numbers` and `skill`.

        Blocks of another length would give the same numbers other intervals.
        """
        own, versus = self.numbers[NETWORK], self.skill.baselines["base_rate"].difference
        whole = replace(
            scores["all"],
            accuracy=own["accuracy"],
            log_loss=own["log_loss"],
            vs_base_rate=Interval(versus.mean, versus.low, versus.high),
        )
        return replace(self, abstention={**scores, "all": whole})

    def after_looks(
        self, looks: Looks, deflated: Mapping[str, float], policies: PolicyComparison | None = None
    ) -> "Evaluation":
        """Return the evaluation with the count of looks, and what is corrected for it.

        Args:
            looks: how often the test bars were scored.
            deflated: deflated Sharpe ratio of each way of trading.
            policies: every trading policy on the record.
        """
        trading = {
            name: figures | ({"deflated_sharpe": deflated[name]} if name in deflated else {})
            for name, figures in self.trading.items()
        }
        return replace(self, looks=looks, trading=trading, policies=policies)

    def verdict(self, baseline: str) -> Literal["better", "worse", "none"]:
        """Return whether the network's log loss differs significantly from a baseline's, by the corrected p-value."""
        if self.corrected()[f"{baseline}_difference"] > ALPHA:
            return "none"
        return "better" if self.skill.baselines[baseline].difference.mean < 0 else "worse"

    def corrected(self) -> dict[str, float]:
        """Return the p-values of all tests after correction: Holm over the tests, Bonferroni for the recipes tried."""
        return {name: self.looks.adjusted(p_value) for name, p_value in self.skill.holm_adjusted().items()}


def evaluate_record(
    record: Record,
    baselines: Mapping[str, Float64[np.ndarray, " window"]],
    traded: Mapping[str, TradingResult],
    seed: int,
    further_seeds: Mapping[int, Float64[np.ndarray, " window"]] | None = None,
    names: LabelNames = RISE_NAMES,
) -> Evaluation:
    """Evaluate a record, alone and vs. the baselines.

    Args:
        record: pooled out-of-sample probabilities, oldest first.
        baselines: by name, shape (window,), float64: P(rise) on the record's windows.
        traded: what `trade_both_ways` returned for the record; empty for a panel, which is no single position.
        seed: of the record's network and of the bootstrap.
        further_seeds: by seed, shape (window,), float64: P(rise) of networks of other seeds on the same windows.
        names: words for the label.
    """
    forecasts = {NETWORK: record.probabilities, **baselines}
    confusion = confusion_matrix(record.labels, record.probabilities)
    lines = performances(traded) if traded else {}
    return Evaluation(
        windows=len(record),
        first=np.datetime_as_string(record.decided_at[0], unit="s").item() + "Z",
        last=np.datetime_as_string(record.decided_at[-1], unit="s").item() + "Z",
        numbers={name: record_intervals(record, given, seed) for name, given in forecasts.items()},
        confusion=(tuple(confusion[0].tolist()), tuple(confusion[1].tolist())),
        calibration_error=reliability_curve(record.labels, record.probabilities).expected_error,
        skill=measure_skill(record, baselines, seed, names),
        trading={name: line.numbers() for name, line in lines.items()},
        seeds=by_seed(record, {seed: record.probabilities, **further_seeds}) if further_seeds else None,
    )


def trade_both_ways(
    record: Record, bars: Bars, costs: TradingSpec, seed: int, validation: Sequence[Record] = ()
) -> dict[str, TradingResult]:
    """Trade a record long or flat and long or short, whatever the spec's `kind`; see `trade`."""
    return {way: trade(record, bars, costs.model_copy(update={"kind": way}), seed, validation) for way in WAYS}


def performances(traded: Mapping[str, TradingResult]) -> dict[str, Performance]:
    """Return the performance of each way of trading, and of buying and holding."""
    lines = {way: result.strategy for way, result in traded.items()}
    return lines | {BUY_AND_HOLD: traded[WAYS[0]].buy_and_hold}

"""What a retrain report shows, as values: every number was computed before, nothing here is HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped

from model.baseline_comparison import Comparison
from model.evaluation import Evaluation
from model.recipe import Recipe
from model.record import Record
from model.report_charts import EpochNumbers
from model.scores_by_period import Period
from model.trading import TradingSpec
from tasks.champion.live_comparison import LiveComparison
from tasks.pages.explanation_page import Explained

QUARANTINE_ROWS = 200  # refused bars shown; the quarantine table of the store has them all


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a model comes from: bars, code, recipe and parameters.

    Attributes:
        facts: value by name, as text.
        specs: parameters of the MLflow run.
    """

    facts: Mapping[str, object]
    specs: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What is known about the bars.

    Attributes:
        facts: source, counts and span, as text.
        layout: what was inferred about the source.
        failed: rule, severity, what it requires, what was found, what to do: of each failed check.
        quarantined: opened at, rule, severity, value, source: of each refused bar, newest first.
        quarantined_count: how many there are in all.
        docs: address of the Data Docs page; empty where there is none.
    """

    facts: Mapping[str, object]
    layout: Mapping[str, object]
    failed: Sequence[tuple[str, str, str, str, str]]
    quarantined: Sequence[tuple[str, str, str, str, str]]
    quarantined_count: int
    docs: str


@dataclass(frozen=True, slots=True)
class ReportContent:
    """Everything that a report shows.

    Attributes:
        version: registered model version that was decided about.
        action: promote, hold or reject.
        reasons: mark (passed, failed, or empty) and text of each reason of the decision.
        champions: champion before and after, `none` where there was none.
        decided_at: when the decision was made, as text.
        recipe: what was trained.
        evaluation: out-of-sample numbers, tests and trades.
        champion: comparison of the network with the champion; None where there is nothing to compare.
        record: out-of-sample probabilities.
        close: shape (window,), float64: close at each decision.
        closed_at: shape (bar,), datetime64[us], UTC: of the equity curves.
        costs: of the trades.
        equity: shape (bar,) each, float64: equity curve by strategy, 1 at the start.
        periods: by fold, then by year.
        histories: epochs of each fold.
        explained: the newest window.
        calibrator: of the version, as text; `none` without one.
        data: the bars.
        lineage: bars, code and recipe of the model.
        links: address by name.
        live: champion and shadows vs. what was served, on live decisions; empty before there are any.
    """

    version: str
    action: str
    reasons: Sequence[tuple[str, str]]
    champions: tuple[str, str]
    decided_at: str
    recipe: Recipe
    evaluation: Evaluation
    champion: Comparison | None
    record: Record
    close: Float64[np.ndarray, " window"]
    closed_at: Shaped[np.ndarray, " bar"]
    costs: TradingSpec
    equity: Mapping[str, Float64[np.ndarray, " bar"]]
    periods: Sequence[Period]
    histories: Sequence[Sequence[EpochNumbers]]
    explained: Explained
    calibrator: str
    data: DataFacts
    lineage: Lineage
    links: Mapping[str, str]
    live: Sequence[LiveComparison] = ()

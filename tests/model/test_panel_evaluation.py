"""Numbers of a panel: by series as scikit-learn has them, pooled intervals over whole closes, ranks by hand."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from model.evaluation import NETWORK
from model.metrics import Record
from model.networks import NetworkSpec
from model.panel import PanelSpec
from model.panel_evaluation import EXPECTED_RETURN, PROBABILITY, evaluate_panel_record
from model.panel_recipe import PanelRecipe, panel_recipe_for
from model.trading import TradingSpec
from model.windows import WindowSpec

CLOSES, SYMBOLS = 120, ("A", "B", "C", "D")
RANK = panel_recipe_for("1d", PanelSpec(symbols=SYMBOLS, label="rank", least_series=2))
RISE = panel_recipe_for("1d", PanelSpec(symbols=SYMBOLS))


def record_of(labels: np.ndarray, probabilities: np.ndarray, bars: int = 1) -> Record:
    """Return the record of labels and probabilities of shape (close, series)."""
    at = np.datetime64("2024-01-01", "us") + np.arange(len(labels)) * np.timedelta64(1, "D")
    at, count = np.repeat(at, labels.shape[1]), labels.size
    symbols = np.tile(np.array(SYMBOLS[: labels.shape[1]]), len(labels))
    later = at + bars * np.timedelta64(1, "D")
    return Record(at, later, labels.ravel().astype(np.int8), probabilities.ravel(), np.zeros(count, np.int64), symbols)


def baselines(record: Record) -> dict[str, np.ndarray]:
    names = ("base_rate", "persistence", "logistic_regression", "gradient_boosting")
    return {name: np.full(len(record), 0.5) for name in names}


def test_the_table_by_series_is_that_of_each_series_alone() -> None:
    rng = np.random.default_rng(1)
    record = record_of(rng.integers(0, 2, (CLOSES, 4)), rng.uniform(0.2, 0.8, (CLOSES, 4)))
    base = np.tile([0.4, 0.45, 0.55, 0.6], CLOSES)  # so that a baseline of another series would be noticed
    theirs = baselines(record) | {"base_rate": base}
    further = {8: rng.uniform(0.2, 0.8, len(record))}
    found = evaluate_panel_record(record, theirs, np.zeros(len(record)), RISE, TradingSpec(), further)
    assert [each.symbol for each in found.series] == list(SYMBOLS)
    for each in found.series:
        own = record.symbols == each.symbol
        assert each.windows == CLOSES
        assert each.rises_share == pytest.approx(record.labels[own].mean())
        expected = log_loss(record.labels[own], record.probabilities[own])
        assert each.scores["log_loss"] == pytest.approx(expected)
        assert each.scores["roc_auc"] == pytest.approx(roc_auc_score(record.labels[own], record.probabilities[own]))
        assert each.against_base_rate.mean == pytest.approx(expected - log_loss(record.labels[own], base[own]))
    assert (found.closes, found.pooled.windows, found.ranks) == (CLOSES, 4 * CLOSES, None)
    assert found.pooled.trading == {}
    assert found.pooled.seeds is not None
    assert found.pooled.seeds.numbers[8]["log_loss"].value == pytest.approx(log_loss(record.labels, further[8]))


def test_four_copies_of_one_series_are_no_more_evidence_than_one() -> None:
    rng = np.random.default_rng(2)
    labels, probabilities = rng.integers(0, 2, (CLOSES, 1)), rng.uniform(0.2, 0.8, (CLOSES, 1))
    one = record_of(labels, probabilities)
    four = record_of(np.repeat(labels, 4, axis=1), np.repeat(probabilities, 4, axis=1))
    alone, pooled = (
        evaluate_panel_record(each, baselines(each), np.zeros(len(each)), RISE, TradingSpec()).pooled
        for each in (one, four)
    )
    for metric in ("log_loss", "brier_score", "accuracy", "roc_auc"):
        ours, theirs = pooled.numbers[NETWORK][metric], alone.numbers[NETWORK][metric]
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert pooled.skill.n == alone.skill.n == CLOSES


def test_ranks_are_scored_within_each_close() -> None:
    """The best of four series has the highest probability at each close, the others are in wrong order."""
    labels = np.tile([1, 1, 0, 0], (CLOSES, 1))
    probabilities = np.tile([0.7, 0.4, 0.5, 0.3], (CLOSES, 1)) + np.linspace(0, 0.2, CLOSES)[:, None]
    returns = np.tile([0.02, 0.01, 0.0, -0.01], (CLOSES, 1)).ravel()
    record = record_of(labels, probabilities)
    found = evaluate_panel_record(record, baselines(record), returns, RANK, TradingSpec(cost_bps=10, slippage_bps=5))
    assert found.ranks is not None
    assert found.ranks.auc[NETWORK].value == pytest.approx(3 / 4)  # 3 of 4 pairs in order, at each close
    assert found.ranks.auc["base_rate"].value == 0.5
    # Long A, short D: 3 % a close. Two legs are opened; at each close they have drifted to 1.02 / 1.03 and 0.99 / 1.03.
    drifted = (1.02 + 0.99) / 1.03
    traded = 2 + (CLOSES - 1) * (2 - drifted) + drifted
    assert set(found.ranks.portfolios) == {PROBABILITY}
    held = found.ranks.portfolios[PROBABILITY]
    assert held["gross_bps"] == pytest.approx(300)
    assert held["net_bps"] == pytest.approx(300 - traded * 15 / CLOSES)
    assert held["break_even_bps"] == pytest.approx(1e4 * CLOSES * np.log(1.03) / traded)  # of log returns


def test_with_a_size_the_portfolio_is_also_that_of_the_expected_return() -> None:
    """By P it holds A against D; by (2 P - 1) times the move B, which moves most, against C."""
    record = record_of(np.tile([1, 1, 0, 0], (CLOSES, 1)), np.tile([0.7, 0.6, 0.4, 0.3], (CLOSES, 1)))
    record = replace(record, expected_moves=np.tile([0.01, 0.05, 0.05, 0.01], CLOSES))
    returns = np.tile([0.02, 0.01, 0.0, -0.01], (CLOSES, 1)).ravel()
    recipe = RANK.model_copy(update={"network": NetworkSpec(magnitude=True)})
    found = evaluate_panel_record(record, baselines(record), returns, recipe, TradingSpec()).ranks
    assert found is not None
    assert found.portfolios[PROBABILITY]["gross_bps"] == pytest.approx(300)
    assert found.portfolios[EXPECTED_RETURN]["gross_bps"] == pytest.approx(100)


@pytest.mark.parametrize(("recipe", "always"), [(RANK, "above the median"), (RISE, "rise")])
def test_the_tests_of_a_panel_name_the_classes_of_its_label(recipe: PanelRecipe, always: str) -> None:
    record = record_of(np.tile([1, 1, 0, 0], (CLOSES, 1)), np.full((CLOSES, 4), 0.6))
    found = evaluate_panel_record(record, baselines(record), np.zeros(len(record)), recipe, TradingSpec())
    assert found.pooled.skill.pesaran_timmermann.reading == f"no skill: the forecast is always {always}"


def test_overlapping_outcomes_have_no_portfolio() -> None:
    rng = np.random.default_rng(3)
    labels = np.tile([1, 1, 0, 0], (CLOSES, 1))
    record = record_of(labels, rng.uniform(0.2, 0.8, (CLOSES, 4)), bars=2)
    recipe = RANK.model_copy(update={"window": WindowSpec(horizon_bars=2)})
    found = evaluate_panel_record(record, baselines(record), np.zeros(len(record)), recipe, TradingSpec())
    assert found.ranks is not None
    assert found.ranks.portfolios == {}

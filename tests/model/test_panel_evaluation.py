"""Numbers of a panel: by series as scikit-learn has them, pooled intervals over whole closes, ranks by hand."""

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from model.evaluation import NETWORK
from model.panel import PanelSpec
from model.panel_evaluation import evaluate_panel_record
from model.panel_recipe import PanelRecipe, panel_recipe_for
from model.record import Record

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
    found = evaluate_panel_record(record, theirs, {}, RISE, further)
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


def test_intervals_by_seed_draw_whole_closes_as_the_pooled_ones_do() -> None:
    """Series that move together and labels that overlap: drawn by window, the same record had other intervals."""
    rng = np.random.default_rng(4)
    market = np.convolve(rng.normal(size=CLOSES + 4), np.ones(5), "valid")[:, None]
    record = record_of(
        market + rng.normal(size=(CLOSES, 4)) > 0, 0.5 + 0.04 * np.sign(np.roll(market, 3)) * [1, 1, 1, 1], 5
    )
    found = evaluate_panel_record(record, baselines(record), {}, RISE, {8: record.probabilities}).pooled
    assert found.seeds is not None
    assert found.seeds.numbers[7] == found.seeds.numbers[8] == found.numbers[NETWORK]


def test_four_copies_of_one_series_are_no_more_evidence_than_one() -> None:
    rng = np.random.default_rng(2)
    labels, probabilities = rng.integers(0, 2, (CLOSES, 1)), rng.uniform(0.2, 0.8, (CLOSES, 1))
    one = record_of(labels, probabilities)
    four = record_of(np.repeat(labels, 4, axis=1), np.repeat(probabilities, 4, axis=1))
    alone, pooled = (evaluate_panel_record(each, baselines(each), {}, RISE).pooled for each in (one, four))
    for metric in ("log_loss", "brier_score", "accuracy", "roc_auc"):
        ours, theirs = pooled.numbers[NETWORK][metric], alone.numbers[NETWORK][metric]
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))
    assert pooled.skill.n == alone.skill.n == CLOSES


@pytest.mark.parametrize("bars", [1, 2], ids=["one bar ahead", "two bars ahead"])
def test_ranks_are_scored_within_each_close_beside_baselines_and_plain_ranks(bars: int) -> None:
    """The best of four series has the highest probability at each close, the others are in wrong order."""
    labels = np.tile([1, 1, 0, 0], (CLOSES, 1))
    probabilities = np.tile([0.7, 0.4, 0.5, 0.3], (CLOSES, 1)) + np.linspace(0, 0.2, CLOSES)[:, None]
    record = record_of(labels, probabilities, bars)
    plain = {
        "low_volatility": np.tile([-1.0, 0.0, 0.5, 1.0], CLOSES),
        "reversal_1_bar": np.tile([3.0, 2, 1, 0], CLOSES),
    }
    found = evaluate_panel_record(record, baselines(record), plain, RANK).ranks
    assert found is not None
    areas = {name: each.value for name, each in found.auc.items()}
    # Of four pairs the network has three in order, low volatility none, the reversal all; equal scores count half.
    names = ("base_rate", "persistence", "logistic_regression", "gradient_boosting")
    expected = {NETWORK: 0.75, **dict.fromkeys(names, 0.5), "low_volatility": 0.0, "reversal_1_bar": 1.0}
    assert areas == pytest.approx(expected)
    assert {name: each.value for name, each in found.ahead.items()} == pytest.approx(
        {name: 0.75 - area for name, area in expected.items() if name != NETWORK}
    )


def test_the_network_is_compared_with_a_plain_rank_close_by_close() -> None:
    """Paired: where both gain on the same closes, their difference varies less than either."""
    rng = np.random.default_rng(6)
    labels = np.stack([rng.permutation([1, 1, 0, 0]) for _ in range(CLOSES)])
    signal = labels + rng.normal(0, 1, labels.shape)
    record = record_of(labels, 1 / (1 + np.exp(-(signal - 0.5))))
    plain = {"reversal_1_bar": (signal + rng.normal(0, 0.1, labels.shape)).ravel()}
    found = evaluate_panel_record(record, baselines(record), plain, RANK).ranks
    assert found is not None
    areas = [
        [roc_auc_score(labels[at], scores.reshape(-1, 4)[at]) for at in range(CLOSES)]
        for scores in (record.probabilities, plain["reversal_1_bar"])
    ]
    ahead, alone = found.ahead["reversal_1_bar"], found.auc["reversal_1_bar"]
    assert ahead.value == pytest.approx(np.mean(areas[0]) - np.mean(areas[1]))
    assert ahead.high - ahead.low < 0.5 * (alone.high - alone.low)


@pytest.mark.parametrize(("recipe", "always"), [(RANK, "above the median"), (RISE, "rise")])
def test_the_tests_of_a_panel_name_the_classes_of_its_label(recipe: PanelRecipe, always: str) -> None:
    record = record_of(np.tile([1, 1, 0, 0], (CLOSES, 1)), np.full((CLOSES, 4), 0.6))
    found = evaluate_panel_record(record, baselines(record), {}, recipe)
    assert found.pooled.skill.pesaran_timmermann.reading == f"no skill: the forecast is always {always}"

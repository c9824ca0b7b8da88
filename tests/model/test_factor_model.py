"""The linear factor model: coefficients by a second formula, a planted factor found, no look at a later bar."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from synthetic_bars import random_walk
from synthetic_panel import DAY, FOLDS, panel_bars

from model.bars import Bars
from model.cross_section import FURTHER_FACTORS, further_factors
from model.factor_model import RIDGE, walk_factor_model
from model.folds import FoldSpec, split_folds
from model.label_names import LabelKind
from model.metrics import score
from model.panel import FACTORS, Panel, PanelSpec, cut_panel
from model.panel_scores import auc_by_bar
from model.record import Record
from model.windows import WindowSpec

WINDOW = WindowSpec(lookback_bars=5)


def coins(count: int, bars: int, reversal: float, seed: int = 3) -> dict[str, Bars]:
    """Return coins whose next move turns against the rank of the last one, at that strength, besides the market's."""
    rng = np.random.default_rng(seed)
    moves = rng.normal(0, 0.02, (bars, count))
    for bar in range(1, bars):
        ranks = 2 * np.argsort(np.argsort(moves[bar - 1])) / (count - 1) - 1
        moves[bar] -= reversal * ranks
    closes = 100 * np.exp(np.cumsum(moves + rng.normal(0, 0.02, (bars, 1)), axis=0))
    volumes = rng.uniform(1, 2, (bars, count)) * np.arange(1, count + 1)
    opened_at = np.datetime64("2022-01-01", "us") + np.arange(bars) * DAY
    return {
        f"C{k}": Bars("1d", opened_at, np.column_stack([np.repeat(closes[:, k, None], 4, axis=1), volumes[:, k]]))
        for k in range(count)
    }


def test_further_factors_by_hand() -> None:
    """With 130 bars: the move over the 80 before the last 20, the mean value traded over 20, the last move's size."""
    bars = coins(3, 130, 0.0)
    found = further_factors(bars)
    closes = {symbol: each.column("close") for symbol, each in bars.items()}
    momentum = {symbol: np.log(close[-21] / close[-101]) for symbol, close in closes.items()}
    traded = {symbol: (each.column("close") * each.column("volume"))[-20:].mean() for symbol, each in bars.items()}
    for symbol, close in closes.items():
        moves = np.diff(np.log(close))[-20:]
        expected = (
            sorted(momentum.values()).index(momentum[symbol]) - 1,
            sorted(traded.values()).index(traded[symbol]) - 1,
            moves[-1] / np.sqrt(np.mean(moves**2)),
        )
        assert found[symbol][-1] == pytest.approx(expected)
        assert (found[symbol][:9] == 0).all()  # nothing is known yet
        assert (found[symbol][:60, 0] == 0).all()  # 40 moves before the last 20 are the fewest
        assert found[symbol].shape == (130, len(FURTHER_FACTORS))


def test_a_series_without_volumes_has_no_rank_of_its_value_traded() -> None:
    bars = coins(3, 40, 0.0)
    silent = bars["C2"].ohlcv.copy()
    silent[:, 4] = np.nan
    found = further_factors({**bars, "C2": Bars("1d", bars["C2"].opened_at, silent)})
    assert [found[symbol][-1, 1] for symbol in bars] == [-1.0, 1.0, 0.0]


@pytest.mark.parametrize("label", ["rise", "rank"])
def test_coefficients_and_link_are_those_of_a_second_formula(label: LabelKind) -> None:
    """Weighted normal equations of what is left after the mean of each close, and scikit-learn's link by hand."""
    panel = cut_panel(panel_bars(200, C=120), WINDOW, PanelSpec(label=label, least_series=2)).resolved()
    (fold, *_), windows = split_folds(panel.windows, FOLDS), panel.windows
    found = walk_factor_model(panel, (fold,), label)
    factors, returns = panel.factors(), np.log1p(panel.returns)
    squares, products = RIDGE * np.eye(len(FACTORS)), np.zeros(len(FACTORS))
    for close in np.unique(windows.decided_at[fold.train]):
        at = fold.train[windows.decided_at[fold.train] == close]
        y = np.argsort(np.argsort(returns[at])) / (len(at) - 1) * 2 - 1 if label == "rank" else returns[at]
        x, y = factors[at] - factors[at].mean(axis=0), y - y.mean()
        squares, products = squares + x.T @ x / len(at), products + x.T @ y / len(at)
    coefficients = np.linalg.solve(squares, products)
    assert found.coefficients[0] == pytest.approx(coefficients)
    assert found.scores == pytest.approx(factors[fold.test] @ coefficients)
    scores = factors[fold.validation] @ coefficients
    link = LogisticRegression().fit(scores[:, None] / scores.std(), windows.labels[fold.validation])
    (validation,) = found.records.validation
    if link.coef_[0, 0] > 0:
        assert validation.probabilities == pytest.approx(link.predict_proba(scores[:, None] / scores.std())[:, 1])
    else:
        assert validation.probabilities == pytest.approx(windows.labels[fold.validation].mean())
    assert validation.decided_at.tolist() == windows.decided_at[fold.validation].tolist()
    assert set(validation.fold) == {fold.index}


@pytest.mark.parametrize("label", ["rank", "rise"])
def test_a_planted_reversal_is_found_in_ranks_and_probabilities(label: LabelKind) -> None:
    panel = cut_panel(coins(8, 500, 0.01), WINDOW, PanelSpec(label=label)).resolved()
    folds = split_folds(panel.windows, FoldSpec(test_bars=200, count=2))
    found = walk_factor_model(panel, folds, label)
    # From the middle rank to the highest one: -1 % by the last move, nothing by the others.
    if label == "rise":
        assert found.coefficients[:, 0] == pytest.approx([-0.01, -0.01], abs=0.002)
    assert np.abs(found.coefficients[:, 1:]).max() < 0.3 * -found.coefficients[:, 0].max()
    record = found.records.test
    ranked = cut_panel(coins(8, 500, 0.01), WINDOW, PanelSpec(label="rank")).resolved().tested(folds)
    areas = [
        np.nanmean(auc_by_bar(_with_labels(record, ranked), each)) for each in (found.scores, record.probabilities)
    ]
    assert areas[0] > 0.62
    assert areas[1] == pytest.approx(areas[0])  # within a fold the link keeps the order
    losses = [score(record.labels, each)["log_loss"] for each in (record.probabilities, np.full(len(record), 0.5))]
    assert losses[0] < losses[1] - (0.02 if label == "rank" else 0.0)


def _with_labels(record: Record, panel: Panel) -> Record:
    return replace(record, labels=panel.windows.labels)


def test_scores_that_do_not_rise_with_the_label_leave_the_share_of_the_validation_windows() -> None:
    """The reversal of the training windows turns into its opposite where it is validated: the ranking stays."""
    bars = coins(6, 400, 0.02)
    panel = cut_panel(bars, WINDOW, PanelSpec(label="rank")).resolved()
    folds = split_folds(panel.windows, FoldSpec(test_bars=100, count=1))
    labels = panel.windows.labels.copy()
    labels[folds[0].validation] = 1 - labels[folds[0].validation]
    found = walk_factor_model(replace(panel, windows=replace(panel.windows, labels=labels)), folds, "rank")
    share = labels[folds[0].validation].mean()
    assert found.records.test.probabilities == pytest.approx(np.full(len(found.scores), share))
    assert np.nanmean(auc_by_bar(found.records.test, found.scores)) > 0.6


@pytest.mark.parametrize("label", ["rank", "rise"])
@pytest.mark.parametrize("symbol", ["A", "B"])
def test_a_later_bar_of_any_series_changes_no_prediction(label: LabelKind, symbol: str) -> None:
    bars, spec = panel_bars(220, C=150), PanelSpec(label=label, least_series=2)
    end = bars["A"].closed_at[-20]

    def predicted(given: dict[str, Bars]) -> dict[str, np.ndarray]:
        panel = cut_panel(given, WINDOW, spec).resolved()
        found = walk_factor_model(panel, split_folds(panel.windows, FoldSpec(test_bars=60, count=2)), label)
        before = found.records.test.decided_at <= end
        return {"scores": found.scores[before], "probabilities": found.records.test.probabilities[before]}

    changed = bars[symbol].ohlcv.copy()
    later = bars[symbol].closed_at > end
    changed[later, :4] *= np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.2, later.sum())))[:, None]
    changed[later, 4] *= 50
    ours, theirs = predicted(bars), predicted({**bars, symbol: Bars("1d", bars[symbol].opened_at, changed)})
    assert len(ours["scores"]) > 60
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name])


def test_a_panel_of_one_series_predicts_the_share_of_the_validation_windows() -> None:
    panel = cut_panel({"A": random_walk(200, seed=1)}, WINDOW, PanelSpec()).resolved()
    (fold, *_) = split_folds(panel.windows, FOLDS)
    found = walk_factor_model(panel, (fold,), "rise")
    assert not found.scores.any()
    share = panel.windows.labels[fold.validation].mean()
    assert found.records.test.probabilities == pytest.approx(np.full(len(fold.test), share))

"""The check of the network that will serve: overfitted and broken ones are held, honest refits pass."""

import numpy as np
import pytest

from model.agreement_with_folds import (
    PANEL_RULE,
    FinalNetworkRule,
    check_final_network,
    false_hold_rate,
    mean_disagreement,
)
from model.errors import SpecError

FOLDS, LENGTH = 5, 150
FOLD = np.repeat(np.arange(FOLDS), LENGTH)
RULE = FinalNetworkRule()


def networks(rng: np.random.Generator, count: int, spread: float = 0.06, series: int = 1) -> np.ndarray:
    """Refits of one recipe: a common forecast, equal for all series of a close, and noise of their own.

    They differ in size, 1.0 +- 0.15.
    """
    common = np.repeat(rng.standard_normal(len(FOLD) // series), series)
    own = rng.standard_normal((count, len(FOLD)))
    size = spread * np.exp(0.15 * rng.standard_normal((count, 1)))
    return np.clip(0.5 + size * (0.8 * common + 0.6 * own), 0.02, 0.98)


def record_of(fold_networks: np.ndarray) -> np.ndarray:
    return fold_networks[FOLD, np.arange(len(FOLD))]


def test_disagreements_by_hand() -> None:
    """Each later fold network is compared on the windows before its own fold, the final network on all."""
    fold, record = np.repeat([0, 1, 2], 2), np.full(6, 0.5)
    fits = np.array([[0.5] * 6, [0.6, 0.6, *[0.5] * 4], [*[0.7] * 4, 0.5, 0.5]])  # equal to the record on its own fold
    divergence = {p: -np.log(4 * p * (1 - p)) / 2 for p in (0.6, 0.7, 0.8)}
    found = check_final_network(record, fold, fits, np.full(6, 0.8), FinalNetworkRule(factor=2))
    assert found.of_folds == pytest.approx([divergence[0.6], divergence[0.7]])
    assert found.disagreement == pytest.approx(divergence[0.8])
    assert found.limit == pytest.approx(2 * divergence[0.7])
    assert not found.passed
    assert check_final_network(record, fold, fits, np.full(6, 0.8), FinalNetworkRule(factor=3)).passed


def test_the_windows_of_a_close_count_as_one() -> None:
    """Two series at the first close of each fold, one at the second: copies of the first window change nothing."""
    fold, record = np.repeat([0, 1, 2], 2), np.full(6, 0.5)
    fits, final = np.tile([0.6, 0.5], (3, 3)), np.tile([0.8, 0.5], 3)
    copied = np.repeat(np.arange(6), np.tile([2, 1], 3))  # windows of six closes, 0 0 1 2 2 3 ...
    single = check_final_network(record, fold, fits, final, RULE)
    panel = check_final_network(record[copied], fold[copied], fits[:, copied], final[copied], RULE, copied)
    by_window = check_final_network(record[copied], fold[copied], fits[:, copied], final[copied], RULE)
    assert panel.disagreement == pytest.approx(single.disagreement) == pytest.approx(-np.log(0.64) / 4)
    assert panel.of_folds == pytest.approx(single.of_folds)
    assert by_window.disagreement == pytest.approx(-np.log(0.64) / 3)


@pytest.mark.parametrize(("series", "rule"), [(1, RULE), (5, PANEL_RULE)], ids=["series", "panel"])
def test_an_honest_final_fit_is_seldom_held(series: int, rule: FinalNetworkRule) -> None:
    held, closes = 0, np.arange(len(FOLD)) // series
    for seed in range(200):
        fits = networks(np.random.default_rng(seed), FOLDS + 1, series=series)
        held += not check_final_network(record_of(fits[:FOLDS]), FOLD, fits[:FOLDS], fits[FOLDS], rule, closes).passed
    assert held <= 4


@pytest.mark.parametrize(("series", "rule"), [(1, RULE), (5, PANEL_RULE)], ids=["series", "panel"])
@pytest.mark.parametrize("kind", ["confident noise", "memorised labels", "inverted", "not finite"])
def test_a_bad_final_network_with_a_good_record_is_held_always(kind: str, series: int, rule: FinalNetworkRule) -> None:
    closes = np.arange(len(FOLD)) // series
    for seed in range(30):
        rng = np.random.default_rng(seed)
        fits = networks(rng, FOLDS, series=series)
        record = record_of(fits)
        labels = rng.random(len(record)) < record
        final = {
            "confident noise": rng.choice([0.08, 0.92], len(record)),  # log loss 1.2 on bars to come
            "memorised labels": np.where(labels, 0.75, 0.25),  # in sample 0.29
            "inverted": np.clip(0.5 - 3 * (record - 0.5), 0.05, 0.95),
            "not finite": np.full(len(record), np.nan),
        }[kind]
        assert not check_final_network(record, FOLD, fits, final, rule, closes).passed


def test_confident_noise_has_the_log_loss_of_the_issue() -> None:
    rng = np.random.default_rng(0)
    p, labels = rng.choice([0.08, 0.92], 100_000), rng.integers(0, 2, 100_000)
    assert -np.log(np.where(labels == 1, p, 1 - p)).mean() == pytest.approx(1.3, abs=0.11)


HONEST = (  # cold final fits: disagreement, largest of the fold networks; default network, bundled sample, 2026-11-26
    (0.0066, 0.0193), (0.0033, 0.0142), (0.0027, 0.0058), (0.0046, 0.0175), (0.0075, 0.0081), (0.0028, 0.0160),
    (0.0032, 0.0114), (0.0043, 0.0241), (0.0038, 0.0154), (0.0047, 0.0105), (0.0017, 0.0053),
)  # fmt: skip
WARM = {  # by day: log loss on 250 later bars, disagreement; two chains, 14 and 3 epochs a day
    0.0142: {20: (0.7253, 0.0352), 30: (0.7942, 0.0586), 45: (0.9050, 0.1136), 60: (0.9987, 0.1860)},
    0.0053: {20: (0.6944, 0.0137), 30: (0.7059, 0.0255), 45: (0.7070, 0.0297), 60: (0.7187, 0.0369)},
}


HONEST_PANELS = (  # of 8 to 12 coins, 1,500 days or 3,000 hours; largest of the fold networks, as above; 2026-11-28
    (0.0027, 0.0029), (0.0006, 0.0022), (0.0034, 0.0047), (0.0013, 0.0039), (0.0012, 0.0017), (0.0022, 0.0040),
    (0.0027, 0.0028), (0.0026, 0.0015), (0.0013, 0.0028), (0.0006, 0.0021), (0.0014, 0.0021), (0.0021, 0.0035),
    (0.0028, 0.0073), (0.0016, 0.0019),
)  # fmt: skip


def test_real_fits_of_panels_pass() -> None:
    assert all(found <= max(PANEL_RULE.factor * largest, PANEL_RULE.negligible) for found, largest in HONEST_PANELS)
    assert PANEL_RULE.negligible < RULE.negligible


def test_real_cold_fits_pass_and_real_warm_chains_are_held_from_day_20_on() -> None:
    def limit(largest: float) -> float:
        return max(RULE.factor * largest, RULE.negligible)

    assert all(disagreement <= limit(largest) for disagreement, largest in HONEST)
    assert all(disagreement > limit(largest) for largest, chain in WARM.items() for _, disagreement in chain.values())


def test_disagreement_is_the_loss_added_when_the_record_is_right() -> None:
    record, other = np.array([0.3, 0.6]), np.array([0.5, 0.5])
    entropy = -(record * np.log(record) + (1 - record) * np.log(1 - record)).mean()
    assert mean_disagreement(record, other, np.arange(2)) == pytest.approx(np.log(2) - entropy)


def test_false_holds_become_rarer_with_a_larger_factor_and_with_steadier_refits() -> None:
    loose, steady = FinalNetworkRule(factor=3), 0.2
    assert false_hold_rate(loose, 5, 0.5) < false_hold_rate(RULE, 5, 0.5)
    assert false_hold_rate(RULE, 5, steady) < 0.001


def test_entries_after_a_network_s_own_fold_are_not_read() -> None:
    fits = networks(np.random.default_rng(0), FOLDS + 1)
    record, final = record_of(fits[:FOLDS]), fits[FOLDS]
    blanked = np.where(FOLD[None, :] > np.arange(FOLDS)[:, None], np.nan, fits[:FOLDS])
    before, after = (check_final_network(record, FOLD, each, final, RULE) for each in (fits[:FOLDS], blanked))
    assert before.limit == after.limit


def test_a_single_fold_is_an_error() -> None:
    with pytest.raises(SpecError, match="at least 2 folds"):
        check_final_network(np.full(3, 0.5), np.zeros(3, np.int64), np.full((1, 3), 0.5), np.full(3, 0.5), RULE)

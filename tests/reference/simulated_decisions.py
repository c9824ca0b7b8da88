"""Probabilities and outcomes of simulated services: what the rules over many days are measured on.

Every generator knows the truth, so that a rule's errors can be counted. Arrays have one run per row.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int8
from scipy.signal import lfilter
from scipy.stats import norm
from synthetic_records import daily_record

from model.agreement_with_folds import FinalNetworkRule, check_final_network, final_network_clause
from model.best_past_champion import AnchorRule, calibration_slope_bound, compare_with_past_champions
from model.promotion_rule import PromotionRule, decide
from model.sanity_check import SanityCheck

ANCHOR = AnchorRule()
SANE = SanityCheck(finite=True, not_constant=True, both_classes_possible=True, reloads_equal=True)
FOLDS = 5
Probabilities = Float64[np.ndarray, "run decision"]
Labels = Int8[np.ndarray, "run decision"]
STATE_SIZE = 0.3  # of the market's expected move over its noise, at horizon 1; falls with the root of the horizon


def persistent_noise(rng: np.random.Generator, runs: int, count: int, persistence: float) -> Probabilities:
    """Return a standard normal autoregression of order 1, shape (run, decision)."""
    steps = rng.standard_normal((runs, count))
    steps[:, 1:] *= np.sqrt(1 - persistence**2)
    return np.asarray(lfilter([1.0], [1.0, -persistence], steps, axis=1))


def forecasts_of_a_drifting_market(
    rng: np.random.Generator, runs: int, count: int, horizon: int, *, skilled: bool, persistence: float = 0.98
) -> tuple[Labels, Probabilities]:
    """Return overlapping outcomes and persistent forecasts of a market whose drift is an autoregression.

    Args:
        rng: source of randomness.
        runs: independent services.
        count: decisions, one a bar.
        horizon: bars until the outcome.
        skilled: the forecast is the true probability; else the market is a random walk and the same forecasts,
            which belong to another market, are noise.
        persistence: correlation of the drift from bar to bar.
    """
    size = STATE_SIZE / np.sqrt(horizon)
    drift = size * persistent_noise(rng, runs, count + horizon, persistence)
    moves = rng.standard_normal((runs, count + horizon))
    if skilled:
        moves[:, 1:] += drift[:, :-1]
    path = np.cumsum(moves, axis=1)
    labels = (path[:, horizon:] > path[:, :-horizon]).astype(np.int8)
    ahead = np.cumsum(persistence ** np.arange(horizon))
    variance = horizon + size**2 * (1 - persistence**2) * float((ahead[:-1] ** 2).sum())
    return labels, np.clip(norm.cdf(drift[:, :count] * ahead[-1] / np.sqrt(variance)), 0.02, 0.98)


def calibrated_forecasts(
    rng: np.random.Generator, runs: int, count: int, accuracy: float
) -> tuple[Labels, Probabilities]:
    """Return independent outcomes and a calibrated forecaster that is right with the given probability."""
    probabilities = 0.5 + (accuracy - 0.5) * rng.choice([-1.0, 1.0], (runs, count))
    return (rng.random((runs, count)) < probabilities).astype(np.int8), probabilities


@dataclass(frozen=True)
class SimulatedService:
    """What became of a daily retrain under the anchor's rule.

    Attributes:
        promoted: shape (run, day), bool.
        excess_over_best: shape (run, day), float64: true log loss of the champion minus that of the best version that
            has been champion; zeros where the recipe has skill.
    """

    promoted: Bool[np.ndarray, "run day"]
    excess_over_best: Float64[np.ndarray, "run day"]


def daily_promotions(
    rng: np.random.Generator,
    runs: int,
    days: int,
    *,
    spread: float,
    skill: float,
    step: float = 0.0,
    rule: AnchorRule = ANCHOR,
    windows: int = 750,
    newest: int = 5,
    whole_gate: bool = False,
) -> SimulatedService:
    """Retrain every day, and promote what the anchor allows; each version forecasts every later bar as a shadow.

    A record is that of five fold fits, and another fit of the same recipe serves.

    Args:
        rng: source of randomness.
        runs: independent services.
        days: decisions.
        spread: standard deviation of a version's P(rise); it differs by 12 % from refit to refit (measured: 10 %).
        skill: standard deviation of the true P(rise); 0: nobody can know anything.
        step: above 0, each challenger's true excess loss is the champion's plus a normal step of this size (a chain of
            warm starts); 0: refits are fresh.
        rule: of the anchor.
        windows: of each record.
        newest: references kept whatever they are, besides the least bold and the best.
        whole_gate: the other conditions of the daily rule decide too (base rate, champion, final network); else the
            anchor decides alone.
    """
    total = windows + days
    common = rng.standard_normal((runs, total))
    labels = (rng.random((runs, total)) < np.clip(0.5 + skill * common, 0.02, 0.98)).astype(np.int8)
    references = np.full((runs, newest + 2, total), np.nan)
    served = np.full((runs, total), np.nan)
    champion, best = np.full(runs, spread), np.full(runs, np.inf)
    promoted, excess = np.zeros((runs, days), bool), np.zeros((runs, days))
    for day in range(days):
        size = _next_spread(rng, champion, spread, step if day else 0.0)
        seen = slice(day, day + windows)
        fits = _fits(rng, size, common[:, day:])
        challenger = np.full((runs, total), np.nan)
        challenger[:, day:] = fits[:, FOLDS]
        fold = np.arange(windows) * FOLDS // windows
        challenger[:, seen] = fits[:, fold, np.arange(windows)]
        history = np.concatenate([served[:, :day], challenger[:, seen]], axis=1)
        found = compare_with_past_champions(
            labels[:, seen],
            0.5,
            challenger[:, seen],
            references[:, :, seen],
            rule,
            considered=int(promoted.sum(1).max()),
            slope=calibration_slope_bound(labels[:, : day + windows], 0.5, history, rule),
        )
        allowed = found.may_be_promoted
        if whole_gate:
            champions = references[:, newest - 1, seen]
            for run in np.flatnonzero(allowed):
                record = labels[run, seen], challenger[run, seen]
                allowed[run] = _other_conditions(*record, champions[run], fold, fits[run, :, :windows])
        promoted[:, day] = allowed
        champion = np.where(allowed, size, champion)
        if skill == 0:
            true_loss = np.interp(champion, SPREADS, EXCESSES)
            best = np.minimum(best, true_loss)
            excess[:, day] = true_loss - best
        _keep(references, challenger, labels, allowed, seen, newest)
        if day == 0:
            served[:, :windows] = challenger[:, :windows]
        served[:, windows + day] = references[:, newest - 1, windows + day]
    return SimulatedService(promoted, excess)


def _fits(rng: np.random.Generator, size: np.ndarray, common: np.ndarray) -> np.ndarray:
    """Return what five fold fits and the final fit of a recipe predict, shape (run, fit, decision)."""
    sizes = size[:, None] * np.exp(0.12 * rng.standard_normal((len(size), FOLDS + 1)))
    sizes[:, FOLDS] = size
    own = rng.standard_normal((len(size), FOLDS + 1, common.shape[1]))
    mixed = np.sqrt(0.7) * common[:, None] + np.sqrt(0.3) * own
    return np.asarray(np.clip(0.5 + sizes[..., None] * mixed, 0.02, 0.98))


def _other_conditions(
    labels: np.ndarray, record: np.ndarray, champion: np.ndarray, fold: np.ndarray, fits: np.ndarray
) -> bool:
    """Return whether the daily rule promotes by its conditions other than the anchor."""
    rule = FinalNetworkRule()
    final = final_network_clause(check_final_network(record, fold, fits[:FOLDS], fits[FOLDS], rule))
    theirs = None if np.isnan(champion).all() else daily_record(labels, champion)
    base_rate = np.full(len(labels), 0.5)
    ours = daily_record(labels, record)
    return decide(PromotionRule(), SANE, ours, base_rate, theirs, seed=7, further=(final,)).action == "promote"


def _next_spread(rng: np.random.Generator, champion: np.ndarray, spread: float, step: float) -> np.ndarray:
    if step == 0:
        return np.asarray(spread * np.exp(0.12 * rng.standard_normal(len(champion))))
    moved = np.abs(np.interp(champion, SPREADS, EXCESSES) + step * rng.standard_normal(len(champion)))
    return np.asarray(np.interp(moved, EXCESSES, SPREADS))


def _keep(
    references: np.ndarray,
    challenger: np.ndarray,
    labels: np.ndarray,
    allowed: np.ndarray,
    seen: slice,
    newest: int,
) -> None:
    """Keep the newest champions, the least bold one and the one with the lowest loss, in place."""

    def loss(p: np.ndarray) -> np.ndarray:
        return np.asarray(-np.log(np.where(labels[:, seen] == 1, p, 1 - p)).mean(axis=1))

    def bold(p: np.ndarray) -> np.ndarray:
        return np.asarray(-0.5 * np.log(4 * p * (1 - p)).mean(axis=1))

    for slot, figure in ((newest, bold), (newest + 1, loss)):
        before, now = figure(references[:, slot, seen]), figure(challenger[:, seen])
        taken = allowed & (np.isnan(before) | (now < before))
        references[taken, slot] = challenger[taken]
    references[allowed, : newest - 1] = references[allowed, 1:newest]
    references[allowed, newest - 1] = challenger[allowed]


def _true_excesses(spreads: np.ndarray) -> np.ndarray:
    """Return the true excess loss over the base rate of forecasts without skill, by their spread."""
    points = np.linspace(-5, 5, 2001)
    weights = np.exp(-(points**2) / 2)
    p = np.clip(0.5 + spreads[:, None] * points, 0.02, 0.98)
    return np.asarray((-0.5 * np.log(4 * p * (1 - p))) @ (weights / weights.sum()))


SPREADS = np.linspace(0.001, 0.3, 300)
EXCESSES = _true_excesses(SPREADS)

"""Study the step of the abstention level: share of opinions and their true accuracy, calm and after a change.

`python benchmarks/abstention_step.py` simulates an autocorrelated signal whose forecaster is 60 % right on its most
confident tenth. In the second case the forecasts keep their order but move to a third of their distance from 0.5
half-way, as after a retrain. 450 validation windows, 750 test windows, 200 repetitions, share 10 %. Then a panel of 20
series with a common and an own signal of equal variance: the level moves once a close, or after each of its series in
the order of their names; 20 repetitions.
"""

import numpy as np

from model import abstention

VALIDATION, TEST, REPETITIONS, SHARE = 450, 750, 200, 0.1
SERIES, PANELS = 20, 20
STEPS = (1e-9, 0.005, 0.01, 0.02, 0.05, 0.1)  # the first one: ranks among recent confidences alone


def autocorrelated(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return signals of unit variance, shape (window, series)."""
    signal = rng.normal(size=(VALIDATION + TEST, count))
    for t in range(1, len(signal)):
        signal[t] = 0.7 * signal[t - 1] + np.sqrt(1 - 0.7**2) * signal[t]
    return signal


def simulate(rng: np.random.Generator, *, changed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return P(rise), and the true probability of being right, of validation and test windows."""
    signal = autocorrelated(rng, 1)[:, 0]
    scale = np.where(changed & (np.arange(len(signal)) >= VALIDATION + TEST // 2), 0.05 / 3, 0.05)
    return np.clip(0.5 + scale * signal, 0.01, 0.99), 0.5 + 0.05 * np.abs(signal)


def measure(held: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Return the share of opinions, and the true probability that one of them is right."""
    return float(held.mean()), float(right[held].mean())


def print_table() -> None:
    """Print one line for each step, for a fixed threshold, and for the choice after the fact."""
    for changed in (False, True):
        rng, found = np.random.default_rng(0), {}
        for _ in range(REPETITIONS):
            probabilities, right = simulate(rng, changed=changed)
            before, tested, right = probabilities[:VALIDATION], probabilities[VALIDATION:], right[VALIDATION:]
            ranks = abstention.rank_confidences(before, tested)
            confidence = np.abs(tested - 0.5)
            rules = {
                "fixed threshold of the validation windows": confidence > np.quantile(np.abs(before - 0.5), 1 - SHARE),
                "chosen after the fact": confidence > np.quantile(confidence, 1 - SHARE),
            }
            for step in STEPS:
                abstention.STEP = step
                rules[f"step {step:g}"] = abstention.hold_share(ranks, SHARE).held
            for name, held in rules.items():
                found.setdefault(name, []).append(measure(held, right))
        print("confidence falls to a third half-way" if changed else "calm")
        for name, numbers in found.items():
            shares, accuracies = np.array(numbers).T
            print(
                f"  {name:42} share {shares.mean():6.2%} (s.d. {shares.std():.2%}, {shares.min():.1%} to "
                f"{shares.max():.1%}), accuracy {accuracies.mean():.2%}"
            )


def print_panel_table() -> None:
    """Print share and true accuracy of a panel's opinions, and how many the busiest closes hold, by unit."""
    rng, found = np.random.default_rng(1), {}
    for _ in range(PANELS):
        signal = np.sqrt(0.5) * (autocorrelated(rng, 1) + autocorrelated(rng, SERIES))
        probabilities, right = 0.5 + 0.05 * signal.ravel(), 0.5 + 0.05 * np.abs(signal[VALIDATION:]).ravel()
        before, tested = np.split(probabilities, [VALIDATION * SERIES])
        closes = np.repeat(np.arange(VALIDATION + TEST), SERIES)
        ranks = abstention.rank_confidences(before, tested, *np.split(closes, [VALIDATION * SERIES]))
        confidence = np.abs(tested - 0.5)
        rules = {
            "chosen after the fact": confidence > np.quantile(confidence, 1 - SHARE),
            "a level for each close": abstention.hold_share(ranks, SHARE, closes[VALIDATION * SERIES :]).held,
            "a level for each series in turn": abstention.hold_share(ranks, SHARE).held,
        }
        for name, held in rules.items():
            by_close = np.sort(held.reshape(TEST, SERIES).sum(axis=1))
            found.setdefault(name, []).append((*measure(held, right), by_close[-TEST // 10 :].mean()))
    print(f"panel of {SERIES} series")
    for name, numbers in found.items():
        shares, accuracies, busiest = np.array(numbers).T
        print(
            f"  {name:42} share {shares.mean():6.2%} (s.d. {shares.std():.2%}), accuracy {accuracies.mean():.2%}, "
            f"{busiest.mean():.1f} opinions at a close of the busiest tenth"
        )


if __name__ == "__main__":
    chosen = abstention.STEP
    print_table()
    abstention.STEP = chosen
    print_panel_table()

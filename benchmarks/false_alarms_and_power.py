"""Size and power of the rules that decide over many days: each promise, its target, and what a simulation measures.

Prints one table. Every row counts runs of a simulated service whose truth is known; the interval is the 95 % Wilson
interval of the share. Nothing is trained: the rules read probabilities and outcomes only. The whole takes about ten
minutes on one idle core. Run: python benchmarks/false_alarms_and_power.py [--scale 1.0] [--only evidence anchor ...]
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import norm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "reference"))  # the tests' simulated services

from simulated_decisions import (
    SANE,
    calibrated_forecasts,
    daily_promotions,
    forecasts_of_a_drifting_market,
)
from synthetic_records import daily_record
from synthetic_series import walk

from model.agreement_with_folds import FinalNetworkRule, check_final_network
from model.bars import Bars, bars_from_frame
from model.correction_for_looks import Looks, RecipesTried
from model.drift import bar_properties, compare_with_references, drift_references, level_drift, price_level
from model.e_process import (
    alarm_threshold,
    allowed_excesses,
    divergence,
    freeze_reference,
    lagged_e_process,
)
from model.monitor_alarms import MonitorSpec
from model.multiple_testing import forecast_skill, search_skill, skill_p_values
from model.promotion_rule import PromotionRule, decide
from model.wilson_interval import wilson_interval

RATE = 0.05
DAYS = 1000
RECORD = 750
WITHIN = 30  # decisions in which an inverted version must be found
BATCH = 250  # runs held at once
STRICT = PromotionRule(kind="strict", alpha=RATE)


@dataclass(frozen=True)
class Row:
    """One promise: how many of the runs did it."""

    promise: str
    target: str
    count: int
    runs: int

    def text(self) -> str:
        """Return a line of the table, in Markdown."""
        low, high = (
            float(bound[0]) for bound in wilson_interval(np.array([self.count * 1.0]), np.array([self.runs * 1.0]))
        )
        share = f"{self.count / self.runs:.1%} [{low:.1%}, {high:.1%}]"
        return f"| {self.promise} | {self.target} | {share} | {self.runs} |"


def false_alarms(scale: float) -> Iterator[Row]:
    """Count honest versions that ever raise an alarm in 1,000 days."""
    runs = _runs(500, scale)
    for horizon in (1, 5, 10, 20):
        for skilled in (False, True):
            rng = np.random.default_rng(horizon)
            alarms = [0, 0]
            for size in _batches(runs):
                labels, p = forecasts_of_a_drifting_market(rng, size, RECORD + horizon + DAYS, horizon, skilled=skilled)
                live, served = labels[:, RECORD + horizon :], p[:, RECORD + horizon :]
                base = np.full(live.shape, 0.5)
                exact = divergence(base, served) if not skilled else -_gain(served)
                alarms[0] += _ever(lagged_e_process(live, served, base, exact, horizon))
                base, allowed = _references(labels[:, :RECORD], p[:, :RECORD], served, horizon)
                alarms[1] += _ever(lagged_e_process(live, served, base, allowed, horizon))
            kind = "calibrated" if skilled else "no skill"
            name = f"false alarm ever in {DAYS} days, horizon {horizon}, persistent forecasts, {kind}"
            yield Row(f"{name}, allowance exactly its expected excess", "<= 5 %", alarms[0], runs)
            yield Row(f"{name}, allowance from its record", "<= 5 %", alarms[1], runs)


def service_false_alarms(scale: float) -> Iterator[Row]:
    """Count services that ever raise an alarm: 33 honest versions of 30 days each, and the process across them."""
    runs, life = _runs(300, scale), 30
    for horizon in (1, 5):
        rng = np.random.default_rng(100 + horizon)
        alarms = 0
        for size in _batches(runs):
            versions = DAYS // life
            labels, p = forecasts_of_a_drifting_market(
                rng, size, RECORD + horizon + versions * life, horizon, skilled=True
            )
            found, allowed, base = np.zeros(size, bool), [], []
            for version in range(versions):
                start = RECORD + horizon + version * life
                record, live = slice(version * life, version * life + RECORD), slice(start, start + life)
                q, a = _references(labels[:, record], p[:, record], p[:, live], horizon)
                own = lagged_e_process(labels[:, live], p[:, live], q, a, horizon)
                found |= own.max(axis=1) >= alarm_threshold(RATE, version + 1)
                base.append(q)
                allowed.append(a)
            live = slice(RECORD + horizon, None)
            whole = lagged_e_process(
                labels[:, live], p[:, live], np.concatenate(base, axis=1), np.concatenate(allowed, axis=1), horizon
            )
            alarms += int((found | (whole.max(axis=1) >= alarm_threshold(RATE))).sum())
        yield Row(
            f"false alarm of any of 33 honest versions or of the service, {DAYS} days, horizon {horizon}",
            "<= 5 %",
            alarms,
            runs,
        )


def inverted(scale: float) -> Iterator[Row]:
    """Count inverted new versions that are found within 30 decisions."""
    runs = _runs(500, scale)
    for accuracy in (0.7, 0.8):
        ideal = {RATE: 0, 1 / alarm_threshold(RATE, 2): 0}
        for history in (0, 250, 750, 1500):
            rng = np.random.default_rng(history)
            record_labels, record = calibrated_forecasts(rng, runs, RECORD, accuracy)
            labels, served = calibrated_forecasts(rng, runs, history + WITHIN, accuracy)
            served[:, history:] = 1 - served[:, history:]
            found = _found(record_labels, record, labels, served, history)
            name = f"inverted new version, right {1 - accuracy:.0%}, after {history} good days: alarm within {WITHIN}"
            yield Row(name, ">= 95 %" if accuracy > 0.7 else "(hard case)", found, runs)
            if not history:
                odds = np.log(1 - served) - np.log(served)
                ratio = np.cumsum(np.where(labels == 1, odds, -odds), axis=1)
                ideal = {level: int((ratio.max(axis=1) >= -np.log(level)).sum()) for level in ideal}
        for level, count in ideal.items():
            name = f"the same by a likelihood ratio that knows the inversion, level {level:.1%}"
            yield Row(name, "(bound)", count, runs)
    for history in (0, 250, 750, 1500):
        rng = np.random.default_rng(history)
        record_labels, record = calibrated_forecasts(rng, runs, RECORD, 0.6)
        labels, served = calibrated_forecasts(rng, runs, history + WITHIN, 0.6)
        labels[:, history:] = served[:, history:] < 0.5
        found = _found(record_labels, record, labels, served, history)
        yield Row(
            f"new version that is always wrong, after {history} good days: alarm within {WITHIN}",
            ">= 95 %",
            found,
            runs,
        )


def anchor(scale: float) -> Iterator[Row]:
    """Count services whose champion ends far from the best reference, and days without a refresh."""
    yield from _creep(_runs(40, scale), whole_gate=False)


def gate(scale: float) -> Iterator[Row]:
    """Count the same where every condition of the daily rule decides, not the anchor alone."""
    yield from _creep(_runs(80, scale), whole_gate=True)


def _creep(runs: int, *, whole_gate: bool) -> Iterator[Row]:
    by = "whole gate" if whole_gate else "past champions alone"
    for step, kind in ((0.0, "fresh refits"), (0.004, "each refit the champion's loss +- 0.004")):
        rng = np.random.default_rng(1)
        service = daily_promotions(rng, runs, DAYS, spread=0.05, skill=0.0, step=step, whole_gate=whole_gate)
        crept = int((service.excess_over_best.max(axis=1) > 0.01).sum())
        yield Row(f"{by}, no-skill bars, {kind}: champion ever 0.01 over the best reference", "< 5 %", crept, runs)
        days = service.promoted
        yield Row(f"{by}, no-skill bars, {kind}: days promoted", "(no target)", int(days.sum()), days.size)
    for skill in (0.05, 0.1):
        rng = np.random.default_rng(2)
        days = daily_promotions(rng, runs, DAYS, spread=skill, skill=skill, whole_gate=whole_gate).promoted
        name = f"{by}, skilled recipe (right {0.5 + skill * 0.8:.0%}): days promoted"
        yield Row(name, ">= 95 %", int(days.sum()), days.size)


def final_network(scale: float) -> Iterator[Row]:
    """Count honest final networks that are held, and bad ones."""
    runs, folds = _runs(500, scale), np.repeat(np.arange(5), 150)
    held = dict.fromkeys(("honest", "noise", "overfitted"), 0)
    for run in range(runs):
        rng = np.random.default_rng(run)
        common, own = rng.standard_normal(len(folds)), rng.standard_normal((6, len(folds)))
        size = 0.06 * np.exp(0.15 * rng.standard_normal((6, 1)))
        fits = np.clip(0.5 + size * (0.8 * common + 0.6 * own), 0.02, 0.98)
        record = fits[folds, np.arange(len(folds))]
        labels = rng.random(len(folds)) < record
        finals = {
            "honest": fits[5],
            "noise": rng.choice([0.08, 0.92], len(folds)),
            "overfitted": np.clip(fits[5] + np.where(labels, 0.15, -0.15), 0.02, 0.98),
        }
        for kind, final in finals.items():
            held[kind] += not check_final_network(record, folds, fits[:5], final, FinalNetworkRule()).passed
    yield Row("honest final network held", "rare", held["honest"], runs)
    yield Row("final network of log loss 1.2 with a good record: held", "all", held["noise"], runs)
    yield Row("overfitted final network (0.15 towards every label seen): held", "all", held["overfitted"], runs)


def search(scale: float) -> Iterator[Row]:
    """Count null recipes that the strict rule promotes after a search, and planted ones."""
    for tried in (1, 10, 100, 1000):
        runs, corrected, promoted = _runs(400 if tried < 1000 else 610, scale), 0, 0
        for run in range(runs):
            rng = np.random.default_rng(run)
            labels, null = rng.integers(0, 2, 2000).astype(np.int8), rng.uniform(0.45, 0.55, (tried, 2000))
            seed = 1_000_000 + run  # not the stream of the data
            passed = search_skill(labels, np.full(2000, 0.5), null, seed).adjusted_p_value <= RATE
            corrected += bool(passed.any())
            promoted += any(_promotes(labels, null, int(chosen), seed) for chosen in np.flatnonzero(passed))
        yield Row(f"skill corrected for {tried} null recipes tried: any significant", "<= 5 %", corrected, runs)
        yield Row(f"strict rule, {tried} null recipes tried, no champion: any promoted", "<= 5 %", promoted, runs)
        runs, alone, beside = _runs(200 if tried < 1000 else 60, scale), 0, 0
        for run in range(runs):
            rng = np.random.default_rng(run)
            labels, planted = calibrated_forecasts(rng, 1, 2000, 0.55)
            recipes = np.concatenate([planted, rng.uniform(0.45, 0.55, (tried - 1, 2000))])
            alone += _promotes(labels[0], recipes, 0, run)
            beside += _promotes(labels[0], recipes, 0, run, champion=rng.uniform(0.45, 0.55, 2000))
        target = ">= 80 %" if tried < 1000 else "(72 % by Bonferroni)"
        name = f"strict rule, right 55 % on 2,000 windows, among {tried} tried"
        yield Row(f"{name}, no champion: promoted", target, alone, runs)
        yield Row(f"{name}, champion without skill: promoted", "(no target)", beside, runs)


def sequence(scale: float) -> Iterator[Row]:
    """Count services that try recipes without skill one after another, and decide about each by the strict rule."""
    runs, tried = _runs(200, scale), 100
    tested, promoted = 0, 0
    for run in range(runs):
        rng = np.random.default_rng(run)
        labels, null = rng.integers(0, 2, 2000).astype(np.int8), rng.uniform(0.45, 0.55, (tried, 2000))
        base, passed = np.full(2000, 0.5), []
        skill = forecast_skill(labels, base, null)
        alone = norm.sf(skill.mean(axis=1) / (skill.std(axis=1) / np.sqrt(2000)))
        for k, level in enumerate(RATE * 6 / (np.pi * np.arange(1, tried + 1)) ** 2):
            if alone[k] > 5 * level:  # far from significant even alone: no bootstrap needed
                continue
            if skill_p_values(skill[: k + 1], 1_000_000 + run, 1)[2][k] <= level:
                passed.append(k)
        tested += bool(passed)
        promoted += any(_promotes(labels, null[: k + 1], k, 1_000_000 + run, decided=k) for k in passed)
    yield Row(f"{tried} null recipes decided one after another: any significant", "<= 5 %", tested, runs)
    yield Row("the same, strict rule, no champion: any promoted", "<= 5 %", promoted, runs)


def drift(scale: float) -> Iterator[Row]:
    """Count series with tripled moves that the drift check finds, by what it compares with."""
    del scale  # the sample has no more bars
    recent, sample = 120, _sample()
    spans = {
        "sample": [_first(sample, end) for end in np.linspace(600, len(sample) - recent, 15).astype(int) + recent],
        "random walk": [walk(1500 + recent, seed=seed) for seed in range(15)],
    }
    for name, series in spans.items():
        found = dict.fromkeys(("frozen", "moving", "unchanged", "frozen, whole", "unchanged, whole"), 0)
        for calm in series:
            start = len(calm) - recent
            storm = _tripled(calm, start)
            frozen, moving = (
                drift_references(bar_properties(each), recent, 1.3) for each in (_first(calm, start), storm)
            )
            for kind, reference, bars in (
                ("frozen", frozen, storm),
                ("moving", moving, storm),
                ("unchanged", frozen, calm),
            ):
                drifted = any(each.drifted for each in compare_with_references(reference, bar_properties(bars)))
                found[kind] += drifted
                if reference is frozen:
                    ratio = price_level(bars) / price_level(_first(calm, start))
                    found[f"{kind}, whole"] += drifted or level_drift(ratio, MonitorSpec().max_level_factor).drifted
        yield Row(f"moves of 120 bars tripled ({name}), reference frozen: found", "14 of 15", found["frozen"], 15)
        yield Row(
            f"the same ({name}), reference moves with every promotion: found", "(version 0.1)", found["moving"], 15
        )
        yield Row(f"the same bars as they were ({name}), reference frozen: found", "rare", found["unchanged"], 15)
        whole = "distributions or price level, reference frozen: found"
        yield Row(f"moves tripled ({name}), {whole}", "14 of 15", found["frozen, whole"], 15)
        yield Row(f"the same bars as they were ({name}), {whole}", "rare", found["unchanged, whole"], 15)


STUDIES = {
    "evidence": false_alarms,
    "service": service_false_alarms,
    "inverted": inverted,
    "anchor": anchor,
    "gate": gate,
    "final": final_network,
    "search": search,
    "sequence": sequence,
    "drift": drift,
}


def main() -> None:
    """Run the chosen studies and print their table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of runs")
    parser.add_argument("--only", nargs="*", choices=STUDIES, default=list(STUDIES))
    chosen = parser.parse_args()
    print("| promise | target | measured | runs |\n|---|---|---|---|", flush=True)
    for name in chosen.only:
        started = time.perf_counter()
        for row in STUDIES[name](chosen.scale):
            print(row.text(), flush=True)
        sys.stderr.write(f"{name}: {time.perf_counter() - started:.0f} s\n")


def _runs(count: int, scale: float) -> int:
    return max(2, round(count * scale))


def _batches(runs: int) -> list[int]:
    return [min(BATCH, runs - start) for start in range(0, runs, BATCH)]


def _gain(p: np.ndarray) -> np.ndarray:
    """Return the expected gain of a calibrated forecast over one half, nats."""
    return np.asarray(np.log(2) + p * np.log(p) + (1 - p) * np.log(1 - p))


def _ever(evidence: np.ndarray) -> int:
    return int((evidence.max(axis=1) >= 1 / RATE).sum())


def _references(
    labels: np.ndarray, record: np.ndarray, served: np.ndarray, horizon: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return base rates and allowances of the served forecasts, frozen from each run's record."""
    found = [freeze_reference(y, p, overlap=horizon) for y, p in zip(labels, record, strict=True)]
    base = np.array([each.base_rate for each in found])[:, None] * np.ones(served.shape)
    return base, np.stack([allowed_excesses(each, p) for each, p in zip(found, served, strict=True)])


def _found(record_labels: np.ndarray, record: np.ndarray, labels: np.ndarray, served: np.ndarray, history: int) -> int:
    """Count alarms by the new version's own process (the second ever promoted) or by the service's."""
    base, allowed = _references(record_labels, record, served, 1)
    service = lagged_e_process(labels, served, base, allowed)[:, history:]
    own = lagged_e_process(*(each[:, history:] for each in (labels, served, base, allowed)))
    alarm = (own >= alarm_threshold(RATE, 2)) | (service >= alarm_threshold(RATE))
    return int(alarm.any(axis=1).sum())


def _promotes(
    labels: np.ndarray,
    tried: np.ndarray,
    chosen: int,
    seed: int,
    champion: np.ndarray | None = None,
    decided: int = 0,
) -> bool:
    """Return whether the strict rule promotes one of the recipes tried; what trading earned is left out."""
    base, others = np.full(len(labels), 0.5), np.delete(tried, chosen, axis=0)
    seen = RecipesTried(Looks(len(tried), len(tried)), forecast_skill(labels, base, others), decided=decided)
    ours, theirs = (None if p is None else daily_record(labels, p) for p in (tried[chosen], champion))
    assert ours is not None
    return decide(STRICT, SANE, ours, base, theirs, seed, tried=seen).action == "promote"


def _sample() -> Bars:
    """Return the bundled sample's daily bars, each day once."""
    from tasks.sources.bundled_sample import SAMPLE_AS_OF, SampleSource
    from tasks.sources.source_spec import SourceSpec

    frame = SampleSource(SourceSpec()).fetch().frame
    return bars_from_frame(frame[frame["timestamp"] < SAMPLE_AS_OF].drop_duplicates("timestamp"), "1d")


def _first(bars: Bars, count: int) -> Bars:
    return bars.closed_by(bars.closed_at[count - 1])


def _tripled(bars: Bars, start: int) -> Bars:
    """Return bars whose log prices from `start` on stray three times as far from the close before."""
    ohlcv = np.column_stack([bars.column(name) for name in ("open", "high", "low", "close", "volume")])
    logs = np.log(ohlcv[:, :4])
    anchor = np.concatenate(([logs[0, 0]], logs[:-1, 3]))  # the close before each bar
    wide = 3 * (logs - anchor[:, None])
    close = logs[start - 1, 3]
    for bar in range(start, len(ohlcv)):
        ohlcv[bar, :4] = np.exp(close + wide[bar])
        close += wide[bar, 3]
    return Bars(bars.interval, bars.opened_at, ohlcv)


if __name__ == "__main__":
    main()

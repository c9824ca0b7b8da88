"""Skill of an interval's preset on held-out bars vs. the baselines and the daily default network.

Walks forward over the newest windows in the preset's folds and prints log loss and accuracy with 95 % block bootstrap
intervals of: base rate, persistence, logistic regression and gradient boosting (for hourly bars both learners on the
article's z-scores of 30 bars and on the inputs of the preset's network), the daily default network, and the preset's
network by seed and averaged. Then the paired differences. `--before N` leaves out the newest N windows, as in the
development of the hourly preset. Each run is a look at the bars that it scores on. With `--home` every network is
recorded in that home's table of trials, so that reports and the strict rule correct for it; note it in docs/log.md too.

Run: python benchmarks/preset_skill.py 1h [FILE] [--before 10000] [--members 5] [--home .]
"""

import argparse
import logging
import os
import time
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from jaxtyping import Float64

from model.bars import Bars, Series, bars_from_frame
from model.baselines import BASELINES, predict_baseline
from model.bootstrap import bootstrap_intervals, paired_difference
from model.folds import split_folds
from model.networks import Scaling
from model.presets import DAILY, Preset, preset_for
from model.recipe import Recipe
from model.record import Record
from model.training import Trainer
from model.windows import Windows, WindowSpec, cut_windows
from tasks.settings import Settings
from tasks.sources.file_source import FileSource
from tasks.sources.source_spec import SourceSpec
from tasks.store.trial_log import Trial, trial_of
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
FILES = {"1h": DATA / "btc_usdt_hourly_binance.parquet", "1d": DATA / "btc_usd_daily_yahoo.csv.gz"}
# Every forecaster predicts the windows with this many earlier bars: the longest lookback that was tried.
LONGEST_LOOKBACK_BARS = {"1h": 48, "1d": 30}
Forecast = Float64[np.ndarray, " window"]


def main() -> None:
    """Print the table and the differences."""
    given = argparse.ArgumentParser(description="Skill of a preset on held-out bars.")
    given.add_argument("interval", choices=sorted(FILES))
    given.add_argument("file", nargs="?", type=Path, help="file of bars; default: the one in ../shared/data")
    given.add_argument("--before", type=int, default=0, help="newest windows to leave out")
    given.add_argument("--members", type=int, default=5, help="seeds whose probabilities are averaged")
    given.add_argument("--home", type=Path, help="home whose table of trials counts these looks; default: none")
    options = given.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("tasks").setLevel(logging.WARNING)
    file = options.file or FILES[options.interval]
    if not file.exists():
        log.info("no file %s: pass a file of %s bars (any layout)", file, options.interval)
        return
    source = SourceSpec(kind="csv", path=str(file), interval=options.interval)
    bars = bars_from_frame(FileSource(source).fetch().frame, options.interval)
    ends = cut_windows(bars, WindowSpec(lookback_bars=LONGEST_LOOKBACK_BARS[options.interval])).resolved().ends
    ends = ends[: len(ends) - options.before]
    preset = preset_for(options.interval)
    tested, forecasts = _forecasts(bars, ends, preset, options.members)
    labels = tested.labels
    if options.home:
        series = Series(source.symbol, options.interval)
        trials = trials_of(series, tested, forecasts, preset, options.members, datetime.now(UTC))
        Workspace(Settings(home=options.home), series).trial_log.append(trials)
        log.info("%d looks recorded in %s", len(trials), options.home)
    first, last = bars.closed_at[ends[-len(labels)]], bars.closed_at[ends[-1]]
    log.info("%d windows decided from %s to %s, %.2f %% rises", len(labels), first, last, 100 * labels.mean())
    for name, probabilities in forecasts.items():
        numbers = bootstrap_intervals(labels, probabilities, 7)
        intervals = [f"{n.value:.4f} ({n.low:.4f} to {n.high:.4f})" for n in (numbers["log_loss"], numbers["accuracy"])]
        log.info("%-46s log loss %s  accuracy %s", name, *intervals)
    ensemble = f"preset, {options.members} seeds averaged"
    for name in forecasts:
        if name != ensemble:
            found = paired_difference(labels, forecasts[ensemble], forecasts[name], 7)
            parts = (found.mean, found.low, found.high, found.p_value)
            log.info("%s minus %-46s %+.5f (%+.5f to %+.5f) p %.3f", ensemble, name, *parts)


def trials_of(
    series: Series, tested: Windows, forecasts: dict[str, Forecast], preset: Preset, members: int, now: datetime
) -> list[Trial]:
    """Return a trial for each network that was scored; the baselines are no recipes."""
    seeds = {f"preset, seed {7 + k}": (preset, {"seed": 7 + k, "members": 1}) for k in range(members)}
    networks = {
        "daily defaults, seed 7": (Preset(DAILY.window, preset.folds, DAILY.network, DAILY.training), {"seed": 7}),
        f"preset, {members} seeds averaged": (preset, {"seed": 7, "members": members}),
        **seeds,
    }
    trials = []
    for name, (trained, changes) in networks.items():
        if name not in forecasts:  # the daily defaults are the daily preset
            continue
        recipe = Recipe(
            symbol=series.symbol,
            interval=series.interval,
            window=trained.window,
            folds=trained.folds,
            network=trained.network,
            training=trained.training.model_copy(update=changes),
        )
        record = Record(
            tested.decided_at, tested.resolved_at, tested.labels, forecasts[name], np.zeros(len(tested), np.int64)
        )
        trial_id = f"preset_skill {now.isoformat()} {name}"
        trials.append(trial_of("benchmark", trial_id, recipe, record, forecasts["base_rate"], recorded_at=now))
    return trials


def _forecasts(bars: Bars, ends: np.ndarray, preset: Preset, members: int) -> tuple[Windows, dict[str, Forecast]]:
    """Return the test windows and every forecaster's P(rise)."""
    preset_windows, scores = _windows(bars, ends, preset), _windows(bars, ends, DAILY)
    folds = split_folds(preset_windows, preset.folds)
    forecasts: dict[str, Forecast] = {}
    inputs: list[tuple[Windows, Scaling, str]] = [(scores, "window", "z-scores of 30 bars")]
    if preset != DAILY:
        inputs.append((preset_windows, preset.network.scaling, "inputs of the preset's network"))
    for name in BASELINES:
        for windows, scaling, label in inputs:
            plain = name in ("base_rate", "persistence")
            folded = [
                predict_baseline(name, windows, np.concatenate([fold.train, fold.validation]), fold.test, 7, scaling)
                for fold in folds
            ]
            forecasts[name if plain else f"{name}, {label}"] = np.concatenate(folded)
    if preset != DAILY:
        daily = Preset(DAILY.window, preset.folds, DAILY.network, DAILY.training)
        forecasts["daily defaults, seed 7"] = _walk(daily, scores, (7,))[0]
    each = _walk(preset, preset_windows, tuple(range(7, 7 + members)))
    forecasts |= {f"preset, seed {7 + k}": probabilities for k, probabilities in enumerate(each)}
    forecasts[f"preset, {members} seeds averaged"] = np.mean(each, axis=0)
    return preset_windows.take(np.concatenate([fold.test for fold in folds])), forecasts


def _windows(bars: Bars, ends: np.ndarray, preset: Preset) -> Windows:
    windows = cut_windows(bars, preset.window).resolved()
    return windows.take(np.isin(windows.ends, ends))


def _walk(preset: Preset, windows: Windows, seeds: tuple[int, ...]) -> list[Forecast]:
    """Return the pooled P(rise) of each seed."""
    started = time.perf_counter()
    trainer = Trainer(preset.network, preset.training, windows.lookback_bars, windows.features.shape[1])
    pooled = []
    for seed in seeds:
        folded = []
        for fold in split_folds(windows, preset.folds):
            fitted = trainer.fit(windows, fold.train, fold.validation, seed=seed)
            folded.append(trainer.predict(fitted, windows.take(fold.test)))
        pooled.append(np.concatenate(folded))
        log.info("seed %d: %.0f s so far", seed, time.perf_counter() - started)
    return pooled


if __name__ == "__main__":
    main()

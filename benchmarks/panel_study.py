"""Does pooling many coins pay? Panels walked forward, vs. the base rate, boosting and model-free ranks, net of costs.

Two phases. `develop` scores several candidates on bars before the held-back span; `score` scores the chosen ones, once,
on the held-back span. Both print log loss vs. every baseline with paired intervals, the area under the curve within
each close, and the market-neutral portfolio of fifths; intervals draw whole closes in blocks. The protocol, written
before the scoring, and the results are in docs/does-it-pay.md. Every run is a look at the bars that it scores: before
it shows a score it writes a row in the table `trials` of a home, under the name of the file of bars, and prints the
count.

Run: python benchmarks/panel_study.py {develop,score} [--only NAME ...] [--members N] [--seed N] [--keep FOLDER]
     [--home FOLDER]
"""

import argparse
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd
from jaxtyping import Float64

from model.bars import Bars, IntervalName, bars_from_frame, interval_delta
from model.baseline_records import BOOSTING, REVERSAL, BaselineRecords, boosting_records, reversal_records
from model.bootstrap import compare_losses
from model.calibration_error import perfectly_calibrated_error, reliability_curve
from model.correction_for_looks import Looks
from model.ensemble import open_trainer
from model.factor_model import FACTOR_MODEL, walk_factor_model
from model.folds import Fold, FoldSpec, split_folds
from model.metrics import score
from model.networks import NetworkSpec
from model.panel import Panel, PanelSpec, cut_panel
from model.panel_policies import learn_bands, trade_panel
from model.panel_portfolio import quantile_portfolio
from model.panel_recipe import PanelRecipe
from model.panel_scores import auc_by_bar, mean_interval
from model.presets import HOURLY
from model.record import Record
from model.sharpe_and_break_even import BPS
from model.trading_policies import POLICIES
from model.training import TrainingSpec
from model.walk_forward import FoldFit, fit_fold, pool_records, walk_baselines_forward
from model.windows import WindowSpec
from tasks.settings import Settings
from tasks.store.trial_log import TrialLog, count_looks, trial_of

log = logging.getLogger(__name__)

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
COST_BPS = 5.0  # per side: a taker's fee on perpetuals
SEED = 7
BITCOIN = "BTC-USDT"
YEAR_2025 = np.datetime64("2025-01-01")
SPOT_1H, PERP_1H = "panel_hourly_binance.parquet", "panel_hourly_binance_perp.parquet"
SPOT_1D, PERP_1D = "panel_daily_binance.parquet", "panel_daily_bybit.parquet"
Forecast = Float64[np.ndarray, " window"]


@dataclass(frozen=True, slots=True)
class Question:
    """One panel and label, with the bars that each phase tests on: opened from `first`, before `end` ("": all)."""

    interval: IntervalName
    panel: PanelSpec
    develop: tuple[str, str, str]
    score: tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network that is tried on a question."""

    question: str
    window: WindowSpec
    network: NetworkSpec
    training: TrainingSpec
    inputs: str
    symbols: tuple[str, ...] = ()


RISE, RANK = PanelSpec(label="rise", reference=BITCOIN), PanelSpec(label="rank", reference=BITCOIN)
QUESTIONS = {
    "hourly rise": Question("1h", RISE, (SPOT_1H, "2023-06-01", "2024-05-08"), (PERP_1H, "2024-06-01", "")),
    "daily rise": Question("1d", RISE, (SPOT_1D, "2022-01-01", "2024-01-01"), (SPOT_1D, "2024-01-01", "")),
    "daily rank": Question("1d", RANK, (SPOT_1D, "2022-01-01", "2024-01-01"), (SPOT_1D, "2024-01-01", "")),
    "daily rank, perpetuals": Question(
        "1d", RANK, (PERP_1D, "2023-01-01", "2024-01-01"), (PERP_1D, "2024-01-01", "2025-11-13")
    ),
}
FAST = TrainingSpec(batch_size=1024, epochs=40, patience=6, plateau_patience=3)
CALM = FAST.model_copy(update={"calibration": "temperature"})
DAY, HOUR = WindowSpec(), HOURLY.window
ANCHORED = HOURLY.network
CANDIDATES = {
    "hourly: preset": Candidate("hourly rise", HOUR, ANCHORED, FAST, "own"),
    "hourly: preset, calibrated": Candidate("hourly rise", HOUR, ANCHORED, CALM, "own"),
    "hourly: Bitcoin alone": Candidate("hourly rise", HOUR, ANCHORED, CALM, "own", (BITCOIN,)),
    "daily: Bitcoin alone": Candidate("daily rise", DAY, ANCHORED, CALM, "own", (BITCOIN,)),
    "daily: cross-section, calibrated": Candidate("daily rise", DAY, ANCHORED, CALM, "cross_section"),
    "rank: z-scores, cross-section": Candidate("daily rank", DAY, NetworkSpec(), FAST, "cross_section"),
    "rank: cross-section": Candidate("daily rank", DAY, ANCHORED, FAST, "cross_section"),
    "rank: cross-section, calibrated": Candidate("daily rank", DAY, ANCHORED, CALM, "cross_section"),
    "perpetuals: cross-section, calibrated": Candidate("daily rank, perpetuals", DAY, ANCHORED, CALM, "cross_section"),
}
CHOSEN: tuple[str, ...] = (  # by `develop`; see docs/does-it-pay.md
    "hourly: preset, calibrated",
    "hourly: Bitcoin alone",
    "daily: cross-section, calibrated",
    "daily: Bitcoin alone",
    "rank: cross-section, calibrated",
    "perpetuals: cross-section, calibrated",
)


def main() -> None:
    """Print the tables of a phase."""
    given = argparse.ArgumentParser(description="Pooled training on panels of coins.")
    given.add_argument("phase", choices=("develop", "score"))
    given.add_argument("--only", nargs="*", default=(), help="candidates, by name")
    given.add_argument("--members", type=int, default=1, help="seeds whose probabilities are averaged")
    given.add_argument("--folds", type=int, default=2, help="test folds; the network is trained once for each")
    given.add_argument("--seed", type=int, default=SEED, help="of the training; the bootstrap's stays")
    given.add_argument("--home", type=Path, help="whose table of trials counts the looks; default: RISEORFALL_HOME")
    given.add_argument("--keep", type=Path, help="folder for the out-of-sample records, as Parquet")
    options = given.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    names = options.only or (CHOSEN if options.phase == "score" else tuple(CANDIDATES))
    if not DATA.exists():
        log.info("no folder %s: the panels are not part of the repository", DATA)
        return
    settings = Settings(home=options.home) if options.home else Settings()
    looks = TrialLog(settings.store_root, settings.storage_options())
    training = {"members": options.members, "seed": options.seed}
    records = {
        name: study(name, CANDIDATES[name], options.phase, training, options.folds, options.keep, looks)
        for name in names
    }
    print_pairs(records)


def study(
    name: str, candidate: Candidate, phase: str, seeds: dict[str, int], folds: int, keep: Path | None, looks: TrialLog
) -> Record:
    """Walk one candidate and its baselines forward, count the look, and print the scores; return the network's record.

    Boosting and logistic regression learn from every window that trains and validates the network, without the limit
    that a retrain has; the factor model's coefficients from the training windows.
    """
    started = time.perf_counter()
    question = QUESTIONS[candidate.question]
    file, first, end = question.develop if phase == "develop" else question.score
    bars = load_panel(DATA / file, question.interval, end)
    bars = {symbol: bars[symbol] for symbol in candidate.symbols or bars}
    spec = PanelSpec.model_validate({**question.panel.model_dump(), "inputs": candidate.inputs})
    panel = cut_panel(bars, candidate.window, spec).resolved()
    tests = len(np.unique(panel.windows.decided_at[panel.windows.decided_at > np.datetime64(first)]))
    cut = FoldSpec(test_bars=tests, count=folds)
    split = split_folds(panel.windows, cut)
    training = candidate.training.model_copy(update=seeds)
    fits = fit_folds(panel, split, candidate.network, training)
    record, validation = (pool_records([getattr(fit, part) for fit in fits]) for part in ("record", "validation"))
    scaling, factors = candidate.network.scaling, walk_factor_model(panel, split, spec.label)
    forecasts = {
        "network": record.probabilities,
        **walk_baselines_forward(panel.windows, split, SEED, scaling, max_windows=None),
        FACTOR_MODEL: factors.records.test.probabilities,
    }
    tested = panel.tested(split)
    seconds = time.perf_counter() - started
    log.info(
        "\n## %s, %s (%d seeds from %d on, %d folds, %.0f s)",
        name, phase, seeds["members"], seeds["seed"], folds, seconds,
    )  # fmt: skip
    recipe = PanelRecipe(
        interval=question.interval,
        window=candidate.window,
        folds=cut,
        network=candidate.network,
        training=training,
        panel=spec.model_copy(update={"symbols": tuple(sorted(bars))}),
    )
    found = record_look(looks, Path(file).stem, recipe, record, forecasts["base_rate"], datetime.now(UTC))
    log.info("look %d at %s: %s", found.looks, file, found)
    print_scores(record, forecasts)
    if len(bars) > 1:
        print_ranks(tested, record, {**forecasts, FACTOR_MODEL: factors.scores})
    if spec.label == "rank":
        print_doubts(tested, record)
    if spec.label == "rise":
        validated = panel.returns[np.concatenate([fold.validation for fold in split])]
        traded = {
            "network": BaselineRecords(record, (validation,)),
            BOOSTING: boosting_records(panel.windows, split, forecasts[BOOSTING], SEED, scaling, max_windows=None),
            FACTOR_MODEL: factors.records,
            REVERSAL: reversal_records(panel.windows, split, panel.unusual_moves()),
        }
        for forecaster, each in traded.items():
            print_policies(forecaster, tested, each.test, pool_records(each.validation), validated)
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        frame = record.frame().assign(returns=tested.returns, **forecasts)
        frame.to_parquet(keep / f"{phase} {name}.parquet".replace(" ", "_").replace(":", "").replace(",", ""))
    return record


def record_look(
    looks: TrialLog, name: str, recipe: PanelRecipe, record: Record, base_rate: Forecast, now: datetime
) -> Looks:
    """Append a row of the table `trials`, and return how often these test bars were scored, this time included.

    Args:
        looks: the table.
        name: of the bars. Panels of one exchange share their symbols, so the bars of a file have its name.
        recipe: what was trained.
        record: of all series.
        base_rate: shape (window,), float64: the base rate's probability on the same windows.
        now: time of writing, UTC.
    """
    trial = trial_of("benchmark", f"panel_study {now.isoformat()} {name}", recipe, record, base_rate, recorded_at=now)
    # Forecasts are stored by close alone, which several windows of a panel share.
    looks.append([replace(trial, symbol=name, forecasts=None)])
    trials = looks.trials(name, recipe.interval)
    return count_looks(trials, trial.test_first, trial.test_last)


def print_pairs(records: Mapping[str, Record]) -> None:
    """Compare candidates of one question on the decisions about Bitcoin that both made."""
    for first, second in combinations(records, 2):
        if CANDIDATES[first].question == CANDIDATES[second].question:
            ours, theirs = (each.take(each.symbols == BITCOIN) for each in (records[first], records[second]))
            ours, theirs = ours.common_decisions(theirs)
            found = compare_losses(ours, theirs.probabilities, SEED)
            parts = (found.mean, found.low, found.high, found.p_value)
            log.info("Bitcoin, %s minus %s: %+.5f [%+.5f, %+.5f] p %.3f", first, second, *parts)


def load_panel(file: Path, interval: str, end: str) -> dict[str, Bars]:
    """Read a panel file; bars opened from `end` on are dropped before anything else sees them."""
    frame = pd.read_parquet(file).drop_duplicates(["symbol", "timestamp"])
    frame["timestamp"] = pd.to_datetime(frame["timestamp"], utc=True)
    if end:
        frame = frame[frame["timestamp"] < pd.Timestamp(end, tz="UTC")]
    return {
        str(symbol).replace("/", "-"): bars_from_frame(part.drop(columns="symbol").reset_index(drop=True), interval)
        for symbol, part in frame.groupby("symbol")
    }


def fit_folds(panel: Panel, folds: tuple[Fold, ...], network: NetworkSpec, training: TrainingSpec) -> list[FoldFit]:
    """Fit the network on every fold."""
    windows = panel.windows
    shape = (windows.lookback_bars, windows.features.shape[1], windows.context_count)
    trainer = open_trainer(network, training, *shape)
    fits = []
    for fold in folds:
        fits.append(fit_fold(trainer, windows, fold, training.seed))
        losses = " ".join(f"{epoch.validation_loss:.5f}" for epoch in fits[-1].history)
        log.info("fold %d: %d windows, %.0f s, validation %s", fold.index, len(fold.train), fits[-1].seconds, losses)
    return fits


def print_scores(record: Record, forecasts: Mapping[str, Forecast]) -> None:
    """Print the log loss of every forecaster, on all coins and on Bitcoin, and the network's differences."""
    closes = record.decided_at
    coins = len(np.unique(record.symbols))
    log.info("%d windows of %d coins, %s to %s", len(record), coins, closes[0], closes[-1])
    found = reliability_curve(record.labels, record.probabilities).expected_error
    perfect = perfectly_calibrated_error(record, SEED)
    log.info("calibration error of the network %.4f, of a perfect forecaster %.4f", found, perfect)
    bitcoin = record.symbols == BITCOIN
    subsets = {"all": np.full(len(record), True), BITCOIN: bitcoin, "BTC 2025-": bitcoin & (closes >= YEAR_2025)}
    for subset, chosen in subsets.items():
        part = record.take(chosen)
        if not len(part) or (subset == "BTC 2025-" and closes[0] >= YEAR_2025):
            continue
        for name, probabilities in forecasts.items():
            numbers = score(part.labels, probabilities[chosen])
            line = f"{subset:8} {name:20} log loss {numbers['log_loss']:.5f} accuracy {numbers['accuracy']:.4f}"
            if name != "network":
                paired = compare_losses(part, probabilities[chosen], SEED)
                bounds = f"[{paired.low:+.5f}, {paired.high:+.5f}]"
                line += f"   network minus it {paired.mean:+.5f} {bounds} p {paired.p_value:.3f}"
            log.info("%s", line)


def print_ranks(tested: Panel, record: Record, forecasts: Mapping[str, Forecast]) -> None:
    """Print the area under the curve within a close, and the portfolio of fifths, of forecasters and plain ranks."""
    bar = interval_delta(tested.windows.interval)
    ours = auc_by_bar(record, record.probabilities)
    for name, scores in {**forecasts, **tested.plain_ranks()}.items():
        if np.ptp(scores) == 0 or name == "base_rate":
            continue
        theirs = auc_by_bar(record, scores)
        area, ahead = mean_interval(theirs, SEED), mean_interval(ours - theirs, SEED)
        held = quantile_portfolio(record, scores, tested.returns, COST_BPS, bar, SEED)
        even, sharpe = held.break_even_bps, held.sharpe
        log.info(
            "%-20s AUC within a close %.4f [%.4f, %.4f], network ahead by %+.4f [%+.4f, %+.4f]; fifths: gross %.1f bps "
            "a bar, break-even %.1f [%.1f, %.1f] bps a side, net Sharpe %.2f [%.2f, %.2f]",
            name,
            area.value,
            area.low,
            area.high,
            ahead.value,
            ahead.low,
            ahead.high,
            held.gross_bps,
            even.value,
            even.low,
            even.high,
            sharpe.value,
            sharpe.low,
            sharpe.high,
        )


def print_doubts(tested: Panel, record: Record) -> None:
    """Print the network's portfolio executed a bar late, and by half-year: is it quick, and is it one lucky span?"""
    bar = interval_delta(tested.windows.interval)
    late = pd.Series(record.probabilities).groupby(record.symbols).shift(1).to_numpy()
    known = np.flatnonzero(np.isfinite(late))
    held = quantile_portfolio(record.take(known), late[known], tested.returns[known], COST_BPS, bar, SEED)
    even = held.break_even_bps
    log.info(
        "a bar late: gross %.1f bps a bar, break-even %.1f [%.1f, %.1f]",
        held.gross_bps,
        even.value,
        even.low,
        even.high,
    )
    whole = quantile_portfolio(record, record.probabilities, tested.returns, COST_BPS, bar, SEED)
    months = np.unique(record.decided_at).astype("datetime64[M]").astype(np.int64)
    for half in np.unique(months // 6).tolist():
        earned = whole.gross[months // 6 == half]
        log.info("%d, half %d: gross %.1f bps a bar", 1970 + half // 2, half % 2 + 1, earned.mean() / BPS)


def print_policies(
    forecaster: str, tested: Panel, record: Record, validation: Record, validated: Float64[np.ndarray, " window"]
) -> None:
    """Print a forecaster's policies on all coins in equal parts, and on Bitcoin; validation windows give the bands."""
    bar = interval_delta(tested.windows.interval)
    for policy in POLICIES:
        bands = learn_bands(policy, validation, validated, COST_BPS, bar)
        log.info("%s, %s: %s", forecaster, policy, "; ".join(f"fold {number} {band}" for number, band in bands.items()))
        for subset in ("all", BITCOIN)[: len(np.unique(record.symbols))]:
            chosen = np.arange(len(record)) if subset == "all" else np.flatnonzero(record.symbols == subset)
            found = trade_panel(record.take(chosen), tested.returns[chosen], bands, COST_BPS, bar, SEED)
            even, sharpe = found.break_even_bps, found.sharpe
            gross, traded = found.gross.mean() / BPS, found.traded.mean()
            log.info(
                "%-19s %-8s %-14s gross %.2f bps a bar, traded %.3f a bar, exposure %.2f; break-even %.1f [%.1f, %.1f] "
                "bps a side; at %.0f bps net %.2f bps a bar, Sharpe %.2f [%.2f, %.2f]",
                forecaster, subset, policy, gross, traded, found.exposure, even.value, even.low, even.high, COST_BPS,
                found.net_bps, sharpe.value, sharpe.low, sharpe.high,
            )  # fmt: skip


if __name__ == "__main__":
    main()

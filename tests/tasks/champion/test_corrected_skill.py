"""The strict rule corrects a challenger's evidence for everything that was scored on its test bars."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_bars import random_walk
from synthetic_records import forecast, loud_forecast
from tiny_home import SERIES, WINDOW, tiny_home

from model.correction_for_looks import Looks
from model.errors import UnsoundModel
from model.multiple_testing import deflated_sharpe_ratio, forecast_skill
from model.predictor import Predictor
from model.promotion_rule import PromotionRule
from model.recipe import Recipe
from model.record import Record
from model.trading import TradingSpec, trade
from model.windows import cut_windows
from tasks.champion.challenger_decision import logged_decision
from tasks.champion.challenger_vs_champion import compare_with_champion
from tasks.champion.commit_decision import ChampionState
from tasks.champion.corrected_skill import comparable_records, deflated_sharpe_ratios, recipes_tried, skill_on
from tasks.registry.run_artifacts import log_artifacts, log_record, log_validation, parquet_bytes
from tasks.store.trial_log import Trial, count_looks, trial_of
from tasks.workspace import Workspace

STRICT = PromotionRule(kind="strict")
BARS = random_walk(400, seed=3)
NOW = datetime(2026, 11, 26, tzinfo=UTC)
HALF = np.full(300, 0.5)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A home with one version, whose out-of-sample record has skill on 300 windows."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace = Workspace(tiny_home(tmp_path, BARS, 400), SERIES)
    run_id = workspace.registry.version("1").run_id
    log_record(workspace.runs, run_id, skilled(), {"base_rate": HALF})
    decided_at, probabilities = Predictor(workspace.registry.read_version("1").onnx(), WINDOW).predict(BARS)
    probe = pd.DataFrame({"decided_at": decided_at[-20:], "probability": probabilities[-20:]})
    log_artifacts(workspace.runs, run_id, {"network/probe.parquet": parquet_bytes(probe)})
    workspace.trial_log.append([trial("own", 0, skilled(), run_id=run_id)])
    return workspace


def skilled() -> Record:
    """Return a record of the newest 300 windows that is right on 59 % of them."""
    windows = cut_windows(BARS, WINDOW).resolved()
    newest = windows.take(np.arange(len(windows) - 300, len(windows)))
    probabilities = forecast(newest.labels, 0.58, seed=8)
    return Record(newest.decided_at, newest.resolved_at, newest.labels, probabilities, np.zeros(300, dtype=np.int64))


def trial(name: str, seed: int, record: Record, *, at: datetime = NOW, run_id: str = "") -> Trial:
    """Return a trial of a recipe of its own."""
    recipe = Recipe.model_validate({"window": WINDOW, "training": {"seed": seed}})
    return trial_of("retrain", name, recipe, record, np.full(len(record), 0.5), recorded_at=at, run_id=run_id)


def useless(seed: int) -> Record:
    record = skilled()
    return replace(record, probabilities=loud_forecast(record.labels, seed=seed, spread=0.1))


def test_every_trial_on_the_test_bars_counts(workspace: Workspace) -> None:
    record, hour = skilled(), timedelta(hours=1)
    run_id = workspace.registry.version("1").run_id
    earlier = record.take(np.arange(100))
    workspace.trial_log.append(
        [
            trial("other", 1, useless(1), at=NOW - hour),
            trial("refit", 0, useless(2), at=NOW - hour),
            trial("earlier", 2, earlier, at=NOW - hour),
            replace(trial("unknown", 3, useless(3), at=NOW - hour), forecasts=None),
            trial("later", 4, useless(4), at=NOW + hour),
            replace(trial("elsewhere", 5, useless(5)), test_first=NOW, test_last=NOW),
        ]
    )
    found = recipes_tried(workspace, run_id, record)
    assert found.looks == Looks(6, 5)  # own, other, refit (own recipe), earlier, unknown, later
    assert (found.unknown, found.decided) == (1, 0)
    assert found.skill.shape == (4, 300)
    expected = {
        "other": forecast_skill(record.labels, HALF, useless(1).probabilities),
        "earlier": np.where(np.arange(300) < 100, forecast_skill(record.labels, HALF, record.probabilities), np.nan),
    }
    for skill in expected.values():
        assert any(np.allclose(skill, row, atol=1e-6, equal_nan=True) for row in found.skill)


def test_a_replayed_day_is_decided_as_it_was_on_that_day(workspace: Workspace) -> None:
    day = replace(trial("day", 9, skilled(), run_id="replayed"), kind="replay")
    workspace.trial_log.append([day, trial("later", 4, useless(4), at=NOW + timedelta(hours=1))])
    assert recipes_tried(workspace, "replayed", skilled()).looks == Looks(2, 2)  # with the version of the home


def test_recipes_that_are_decided_one_after_another_share_the_level(workspace: Workspace) -> None:
    version, nobody = workspace.registry.version("1"), ChampionState(None, None)
    ref = workspace.bar_store.ref(SERIES)
    for seed in (1, 2):
        workspace.trial_log.append([trial(f"recipe {seed}", seed, useless(seed), run_id=f"run {seed}")])
        found = compare_with_champion(workspace, version, nobody, BARS, STRICT, seed=7)
        row = logged_decision(workspace, version, nobody, found, STRICT, ref)
        other = {"decision_id": f"run {seed}", "run_id": f"run {seed}", "version": f"{10 + seed}"}
        held = replace(row, **other, action="hold", champion_after=None)
        workspace.decision_log.append_if_current(held)
    workspace.trial_log.append(
        [trial("daily", 3, useless(3), run_id="daily"), trial("own", 0, useless(4), run_id="own")]
    )
    for run_id, rule in (("daily", "daily"), ("own", "strict")):  # another rule; the challenger's own recipe
        held = replace(
            row, decision_id=run_id, run_id=run_id, version="20", action="hold", champion_after=None, rule=rule
        )
        workspace.decision_log.append_if_current(held)
    numbers = compare_with_champion(workspace, version, nobody, BARS, STRICT, seed=7).decision.numbers
    assert numbers["recipes_tried.decisions"] == 3
    assert numbers["recipes_tried.alpha"] == pytest.approx(0.05 * 6 / np.pi**2 / 9)


def test_the_skill_of_another_horizon_is_by_its_own_labels() -> None:
    record = skilled()
    flipped = replace(record, labels=(1 - record.labels).astype(np.int8))
    assert skill_on(trial("five", 1, flipped), record) == pytest.approx(
        forecast_skill(flipped.labels, HALF, record.probabilities)
    )


@pytest.mark.e2e
def test_the_strict_rule_holds_what_is_significant_alone_and_not_after_correction(workspace: Workspace) -> None:
    version, nobody = workspace.registry.version("1"), ChampionState(None, None)
    alone = compare_with_champion(workspace, version, nobody, BARS, STRICT, seed=7)
    assert alone.decision.action == "promote", alone.reasons
    assert alone.decision.numbers["recipes_tried.looks"] == 1
    workspace.trial_log.append([trial(f"null {seed}", seed, useless(seed)) for seed in range(1, 400)])
    searched = compare_with_champion(workspace, version, nobody, BARS, STRICT, seed=7)
    failed = [clause.name for clause in searched.decision.clauses if not clause.passed]
    assert (searched.decision.action, failed) == ("hold", ["recipes_tried"])
    numbers = searched.decision.numbers
    assert numbers["recipes_tried.p_value"] == pytest.approx(alone.decision.numbers["recipes_tried.p_value"])
    assert numbers["recipes_tried.p_value_corrected"] > 0.05 > numbers["recipes_tried.p_value"]
    row = logged_decision(workspace, version, nobody, searched, STRICT, workspace.bar_store.ref(SERIES))
    assert (
        "after correction for the recipes tried (these test bars were scored 400 times, with 400 recipes)"
        in row.reasons[0]
    )
    assert row.reasons[0].endswith(
        "not significant (needed: p <= 0.03; 5% is shared by all strict decisions on these bars, this is number 1)"
    )
    daily = compare_with_champion(workspace, version, nobody, BARS, PromotionRule(), seed=7)
    assert daily.decision.action == "promote"


def test_the_sharpe_ratio_is_deflated_by_the_recipes_tried(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, own = skilled(), workspace.trial_log.trials("BTC-USD", "1d")[0]
    few, costs = useless(3).take(np.arange(100)), TradingSpec(cost_bps=20)
    workspace.trial_log.append(
        [
            trial("first", 1, useless(1), at=NOW - timedelta(hours=1)),
            trial("newest of its recipe", 1, useless(2)),
            trial("too few windows", 3, few),
            replace(trial("unknown", 4, useless(4)), forecasts=None),
        ]
    )
    trials = workspace.trial_log.trials("BTC-USD", "1d", forecasts=True)
    others, recipes = (
        comparable_records(workspace.trial_log, trials, own, record),
        count_looks(trials, own.test_first, own.test_last).recipes,
    )
    without = [replace(each, recipe=own.recipe) for each in trials]  # a refit every day of one recipe
    with monkeypatch.context() as patched:
        patched.setattr("tasks.store.trial_log.read_rows", None)
        assert comparable_records(workspace.trial_log, without, own, record) == []
    found = deflated_sharpe_ratios(record, others, recipes, BARS, costs)
    for way in ("long_flat", "long_short"):
        spec = costs.model_copy(update={"kind": way})
        ours, theirs = (trade(each, BARS, spec, 1).strategy.net_returns for each in (record, useless(2)))
        variance = (ours.mean() / ours.std() - theirs.mean() / theirs.std()) ** 2 / 2
        assert found[way] == pytest.approx(deflated_sharpe_ratio(ours, 4, variance), abs=1e-6)  # stored as float32


def test_the_strict_rule_trades_by_its_policy_learned_on_the_stored_validation_windows(workspace: Workspace) -> None:
    version, nobody = workspace.registry.version("1"), ChampionState(None, None)
    rule = PromotionRule(kind="strict", trading=TradingSpec(policy="threshold", cost_bps=20))
    with pytest.raises(UnsoundModel, match=r"validation\.parquet"):
        compare_with_champion(workspace, version, nobody, BARS, rule, seed=7)
    windows = cut_windows(BARS, WINDOW).resolved()
    past = windows.take(np.arange(20, len(windows) - 301))
    p = forecast(past.labels, 0.58, seed=9)
    validation = Record(past.decided_at, past.resolved_at, past.labels, p, np.zeros(len(past), dtype=np.int64))
    log_validation(workspace.runs, version.run_id, [validation])
    found = compare_with_champion(workspace, version, nobody, BARS, rule, seed=7).decision.numbers
    expected = trade(skilled(), BARS, rule.trading, 7, [validation]).strategy
    assert found["net_of_costs.net_return"] == pytest.approx(expected.net_return)
    plain = compare_with_champion(workspace, version, nobody, BARS, STRICT, seed=7).decision.numbers
    assert plain["net_of_costs.net_return"] == trade(skilled(), BARS, TradingSpec(), 7).strategy.net_return
    assert plain["net_of_costs.net_return"] != pytest.approx(expected.net_return)


def test_recipes_without_stored_probabilities_count_by_bonferroni(workspace: Workspace) -> None:
    version, nobody = workspace.registry.version("1"), ChampionState(None, None)
    unknown = [replace(trial(f"old {seed}", seed, useless(seed)), forecasts=None) for seed in range(1, 31)]
    workspace.trial_log.append(unknown)
    numbers = compare_with_champion(workspace, version, nobody, BARS, STRICT, seed=7).decision.numbers
    alone = numbers["recipes_tried.p_value"]
    assert numbers["recipes_tried.p_value_corrected"] == pytest.approx(min(1, 31 * alone))

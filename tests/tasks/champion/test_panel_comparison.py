"""A panel's challenger and champion are compared on the windows that both decided, and on one question only.

Versions are registered with tiny networks; the numbers expected here are computed from the records by hand.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from panel_home import SYMBOLS, add_panel_version, coins, panel_recipe, tiny_predictor, tiny_record

from model.bars import PANEL, Bars, Series
from model.bootstrap import paired_difference
from model.panel import cut_panel
from model.panel_recipe import PanelRecipe
from model.promotion_rule import PromotionRule
from model.recipe import Recipe
from model.record import Record
from model.windows import WindowSpec
from tasks.champion.challenger_vs_champion import GateResult, compare_with_champion
from tasks.champion.commit_decision import ChampionState
from tasks.champion.registered_network import check_registered_network
from tasks.registry.model_registry import Version
from tasks.registry.run_artifacts import PROBE, parquet_bytes
from tasks.settings import Settings
from tasks.workspace import Workspace

SERIES, BARS, RECIPE, RULE = Series(PANEL, "1d"), coins(), panel_recipe(), PromotionRule(base_rate_margin=1)
CLOSED = BARS["BTC-USD"].closed_at
EARLIER, LATEST = CLOSED[-61], CLOSED[-1]  # ends of the trainings of versions 1 and 2
RANK = {"label": "rank", "least_series": 3}
FOLD_GAINS = (20.0, 24.0, 18.0)


def flipped(record: Record, symbols: tuple[str, ...] = SYMBOLS) -> Record:
    """Return a record whose probabilities of some series are right nine times of ten."""
    own = np.isin(record.symbols, symbols)
    right = np.where(record.labels == 1, 0.9, 0.1)
    return replace(record, probabilities=np.where(own, right, record.probabilities))


def loss(record: Record) -> np.ndarray:
    return -np.log(np.where(record.labels == 1, record.probabilities, 1 - record.probabilities))


@pytest.fixture(scope="module")
def template(template_home: Path) -> Path:
    """Version 1 of gain 2, trained until 60 closes before the end; version 2 of gain 3, trained until the end."""
    workspace = Workspace(Settings(home=template_home, tracking_uri="", store=""), SERIES)
    known = {symbol: bars.closed_by(EARLIER) for symbol, bars in BARS.items()}
    own = flipped(tiny_record(RECIPE, known, 2.0, closes=40))  # other numbers than its final network predicts
    add_panel_version(workspace, RECIPE, BARS, own, 2.0, EARLIER)
    add_panel_version(workspace, RECIPE, BARS, tiny_record(RECIPE, BARS, 3.0), 3.0, LATEST)
    return template_home


def compare(
    workspace: Workspace, challenger: str = "2", champion: str = "1", rule: PromotionRule = RULE, **bars: Bars
) -> GateResult:
    state = ChampionState(champion, workspace.registry.version(champion))
    return compare_with_champion(workspace, workspace.registry.version(challenger), state, bars or BARS, rule, seed=7)


def add(workspace: Workspace, recipe: PanelRecipe = RECIPE, gain: float = 3.0, record: Record | None = None) -> Version:
    return add_panel_version(workspace, recipe, BARS, record or tiny_record(recipe, BARS, gain), gain, LATEST)


def test_champion_and_challenger_are_paired_by_close_and_series(workspace: Workspace) -> None:
    """The champion by its own record until the end of its training, and by what its network predicts after it."""
    ours, own = tiny_record(RECIPE, BARS, 3.0), workspace.registry.read_version("1").record()
    keys = [list(zip(each.symbols, each.decided_at, strict=True)) for each in (own, ours)]
    theirs = dict(zip(keys[0], own.probabilities, strict=True))
    windows = cut_panel(BARS, RECIPE.window, RECIPE.panel).windows
    predicted = tiny_predictor(RECIPE, 2.0).predict_windows(windows)
    for symbol, at, probability in zip(windows.symbols, windows.decided_at, predicted, strict=True):
        if at >= EARLIER:
            theirs.setdefault((symbol, at), probability)
    common = np.array([key in theirs for key in keys[1]])
    shared = ours.take(common)
    champion = np.array([theirs[key] for key in keys[1] if key in theirs])
    found = compare(workspace).decision.numbers
    assert len(np.unique(shared.symbols)) == 3
    assert found["champion.n"] == common.sum() == 300  # 20 closes before its record would be in-sample: no decisions
    expected = loss(shared) - loss(replace(shared, probabilities=champion))
    assert expected.mean() > 0.1  # the champion is much better where its record is right
    assert found["champion.difference"] == pytest.approx(expected.mean(), abs=1e-7)
    closes, numbers = np.unique(shared.decided_at, return_inverse=True)
    assert 4**3 < len(closes) <= 5**3  # whole closes are drawn, in blocks of 5: the cube root of their number
    labels = shared.labels
    interval = paired_difference(labels, shared.probabilities, champion, 7, 5, 1, bar_numbers=numbers)
    assert (found["champion.low"], found["champion.high"]) == pytest.approx((interval.low, interval.high), abs=1e-7)


def test_the_better_one_wins_whichever_side_it_is_on(workspace: Workspace) -> None:
    good = add(workspace, gain=3.5, record=flipped(tiny_record(RECIPE, BARS, 3.0))).version
    held, promoted = compare(workspace, "2", good), compare(workspace, good, "2")
    assert (held.decision.action, promoted.decision.action) == ("hold", "promote")
    assert held.decision.numbers["champion.difference"] == -promoted.decision.numbers["champion.difference"] > 0.1


def test_a_record_of_one_series_is_not_taken_for_that_of_another(workspace: Workspace) -> None:
    """The champion decided BTC-USD only, at the closes of all: a third of the windows is common."""
    whole = tiny_record(RECIPE, BARS, 3.0)
    alone = whole.take(whole.symbols == "BTC-USD")
    champion = add(workspace, record=flipped(alone)).version
    found = compare(workspace, "2", champion).decision.numbers
    assert found["champion.n"] == len(alone) == 120
    assert found["champion.difference"] == pytest.approx((loss(alone) + np.log(0.9)).mean())


@pytest.mark.parametrize(
    ("ours", "theirs", "described"),
    [
        (RANK, {}, "label rank, 1 bar ahead, among 3 series at closes of at least 3; the champion label rise"),
        ({"horizon_bars": 2}, {}, "label rise, 2 bars ahead; the champion label rise, 1 bar ahead"),
        (RANK, RANK | {"symbols": SYMBOLS[:2]}, "among 3 series, ETH-USD among them, at closes of at least 3;"),
        (RANK | {"symbols": SYMBOLS[1:]}, RANK | {"symbols": SYMBOLS[:2]}, "among 2 series, ETH-USD among them"),
        (RANK, RANK | {"least_series": 2}, "at closes of at least 3; the champion label rank, 1 bar ahead,"),
    ],
    ids=["label", "horizon", "fewer series", "other series", "least series"],
)
def test_two_questions_are_not_compared(
    ours: dict[str, Any], theirs: dict[str, Any], described: str, workspace: Workspace
) -> None:
    """Neither is worse, and both records share every window: what they are asked differs."""
    recipes = [_recipe(**chosen) for chosen in (ours, theirs)]
    record = tiny_record(RECIPE, BARS, 3.0)
    challenger, champion = (add(workspace, recipe, record=record).version for recipe in recipes)
    found = compare(workspace, challenger, champion)
    assert found.decision.action == "hold"
    assert described in found.reasons[0]
    assert "they are not compared" in found.reasons[0]
    assert (
        f'riseorfall promote --version {challenger} --symbol PANEL --interval 1d --force --reason "...", or the form '
        "promote with force"
    ) in found.reasons[0]
    assert "champion.difference" not in found.decision.numbers
    assert found.decision.marks[0] == "failed"


def _recipe(horizon_bars: int = 1, **panel: Any) -> PanelRecipe:
    recipe = panel_recipe(**{"least_series": 3} | panel)
    return recipe.model_copy(update={"window": WindowSpec(lookback_bars=5, horizon_bars=horizon_bars)})


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {"symbols": SYMBOLS[:2]}),
        ({}, {"least_series": 2}),
        (RANK, RANK),
        (RANK, RANK | {"inputs": "cross_section"}),
    ],
    ids=["rise of other series", "rise with another number", "same ranks", "ranks by other inputs"],
)
def test_one_question_is_compared_whatever_else_differs(
    ours: dict[str, Any], theirs: dict[str, Any], workspace: Workspace
) -> None:
    record = tiny_record(RECIPE, BARS, 3.0)
    better = replace(record, probabilities=0.5 + (record.probabilities - 0.5) / 2)
    champion, challenger = (
        add(workspace, _recipe(**theirs), record=record),
        add(workspace, _recipe(**ours), 2.0, record=better),
    )
    found = compare(workspace, challenger.version, champion.version)
    assert found.decision.numbers["champion.n"] == len(record)
    assert found.decision.action == "promote"


def test_the_daily_rule_decides(workspace: Workspace) -> None:
    """Worse by a hair is promoted, as for one series: the strict rule would hold it, and so does a margin of 0."""
    record = tiny_record(RECIPE, BARS, 3.0)
    worse = replace(
        record, probabilities=np.where(record.labels == 1, record.probabilities - 1e-4, record.probabilities)
    )
    challenger = add(workspace, record=worse, gain=2.9).version
    found = compare(workspace, challenger, "2")
    assert 0 < found.decision.numbers["champion.difference"] < 1e-3
    assert found.decision.action == "promote"
    names = [clause.name for clause in found.decision.clauses]
    assert names == ["soundness", "final_network", "base_rate", "champion"]  # none of past champions
    strictly = compare(
        workspace, challenger, "2", RULE.model_copy(update={"champion_margin": 0, "champion_tolerance": 0})
    )
    assert strictly.decision.action == "hold"


def test_too_few_common_windows_leave_the_base_rate_alone(workspace: Workspace) -> None:
    record = tiny_record(RECIPE, BARS, 3.0)
    champion = add(workspace, gain=3.5, record=flipped(record).take(np.arange(99))).version
    found = compare(workspace, "2", champion)
    assert found.decision.action == "promote"
    assert any("99 decisions in common with the champion, 100 needed" in reason for reason in found.reasons)


def test_a_panel_that_shares_no_series_with_the_champion_is_held(workspace: Workspace) -> None:
    """The two cannot be compared: to promote it would replace the champion of all its series without a comparison."""
    ours = {"BTC-USD": BARS["BTC-USD"], "ETH-USD": BARS["ETH-USD"]}
    four = ("ADA-USD", "DOT-USD", "LTC-USD", "XRP-USD")
    recipe, theirs = (
        RECIPE.model_copy(update={"panel": RECIPE.panel.model_copy(update={"symbols": symbols})})
        for symbols in (tuple(ours), four)
    )
    champion = add(workspace, theirs, record=tiny_record(RECIPE, BARS, 3.0))
    challenger = add_panel_version(workspace, recipe, ours, tiny_record(recipe, ours, 3.0), 3.0, LATEST)
    found = compare(workspace, challenger.version, champion.version, **ours)
    assert found.decision.action == "hold"
    assert found.reasons[0].startswith(
        "the challenger predicts label rise, 1 bar ahead, of BTC-USD, ETH-USD; the champion label rise, 1 bar ahead, "
        "of ADA-USD, DOT-USD, LTC-USD and 1 more: they are not compared, and the panel of an interval has one "
        "champion. To promote it all the same: riseorfall promote --version"
    )


def test_without_a_champion_the_base_rate_decides(workspace: Workspace) -> None:
    nobody = ChampionState(None, None)
    found = compare_with_champion(workspace, workspace.registry.version("2"), nobody, BARS, RULE, seed=7)
    assert found.decision.action == "promote"
    assert "there is no champion to compare with" in found.reasons
    strict = RULE.model_copy(update={"base_rate_margin": 0, "base_rate_tolerance": 0})
    bad = add(workspace, record=_wrong(tiny_record(RECIPE, BARS, 3.0)))
    assert compare_with_champion(workspace, bad, nobody, BARS, strict, seed=7).decision.action == "hold"


def _wrong(record: Record) -> Record:
    return replace(record, probabilities=1 - flipped(record).probabilities)


@pytest.mark.parametrize("name", ["network.onnx", "recipe.json", "record.parquet"])
def test_a_broken_champion_is_scored_by_the_record_of_its_run_and_replaced(name: str, workspace: Workspace) -> None:
    good = add(workspace, record=flipped(tiny_record(RECIPE, BARS, 3.0)))
    (workspace.registry.read_version(good.version).folder / name).write_bytes(b"junk")
    challenger = add(workspace, gain=2.5).version
    found = compare(workspace, challenger, good.version)
    assert found.decision.action == "promote"
    assert f"champion version {good.version} cannot be loaded" in found.problem == found.reasons[0]
    assert "scored by the record of its run" in found.problem
    assert "a challenger that passes both checks of its network replaces it" in found.reasons[1]
    assert found.decision.numbers["champion.difference"] > 0.1
    assert found.decision.numbers["champion.n"] == 360


def test_a_champion_whose_record_is_lost_too_is_reported(workspace: Workspace) -> None:
    lost = ChampionState("9", None, "the registry has lost champion version 9")
    found = compare_with_champion(workspace, workspace.registry.version("2"), lost, BARS, RULE, seed=7)
    assert found.decision.action == "promote"
    assert "its record is lost too" in found.problem == found.reasons[0]


def test_a_champion_of_one_series_is_none_of_a_panel(workspace: Workspace) -> None:
    path = workspace.registry.read_version("1").folder / "recipe.json"
    path.write_text(Recipe(window=RECIPE.window).model_dump_json(), encoding="utf-8")
    assert "expected the recipe of a panel, found that of BTC-USD" in compare(workspace).problem


def test_a_champion_of_a_cross_section_predicts_no_other_panel(workspace: Workspace) -> None:
    """Its own record counts, and the windows after its training are not computed from other series."""
    recipe, earlier = panel_recipe(inputs="cross_section", symbols=SYMBOLS[:2]), tiny_record(RECIPE, BARS, 3.0)
    earlier = earlier.take(earlier.decided_at < CLOSED[-41])
    champion = add_panel_version(workspace, recipe, BARS, earlier, 3.0, CLOSED[-41])
    assert compare(workspace, "2", champion.version).decision.numbers["champion.n"] == len(earlier)
    whole = panel_recipe(inputs="cross_section")
    champion = add_panel_version(workspace, whole, BARS, earlier, 3.0, CLOSED[-41])
    assert compare(workspace, "2", champion.version).decision.numbers["champion.n"] == 360


def test_the_same_network_again_is_held_and_another_final_network_is_not(workspace: Workspace) -> None:
    same, other = add(workspace).version, add(workspace, gain=2.0, record=tiny_record(RECIPE, BARS, 3.0)).version
    held = compare(workspace, same, "2")
    assert held.decision.action == "hold"
    assert held.reasons[0] == (
        "the same network as champion version 2, so there is nothing to promote: "
        "equal probabilities, trained until the same bar"
    )
    assert held.decision.marks[0] == "held"
    assert compare(workspace, other, "2").decision.action == "promote"


def test_registered_files_must_reproduce_the_probabilities_of_training(workspace: Workspace) -> None:
    """Window by window: the probe begins within a close, and a close holds several windows."""
    version = workspace.registry.version("2")
    found = check_registered_network(workspace, version, BARS)
    assert found.sanity_check.passed
    folder = workspace.settings.root / "mlruns" / "artifacts" / "PANEL-1d" / version.run_id / "artifacts"
    probe = pd.read_parquet(folder / PROBE)
    assert len(probe) == 20
    for row in (0, 1, 10, 19):
        changed = probe.copy()
        changed.loc[row, "probability"] += 2e-5
        (folder / PROBE).write_bytes(parquet_bytes(changed))
        assert not check_registered_network(workspace, version, BARS).sanity_check.reloads_equal, row
    (folder / PROBE).write_bytes(parquet_bytes(probe.iloc[:0]))
    assert not check_registered_network(workspace, version, BARS).sanity_check.reloads_equal


def of_folds() -> tuple[Record, np.ndarray]:
    """Return the record of three folds whose networks have gains of 20, 24 and 18, and these networks on its windows.

    Coins are missing at some closes, so closes have one to three windows.
    """
    whole = tiny_record(RECIPE, BARS, 1.0)
    listed = (whole.symbols == "BTC-USD") | (whole.bar_numbers() % np.where(whole.symbols == "ADA-USD", 2, 3) == 0)
    record = whole.take(np.flatnonzero(listed))
    fold = record.bar_numbers() // 40
    networks = np.stack([tiny_record(RECIPE, BARS, gain).take(listed).probabilities for gain in FOLD_GAINS])
    record = replace(record, probabilities=networks[fold, np.arange(len(fold))], fold=fold)
    return record, np.where(fold > np.arange(3)[:, None], np.nan, networks)


def with_final(workspace: Workspace, gain: float) -> GateResult:
    """Return the decision on a challenger of `of_folds` whose final network has a gain; there is no champion."""
    record, networks = of_folds()
    challenger = add_panel_version(workspace, RECIPE, BARS, record, gain, LATEST, networks)
    rule = RULE.model_copy(update={"base_rate_tolerance": 1})  # a random walk: the bold record is a bad one
    return compare_with_champion(workspace, challenger, ChampionState(None, None), BARS, rule, seed=7)


@pytest.mark.parametrize("checked_windows", [5_000, 20])
def test_a_final_network_like_those_of_its_folds_is_promoted(
    checked_windows: int, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: the divergence from the record, averaged over the series of each close, then over closes."""
    monkeypatch.setattr("tasks.champion.panel_comparison.CHECKED_WINDOWS", checked_windows)  # the whole record counts
    found, (record, networks) = with_final(workspace, 22.0), of_folds()
    final = tiny_record(RECIPE, BARS, 22.0)
    keys = zip(final.symbols, final.decided_at, strict=True)
    predicted = dict(zip(keys, final.probabilities, strict=True))

    def by_close(others: np.ndarray, before: np.ndarray) -> float:
        frame = pd.DataFrame({"p": record.probabilities, "q": others, "at": record.decided_at})[before]
        p, q = frame["p"], frame["q"]
        frame["nats"] = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
        return float(frame.groupby("at")["nats"].mean().mean())

    ours = np.array([predicted[key] for key in zip(record.symbols, record.decided_at, strict=True)])
    largest = max(by_close(networks[k], record.fold < k) for k in (1, 2))
    numbers = found.decision.numbers
    assert found.decision.action == "promote"
    assert any(
        reason.startswith("the final network agrees with the fold networks (mean divergence ")
        for reason in found.reasons
    )
    assert numbers["final_network.disagreement"] == pytest.approx(by_close(ours, record.fold >= 0), rel=1e-4)
    assert numbers["final_network.of_folds"] == pytest.approx(largest, rel=1e-4)
    assert numbers["final_network.limit"] == pytest.approx(max(2 * largest, 0.005), rel=1e-4)


@pytest.mark.parametrize("gain", [-20.0, 80.0], ids=["inverted", "far too bold"])
def test_a_bad_final_network_of_a_panel_is_held(gain: float, workspace: Workspace) -> None:
    found = with_final(workspace, gain)
    assert found.decision.action == "hold"
    assert [clause.name for clause in found.decision.clauses if not clause.passed] == ["final_network"]
    assert found.reasons[0].startswith("the final network disagrees with the fold networks (mean divergence ")
    assert found.marks[0] == "failed"


@pytest.mark.parametrize(
    ("gain", "reason"),
    [(np.nan, "not finite"), (1e6, "exactly 0 or 1"), (0.0, "constant")],
    ids=["diverged", "saturated", "constant"],
)
def test_a_final_network_of_a_panel_without_usable_probabilities_is_rejected(
    gain: float, reason: str, workspace: Workspace
) -> None:
    found = with_final(workspace, gain)
    assert found.decision.action == "reject"
    assert reason in found.reasons[0]


def test_a_bad_final_network_of_a_panel_does_not_replace_a_broken_champion(workspace: Workspace) -> None:
    record, networks = of_folds()
    challenger = add_panel_version(workspace, RECIPE, BARS, record, -20.0, LATEST, networks)
    (workspace.registry.read_version("1").folder / "network.onnx").write_bytes(b"junk")
    found = compare(workspace, challenger.version, "1")
    assert (found.decision.action, found.problem != "") == ("hold", True)
    assert found.reasons[0].startswith("the final network disagrees with the fold networks")


def test_a_final_network_of_a_panel_that_cannot_be_checked_is_reported(workspace: Workspace) -> None:
    """The runs of this home have no fold networks."""
    reasons = compare(workspace).reasons
    assert any("the final network is not checked: its run has no file" in reason for reason in reasons)


def test_a_broken_challenger_is_rejected(workspace: Workspace) -> None:
    (workspace.registry.read_version("2").folder / "network.onnx").write_bytes(b"junk")
    found = compare(workspace)
    assert found.decision.action == "reject"
    assert re.search(r"network\.onnx cannot be", " ".join(found.reasons))

"""The audit of a panel finds planted leaks across series, and none where there is none."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from synthetic_bars import random_walk
from synthetic_panel import FOLDS, panel_bars

from model.bars import Bars
from model.cross_section import CONTEXT, cross_section, further_factors
from model.folds import Fold, FoldSpec, split_folds
from model.gap_filling import GapRule, fill_gaps
from model.network_files import network_to_onnx
from model.networks import NetworkSpec, build_network
from model.panel import Panel, PanelSpec, cut_panel
from model.panel_audit import audit_panel
from model.predictor import Predictor
from model.windows import Windows, WindowSpec


@pytest.mark.parametrize("label", ["rise", "rank"])
@pytest.mark.parametrize("inputs", ["own", "cross_section"])
def test_the_audit_finds_no_look_ahead(label: str, inputs: str) -> None:
    spec = PanelSpec.model_validate({"label": label, "inputs": inputs, "reference": "A"})
    bars = panel_bars(170, C=60) | {"G": random_walk(170, seed=9, absent={100, 101, 130})}
    found = audit_panel(bars, WindowSpec(lookback_bars=25, horizon_bars=2), spec, FOLDS)
    assert found.passed, [each.detail for each in found.findings if not each.passed]
    assert all(each.checked > 0 for each in found.findings)


def next_market_move(bars: Mapping[str, Bars], window: WindowSpec, panel: PanelSpec) -> Panel:
    """A leak: the market's move of the NEXT close is an input."""
    found = cut_panel(bars, window, panel)
    features = found.windows.features.copy()
    features[:-1, -2] = features[1:, -2]
    return replace(found, windows=replace(found.windows, features=features))


def survivors_only(bars: Mapping[str, Bars], window: WindowSpec, panel: PanelSpec) -> Panel:
    """A leak: coins that will be delisted are left out from the beginning."""
    last = max(each.opened_at[-1] for each in bars.values())
    return cut_panel({symbol: each for symbol, each in bars.items() if each.opened_at[-1] == last}, window, panel)


def whole_sample_scale(bars: Mapping[str, Bars], window: WindowSpec, panel: PanelSpec) -> Panel:
    """A leak: another coin's prices are divided by their highest close, of later bars too."""
    found = cut_panel(bars, window, panel)
    top = max(float(each.column("close").max()) for each in bars.values())
    return replace(found, windows=replace(found.windows, features=found.windows.features / top))


def losers_hidden(bars: Mapping[str, Bars], window: WindowSpec, panel: PanelSpec) -> Panel:
    """A leak: windows with a large loss have no label."""
    found = cut_panel(bars, window, panel)
    hidden = found.returns < -0.01
    windows = replace(
        found.windows,
        labels=np.where(hidden, -1, found.windows.labels).astype(np.int8),
        resolved_at=np.where(hidden, np.datetime64("NaT"), found.windows.resolved_at),
    )
    return replace(found, windows=windows, returns=np.where(hidden, np.nan, found.returns))


def returns_of_the_next_bar(bars: Mapping[str, Bars], window: WindowSpec, panel: PanelSpec) -> Panel:
    """A leak: the portfolio earns a bar that begins at the outcome."""
    found = cut_panel(bars, window, panel)
    return replace(found, returns=np.roll(found.returns, -len(bars)))


def folds_by_position(windows: Windows, spec: FoldSpec) -> tuple[Fold, ...]:
    """A leak: folds cut by the number of windows of each coin, so that one coin's training is another's future."""
    order = np.lexsort((windows.decided_at, windows.symbols)).astype(np.int64)
    count = len(windows) // (spec.count + 1)
    parts = [order[start : start + count] for start in range(0, count * (spec.count + 1), count)]
    return tuple(
        Fold(number, parts[number][:-20], parts[number][-20:], parts[number + 1]) for number in range(spec.count)
    )


def known_early(bars: Mapping[str, Bars], window: WindowSpec, panel: PanelSpec) -> Panel:
    """A leak: the newest windows have a label before their outcome."""
    found = cut_panel(bars, window, panel)
    labels, due = np.maximum(found.windows.labels, 0), found.windows.decided_at + np.timedelta64(1, "D")
    windows = replace(found.windows, labels=labels, resolved_at=due)
    return replace(found, windows=windows, returns=np.nan_to_num(found.returns))


def resolved_a_bar_early(bars: Mapping[str, Bars], window: WindowSpec, panel: PanelSpec) -> Panel:
    """A leak: outcomes are stamped as known at the bar before, so that folds would train on them too early."""
    found = cut_panel(bars, window, panel)
    return replace(
        found, windows=replace(found.windows, resolved_at=found.windows.resolved_at - np.timedelta64(1, "D"))
    )


@pytest.mark.parametrize(
    ("leaky", "finding"),
    [
        (known_early, "panel labels with later bars removed"),
        (resolved_a_bar_early, "panel labels vs. the closes"),
    ],
)
def test_the_audit_finds_labels_that_are_known_too_early(leaky: object, finding: str) -> None:
    found = audit_panel(panel_bars(170), WindowSpec(lookback_bars=5), PanelSpec(), FOLDS, cut=leaky)  # type: ignore[arg-type]
    assert finding in [each.name for each in found.findings if not each.passed]


@pytest.mark.parametrize("part", ["train", "validation"])
def test_the_audit_finds_a_window_resolved_exactly_when_the_next_part_begins(part: str) -> None:
    """One close too many is learned from: its outcome is the close of the next part's first decision."""

    def late(windows: Windows, spec: FoldSpec) -> tuple[Fold, ...]:
        def longer(fold: Fold) -> Fold:
            begins = windows.decided_at[fold.validation if part == "train" else fold.test].min()
            added = np.flatnonzero(windows.decided_at == begins - np.timedelta64(2, "D"))
            return replace(fold, **{part: np.union1d(getattr(fold, part), added)})

        return tuple(longer(fold) for fold in split_folds(windows, spec))

    window = WindowSpec(lookback_bars=5, horizon_bars=2)
    assert audit_panel(panel_bars(170), window, PanelSpec(), FOLDS, sample=2).passed
    found = audit_panel(panel_bars(170), window, PanelSpec(), FOLDS, sample=2, split=late)
    assert [each.name for each in found.findings if not each.passed] == ["panel folds cut by time"]


def test_the_audit_finds_windows_that_are_tested_twice() -> None:
    def twice(windows: Windows, spec: FoldSpec) -> tuple[Fold, ...]:
        return (first := split_folds(windows, spec)[0], first)

    found = audit_panel(panel_bars(170), WindowSpec(lookback_bars=5), PanelSpec(), FOLDS, sample=2, split=twice)
    assert [each.name for each in found.findings if not each.passed] == ["panel folds cut by time"]


@pytest.mark.parametrize(
    "leaky", [next_market_move, survivors_only, whole_sample_scale, losers_hidden, returns_of_the_next_bar]
)
def test_the_audit_finds_planted_leaks_across_coins(leaky: object) -> None:
    bars = panel_bars(170)
    bars["F"] = Bars("1d", bars["F"].opened_at[:140], bars["F"].ohlcv[:140])  # delisted
    spec = PanelSpec(inputs="cross_section", reference="A")
    window = WindowSpec(lookback_bars=5)
    assert audit_panel(bars, window, spec, FOLDS).passed
    assert not audit_panel(bars, window, spec, FOLDS, cut=leaky).passed  # type: ignore[arg-type]


def cross_section_of_filled_bars(bars: Mapping[str, Bars], window: WindowSpec, panel: PanelSpec) -> Panel:
    """A leak: a bar is filled only if a later one exists, and the filled bar counts for the ranks of the others."""
    found = cut_panel(bars, window, panel)
    filled = {symbol: fill_gaps(each, window.gaps)[0] for symbol, each in sorted(bars.items())}
    context = np.concatenate(list(cross_section(filled, panel.reference).values()))
    further = np.concatenate(list(further_factors(filled).values()))
    features = found.windows.features.copy()
    if panel.inputs == "cross_section":
        features[:, -len(CONTEXT) :] = context
    return replace(found, windows=replace(found.windows, features=features), context=context, further=further)


@pytest.mark.parametrize("inputs", ["own", "cross_section"])
def test_the_default_sample_holds_closes_at_which_a_series_has_no_bar(inputs: str) -> None:
    """One bar of one series is missing: the leak shows at that close alone, also where only baselines use ranks."""
    bars = {
        "A": random_walk(100),
        "B": random_walk(100, seed=1),
        "C": random_walk(100, seed=2, absent={40, *range(60, 70)}),
    }
    window, panel = WindowSpec(lookback_bars=5, gaps=GapRule(kind="fill")), PanelSpec.model_validate({"inputs": inputs})
    found = audit_panel(bars, window, panel, FOLDS)
    assert found.passed, [each.detail for each in found.findings if not each.passed]
    leaky = audit_panel(bars, window, panel, FOLDS, cut=cross_section_of_filled_bars)
    (failed,) = [each for each in leaky.findings if not each.passed]
    assert failed.name == "panel windows with later bars removed"
    assert failed.detail == f"1 of 10 closes differ, the first decided at {bars['A'].closed_at[40]}"


@pytest.mark.parametrize("inputs", ["own", "cross_section"])
def test_the_outputs_of_a_network_are_recomputed_without_later_bars_of_any_coin(inputs: str) -> None:
    """An honest network passes; one whose expected move is scaled by the whole sample is found, and it alone."""
    bars, window, panel = panel_bars(170), WindowSpec(lookback_bars=5), PanelSpec.model_validate({"inputs": inputs})
    spec = NetworkSpec(kind="cnn", filters=(2,), dense_units=4, magnitude=True, beyond_cost_bps=50)
    context = len(CONTEXT) if inputs == "cross_section" else 0
    onnx = network_to_onnx(build_network(spec, 5, 4 + context, context_count=context))
    predictor = Predictor(onnx, window, context_count=context)

    def of_later_bars(windows: Windows) -> np.ndarray:
        outputs = predictor.run(windows)
        largest = windows.features[:, 3].max()  # of all coins, later bars included
        return np.column_stack([outputs[:, 0], outputs[:, 1] * largest, outputs[:, 2:]])

    found = audit_panel(bars, window, panel, FOLDS, predictor.run, sample=4)
    assert found.passed, [each.detail for each in found.findings if not each.passed]
    assert {each.name: each.checked for each in found.findings}["panel predictions with later bars removed"] == 4
    leaky = audit_panel(bars, window, panel, FOLDS, of_later_bars, sample=4)
    assert [each.name for each in leaky.findings if not each.passed] == [
        f"panel predictions with later bars {how}" for how in ("removed", "scrambled")
    ]


@pytest.mark.parametrize("label", ["rise", "rank"])
def test_the_audit_finds_moves_that_are_not_those_of_the_closes(label: str) -> None:
    """The size is trained on them: right labels with the moves of another coin would pass a check of the labels."""

    def of_another_coin(bars: Mapping[str, Bars], window: WindowSpec, panel: PanelSpec) -> Panel:
        found = cut_panel(bars, window, panel)
        moves = np.copysign(np.roll(found.windows.label_moves, 1), found.windows.label_moves)
        return replace(found, windows=replace(found.windows, label_moves=moves))

    panel = PanelSpec.model_validate({"label": label})
    found = audit_panel(panel_bars(170), WindowSpec(lookback_bars=5), panel, FOLDS, sample=2, cut=of_another_coin)
    assert [each.name for each in found.findings if not each.passed] == ["panel labels vs. the closes"]


def test_the_audit_finds_folds_that_are_not_cut_by_time() -> None:
    found = audit_panel(panel_bars(170), WindowSpec(lookback_bars=5), PanelSpec(), FOLDS, split=folds_by_position)
    assert [each.name for each in found.findings if not each.passed] == ["panel folds cut by time"]

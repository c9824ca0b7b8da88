"""The rules of good windows, applied to one row per window.

It knows windows as `model.windows` cuts them, and nothing of bars, files or severities. Times are UTC. Caution: windows
do not store the times of all their bars, so a gap inside a window is found from its neighbours: where two windows share
bars, their decisions must be as many intervals apart as their last bars.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from data_checks.apply_rules import RuleFinding
from data_checks.rule_definitions import Suite
from model.bars import interval_delta
from model.plurals import counted
from model.windows import Windows

Limits = Mapping[str, Any]


def window_batch(windows: Windows) -> pd.DataFrame:
    """Return one row per resolved window: decided_at, resolved_at, label, finite, crosses_gap."""
    resolved = windows.resolved()
    delta = interval_delta(resolved.interval)
    bars_apart, time_apart = np.diff(resolved.ends), np.diff(resolved.decided_at)
    crosses = np.zeros(len(resolved), dtype=bool)
    crosses[1:] = (bars_apart < resolved.lookback_bars) & (time_apart != bars_apart * delta)
    return pd.DataFrame(
        {
            "decided_at": resolved.decided_at,
            "resolved_at": resolved.resolved_at,
            "label": resolved.labels,
            "finite": _finite_windows(resolved),
            "crosses_gap": crosses,
        }
    )


def _finite_windows(windows: Windows) -> Bool[np.ndarray, " window"]:
    """Mark windows whose features are all finite, by a cumulative count of bars that are not."""
    nonfinite = np.r_[0, np.cumsum(~np.isfinite(windows.features).all(axis=1))]
    finite: Bool[np.ndarray, " window"] = (
        nonfinite[windows.ends + 1] == nonfinite[windows.ends + 1 - windows.lookback_bars]
    )
    return finite


def window_mask(rule: str, batch: pd.DataFrame, limits: Limits) -> Bool[np.ndarray, " window"]:
    """Mark the windows of a batch that violate a rule, shape (window,)."""
    return _ROW_RULES[rule](batch, limits)


def windows_finding(rule: str, batch: pd.DataFrame, limits: Limits) -> RuleFinding:
    """Apply a rule about the whole set to the windows of a batch."""
    return _SET_RULES[rule](batch, limits)


def apply_window_rules(batch: pd.DataFrame, suite: Suite) -> dict[str, RuleFinding]:
    """Apply each rule to the windows of a batch, and return the findings by rule name."""
    return {
        rule.name: _row_finding(batch, window_mask(rule.name, batch, suite.limits))
        if rule.columns
        else windows_finding(rule.name, batch, suite.limits)
        for rule in suite.rules
    }


def _row_finding(batch: pd.DataFrame, mask: Bool[np.ndarray, " window"]) -> RuleFinding:
    if not mask.any():
        return RuleFinding(passed=True, unexpected=0, observed="none")
    first = batch["decided_at"].to_numpy()[int(mask.argmax())].astype("datetime64[us]")
    return RuleFinding(False, int(mask.sum()), f"{int(mask.sum())} of {counted(len(batch), 'window')}", first)


def _wrong_label_times(batch: pd.DataFrame, limits: Limits) -> Bool[np.ndarray, " window"]:
    horizon = limits["horizon_bars"] * interval_delta(limits["interval"])
    wrong: Bool[np.ndarray, " window"] = batch["resolved_at"].to_numpy() - batch["decided_at"].to_numpy() != horizon
    return wrong


_ROW_RULES: dict[str, Callable[[pd.DataFrame, Limits], Bool[np.ndarray, " window"]]] = {
    "finite_features": lambda batch, _: ~batch["finite"].to_numpy(),
    "window_gap": lambda batch, _: batch["crosses_gap"].to_numpy(),
    "label_time": _wrong_label_times,
}


def _enough(batch: pd.DataFrame, limits: Limits) -> RuleFinding:
    missing = max(0, limits["min_windows"] - len(batch))
    return RuleFinding(missing == 0, missing, f"{counted(len(batch), 'window')} with a label")


def _both_labels(batch: pd.DataFrame, _: Limits) -> RuleFinding:
    rises = int((batch["label"] == 1).sum())
    both = 0 < rises < len(batch)
    return RuleFinding(
        both, 0 if both else len(batch), f"{counted(rises, 'rise')}, {counted(len(batch) - rises, 'fall')}"
    )


def _rise_share(batch: pd.DataFrame, limits: Limits) -> RuleFinding:
    share = float((batch["label"] == 1).mean()) if len(batch) else 0.0
    plausible = limits["min_rise_share"] <= share <= limits["max_rise_share"]
    return RuleFinding(plausible, 0 if plausible else len(batch), f"{share:.1%} rises")


_SET_RULES: dict[str, Callable[[pd.DataFrame, Limits], RuleFinding]] = {
    "enough_windows": _enough,
    "both_labels": _both_labels,
    "rise_share": _rise_share,
}

"""Monitor the champion of a panel: score its stored predictions by close, and raise the alarms of a single series.

The series of one close are one observation, of the score (`model/panel_live_score.py`) and of drift
(`model/panel_drift.py`). Only the series that a version was trained on count, because its record is about them; closes
whose outcomes may still change count as open.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.abstention import share_bounds
from model.bars import Bars, Series
from model.drift import Drift
from model.e_process import ForecastReference, alarm_threshold, allowed_excesses
from model.errors import NoChampion, SpecError, UnsoundModel
from model.live_score import LiveScore, ServiceEvidence
from model.metrics import log_losses
from model.monitor_alarms import MonitorSpec, find_alarms, fresh_alarms
from model.panel_drift import measure_panel_drift
from model.panel_live_score import (
    close_means,
    freeze_panel_reference,
    opinion_accuracy,
    panel_e_process,
    panel_live_score,
)
from model.times import column_times, to_datetime64
from tasks.champion.as_of_time import panel_as_of
from tasks.champion.champion_monitor import (
    MonitorResult,
    draw_monitor,
    monitor_champion,
    monitor_numbers,
    promotion_ordinal,
)
from tasks.champion.commit_decision import sync_champion_alias
from tasks.champion.live_comparison import MIN_DECISIONS
from tasks.champion.missing_predictions import count_missing_of_panel
from tasks.champion.panel_labels import PanelLabels, first_stored, panel_labels, read_closed_bars
from tasks.champion.panel_of_series import predicted_series
from tasks.champion.stated_share import stated_share
from tasks.registry.model_files import LoadedVersion
from tasks.registry.model_registry import Version
from tasks.settings import Settings
from tasks.store.decision_log import champion_since
from tasks.store.monitor_log import MonitorEntry, score_from
from tasks.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class _Live:
    """Predictions that count, by close: stored in time, of a series that their version was trained on."""

    symbols: np.ndarray
    closes: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    versions: np.ndarray
    held: np.ndarray

    def take(self, chosen: np.ndarray) -> "_Live":
        return _Live(*(getattr(self, name)[chosen] for name in self.__slots__))

    def first_of_each(self) -> "_Live":
        """Return what was served: the first stored prediction of each series and close; rows are in that order."""
        keys = np.array([f"{symbol} {close}" for symbol, close in zip(self.symbols, self.closes, strict=True)])
        return self.take(np.sort(np.unique(keys, return_index=True)[1]))


def monitor_series(
    series: Series, settings: Settings, spec: MonitorSpec, as_of: datetime | None = None
) -> MonitorResult:
    """Monitor the champion of a series or of a panel; see `monitor_champion` and `monitor_panel`."""
    return (monitor_panel if series.is_panel else monitor_champion)(series, settings, spec, as_of)


def monitor_panel(
    series: Series, settings: Settings, spec: MonitorSpec, as_of: datetime | None = None
) -> MonitorResult:
    """Monitor the champion of a panel, store the result, and return which alarms are new.

    Args:
        series: of the panel: symbol PANEL and its interval.
        settings: addresses of tables and MLflow.
        spec: thresholds of the alarms.
        as_of: time of the run, UTC; None: see `tasks.champion.as_of_time.panel_as_of`.

    Raises:
        NoChampion: no version of the panel has been promoted yet.
        SpecError: no bar of the panel had closed by the time of the run.
    """
    workspace = Workspace(settings, series)
    champion = sync_champion_alias(workspace).require(workspace)
    loaded = workspace.registry.read_version(champion.version)
    recipe = loaded.panel_recipe()
    now = panel_as_of(workspace.bar_store, predicted_series(workspace), as_of)
    bars = {each: read_closed_bars(workspace, each, now) for each in recipe.panel.symbols}
    bars = {symbol: each for symbol, each in bars.items() if len(each)}
    if not bars:
        raise SpecError(f"{series.name}: expected bars closed by {now:%Y-%m-%d %H:%M} UTC, found none.")
    earlier = workspace.monitor_log.raised(series.name, now)
    stored = workspace.prediction_log.read(series.name)
    live, labels = _live(workspace, stored, score_from(earlier), now)
    threshold = alarm_threshold(spec.false_alarm_rate, promotion_ordinal(workspace, champion.version))
    own = live.take(live.versions == champion.version)
    reference, overlap = _reference(loaded, spec), recipe.window.horizon_bars
    score = panel_live_score(own.closes, own.labels, own.probabilities, reference, threshold, overlap)
    service = _service(live.first_of_each(), labels, spec)
    since = champion_since(workspace.decision_log.rows(workspace.name))
    promoted_at = None if since is None else since.decided_at
    missed = count_missing_of_panel(stored, bars, recipe, spec, promoted_at)
    numbers = {**monitor_numbers(score, service), **missed}
    numbers |= _opinion_numbers(workspace, stored[stored["decided_at"] <= now], own, overlap)
    drift, notes = _drift(bars, champion, spec)
    numbers["champion_age_days"] = (now - champion.trained_until) / timedelta(days=1)
    age, missing, decisions = (numbers[name] for name in ("champion_age_days", "missing", "decisions"))
    found = find_alarms(score, service, drift, age, int(missing), int(decisions), spec)
    raised = fresh_alarms(found, earlier, now, timedelta(days=spec.cool_down_days))
    entry = MonitorEntry(series.name, now, champion.version, numbers, found, tuple(alarm.kind for alarm in raised))
    picture = _draw(workspace, own, score, drift)
    workspace.monitor_log.write(entry)
    unread = (f"predictions of version {version}: {reason}" for version, reason in labels.unread.items())
    return MonitorResult(entry, score, service, drift, raised, picture, (*unread, *notes), recipe.panel.label)


def _live(
    workspace: Workspace, stored: "pd.DataFrame", since: datetime | None, now: datetime
) -> tuple[_Live, PanelLabels]:
    """Return the predictions that count, and the outcomes with the files of their versions."""
    kept = stored[~stored["late"].astype(bool) & (stored["decided_at"] <= now)]
    if since is not None:
        kept = kept[kept["decided_at"] > since]
    kept = kept.sort_values(["decided_at", "stored_at"], kind="stable")
    found = panel_labels(workspace, kept, now)
    live = _Live(
        kept["symbol"].to_numpy().astype(np.str_),
        column_times(kept["decided_at"]).astype(np.int64),
        np.where(found.is_open, -1, found.labels).astype(np.int8),
        kept["probability"].to_numpy().astype(np.float64),
        kept["version"].to_numpy().astype(np.str_),
        kept["has_opinion"].eq(other=True).to_numpy(dtype=bool),
    )
    counted = np.zeros(len(kept), dtype=bool)
    for version, files in found.versions.items():
        counted |= (live.versions == version) & np.isin(live.symbols, files.panel_recipe().panel.symbols)
    return live.take(counted), found


def _reference(files: LoadedVersion, spec: MonitorSpec) -> ForecastReference:
    return freeze_panel_reference(files.record(), files.panel_recipe().panel.label, spec.score_tolerance)


def _service(live: _Live, labels: PanelLabels, spec: MonitorSpec) -> ServiceEvidence:
    """Return the evidence across versions, each prediction by what its own version may lose."""
    base, allowed, overlap = np.zeros(len(live.labels)), np.zeros(len(live.labels)), 1
    for version, files in labels.versions.items():
        own = live.versions == version
        reference = _reference(files, spec)
        overlap = max(overlap, files.panel_recipe().window.horizon_bars)  # the longest label of any version
        base[own], allowed[own] = reference.base_rate, allowed_excesses(reference, live.probabilities[own])
    values = panel_e_process(live.closes, live.labels, live.probabilities, base, allowed, overlap)
    count = len(np.unique(live.closes[live.labels >= 0]))
    evidence = float(values.max(initial=1.0))
    return ServiceEvidence(count, evidence, alarm_threshold(spec.false_alarm_rate), of_closes=True)


def _opinion_numbers(workspace: Workspace, stored: "pd.DataFrame", own: _Live, overlap: int) -> dict[str, float]:
    """Return the share of opinions over the served closes with its guarantee, and the accuracy of this version's.

    The share is that of all versions and of late predictions too, because its guarantee is; it has no guarantee where
    they stated different shares, or where a version is gone. Empty without a close with opinions.
    """
    served = first_stored(stored[stored["has_opinion"].notna()])
    if served.empty:
        return {}
    shares = served["has_opinion"].astype(float).groupby(served["decided_at"]).mean()
    numbers = {"opinion_closes": float(len(shares)), "opinion_share": float(shares.mean())}
    try:
        stated = {stated_share(workspace, workspace.registry.version(each)) for each in served["version"].unique()}
    except (NoChampion, UnsoundModel):  # a version is gone, or its tags were edited
        stated = set()
    if len(stated) == 1 and (share := stated.pop()) is not None:
        low, high = share_bounds(share, len(shares))
        numbers |= {"opinion_share_low": low, "opinion_share_high": high}
    count, closes, accuracy = opinion_accuracy(own.closes, own.labels, own.probabilities, own.held, overlap)
    numbers["opinions"] = float(count)
    if count:
        numbers["opinion_accuracy"] = accuracy[0]
    if closes >= MIN_DECISIONS:
        numbers |= {"opinion_accuracy_low": accuracy[1], "opinion_accuracy_high": accuracy[2]}
    return numbers


def _drift(bars: dict[str, Bars], champion: Version, spec: MonitorSpec) -> tuple[tuple[Drift, ...], tuple[str, ...]]:
    """Test the newest closes against the training closes before them; return why they could not be tested, if so."""
    limits = spec.recent_bars, spec.drift_slack, spec.max_level_factor
    try:
        return measure_panel_drift(bars, to_datetime64(champion.trained_until), *limits), ()
    except SpecError as error:
        return (), (str(error),)


def _draw(workspace: Workspace, own: _Live, score: LiveScore, drift: tuple[Drift, ...]) -> Path:
    known = own.labels >= 0
    closes = own.closes[known]
    losses = close_means(closes, log_losses(own.labels[known], own.probabilities[known]))
    return draw_monitor(workspace, np.unique(closes).astype("datetime64[us]"), losses, score, drift)

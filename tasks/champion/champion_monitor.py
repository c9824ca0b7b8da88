"""Monitor a champion: score its stored predictions, test for drift against the training bars, raise alarms.

The statistics are in `model/`; here their inputs are gathered and the result is stored: an entry in the monitor log, a
picture below HOME/data/monitor. Predictions that were stored late are no evidence and are left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.bars import Bars, Series
from model.drift import Drift, measure_drift
from model.e_process import ForecastReference, alarm_threshold, allowed_excesses, freeze_reference, lagged_e_process
from model.errors import NoChampion, SpecError, UnsoundModel, UntrustedModel
from model.label_names import LabelKind
from model.live_score import LiveScore, ServiceEvidence, live_score, outcomes
from model.metrics import log_losses
from model.monitor_alarms import Alarm, MonitorSpec, find_alarms, fresh_alarms
from model.plurals import counted
from model.record import Record
from model.times import column_times, to_datetime64
from tasks.champion.as_of_time import resolve_as_of
from tasks.champion.commit_decision import sync_champion_alias
from tasks.champion.live_comparison import MIN_DECISIONS
from tasks.champion.missing_predictions import count_missing
from tasks.registry.model_registry import Version
from tasks.settings import Settings
from tasks.store.decision_log import former_champions
from tasks.store.monitor_log import MonitorEntry, VersionReference, score_from
from tasks.workspace import Workspace

SHARES: dict[LabelKind, str] = {
    "rise": "actual minus predicted rises",
    "rank": "actual minus predicted share above the median",
}

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Live:
    """Predictions that were stored in time, each decision once, oldest first; label -1 where no outcome is known."""

    decided_at: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    versions: np.ndarray

    @property
    def known(self) -> np.ndarray:
        """Whether there is an outcome."""
        return self.labels >= 0


@dataclass(frozen=True, slots=True)
class MonitorResult:
    """Result of one run of the monitor.

    Attributes:
        entry: as stored in the monitor log.
        score: live score of the champion.
        service: evidence across all versions that served.
        drift: by property; empty if there are too few bars.
        raised: alarms that were not raised within the cool-down.
        picture: file of the picture.
        notes: what could not be tested, and why.
        label: what was predicted.
    """

    entry: MonitorEntry
    score: LiveScore
    service: ServiceEvidence
    drift: tuple[Drift, ...]
    raised: tuple[Alarm, ...]
    picture: Path
    notes: tuple[str, ...]
    label: LabelKind = "rise"

    def rows(self) -> list[dict[str, Any]]:
        """Return the findings as a table: check, value, range or limit; what has no data yet is left out."""
        score = self.score
        predictions, unit = score.predictions or score.count, "closes" if score.predictions else "predictions"
        rows = [{"check": "live predictions with an outcome", "value": str(predictions), "range or limit": ""}]
        if score.predictions:
            rows.append({"check": "closes of these predictions", "value": str(score.count), "range or limit": ""})
        if score.count:
            rows += [
                # Of one series it is Wilson's interval, which holds for few.
                {
                    "check": "accuracy",
                    **_spread(score.accuracy, score.count if score.predictions else MIN_DECISIONS, unit),
                },
                {"check": "log loss", **_spread(score.log_loss, score.count, unit)},
                {"check": "base rate's log loss", "value": _text(score.base_rate_loss), "range or limit": ""},
                {"check": SHARES[self.label], **_spread(score.calibration, score.count, unit)},
                _row("e-process of this version", float(score.e_values.max(initial=1.0)), score.threshold),
            ]
        rows += _opinion_rows(self.entry.numbers)
        if self.service.count:
            rows.append(_row("e-process of the service, all versions", self.service.e_value, self.service.threshold))
        for each in self.drift:
            if each.name == "level":
                rows.append(
                    {"check": "price level, factor", "value": _text(each.psi), "range or limit": _text(each.psi_limit)}
                )
            else:
                rows.append(
                    {"check": f"{each.name}, KS", "value": _text(each.ks), "range or limit": _text(each.ks_limit)}
                )
                rows.append(
                    {"check": f"{each.name}, PSI", "value": _text(each.psi), "range or limit": _text(each.psi_limit)}
                )
        numbers = self.entry.numbers
        decided = f"of the last {counted(int(numbers['decisions']), 'decision')}"
        return [
            *rows,
            {
                "check": "days since the champion's newest training bar",
                "value": _text(numbers["champion_age_days"]),
                "range or limit": "",
            },
            {
                "check": "decisions without a prediction in time",
                "value": _text(numbers["missing"]),
                "range or limit": decided,
            },
            {"check": "of these, predicted after their outcome", "value": _text(numbers["late"]), "range or limit": ""},
        ]


def monitor_champion(
    series: Series, settings: Settings, spec: MonitorSpec, as_of: datetime | None = None
) -> MonitorResult:
    """Monitor the champion of a series, store the result, and return which alarms are new.

    Args:
        series: symbol and interval.
        settings: addresses of tables and MLflow.
        spec: thresholds of the alarms.
        as_of: time of the run, UTC; None: see `tasks.champion.as_of_time.resolve_as_of`.

    Raises:
        NoChampion: no version has been promoted yet.
        SpecError: no bar had closed by the time of the run.
    """
    workspace = Workspace(settings, series)
    store = workspace.bar_store
    champion = sync_champion_alias(workspace).require(workspace)
    loaded = workspace.registry.read_version(champion.version)
    bars = store.read_bars(store.ref(series))
    now = resolve_as_of(workspace, champion, bars, as_of)
    stored_bars, bars = bars, bars.closed_by(to_datetime64(now))
    if not len(bars):
        raise SpecError(
            f"{series.name}: expected bars closed by {now:%Y-%m-%d %H:%M} UTC, found none: the first of "
            f"{len(stored_bars)} closed at {stored_bars.closed_at[0]}. Use a later as_of, or set the machine's clock."
        )
    earlier = workspace.monitor_log.raised(series.name, now)
    stored = workspace.prediction_log.read(series.name)
    since, overlap = score_from(earlier), loaded.recipe().window.horizon_bars
    live = join(stored[stored["version"] == champion.version], bars, since)
    reference = freeze_reference_of(loaded.record(), spec)
    threshold = alarm_threshold(spec.false_alarm_rate, promotion_ordinal(workspace, champion.version))
    score = live_score(live.labels, live.probabilities, reference, threshold, overlap)
    service, references, unread = service_evidence(workspace, join(stored, bars, since), spec)
    drift, notes = _drift(bars, champion, spec)
    numbers = {**monitor_numbers(score, service), **count_missing(stored, bars, loaded.recipe().window, spec)}
    numbers["champion_age_days"] = (now - champion.trained_until) / timedelta(days=1)
    found = find_alarms(
        score, service, drift, numbers["champion_age_days"], int(numbers["missing"]), int(numbers["decisions"]), spec
    )
    raised = fresh_alarms(found, earlier, now, timedelta(days=spec.cool_down_days))
    kinds = tuple(alarm.kind for alarm in raised)
    entry = MonitorEntry(series.name, now, champion.version, numbers, found, kinds, references)
    known = live.known
    losses = log_losses(live.labels[known], live.probabilities[known])
    picture = draw_monitor(workspace, live.decided_at[known], losses, score, drift)
    workspace.monitor_log.write(entry)
    return MonitorResult(entry, score, service, drift, raised, picture, (*unread, *notes))


def join(stored: "pd.DataFrame", bars: Bars, since: datetime | None) -> Live:
    """Return the predictions that were not stored late, with their outcomes; the first stored of each decision."""
    kept = stored[~stored["late"].astype(bool)]
    if since is not None:
        kept = kept[kept["decided_at"] > since]
    kept = kept.sort_values(["decided_at", "stored_at"], kind="stable").drop_duplicates("decided_at")
    decided = column_times(kept["decided_at"])
    labels = outcomes(decided, column_times(kept["resolves_at"]), bars)
    probabilities, versions = (kept[name].to_numpy() for name in ("probability", "version"))
    return Live(decided, labels, probabilities.astype(np.float64), versions.astype(np.str_))


def freeze_reference_of(record: Record, spec: MonitorSpec) -> ForecastReference:
    """Return what a version may lose by, from the record that it was registered with."""
    return freeze_reference(record.labels, record.probabilities, spec.score_tolerance, record.overlap_bars())


def service_evidence(
    workspace: Workspace, live: Live, spec: MonitorSpec
) -> tuple[ServiceEvidence, dict[str, VersionReference], tuple[str, ...]]:
    """Return the evidence across versions, each prediction by what its own version may lose.

    What a version may lose never changes: of a version that an earlier run read, the monitor log has it, and no file is
    opened. Ten years of daily promotions have 3,650 versions.

    Args:
        workspace: registry of the versions.
        live: the served predictions, oldest first.
        spec: false-alarm rate and tolerance.

    Returns:
        The evidence, the references that were read from files, and what was left out, and why.
    """
    threshold = alarm_threshold(spec.false_alarm_rate)
    base, allowed = np.zeros(len(live.labels)), np.zeros(len(live.labels))
    known, read = np.zeros(len(live.labels), dtype=bool), dict[str, VersionReference]()
    notes, overlap, references = [], 1, workspace.monitor_log.references(workspace.name)
    versions, counts = np.unique(live.versions, return_counts=True)
    by_version, ends = np.argsort(live.versions, kind="stable"), np.cumsum(counts)
    for version, count, end in zip(versions.tolist(), counts, ends, strict=True):
        own = by_version[end - count : end]
        try:
            found = references.get(version) or read.setdefault(version, _reference_of(workspace, version, spec))
        except (NoChampion, UnsoundModel, UntrustedModel) as error:
            notes.append(f"service-wide evidence without version {version}: {error}")
            continue
        reference = replace(found.forecast, tolerance=spec.score_tolerance)
        overlap = max(overlap, found.horizon_bars)  # the longest label of any version
        known[own] = True
        base[own], allowed[own] = reference.base_rate, allowed_excesses(reference, live.probabilities[own])
    values = lagged_e_process(live.labels[known], live.probabilities[known], base[known], allowed[known], overlap)
    evidence = ServiceEvidence(int((known & live.known).sum()), float(values.max(initial=1.0)), threshold)
    return evidence, read, tuple(notes)


def _reference_of(workspace: Workspace, version: str, spec: MonitorSpec) -> VersionReference:
    """Return what a version may lose by, from its files."""
    loaded = workspace.registry.read_version(version)
    return VersionReference(freeze_reference_of(loaded.record(), spec), loaded.recipe().window.horizon_bars)


def promotion_ordinal(workspace: Workspace, version: str) -> int:
    """Return the place of a version among all that have been champion, from 1."""
    champions = former_champions(workspace.decision_log.rows(workspace.name))
    return champions.index(version) + 1 if version in champions else len(champions) + 1


def _drift(bars: Bars, champion: Version, spec: MonitorSpec) -> tuple[tuple[Drift, ...], tuple[str, ...]]:
    """Test the newest bars against the training bars before them.

    Recent bars are never part of the reference, whatever the champion was trained on: with a promotion every day they
    would enter it day by day, and no change could be found.
    """
    newest = bars.closed_at[-spec.recent_bars - 1] if len(bars) > spec.recent_bars else bars.closed_at[0]
    training = bars.closed_by(min(to_datetime64(champion.trained_until), newest))
    try:
        return measure_drift(training, bars, spec.recent_bars, spec.drift_slack, spec.max_level_factor), ()
    except SpecError as error:
        return (), (str(error),)


def monitor_numbers(score: LiveScore, service: ServiceEvidence) -> dict[str, float]:
    """Return the numbers of live score and evidence that the monitor log keeps; `live_closes` of a panel."""
    numbers = {
        "live_predictions": float(score.predictions or score.count),
        "evidence_threshold": score.threshold,
        "service_predictions": float(service.count),
        "service_evidence": service.e_value,
        "service_threshold": service.threshold,
    }
    if score.predictions:
        numbers["live_closes"] = float(score.count)
    if score.count:
        numbers["allowed_excess"] = score.allowed_excess
        numbers |= {
            "live_accuracy": score.accuracy[0],
            "live_log_loss": score.log_loss[0],
            "base_rate_log_loss": score.base_rate_loss,
            "evidence": float(score.e_values.max()),
        }
    if score.count >= MIN_DECISIONS:
        numbers |= {"live_log_loss_low": score.log_loss[1], "live_log_loss_high": score.log_loss[2]}
    return numbers


def draw_monitor(
    workspace: Workspace, decided_at: np.ndarray, losses: np.ndarray, score: LiveScore, drift: tuple[Drift, ...]
) -> Path:
    """Draw the monitor's picture below HOME/data/monitor and return its path; see `model.monitor_picture`."""
    from model.monitor_picture import monitor_picture  # imported here: matplotlib takes a second

    path = workspace.settings.data_folder / "monitor" / f"{workspace.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    monitor_picture(decided_at, losses, score, drift).savefig(path, dpi=110)
    return path


def _opinion_rows(numbers: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the share and the accuracy of a panel's opinions as rows of the table; none without a close with them."""
    if "opinion_closes" not in numbers:
        return []
    bounds = "no guarantee: no single stated share is known for all versions"
    if "opinion_share_low" in numbers:
        bounds = f"guaranteed {_text(numbers['opinion_share_low'])} .. {_text(numbers['opinion_share_high'])}"
    closes = counted(int(numbers["opinion_closes"]), "close")
    rows = [{"check": f"share with an opinion, mean of {closes}", "value": _text(numbers["opinion_share"]),
             "range or limit": bounds}]  # fmt: skip
    if numbers["opinions"]:
        limits = f"from {MIN_DECISIONS} closes on"
        if "opinion_accuracy_low" in numbers:
            limits = f"{_text(numbers['opinion_accuracy_low'])} .. {_text(numbers['opinion_accuracy_high'])}"
        count = counted(int(numbers["opinions"]), "opinion")
        rows.append(
            {"check": f"accuracy of {count}", "value": _text(numbers["opinion_accuracy"]), "range or limit": limits}
        )
    return rows


def _row(what: str, value: float, limit: float) -> dict[str, str]:
    return {"check": what, "value": _text(value), "range or limit": _text(limit)}


def _text(number: float) -> str:
    return f"{number:.4g}"


def _spread(value: tuple[float, float, float], count: int, unit: str) -> dict[str, str]:
    """Return a value with its interval; of few observations the normal approximation has none."""
    if count < MIN_DECISIONS:
        return {"value": _text(value[0]), "range or limit": f"from {MIN_DECISIONS} {unit} on"}
    return {"value": _text(value[0]), "range or limit": f"{_text(value[1])} .. {_text(value[2])}"}

"""Monitor a champion: score its stored predictions, test for drift against the training bars, raise alarms.

The statistics are in `model/`; here their inputs are gathered and the result is stored: an entry in the monitor log, a
picture below HOME/data/monitor. Predictions that were stored late are no evidence and are left out.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from model.bars import Bars, Series
from model.drift import Drift, measure_drift
from model.errors import SpecError
from model.live_score import LiveScore, allowed_excess, live_score, outcomes
from model.metrics import Record
from model.monitor_alarms import Alarm, MonitorSpec, find_alarms
from model.times import column_times, to_datetime64
from model.windows import WindowSpec, cut_windows
from tasks.champion.as_of_time import resolve_as_of
from tasks.champion.commit_decision import sync_champion_alias
from tasks.registry.model_registry import Version
from tasks.settings import Settings
from tasks.store.monitor_log import MonitorEntry, fresh_alarms, score_from
from tasks.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Live:
    """Predictions with an outcome, each decision once, oldest first."""

    decided_at: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True, slots=True)
class MonitorResult:
    """Result of one run of the monitor.

    Attributes:
        entry: as stored in the monitor log.
        score: live score.
        drift: by property; empty if there are too few bars.
        raised: alarms that were not raised within the cool-down.
        picture: file of the picture.
        notes: what could not be tested, and why.
    """

    entry: MonitorEntry
    score: LiveScore
    drift: tuple[Drift, ...]
    raised: tuple[Alarm, ...]
    picture: Path
    notes: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """Return the findings as a table: what, value, interval or limit."""
        score = self.score
        rows = [
            {"what": "live predictions with an outcome", "value": str(score.count), "range or limit": ""},
            {"what": "accuracy", **_spread(score.accuracy)},
            {"what": "log loss", **_spread(score.log_loss)},
            {"what": "base rate's log loss", "value": _text(score.base_rate_loss), "range or limit": ""},
            {"what": "actual minus predicted rises", **_spread(score.calibration)},
            {
                "what": "evidence against the champion",
                "value": _text(float(score.e_values.max()) if score.count else 1.0),
                "range or limit": "",
            },
        ]
        for each in self.drift:
            if each.name == "level":
                rows.append(
                    {"what": "price level, factor", "value": _text(each.psi), "range or limit": _text(each.psi_limit)}
                )
            else:
                rows.append(
                    {"what": f"{each.name}, KS", "value": _text(each.ks), "range or limit": _text(each.ks_limit)}
                )
                rows.append(
                    {"what": f"{each.name}, PSI", "value": _text(each.psi), "range or limit": _text(each.psi_limit)}
                )
        rows += [
            {"what": name.replace("_", " "), "value": _text(self.entry.numbers[name]), "range or limit": ""}
            for name in ("champion_age_days", "missing", "late")
        ]
        return rows


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
    """
    workspace = Workspace(settings, series)
    store = workspace.bar_store
    champion = sync_champion_alias(workspace).require(series.name)
    loaded = workspace.registry.read_version(champion.version)
    bars = store.read_bars(store.ref(series))
    now = resolve_as_of(workspace, champion, bars, as_of)
    bars = bars.closed_by(to_datetime64(now))
    entries = workspace.monitor_log.entries(series.name)
    stored = workspace.prediction_log.read(series.name)
    live = join(stored, bars, score_from(entries))
    score = score_live(live, loaded.record(), spec)
    drift, notes = _drift(bars, champion, spec)
    numbers = {**_numbers(score), **_gaps(stored, bars, loaded.recipe().window, spec)}
    numbers["champion_age_days"] = (now - champion.trained_until) / timedelta(days=1)
    found = find_alarms(
        score, drift, numbers["champion_age_days"], int(numbers["missing"]), int(numbers["decisions"]), spec
    )
    raised = fresh_alarms(entries, found, now, timedelta(days=spec.cool_down_days))
    entry = MonitorEntry(series.name, now, champion.version, numbers, found, tuple(alarm.kind for alarm in raised))
    picture = _draw(settings.root / "data" / "monitor" / f"{series.name}.png", live, score, drift, spec)
    workspace.monitor_log.write(entry)
    return MonitorResult(entry, score, drift, raised, picture, notes)


def join(stored: "pd.DataFrame", bars: Bars, since: datetime | None) -> Live:
    """Return the predictions with an outcome that were stored before it; the first stored of each decision."""
    kept = stored[~stored["late"].astype(bool)]
    if since is not None:
        kept = kept[kept["decided_at"] > since]
    kept = kept.sort_values(["decided_at", "stored_at"], kind="stable").drop_duplicates("decided_at")
    decided = column_times(kept["decided_at"])
    labels = outcomes(decided, column_times(kept["resolves_at"]), bars)
    known = labels >= 0
    return Live(decided[known], labels[known], kept["probability"].to_numpy(dtype=np.float64)[known])


def score_live(live: Live, record: Record, spec: MonitorSpec) -> LiveScore:
    """Score live predictions against the limit derived from the champion's record."""
    base_rate = float(np.clip(record.labels.mean(), 0.01, 0.99))
    excess = allowed_excess(record.labels, record.probabilities, base_rate, spec.score_tolerance)
    return live_score(live.labels, live.probabilities, base_rate, excess, spec.false_alarm_rate)


def _drift(bars: Bars, champion: Version, spec: MonitorSpec) -> tuple[tuple[Drift, ...], tuple[str, ...]]:
    """Test the newest bars, the last training bars among them if there are few, against the training bars."""
    until = to_datetime64(champion.trained_until)
    training = bars.closed_by(until)
    try:
        return measure_drift(training, bars, spec.recent_bars, spec.drift_slack, spec.max_level_factor), ()
    except SpecError as error:
        return (), (str(error),)


def _gaps(stored: "pd.DataFrame", bars: Bars, window: WindowSpec, spec: MonitorSpec) -> dict[str, float]:
    """Count recent decisions since the first prediction, those without one in time, and those with a late one."""
    if stored.empty:
        return {"decisions": 0.0, "missing": 0.0, "late": 0.0}
    decided = cut_windows(bars, window.model_copy(update={"stride_bars": 1})).decided_at[-spec.recent_bars :]
    decided = decided[decided >= column_times(stored["decided_at"]).min()]
    newest = bars.closed_at[-1]
    decided = decided[decided < newest]  # the newest decision may still be predicted in time
    late = stored["late"].astype(bool).to_numpy()
    on_time = np.isin(decided, column_times(stored["decided_at"])[~late])
    late_only = np.isin(decided, column_times(stored["decided_at"])[late]) & ~on_time
    return {"decisions": float(len(decided)), "missing": float((~on_time).sum()), "late": float(late_only.sum())}


def _numbers(score: LiveScore) -> dict[str, float]:
    numbers = {"live_predictions": float(score.count), "allowed_excess": score.allowed_excess}
    if score.count:
        numbers |= {
            "live_accuracy": score.accuracy[0],
            "live_log_loss": score.log_loss[0],
            "base_rate_log_loss": score.base_rate_loss,
            "evidence": float(score.e_values.max()),
        }
    return numbers


def _draw(path: Path, live: Live, score: LiveScore, drift: tuple[Drift, ...], spec: MonitorSpec) -> Path:
    from model.monitor_picture import monitor_picture  # here: matplotlib takes a second

    path.parent.mkdir(parents=True, exist_ok=True)
    figure = monitor_picture(live.decided_at, live.labels, live.probabilities, score, drift, spec)
    figure.savefig(path, dpi=110)
    return path


def _row(what: str, value: float, limit: float) -> dict[str, str]:
    return {"what": what, "value": _text(value), "range or limit": _text(limit)}


def _text(number: float) -> str:
    return f"{number:.4g}"


def _spread(value: tuple[float, float, float]) -> dict[str, str]:
    return {"value": _text(value[0]), "range or limit": f"{_text(value[1])} .. {_text(value[2])}"}

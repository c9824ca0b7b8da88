"""Predict with the champion and show the predictions in Prefect.

The work is done in `tasks/serving/forecast.py`, for panels in `tasks/serving/panel_forecast.py`.
"""

from collections.abc import Sequence
from datetime import datetime
from statistics import fmean

from prefect import get_run_logger, task

from model.bars import PANEL, Series
from model.freshness import ForecastSpec
from model.label_names import LABEL_NAMES
from tasks.champion.shadow_spec import ShadowSpec
from tasks.console.progress import current_progress
from tasks.pages.prefect_artifacts import artifact_key, show_table
from tasks.services.events import broken_champion_reported, emit_event_for
from tasks.serving.forecast import Forecast, forecast
from tasks.serving.panel_forecast import PanelForecast, forecast_panel
from tasks.settings import Settings
from tasks.store.prediction_log import Prediction
from tasks.workspace import require_stored


@task(name="predict", task_run_name="predict")
def predict_last(
    symbol: str, interval: str, limits: ForecastSpec, as_of: datetime | None, shadows: ShadowSpec
) -> Forecast:
    """Predict with champion and shadows at the newest stored bar, and for the days missed before it; store all."""
    with current_progress().step("predict"):
        series = require_stored(Series(symbol, interval))
        with broken_champion_reported(series.name):
            found = forecast(series, Settings(), limits, as_of, shadows=shadows)
        newest = found.prediction
        message = f"P(rise) {newest.probability:.4f} at {newest.decided_at.isoformat()} by version {newest.version}"
        emit_event_for("riseorfall.predicted", series.name, message, **newest.to_dict(), opinion=found.opinion)
        get_run_logger().info(
            "P(rise) %.4f at %s by version %s; %d earlier days backfilled; %d shadow predictions",
            newest.probability, newest.decided_at, newest.version, len(found.backfilled), len(found.shadows),
        )  # fmt: skip
        rows = [
            {"decided at": each.decided_at.isoformat(), "P(rise)": f"{each.probability:.4f}", "version": each.version,
             "late": str(each.late)}
            for each in found.backfilled
        ]  # fmt: skip
        rows.append(
            {
                "decided at": newest.decided_at.isoformat(),
                "P(rise)": f"{newest.probability:.4f}",
                "version": newest.version,
            }
            | ({"opinion": found.opinion} if found.opinion else {})
            | {name.replace("_", " "): f"{value:.3%}" for name, value in found.further.items()}
        )
        show_table(artifact_key(f"predictions {series.name}"), rows[::-1], "Newest first; late: the outcome was known")
        if found.shadows:
            made = [{"version": each.version, "P(rise)": f"{each.probability:.4f}"} for each in found.shadows[::-1]]
            note = f"Shadow predictions at {newest.decided_at.isoformat()}, not served; champion: {newest.version}"
            show_table(artifact_key(f"shadow predictions {series.name}"), made, note)
        return found


@task(name="predict", task_run_name="predict panel")
def predict_panel(interval: str, limits: ForecastSpec, as_of: datetime | None, shadows: ShadowSpec) -> PanelForecast:
    """Predict each stored series with champion and shadows of a panel, and the closes missed before; store all."""
    with current_progress().step("predict"):
        series = Series(PANEL, interval)
        with broken_champion_reported(series.name):
            found = forecast_panel(series, Settings(), limits=limits, as_of=as_of, shadows=shadows)
        content, name = found.to_dict(), LABEL_NAMES[found.label].probability
        rows = sorted(content["predictions"], key=lambda row: -float(row["probability"]))
        message = f"{name} of {len(rows)} series by version {found.version}; {len(found.left_out)} series left out"
        emit_event_for("riseorfall.predicted", series.name, message, **content)
        get_run_logger().info(
            "%s; %d missed predictions backfilled; %d shadow predictions",
            message, len(found.backfilled), len(found.shadows),
        )  # fmt: skip
        for symbol, reason in found.left_out.items():
            get_run_logger().warning("left out: %s: %s", symbol, reason)
        shown = [
            {"series": row["symbol"], name: f"{row['probability']:.4f}", "decided at": row["decided_at"],
             "late": str(row["late"])}
            | ({"opinion": row["opinion"]} if row["opinion"] else {})
            | {each.replace("_", " "): f"{value:.3%}" for each, value in found.further.get(row["symbol"], {}).items()}
            for row in rows
        ]  # fmt: skip
        show_table(artifact_key(f"predictions {series.name}"), shown, f"Version {found.version}, highest first")
        if found.shadows:
            note = f"Shadow predictions for the same closes, not served; champion: {found.version}"
            show_table(artifact_key(f"shadow predictions {series.name}"), _by_version(found.shadows), note)
        return found


def _by_version(shadows: Sequence[Prediction]) -> list[dict[str, str]]:
    """Return the mean and the range of what each version predicts for the series of a panel, newest version first."""
    found: dict[str, list[Prediction]] = {}
    for each in shadows[::-1]:
        found.setdefault(each.version, []).append(each)
    return [
        {
            "version": version,
            "label": own[0].label,
            "series": str(len(own)),
            "mean P": f"{fmean(each.probability for each in own):.4f}",
            "lowest": f"{min(each.probability for each in own):.4f}",
            "highest": f"{max(each.probability for each in own):.4f}",
        }
        for version, own in found.items()
    ]

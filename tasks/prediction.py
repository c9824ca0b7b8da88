"""Predict with the champion and show the predictions in Prefect; the work is `tasks/serving/forecast.py`'s."""

from datetime import datetime

from prefect import get_run_logger, task

from model.bars import Series
from model.freshness import ForecastSpec
from tasks.champion.shadow_spec import ShadowSpec
from tasks.console.progress import current_progress
from tasks.pages.prefect_artifacts import artifact_key, show_table
from tasks.services.events import broken_champion_reported, emit_event_for
from tasks.serving.forecast import Forecast, forecast
from tasks.settings import Settings
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

"""Predict with the champion and show the predictions in Prefect; the work is `tasks/serving/forecast.py`'s."""

from datetime import datetime

from prefect import get_run_logger, task

from model.bars import Series
from model.errors import UnsoundModel
from model.freshness import ForecastSpec
from tasks.console.progress import current_progress
from tasks.pages.prefect_artifacts import artifact_key, show_table
from tasks.services.events import emit_event_for
from tasks.serving.forecast import Forecast, forecast
from tasks.settings import Settings


@task(name="predict")
def predict_last(symbol: str, interval: str, limits: ForecastSpec, as_of: datetime | None) -> Forecast:
    """Predict with the champion at the newest stored bar and for the days missed before it; store the probabilities."""
    with current_progress().step("predict"):
        series = Series(symbol, interval)
        try:
            found = forecast(series, Settings(), limits, as_of)
        except UnsoundModel as error:
            emit_event_for("riseorfall.champion.broken", series.name, str(error))
            raise
        newest = found.prediction
        get_run_logger().info(
            "P(rise) %.4f at %s by version %s; %d earlier days backfilled",
            newest.probability, newest.decided_at, newest.version, len(found.backfilled),
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
        )
        show_table(artifact_key(f"predictions {series.name}"), rows[::-1], "Newest first; late: the outcome was known")
        return found

"""Prediction as a task: a thin cover over `tasks/forecasting.py`."""

from prefect import task

from model.bars import Series
from tasks.forecasting import Forecast, forecast
from tasks.reporting import current_progress
from tasks.settings import Settings


@task(name="predict")
def predict_last(symbol: str, interval: str) -> Forecast:
    """Predict with the champion at the newest stored bar, and store the probability."""
    with current_progress().step("predict"):
        return forecast(Series(symbol, interval), Settings())

"""Prediction as a task: a thin cover over `tasks/forecasting.py`."""

from prefect import task

from model.bars import Series
from model.errors import UnsoundModel
from tasks.events import tell
from tasks.forecasting import Forecast, forecast
from tasks.reporting import current_progress
from tasks.settings import Settings


@task(name="predict")
def predict_last(symbol: str, interval: str) -> Forecast:
    """Predict with the champion at the newest stored bar, and store the probability."""
    series = Series(symbol, interval)
    with current_progress().step("predict"):
        try:
            return forecast(series, Settings())
        except UnsoundModel as error:
            tell("riseorfall.champion.broken", series.name, str(error))
            raise

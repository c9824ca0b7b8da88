"""The champion's probability for the last closed bar, stored before its outcome is known; missed days made up."""

from datetime import datetime
from typing import Annotated

from prefect import flow
from pydantic import Field

from model.bars import IntervalName
from model.freshness import ForecastSpec
from tasks.pages.prefect_artifacts import shown
from tasks.prediction import predict_last
from tasks.services.flow_run_names import flow_run_name
from tasks.serving.forecast import Forecast

QUARTER_HOUR = 900


@flow(name="predict", flow_run_name=flow_run_name, timeout_seconds=QUARTER_HOUR)
def predict(
    symbol: Annotated[str, Field(min_length=1)] = "BTC-USD",
    interval: IntervalName = "1d",
    limits: ForecastSpec = ForecastSpec(),
    as_of: datetime | None = None,
) -> Forecast:
    """Predict the bar after the last closed one with the champion, and store the probability.

    Args:
        symbol: Symbol of the series.
        interval: Length of its bars.
        limits: How old the champion and the newest bar may be.
        as_of: What counts as now (UTC); empty: the clock for an exchange, the last close for a file.
    """
    with shown("predict"):
        return predict_last(symbol, interval, limits, as_of)

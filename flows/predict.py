"""Predict with the champion of a series or a panel; stored before the outcome is known; missed bars are backfilled."""

from datetime import datetime
from typing import Annotated

from prefect import flow, get_run_logger
from pydantic import Field

from model.bars import PANEL, IntervalName
from model.freshness import ForecastSpec
from tasks.champion.shadow_spec import ShadowSpec
from tasks.pages.prefect_artifacts import shown
from tasks.prediction import predict_last, predict_panel
from tasks.services.flow_run_names import flow_run_name
from tasks.services.prefect_run_page import readable
from tasks.serving.forecast import Forecast
from tasks.serving.panel_forecast import PanelForecast

QUARTER_HOUR = 900


@flow(name="predict", flow_run_name=flow_run_name, timeout_seconds=QUARTER_HOUR)
@readable
def predict(
    symbol: Annotated[str, Field(min_length=1)] = "BTC-USD",
    interval: IntervalName = "1d",
    staleness: ForecastSpec = ForecastSpec(),
    as_of: datetime | None = None,
    limits: ForecastSpec | None = None,
    shadows: ShadowSpec = ShadowSpec(),
) -> Forecast | PanelForecast:
    """Predict the bar after the last closed one with champion and shadows, and store the probabilities.

    Args:
        symbol: Symbol of the series; PANEL predicts each stored series with the champion of the panel.
        interval: Length of its bars.
        staleness: Maximum age of the champion and of the newest bar.
        as_of: Time of the run (UTC); empty: now for an exchange, the last close for a file.
        limits: Deprecated name of staleness; overrides it when set.
        shadows: Versions that predict the bar too, without serving.
    """
    if limits:
        get_run_logger().warning("the parameter limits is deprecated, use staleness")
    with shown("predict"):
        if symbol == PANEL:
            return predict_panel(interval, limits or staleness, as_of, shadows)
        return predict_last(symbol, interval, limits or staleness, as_of, shadows)

"""The champion's probability for the last closed bar, stored before its outcome is known."""

from prefect import flow

from tasks.forecasting import Forecast
from tasks.prediction import predict_last


@flow(name="predict", flow_run_name="predict {symbol} {interval}")
def predict(symbol: str = "BTC-USD", interval: str = "1d") -> Forecast:
    """Predict the bar after the last closed one with the champion, and store the probability.

    Args:
        symbol: Symbol of the series.
        interval: Length of its bars.
    """
    return predict_last(symbol, interval)

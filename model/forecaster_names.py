"""Words for forecasters, policies and portfolios, as the report and the terminal show them."""

from model.evaluation import NETWORK
from model.trading_policy_comparison import policy_and_forecaster

POLICY_NAMES = {"sign": "sign", "threshold": "threshold", "no_trade_band": "no-trade band"}


def forecaster_name(name: str) -> str:
    """Return a forecaster's name as text."""
    return name.replace("_", " ")


def traded_name(result: str) -> tuple[str, str]:
    """Return what a result of `PolicyComparison` trades by, and its forecaster.

    >>> traded_name("no_trade_band_by_gradient_boosting"), traded_name("sign")
    (('no-trade band', 'gradient boosting'), ('sign', 'network'))
    >>> traded_name("market_neutral_by_reversal_1_bar")
    ('market neutral', 'reversal 1 bar')
    >>> traded_name("market_neutral_by_expected_return")  # of the network, too
    ('market neutral', 'network, by return')
    """
    policy, forecaster = policy_and_forecaster(result)
    who = f"{NETWORK}, by return" if forecaster == "expected_return" else forecaster_name(forecaster or NETWORK)
    return POLICY_NAMES.get(policy, forecaster_name(policy)), who

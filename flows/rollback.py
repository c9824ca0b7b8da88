"""Put a former champion back."""

from prefect import flow

from model.bars import Series
from tasks.rollback import roll_back
from tasks.settings import Settings


@flow(name="rollback", flow_run_name="rollback {symbol} {interval}")
def rollback(symbol: str = "BTC-USD", interval: str = "1d", to: str = "", reason: str = "") -> str:
    """Make a former champion the champion again, and return its version.

    Args:
        symbol: Symbol of the series.
        interval: Length of its bars.
        to: Version to put back; empty: the champion before this one.
        reason: Why, for the ledger.
    """
    return roll_back(Series(symbol, interval), Settings(), to, reason).version

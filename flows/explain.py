"""Explain one prediction of the champion on a page: contribution of each bar, filters, activations, gates."""

from datetime import datetime
from typing import Annotated

from prefect import flow
from pydantic import Field

from model.bars import IntervalName, Series
from tasks.pages.champion_explanation import explain_champion
from tasks.pages.prefect_artifacts import show_explanation, shown
from tasks.services.flow_run_names import flow_run_name
from tasks.services.prefect_run_page import completed, readable
from tasks.settings import Settings
from tasks.workspace import require_stored

QUARTER_HOUR = 900


@flow(name="explain", flow_run_name=flow_run_name, timeout_seconds=QUARTER_HOUR)
@readable
def explain(symbol: Annotated[str, Field(min_length=1)], interval: IntervalName, at: datetime | None = None) -> str:
    """Explain one prediction of the champion, and return the address of the page.

    Args:
        symbol: Symbol of the series.
        interval: Length of its bars.
        at: Decision time of the window (UTC), the close of its last bar; empty: the newest bar.
    """
    with shown("explain") as run, run.step("explain"):
        settings = Settings()
        found = explain_champion(require_stored(Series(symbol, interval)), settings, at)
        page = settings.link(found.path)
        show_explanation(found.to_dict(), page)
        run.report_line(f"{found.series.name}: P(rise) {found.explained.probability:.4f} explained on {page}")
        return completed(page, f"{found.headline()}, page {page}")

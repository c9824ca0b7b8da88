"""Newly closed bars join the store, after they were checked. Twice adds nothing, so a failed fetch is tried again."""

from datetime import datetime

from prefect import flow, runtime

from data_checks.suites import CheckSpec
from tasks.ingestion import ingest as ingest_bars
from tasks.ingestion import source_unavailable, store
from tasks.pages.prefect_artifacts import shown
from tasks.results import Stored
from tasks.services.flow_run_names import flow_run_name
from tasks.sources.source_spec import SourceSpec, require_readable
from tasks.validation import check as check_bars

HOUR = 3600


@flow(name="ingest", flow_run_name=flow_run_name, timeout_seconds=HOUR)
def ingest(source: SourceSpec = SourceSpec(), check: CheckSpec = CheckSpec(), as_of: datetime | None = None) -> Stored:
    """Append the bars that closed since last time, checked.

    Args:
        source: Where the bars come from.
        check: What good bars are, and which failures stop the run.
        as_of: What counts as now (UTC); empty: the clock for an exchange, the last close for a file.
    """
    require_readable(source)
    with shown("ingest", "check"):
        patient = ingest_bars.with_options(
            retries=3, retry_delay_seconds=[30, 120, 300], retry_condition_fn=source_unavailable
        )
        landing = patient(source, as_of, str(runtime.flow_run.id))
        return store(landing, check_bars(landing, source, check).accepted)

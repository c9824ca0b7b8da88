"""Ingest newly closed bars: fetch, check, store. Idempotent, so a failed fetch is retried."""

from datetime import datetime

from prefect import flow, runtime

from data_checks.check_spec import CheckSpec
from tasks.ingestion import ingest as ingest_bars
from tasks.ingestion import source_unavailable, store
from tasks.pages.prefect_artifacts import shown
from tasks.results import Stored
from tasks.services.flow_run_names import flow_run_name
from tasks.services.prefect_run_page import readable
from tasks.sources.source_spec import SourceSpec, require_readable
from tasks.validation import check_landing

HOUR = 3600


@flow(name="ingest", flow_run_name=flow_run_name, timeout_seconds=HOUR)
@readable
def ingest(source: SourceSpec = SourceSpec(), check: CheckSpec = CheckSpec(), as_of: datetime | None = None) -> Stored:
    """Check and store the bars that closed since the last run.

    Args:
        source: Where the bars come from.
        check: Rules for bars, and which failures stop the run.
        as_of: Time of the run (UTC); empty: now for an exchange, the last close for a file.
    """
    require_readable(source)
    with shown("ingest", "check"):
        ingest_with_retries = ingest_bars.with_options(
            retries=3, retry_delay_seconds=[30, 120, 300], retry_condition_fn=source_unavailable
        )
        landing = ingest_with_retries(source, as_of, str(runtime.flow_run.id))
        return store(landing, check_landing(landing, source, check).accepted)

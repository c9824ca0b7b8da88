"""Runs a suite in Great Expectations (GX) and writes its Data Docs: the one place that creates a GX context.

The context lives in memory; pages are written only if a folder is given: `index.html` (the runs), `latest.html`
(redirects to the newest), one page per run under `validations/`. No analytics are sent and no progress bar is drawn.
Caution: GX reports an expectation that raised as an ordinary failure; here it is `broken`, with its message, so that an
error of the check is not mistaken for a defect of the bars.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import unquote, urlparse

import pandas as pd

from data_checks.offline_data_docs import INDEX, adopt_page, describe_status, list_run
from data_checks.rule_definitions import Suite

log = logging.getLogger(__name__)

PAGE_VIEW = {"module_name": "data_checks.cached_data_docs", "class_name": "CachedPageView"}
SITE = {
    "site_section_builders": {
        "expectations": {"view": PAGE_VIEW},
        "validations": {"view": PAGE_VIEW},
        "profiling": "None",
    },
    "site_index_builder": {"module_name": "data_checks.cached_data_docs", "class_name": "NoIndex"},
}
SHOWN_ROWS = 20  # rows that violate a rule, shown on a page


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one rule in Great Expectations.

    Attributes:
        success: whether the expectation was met.
        unexpected: number of rows that violate it; None where the expectation does not count rows.
        broken: message of the exception that the check raised; empty if it ran.
    """

    success: bool
    unexpected: int | None
    broken: str


@dataclass(frozen=True, slots=True)
class Validation:
    """The outcome of each rule by name, and the paths of the pages; empty if none were written."""

    outcomes: dict[str, Outcome]
    docs_url: str
    page_url: str


def validate_batch(batch: pd.DataFrame, suite: Suite, run_name: str, docs_dir: Path | None) -> Validation:
    """Validate a batch against a suite, and write its page into `docs_dir`, if given."""
    # GX's site builder deletes pages of runs that are not in its store, so it builds in a folder of its own.
    with _quiet(), TemporaryDirectory() as folder:
        site = None if docs_dir is None else Path(folder).resolve()
        outcomes, identifier, built = _run_suite(batch, suite, run_name, site)
        if docs_dir is None or site is None or built is None:
            return Validation(outcomes, "", "")
        page, failures = built.relative_to(site), _failures(suite, outcomes)
        stopped = bool(failures["critical"] or (suite.limits.get("stop_on") == "warning" and failures["warning"]))
        adopt_page(built, docs_dir / page, describe_status(failures, stopped=stopped))
        for other in (site / "expectations").rglob("*.html"):
            adopt_page(other, docs_dir / other.relative_to(site))
    list_run(docs_dir, _run_line(suite, failures, run_name, identifier, page) | {"stopped": stopped})
    return Validation(outcomes, str(docs_dir / INDEX), str(docs_dir / page))


def _run_suite(
    batch: pd.DataFrame, suite: Suite, run_name: str, site: Path | None
) -> tuple[dict[str, Outcome], Any, Path | None]:
    """Return the outcome of each rule, the identifier of the run, and the page that was built in `site`."""
    from great_expectations.checkpoint.actions import UpdateDataDocsAction  # here: takes 5 s, and only checks need it
    from great_expectations.core.run_identifier import RunIdentifier

    from data_checks.expectations import build_expectation
    from data_checks.great_expectations_objects import AddedCheckpoint, AddedDefinition, AddedSuite

    context = _open_context(site)
    asset = context.data_sources.add_pandas("bars").add_dataframe_asset(suite.name)
    made = [build_expectation(rule, suite.limits, suite.severity(rule)) for rule in suite.rules]
    stored = context.suites.add(AddedSuite(suite.name, expectations=made))
    data = asset.add_batch_definition_whole_dataframe(suite.name)
    definition = AddedDefinition(name=suite.name, data=data, suite=stored)
    checkpoint = AddedCheckpoint(
        name=suite.name,
        validation_definitions=[context.validation_definitions.add(definition)],
        actions=[UpdateDataDocsAction(name="pages")] if site else [],
        result_format={"result_format": "BASIC", "partial_unexpected_count": SHOWN_ROWS},
    )
    found = context.checkpoints.add(checkpoint).run({"dataframe": batch}, run_id=RunIdentifier(run_name=run_name))
    ((identifier, result),) = found.run_results.items()
    names = {rule.expectation: rule.name for rule in suite.rules}
    outcomes = {names[each.expectation_config.type]: _outcome(each) for each in result.results}
    return outcomes, identifier, _page_of(context, identifier) if site else None


def _failures(suite: Suite, outcomes: dict[str, Outcome]) -> dict[str, int]:
    """Return the number of failed rules by severity; one that did not run is critical."""
    failures = dict.fromkeys(("critical", "warning", "info"), 0)
    for rule in suite.rules:
        outcome = outcomes.get(rule.name)
        if outcome is None or outcome.broken:
            failures["critical"] += 1
        elif not outcome.success:
            failures[suite.severity(rule)] += 1
    return failures


def _run_line(suite: Suite, failures: dict[str, int], run_name: str, identifier: Any, page: Path) -> dict[str, Any]:
    """Return the index entry of a run."""
    return {
        "checked_at": f"{identifier.run_id.run_time:%Y-%m-%d %H:%M:%S}Z",
        "suite": suite.name,
        "run": run_name,
        "rules": len(suite.rules),
        "failures": failures,
        "page": page.as_posix(),
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings and log lines of Great Expectations itself."""
    library = logging.getLogger("great_expectations")
    level = library.level
    library.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        library.setLevel(level)


def _open_context(site: Path | None) -> Any:
    """Create a context in memory that builds pages in `site`, if given."""
    import great_expectations as gx  # imported here: takes 5 s, and only checks need it
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    defaults = InMemoryStoreBackendDefaults()
    if site is not None:
        defaults.data_docs_sites = {
            "pages": {
                "class_name": "SiteBuilder",
                "show_how_to_buttons": False,
                **SITE,
                "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(site)},
            }
        }
    config = DataContextConfig(
        store_backend_defaults=defaults,
        analytics_enabled=False,
        progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
    )
    return gx.get_context(project_config=config, mode="ephemeral")


def _outcome(result: Any) -> Outcome:
    return Outcome(bool(result.success), result.result.get("unexpected_count"), _exception_of(result.exception_info))


def _exception_of(found: dict[str, Any] | None) -> str:
    """Return the message of an exception in GX's result: one record, or one per metric."""
    if not found:
        return ""
    records = [found] if "raised_exception" in found else list(found.values())
    raised = [record for record in records if record.get("raised_exception")]
    return str(raised[0].get("exception_message") or "no message") if raised else ""


def _page_of(context: Any, identifier: Any) -> Path:
    (url,) = [site["site_url"] for site in context.get_docs_sites_urls(resource_identifier=identifier)]
    return Path(unquote(urlparse(url).path))

"""Submit retrains of many series as flow runs that the workers of a pool share: one per series, or one per group."""

from collections.abc import Sequence
from typing import Any

from prefect import task

from tasks.services.group_runs import group_name
from tasks.sources.source_spec import SourceSpec

RETRAIN_ALL = "retrain_all"  # tag of the runs that it submits


@task(name="start retrain", task_run_name="start {source.symbol} {source.interval}", retries=3, retry_delay_seconds=10)
def start_retrain(deployment: str, source: SourceSpec, parameters: dict[str, Any], sender: str) -> str:
    """Submit a run of the deployment and return its id, without waiting for it.

    A waiting parent would occupy a slot that its children need. Submitting twice from one sender gives one run.

    Args:
        deployment: `flow/deployment` that retrains one series.
        source: where the bars of the series come from.
        parameters: the retrain's other parameters, as plain values.
        sender: identity of the caller, such as the id of the parent's run.
    """
    given = {**parameters, "source": source.model_dump(mode="json")}
    return _submit(deployment, given, f"{sender} {source.model_dump_json()}", [source.symbol, RETRAIN_ALL])


@task(name="start group", task_run_name="start group {number}", retries=3, retry_delay_seconds=10)
def start_group(
    deployment: str, number: int, sources: Sequence[SourceSpec], parameters: dict[str, Any], sender: str
) -> str:
    """Submit a run that retrains several series in one process, and return its id, without waiting for it.

    Args:
        deployment: `flow/deployment` that retrains a group.
        number: of the group.
        sources: where the bars of its series come from.
        parameters: of each retrain, as plain values.
        sender: identity of the caller.
    """
    given = {**parameters, "sources": [source.model_dump(mode="json") for source in sources]}
    return _submit(deployment, given, f"{sender} group {number}", [RETRAIN_ALL], group_name(sources))


def _submit(deployment: str, parameters: dict[str, Any], key: str, tags: list[str], name: str | None = None) -> str:
    from prefect.deployments import run_deployment

    run = run_deployment(
        name=deployment,
        parameters=parameters,
        timeout=0,
        as_subflow=False,
        idempotency_key=key,
        tags=tags,
        flow_run_name=name,
    )
    return str(run.id)  # type: ignore[union-attr]  # sync here: there is no event loop

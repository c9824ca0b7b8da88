"""Submit one retrain per series as flow runs of their own, which the workers of a pool share."""

from typing import Any

from prefect import task

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
    from prefect.deployments import run_deployment

    run = run_deployment(
        name=deployment,
        parameters={**parameters, "source": source.model_dump(mode="json")},
        timeout=0,
        as_subflow=False,
        idempotency_key=f"{sender} {source.model_dump_json()}",
        tags=[source.symbol, RETRAIN_ALL],
    )
    return str(run.id)  # type: ignore[union-attr]  # sync here: there is no event loop

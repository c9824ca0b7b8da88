"""Holds the manifests, and a job as the worker would make it, against the schemas of Kubernetes; needs no cluster.

    pip install prefect-kubernetes kubernetes-validate pyyaml
    python docker/kubernetes/check.py

It ends with an error at the first strange or missing field.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import kubernetes_validate
import yaml
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

HERE = Path(__file__).parent


async def job() -> dict[str, Any]:
    """Return the job that the work pool's template makes of a flow run."""
    template = json.loads((HERE / "work-pool.json").read_text(encoding="utf-8"))
    no_server = PrefectClient("http://127.0.0.1:9/api")  # would be used to read blocks only; the template has none
    values = {"env": {"WHY": "check"}}
    made = await KubernetesWorkerJobConfiguration.from_template_and_values(template, values, client=no_server)
    made.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="retrain BTC-USD 1d"))
    manifest: dict[str, Any] = made.job_manifest
    return manifest


def main() -> None:
    """Check everything and say what was looked at."""
    manifests = [*yaml.safe_load_all((HERE / "worker.yaml").read_text(encoding="utf-8")), asyncio.run(job())]
    for manifest in manifests:
        kubernetes_validate.validate(manifest, desired_version="1.33", strict=True)
        sys.stdout.write(
            f"{manifest['kind']} {manifest['metadata'].get('name', '(of the work pool)')}: as the schema wants\n"
        )
    secret = [word for word in json.dumps(manifests[-1]).split('"') if "AUTH_STRING" in word or "PASSWORD" in word]
    if secret:
        raise SystemExit(f"the job names secrets itself: {secret}; expected them from the Secret alone")


if __name__ == "__main__":
    main()

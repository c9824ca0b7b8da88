"""Provision a stack at each start: `provision.py stores` before the servers start, `provision.py servers` after them.

stores: create databases, roles and buckets, migrate the schemas of Prefect and MLflow to the versions of this image.
servers: create MLflow's users and the work pools, deploy prefect.yaml, install the automations.
Idempotent. Passwords come from the environment and are never part of an argument, a parameter or a log line.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir
from datetime import timedelta
from pathlib import Path

log = logging.getLogger("provision")

DATABASES = {"prefect": ("prefect",), "mlflow": ("mlflow", "mlflow_users")}  # role: its databases
BUCKETS = ("mlflow", "tables")
POOLS = ("riseorfall", "riseorfall-gpu")
MAX_SILENCE = timedelta(seconds=300)  # five missed heartbeats; a run sends one every 60 s
HERE = Path(__file__).parent


def stores(env: Mapping[str, str]) -> None:
    """Create databases, roles and buckets, and migrate the schemas."""
    _databases(env)
    _buckets(env)
    _schemas(env)


def servers(env: Mapping[str, str]) -> None:
    """Create users, work pools, deployments and automations."""
    _users(env)
    _pools()
    _deploy(env)
    _automations()


def _databases(env: Mapping[str, str]) -> None:
    import psycopg2
    from psycopg2 import sql

    link = psycopg2.connect(
        host=env["POSTGRES_HOST"], user="postgres", password=env["POSTGRES_PASSWORD"], dbname="postgres"
    )
    link.autocommit = True  # CREATE DATABASE cannot run in a transaction
    with link.cursor() as cursor:
        for role, names in DATABASES.items():
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
            verb = sql.SQL("ALTER" if cursor.fetchone() else "CREATE")
            password = env[f"{role.upper()}_DATABASE_PASSWORD"]
            cursor.execute(
                sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, sql.Identifier(role), sql.Literal(password))
            )
            for name in names:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
                if not cursor.fetchone():
                    cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*map(sql.Identifier, (name, role))))
                    log.info("database %s: created", name)
                cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
    link.close()


def _buckets(env: Mapping[str, str]) -> None:
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=env["RISEORFALL_S3_ENDPOINT_URL"],
        aws_access_key_id=env["S3_ADMIN_ACCESS_KEY"],
        aws_secret_access_key=env["S3_ADMIN_SECRET_KEY"],
        region_name="us-east-1",
    )
    present = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
    for name in BUCKETS:
        if name not in present:
            client.create_bucket(Bucket=name)
            log.info("bucket %s: created", name)


def _schemas(env: Mapping[str, str]) -> None:
    """Migrate in this process: a URI with a password must not be an argument, which `ps` shows."""
    from mlflow.db import upgrade
    from mlflow.server.auth.db.cli import upgrade as upgrade_users

    upgrade.callback(env["MLFLOW_BACKEND_STORE_URI"])
    upgrade_users.callback(env["MLFLOW_AUTH_DATABASE_URI"], "head")
    subprocess.run(["prefect", "server", "database", "upgrade", "--yes"], check=True)  # noqa: S607 - from the image
    log.info("schemas: migrated to the versions of this image")


def _users(env: Mapping[str, str]) -> None:
    """Create two MLflow users besides the administrator: `worker` may write, `reader` may only read."""
    import requests

    users = f"{env['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/users"
    with requests.Session() as session:
        session.auth = ("admin", env["MLFLOW_ADMIN_PASSWORD"])
        for name in ("worker", "reader"):
            account = {"username": name, "password": env[f"MLFLOW_{name.upper()}_PASSWORD"]}
            exists = session.get(f"{users}/get", params={"username": name}, timeout=30).status_code == requests.codes.ok
            if exists:
                answer = session.patch(f"{users}/update-password", json=account, timeout=30)
            else:
                answer = session.post(f"{users}/create", json=account, timeout=30)
            if not answer.ok:
                raise SystemExit(f"MLflow user {name}: expected to set the password, found {answer.status_code}")


def _pools() -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    with get_client(sync_client=True) as client:
        for name in POOLS:
            try:
                client.read_work_pool(name)
            except ObjectNotFound:
                template = ProcessWorker.get_default_base_job_template()
                client.create_work_pool(WorkPoolCreate(name=name, type="process", base_job_template=template))
                log.info("work pool %s: created", name)


def _deploy(env: Mapping[str, str]) -> None:
    """Deploy prefect.yaml after validating every entry against its flow, which Prefect does not do.

    If GPU_POOL is set, the flows that train go to that work pool.
    """
    from flows.deployments import check_yaml, plans, yaml_text

    file, gpu_pool = HERE / "prefect.yaml", env.get("GPU_POOL", "")
    if gpu_pool:
        file = Path("/tmp/prefect.yaml")  # noqa: S108 - in memory, private to the container
        file.write_text(yaml_text(plans(), gpu_pool=gpu_pool), encoding="utf-8")
    with chdir(env["RISEORFALL_CODE"]):  # entrypoints are read from there
        for line in check_yaml(file):
            log.info("%s", line)
        # each worker sets its own RISEORFALL_CODE
        environment = {name: value for name, value in env.items() if name != "RISEORFALL_CODE"}
        command = ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
        subprocess.run(command, env=environment, check=True)  # noqa: S603 - a fixed command


def _automations() -> None:
    """Install the automations of the project, and one that marks a run without a heartbeat as crashed."""
    from prefect.client.orchestration import get_client
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.states import StateType

    from flows.deployments import plans
    from tasks.services.automations import install

    install([plan.full_name for plan in plans()])
    ends = {f"prefect.flow-run.{end}" for end in ("Completed", "Failed", "Cancelled", "Crashed")}
    name, name_of_0_1 = "riseorfall: mark runs without a heartbeat as crashed", "riseorfall: a run went silent"
    automation = AutomationCore(
        name=name,
        description="Marks a run as crashed when its heartbeats stop, because its worker was killed.",
        trigger=EventTrigger(
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *ends},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=MAX_SILENCE,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat from its worker")],
    )
    with get_client(sync_client=True) as client:
        for old in client.read_automations_by_name(name_of_0_1):
            client.delete_automation(old.id)
        if not client.read_automations_by_name(name):
            client.create_automation(automation)
            log.info("automation %s: created", name)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    {"stores": stores, "servers": servers}[sys.argv[1]](os.environ)

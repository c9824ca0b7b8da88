"""Test a running stack from the host, as a client would, with the standard library only.

    python3 docker/probe.py closed            requests without credentials or with an unknown host name are refused
    python3 docker/probe.py retrain [JSON]    starts a retrain through the Prefect API and waits for its end
    python3 docker/probe.py start [JSON]      starts one, prints its id and does not wait
    python3 docker/probe.py training ID       waits until a retrain trains its first fold
    python3 docker/probe.py ended ID          waits for its end; prints its state in Prefect and MLflow
    python3 docker/probe.py champion          the champion's version and the hash of its network, through MLflow
    python3 docker/probe.py dask              a retrain in threads, one on the Dask cluster: the same numbers
    python3 docker/probe.py predict           predicts with the champion over REST
    python3 docker/probe.py pages             the pages of Prefect, MLflow, reports and Data Docs open
    python3 docker/probe.py parameters        everything that Prefect keeps about runs, deployments and work pools

Passwords are read from the file that ENV_FILE names (docker/.env). BIND, PREFECT_PORT, MLFLOW_PORT,
S3_PORT, PREDICT_PORT, PAGES_PORT as for compose. Exits with 1 and a message if a check fails.
"""

import base64
import hashlib
import http.client
import json
import os
import socket
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

HOST = os.environ.get("BIND") or "127.0.0.1"
SERIES = "BTC-USD-1d"
SMALL = {  # a fast retrain: it tests the stack, not the model
    "folds": {"count": 2, "test_bars": 100},
    "training": {"epochs": 2, "patience": 1},
    "network": {"filters": [4, 4], "units": 4, "dense_units": 8},
    "force": True,  # also on bars that were trained on before
}
WAIT_SECONDS = 900.0
OPEN_CODES = (200, 201, 204)


def port(name: str, usual: int) -> int:
    """Return a port from the environment, as compose does."""
    return int(os.environ.get(name) or usual)


PREFECT, MLFLOW = port("PREFECT_PORT", 4200), port("MLFLOW_PORT", 5000)
OBJECTS, PREDICT, PAGES = port("S3_PORT", 8333), port("PREDICT_PORT", 8800), port("PAGES_PORT", 8900)


def secrets() -> dict[str, str]:
    """Return the passwords of the stack."""
    place = Path(os.environ.get("ENV_FILE") or Path(__file__).with_name(".env"))
    lines = [line for line in place.read_text(encoding="utf-8").splitlines() if "=" in line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)


def ask(
    where: int, method: str, path: str, body: Any = None, user: str = "", headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Send one request to this machine and return the code and the body."""
    sent = {"Content-Type": "application/json", **(headers or {})}
    if user:
        sent["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
    link = http.client.HTTPConnection(HOST, where, timeout=60)
    try:
        link.request(method, path, None if body is None else json.dumps(body), sent)
        answer = link.getresponse()
        return answer.status, answer.read()
    finally:
        link.close()


def read_json(where: int, method: str, path: str, body: Any = None, user: str = "") -> Any:
    """Send one request and return the JSON of the response; exit if it is not successful."""
    code, content = ask(where, method, path, body, user)
    if code not in OPEN_CODES:
        raise SystemExit(f"{method} {path} on {where}: expected an answer, found {code}: {content[:300]!r}")
    return json.loads(content)


def closed() -> None:
    """Send requests without credentials or permission; exit with an error if one is accepted."""
    wrong = "admin:wrong"
    tries = [
        ("MLflow read", MLFLOW, "POST", "/api/2.0/mlflow/experiments/search", {"max_results": 1}, ""),
        ("MLflow, wrong password", MLFLOW, "POST", "/api/2.0/mlflow/experiments/search", {"max_results": 1}, wrong),
        ("MLflow write", MLFLOW, "POST", "/api/2.0/mlflow/experiments/create", {"name": "intruder"}, ""),
        ("MLflow artifact", MLFLOW, "GET", "/api/2.0/mlflow-artifacts/artifacts?path=", None, ""),
        ("MLflow registry", MLFLOW, "GET", "/api/2.0/mlflow/registered-models/search", None, ""),
        ("MLflow users", MLFLOW, "GET", "/api/2.0/mlflow/users/get?username=admin", None, ""),
        ("MLflow page", MLFLOW, "GET", "/", None, ""),
        ("Prefect read", PREFECT, "POST", "/api/flow_runs/filter", {}, ""),
        ("Prefect read, wrong password", PREFECT, "POST", "/api/flow_runs/filter", {}, wrong),
        ("Prefect write", PREFECT, "POST", "/api/flows/", {"name": "intruder"}, ""),
        ("reports", PAGES, "GET", "/reports/", None, ""),
        ("reports, wrong password", PAGES, "GET", "/docs/", None, wrong),
        ("S3 list", OBJECTS, "GET", "/tables?list-type=2", None, ""),
        ("S3 buckets", OBJECTS, "GET", "/", None, ""),
        ("S3 object", OBJECTS, "GET", "/tables/riseorfall/bars/_delta_log/00000000000000000000.json", None, ""),
        ("S3 write", OBJECTS, "PUT", "/tables/intruder", {}, ""),
    ]
    accepted = 0
    for name, where, method, path, body, user in tries:
        code, _ = ask(where, method, path, body, user)
        accepted += print_result(name, f"{code}", refused=code in {401, 403})
    user = f"admin:{secrets()['MLFLOW_ADMIN_PASSWORD']}"
    for name, given in (("MLflow, strange host name", "evil.example"), ("MLflow, strange host and port", "evil:5000")):
        code, _ = ask(MLFLOW, "GET", "/api/2.0/mlflow/registered-models/search", None, user, {"Host": given})
        accepted += print_result(name, f"{code}", refused=code in {400, 403})
    model = {"name": SERIES}
    reader = f"reader:{secrets()['MLFLOW_READER_PASSWORD']}"
    for name, path, body in (
        ("MLflow reader moves champion", "registered-models/alias", {**model, "alias": "champion", "version": "1"}),
        ("MLflow reader deletes model", "registered-models/delete", model),
        ("MLflow reader creates model", "registered-models/create", {"name": "intruder"}),
        ("MLflow reader creates experiment", "experiments/create", {"name": "intruder"}),
    ):
        code, _ = ask(MLFLOW, "DELETE" if "delete" in path else "POST", f"/api/2.0/mlflow/{path}", body, reader)
        accepted += print_result(name, f"{code}", refused=code == 403)  # noqa: PLR2004 - forbidden
    for name, number in (("PostgreSQL", 5432), ("store's master", 9333), ("store's filer", 8888)):
        with socket.socket() as tried:
            tried.settimeout(2)
            reached = not tried.connect_ex((HOST, number))
        accepted += print_result(f"{name} from the host", "reached" if reached else "no port", refused=not reached)
    if accepted:
        raise SystemExit(f"{accepted} requests were accepted")


def print_result(name: str, found: str, *, refused: bool) -> int:
    """Print one line, and return 1 if the request was accepted."""
    print(f"  {name:34} {found:8} {'refused' if refused else 'ACCEPTED'}")  # noqa: T201 - its product
    return 0 if refused else 1


def retrain(parameters: dict[str, Any] | None = None, seconds: float = WAIT_SECONDS) -> dict[str, Any]:
    """Start a retrain through the Prefect API, wait for its end, and print how it ended."""
    began = time.monotonic()
    run = start_retrain(SMALL if parameters is None else parameters)
    state = wait(run, seconds)
    print(f"  retrain {run['id']}: {state['name']} after {time.monotonic() - began:.0f} s")  # noqa: T201 - its product
    if state["type"] != "COMPLETED":
        raise SystemExit(f"expected a completed retrain, found {state['name']}: {state.get('message')}")
    return run


def start_retrain(parameters: dict[str, Any]) -> dict[str, Any]:
    """Create a run of the deployment `retrain`."""
    user = f"admin:{secrets()['PREFECT_PASSWORD']}"
    deployment = read_json(PREFECT, "GET", "/api/deployments/name/retrain/retrain", user=user)
    query = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
    run: dict[str, Any] = read_json(
        PREFECT, "POST", f"/api/deployments/{deployment['id']}/create_flow_run", query, user
    )
    return run


def wait(run: dict[str, Any], seconds: float = WAIT_SECONDS) -> dict[str, Any]:
    """Wait until a flow run is over, and return its last state; keep waiting while the server is down."""
    user, end = f"admin:{secrets()['PREFECT_PASSWORD']}", time.monotonic() + seconds
    state: dict[str, Any] = {"type": "PENDING", "name": "unknown"}
    while time.monotonic() < end:
        try:
            code, content = ask(PREFECT, "GET", f"/api/flow_runs/{run['id']}", user=user)
            state = json.loads(content)["state"] if code in OPEN_CODES else state
        except (OSError, http.client.HTTPException):
            pass
        if state["type"] in {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}:
            return state
        time.sleep(2)
    raise SystemExit(f"flow run {run['id']}: expected an end within {seconds:.0f} s, found {state['name']}")


def training(run: str, seconds: float = WAIT_SECONDS) -> None:
    """Wait until a fold of a retrain is being trained."""
    user, end = f"admin:{secrets()['PREFECT_PASSWORD']}", time.monotonic() + seconds
    query = {"flow_runs": {"id": {"any_": [run]}}, "task_runs": {"name": {"like_": "train fold"}}}
    while not read_json(PREFECT, "POST", "/api/task_runs/filter", query, user):
        if time.monotonic() > end:
            raise SystemExit(f"flow run {run}: expected a fold in training within {seconds:.0f} s, found none")
        time.sleep(1)


def ended(run: str, seconds: float = WAIT_SECONDS) -> None:
    """Print how a flow run ended, in Prefect and in MLflow, which is given two minutes more."""
    state = wait({"id": run}, seconds)
    user, status = f"reader:{secrets()['MLFLOW_READER_PASSWORD']}", "none"
    query = {"experiment_ids": ["1"], "filter": f"tags.flow_run = '{run}'", "max_results": 1}
    for _ in range(60):
        try:
            code, content = ask(MLFLOW, "POST", "/api/2.0/mlflow/runs/search", query, user)
            found = json.loads(content).get("runs", []) if code in OPEN_CODES else []
            status = found[0]["info"]["status"] if found else "none"
        except (OSError, http.client.HTTPException):
            status = "away"
        if status not in {"RUNNING", "away"}:
            break
        time.sleep(3)
    message = (state.get("message") or "").splitlines() or [""]
    print(f"Prefect {state['name']}, MLflow {status}; {message[0][:900]}")  # noqa: T201 - its product


def champion() -> dict[str, str]:
    """Read the champion's version and its network through MLflow's own door, and print the hash."""
    user = f"reader:{secrets()['MLFLOW_READER_PASSWORD']}"
    path = f"/api/2.0/mlflow/registered-models/alias?name={SERIES}&alias=champion"
    version = read_json(MLFLOW, "GET", path, user=user)["model_version"]
    path = f"/api/2.0/mlflow/model-versions/get-download-uri?name={SERIES}&version={version['version']}"
    place = read_json(MLFLOW, "GET", path, user=user)["artifact_uri"]
    folder = place.removeprefix("mlflow-artifacts:").lstrip("/")
    path = f"/api/2.0/mlflow-artifacts/artifacts/{folder}/artifacts/network.onnx"
    code, network = ask(MLFLOW, "GET", path, user=user)
    if code not in OPEN_CODES or not network:
        raise SystemExit(f"{place}: expected the network through the server, found {code}: {network[:200]!r}")
    info = read_json(MLFLOW, "GET", "/api/3.0/mlflow/server-info", user=user)
    if info.get("multipart_downloads_enabled"):
        raise SystemExit("MLflow sends its clients to links of the store, which this machine may not reach")
    found = {"version": version["version"], "sha256": hashlib.sha256(network).hexdigest(), "bytes": str(len(network))}
    print("  champion " + json.dumps(found))  # noqa: T201 - its product
    return found


def dask() -> None:
    """Retrain with the folds in the worker's threads, then on the cluster: all numbers of a fold must be the same."""
    found = []
    for where in ({"runner": "threads"}, {"runner": "dask", "address": "tcp://folds:8786"}):
        run = retrain({**SMALL, "folds": {**SMALL["folds"], **where}})
        found.append(fold_metrics(run["id"]))
    threads, cluster = found
    if not threads or threads != cluster:
        raise SystemExit(f"expected the same numbers of each fold, found {threads} and on the cluster {cluster}")
    for fold, metrics in sorted(cluster.items()):
        print(f"  fold {fold}: {len(metrics)} numbers alike, log loss {metrics['test/log_loss']!r}")  # noqa: T201 - its product


def fold_metrics(flow_run: str) -> dict[str, dict[str, float]]:
    """Return what MLflow knows of each fold of a flow run: metric by name, by fold."""
    user = f"reader:{secrets()['MLFLOW_READER_PASSWORD']}"

    def search(tag: str, value: str) -> list[dict[str, Any]]:
        query = {"experiment_ids": ["1"], "filter": f"tags.`{tag}` = '{value}'", "max_results": 100}
        runs: list[dict[str, Any]] = read_json(MLFLOW, "POST", "/api/2.0/mlflow/runs/search", query, user).get(
            "runs", []
        )
        return runs

    parent = search("flow_run", flow_run)[0]["info"]["run_id"]
    found = {}
    for run in search("mlflow.parentRunId", parent):
        tags = {tag["key"]: tag["value"] for tag in run["data"]["tags"]}
        found[tags["fold"]] = {each["key"]: each["value"] for each in run["data"]["metrics"]}
    return found


def predict() -> dict[str, Any]:
    """Predict on a synthetic series over REST and print the result; an invalid request must be refused."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    bars = [
        {"timestamp": (start + timedelta(days=day)).isoformat(), "open": 100.0 + day, "high": 103.0 + day,
         "low": 98.0 + day, "close": 101.0 + day + day % 3, "volume": 5.0}
        for day in range(40)
    ]  # fmt: skip
    answer: dict[str, Any] = read_json(PREDICT, "POST", "/predict", {"bars": bars})
    probabilities = [row["probability"] for row in answer["predictions"]]
    code, reason = ask(PREDICT, "POST", "/predict", {"bars": [{**bars[0], "close": -1.0}]})
    if not probabilities or not all(0 <= each <= 1 for each in probabilities) or code != 422:  # noqa: PLR2004
        raise SystemExit(
            f"expected probabilities and 422 for a bad bar, found {probabilities[:3]} and {code}: {reason!r}"
        )
    print(f"  version {answer['version']}: {len(probabilities)} probabilities, the last {probabilities[-1]:.4f}")  # noqa: T201
    return answer


def pages() -> None:
    """Look at the pages that a browser would open, with their passwords."""
    known = secrets()
    tries = (
        ("Prefect", PREFECT, "/", ""),
        ("Prefect, version 2", PREFECT, "/v2/", ""),
        ("MLflow", MLFLOW, "/", f"admin:{known['MLFLOW_ADMIN_PASSWORD']}"),
        ("reports", PAGES, "/reports/", f"admin:{known['PREFECT_PASSWORD']}"),
        ("Data Docs", PAGES, "/docs/", f"admin:{known['PREFECT_PASSWORD']}"),
    )
    for name, where, path, user in tries:
        code, content = ask(where, "GET", path, user=user)
        if code not in {*OPEN_CODES, 307} or (code in OPEN_CODES and b"<html" not in content.lower()):
            raise SystemExit(f"{name}: expected a page at {path} on {where}, found {code}: {content[:200]!r}")
        print(f"  {name}: a page at {path} on {where}")  # noqa: T201 - its product


def parameters() -> None:
    """Print what Prefect keeps: parameters, variables of jobs, log lines."""
    user = f"admin:{secrets()['PREFECT_PASSWORD']}"
    for kind in ("flow_runs", "deployments", "work_pools", "logs", "block_documents", "variables", "artifacts"):
        print(json.dumps(read_json(PREFECT, "POST", f"/api/{kind}/filter", {}, user)))  # noqa: T201 - its product


if __name__ == "__main__":
    what, rest = sys.argv[1], sys.argv[2:]
    if what == "retrain":
        retrain(json.loads(rest[0]) if rest else None)
    elif what == "start":
        print(start_retrain(json.loads(rest[0]) if rest else SMALL)["id"])  # noqa: T201 - its product
    elif what in {"training", "ended"}:
        {"training": training, "ended": ended}[what](rest[0])
    else:
        {
            "closed": closed,
            "champion": champion,
            "dask": dask,
            "predict": predict,
            "pages": pages,
            "parameters": parameters,
        }[what]()

#!/usr/bin/env bash
# kill_services.sh [SERVICE ...]: kill each service of a running stack with SIGKILL while a retrain trains its folds, and print
# the result: how the run ended in Prefect and MLflow, whether the champion still loads, bars lost or duplicated, and
# whether the next run succeeds. COMPOSE and ENV_FILE as for verify.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
export COMPOSE=${COMPOSE:-docker compose -f docker/compose.yaml}
services=("$@")
[ $# -gt 0 ] || services=(worker prefect mlflow database objects)
bars() { $COMPOSE exec -T worker riseorfall bars --json | python3 -c 'import json,sys; b = json.load(sys.stdin)[0]; print(b["rows"], "bars,", b["gaps"], "gaps")'; }
before=$(bars)
echo "before: $before"
for service in "${services[@]}"; do
    began=$SECONDS after=
    run=$(python3 docker/probe.py start)
    python3 docker/probe.py training "$run"
    $COMPOSE exec -T "$service" sh -c 'kill -9 -1' >/dev/null 2>&1 || true  # every process but init, which then exits
    ended=$(python3 docker/probe.py ended "$run" 2>&1) || true
    lasted=$((SECONDS - began))
    for _ in $(seq 60); do
        python3 docker/probe.py champion >/dev/null 2>&1 && after=$(bars 2>/dev/null) && break
        sleep 3
    done
    champion=$(python3 docker/probe.py champion 2>&1) || champion="NOT READ: $champion"
    next=$(python3 docker/probe.py retrain 2>&1) || next="FAILED: $next"
    printf '%s\n' "$service: killed" "  run: $ended ($lasted s)" "  bars: ${after:-NOT READ}" "$champion" "  next: $next"
    [ "${after:-}" = "$before" ] || echo "  BARS DIFFER from $before"
done

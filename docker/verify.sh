#!/usr/bin/env bash
# verify.sh: build the images, start a separate stack, use it, test its access control, restart it, back it up, destroy
# it, restore it, and remove it. Exits with 0 only if every check passed.
#   ENGINE      docker or podman (found)          COMPOSE   compose command (found: docker compose, docker-compose)
#   BUILD       build command (ENGINE build)       UP_FLAGS  flags for `up`, such as --pull never
#   GPU=1       builds the image worker-gpu too   KEEP=1    leaves the stack running at the end
set -euo pipefail
cd "$(dirname "$0")/.."
engine=${ENGINE:-$(command -v docker >/dev/null && echo docker || echo podman)}
compose=${COMPOSE:-$($engine compose version >/dev/null 2>&1 && echo "$engine compose" || echo docker-compose)}
build=${BUILD:-$engine build}
project=riseorfall-verify every="--profile predict --profile dask"
work=$(mktemp -d)
export ENV_FILE=$work/.env IMAGE=riseorfall TAG=verify
export PREFECT_PORT=24200 MLFLOW_PORT=25000 S3_PORT=28333 PREDICT_PORT=28800 PAGES_PORT=28900
export COMPOSE="$compose -p $project --env-file $ENV_FILE -f docker/compose.yaml" UP_FLAGS="${UP_FLAGS:-} --no-build"

started=$SECONDS
say() { printf '\n%4ds  %s\n' "$((SECONDS - started))" "$*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
end() {
    code=$?
    if [ "$code" != 0 ]; then $COMPOSE logs --tail 30 >&2 || true; fi
    if [ -z "${KEEP:-}" ]; then $COMPOSE $every down --volumes --timeout 20 >/dev/null 2>&1 || true; rm -rf "$work"; fi
    say "ends with $code"
}
trap end EXIT
trap 'exit 130' INT TERM  # else the last line says 0
up() { $COMPOSE "$@" up -d $UP_FLAGS --wait >"$work/up.log" 2>&1 || { cat "$work/up.log"; fail "up"; }; }
inside() { $COMPOSE exec -T "$@"; }
tables() { inside worker riseorfall bars --json && inside worker riseorfall decisions --last 0 --json; }
services() { $COMPOSE $every ps --services --status running; }

say "passwords: without them compose refuses"
touch "$work/empty"
! $compose -p $project --env-file "$work/empty" -f docker/compose.yaml config -q 2>"$work/refusal" || fail "started without"
grep -m1 required "$work/refusal"
docker/generate_passwords.sh "$ENV_FILE" >/dev/null
for profile in "" "--profile gpu" "--profile predict" "--profile dask" "--profile observe"; do $COMPOSE $profile config -q; done

for target in default predict ${GPU:+worker-gpu}; do
    case $target in default) name=$IMAGE ;; predict) name=$IMAGE-predict ;; *) name=$IMAGE-gpu ;; esac
    say "build $target"
    $build -t "$name:$TAG" --target "$target" -f docker/Dockerfile . >"$work/build.log" 2>&1 || { tail "$work/build.log"; fail "build"; }
    $engine image inspect --format '{{.Size}}' "$name:$TAG" | awk '{printf "       %.0f MB\n", $1 / 1e6}'
done

say "up"
up
say "access without credentials is refused"
python3 docker/probe.py closed
say "a retrain through the Prefect API"
python3 docker/probe.py retrain
say "the champion, read on the host through MLflow"
python3 docker/probe.py champion
say "pages open in a browser, with passwords"
python3 docker/probe.py pages
say "the champion over REST"
$COMPOSE --profile predict up -d $UP_FLAGS --no-deps --wait predict >"$work/up.log" 2>&1 || { cat "$work/up.log"; fail "predict"; }
python3 docker/probe.py predict
say "folds on a Dask cluster"
$COMPOSE --profile dask up -d $UP_FLAGS --no-deps --wait folds folds-worker >"$work/up.log" 2>&1 || { cat "$work/up.log"; fail "dask"; }
python3 docker/probe.py dask

say "no root, no capability, no new privilege, no write to the image"
for service in $(services); do
    found=$(inside "$service" sh -c 'awk "/^(Uid|CapEff|CapBnd|NoNewPrivs):/ {printf \"%s%s \", \$1, \$2}" /proc/1/status
        if touch /usr/probe 2>/dev/null; then echo WRITABLE; fi')
    echo "  $service: $found"
    case $found in *"Uid:0 "* | *WRITABLE*) fail "$service: $found" ;; esac
    case $found in *"CapEff:0000000000000000 CapBnd:0000000000000000 NoNewPrivs:1"*) ;; *) fail "$service: $found" ;; esac
done

say "no secret in an image, a log, a Prefect parameter"
secrets() { sed -n 's/^[A-Z0-9_]*=//p' "$ENV_FILE"; }
for name in "$IMAGE" "$IMAGE-predict"; do
    $engine history --no-trunc "$name:$TAG" >"$work/history"
    $engine image inspect "$name:$TAG" >>"$work/history"
    ! secrets | grep -qFf - "$work/history" || fail "a secret in $name"
    left=$($engine run --rm --user root --network none "$name:$TAG" find / -xdev \( -name .env -o -name id_rsa \))
    [ -z "$left" ] || fail "$name holds $left"
done
$COMPOSE $every logs --no-color >"$work/logs" 2>&1
! secrets | grep -qFf - "$work/logs" || fail "a secret in a log"
python3 docker/probe.py parameters >"$work/parameters"
! secrets | grep -qFf - "$work/parameters" || fail "a secret in Prefect"
echo "  $(secrets | wc -l) secrets; $(wc -l <"$work/logs") lines of log, $(wc -c <"$work/parameters") bytes of Prefect"

python3 docker/probe.py champion >"$work/champion"
say "restart"
$COMPOSE --profile predict restart --timeout 30 >/dev/null 2>&1
up --profile predict
python3 docker/probe.py champion | cmp - "$work/champion" || fail "another champion after a restart"
tables >"$work/tables"

say "backup"
docker/backup.sh "$work/copy"
say "destroy the volumes"
$COMPOSE $every down --volumes --timeout 20 >/dev/null 2>&1
say "restore into empty ones"
docker/restore.sh "$work/copy" >"$work/restore.log" 2>&1 || { tail -20 "$work/restore.log"; fail "restore"; }
python3 docker/probe.py champion | cmp - "$work/champion" || fail "another champion after a restore"
tables | cmp - "$work/tables" || fail "other tables after a restore"
say "same champion, same bars, same decision log; one more retrain"
python3 docker/probe.py retrain
say "every check passed"

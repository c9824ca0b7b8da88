#!/bin/sh
# restore.sh FOLDER: replace the content of the stack with a backup made by backup.sh, and start it again.
# The stack may be running, stopped, or new with empty volumes; docker/.env must be the one of the backup. The databases
# are created anew: the tables of another version of Prefect or MLflow would not go together with those of the backup.
set -eu
cd "$(dirname "$0")/.."
folder=${1:?usage: docker/restore.sh FOLDER}
compose=${COMPOSE:-docker compose -f docker/compose.yaml}
(cd "$folder" && sha256sum --quiet --check SHA256SUMS)
of_profiles=$($compose --profile gpu --profile dask ps --services --status running | grep -x -e worker-gpu -e folds-worker) || true
# shellcheck disable=SC2086
$compose --profile gpu --profile dask stop worker $of_profiles prefect mlflow
$compose up -d ${UP_FLAGS:-} --wait database objects
databases="prefect mlflow mlflow_users"
for database in $databases; do $compose exec -T database dropdb -U postgres --if-exists --force "$database"; done
$compose run -T --rm --no-deps stores-prepared # roles, buckets
for database in $databases; do
    $compose exec -T database dropdb -U postgres --force "$database"
    $compose exec -T database createdb -U postgres --owner "${database%_users}" "$database"
    $compose exec -T database pg_restore -U postgres --dbname "$database" --single-transaction <"$folder/$database.dump"
done
copies=$(cat docker/bucket_copies.py)
load() { $compose run -T --rm --no-deps stores-prepared python -c "$copies" load "$@"; }
if [ -e "$folder/objects.tar" ]; then # a backup of an earlier version
    load tables mlflow <"$folder/objects.tar"
else
    for bucket in tables mlflow; do load "$bucket" <"$folder/$bucket.tar"; done
fi
$compose up -d ${UP_FLAGS:-} --wait
# shellcheck disable=SC2086
[ -z "$of_profiles" ] || $compose --profile gpu --profile dask up -d ${UP_FLAGS:-} --wait $of_profiles

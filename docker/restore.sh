#!/bin/sh
# restore.sh FOLDER: puts a copy made by backup.sh into the stack, in place of what is there, and starts it again.
# The stack may be running, stopped, or new with empty volumes; docker/.env must be the one of the backup.
set -eu
cd "$(dirname "$0")/.."
folder=${1:?usage: docker/restore.sh FOLDER}
compose=${COMPOSE:-docker compose -f docker/compose.yaml}
(cd "$folder" && sha256sum --quiet --check SHA256SUMS)
$compose stop worker prefect mlflow
$compose up -d ${UP_FLAGS:-} --wait database objects
$compose run -T --rm --no-deps stores-prepared
for database in prefect mlflow mlflow_users; do
    $compose exec -T database pg_restore -U postgres --dbname "$database" --clean --if-exists --single-transaction \
        <"$folder/$database.dump"
done
$compose run -T --rm --no-deps stores-prepared python copies.py load <"$folder/objects.tar"
$compose up -d ${UP_FLAGS:-} --wait

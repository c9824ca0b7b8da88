#!/bin/sh
# restore.sh FOLDER: replace the content of the stack with a backup made by backup.sh, and start it again.
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
$compose run -T --rm --no-deps stores-prepared python bucket_copies.py load <"$folder/objects.tar"
$compose up -d ${UP_FLAGS:-} --wait

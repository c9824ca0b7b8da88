#!/bin/sh
# backup.sh FOLDER: back up databases and objects of the running stack into a new folder. Nothing is stopped: what names
# something is copied before it, and objects are never overwritten. So the tables come first, because the decision log
# names versions of MLflow's database, then the databases, then the files that MLflow's database names.
# Keep docker/.env with it. COMPOSE: the compose command (default: docker compose -f docker/compose.yaml).
set -eu
cd "$(dirname "$0")/.."
folder=${1:?usage: docker/backup.sh FOLDER}
compose=${COMPOSE:-docker compose -f docker/compose.yaml}
umask 077
mkdir "$folder"
copies=$(cat docker/bucket_copies.py)
save() { $compose run -T --rm --no-deps stores-prepared python -c "$copies" save "$1" >"$folder/$1.tar"; }
save tables
for database in prefect mlflow mlflow_users; do
    $compose exec -T database pg_dump -U postgres --format custom "$database" >"$folder/$database.dump"
done
save mlflow
(cd "$folder" && sha256sum -- *.dump *.tar >SHA256SUMS)
du -sh "$folder"

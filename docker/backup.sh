#!/bin/sh
# backup.sh FOLDER: back up databases and objects of the running stack into a new folder. Nothing is stopped: the
# databases come first and objects are never overwritten, so every object that a database names is in the backup.
# Keep docker/.env with it. COMPOSE: the compose command (default: docker compose -f docker/compose.yaml).
set -eu
cd "$(dirname "$0")/.."
folder=${1:?usage: docker/backup.sh FOLDER}
compose=${COMPOSE:-docker compose -f docker/compose.yaml}
umask 077
mkdir "$folder"
for database in prefect mlflow mlflow_users; do
    $compose exec -T database pg_dump -U postgres --format custom "$database" >"$folder/$database.dump"
done
$compose run -T --rm --no-deps stores-prepared python bucket_copies.py save >"$folder/objects.tar"
(cd "$folder" && sha256sum -- *.dump objects.tar >SHA256SUMS)
du -sh "$folder"

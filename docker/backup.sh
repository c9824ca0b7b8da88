#!/bin/sh
# backup.sh FOLDER: copies databases and objects of the running stack into a new folder. Nothing is stopped: the
# databases are copied first and objects are never overwritten, so what the databases name is among the objects.
# Keep docker/.env with it. COMPOSE (default: docker compose -f docker/compose.yaml) may name another way to compose.
set -eu
cd "$(dirname "$0")/.."
folder=${1:?usage: docker/backup.sh FOLDER}
compose=${COMPOSE:-docker compose -f docker/compose.yaml}
umask 077
mkdir "$folder"
for database in prefect mlflow mlflow_users; do
    $compose exec -T database pg_dump -U postgres --format custom "$database" >"$folder/$database.dump"
done
$compose run -T --rm --no-deps stores-prepared python copies.py save >"$folder/objects.tar"
(cd "$folder" && sha256sum -- *.dump objects.tar >SHA256SUMS)
du -sh "$folder"

#!/bin/sh
# generate_passwords.sh [FILE]: write random passwords into docker/.env (or FILE), readable by its owner only. An existing file is
# kept: a password that changes here but not in the database would lock everyone out.
set -eu
place=${1:-$(cd "$(dirname "$0")" && pwd)/.env}
[ ! -e "$place" ] || { echo "$place exists and is kept"; exit 0; }
umask 077
word() { od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'; }
{
    echo "# Written by docker/generate_passwords.sh. Keep it: without it a restored backup cannot be opened. Never commit it."
    for name in POSTGRES_PASSWORD PREFECT_DATABASE_PASSWORD MLFLOW_DATABASE_PASSWORD PREFECT_PASSWORD \
        MLFLOW_ADMIN_PASSWORD MLFLOW_WORKER_PASSWORD MLFLOW_READER_PASSWORD MLFLOW_SECRET_KEY \
        S3_ADMIN_SECRET_KEY S3_MLFLOW_SECRET_KEY S3_TABLES_SECRET_KEY S3_READER_SECRET_KEY; do
        echo "$name=$(word 24)"
    done
    for name in S3_ADMIN_ACCESS_KEY S3_MLFLOW_ACCESS_KEY S3_TABLES_ACCESS_KEY S3_READER_ACCESS_KEY; do
        echo "$name=$(word 10)"
    done
} >"$place.new"
mv "$place.new" "$place"
echo "wrote $place; sign in to Prefect and MLflow as admin with its PREFECT_PASSWORD and MLFLOW_ADMIN_PASSWORD"

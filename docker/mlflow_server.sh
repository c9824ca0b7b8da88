#!/bin/sh
# Start the MLflow server with passwords. Settings that MLflow reads only from a file are written to /tmp, in memory.
# Password hashes are slow on purpose, so a verified password is cached for a minute.
set -eu
umask 077
cat >/tmp/auth.ini <<END
[mlflow]
default_permission = READ
database_uri = ${MLFLOW_AUTH_DATABASE_URI:?}
authorization_function = tasks.services.mlflow_reader:authenticate
auth_cache_ttl_seconds = 60
END
export MLFLOW_AUTH_CONFIG_PATH=/tmp/auth.ini
# proxied-s3 (tasks/registry/proxied_artifacts.py): clients get no signed links to the object store, which
# they cannot reach.
exec mlflow server --app-name basic-auth --host 0.0.0.0 --port 5000 --workers "${MLFLOW_WORKERS:-2}" \
    --serve-artifacts --artifacts-destination "proxied-s3://${MLFLOW_BUCKET:?}" \
    --allowed-hosts "${MLFLOW_ALLOWED_HOSTS:?}" --cors-allowed-origins "${MLFLOW_ALLOWED_ORIGINS:?}"

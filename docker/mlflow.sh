#!/bin/sh
# Starts the MLflow server with passwords. What MLflow only reads from a file is written to /tmp, which is memory.
# A password is hashed slowly on purpose; one that was right is believed for a minute, or each request would pay for it.
set -eu
umask 077
cat >/tmp/auth.ini <<END
[mlflow]
default_permission = READ
database_uri = ${MLFLOW_AUTH_DATABASE_URI:?}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
END
export MLFLOW_AUTH_CONFIG_PATH=/tmp/auth.ini
# proxied-s3 (tasks/registry/proxied_artifacts.py): clients get no signed link to the store, which they may not reach.
exec mlflow server --app-name basic-auth --host 0.0.0.0 --port 5000 --workers "${MLFLOW_WORKERS:-2}" \
    --serve-artifacts --artifacts-destination "proxied-s3://${MLFLOW_BUCKET:?}" \
    --allowed-hosts "${MLFLOW_ALLOWED_HOSTS:?}" --cors-allowed-origins "${MLFLOW_ALLOWED_ORIGINS:?}"

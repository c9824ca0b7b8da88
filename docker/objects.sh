#!/bin/sh
# Starts the S3 store with three keys: one that may do all, and one for each bucket that may do nothing else.
# Only the S3 port listens to other containers; master, volumes and filer, which know no passwords, to this one alone.
set -eu
umask 077
identity() { # identity NAME ACCESS_KEY SECRET_KEY ACTIONS
    printf '{"name": "%s", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], "actions": [%s]}' "$1" "$2" "$3" "$4"
}
bucket() { printf '"Read:%s", "Write:%s", "List:%s", "Tagging:%s"' "$1" "$1" "$1" "$1"; }
{
    printf '{"identities": ['
    identity admin "$S3_ADMIN_ACCESS_KEY" "$S3_ADMIN_SECRET_KEY" '"Admin", "Read", "Write", "List", "Tagging"'
    printf ', '
    identity mlflow "$S3_MLFLOW_ACCESS_KEY" "$S3_MLFLOW_SECRET_KEY" "$(bucket mlflow)"
    printf ', '
    identity tables "$S3_TABLES_ACCESS_KEY" "$S3_TABLES_SECRET_KEY" "$(bucket tables)"
    printf ']}'
} >/tmp/s3.json
exec weed server -dir=/data -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.volumeSizeLimitMB=1024 -volume.max=200 \
    -filer -s3 -s3.ip.bind=0.0.0.0 -s3.port=8333 -s3.config=/tmp/s3.json

#!/bin/sh
# Start the S3 store with four keys: an administrator key, one for each bucket with access to that bucket only, and one
# that only reads the tables.
# Only the S3 port is open to other containers; master, volumes and filer have no passwords and listen locally.
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
    printf ', '
    identity reader "$S3_READER_ACCESS_KEY" "$S3_READER_SECRET_KEY" '"Read:tables", "List:tables"'
    printf ']}'
} >/tmp/s3.json
exec weed server -dir=/data -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.volumeSizeLimitMB=1024 -volume.max=200 \
    -filer -s3 -s3.ip.bind=0.0.0.0 -s3.port=8333 -s3.config=/tmp/s3.json

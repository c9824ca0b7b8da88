"""Back up buckets as one tar stream, or restore them.

Usage: `python bucket_copies.py save BUCKET ... > FILE`, `python bucket_copies.py load BUCKET ... < FILE`.

backup.sh and restore.sh run their own copy of it in the image of the stack, which may be of another version, with the
administrator key of the object store. Delta logs are read before the files that they name, so a backup taken while a
run writes is a state that the tables really had.
"""

import io
import logging
import os
import sys
import tarfile
from collections.abc import Sequence
from typing import Any

log = logging.getLogger("bucket_copies")


def save(buckets: Sequence[str]) -> int:
    """Write every object of some buckets to standard output, and return the number of objects."""
    client, count = _client(), 0
    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as archive:
        for bucket in buckets:
            for key in sorted(_keys(client, bucket), key=lambda key: "/_delta_log/" not in key):
                content = client.get_object(Bucket=bucket, Key=key)["Body"].read()
                entry = tarfile.TarInfo(f"{bucket}/{key}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
                count += 1
    return count


def load(buckets: Sequence[str]) -> int:
    """Read objects from standard input, put them into their buckets, and return the number of objects.

    Objects that are in one of the buckets but not in the backup are deleted: two histories of one table must not mix.
    """
    client, restored = _client(), set()
    with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
        for entry in archive:
            bucket, _, key = entry.name.partition("/")
            content = archive.extractfile(entry)
            if bucket not in buckets or not key or content is None or ".." in key.split("/"):
                raise SystemExit(f"{entry.name}: expected an object of {' or '.join(buckets)}; nothing more was loaded")
            client.put_object(Bucket=bucket, Key=key, Body=content.read())
            restored.add((bucket, key))
    for bucket in buckets:
        for key in _keys(client, bucket):
            if (bucket, key) not in restored:
                client.delete_object(Bucket=bucket, Key=key)
    return len(restored)


def _keys(client: Any, bucket: str) -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [each["Key"] for page in pages for each in page.get("Contents", [])]


def _client() -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=os.environ["RISEORFALL_S3_ENDPOINT_URL"],
        aws_access_key_id=os.environ["S3_ADMIN_ACCESS_KEY"],
        aws_secret_access_key=os.environ["S3_ADMIN_SECRET_KEY"],
        region_name="us-east-1",
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # to standard error: standard output is the backup
    log.info("%d objects", {"save": save, "load": load}[sys.argv[1]](sys.argv[2:]))

"""Artifacts on S3 that clients get through the MLflow server and in no other way.

MLflow on S3 tells its clients to fetch files from links that it signs for the store; a client that cannot reach the
store then hangs, and no option of the server turns that off. `--artifacts-destination proxied-s3://bucket` names the
same files through this class, which offers no such links. MLflow finds it by the entry point in pyproject.toml.
"""

from functools import cached_property
from typing import Any

from mlflow.store.artifact.artifact_repo import ArtifactRepository

SCHEME = "proxied-s3"


class ProxiedS3(ArtifactRepository):  # type: ignore[misc]  # MLflow carries no types
    """Reads, writes, lists and deletes as MLflow's own S3 repository does; signs nothing."""

    @cached_property
    def _objects(self) -> Any:
        from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository  # imported here: it needs boto3

        return S3ArtifactRepository(f"s3:{self.artifact_uri.removeprefix(f'{SCHEME}:')}")

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Put one file into a folder of the bucket."""
        self._objects.log_artifact(local_file, artifact_path)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Put the files of a folder into a folder of the bucket."""
        self._objects.log_artifacts(local_dir, artifact_path)

    def list_artifacts(self, path: str | None = None) -> Any:
        """List files and folders."""
        return self._objects.list_artifacts(path)

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete files."""
        self._objects.delete_artifacts(artifact_path)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        self._objects._download_file(remote_file_path, local_path)  # noqa: SLF001 - MLflow's own hook

"""Whether the files of a version may be opened: where they lie, and the SHA-256 that the decision log recorded.

A registry proves nothing: whoever may write to it can point a version at another folder or replace its files. The
decision log is ours. Paths are relative to the version's folder; the modules of `model/` that lie there for MLflow's
own server are one entry, `code/`. Left out is what MLflow and Python write on loading.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from model.errors import UntrustedModel
from tasks.registry.unreachable_store import store_unavailable

ARTIFACTS = "artifacts/"  # the files that riseorfall reads
CODE = "code/"
WRITTEN_ON_LOADING = frozenset({"registered_model_meta", "__pycache__"})
PROXIED = "mlflow-artifacts"
NEXT = (
    "The version was not loaded, and the champion stays. `riseorfall doctor` says what can be repaired. Restore the "
    "files from a backup, or make another version the champion: `riseorfall rollback`, or `riseorfall promote "
    "--version N --force --reason ...`; both need --symbol and --interval where several series are stored."
)


def sha256(content: bytes) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def file_digests(place: str, root: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a version by its path; for a link, where it leads.

    Args:
        place: the version, for errors.
        root: its folder on this machine.

    Raises:
        StoreUnavailable: the disk fails.
    """
    found: dict[str, str] = {}
    try:
        for path in sorted(root.rglob("*")):
            parts = path.relative_to(root).parts
            if (path.is_symlink() or path.is_file()) and WRITTEN_ON_LOADING.isdisjoint(parts):
                found["/".join(parts)] = (
                    f"link to {path.readlink()}" if path.is_symlink() else sha256(path.read_bytes())
                )
    except (OSError, MemoryError) as error:
        raise store_unavailable(place, error) from error
    code = [f"{path} {found.pop(path)}" for path in sorted(found) if path.startswith(CODE)]
    return found | ({CODE: sha256("\n".join(code).encode())} if code else {})


def require_same_digest(place: str, path: str, found: str, recorded: Mapping[str, str]) -> None:
    """Raise UntrustedModel if a file differs from the recorded one; an empty `found` is a file that is missing."""
    expected = recorded.get(path, "")
    if expected != found:
        raise UntrustedModel(
            f"{place}: {path} differs from the file of its decision: expected "
            f"{f'SHA-256 {expected}' if expected else 'no such file'} (decision log), found {found or 'no such file'}. "
            f"{NEXT}"
        )


def require_run(place: str, run_id: str, recorded: frozenset[str]) -> None:
    """Raise UntrustedModel if the decision log knows this version as the result of other runs."""
    if recorded and run_id not in recorded:
        raise UntrustedModel(
            f"{place}: this version number now belongs to another network: expected MLflow run "
            f"{' or '.join(sorted(recorded))} (decision log), found {run_id or 'no run'}. {NEXT}"
        )


@dataclass(frozen=True)
class ArtifactPlaces:
    """Where the files of a version may lie.

    Attributes:
        home: below this folder they always may.
        uri: tracking address; its server may deliver the files of its own artifact store.
        configured: returns a further address, that of the series' experiment; empty for none.
    """

    home: Path
    uri: str
    configured: Callable[[], str] = str

    @cached_property
    def _homes(self) -> tuple[Path, ...]:
        """A home may keep `mlruns`, or the files in it, on another disk, behind a link."""
        return tuple((self.home / each).resolve() for each in ("", "mlruns", "mlruns/artifacts"))

    def require_inside(self, place: str, location: str) -> None:
        """Raise UntrustedModel if a version's files lie elsewhere.

        Args:
            place: the version, for errors.
            location: address or path of its files, as the registry names it.
        """
        parts = urlsplit(location)
        if parts.scheme == PROXIED and parts.netloc in ("", urlsplit(self.uri).netloc):
            return
        path = local_path(location)
        if path is not None and any(path.resolve().is_relative_to(each) for each in self._homes):
            return
        configured = self.configured()
        if not configured or not _is_below(location, configured):
            allowed = " or ".join([str(self.home), *([configured] if configured else [])])
            leads = f", which leads to {path.resolve()}" if path is not None and path.resolve() != path else ""
            raise UntrustedModel(
                f"{place}: its files lie outside the artifact store: expected a place below {allowed}, found "
                f"{location}{leads}. If the home was moved or copied, run `riseorfall doctor`. {NEXT}"
            )


def _is_below(location: str, store: str) -> bool:
    ours, theirs = local_path(store), local_path(location)
    if ours is not None and theirs is not None:
        return theirs.resolve().is_relative_to(ours.resolve())
    return location.startswith(f"{store.rstrip('/')}/") and ".." not in unquote(location).split("/")


def local_path(location: str | None) -> Path | None:
    """Return the path of an address of files on this machine; None for any other."""
    if not location:
        return None
    parts = urlsplit(location)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return Path(unquote(parts.path))
    return Path(location) if location.startswith("/") else None

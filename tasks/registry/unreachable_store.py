"""Distinguish a store that cannot be reached from one that lacks a file or a version, by the error that MLflow raised.

The first says nothing about a model, so nothing may be decided on it; in doubt a store counts as not reached. Caution:
MLflow's downloads raise an exception of their own without the cause, and the one by run reports every failure as
RESOURCE_DOES_NOT_EXIST. What a store holds is therefore read from its listing (`failed_fetch`).
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG

from model.errors import RiseOrFallError, StoreUnavailable, UnsoundModel

STORE_FAILURES = frozenset({401, 403, 408, 429, 500, 502, 503, 504})  # HTTP: refused, overloaded or broken; not 404
STORE_FAILURE_CODES = frozenset(
    {"PERMISSION_DENIED", "REQUEST_LIMIT_EXCEEDED", "TEMPORARILY_UNAVAILABLE", "UNAUTHENTICATED"}
)
ABSENCE_CODES = frozenset({"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"})  # the latter: a number that is none
ABSENT_ON_DISK = (FileNotFoundError, NotADirectoryError)


def is_store_failure(error: BaseException) -> bool:
    """Return whether an error shows a store or machine that failed, rather than what the store holds.

    The whole chain of causes counts, because MLflow raises its own exception in place of the connection's.
    """
    return any(_is_store_failure(each) for each in _causes(error))


def is_absence(error: BaseException) -> bool:
    """Return whether MLflow answered that it has no such run, version or name.

    Only the error's own code counts: a listing that fails is raised while the failed download is handled.
    """
    return getattr(error, "error_code", "") in ABSENCE_CODES and not is_store_failure(error)


def _is_store_failure(error: BaseException) -> bool:
    import requests  # imported here: a command that meets no error starts without it

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in STORE_FAILURES
    if getattr(error, "error_code", "") in STORE_FAILURE_CODES:
        return True
    if isinstance(error, (ConnectionError, TimeoutError, PermissionError, MemoryError, requests.RequestException)):
        return True  # too little memory says nothing about a model either
    # The operating system numbers its errors (no space, too many open files); pyarrow's OSError for bad content has no
    # number.
    return isinstance(error, OSError) and error.errno is not None and not isinstance(error, ABSENT_ON_DISK)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from or in place of."""
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__ or each.__context__


@contextmanager
def require_answer(where: str) -> Iterator[None]:
    """Raise StoreUnavailable in place of MLflow's exception, except where MLflow answered that something is absent."""
    try:
        yield
    except RiseOrFallError:
        raise
    except Exception as error:  # MLflow's, requests', boto's: they share no root
        if is_absence(error):
            raise
        raise store_unavailable(where, error) from error


def failed_fetch(
    where: str, wanted: Iterable[str], list_files: Callable[[], Iterable[str]], error: Exception
) -> RiseOrFallError:
    """Return the error for files that could not be fetched.

    Args:
        where: run or version.
        wanted: the files.
        list_files: lists what the store holds at that place.
        error: of the fetch.

    Returns:
        UnsoundModel if the store lists its files and one of these is not among them, or knows no such run or version;
        StoreUnavailable otherwise: a file that is listed and cannot be fetched is a failure of the store.
    """
    try:
        missing = sorted(set(wanted) - set(list_files()))
    except Exception as unlisted:  # noqa: BLE001 - MLflow's, requests', boto's
        if not is_absence(unlisted):
            return store_unavailable(where, unlisted)
        return UnsoundModel(f"{where}: expected it in the store, found: {unlisted}")
    if missing:
        return UnsoundModel(f"{where}: expected {', '.join(missing)} in the artifact store, found no such file")
    return store_unavailable(where, error)


def store_unavailable(where: str, error: BaseException) -> StoreUnavailable:
    """Return the error for a store that could not be read: no statement about the model that it holds."""
    return StoreUnavailable(
        f"{where}: expected the store of runs and versions to answer, found: {str(error) or type(error).__name__}. "
        "Nothing was decided; check that the store runs and its credentials, then run again."
    )


def is_there(place: str, path: Path) -> bool:
    """Return whether a file exists; StoreUnavailable if the disk does not say."""
    try:
        return S_ISREG(path.stat().st_mode)
    except ABSENT_ON_DISK:
        return False
    except OSError as error:
        raise store_unavailable(f"{place}: {path.name}", error) from error


def regular_content(path: Path, most_bytes: int | None = None) -> bytes:
    """Return the content of a regular file; reading a device may never end, and a pipe waits for a writer.

    Raises:
        FileNotFoundError: there is none, or something else is there.
        OSError: the disk fails, or the file is larger than `most_bytes`.
    """
    found = path.stat()
    if not S_ISREG(found.st_mode):
        raise FileNotFoundError(f"expected a regular file, found a device, a pipe or a folder: {path}")
    if most_bytes is not None and found.st_size > most_bytes:
        raise OSError(f"expected at most {most_bytes:,} bytes, found {found.st_size:,}: {path}")
    return path.read_bytes()

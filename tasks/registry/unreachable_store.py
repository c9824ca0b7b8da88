"""Tell a store that cannot be reached from one that lacks a file or a version, by the error that MLflow raised.

The first says nothing about a model, so nothing may be decided on it. Knows the error codes of MLflow and HTTP only.
"""

from collections.abc import Iterator

from model.errors import StoreUnavailable

STORE_FAILURES = frozenset({401, 403, 408, 429, 500, 502, 503, 504})  # HTTP: refused, overloaded or broken; not 404
STORE_FAILURE_CODES = frozenset(
    {"PERMISSION_DENIED", "REQUEST_LIMIT_EXCEEDED", "TEMPORARILY_UNAVAILABLE", "UNAUTHENTICATED"}
)


def is_store_failure(error: BaseException) -> bool:
    """Return whether an error shows that a store did not answer or refused access, rather than what it holds.

    The whole chain of causes counts, because MLflow raises its own exception in place of the connection's.
    """
    return any(_is_store_failure(each) for each in _causes(error))


def _is_store_failure(error: BaseException) -> bool:
    import requests  # imported here: a command that meets no error starts without it

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code in STORE_FAILURES
    if getattr(error, "error_code", "") in STORE_FAILURE_CODES:
        return True
    return isinstance(error, (ConnectionError, TimeoutError, PermissionError, requests.RequestException))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from or in place of."""
    each: BaseException | None = error
    while each is not None:
        yield each
        each = each.__cause__ or each.__context__


def store_unavailable(where: str, error: Exception) -> StoreUnavailable:
    """Return the error for a store that could not be read: no statement about the model that it holds."""
    return StoreUnavailable(
        f"{where}: expected the store of runs and versions to answer, found: {error}. Nothing was decided; check that "
        "the store runs and its credentials, then run again."
    )

"""The smoke test of a version, just before it becomes champion: load it as a server does, and predict once."""

from model.errors import StoreUnavailable, UnsoundModel, UntrustedModel
from tasks.registry.unreachable_store import is_store_failure, store_unavailable
from tasks.workspace import Workspace


def load_as_served(workspace: Workspace, version: str) -> None:
    """Load a version as a server does, and check its probabilities for its own input example.

    No Python file of the version is run: the network is its ONNX file, the bars are its input example.

    Raises:
        UnsoundModel: it cannot be loaded, fails, or returns something that is no probability.
        UntrustedModel: a file of it is not the recorded one, or lies outside the artifact store.
        StoreUnavailable: the store of its files could not be read.
    """
    loaded = workspace.registry.read_version(version)
    place = loaded.place
    try:
        answer = loaded.predict_example()
    except (StoreUnavailable, UntrustedModel):
        raise
    except Exception as error:  # onnxruntime and pandas raise exceptions of their own
        if is_store_failure(error):
            raise store_unavailable(place, error) from error
        raise UnsoundModel(f"{place}: it cannot be loaded as it would be served: {error}") from error
    if not len(answer) or not ((answer > 0) & (answer < 1)).all():
        raise UnsoundModel(f"{place}: expected probabilities between 0 and 1 on its input example, found {answer}")

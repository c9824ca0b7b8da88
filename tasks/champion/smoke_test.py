"""The smoke test of a version before it becomes champion: load it as a server would, and predict once."""

import sys

import numpy as np

from model.errors import UnsoundModel
from tasks.registry.unreachable_store import is_store_failure, store_unavailable
from tasks.workspace import Workspace


def load_as_served(workspace: Workspace, version: str) -> None:
    """Load a version as a server does, and check its probabilities for its own input example.

    Raises:
        UnsoundModel: it cannot be loaded, fails, or returns something that is no probability.
        StoreUnavailable: the store of its files could not be read.
    """
    import mlflow.pyfunc  # imported here: takes two seconds

    path = list(sys.path)
    files = workspace.registry.read_version(version)  # not by MLflow, whose loader hides why a download failed
    place = files.place
    try:
        loaded = mlflow.pyfunc.load_model(str(files.folder.parent))
        answer = loaded.predict(loaded.input_example)["probability"].to_numpy(dtype=np.float64)
    except Exception as error:  # mlflow, onnxruntime and pandas raise exceptions of their own
        if is_store_failure(error):
            raise store_unavailable(place, error) from error
        raise UnsoundModel(f"{place}: it cannot be loaded as it would be served: {error}") from error
    finally:
        sys.path[:] = path  # mlflow puts the version's own copy of model/ first in sys.path and leaves it there
    if not len(answer) or not ((answer > 0) & (answer < 1)).all():
        raise UnsoundModel(f"{place}: expected probabilities between 0 and 1 on its input example, found {answer}")

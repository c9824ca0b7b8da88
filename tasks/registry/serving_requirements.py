"""The Python packages that a registered model needs when it is served, pinned to the installed versions.

They are listed here because MLflow would otherwise load the model in a child process to find them out, a third of a
retrain's time.
"""

from importlib import metadata

SERVING_PACKAGES = ("mlflow", "numpy", "pandas", "onnxruntime", "pydantic", "jaxtyping")


def pinned_requirements() -> list[str]:
    """Return one `name==version` per package."""
    return [f"{name}=={metadata.version(name)}" for name in SERVING_PACKAGES]


def skip_comparison_with_installed() -> None:
    """Keep MLflow, in this process, from comparing the requirements of a model that it saves with what is installed.

    `pinned_requirements` are the installed versions. For the comparison MLflow reads the list of files of each
    installed package, which takes half a second to a second of the first registration.
    """
    from mlflow.utils import environment  # imported here: MLflow takes seconds

    if hasattr(environment, "warn_dependency_requirement_mismatches"):
        environment.warn_dependency_requirement_mismatches = _accept


def _accept(_: list[str]) -> None:
    pass

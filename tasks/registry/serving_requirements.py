"""The Python packages that a registered model needs when it is served, pinned to the installed versions.

They are listed here because MLflow would otherwise load the model in a child process to find them out, a third of a
retrain's time.
"""

from importlib import metadata

SERVING_PACKAGES = ("mlflow", "numpy", "pandas", "onnxruntime", "pydantic", "jaxtyping")


def pinned_requirements() -> list[str]:
    """Return one `name==version` per package."""
    return [f"{name}=={metadata.version(name)}" for name in SERVING_PACKAGES]

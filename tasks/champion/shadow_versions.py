"""Which versions predict as shadows beside the champion, opened from their ONNX files."""

import logging
from collections.abc import Iterable, Sequence

from model.errors import StoreUnavailable
from tasks.champion.shadow_spec import ShadowSpec
from tasks.registry.loaded_version import OpenedVersion, open_version
from tasks.registry.model_registry import ModelRegistry
from tasks.store.decision_log import LoggedDecision, column, reference_versions

log = logging.getLogger(__name__)


def shadow_versions(registry: ModelRegistry, rows: Sequence[LoggedDecision], spec: ShadowSpec) -> list[str]:
    """Return the newest registered versions that were not rejected, newest first, then the references of the gate."""
    rejected, most = set[str](), spec.count(registry.series)
    for action, version in zip(column(rows, "action"), column(rows, "version"), strict=True):
        if action == "reject":
            rejected.add(version)
        elif action in ("promote", "rollback"):  # by hand, after its rejection
            rejected.discard(version)
    newest = registry.newest_versions(most + len(rejected)) if most else ()
    chosen = [number for number in newest if number not in rejected][:most]
    references = sorted(reference_versions(rows) - {*chosen, *rejected}, key=int, reverse=True)
    return [*chosen, *references] if most else []


def open_shadows(registry: ModelRegistry, numbers: Iterable[str]) -> list[OpenedVersion]:
    """Return versions ready to predict; one that cannot be loaded is left out with a warning."""
    shadows = []
    for number in numbers:
        try:
            shadows.append(open_version(registry, number, for_one_window=True))
        except StoreUnavailable:  # the next version would wait for the same store
            raise
        except Exception as error:  # noqa: BLE001 - a broken file raises exceptions of onnxruntime, pydantic, mlflow
            log.warning("%s: no shadow predictions of version %s: %s", registry.name, number, error)
    return shadows

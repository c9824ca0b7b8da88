"""A registered version in memory, ready to predict: its network, its recipe, and the hash that identifies it."""

from dataclasses import dataclass

from model.panel_recipe import PanelRecipe
from model.predictor import Predictor
from model.recipe import Recipe
from tasks.registry.model_files import require_panel_recipe
from tasks.registry.model_registry import ModelRegistry, Version


@dataclass(frozen=True, slots=True)
class OpenedVersion:
    """A version ready to predict; its files are not read again.

    Attributes:
        version: its entry in the registry.
        recipe: by which it was trained.
        predictor: its network with its calibrator.
        network_sha256: identity of what predicts.
    """

    version: Version
    recipe: Recipe
    predictor: Predictor
    network_sha256: str

    def panel_recipe(self) -> PanelRecipe:
        """Return the recipe of a version of a panel.

        Raises:
            UnsoundModel: it is that of a single series.
        """
        return require_panel_recipe(self.recipe, f"version {self.version.version}")


def open_version(registry: ModelRegistry, number: str, *, for_one_window: bool = False) -> OpenedVersion:
    """Return a version ready to predict.

    Args:
        registry: of the version.
        number: of the version.
        for_one_window: it predicts a window or two: its network is not optimised, and of its files only those that
            are read are compared with the recorded ones.

    Raises:
        NoChampion: the registry has no such version.
        UnsoundModel: a file is missing or broken.
        UntrustedModel: a file is not the recorded one.
        StoreUnavailable: the store could not be read.
    """
    loaded = registry.read_version(number, every_file=not for_one_window)
    return OpenedVersion(registry.version(number), *loaded.opened(optimized=not for_one_window))

"""Which panel predicts a series that has no model of its own."""

from model.bars import PANEL, Series
from model.errors import RiseOrFallError
from model.panel_recipe import PanelRecipe
from tasks.champion.commit_decision import read_champion
from tasks.settings import Settings
from tasks.workspace import Workspace


def predicting_panel(series: Series, settings: Settings) -> str:
    """Return the name of the panel that predicts a series, such as `PANEL-1d`; empty without one.

    It predicts a series that was never retrained by itself, if its champion was trained on the series. A champion that
    cannot be read predicts nothing.
    """
    if series.is_panel or Workspace(settings).decision_log.last(series.name):
        return ""
    workspace = Workspace(settings, Series(PANEL, series.interval))
    champion = read_champion(workspace).version
    if champion is None:
        return ""
    try:
        recipe = workspace.registry.read_version(champion.version).recipe()
    except RiseOrFallError:  # the health of the panel says why
        return ""
    return workspace.name if isinstance(recipe, PanelRecipe) and series.symbol in recipe.panel.symbols else ""

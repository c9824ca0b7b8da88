"""Which series a panel predicts, and which panel predicts a series that has no model of its own."""

from model.bars import PANEL, Series
from model.errors import RiseOrFallError
from model.panel_recipe import PanelRecipe
from tasks.champion.commit_decision import read_champion
from tasks.settings import Settings
from tasks.workspace import Workspace


def predicted_series(workspace: Workspace) -> list[Series]:
    """Return the series of a workspace; of a panel the stored series that its champion predicts.

    With inputs `own` these are all stored series of the interval, with `cross_section` those of the panel; all where
    there is no champion that can be read.
    """
    if not workspace.runs.series.is_panel:
        return [workspace.runs.series]
    champion = read_champion(workspace).version
    stored = [each for each in workspace.bar_store.stored_series() if each.interval == workspace.runs.series.interval]
    if champion is None:
        return stored
    try:
        recipe = workspace.registry.read_version(champion.version).panel_recipe()
    except RiseOrFallError:  # the health of the panel says why
        return stored
    return [each for each in stored if not recipe.context_count or each.symbol in recipe.panel.symbols]


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

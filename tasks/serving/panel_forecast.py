"""Forecasts of a panel's champion for the newest closed bar of each stored series. Nothing is stored.

No Prefect and no TensorFlow. With inputs `own` any stored series of the interval is predicted, also one that the
network was not trained on; with inputs `cross_section` the series of the panel, from the stored bars of all of them.
All are predicted at one moment, also where one is chosen: a series that ended is not fresh by its own newest close. A
champion that is too old is refused; a series whose bars are too old, too few or unchecked is left out, with the reason.
Caution: panels have no prediction log and no monitor yet, so nothing scores these forecasts later.
"""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import numpy as np

from model.bars import Bars, Series
from model.errors import BarsTooShort, ChecksFailed, RiseOrFallError, SpecError, StaleChampion
from model.freshness import ForecastSpec, require_fresh
from model.panel import cut_panel
from model.panel_recipe import PanelRecipe
from model.times import to_datetime, to_datetime64, to_timedelta
from tasks.champion.as_of_time import panel_as_of
from tasks.champion.commit_decision import sync_champion_alias
from tasks.registry.model_registry import Version
from tasks.serving.forecast import last_comparison, require_checked
from tasks.settings import Settings
from tasks.workspace import Workspace


@dataclass(frozen=True, slots=True)
class PanelPrediction:
    """The probability of one series at the close of its newest window.

    Attributes:
        symbol: of the series.
        decided_at: close of the window's last bar, UTC.
        resolves_at: close of the bar that fixes the label, UTC.
        probability: of label 1.
        trained_on: whether the network was trained on this series.
    """

    symbol: str
    decided_at: datetime
    resolves_at: datetime
    probability: float
    trained_on: bool


@dataclass(frozen=True, slots=True)
class PanelForecast:
    """What the champion of a panel predicts.

    Attributes:
        series_name: of the panel, such as `PANEL-1d`.
        version: of the champion.
        label: rise or rank; what the probabilities are of.
        predictions: one a series, by symbol.
        left_out: reason by symbol of each series without a prediction.
    """

    series_name: str
    version: str
    label: str
    predictions: tuple[PanelPrediction, ...]
    left_out: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return everything ready for JSON, times in ISO 8601."""
        rows = [
            asdict(each) | {name: getattr(each, name).isoformat() for name in ("decided_at", "resolves_at")}
            for each in self.predictions
        ]
        head = {"series": self.series_name, "version": self.version, "label": self.label}
        return {**head, "predictions": rows, "left_out": self.left_out}


def forecast_panel(
    series: Series,
    settings: Settings,
    symbol: str = "",
    limits: ForecastSpec = ForecastSpec(),
    as_of: datetime | None = None,
) -> PanelForecast:
    """Predict each stored series, or one of them, with the champion of a panel.

    Args:
        series: of the panel: symbol PANEL and its interval.
        settings: addresses of bars and MLflow.
        symbol: the only series to predict; empty: all.
        limits: staleness limits.
        as_of: only bars closed by then are used, UTC; None: see `tasks.champion.as_of_time.panel_as_of`.

    Raises:
        NoChampion: no version of the panel has been promoted yet.
        UnsoundModel: the champion's files are missing or broken.
        UntrustedModel: they are not those that were decided about.
        StaleChampion: the champion is too old, or no series has a fresh window.
        SpecError: the interval or the series has no bars, or the champion does not predict it.
        ChecksFailed: a bar of the only series, or of one that the others' inputs need, breaks a rule of the checks.
    """
    workspace = Workspace(settings, series)
    champion = sync_champion_alias(workspace).require(workspace)
    loaded = workspace.registry.read_version(champion.version)
    recipe = loaded.panel_recipe()
    listed = _predictable(workspace, recipe, symbol)
    chosen = [symbol] if symbol else listed
    needed = listed if recipe.context_count else chosen
    moment = panel_as_of(workspace.bar_store, [Series(each, recipe.interval) for each in listed], as_of)
    bars = _read_bars(workspace, needed, moment)
    left_out: dict[str, RiseOrFallError] = {}
    for each in needed:
        try:
            _require_usable(workspace, champion, recipe, bars[each], each, moment, limits)
        except (BarsTooShort, ChecksFailed, StaleChampion) as error:
            if symbol == each or (isinstance(error, ChecksFailed) and recipe.context_count):
                raise
            left_out[each] = error
    predicted = [each for each in chosen if each not in left_out]
    if not predicted:
        raise left_out[chosen[0]]
    used = bars if recipe.context_count else {each: bars[each] for each in predicted}
    predictor = loaded.predictor()
    windows = cut_panel(used, predictor.window, recipe.panel).windows
    newest = np.array([np.flatnonzero(windows.symbols == each)[-1] for each in predicted], dtype=np.int64)
    probabilities = predictor.predict_windows(windows.take(newest))
    horizon = recipe.window.horizon_bars * to_timedelta(series.delta)
    decided = [to_datetime(windows.decided_at[place]) for place in newest]
    predictions = tuple(
        PanelPrediction(each, at, at + horizon, float(probability), each in recipe.panel.symbols)
        for each, at, probability in zip(predicted, decided, probabilities, strict=True)
    )
    reasons = {each: str(error) for each, error in left_out.items() if each in chosen}
    return PanelForecast(series.name, champion.version, recipe.panel.label, predictions, reasons)


def _predictable(workspace: Workspace, recipe: PanelRecipe, symbol: str) -> list[str]:
    """Return all symbols that the champion predicts, among them the chosen one: those whose bars its inputs may need.

    Raises:
        SpecError: nothing is stored, the symbol has no bars, is not of the panel, or a series of the panel has no bars.
    """
    stored = [each.symbol for each in workspace.bar_store.stored_series() if each.interval == recipe.interval]
    if not stored:
        raise SpecError(
            f"{workspace.name}: expected stored {recipe.interval} bars, found none. Ingest the series to predict with "
            "`riseorfall ingest`."
        )
    if symbol and symbol not in stored:
        listed = ", ".join(stored)
        raise SpecError(
            f"{symbol} {recipe.interval}: expected a stored series, found none; stored: {listed}. Ingest it with "
            "`riseorfall ingest`, or choose one of those."
        )
    if not recipe.context_count:
        return stored
    panel = list(recipe.panel.symbols)
    missing = sorted(set(panel) - set(stored))
    if missing:
        raise SpecError(
            f"{workspace.name}: expected stored bars of every series of the panel, because each window shows the "
            f"others; missing {', '.join(missing)}. Ingest them."
        )
    if symbol and symbol not in panel:
        raise SpecError(
            f"{workspace.name}: expected a series of the panel ({', '.join(panel)}), found {symbol}: the inputs "
            "describe the place of a series in its panel. Retrain the panel with it, or use --panel.inputs own."
        )
    return panel


def _read_bars(workspace: Workspace, symbols: list[str], moment: datetime) -> dict[str, Bars]:
    """Return the bars of each symbol that had closed by a moment; none for a series that began later."""
    store, interval = workspace.bar_store, workspace.runs.series.interval
    bars = {each: store.read_bars(store.ref(Series(each, interval))) for each in symbols}
    return {each: found.closed_by(to_datetime64(moment)) for each, found in bars.items()}


def _require_usable(
    workspace: Workspace,
    champion: Version,
    recipe: PanelRecipe,
    bars: Bars,
    symbol: str,
    moment: datetime,
    limits: ForecastSpec,
) -> None:
    """Raise unless the champion is fresh, and the newest window of a series is whole, fresh and checked."""
    panel, name = workspace.runs.series, f"{workspace.name} version {champion.version}, {symbol}"
    compared_until = last_comparison(workspace, champion, moment)
    require_fresh(panel, name, champion.trained_until, compared_until, bars, recipe.window, moment, limits)
    series = Series(symbol, recipe.interval)
    require_checked(series, bars, recipe.window, workspace.bar_store.released(series))

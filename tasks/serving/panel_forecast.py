"""Forecasts of a panel's champion for the newest closed bar of each stored series, stored before they are returned.

No Prefect and no TensorFlow. With inputs `own` any stored series of the interval is predicted, also one that the
network was not trained on; with inputs `cross_section` the series of the panel, from the stored bars of all of them.
All are predicted at one moment, also where one is chosen: a series that ended is not fresh by its own newest close. A
champion that is too old is refused; a series whose bars are too old, too few or unchecked is left out, with the reason,
and so is one whose newest close lies before the end of the training, which knows what the other series did after it.
Cautions: a prediction that is stored already is returned as it was stored, also if bars have been revised since. With
inputs `cross_section` a series that is ingested later is missing in the others' inputs, which is logged as a warning.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np

from model.bars import Bars, Series
from model.errors import BarsTooShort, ChecksFailed, RiseOrFallError, SpecError, StaleChampion
from model.freshness import ForecastSpec, require_fresh
from model.label_names import LabelKind, opinion_text
from model.metrics import THRESHOLD
from model.panel import cut_panel
from model.panel_outcomes import PATIENCE_BARS
from model.panel_recipe import PanelRecipe
from model.times import to_datetime64
from model.windows import Windows
from tasks.champion.as_of_time import panel_as_of, time_of_writing
from tasks.champion.commit_decision import sync_champion_alias
from tasks.champion.shadow_spec import ShadowSpec
from tasks.registry.loaded_version import OpenedVersion, open_version
from tasks.registry.model_registry import Version
from tasks.serving.forecast import RECENT_BARS, last_comparison, require_checked, require_same_network
from tasks.serving.panel_backfill import backfill_panel, panel_predictions
from tasks.serving.panel_opinions import with_opinions
from tasks.serving.panel_shadows import predict_panel_with_shadows
from tasks.settings import Settings
from tasks.store.prediction_log import Prediction
from tasks.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PanelForecast:
    """What the champion of a panel predicts, as it is stored.

    Attributes:
        series_name: of the panel, such as `PANEL-1d`.
        version: of the champion.
        label: rise or rank; what the probabilities are of.
        predictions: one a series, by symbol, each with its opinion if the version's retrain stated a share.
        trained_on: symbols of the series that the network was trained on.
        left_out: reason by symbol of each series without a prediction.
        backfilled: predictions of the closes missed before.
        shadows: what versions that do not serve predict for the same series and closes.
        served_before: what another version served earlier for the same close, by symbol; that one counts.
        further: what else the network predicts, by symbol: see `Predictor.predict_further`. It is not stored.
    """

    series_name: str
    version: str
    label: LabelKind
    predictions: tuple[Prediction, ...]
    trained_on: frozenset[str]
    left_out: dict[str, str]
    backfilled: tuple[Prediction, ...] = ()
    shadows: tuple[Prediction, ...] = ()
    served_before: Mapping[str, Prediction] = field(default_factory=dict)
    further: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return everything ready for JSON, times in ISO 8601."""
        head = {"series": self.series_name, "version": self.version, "label": self.label}
        rows = [self._row(each) for each in self.predictions]
        return {**head, "predictions": rows, "left_out": self.left_out, "backfilled": len(self.backfilled)}

    def _row(self, prediction: Prediction) -> dict[str, Any]:
        values, before = prediction.to_dict(), self.served_before.get(prediction.symbol)
        served = {"served_before": {"version": before.version, "probability": before.probability}} if before else {}
        names = ("symbol", "decided_at", "resolves_at", "probability", "late")
        trained_on = prediction.symbol in self.trained_on
        further = dict(self.further.get(prediction.symbol, {}))
        opinion = {"opinion": opinion_text(prediction.has_opinion, self.label, prediction.probability > THRESHOLD)}
        return {name: values[name] for name in names} | opinion | further | {"trained_on": trained_on} | served


def forecast_panel(
    series: Series,
    settings: Settings,
    symbol: str = "",
    limits: ForecastSpec = ForecastSpec(),
    as_of: datetime | None = None,
    now: datetime | None = None,
    shadows: ShadowSpec = ShadowSpec(),
) -> PanelForecast:
    """Predict each stored series, or one, with the champion of a panel, and the closes missed before; store all.

    Args:
        series: of the panel: symbol PANEL and its interval.
        settings: addresses of bars and MLflow.
        symbol: the only series to predict; empty: all.
        limits: staleness limits.
        as_of: only bars closed by then are used, UTC; None: see `tasks.champion.as_of_time.panel_as_of`.
        now: time of writing; None: see `tasks.champion.as_of_time.time_of_writing`.
        shadows: versions that predict the newest closes without serving.

    Raises:
        NoChampion: no version of the panel has been promoted yet.
        UnsoundModel: the champion's files are missing or broken.
        UntrustedModel: they are not those that were decided about, or not those of a stored prediction.
        StaleChampion: the champion is too old, or no series has a fresh window after its training.
        SpecError: the interval or the series has no bars, or the champion does not predict it.
        ChecksFailed: a bar of the only series, or of one that the others' inputs need, breaks a rule of the checks.
    """
    workspace = Workspace(settings, series)
    champion = sync_champion_alias(workspace).require(workspace)
    opened = open_version(workspace.registry, champion.version)
    recipe = opened.panel_recipe()
    listed = _predictable(workspace, recipe, symbol)
    chosen = [symbol] if symbol else listed
    needed = listed if recipe.context_count else chosen
    moment = panel_as_of(workspace.bar_store, [Series(each, recipe.interval) for each in listed], as_of)
    stored_bars = _read_bars(workspace, needed, moment)
    bars = {each: found.closed_by(to_datetime64(moment)) for each, found in stored_bars.items()}
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
    windows = cut_panel(used, recipe.window, recipe.panel).windows
    newest = np.array([np.flatnonzero(windows.symbols == each)[-1] for each in predicted], dtype=np.int64)
    if recipe.context_count:
        _warn_of_bars_to_come(workspace, bars, windows.take(newest))

    def written_at() -> datetime:
        return now or max(time_of_writing(each) for each in stored_bars.values())

    workspace.prediction_log.create()
    newest_windows = windows.take(newest)
    backfilled = backfill_panel(workspace, opened, used, newest_windows, written_at)
    made = _made_now(workspace, opened, newest_windows, written_at)
    workspace.prediction_log.store_all(made)
    predictions, before = _as_stored(workspace, made)
    columns = opened.predictor.predict_further(newest_windows)
    further = {
        each: {name: float(values[place]) for name, values in columns.items()} for place, each in enumerate(predicted)
    }
    reasons = {each: str(error) for each, error in left_out.items() if each in chosen}
    trained_on = frozenset(recipe.panel.symbols)
    checked = {each: own for each, own in bars.items() if not isinstance(left_out.get(each), ChecksFailed)}
    return PanelForecast(
        series.name, champion.version, recipe.panel.label, predictions, trained_on, reasons, backfilled,
        predict_panel_with_shadows(workspace, opened, checked, newest_windows, shadows, written_at), before, further,
    )  # fmt: skip


def _warn_of_bars_to_come(workspace: Workspace, bars: Mapping[str, Bars], newest: Windows) -> None:
    """Log a warning where the panel's inputs lack series that have no bar at a close yet: ranks are then among fewer.

    A series whose bars ended more than `PATIENCE_BARS` before counts as ended, and is not waited for.
    """
    delta = workspace.runs.series.delta
    for close in np.unique(newest.decided_at):
        behind = {each: close - own.closed_at[-1] for each, own in bars.items() if len(own)}
        absent = [each for each, by in behind.items() if np.timedelta64(0) < by <= PATIENCE_BARS * delta]
        if absent:
            log.warning(
                "%s: the inputs of %s at %s describe the panel without %s: no bar of that close is stored yet. Ingest "
                "every series before `predict`; a stored prediction does not change.",
                workspace.name,
                ", ".join(newest.symbols[newest.decided_at == close]),
                close.astype("datetime64[m]"),
                ", ".join(absent),
            )


def _made_now(
    workspace: Workspace, opened: OpenedVersion, newest: Windows, written_at: Callable[[], datetime]
) -> list[Prediction]:
    """Return predictions with opinions; if these fail, which is logged as a warning, without."""
    made = panel_predictions(workspace, opened, newest, written_at)
    try:
        made = with_opinions(workspace, opened.version, made)
    except RiseOrFallError as error:
        log.warning("%s: no opinions: %s", workspace.name, error, exc_info=True)
    stored_at = written_at()  # not before what opinions read, which may take long
    return [replace(each, stored_at=stored_at) for each in made]


def _as_stored(workspace: Workspace, made: list[Prediction]) -> tuple[tuple[Prediction, ...], dict[str, Prediction]]:
    """Return predictions as they are stored, and what another version served for the same close before, by symbol.

    Raises:
        UntrustedModel: a stored one is that of another network of the same version number.
    """
    found = [each for moment in {each.decided_at for each in made} for each in _stored_at(workspace, moment)]
    own = {each.key: each for each in found}
    predictions = tuple(own.get(each.key, each) for each in made)
    for stored, each in zip(predictions, made, strict=True):
        require_same_network(workspace, stored, each.network)
    before: dict[str, Prediction] = {}
    for each in predictions:
        same = [other for other in found if (other.symbol, other.decided_at) == (each.symbol, each.decided_at)]
        first = min(same, key=lambda other: (other.stored_at, other.version), default=each)
        if first.version != each.version:
            before[each.symbol] = first
    return predictions, before


def _stored_at(workspace: Workspace, moment: datetime) -> tuple[Prediction, ...]:
    return workspace.prediction_log.decided_at(workspace.name, moment)


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
        listed, absent = ", ".join(stored), Workspace(workspace.settings, Series(symbol, recipe.interval))
        raise SpecError(
            f"{symbol} {recipe.interval}: expected a stored series, found none; stored: {listed}. Ingest it with "
            f"`riseorfall ingest{absent.source_flags}`, or choose one of those."
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


def _read_bars(workspace: Workspace, symbols: list[str], as_of: datetime) -> dict[str, Bars]:
    """Return the newest stored bars of each symbol, those that predictions up to a time depend on and all later."""
    store, interval = workspace.bar_store, workspace.runs.series.interval
    return {each: store.recent_bars(Series(each, interval), RECENT_BARS, as_of) for each in symbols}


def _require_usable(
    workspace: Workspace,
    champion: Version,
    recipe: PanelRecipe,
    bars: Bars,
    symbol: str,
    moment: datetime,
    limits: ForecastSpec,
) -> None:
    """Raise unless the champion is fresh, and the newest window of a series is whole, fresh, checked and after it."""
    panel, name = workspace.runs.series, f"{workspace.name} version {champion.version}, {symbol}"
    compared_until = last_comparison(workspace, champion, moment)
    trained, command = (champion.trained_until, compared_until), lambda: workspace.retrain_command
    decided_at = require_fresh(panel, name, *trained, bars, recipe.window, moment, limits, retrain_command=command)
    if decided_at < champion.trained_until:
        raise StaleChampion(
            f"{name}: expected a window that closed when the champion's training bars ended, or later; it was trained "
            f"until {champion.trained_until:%Y-%m-%d %H:%M} on what other series did after that close, and the newest "
            f"closed at {decided_at:%Y-%m-%d %H:%M}. Ingest newer bars of {symbol}."
        )
    series = Series(symbol, recipe.interval)
    require_checked(series, bars, recipe.window, workspace.bar_store.released(series))

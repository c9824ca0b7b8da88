"""Forecasts of the champion, stored before they are returned: the newest bar, and the days missed before it.

No Prefect and no TensorFlow: a shell predicts without any server, from the champion's ONNX file. A champion or bars
that are too old are refused, and the bars of the last window are checked once more.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from jaxtyping import Shaped

from data_checks.bar_rules import VALUE_RULES, by_values
from data_checks.check_spec import CheckSpec
from data_checks.rule_definitions import NEVER_RELEASED
from model.bars import Bars, Series
from model.errors import (
    ChecksFailed,
    NoChampion,
    RiseOrFallError,
    StoreUnavailable,
    UnsoundModel,
    UntrustedModel,
)
from model.freshness import ForecastSpec, require_fresh
from model.predictor import Predictor
from model.times import to_datetime64
from model.windows import LONGEST_LOOKBACK, WindowSpec
from tasks.champion.as_of_time import resolve_as_of, source_kind, time_of_writing
from tasks.champion.commit_decision import sync_champion_alias
from tasks.champion.shadow_predictions import predict_with_shadows
from tasks.champion.shadow_spec import ShadowSpec
from tasks.registry.loaded_version import OpenedVersion
from tasks.registry.model_files import LoadedVersion
from tasks.registry.model_registry import Version
from tasks.serving.backfill import MAX_BACKFILL_BARS, backfill
from tasks.serving.live_abstention import Opinion, opinion_on
from tasks.settings import Settings
from tasks.store.decision_log import with_values
from tasks.store.prediction_log import Prediction, new_prediction
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

# What predictions depend on: the longest window of any version, at each close that may be backfilled.
RECENT_BARS = LONGEST_LOOKBACK + MAX_BACKFILL_BARS
COMPARED = "champion.difference"  # number of a decision whose challenger was compared with the champion


@dataclass(frozen=True, slots=True)
class Forecast:
    """A stored prediction for the newest bar, those backfilled before it, oldest first, and its shadow predictions.

    `opinion` is the predicted class, or none, at the share that the version's retrain stated; None if it stated none,
    or if the opinion failed, which is logged as a warning. `further` is what else the network predicts, by
    name: see `Predictor.predict_further`. `served_before` is what another version served for that bar
    earlier; None if this prediction is the served one. `source` is the kind of source of a late prediction's bars.
    """

    prediction: Prediction
    backfilled: tuple[Prediction, ...]
    shadows: tuple[Prediction, ...] = ()
    opinion: Opinion | None = None
    further: Mapping[str, float] = field(default_factory=dict)
    served_before: Prediction | None = None
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction for the newest bar ready for JSON."""
        names = ("symbol", "interval", "decided_at", "resolves_at", "probability", "version", "late")
        values = self.prediction.to_dict()
        before = self.served_before
        served = {"served_before": {"version": before.version, "probability": before.probability}} if before else {}
        source = {"source": self.source} if self.source else {}
        counted = {"backfilled": len(self.backfilled), "opinion": self.opinion}
        return {name: values[name] for name in names} | counted | dict(self.further) | served | source


def forecast(
    series: Series,
    settings: Settings,
    limits: ForecastSpec | None = None,
    as_of: datetime | None = None,
    now: datetime | None = None,
    shadows: ShadowSpec = ShadowSpec(),
) -> Forecast:
    """Predict at the newest stored bar and at the bars missed before it, and store all predictions.

    A prediction that is stored already is returned as it was stored.

    Args:
        series: symbol and interval.
        settings: addresses of bars, logs and MLflow.
        limits: staleness limits; defaults if None.
        as_of: only bars closed by then are used, UTC; None: see `tasks.champion.as_of_time.resolve_as_of`.
        now: time of writing; None: see `tasks.champion.as_of_time.time_of_writing`.
        shadows: versions that predict the newest bar without serving.

    Raises:
        NoChampion: no version has been promoted yet.
        UnsoundModel: the champion's files are missing or broken.
        UntrustedModel: they are not those that were decided about.
        StaleChampion: the champion or the newest bar is too old.
        SpecError: there are no bars, or the champion was trained on bars after `as_of`.
        ChecksFailed: a bar of the last window breaks a rule of the data checks.
    """
    workspace = Workspace(settings, series)
    found = _inputs(workspace, limits or ForecastSpec(), as_of)
    champion, loaded, bars = found.champion, found.loaded, found.bars

    def written_at() -> datetime:
        return now or time_of_writing(found.stored)

    workspace.prediction_log.create()
    opened = OpenedVersion(champion, loaded.recipe(), found.predictor, loaded.network_sha256)
    backfilled = backfill(workspace, opened, bars, written_at)
    decided_at, probability = found.predictor.predict_last(bars)
    horizon, network = opened.recipe.window.horizon_bars, opened.network_sha256
    prediction = new_prediction(
        series.name, series, horizon, decided_at, champion.version, probability, written_at(), network
    )
    workspace.prediction_log.store(prediction)
    stored = workspace.prediction_log.find(series.name, prediction.decided_at, champion.version)
    newest_prediction = stored or prediction
    require_same_network(workspace, newest_prediction, prediction.network)
    return Forecast(
        newest_prediction,
        backfilled,
        predict_with_shadows(workspace, champion.version, bars, shadows, written_at),
        _opinion(workspace, found, newest_prediction),
        found.predictor.predict_last_further(bars),
        _served_before(workspace, newest_prediction),
        source_kind(workspace, champion) if newest_prediction.late else "",
    )


def why_refused(series: Series, settings: Settings, limits: ForecastSpec | None = None) -> str:
    """Return why `forecast` would refuse to predict now; empty where it would not. No prediction is stored.

    Raises:
        StoreUnavailable: a store did not answer, so that it is unknown.
    """
    try:
        _inputs(Workspace(settings, series), limits or ForecastSpec())
    except StoreUnavailable:
        raise
    except RiseOrFallError as error:
        return str(error)
    return ""


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The champion, its files, its network, the newest stored bars, and those of them that it may use."""

    champion: Version
    loaded: LoadedVersion
    predictor: Predictor
    stored: Bars
    bars: Bars


def _inputs(workspace: Workspace, limits: ForecastSpec, as_of: datetime | None = None) -> _Inputs:
    """Return what `forecast` predicts with; raise what it refuses with."""
    series = workspace.runs.series
    champion = sync_champion_alias(workspace).require(workspace)
    loaded = workspace.registry.read_version(champion.version)
    window = loaded.recipe().window
    store = workspace.bar_store
    stored = store.recent_bars(series, RECENT_BARS, as_of)
    moment = resolve_as_of(workspace, champion, stored, as_of)  # once: a bar that closes later is for the next run
    bars = stored.closed_by(to_datetime64(moment))
    name = f"{series.name} version {champion.version}"
    compared_until = last_comparison(workspace, champion, moment)
    trained, command = (champion.trained_until, compared_until), lambda: workspace.retrain_command
    require_fresh(series, name, *trained, bars, window, moment, limits, retrain_command=command)
    require_checked(series, bars, window, store.released(series))
    return _Inputs(champion, loaded, loaded.predictor(), stored, bars)


def _opinion(workspace: Workspace, found: _Inputs, prediction: Prediction) -> Opinion | None:
    """Return the opinion on a prediction that is stored; whatever goes wrong is logged as a warning."""
    try:
        return opinion_on(workspace, found.champion, found.loaded, prediction)
    except Exception as error:  # the prediction is stored and must be returned
        log.warning("%s: no opinion: %s", workspace.name, error, exc_info=True)
        return None


def require_same_network(workspace: Workspace, stored: Prediction, network: str) -> None:
    """Raise UntrustedModel if a stored prediction is that of another network of the same version number."""
    if stored.network not in ("", network):
        raise UntrustedModel(
            f"{stored.series_name} version {stored.version}, decided {stored.decided_at}: expected a stored prediction "
            f"of the network with SHA-256 {network}, found one of {stored.network}: the prediction is from an "
            f"earlier network with the same version number. Nothing was predicted; `{workspace.retrain_command}` "
            "registers a version with a number of its own."
        )


def last_comparison(workspace: Workspace, champion: Version, until: datetime) -> datetime:
    """Return the training end of the newest challenger that a retrain compared and held; without one the champion's.

    A version that a person tried to promote does not count, because it may be old; nor does one that was held without a
    comparison, such as a challenger with another label.

    Args:
        workspace: registry and decision log.
        champion: the champion.
        until: later bars do not count, UTC.
    """
    held = with_values(workspace.decision_log.rows(workspace.name), action="hold", champion_before=champion.version)
    for row in reversed(held):
        by_retrain = row.decision_id == row.run_id
        if by_retrain and COMPARED in row.numbers:
            try:
                ended = workspace.registry.version(row.version).trained_until
            except (NoChampion, UnsoundModel):  # deleted since, or its tags were edited
                continue
            if ended <= until:
                return ended
    return champion.trained_until


def require_checked(series: Series, bars: Bars, window: WindowSpec, released: Shaped[np.ndarray, " bar"]) -> None:
    """Refuse bars that entered the store without the data checks.

    Args:
        series: for the message.
        bars: shape (bar,), as stored.
        window: its lookback is the number of newest bars that are checked.
        released: open times of bars that a person released from the quarantine, datetime64[us], UTC.

    Raises:
        ChecksFailed: a bar of the last window breaks a rule of the ingest.
    """
    last = Bars(bars.interval, bars.opened_at[-window.lookback_bars :], bars.ohlcv[-window.lookback_bars :])
    is_released = np.isin(last.opened_at, released)
    for rule in VALUE_RULES:
        mask = by_values(rule, last.ohlcv, CheckSpec().absurd_tick_factor)
        broken = np.flatnonzero(mask if rule in NEVER_RELEASED else mask & ~is_released)
        if len(broken):
            raise ChecksFailed(
                f"{series.name}: expected checked bars, found one that breaks {rule} at "
                f"{last.opened_at[broken[0]]} ({len(broken)} in the last window). Ingest the series again (the "
                "first step of its retrain): that puts such bars into the quarantine."
            )


def _served_before(workspace: Workspace, prediction: Prediction) -> Prediction | None:
    """Return what another version served for the same bar before; whatever goes wrong is logged as a warning."""
    try:
        stored = workspace.prediction_log.decided_at(workspace.name, prediction.decided_at)
    except Exception as error:  # the prediction is stored and must be returned
        log.warning("%s: not known what was served before: %s", workspace.name, error, exc_info=True)
        return None
    first = min(stored, key=lambda each: (each.stored_at, each.version), default=prediction)
    return first if first.version != prediction.version else None

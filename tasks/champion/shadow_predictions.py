"""Shadow predictions: what versions that do not serve predict for a closed bar, stored before its outcome.

They are kept in a table of their own, so what was served stays what it is. From the ONNX files, in this process,
without TensorFlow. Caution: they must never fail the champion's prediction, so a version that cannot predict is skipped
with a warning.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from functools import cache

import numpy as np

from model.bars import Bars
from model.errors import BarsTooShort
from model.times import to_datetime, to_datetime64
from model.windows import Windows, WindowSpec, cut_windows
from tasks.champion.shadow_spec import ShadowSpec
from tasks.champion.shadow_versions import open_shadows, shadow_versions
from tasks.registry.loaded_version import OpenedVersion
from tasks.store.prediction_log import Prediction, new_prediction
from tasks.workspace import Workspace

log = logging.getLogger(__name__)


def predict_with_shadows(
    workspace: Workspace, champion: str, bars: Bars, spec: ShadowSpec, written_at: Callable[[], datetime]
) -> tuple[Prediction, ...]:
    """Store the shadow predictions of a series for the newest bar, and return them, by version.

    Args:
        workspace: registry and logs.
        champion: the version that serves; it is no shadow.
        bars: shape (bar,), closed ones only, oldest first.
        spec: how many versions.
        written_at: returns the time of writing, UTC.
    """
    decided_at = bars.closed_at[-1]
    decision = workspace.runs.series.symbol, to_datetime(decided_at)
    return store_shadow_predictions(
        workspace, champion, {decision}, spec,
        lambda shadows: shadow_predictions(workspace, shadows, bars, decided_at, lambda _: written_at()),
    )  # fmt: skip


def store_shadow_predictions(
    workspace: Workspace,
    champion: str,
    decisions: Collection[tuple[str, datetime]],
    spec: ShadowSpec,
    predict: Callable[[Sequence[OpenedVersion]], list[Prediction]],
) -> tuple[Prediction, ...]:
    """Let shadows predict decisions that they have not predicted yet; store the predictions, and return all of them.

    Whatever goes wrong is logged as a warning.

    Args:
        workspace: registry and logs.
        champion: the version that serves; it is no shadow.
        decisions: symbol and time of each.
        spec: how many versions.
        predict: returns what versions predict; it is called after the table was created.

    Returns:
        Those stored before and now, by version, then symbol.
    """
    try:
        rows, log_of_shadows = workspace.decision_log.rows(workspace.name), workspace.shadow_log
        numbers = [each for each in shadow_versions(workspace.registry, rows, spec) if each != champion]
        found = [each for at in {at for _, at in decisions} for each in log_of_shadows.decided_at(workspace.name, at)]
        stored = {each.key: each for each in found if (each.symbol, each.decided_at) in decisions}
        complete = {
            number for number in numbers if all((workspace.name, *each, number) in stored for each in decisions)
        }
        shadows = open_shadows(workspace.registry, [each for each in numbers if each not in complete])
        if shadows:
            log_of_shadows.create()
        made = predict(shadows)
        log_of_shadows.store_all(made)
    except Exception as error:  # the prediction that is served must not fail with one that is not
        log.warning("%s: no shadow predictions: %s", workspace.name, error, exc_info=True)
        return ()
    every = {each.key: each for each in made} | stored
    return tuple(sorted(every.values(), key=lambda each: (int(each.version), each.symbol)))


def shadow_predictions(
    workspace: Workspace,
    shadows: Iterable[OpenedVersion],
    bars: Bars,
    after: np.datetime64,
    stored_at: Callable[[np.datetime64], datetime],
) -> list[Prediction]:
    """Return what each shadow predicts at the bars that closed at `after` or later.

    Args:
        workspace: its name and series are those of the predictions.
        shadows: versions; one trained on later bars than a decision's does not predict it.
        bars: shape (bar,), closed ones only, oldest first.
        after: the first decision, datetime64, UTC.
        stored_at: time of writing by decision.

    Time: a prediction depends on the bars that closed up to its decision.
    """

    @cache  # thirty versions share a spec or two
    def windows_of(window: WindowSpec) -> Windows | None:
        try:
            return cut_windows(bars_behind(bars, window.lookback_bars, after), window)
        except BarsTooShort:  # a gap in its window
            return None

    predictions = []
    for shadow in shadows:
        number, window = shadow.version.version, shadow.predictor.window
        windows = windows_of(window)
        if windows is None:
            continue
        decided_at, probabilities = windows.decided_at, shadow.predictor.predict_windows(windows)
        wanted = decided_at >= max(after, to_datetime64(shadow.version.trained_until))
        predictions += [
            new_prediction(
                workspace.name, workspace.runs.series, window.horizon_bars, moment, number, float(probability),
                stored_at(moment), shadow.network_sha256,
            )
            for moment, probability in zip(decided_at[wanted], probabilities[wanted], strict=True)
        ]  # fmt: skip
    return predictions


def bars_behind(bars: Bars, lookback_bars: int, after: np.datetime64) -> Bars:
    """Return the bars that the decisions from `after` on depend on."""
    start = max(0, int(np.searchsorted(bars.closed_at, after)) - lookback_bars + 1)
    return Bars(bars.interval, bars.opened_at[start:], bars.ohlcv[start:])

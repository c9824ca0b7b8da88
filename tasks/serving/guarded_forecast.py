"""Predictions that are fit to be made: nothing stale, nothing unchecked, and no day left out.

Plain; no Prefect. Around `tasks.serving.forecast` it adds what a daily job must not get wrong while nobody looks: it
refuses a champion or bars that are too old, looks at the last window's bars once more, and makes up for the days on
which the machine was off. The trap: a prediction that is made up is marked late by its time of writing, and may come
only from a version that was champion then and had not seen the outcome.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from jaxtyping import Shaped

from data_checks.bar_rules import VALUE_RULES, by_values
from data_checks.suites import NEVER_RELEASED, CheckSpec
from model.bars import Bars, Series
from model.errors import ChecksFailed
from model.freshness import ForecastSpec, aware, require_fresh
from model.windows import WindowSpec
from tasks.champion.commit_decision import sync_champion_alias
from tasks.registry.model_registry import Version
from tasks.serving.forecast import Forecast, forecast
from tasks.settings import Settings
from tasks.store.decision_log import LoggedDecision
from tasks.store.prediction_log import Prediction
from tasks.workspace import Workspace

LONGEST_ABSENCE_BARS = 400  # further back nothing is made up: that is a new start, not a day off


@dataclass(frozen=True, slots=True)
class Guarded:
    """The prediction for the newest bar, and those that were made up for days before it."""

    forecast: Forecast
    backfilled: tuple[Prediction, ...]


def forecast_guarded(
    series: Series, settings: Settings, spec: ForecastSpec | None = None, as_of: datetime | None = None
) -> Guarded:
    """Predict at the newest stored bar and for the days missed before it; everything is stored before it is returned.

    Args:
        series: whose champion and bars.
        settings: where both are.
        spec: when the champion is not asked; the defaults without it.
        as_of: what counts as now; None takes the clock where the champion learned from an exchange, else the newest
            close: a file is a picture of the past.

    Raises:
        NoChampion: nothing was promoted yet.
        StaleChampion: the champion or the newest bar is too old.
        SpecError: the champion learned from bars that came after `as_of`.
        ChecksFailed: a bar of the last window is not one that the checks let pass.
    """
    limits = spec or ForecastSpec()
    workspace = Workspace(settings, series)
    champion = sync_champion_alias(workspace).require(series.name)
    window = workspace.registry.read_version(champion.version).recipe().window
    store = workspace.bar_store
    bars = store.read_bars(store.ref(series))
    now = now_for(workspace, champion, bars, as_of)  # once: a bar that closes while this runs is the next run's
    bars = bars.closed_by(np.datetime64(now.replace(tzinfo=None), "us"))
    require_fresh(f"{series.name} version {champion.version}", champion.trained_until, bars, window, now, limits)
    require_checked(series, bars, window, store.released(series))
    backfilled = _backfill(workspace, champion, bars)
    return Guarded(forecast(series, settings, as_of=now), backfilled)


def now_for(workspace: Workspace, champion: Version, bars: Bars, as_of: datetime | None) -> datetime:
    """Return what counts as now for a series: what was said, the clock, or the newest close of a file."""
    if as_of is not None:
        return as_of.astimezone(UTC) if as_of.tzinfo else as_of.replace(tzinfo=UTC)
    if workspace.runs.run_params(champion.run_id).get("source.kind") == "exchange":
        return datetime.now(UTC)
    return aware(bars.closed_at[-1]) if len(bars) else datetime.now(UTC)


def require_checked(series: Series, bars: Bars, window: WindowSpec, released: Shaped[np.ndarray, " bar"]) -> None:
    """Refuse bars that came in another way than through the checks.

    Args:
        series: for the message.
        bars: shape (bar,), as stored.
        window: its lookback says how many of them are looked at.
        released: open times of bars that a person let pass, datetime64[us], UTC.

    Raises:
        ChecksFailed: a bar of the last window breaks a rule of the ingest.
    """
    last = Bars(bars.interval, bars.opened_at[-window.lookback_bars :], bars.ohlcv[-window.lookback_bars :])
    let_through = np.isin(last.opened_at, released)
    for rule in VALUE_RULES:
        mask = by_values(rule, last.ohlcv, CheckSpec().absurd_tick_factor)
        broken = np.flatnonzero(mask if rule in NEVER_RELEASED else mask & ~let_through)
        if len(broken):
            raise ChecksFailed(
                f"{series.name}: expected checked bars, found one that breaks {rule} at "
                f"{last.opened_at[broken[0]]} ({len(broken)} in the last window). Run `riseorfall retrain` or the flow "
                "`ingest`: they put such bars into the quarantine."
            )


def champion_at(rows: Sequence[LoggedDecision], moment: datetime) -> str | None:
    """Return who was champion at a moment, by the ledger; None where nobody was yet."""
    past = [row for row in rows if row.decided_at <= moment]
    return past[-1].champion_after if past else None


def _backfill(workspace: Workspace, champion: Version, bars: Bars) -> tuple[Prediction, ...]:
    """Store the predictions of decisions after the last stored one and before the newest bar; return them."""
    series = workspace.runs.series
    last = workspace.prediction_log.last_predicted(series.name)
    if last is None:
        return ()
    rows = workspace.decision_log.rows(series.name)
    fresh: list[Prediction] = []
    versions: dict[str, Version] = {champion.version: champion}
    answers: dict[str, dict[datetime, float]] = {}
    for closed in bars.closed_at[-LONGEST_ABSENCE_BARS - 1 : -1]:
        moment = aware(closed)
        if moment <= last:
            continue
        number = champion_at(rows, moment) or champion.version
        if number not in answers:
            versions.setdefault(number, workspace.registry.version(number))
            decided_at, probabilities = workspace.registry.read_version(number).predictor().predict(bars)
            answers[number] = {aware(each): float(p) for each, p in zip(decided_at, probabilities, strict=True)}
        if moment in answers[number] and versions[number].trained_until <= moment:
            horizon = workspace.registry.read_version(number).recipe().window.horizon_bars
            resolves = moment + horizon * timedelta(seconds=int(series.delta / np.timedelta64(1, "s")))
            fresh.append(
                Prediction(
                    series.name, series.symbol, series.interval, moment, resolves, number,
                    answers[number][moment], datetime.now(UTC),
                )
            )  # fmt: skip
    workspace.prediction_log.store_all(fresh)
    return tuple(fresh)

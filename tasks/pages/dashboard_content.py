"""What the dashboard shows of each series, read from the stores; nothing is written, not even an alias is corrected.

What cannot be read becomes the text of `problem`: one broken series must not hide the others, nor a broken registry the
bars. The record of a champion never changes, so it is read once. Caution: this runs once a minute for each open page,
so the chart shows the newest `CHART_BARS` bars only.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_checks.offline_data_docs import INDEX
from model.bars import Bars, Series
from model.errors import UnsoundModel
from model.record import Record
from tasks.champion.commit_decision import read_champion
from tasks.champion.panel_status import recent_predictions
from tasks.champion.recipe_hold import RecipeHold, held_recipes
from tasks.champion.series_alarms import Pauses, series_health
from tasks.champion.served_predictions import LivePredictions, predictions_with_outcomes
from tasks.registry.model_registry import Version
from tasks.registry.run_artifacts import DETAILS
from tasks.services.scheduled_runs import scheduled_pauses
from tasks.settings import Settings, report_name
from tasks.store.bar_store import BarStore
from tasks.store.decision_log import LoggedDecision, champion_since
from tasks.workspace import Workspace

CHART_BARS = 2000  # newest bars of the chart: more dots than pixels otherwise
LAST_DECISIONS = 8
MOST_REFUSED = 50  # newest refused bars that are listed; `riseorfall quarantine` lists them all
NO_HEALTH: Mapping[str, Any] = {"alarms": [], "live": {}, "live_source": False, "predicted_by": ""}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SeriesContent:
    """What the dashboard shows of one series.

    Attributes:
        series: symbol and interval.
        bars: the newest `CHART_BARS` bars.
        champion: the champion; None without one.
        since: the decision that made it champion; None if the decision log does not know.
        compared: the newest decision that compared it with the base rate, such as a hold before a person promoted it by
            force; None without one.
        record: its out-of-sample record; empty without a champion or where it cannot be read.
        predictions: what was served; of a panel lately.
        health: as `series_health` returns it.
        decisions: the last ones, newest first.
        reports: decision and path below HOME/data of each report that exists, newest first.
        problem: what could not be read.
        holds: recipes that a rollback holds.
        mlflow_runs: address of the runs in MLflow, with our columns; empty where there are none.
        bar_count: number of all bars.
        data_docs: path below HOME/data of the Data Docs' index; empty without one.
        refused: the newest bars in quarantine, newest first: opened at, rule, value, source.
        refused_count: number of all bars in quarantine that nobody released.
        corrected_p: p-value of the record's difference to the base rate, corrected for all tests and recipes of its
            retrain; NaN where the run does not have it.
        is_scheduled: a schedule of the Prefect server in use is for it; assumed where no server answers.
    """

    series: Series
    bars: Bars
    champion: Version | None
    since: LoggedDecision | None
    compared: LoggedDecision | None
    record: Record
    predictions: LivePredictions
    health: Mapping[str, Any]
    decisions: Sequence[LoggedDecision]
    reports: Sequence[tuple[LoggedDecision, str]]
    problem: str = ""
    holds: Sequence[RecipeHold] = ()
    mlflow_runs: str = ""
    bar_count: int = 0
    corrected_p: float = math.nan
    refused: Sequence[tuple[str, str, str, str]] = ()
    refused_count: int = 0
    data_docs: str = ""
    is_scheduled: bool = True

    @property
    def is_historical(self) -> bool:
        """Whether no later bars can come: those of a champion that was trained on the bundled sample."""
        return self.health.get("source") == "sample"

    @property
    def has_bars_only(self) -> bool:
        """Whether there is nothing to show but bars: no champion, no decision, no prediction, no problem."""
        return not (self.champion or self.decisions or self.problem or len(self.predictions)) and bool(self.bar_count)

    @property
    def champion_report(self) -> str:
        """Return the path of the champion's report below HOME/data; empty where there is none."""
        number = self.champion.version if self.champion else ""
        return next((path for row, path in self.reports if row.version == number), "")


@dataclass
class DashboardReader:
    """Reads the content of the dashboard.

    Attributes:
        settings: addresses of tables and MLflow.
        records: out-of-sample record by series name and version.
        p_values: corrected p-value by run.
    """

    settings: Settings
    records: dict[tuple[str, str], Record] = field(default_factory=dict)
    p_values: dict[str, float] = field(default_factory=dict)

    def read(self, name: str = "") -> list[SeriesContent]:
        """Return the content of every stored series, by name, and of every panel; with a name of that one alone."""
        listed, pauses = Workspace(self.settings).listed_series(), scheduled_pauses(self.settings)
        return [
            self._readable(series, pauses.get(series.name, Pauses())) for series in listed if name in ("", series.name)
        ]

    def _readable(self, series: Series, pauses: Pauses) -> SeriesContent:
        """Return the content of a series, or only the reason why it cannot be read."""
        try:
            return self._series(series, pauses)
        except Exception as error:
            log.exception("the dashboard cannot read series %s", series.name)
            return unreadable_content(series, f"{type(error).__name__}: {error}")

    def _series(self, series: Series, pauses: Pauses) -> SeriesContent:
        workspace = Workspace(self.settings, series)
        rows = workspace.decision_log.rows(series.name)
        bars = workspace.bar_store.bars(series)
        predictions = (
            recent_predictions(workspace)
            if series.is_panel
            else predictions_with_outcomes(workspace.prediction_log.read(series.name), bars)
        )
        champion, record, problem, corrected_p = None, no_record(), "", math.nan
        health, holds, runs = NO_HEALTH, tuple[RecipeHold, ...](), ""
        refused, refused_count = _refused(workspace.bar_store, series)
        try:
            state = read_champion(workspace)
            champion, problem = state.version, state.problem
            health = series_health(series, self.settings, pauses=pauses)
            if champion is not None:
                record = self._record(workspace, champion.version)
                corrected_p = self._corrected_p(workspace, champion.run_id)
            holds = tuple(held_recipes(workspace).values())
            runs = workspace.runs.path_of_runs() if rows else ""
        except Exception as error:  # MLflow raises errors of many kinds; the page says which
            log.exception("the dashboard cannot read the champion of %s", series.name)
            problem = f"{type(error).__name__}: {error}"
        return SeriesContent(
            series=series,
            bars=Bars(bars.interval, bars.opened_at[-CHART_BARS:], bars.ohlcv[-CHART_BARS:]),
            champion=champion,
            since=champion_since(rows),
            compared=next(
                (
                    row
                    for row in reversed(rows)
                    if champion is not None and row.version == champion.version and "base_rate.n" in row.numbers
                ),
                None,
            ),
            record=record,
            predictions=predictions,
            health=health,
            decisions=rows[: -LAST_DECISIONS - 1 : -1],
            reports=self._reports(series, rows),
            problem=problem,
            holds=holds,
            mlflow_runs=f"{self._mlflow()}/{runs}" if runs else "",
            bar_count=len(bars),
            corrected_p=corrected_p,
            refused=refused,
            refused_count=refused_count,
            data_docs=self._data_docs(series),
        )

    def _mlflow(self) -> str:
        """Return the address of MLflow in a browser."""
        return (self.settings.mlflow_url or self.settings.mlflow_uri).rstrip("/")

    def _record(self, workspace: Workspace, version: str) -> Record:
        key = workspace.name, version
        if key not in self.records:
            found = workspace.registry.read_version(version).record()
            others = {each: own for each, own in self.records.items() if each[0] != workspace.name}
            self.records = others | {key: found}  # those of former champions are not shown any more
        return self.records[key]

    def _corrected_p(self, workspace: Workspace, run_id: str) -> float:
        if run_id not in self.p_values:
            try:
                found = json.loads(workspace.runs.read_file(run_id, DETAILS))["p_values_corrected"]
            except (UnsoundModel, ValueError, KeyError, TypeError):  # a run of version 0.1, or a damaged file
                found = {}
            self.p_values[run_id] = found.get("base_rate_difference", math.nan)
        return self.p_values[run_id]

    def _data_docs(self, series: Series) -> str:
        path = self.settings.docs_folder / series.name / INDEX
        return path.relative_to(self.settings.data_folder).as_posix() if path.is_file() else ""

    def _reports(self, series: Series, rows: Sequence[LoggedDecision]) -> list[tuple[LoggedDecision, str]]:
        folder = self.settings.reports_folder / series.name
        present = {path.name for path in folder.glob("*.html")}  # fewer than decisions: housekeeping deletes old ones
        place = folder.relative_to(self.settings.data_folder).as_posix()
        names = ((row, report_name(row.run_id)) for row in reversed(rows))
        return [
            (row, f"{place}/{name}")
            for row, name in names
            if row.run_id and row.decision_id == row.run_id and name in present
        ]


def _refused(store: BarStore, series: Series) -> tuple[list[tuple[str, str, str, str]], int]:
    """Return the newest refused bars, and how many there are; those that were released are none."""
    found = store.read_quarantine(series)
    held = found[found["released_at"].isna()]
    newest = held[: -MOST_REFUSED - 1 : -1]
    opened_at = newest["timestamp"].dt.strftime("%Y-%m-%d %H:%M").fillna("unknown")
    texts = zip(opened_at, newest["rule"], newest["value"], newest["source"], strict=True)
    return [(str(at), str(rule), str(value), str(source)) for at, rule, value, source in texts], len(held)


def unreadable_content(series: Series, problem: str) -> SeriesContent:
    """Return the content of a series of which nothing can be read."""
    times = np.empty(0, dtype="datetime64[us]")
    bars = Bars(series.interval, times, np.empty((0, 5)))
    nothing = LivePredictions(times, times, np.empty(0), np.empty(0, np.int8), (), ())
    return SeriesContent(series, bars, None, None, None, no_record(), nothing, NO_HEALTH, (), (), problem)


def no_record() -> Record:
    """Return a record without windows."""
    times = np.empty(0, dtype="datetime64[us]")
    return Record(times, times, np.empty(0, np.int8), np.empty(0), np.empty(0, np.int64))

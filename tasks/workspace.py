"""The one place that opens bars, logs and MLflow, at the addresses of the settings.

A `Workspace` is cheap to make: each part is opened on first use, once. It decides nothing. Commands that need tables
only may leave `series` out; parts that belong to a series then raise SpecError.
"""

from dataclasses import dataclass
from functools import cached_property
from shlex import quote

from model.bars import Series
from model.errors import DamagedHome, RiseOrFallError, SpecError
from tasks.registry.experiment_page import Purpose
from tasks.registry.experiment_runs import ExperimentRuns
from tasks.registry.file_verification import ArtifactPlaces
from tasks.registry.local_database import LocalDatabase
from tasks.registry.model_registry import ModelRegistry
from tasks.settings import Settings
from tasks.sources.source_spec import SourceSpec
from tasks.store.bar_store import BarStore
from tasks.store.decision_log import DecisionLog
from tasks.store.delta_table import Table
from tasks.store.monitor_log import MonitorLog
from tasks.store.prediction_log import SHADOWS, PredictionLog
from tasks.store.trial_log import TrialLog
from tasks.store.version_history import VersionHistory


@dataclass(frozen=True)
class Workspace:
    """Everything that is stored about a series.

    Attributes:
        settings: addresses and credentials.
        series: symbol and interval; None for the tables of all series.
        experiment: name of the MLflow experiment and of the registered model; empty takes the series' own.
        purpose: what the runs of the experiment are.
    """

    settings: Settings
    series: Series | None = None
    experiment: str = ""
    purpose: Purpose = "retrain"

    @cached_property
    def bar_store(self) -> BarStore:
        """Bars, revisions and quarantine."""
        return BarStore(self.settings.store_root, self.settings.storage_options())

    @cached_property
    def decision_log(self) -> DecisionLog:
        """Promotion decisions."""
        return DecisionLog(self.settings.store_root, self.settings.storage_options())

    @cached_property
    def prediction_log(self) -> PredictionLog:
        """Stored predictions of the versions that served."""
        return PredictionLog(self.settings.store_root, self.settings.storage_options())

    @cached_property
    def shadow_log(self) -> PredictionLog:
        """Stored shadow predictions."""
        return PredictionLog(self.settings.store_root, self.settings.storage_options(), SHADOWS)

    @cached_property
    def monitor_log(self) -> MonitorLog:
        """Results of the monitor."""
        return MonitorLog(self.settings.store_root, self.settings.storage_options())

    @cached_property
    def trial_log(self) -> TrialLog:
        """Recipes scored on test bars."""
        return TrialLog(self.settings.store_root, self.settings.storage_options())

    @cached_property
    def runs(self) -> ExperimentRuns:
        """MLflow runs of the series.

        Raises:
            SpecError: the workspace was opened without a series.
            DamagedHome: the local database is gone; MLflow would create an empty one, and count versions from 1 again.
                Or the decision log is gone, so that nothing says which files of the champion were decided about.
        """
        if self.series is None:
            raise SpecError("workspace: expected a series for MLflow, found none. Open Workspace(settings, series).")
        path = self.settings.local_database
        exists = path is None or (path.exists() and path.stat().st_size > 0)  # SQLite creates an empty file first
        if not exists and self.decision_log.rows(last=1):
            raise DamagedHome(
                f"{path}: expected MLflow's database, because decisions were made; found none. Run `riseorfall doctor`."
            )
        self.require_decisions()
        settings = self.settings
        return ExperimentRuns(settings.mlflow_uri, settings.artifact_root, self.series, self.experiment, self.purpose)

    def decision_log_problem(self) -> str:
        """Return what shows that the decision log of a local home is gone; empty if nothing does.

        MLflow names a champion only after a decision was committed.
        """
        settings, (ledger,) = self.settings, self.decision_log.tables
        if settings.local_store is None or not settings.has_local_registry or ledger.open() is not None:
            return ""
        database = LocalDatabase(settings.mlflow_uri)
        names = dict.fromkeys(name for name, _, _ in database.all_versions() or ())
        champions = [name for name in names if (database.alias(name, "champion") or (None,))[0]]
        named = ", ".join(champions)
        return f"expected the decision log, because MLflow names a champion of {named}; found none" if named else ""

    def require_decisions(self) -> None:
        """Raise DamagedHome if the decision log is gone."""
        if problem := self.decision_log_problem():
            raise DamagedHome(f"{self.decision_log.tables[0].uri}: {problem}. Run `riseorfall doctor`.")

    @cached_property
    def registry(self) -> ModelRegistry:
        """Registered versions of the series, in the same MLflow as `runs`."""
        history = VersionHistory(self.name, self.decision_log, (self.prediction_log, self.shadow_log))
        own = self.settings.has_local_registry
        places = ArtifactPlaces(self.settings.root, self.runs.uri, str if own else self.runs.artifact_location)
        return ModelRegistry(self.runs, history, places)

    @property
    def tables(self) -> tuple[Table, ...]:
        """Every table of the home."""
        logs = (self.decision_log, self.prediction_log, self.shadow_log, self.monitor_log, self.trial_log)
        return (*self.bar_store.tables, *(table for each in logs for table in each.tables))

    @property
    def name(self) -> str:
        """Name of the experiment, of the registered model, and of the series in decision and prediction log."""
        return self.runs.name

    def listed_series(self) -> tuple[Series, ...]:
        """Return every series with bars or decisions, and every panel with decisions; for lists and pages."""
        found = {*self.bar_store.stored_series(), *self.decision_log.series()}
        return tuple(sorted(found, key=lambda each: (each.is_panel, each.symbol, each.interval)))

    @property
    def series_flags(self) -> str:
        """Flags that choose the series in a command to copy, after a space; empty for the only stored series."""
        series = self.runs.series
        if set(self.bar_store.stored_series()) <= {series}:
            return ""
        return f" --symbol {quote(series.symbol)} --interval {series.interval}"

    @property
    def retrain_command(self) -> str:
        """The command that trains a version of the series or the panel, for messages."""
        series = self.runs.series
        if series.is_panel:
            return "riseorfall retrain-panel" + ("" if series.interval == "1d" else f" --interval {series.interval}")
        return f"riseorfall retrain{self.source_flags}"

    @property
    def source_flags(self) -> str:
        """Flags that choose the source of the series in a command to copy, after a space; empty for the bundled sample.

        The source is that of the newest retrain. Where there was none, KIND stands for what the reader has to choose.
        """
        if self.series is None:
            raise SpecError("workspace: expected a series for its source, found none")
        chosen = {"symbol": self.series.symbol, "interval": self.series.interval}
        known = self._newest_source(chosen)
        is_sample = self._may_be_sample(self.series) if known is None else known.kind == SourceSpec().kind
        if is_sample and self.series == SourceSpec().series:
            return ""
        given = known.model_dump(exclude_defaults=True, exclude=set(chosen)) if known else {"kind": "KIND"}
        named = ((name.replace("_", "-"), quote(each)) for name, each in (given | chosen).items())
        return "".join(f" --source.{name} {each}" for name, each in named)

    def _newest_source(self, chosen: dict[str, str]) -> SourceSpec | None:
        """Return the source of the run that the newest decision is about; None where it is not known."""
        rows = self.decision_log.rows(Series(chosen["symbol"], chosen["interval"]).name)
        run_id = next((row.run_id for row in reversed(rows) if row.run_id), "")
        try:
            params = self.runs.run_params(run_id) if run_id else {}
        except RiseOrFallError:  # the message that the flags are for matters more
            params = {}
        given = {name: params[f"source.{name}"] for name in SourceSpec.model_fields if f"source.{name}" in params}
        return SourceSpec.model_validate(given | chosen) if given else None

    def _may_be_sample(self, series: Series) -> bool:
        """Whether a series is that of the bundled sample, and no bars of it came from elsewhere."""
        if series != SourceSpec().series:
            return False
        from tasks.sources.bundled_sample import SAMPLE_FILE  # imported here: it loads pandas

        read = [note for note in self.bar_store.ingests(series) if "columns" in note]  # not what was changed by hand
        return all(note["source"] == SAMPLE_FILE.name for note in read)


def open_workspace(series: Series | None = None) -> Workspace:
    """Return the workspace of the settings in the environment."""
    return Workspace(Settings(), series)


def require_stored(series: Series) -> Series:
    """Return the series; in a home that stores others, raise if it is none of them.

    Raises:
        SpecError: it has no bars; the message lists the series that have.
    """
    stored = open_workspace().bar_store.stored_series()
    if stored and series not in stored:
        names = ", ".join(f"{each.symbol} {each.interval}" for each in stored)
        raise SpecError(f"{series.symbol} {series.interval}: expected a stored series, found none; stored: {names}.")
    return series

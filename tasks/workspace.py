"""The one place that opens bars, logs and MLflow, as the settings name their addresses.

A `Workspace` is cheap to make: each part is opened when it is first used, and once. It decides nothing. `series` may be
left out by callers that need tables only; whatever belongs to a series then raises SpecError.
"""

from dataclasses import dataclass
from functools import cached_property

from model.bars import Series
from model.errors import SpecError
from tasks.registry.tracking import Tracking
from tasks.settings import Settings
from tasks.store.bar_store import BarStore
from tasks.store.decision_log import Ledger
from tasks.store.monitor_log import Watchbook


@dataclass(frozen=True)
class Workspace:
    """Everything that is stored about a series.

    Attributes:
        settings: addresses and credentials.
        series: symbol and interval; None for the tables of all series.
        experiment: name of the MLflow experiment and of the registered model; empty takes the series' own.
    """

    settings: Settings
    series: Series | None = None
    experiment: str = ""

    @cached_property
    def bar_store(self) -> BarStore:
        """Bars, revisions and quarantine."""
        return BarStore(self.settings.store_root, self.settings.storage_options())

    @cached_property
    def decision_log(self) -> Ledger:
        """Promotion decisions and stored predictions."""
        return Ledger(self.settings.store_root, self.settings.storage_options())

    @cached_property
    def monitor_log(self) -> Watchbook:
        """Results of the monitor."""
        return Watchbook(self.settings.store_root, self.settings.storage_options())

    @cached_property
    def tracking(self) -> Tracking:
        """MLflow runs and registered versions of the series.

        Raises:
            SpecError: the workspace was opened without a series.
        """
        if self.series is None:
            raise SpecError(
                "workspace: expected a series for MLflow, found none. Open it with Workspace(settings, series)."
            )
        return Tracking(self.settings.mlflow_uri, self.settings.artifact_root, self.series, self.experiment)


def open_workspace(series: Series | None = None) -> Workspace:
    """Return the workspace of the settings in the environment."""
    return Workspace(Settings(), series)

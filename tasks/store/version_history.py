"""What decisions and predictions prove about the versions of a series: files, training ends, runs, numbers in use.

The registry may be lost and rebuilt, or changed by others; these tables are ours. A number that was used once names the
same network for ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tasks.store.decision_log import DecisionLog, LoggedDecision
from tasks.store.prediction_log import PredictionLog


@dataclass(frozen=True, slots=True)
class RecordedVersion:
    """What the decision log knows about a version.

    Attributes:
        files: SHA-256 by path, as recorded first; empty if no decision recorded any, as before version 0.2.
        run_ids: MLflow runs whose version had this number when it was decided about.
        trained_until: close of its last training bar, UTC, as recorded first; None if no decision recorded it.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    run_ids: frozenset[str] = frozenset()
    trained_until: datetime | None = None

    @property
    def is_complete(self) -> bool:
        """Whether no later decision records more."""
        return bool(self.files) and self.trained_until is not None


class VersionHistory:
    """Versions of one series in the decision log and the prediction logs."""

    def __init__(self, series_name: str, decisions: DecisionLog, predictions: Sequence[PredictionLog]) -> None:
        """Set the logs; nothing is read yet."""
        self.series_name = series_name
        self.decisions = decisions
        self.predictions = predictions
        self._files: dict[str, RecordedVersion] = {}  # what is recorded stays as it is
        self._indexed: tuple[LoggedDecision, ...] = ()
        self._by_version: dict[str, list[LoggedDecision]] = {}

    def recorded(self, version: str) -> RecordedVersion:
        """Return what is recorded about a version; of the decisions, only those about it are parsed.

        What an earlier release recorded of a champion is completed with the first decision that it survived.
        """
        if version not in self._files:
            found = self._among(self._by_version.get(version, ()), version)  # read before: what they record stays
            if not found.is_complete:
                found = self._among(self._decisions_about(version), version)
            if not found.is_complete:
                return found
            self._files[version] = found
        return self._files[version]

    @staticmethod
    def _among(rows: Sequence[LoggedDecision], version: str) -> RecordedVersion:
        recorded = (files for row in rows if (files := row.files.get(version)) is not None)  # the first one counts
        ends = (datetime.fromisoformat(text) for row in rows if (text := row.trained_until.get(version)))
        runs = frozenset(row.run_id for row in rows if row.version == version and row.run_id)
        return RecordedVersion(next(recorded, {}), runs, next(ends, None))

    def _decisions_about(self, version: str) -> Sequence[LoggedDecision]:
        """Return the decisions whose challenger or champion is the version, oldest first."""
        every = self.decisions.rows(self.series_name)
        if every is not self._indexed:  # `predict` asks about thirty versions
            self._by_version = {}
            for row in every:
                for name in {row.version, row.champion_after or row.version}:
                    self._by_version.setdefault(name, []).append(row)
            self._indexed = every
        return self._by_version.get(version, ())

    def highest_number(self) -> int:
        """Return the highest number that a decision or a stored prediction names; 0 without any."""
        used = {number for log in self.predictions for number in log.versions(self.series_name)}
        for row in self.decisions.rows(self.series_name):
            used |= {row.version, row.champion_after or ""}  # those whose files a decision may record
        return max((int(number) for number in used if number.isdecimal()), default=0)

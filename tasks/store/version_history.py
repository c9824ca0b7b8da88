"""What decisions and predictions prove about the versions of a series: files, training ends, runs, numbers in use.

The registry may be lost and rebuilt, or changed by others; these tables are ours. A number that was used once names the
same network for ever.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tasks.store.decision_log import DecisionLog, LoggedDecision, column
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
        """Set the logs, that of the served predictions first; nothing is read yet."""
        self.series_name = series_name
        self.decisions = decisions
        self.predictions = predictions
        self._files: dict[str, RecordedVersion] = {}  # what is recorded stays as it is
        self._indexed: tuple[Sequence[LoggedDecision], dict[str, list[int]]] = (), {}  # replaced whole: threads ask

    def recorded(self, version: str) -> RecordedVersion:
        """Return what is recorded about a version; of the decisions, only those about it are parsed.

        What an earlier release recorded of a champion is completed with the first decision that it survived.
        """
        if version not in self._files:
            found = self._found(version)  # in the decisions read before: what they record stays
            if not found.is_complete:
                self._index()
                found = self._found(version)
            if not found.is_complete:
                return found
            self._files[version] = found
        return self._files[version]

    def _found(self, version: str) -> RecordedVersion:
        """Return what the indexed decisions about a version record; the first one counts."""
        every, by_version = self._indexed
        rows = [every[place] for place in by_version.get(version, ())]
        recorded = (files for row in rows if (files := row.files.get(version)) is not None)
        ends = (datetime.fromisoformat(text) for row in rows if (text := row.trained_until.get(version)))
        runs = frozenset(row.run_id for row in rows if row.version == version and row.run_id)
        return RecordedVersion(next(recorded, {}), runs, next(ends, None))

    def _index(self) -> None:
        """Index the decisions again if there are new ones: `predict` asks about thirty versions."""
        every = self.decisions.rows(self.series_name)
        if every is self._indexed[0]:
            return
        by_version: dict[str, list[int]] = {}
        named = zip(column(every, "version"), column(every, "champion_after"), strict=True)
        for place, (version, champion) in enumerate(named):
            by_version.setdefault(version, []).append(place)
            if champion is not None and champion != version:
                by_version.setdefault(champion, []).append(place)
        self._indexed = every, by_version

    def highest_number(self) -> int:
        """Return the highest number that a decision or a stored prediction names; 0 without any."""
        used = {number for log in self.predictions for number in log.versions(self.series_name)}
        rows = self.decisions.rows(self.series_name)
        for name in ("version", "champion_after"):  # those whose files a decision may record
            used |= {number or "" for number in column(rows, name)}
        return max((int(number) for number in used if number.isdecimal()), default=0)

    def served_without_decision(self) -> tuple[str, ...]:
        """Return the versions that served and are newer than all that decisions name: these decisions are lost.

        Only the champion serves, and it is champion by a decision; by the alias alone as long as there is none at all.
        """
        rows, served = self.decisions.rows(self.series_name), self.predictions[0].versions(self.series_name)
        named = (*column(rows, "version"), *column(rows, "champion_before"), *column(rows, "champion_after"))
        newest = max((int(number) for number in named if number), default=None)
        return tuple(sorted((each for each in served if newest is not None and int(each) > newest), key=int))

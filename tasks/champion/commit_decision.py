"""A decision made real: the ledger and the alias `champion` change together, or not at all. Plain; no Prefect.

The ledger is the truth and its row the commit. A version is first loaded and asked as serving would, then the row is
written - refused if the champion is no longer the one the decision was made against -, then the alias follows. A
crash before the row leaves everything as it was; a crash after it leaves the alias behind, and whoever comes next
(`promote`, `rollback`, `status`, `predict`) lets it catch up first. No lock is held, so none can be left behind, and
it holds on a folder as on S3. The trap: the alias alone says nothing; ask `sync_champion_alias` who is champion.
"""

import logging
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from model.champion_timeline_picture import Step
from model.errors import NoChampion, UnsoundModel
from model.times import to_datetime64
from tasks.registry.model_registry import Version
from tasks.store.decision_log import LoggedDecision
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 10  # decisions of others that may come between reading the ledger and setting the alias


@dataclass(frozen=True, slots=True)
class ChampionState:
    """Who is champion, by the ledger.

    Attributes:
        number: version of the champion; None when nothing was promoted yet.
        version: that version as the registry knows it; None when the registry has lost it.
        problem: what is wrong between ledger and registry; empty when nothing is.
    """

    number: str | None
    version: Version | None
    problem: str = ""

    def require(self, name: str) -> Version:
        """Return the champion.

        Raises:
            NoChampion: nothing was promoted yet.
            UnsoundModel: the registry has lost it.
        """
        if self.version is not None:
            return self.version
        if self.number is None:
            raise NoChampion(
                f"{name}: expected a champion, found none. Run `riseorfall retrain` first; `riseorfall status` shows "
                "what is registered."
            )
        raise UnsoundModel(f"{name}: {self.problem}. `riseorfall retrain` replaces it, `riseorfall rollback` too.")


def sync_champion_alias(workspace: Workspace) -> ChampionState:
    """Let the alias `champion` follow the ledger, and return who is champion.

    Where the ledger knows nothing of the series yet, the alias stays as it is and counts.
    """
    return _catch_up(workspace, logging.WARNING)


def commit_decision(
    workspace: Workspace,
    row: LoggedDecision,
    smoke_test: Callable[[Workspace, str], None] | None = None,
) -> None:
    """Write a decision into the ledger and let the alias `champion` follow.

    Args:
        workspace: registry and decision log.
        row: the decision; its `champion_before` is the champion it was made against.
        smoke_test: raises UnsoundModel where a version cannot serve; `load_as_served` when None.

    Raises:
        UnsoundModel: the new champion does not pass the smoke test; nothing has changed.
        ChampionChanged: another decision came first; nothing has changed.
    """
    if row.champion_after is not None and row.champion_after != row.champion_before:
        (smoke_test or load_as_served)(workspace, row.champion_after)
    workspace.decision_log.append_if_current(row)
    _catch_up(workspace, logging.INFO)


def _catch_up(workspace: Workspace, level: int) -> ChampionState:
    """Move the alias to where the ledger has it, again if others decide in the meantime; say so at `level`."""
    for _ in range(MAX_ATTEMPTS):
        last = workspace.decision_log.last(workspace.name)
        aliased = workspace.registry.alias_number("champion")
        number = last.champion_after if last else aliased
        version, problem = _look_up(workspace, number)
        if aliased == number or problem:
            break
        log.log(level, "%s: champion is version %s by the ledger, %s by the alias, which follows",
                workspace.name, number or "none", aliased or "none")  # fmt: skip
        if number is None:
            workspace.registry.drop_alias("champion")
        else:
            workspace.registry.set_alias("champion", number)
    if problem:
        log.error("%s: %s", workspace.name, problem)
    return ChampionState(number, version, problem)


def _look_up(workspace: Workspace, number: str | None) -> tuple[Version | None, str]:
    """Return a version, or what is wrong with it."""
    if number is None:
        return None, ""
    try:
        return workspace.registry.version(number), ""
    except NoChampion as lost:
        return None, f"the registry has lost champion version {number} ({lost})"


def load_as_served(workspace: Workspace, version: str) -> None:
    """Load a version as a server does, ask it about its own input example, and look at the answer.

    Raises:
        UnsoundModel: it cannot be loaded, fails, or answers with something that is no probability.
    """
    import mlflow.pyfunc  # here: two seconds that --help must not pay

    place, path = f"models:/{workspace.name}/{version}", list(sys.path)
    workspace.runs.set_global_uri()
    try:
        loaded = mlflow.pyfunc.load_model(place)
        answer = loaded.predict(loaded.input_example)["probability"].to_numpy(dtype=np.float64)
    except Exception as error:  # whatever a broken file makes mlflow, onnxruntime or pandas raise
        raise UnsoundModel(f"{place}: it cannot be loaded as it would be served: {error}") from error
    finally:
        sys.path[:] = path  # mlflow puts the version's own copy of model/ first, for good
    if not len(answer) or not ((answer > 0) & (answer < 1)).all():
        raise UnsoundModel(f"{place}: expected probabilities between 0 and 1 on its input example, found {answer}")


def timeline_steps(rows: Sequence[LoggedDecision]) -> list[Step]:
    """Return decisions as the champion's history is drawn from them, oldest first."""
    return [
        Step(
            decided_at=to_datetime64(row.decided_at),
            action=row.action,
            version=row.version,
            champion=row.champion_after or "",
            forced=row.forced and row.action == "promote",
            difference=_number(row, "base_rate.difference"),
            low=_number(row, "base_rate.low"),
            high=_number(row, "base_rate.high"),
        )
        for row in rows
    ]


def _number(row: LoggedDecision, name: str) -> float:
    value = row.numbers.get(name)
    return math.nan if value is None else float(value)

"""Commit a decision. Its row in the decision log is the commit; the aliases `champion` and `challenger` follow.

First the new champion passes a smoke test: it is loaded as `predict` and `serve` would load it, and predicts once. Then
the row is written, which is refused if the champion has changed since the decision (optimistic concurrency); then the
alias is set. If the process dies before it writes the row, the champion is unchanged; if it dies between row and alias,
or MLflow does not answer then, the next command corrects the alias. No lock is held, so none can be left behind, on a
folder or on S3. The row records the SHA-256 of the files of its version and the end of its training, so that no other
files, and no edited tag, can pass for them later.
Caution: the alias alone is no evidence; use `sync_champion_alias`.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from model.champion_timeline_picture import Step
from model.errors import NoChampion, StoreUnavailable, UnsoundModel, UntrustedModel
from model.times import to_datetime64
from tasks.champion.smoke_test import load_as_served
from tasks.registry.model_registry import Version
from tasks.store.decision_log import LoggedDecision, challenger_of
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

MAX_ALIAS_CHANGES = 10  # own choice: decisions of others that may come between reading the log and setting the alias


@dataclass(frozen=True, slots=True)
class ChampionState:
    """The champion, by the decision log.

    Attributes:
        number: version of the champion; None before the first promotion.
        version: its entry in the registry; None if the registry has lost it.
        problem: how decision log and registry disagree; empty if they agree.
    """

    number: str | None
    version: Version | None
    problem: str = ""

    def require(self, workspace: Workspace) -> Version:
        """Return the champion.

        Args:
            workspace: of the series, for the message.

        Raises:
            NoChampion: no version has been promoted yet.
            UnsoundModel: the registry has lost it.
        """
        if self.version is not None:
            return self.version
        name, retrain = workspace.name, workspace.retrain_command
        if self.number is None:
            raise NoChampion(f"{name}: expected a champion, found none. Run `{retrain}` first.")
        raise UnsoundModel(f"{name}: {self.problem}. Replace it with `{retrain}` or `riseorfall rollback`.")


def sync_champion_alias(workspace: Workspace) -> ChampionState:
    """Set the alias `champion` to the champion of the decision log, and return it.

    As long as the log holds no decision about the series, the alias is the champion.
    """
    return _set_alias(workspace, logging.WARNING)


def read_champion(workspace: Workspace) -> ChampionState:
    """Return the champion of the decision log as `sync_champion_alias` does, but leave the alias as it is."""
    rows = workspace.decision_log.rows(workspace.name)
    number = rows[-1].champion_after if rows else workspace.registry.alias_number("champion")
    return ChampionState(number, *_look_up(workspace, number))


def commit_decision(
    workspace: Workspace,
    row: LoggedDecision,
    smoke_test: Callable[[Workspace, str], None] | None = None,
) -> None:
    """Write a decision into the decision log and set the aliases.

    Args:
        workspace: registry and decision log.
        row: the decision; its `champion_before` is the champion it was made against.
        smoke_test: raises UnsoundModel if a version cannot be served; `load_as_served` if None.

    Raises:
        UnsoundModel: the new champion fails the smoke test; nothing has changed.
        UntrustedModel: its files are not those of an earlier decision; nothing has changed.
        StoreUnavailable: they could not be read; nothing has changed.
        ChampionChanged: another decision was committed first; nothing has changed.
    """
    if row.champion_after is not None and row.champion_after != row.champion_before:
        (smoke_test or load_as_served)(workspace, row.champion_after)
    recorded = replace(row, files=_new_digests(workspace, row), trained_until=_new_training_ends(workspace, row))
    workspace.decision_log.append_if_current(recorded)
    try:
        _set_alias(workspace, logging.INFO)
        sync_challenger_alias(workspace)
    except StoreUnavailable as error:  # to raise it would say that nothing was decided
        log.warning(
            "%s: the decision about version %s is committed; the next command corrects the aliases: %s",
            workspace.name, row.version, error,
        )  # fmt: skip


def sync_challenger_alias(workspace: Workspace) -> None:
    """Let the alias `challenger` name the version that may still be promoted, or nothing.

    A version without a decision keeps it: its retrain is still running.
    """
    rows, registry = workspace.decision_log.rows(workspace.name), workspace.registry
    number, aliased = challenger_of(rows), registry.alias_number("challenger")
    undecided = aliased is not None and aliased not in {row.version for row in rows}
    if aliased == number or undecided:
        return
    version, _ = _look_up(workspace, number)
    if version is not None:
        registry.set_alias("challenger", version.version)
    elif aliased is not None:
        registry.drop_alias("challenger")


def _new_digests(workspace: Workspace, row: LoggedDecision) -> dict[str, dict[str, str]]:
    """Return the digests of the files of challenger and champion, where no decision has recorded them yet.

    A champion of version 0.1 is recorded with the first decision after it.
    """
    found = {}
    for version in dict.fromkeys((row.version, row.champion_after)):
        if version is None or workspace.registry.history.recorded(version).files:
            continue
        try:
            found[version] = workspace.registry.read_version(version).digests()
        except (NoChampion, UnsoundModel, UntrustedModel) as error:  # such as a rejected version without files
            log.warning("%s: the files of version %s are not recorded: %s", workspace.name, version, error)
    return found


def _new_training_ends(workspace: Workspace, row: LoggedDecision) -> dict[str, str]:
    """Return the end of the training of challenger and champion, where no decision has recorded it yet."""
    found = {}
    for number in dict.fromkeys((row.version, row.champion_after)):
        if number is not None and workspace.registry.history.recorded(number).trained_until is None:
            version, _ = _look_up(workspace, number)
            if version is not None:
                found[number] = version.trained_until.isoformat()
    return found


def _set_alias(workspace: Workspace, level: int) -> ChampionState:
    """Set the alias by the decision log, again if others decide in the meantime; log the change at `level`."""
    for _ in range(MAX_ALIAS_CHANGES):
        rows, aliased = workspace.decision_log.rows(workspace.name), workspace.registry.alias_number("champion")
        number = rows[-1].champion_after if rows else aliased
        version, problem = _look_up(workspace, number)
        if aliased == number or problem:
            break
        log.log(level, "%s: champion is version %s by the decision log, %s by the alias, which is corrected",
                workspace.name, number or "none", aliased or "none")  # fmt: skip
        if number is None:
            workspace.registry.drop_alias("champion")
        else:
            workspace.registry.set_alias("champion", number)
    if problem:
        log.error("%s: %s", workspace.name, problem)
    return ChampionState(number, version, problem)


def _look_up(workspace: Workspace, number: str | None) -> tuple[Version | None, str]:
    """Return a version, or the problem with it."""
    if number is None:
        return None, ""
    try:
        return workspace.registry.version(number), ""
    except NoChampion as lost:
        return None, f"the registry has lost champion version {number} ({lost}); `riseorfall doctor` examines it"
    except UnsoundModel as damaged:
        return None, str(damaged)


def timeline_steps(rows: Sequence[LoggedDecision]) -> list[Step]:
    """Return the decisions as steps of the champion timeline, oldest first, without repetitions and lifted holds."""
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
        if row.action != "unchanged" and row.action != "lift"  # noqa: PLR1714 - mypy understands this
    ]


def _number(row: LoggedDecision, name: str) -> float:
    value = row.numbers.get(name)
    return math.nan if value is None else float(value)

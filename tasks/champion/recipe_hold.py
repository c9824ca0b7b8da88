"""Holds on recipes: a rollback holds the recipe of the version that it replaced, until a person lifts the hold.

Without it the next daily retrain would undo the rollback, because it may promote a refit of the same recipe. Another
recipe is free. A hold ends with `riseorfall rollback --lift`, with a later promotion of a version of that recipe (by
force; version 0.1 had no holds and promoted by its rule), or with a rollback to the version that was rolled back.
Caution: holds are derived from the decision log, so a version must stay known by its tags or by those of its run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from model.errors import NoChampion, UnsoundModel
from tasks.registry.model_registry import Version
from tasks.store.decision_log import LoggedDecision, column
from tasks.workspace import Workspace


@dataclass(frozen=True, slots=True)
class RecipeHold:
    """A recipe that may not be promoted.

    Attributes:
        recipe: its digest.
        version: the version that was rolled back.
        rolled_back_at: time of the rollback, UTC.
        reason: of the rollback; empty where none was given.
        flags: of the series, for commands to copy, after a space; empty for the only stored series.
    """

    recipe: str
    version: str
    rolled_back_at: datetime
    reason: str
    flags: str = ""

    def __str__(self) -> str:
        """Describe the hold in a sentence, with the ways to lift it."""
        return (
            f"the recipe of version {self.version} (digest {self.recipe}, its seed included) is on hold since the "
            f"rollback of that version on {self.rolled_back_at:%Y-%m-%d} ({self.reason or 'no reason given'}): other "
            f"recipes and seeds may be promoted, this one after a person has lifted the hold by `riseorfall rollback"
            f'{self.flags} --lift --reason "..."`, or by `riseorfall promote{self.flags} --version N --force --reason '
            '"..."` with a version N of that recipe'
        )


def held_recipes(workspace: Workspace) -> dict[str, RecipeHold]:
    """Return the newest hold of each held recipe."""
    return {hold.recipe: hold for hold in open_holds(workspace)}


def open_holds(workspace: Workspace) -> tuple[RecipeHold, ...]:
    """Return the holds, oldest first; a recipe has several if several of its versions were rolled back."""
    holds: list[RecipeHold] = []
    rows = workspace.decision_log.rows(workspace.name)
    for row in rows if "rollback" in column(rows, "action") else ():
        if row.action == "rollback" and row.champion_before is not None:
            undone = next((place for place, hold in enumerate(holds) if hold.version == row.version), None)
            if undone is not None:
                recipe = holds[undone].recipe
                holds = [hold for place, hold in enumerate(holds) if place < undone or hold.recipe != recipe]
            elif recipe := recipe_of(workspace, row.champion_before, rows):
                before, flags = row.champion_before, workspace.series_flags
                holds.append(RecipeHold(recipe, before, row.decided_at, row.forced_reason, flags))
        elif holds and row.action in ("promote", "lift"):
            free = recipe_of(workspace, row.version, rows)
            holds = [hold for hold in holds if hold.recipe != free]
    return tuple(holds)


def hold_on(workspace: Workspace, challenger: Version) -> RecipeHold | None:
    """Return the hold on the recipe of a version; None where it may be promoted."""
    holds = held_recipes(workspace)
    return holds.get(_recipe_of_registered(workspace, challenger)) if holds else None


def recipe_of(workspace: Workspace, version: str, rows: Sequence[LoggedDecision]) -> str:
    """Return the digest of a version's recipe, by its tags or by those of its run; empty where neither is left."""
    try:
        return _recipe_of_registered(workspace, workspace.registry.version(version))
    except (NoChampion, UnsoundModel):  # deleted, or its tags were edited
        runs = [row.run_id for row in rows if row.version == version and row.run_id]
        return workspace.runs.run_tags(runs[-1]).get("recipe", "") if runs else ""


def _recipe_of_registered(workspace: Workspace, version: Version) -> str:
    """Return the digest of a registered version's recipe, by its tags or by those of its run."""
    return version.tags.get("recipe", "") or workspace.runs.run_tags(version.run_id).get("recipe", "")

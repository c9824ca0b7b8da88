"""Holds on recipes: a rollback holds the recipe of the version that it replaced, until a person lifts the hold.

Without it the next daily retrain would undo the rollback, because it may promote a refit of the same recipe. Another
recipe is free. A hold is lifted by `riseorfall rollback --lift`, or by a forced promotion of a version of that recipe.
Caution: holds are derived from the decision log, so a version must stay known by its tags or by those of its run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from model.errors import NoChampion
from tasks.registry.model_registry import Version
from tasks.store.decision_log import LoggedDecision
from tasks.workspace import Workspace


@dataclass(frozen=True, slots=True)
class RecipeHold:
    """A recipe that may not be promoted.

    Attributes:
        recipe: its digest.
        version: the version that was rolled back.
        rolled_back_at: time of the rollback, UTC.
        reason: of the rollback; empty where none was given.
    """

    recipe: str
    version: str
    rolled_back_at: datetime
    reason: str

    def __str__(self) -> str:
        """Describe the hold in a sentence, with the ways to lift it."""
        return (
            f"recipe {self.recipe} was rolled back with version {self.version} on {self.rolled_back_at:%Y-%m-%d} "
            f"({self.reason or 'no reason given'}) and is held until a person lifts it: `riseorfall rollback --lift "
            '--reason "..."`, or `riseorfall promote --version N --force --reason "..."`'
        )


def held_recipes(workspace: Workspace) -> dict[str, RecipeHold]:
    """Return the holds by recipe, oldest first."""
    holds: dict[str, RecipeHold] = {}
    rows = workspace.decision_log.rows(workspace.name)
    for row in rows:
        if row.action == "rollback" and row.champion_before is not None:
            recipe = recipe_of(workspace, row.champion_before, rows)
            if recipe:
                holds[recipe] = RecipeHold(recipe, row.champion_before, row.decided_at, row.forced_reason)
        elif row.action == "lift" or (row.action == "promote" and row.forced):
            holds.pop(recipe_of(workspace, row.version, rows), None)
    return holds


def hold_on(workspace: Workspace, challenger: Version) -> RecipeHold | None:
    """Return the hold on the recipe of a version; None where it may be promoted."""
    return held_recipes(workspace).get(challenger.tags.get("recipe", ""))


def recipe_of(workspace: Workspace, version: str, rows: Sequence[LoggedDecision]) -> str:
    """Return the digest of a version's recipe, by its tags or by those of its run; empty where neither is left."""
    try:
        found = workspace.registry.version(version).tags.get("recipe", "")
    except NoChampion:
        found = ""
    runs = [row.run_id for row in rows if row.version == version and row.run_id]
    return found or (workspace.runs.run_tags(runs[-1]).get("recipe", "") if runs else "")

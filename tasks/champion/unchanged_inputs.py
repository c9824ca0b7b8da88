"""Whether a retrain would repeat a decision: the same bars, recipe, rule and code, and the champion of that decision.

The digest of the evidence is a tag of the registered version. The decision is read from the decision log, and counts
only as long as the files of its version and of the champion can be read. A rejection is not repeated, because its cause
may have passed (a full disk); nor is the decision of a retrain that ended before its report, because nothing would
complete it. Caution: a rollback, a promotion by hand or a lifted hold can change a decision, but not the digest; so
champion and lifted holds are compared too.
"""

import hashlib
import logging
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from model.errors import NoChampion, UnsoundModel, UntrustedModel
from model.promotion_rule import PromotionRule
from model.recipe import Recipe
from tasks.champion.commit_decision import sync_champion_alias
from tasks.registry.code_version import code_digest
from tasks.registry.mlflow_run_names import DONE
from tasks.store.decision_log import LoggedDecision
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

EVIDENCE = "evidence"  # tag of a version
EVIDENCE_HASH_LENGTH = 16  # characters of SHA-256, 64 bits: a person sees the tag
REPORTED = "report"  # tag of a run: where its report is; a retrain writes it last


def evidence_digest(bars_sha256: str, recipe: Recipe, rule: PromotionRule) -> str:
    """Return a hash of bars, recipe, rule and code; the champion is compared by `find_repeated_decision`."""
    parts = (bars_sha256, recipe.identity, rule.model_dump_json(), code_digest(Path(__file__).parents[2]))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:EVIDENCE_HASH_LENGTH]


def find_repeated_decision(workspace: Workspace, evidence: str) -> LoggedDecision | None:
    """Return the decision of an earlier retrain on this evidence, if a retrain now would repeat it; else None.

    Raises:
        StoreUnavailable: the store of the versions could not be read.
    """
    state = sync_champion_alias(workspace)
    for number in reversed(workspace.registry.find_versions(EVIDENCE, evidence)):
        try:
            run_id = workspace.registry.version(number).run_id
        except (NoChampion, UnsoundModel) as error:  # deleted meanwhile, or its tags were edited
            log.warning("%s: version %s has to be replaced: %s", workspace.name, number, error)
            return None
        row = workspace.decision_log.find_decision(run_id)
        if row is None:  # interrupted before its decision
            continue
        if row.action == "reject" or REPORTED not in workspace.runs.run_tags(run_id):
            log.info("%s: version %s was rejected, or its retrain was interrupted", workspace.name, number)
            return None
        later = [each for each in workspace.decision_log.rows(workspace.name) if each.sequence > row.sequence]
        if row.champion_after != state.number or any(each.action == "lift" for each in later):
            log.info("%s: a person or another retrain decided since version %s", workspace.name, number)
            return None
        needed = {number} if state.number is None else {number, state.number}
        return row if all(_is_readable(workspace, each) for each in needed) else None
    return None


def unchanged_row(earlier: LoggedDecision, decision_id: str, decided_at: datetime) -> LoggedDecision:
    """Return the row of the decision log that repeats a decision: the same version, and the champion stays.

    Args:
        earlier: the decision that is repeated.
        decision_id: identity of the new row.
        decided_at: time of the new row, UTC.
    """
    champion = earlier.champion_after
    reason = (
        f"nothing to do: version {earlier.version} was trained on the same bars by the same recipe, rule and code, and "
        f"was {DONE[earlier.action]} on {earlier.decided_at:%Y-%m-%d %H:%M} UTC"
    )
    return replace(
        earlier, decision_id=decision_id, decided_at=decided_at, action="unchanged", champion_before=champion,
        champion_after=champion, reasons=(reason,), marks=(), numbers={}, sequence=0, files={},
        trained_until={},
    )  # fmt: skip


def _is_readable(workspace: Workspace, version: str) -> bool:
    """Return whether the files of a version are there and can be opened."""
    try:
        loaded = workspace.registry.read_version(version)
        loaded.record()
        loaded.predictor()
    except (NoChampion, UnsoundModel, UntrustedModel) as error:
        log.warning("%s: version %s has to be replaced: %s", workspace.name, version, error)
        return False
    return True

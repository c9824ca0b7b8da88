"""The share of decisions with an opinion that the retrain of a version stated."""

from tasks.registry.model_registry import Version
from tasks.workspace import Workspace

OPINION_SHARE = "abstention.opinion_share"  # parameter of a retrain's run; since 0.2


def stated_share(workspace: Workspace, version: Version) -> float | None:
    """Return the share that a version's retrain stated; None if it stated none."""
    stated = workspace.runs.run_params(version.run_id).get(OPINION_SHARE)
    return None if stated is None else float(stated)

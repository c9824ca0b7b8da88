"""Find decisions that the decision log has lost: MLflow's tags and the stored predictions know of them.

A table of Delta Lake without its newest commit is whole, one version older; the champion is then an earlier one.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tasks.registry.local_database import LocalDatabase
from tasks.repair.home_finding import HomeFinding
from tasks.store.decision_log import decided_versions
from tasks.workspace import Workspace


def lost_decisions(workspace: Workspace, numbers: Sequence[str]) -> Iterator[HomeFinding]:
    """Yield a finding for each version whose decision is lost; none for a version that was never decided about.

    Args:
        workspace: of a series, with a local registry.
        numbers: versions in the registry that are examined.
    """
    (ledger,) = workspace.decision_log.tables
    tags = {number: _decision_tag(workspace, number) for number in numbers if not _is_decided(workspace, number)}
    served = workspace.registry.history.served_without_decision()
    for number in sorted({*(number for number, tag in tags.items() if tag), *served}, key=int):
        if _is_decided(workspace, number):  # a retrain has decided in the meantime
            continue
        tag = tags.get(number, "")
        known = f"its run in MLflow has the tag decision = {tag}" if tag else "predictions of it were served"
        row = workspace.decision_log.last(workspace.name)
        champion = row.champion_after if row else workspace.registry.alias_number("champion")
        yield HomeFinding(
            f"decision about {workspace.name} version {number}",
            "gone",
            Path(ledger.uri),
            f"expected a decision about version {number} in the decision log, because {known}; found none, so "
            f"{f'version {champion} is champion' if champion else 'there is no champion'}",
            f"restore a backup, or {_decide_again(workspace, number, tag)}",
        )


def _decide_again(workspace: Workspace, number: str, tag: str) -> str:
    """Return how the decision can be replaced; `tag` says what was decided, empty if it is not known."""
    promote = f"`riseorfall promote{workspace.series_flags} --version {number}"
    if LocalDatabase(workspace.settings.mlflow_uri).version(workspace.name, number) is None:
        return f"run `{workspace.retrain_command}`: MLflow has lost this version too"
    force = f"make it champion with {promote} --force --reason ...`"
    by_rule = f"let the rule decide again with {promote}`"
    if workspace.runs.series.is_panel:  # the rule decides only while a panel is retrained
        return "delete the version in MLflow" if tag in {"hold", "reject"} else force
    return by_rule if tag in {"hold", "reject"} else f"{force}, or {by_rule}"


def _is_decided(workspace: Workspace, number: str) -> bool:
    return (workspace.name, number) in decided_versions(workspace.decision_log.rows(workspace.name))


def _decision_tag(workspace: Workspace, number: str) -> str:
    """Return what the run of a version says was decided; empty if it says nothing."""
    entry = LocalDatabase(workspace.settings.mlflow_uri).version(workspace.name, number)
    return workspace.runs.run_tags(entry.run_id).get("decision", "") if entry else ""

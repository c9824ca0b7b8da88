"""A decision that the decision log has lost is damage: an earlier version is champion, and no table is damaged."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from damaged_home import halve, log_file, output, remove

from model.bars import Series
from tasks.settings import Settings
from tasks.store.prediction_log import Prediction
from tasks.workspace import Workspace

SERIES = Series("BTC-USD", "1d")
PROMOTE = "make it champion with `riseorfall promote --version 2 --force --reason ...`"
BY_RULE = "let the rule decide again with `riseorfall promote --version 2`"


def register_second(name: str = "", tags: dict[str, str] | None = None) -> tuple[Workspace, str]:
    """Register version 2 of the series, or version 1 of a replay, with the files of version 1; return its run too."""
    workspace = Workspace(Settings(), SERIES, name)
    client, first = workspace.registry.client, Workspace(Settings(), SERIES).registry.version("1")
    (folder,) = (Settings().artifact_folder / SERIES.name / "models").glob("*/artifacts")
    run_id = workspace.runs.start_run("retrain", tags or {})
    workspace.runs.finish_run(run_id)
    workspace.registry.ensure_registered_model()
    client.create_model_version(workspace.name, folder.as_uri(), run_id, tags=first.tags)
    return workspace, run_id


def decide(workspace: Workspace, run_id: str, action: str) -> None:
    """Append the decision of version 2."""
    (first,) = workspace.decision_log.rows(SERIES.name)
    champion = "2" if action == "promote" else "1"
    workspace.decision_log.append(
        replace(first, decision_id=run_id, run_id=run_id, version="2", action=action, champion_before="1",
                champion_after=champion)
    )  # fmt: skip
    workspace.registry.set_alias("champion", champion)


def damage_found(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, str]]:
    code, out, _ = output(capsys, "doctor", *words, "--json")
    found = [each for each in json.loads(out)["findings"] if each["state"] in {"damaged", "gone"}]
    assert code == (4 if found else 0)
    return found


@pytest.mark.e2e
@pytest.mark.parametrize("lose", [remove, halve])
@pytest.mark.parametrize("kind", ["commit", "Parquet"])
def test_the_loss_of_the_newest_decision_is_named_until_somebody_decides_again(
    home: Path, capsys: pytest.CaptureFixture[str], lose: Callable[[Path], Path], kind: str
) -> None:
    workspace, run_id = register_second(tags={"decision": "promote"})
    earlier = set((home / "data" / "tables" / "ledger").glob("**/part-*.parquet"))
    decide(workspace, run_id, "promote")
    assert damage_found(capsys) == []
    (rows,) = set((home / "data" / "tables" / "ledger").glob("**/part-*.parquet")) - earlier
    lose(log_file(home, "ledger", 2) if kind == "commit" else rows)
    (found,) = damage_found(capsys, *(() if (lose, kind) == (remove, "commit") else ("--repair",)))
    assert (found["part"], found["state"]) == ("decision about BTC-USD-1d version 2", "gone")
    assert found["path"] == str(home / "data" / "tables" / "ledger")
    assert found["problem"] == (
        "expected a decision about version 2 in the decision log, because its run in MLflow has the tag decision = "
        "promote; found none, so version 1 is champion"
    )
    assert found["remedy"] == f"restore a backup, or {PROMOTE}, or {BY_RULE}"
    assert output(capsys, "promote", "--version", "2", "--force", "--reason", "its decision was lost")[0] == 0
    assert damage_found(capsys) == []
    assert workspace.registry.alias_number("champion") == "2"


@pytest.mark.usefixtures("home")
def test_the_loss_of_a_hold_changes_no_champion_and_the_rule_decides_again(capsys: pytest.CaptureFixture[str]) -> None:
    register_second(tags={"decision": "hold"})
    (found,) = damage_found(capsys)
    assert found["remedy"] == f"restore a backup, or {BY_RULE}"


@pytest.mark.e2e
@pytest.mark.usefixtures("home")
def test_a_version_that_was_never_decided_about_and_one_of_a_replay_have_lost_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    register_second()
    replayed, run_id = register_second(f"{SERIES.name}-replay", {"decision": "promote"})
    (first,) = replayed.decision_log.rows(SERIES.name)
    of_replay = {"decision_id": "other", "series_name": replayed.name, "version": "7", "champion_after": None}
    replayed.decision_log.append(replace(first, **of_replay))
    assert replayed.registry.version("1").run_id == run_id
    assert damage_found(capsys) == []


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("is_registered", [True, False])
def test_served_predictions_prove_a_decision_too(capsys: pytest.CaptureFixture[str], is_registered: bool) -> None:
    """MLflow's database may be lost as well, or the retrain was killed before it wrote the tag."""
    workspace = register_second()[0] if is_registered else Workspace(Settings(), SERIES)
    at = datetime(2019, 10, 18, tzinfo=UTC)
    served = Prediction(SERIES.name, SERIES.symbol, "1d", at, at + timedelta(days=1), "2", 0.5, at)
    workspace.prediction_log.store(served)
    (found,) = damage_found(capsys)
    assert "about version 2 in the decision log, because predictions of it were served; found none" in found["problem"]
    expected = f"{PROMOTE}, or {BY_RULE}" if is_registered else "run `riseorfall retrain`: MLflow has lost this version"
    assert expected in found["remedy"]
    code, _, err = output(capsys, "status", "--check")
    assert code == 4
    assert "version 2 has served predictions, and the decision log has no decision about it" in err


def test_the_champion_of_a_home_without_decisions_is_the_alias_and_serves(home: Path) -> None:
    shutil.rmtree(home / "data" / "tables" / "ledger")
    Workspace(Settings()).decision_log.tables[0].create()
    assert Workspace(Settings(), SERIES).registry.history.served_without_decision() == ()

"""The same evidence is found again as long as a retrain would repeat its decision, and only then."""

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from panel_home import SYMBOLS, coins, panel_recipe, store_coins
from synthetic_bars import random_walk
from tiny_home import SERIES, tiny_home

from model.bars import Bars
from model.folds import FoldSpec
from model.promotion_rule import PromotionRule
from model.recipe import Recipe
from model.training import TrainingSpec
from model.windows import WindowSpec
from tasks.champion.commit_decision import commit_decision, sync_champion_alias, timeline_steps
from tasks.champion.unchanged_inputs import EVIDENCE, REPORTED, evidence_digest, find_repeated_decision, unchanged_row
from tasks.registry.code_version import code_digest
from tasks.registry.model_files import ModelFiles
from tasks.settings import Settings
from tasks.store.decision_log import Action, LoggedDecision
from tasks.store.panel_bars import panel_ref
from tasks.workspace import Workspace

RECIPE, RULE, BARS = Recipe(), PromotionRule(), "ab" * 32
DAY = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with versions 1 and 2, of the evidence `one` and `two`, and no decision."""
    home = tmp_path_factory.mktemp("template") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for good
        opened = Workspace(tiny_home(home, random_walk(120, seed=3), 100), SERIES)
        opened.registry.drop_alias("champion")
        opened.registry.client.set_model_version_tag(opened.name, "1", EVIDENCE, "one")
        first = opened.registry.read_version("1")
        files = ModelFiles(first.keras(), first.onnx(), first.recipe(), first.record())
        tags = {**opened.registry.version("1").tags, EVIDENCE: "two"}
        opened.registry.add_version(opened.runs.start_run("retrain", {}), files, tags)
        yield home


def decide(workspace: Workspace, version: str, action: Action = "promote", decision_id: str = "") -> LoggedDecision:
    """Log a decision of the retrain of a version."""
    number, run_id = sync_champion_alias(workspace).number, workspace.registry.version(version).run_id
    row = LoggedDecision(
        decision_id=decision_id or run_id, decided_at=DAY, series_name=workspace.name, symbol=SERIES.symbol,
        interval=SERIES.interval, action=action, version=version, champion_before=number,
        champion_after=version if action in ("promote", "rollback") else number, run_id=run_id, bars_sha256=BARS,
    )  # fmt: skip
    commit_decision(workspace, row, smoke_test=lambda *_: None)
    workspace.runs.log_values(run_id, tags={REPORTED: "there"})
    return row


@pytest.mark.parametrize(
    "other",
    [
        ("cd" * 32, RECIPE, RULE),
        (BARS, RECIPE.model_copy(update={"training": TrainingSpec(seed=8)}), RULE),
        (BARS, RECIPE.model_copy(update={"window": WindowSpec(lookback_bars=29)}), RULE),
        (BARS, RECIPE.model_copy(update={"interval": "1h"}), RULE),
        (BARS, RECIPE, PromotionRule(kind="strict")),
    ],
    ids=["bars", "seed", "window", "interval", "rule"],
)
def test_another_bar_spec_seed_or_rule_is_other_evidence(other: tuple[str, Recipe, PromotionRule]) -> None:
    assert evidence_digest(*other) != evidence_digest(BARS, RECIPE, RULE)


def test_bars_and_list_of_a_panels_series_are_its_evidence(tmp_path: Path) -> None:
    settings, bars = Settings(home=tmp_path, tracking_uri="", store=""), coins()
    store_coins(settings, bars)

    def evidence(**chosen: Any) -> str:
        ref = panel_ref(Workspace(settings).bar_store, "1d", panel_recipe(**chosen).panel)
        return evidence_digest(ref.sha256, panel_recipe(**chosen), RULE)

    before = evidence()
    assert evidence(symbols=SYMBOLS[:2]) != before
    assert evidence(label="rank", least_series=3) != before
    store_coins(settings, {"NEW-USD": random_walk(240, seed=7)})
    assert evidence() == before  # it is none of the panel's series
    for count in (241, 242):
        store_coins(settings, {"BTC-USD": random_walk(count, seed=1)})
        assert evidence() != before
        before = evidence()
    values = random_walk(242, seed=1).ohlcv.copy()
    values[5, -1] += 1  # an old volume
    store_coins(settings, {"BTC-USD": Bars("1d", random_walk(242, seed=1).opened_at, values)})
    assert evidence() != before


def test_where_the_folds_run_is_no_other_evidence() -> None:
    elsewhere = RECIPE.model_copy(update={"folds": FoldSpec(runner="serial")})
    assert elsewhere != RECIPE
    assert evidence_digest(BARS, elsewhere, RULE) == evidence_digest(BARS, RECIPE, RULE)


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("model/windows.py", True),
        ("model/deeper/new.py", True),
        ("tasks/training.py", True),
        ("tasks/champion/warm_start.py", True),
        ("tasks/store/decision_log.py", True),  # it names the references of the gate
        ("tasks/pages/html_page.py", False),
        ("flows/retrain.py", False),
        ("model/notes.md", False),
    ],
)
def test_code_that_can_change_a_number_is_part_of_the_evidence(path: str, counts: bool, tmp_path: Path) -> None:
    for name in ("model/windows.py", "tasks/training.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("one = 1\n")
    changed = shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}.changed")
    (changed / path).parent.mkdir(parents=True, exist_ok=True)
    (changed / path).write_text("one = 2\n")
    assert (code_digest(tmp_path) != code_digest(changed)) is counts
    same = shutil.copytree(tmp_path, tmp_path.parent / f"{tmp_path.name}.same")
    assert code_digest(tmp_path) == code_digest(same)


@pytest.mark.parametrize("action", ["promote", "hold"])
def test_the_decision_about_the_same_evidence_is_found_and_repeated(action: Action, workspace: Workspace) -> None:
    decide(workspace, "1")
    decide(workspace, "2", action)
    found = find_repeated_decision(workspace, "two")
    assert found is not None
    assert (found.version, found.action) == ("2", action)
    assert find_repeated_decision(workspace, "three") is None

    champion = "2" if action == "promote" else "1"
    row = unchanged_row(found, "again", DAY)
    commit_decision(workspace, row)
    logged = workspace.decision_log.rows(workspace.name)[-1]
    assert (logged.action, logged.version, logged.champion_before, logged.champion_after) == (
        "unchanged", "2", champion, champion,
    )  # fmt: skip
    for part in (
        "version 2",
        {"promote": "promoted", "hold": "held"}[action],
        "2026-11-26 12:00",
    ):
        assert part in logged.reasons[0]
    assert sync_champion_alias(workspace).number == champion
    assert [step.version for step in timeline_steps(workspace.decision_log.rows(workspace.name))] == ["1", "2"]
    again = find_repeated_decision(workspace, "two")
    assert again is not None
    assert again.action == action  # an unchanged row is no decision of its own


@pytest.mark.parametrize("champion", [None, "1"])
def test_a_rejected_version_is_trained_again(champion: str | None, workspace: Workspace) -> None:
    if champion:
        decide(workspace, champion)
    decide(workspace, "2", "reject")  # such as on a full disk, which has space again
    assert find_repeated_decision(workspace, "two") is None


def test_a_retrain_that_was_killed_before_its_report_is_trained_again(workspace: Workspace) -> None:
    decide(workspace, "1")
    row = decide(workspace, "2")
    assert find_repeated_decision(workspace, "two") == workspace.decision_log.find_decision(row.decision_id)
    workspace.runs.client.delete_tag(row.run_id, REPORTED)
    assert find_repeated_decision(workspace, "two") is None


def lose_the_version(workspace: Workspace) -> None:
    workspace.registry.client.delete_model_version(workspace.name, "2")


def lose_a_file(workspace: Workspace) -> None:
    (workspace.registry.read_version("2").folder / "record.parquet").unlink()


def break_the_network(workspace: Workspace) -> None:
    (workspace.registry.read_version("2").folder / "network.onnx").write_bytes(b"junk")


def break_the_champion(workspace: Workspace) -> None:
    (workspace.registry.read_version("1").folder / "network.onnx").write_bytes(b"junk")


def roll_back(workspace: Workspace) -> None:
    decide(workspace, "2", "promote", "by hand")


def lift_the_hold(workspace: Workspace) -> None:
    decide(workspace, "2", "lift", "lifted")


@pytest.mark.parametrize(
    "event", [lose_the_version, lose_a_file, break_the_network, break_the_champion, roll_back, lift_the_hold]
)
def test_what_a_retrain_would_change_is_retrained(event: Callable[[Workspace], None], workspace: Workspace) -> None:
    decide(workspace, "1")
    decide(workspace, "2", "hold")
    assert find_repeated_decision(workspace, "two") is not None
    event(workspace)
    assert find_repeated_decision(workspace, "two") is None


def test_a_version_without_a_decision_is_no_answer(workspace: Workspace) -> None:
    decide(workspace, "1")
    assert find_repeated_decision(workspace, "two") is None  # interrupted between registration and decision


def test_of_two_versions_of_the_same_evidence_the_newest_that_was_decided_about_counts(workspace: Workspace) -> None:
    workspace.registry.client.set_model_version_tag(workspace.name, "1", EVIDENCE, "two")
    decide(workspace, "1")
    found = find_repeated_decision(workspace, "two")  # version 2 has no decision yet
    assert found is not None
    assert found.version == "1"
    decide(workspace, "2", "hold")
    found = find_repeated_decision(workspace, "two")
    assert found is not None
    assert found.version == "2"


def test_a_rollback_and_back_again_leaves_the_evidence_as_it_was(workspace: Workspace) -> None:
    decide(workspace, "1")
    decide(workspace, "2")
    decide(workspace, "1", "rollback", "back")
    assert find_repeated_decision(workspace, "two") is None
    decide(workspace, "2", "promote", "by hand")
    assert find_repeated_decision(workspace, "two") is not None

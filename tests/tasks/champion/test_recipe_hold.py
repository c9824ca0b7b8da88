"""A rollback holds the recipe that it rolled back: no retrain promotes it until a person lifts the hold."""

import getpass
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from synthetic_bars import random_walk
from tiny_network import tiny_onnx

from flows.cli import run
from model.bars import Series
from model.errors import ChecksFailed, SpecError, StaleChampion, StoreUnavailable
from model.predictor import Predictor
from model.promotion_rule import PromotionRule
from model.recipe import Recipe
from model.record import Record
from model.training import TrainingSpec
from model.windows import WindowSpec, cut_windows
from tasks.champion.commit_decision import commit_decision, sync_champion_alias, timeline_steps
from tasks.champion.promotion_by_hand import promote_by_hand
from tasks.champion.recipe_hold import held_recipes, hold_on, open_holds
from tasks.champion.rollback import lift_hold, roll_back, what_next
from tasks.champion.unchanged_inputs import REPORTED, find_repeated_decision
from tasks.registry.model_files import ModelFiles
from tasks.registry.run_artifacts import parquet_bytes
from tasks.serving.forecast import forecast
from tasks.settings import Settings
from tasks.store.decision_log import LoggedDecision
from tasks.workspace import Workspace

SERIES = Series("BTC-USD", "1d")
WINDOW = WindowSpec(lookback_bars=5)
RECIPE = Recipe(window=WINDOW)
OTHER = Recipe(window=WINDOW, training=TrainingSpec(seed=8))
BARS = random_walk(200, seed=3)
TOLERANT = PromotionRule(champion_margin=1, champion_tolerance=1, base_rate_margin=1, base_rate_tolerance=1)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Versions 1 to 3 of one recipe, 4 of another; 1 and then 2 were promoted."""
    home = tmp_path_factory.mktemp("template") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it for good
        workspace = Workspace(Settings(home=home, tracking_uri="", store=""), SERIES)
        workspace.bar_store.merge(SERIES, BARS.frame(), {}, merged_at=datetime.now(UTC))
        for gain, recipe in ((1.0, RECIPE), (1.1, RECIPE), (1.2, RECIPE), (1.3, OTHER)):
            register(workspace, gain, recipe)
        workspace.registry.describe("2", "promote: passes")
        for version, before in (("1", None), ("2", "1")):
            commit_decision(workspace, row(workspace, version, before))
        yield home


def register(workspace: Workspace, gain: float, recipe: Recipe) -> None:
    """Register a version whose out-of-sample record are its probabilities."""
    windows, onnx = cut_windows(BARS, WINDOW).resolved(), tiny_onnx(5, gain=gain)
    decided_at, probabilities = Predictor(onnx, WINDOW).predict(BARS)
    record = Record(
        windows.decided_at, windows.resolved_at, windows.labels, probabilities[: len(windows)],
        np.zeros(len(windows), dtype=np.int64),
    )  # fmt: skip
    run_id = workspace.runs.start_run("retrain", {"recipe": recipe.digest})
    workspace.runs.log_files(
        run_id, {"record.parquet": parquet_bytes(record.frame().assign(base_rate=0.5))}, "evaluation"
    )
    probe = pd.DataFrame({"decided_at": decided_at[-20:], "probability": probabilities[-20:]})
    workspace.runs.log_files(run_id, {"probe.parquet": parquet_bytes(probe)}, "network")
    tags = {"trained_until": f"{BARS.closed_at[-1]}+00:00", "recipe": recipe.digest}
    tags |= {"metric.log_loss": "0.69", "metric.balanced_accuracy": "0.5"}
    files = ModelFiles(keras=b"not read", onnx=onnx, recipe=recipe, record=record)
    workspace.registry.register(run_id, files, BARS.frame().tail(8), tags)


def row(workspace: Workspace, version: str, before: str | None, after: str | None = None) -> LoggedDecision:
    run_id = workspace.registry.version(version).run_id
    return LoggedDecision(
        decision_id=run_id, decided_at=datetime(2026, 11, 26, tzinfo=UTC), series_name=SERIES.name,
        symbol=SERIES.symbol, interval=SERIES.interval, action="hold" if after else "promote", version=version,
        champion_before=before, champion_after=after or version, run_id=run_id,
    )  # fmt: skip


def is_held(workspace: Workspace, version: str) -> bool:
    return hold_on(workspace, workspace.registry.version(version)) is not None


def test_a_refit_of_a_rolled_back_recipe_is_held_and_another_recipe_is_not(
    workspace: Workspace, settings: Settings
) -> None:
    assert [is_held(workspace, version) for version in "34"] == [False, False]
    roll_back(SERIES, settings, reason="strange probabilities")
    assert [is_held(workspace, version) for version in "34"] == [True, False]
    text = str(hold_on(workspace, workspace.registry.version("3")))
    for part in (RECIPE.digest, "version 2", "strange probabilities", "rollback --lift", "--force"):
        assert part in text


def test_of_several_series_a_hold_names_its_own(workspace: Workspace, settings: Settings) -> None:
    roll_back(SERIES, settings, reason="r")
    (hold,) = held_recipes(workspace).values()
    assert '`riseorfall rollback --lift --reason "..."`' in str(hold)
    workspace.bar_store.merge(Series("ETH-USD", "1d"), BARS.frame(), {}, merged_at=datetime.now(UTC))
    (hold,) = held_recipes(workspace).values()
    assert '`riseorfall rollback --symbol BTC-USD --interval 1d --lift --reason "..."`' in str(hold)
    assert '`riseorfall promote --symbol BTC-USD --interval 1d --version N --force --reason "..."`' in str(hold)
    with pytest.raises(SpecError, match=r"promote --symbol BTC-USD --interval 1d --version 3 --force"):
        roll_back(SERIES, settings, to="3")


def test_the_gate_holds_it_and_the_decision_log_says_why(settings: Settings) -> None:
    roll_back(SERIES, settings, reason="strange probabilities")
    held = promote_by_hand(SERIES, settings, "3", TOLERANT)
    assert (held.action, held.champion_after) == ("hold", "1")
    assert "recipe of version 2 " in held.reasons[0]
    asked = promote_by_hand(SERIES, settings, "3", TOLERANT, reason="once more")
    assert "recipe of version 2 " in asked.reasons[0]  # the reason for asking does not decide
    assert (asked.reasons[-1].endswith(": once more"), asked.marks[-1]) == (True, "")
    lift_hold(SERIES, settings, "the bars were wrong")
    assert promote_by_hand(SERIES, settings, "3", TOLERANT).champion_after == "3"


def test_a_broken_champion_does_not_lift_the_hold(workspace: Workspace, settings: Settings) -> None:
    roll_back(SERIES, settings, reason="strange probabilities")
    (workspace.registry.read_version("1").folder / "network.onnx").unlink()
    held = promote_by_hand(SERIES, settings, "3", TOLERANT)
    assert (held.action, held.champion_after) == ("hold", "1")
    assert "recipe of version 2 " in held.reasons[0]  # the deciding reason
    assert "cannot be loaded" in held.reasons[1]
    assert held.marks[:2] == ("held", "")
    assert not [reason for reason in held.reasons if "replaces it" in reason]


def test_a_person_lifts_the_hold_with_a_reason(workspace: Workspace, settings: Settings) -> None:
    with pytest.raises(SpecError, match="expected a recipe that a rollback holds"):
        lift_hold(SERIES, settings, "nothing is held")
    roll_back(SERIES, settings)
    with pytest.raises(SpecError, match="expected a reason with --lift"):
        lift_hold(SERIES, settings, " ")
    lifted = lift_hold(SERIES, settings, "the bars were wrong")
    assert (lifted.action, lifted.version, lifted.champion_before, lifted.champion_after) == ("lift", "2", "1", "1")
    assert lifted.reasons[0] == "the bars were wrong"
    assert not is_held(workspace, "3")
    assert sync_champion_alias(workspace).number == "1"
    assert [step.action for step in timeline_steps(workspace.decision_log.rows())] == ["promote", "promote", "rollback"]


def test_a_forced_promotion_of_the_recipe_lifts_the_hold_and_one_of_another_recipe_does_not(
    workspace: Workspace, settings: Settings
) -> None:
    roll_back(SERIES, settings)
    promote_by_hand(SERIES, settings, "4", force=True, reason="another recipe")
    assert list(held_recipes(workspace)) == [RECIPE.digest]
    promote_by_hand(SERIES, settings, "3", force=True, reason="I looked at it")
    assert held_recipes(workspace) == {}


def test_a_promotion_that_0_1_made_after_a_rollback_ends_the_hold(workspace: Workspace, settings: Settings) -> None:
    roll_back(SERIES, settings)
    commit_decision(workspace, replace(row(workspace, "3", "1"), rule="daily"))  # not forced: 0.1 had no holds
    assert held_recipes(workspace) == {}
    roll_back(SERIES, settings)
    assert [hold.version for hold in held_recipes(workspace).values()] == ["3"]


def test_without_a_hold_no_version_is_looked_up(
    workspace: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    promote_by_hand(SERIES, settings, "3", force=True, reason="I looked at it")
    monkeypatch.setattr(type(workspace.registry), "version", None)
    assert held_recipes(workspace) == {}


def test_a_rollback_that_is_undone_holds_no_recipe(workspace: Workspace, settings: Settings) -> None:
    promote_by_hand(SERIES, settings, "4", force=True, reason="another recipe")
    roll_back(SERIES, settings)
    assert [is_held(workspace, version) for version in "34"] == [False, True]
    undone = roll_back(SERIES, settings, to="4")
    assert undone.reasons[-1] == "this undoes the rollback from version 4, whose hold ends; no new hold"
    assert held_recipes(workspace) == {}


@pytest.mark.e2e
@pytest.mark.parametrize(("restored", "still_held"), [("3", []), ("2", ["3"])])
def test_of_two_rollbacks_of_one_recipe_those_since_the_restored_version_are_undone(
    restored: str, still_held: list[str], workspace: Workspace, settings: Settings
) -> None:
    commit_decision(workspace, row(workspace, "3", "2"))
    assert [roll_back(SERIES, settings).champion_after for _ in range(2)] == ["2", "1"]
    assert [hold.version for hold in open_holds(workspace)] == ["3", "2"]
    roll_back(SERIES, settings, to=restored)
    assert [hold.version for hold in open_holds(workspace)] == still_held


def test_a_version_without_tags_is_held_by_those_of_its_run(workspace: Workspace, settings: Settings) -> None:
    roll_back(SERIES, settings)
    workspace.registry.client.delete_model_version_tag(SERIES.name, "3", "recipe")
    assert "recipe" not in workspace.registry.version("3").tags
    assert is_held(workspace, "3")


def test_a_champion_whose_tags_were_edited_can_be_rolled_back(workspace: Workspace, settings: Settings) -> None:
    workspace.runs.client.set_model_version_tag(SERIES.name, "2", "trained_until", "yesterday")
    workspace.runs.client.set_model_version_tag(SERIES.name, "1", "bars_version", "latest")
    assert roll_back(SERIES, settings, reason="edited").champion_after == "1"
    assert is_held(workspace, "3")


def test_a_rollback_whose_alias_cannot_be_set_is_committed_and_reported_as_such(
    workspace: Workspace, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error would say that nothing was decided, and the same command again would go back one champion further."""
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "set_registered_model_alias", raised(ConnectionError("the server is restarted")))
        assert roll_back(SERIES, settings, reason="strange probabilities").champion_after == "1"
    assert "the decision about version 1 is committed; the next command corrects the aliases" in caplog.text
    assert workspace.registry.alias_number("champion") == "2"
    assert sync_champion_alias(workspace).number == workspace.registry.alias_number("champion") == "1"


def test_a_rollback_to_a_version_that_never_was_champion_is_refused(workspace: Workspace, settings: Settings) -> None:
    commit_decision(workspace, row(workspace, "3", "2", "2"))  # held
    with pytest.raises(SpecError, match=r"version 3, which never was champion.*promote --version 3 --force"):
        roll_back(SERIES, settings, to="3", reason="looks better")
    assert sync_champion_alias(workspace).number == "2"


def test_a_rollback_to_the_champion_itself_is_refused(workspace: Workspace, settings: Settings) -> None:
    before = workspace.decision_log.rows(SERIES.name)
    with pytest.raises(SpecError, match="version 2"):
        roll_back(SERIES, settings, to="2", reason="again")
    assert workspace.decision_log.rows(SERIES.name) == before


def test_a_rollback_goes_to_the_version_that_the_newest_promotion_replaced(
    workspace: Workspace, settings: Settings
) -> None:
    """Version 2 replaced version 1, and later version 3."""
    commit_decision(workspace, row(workspace, "3", "2"))
    commit_decision(workspace, replace(row(workspace, "2", "3"), decision_id="again"))
    assert roll_back(SERIES, settings).champion_after == "3"


def test_the_decisions_about_another_series_do_not_say_where_a_rollback_goes(
    workspace: Workspace, settings: Settings
) -> None:
    """One log holds all series and panels, and each counts its versions from 1."""
    for version in "21":
        panel = replace(row(workspace, version, "3"), series_name="PANEL-1d", symbol="PANEL", decision_id=version)
        workspace.decision_log.append(panel)
    with pytest.raises(SpecError, match=r"former champion \(1, 2\), found version 3, which never was champion"):
        roll_back(SERIES, settings, to="3")
    restored = roll_back(SERIES, settings)
    assert restored.champion_after == "1"
    assert what_next(SERIES, settings, restored).endswith(" There is no champion before version 1.")


def test_a_champion_that_the_registry_has_lost_can_be_rolled_back(workspace: Workspace, settings: Settings) -> None:
    workspace.registry.client.delete_model_version(SERIES.name, "2")
    assert roll_back(SERIES, settings, reason="it is gone").champion_after == "1"
    assert sync_champion_alias(workspace).number == workspace.registry.alias_number("champion") == "1"


def test_a_champion_that_was_promoted_again_is_rolled_back_to_the_one_before_it(
    workspace: Workspace, settings: Settings
) -> None:
    commit_decision(workspace, replace(row(workspace, "2", "2"), decision_id="again"))
    assert roll_back(SERIES, settings).champion_after == "1"


def test_the_row_of_a_rollback_describes_the_restored_version(workspace: Workspace, settings: Settings) -> None:
    workspace.registry.client.set_model_version_tag(SERIES.name, "2", "bars_version", "7")
    commit_decision(workspace, replace(row(workspace, "3", "2"), bars_sha256="bars of 3"))
    runs = {number: workspace.registry.version(number).run_id for number in "23"}
    roll_back(SERIES, settings, reason="strange probabilities")
    roll_back(SERIES, settings, to="3")
    back, undone = workspace.decision_log.rows(SERIES.name)[-2:]
    assert (back.version, back.run_id, back.bars_version, back.bars_sha256) == ("2", runs["2"], 7, "")
    assert (undone.version, undone.run_id, undone.bars_version, undone.bars_sha256) == ("3", runs["3"], -1, "bars of 3")
    assert (back.rule, back.forced, back.forced_reason) == ("rollback", True, "strange probabilities")


@pytest.mark.e2e
def test_of_several_held_recipes_one_is_lifted_by_the_version_that_was_rolled_back(
    workspace: Workspace, settings: Settings
) -> None:
    roll_back(SERIES, settings)
    promote_by_hand(SERIES, settings, "4", force=True, reason="another recipe")
    roll_back(SERIES, settings)
    with pytest.raises(SpecError) as refused:
        lift_hold(SERIES, settings, "which one?")
    for part in ("found 2", RECIPE.digest, OTHER.digest, "version 2", "version 4", "--to"):
        assert part in str(refused.value)
    with pytest.raises(SpecError, match="rolling back from version 3, found none"):
        lift_hold(SERIES, settings, "not this one", "3")
    assert lift_hold(SERIES, settings, "the bars were wrong", "2").version == "2"
    assert list(held_recipes(workspace)) == [OTHER.digest]
    assert lift_hold(SERIES, settings, "the last one needs no choice").version == "4"


@pytest.mark.parametrize("lost", ["its version", "nothing"])
def test_a_deleted_version_stays_held_by_the_tags_of_its_run(
    lost: str, workspace: Workspace, settings: Settings
) -> None:
    roll_back(SERIES, settings)
    if lost == "its version":
        workspace.registry.client.delete_model_version(SERIES.name, "2")
    assert is_held(workspace, "3")


def test_a_lifted_hold_is_new_evidence(workspace: Workspace, settings: Settings) -> None:
    roll_back(SERIES, settings)
    workspace.registry.client.set_model_version_tag(SERIES.name, "3", "evidence", "three")
    commit_decision(workspace, row(workspace, "3", "1", "1"))
    workspace.runs.log_values(workspace.registry.version("3").run_id, tags={REPORTED: "there"})
    found = find_repeated_decision(workspace, "three")
    assert found is not None  # a second retrain on the same day: nothing to do
    assert found.version == "3"
    lift_hold(SERIES, settings, "the bars were wrong")
    assert find_repeated_decision(workspace, "three") is None


def test_the_versions_pages_keep_what_a_person_did(workspace: Workspace, settings: Settings) -> None:
    roll_back(SERIES, settings, reason="strange probabilities")
    lift_hold(SERIES, settings, "the bars were wrong")
    promote_by_hand(SERIES, settings, "3", force=True, reason="I looked at it")
    notes = {each: workspace.registry.client.get_model_version(SERIES.name, each).description or "" for each in "123"}
    assert "champion again, in place of version 2: strange probabilities" in notes["1"]
    paragraphs = notes["2"].split("\n\n")
    assert paragraphs[0] == "promote: passes"
    assert f"rolled back; recipe {RECIPE.digest} is on hold until a person lifts it: strange" in paragraphs[1]
    assert f"hold on recipe {RECIPE.digest} lifted: the bars were wrong" in paragraphs[2]
    assert "promoted by force, in place of version 1: I looked at it" in notes["3"]
    assert "replaced as champion by version 3: I looked at it" in notes["1"]
    for version, texts in (("2", paragraphs[1:]), ("3", [notes["3"]])):  # its run has them too
        tags = workspace.runs.run_tags(workspace.registry.version(version).run_id)
        assert tags["mlflow.note.content"] == "\n\n".join(texts)


@pytest.mark.e2e
def test_the_names_of_runs_in_mlflow_follow_what_people_decide(workspace: Workspace, settings: Settings) -> None:
    def names() -> list[str]:
        runs = [workspace.registry.version(each).run_id for each in "1234"]
        return [str(workspace.runs.client.get_run(run_id).info.run_name) for run_id in runs]

    workspace.runs.rename_run(workspace.registry.version("2").run_id, "mine, rolled")  # a person's own name
    roll_back(SERIES, settings, reason="strange probabilities")
    assert names() == ["retrain, champion again", "mine, rolled, rolled back", "retrain", "retrain"]
    lift_hold(SERIES, settings, "the bars were wrong")
    promote_by_hand(SERIES, settings, "3", force=True, reason="I looked at it")
    assert names()[1:] == ["mine, rolled, rolled back, hold lifted", "retrain, promoted by force", "retrain"]
    roll_back(SERIES, settings, to="2")
    roll_back(SERIES, settings, to="3")
    assert names()[1:3] == [
        "mine, rolled, hold lifted, champion again, rolled back",
        "retrain, promoted by force, rolled back, champion again",
    ]
    decided = promote_by_hand(SERIES, settings, "4", TOLERANT)  # the first decision about its run
    assert decided.action == "promote"
    assert promote_by_hand(SERIES, settings, "1", TOLERANT).action == "promote"
    assert names()[0] == "retrain, champion again, promoted"


def test_a_run_that_cannot_be_noted_on_does_not_stop_a_rollback(
    workspace: Workspace, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    workspace.registry.client.delete_registered_model_alias(SERIES.name, "champion")
    workspace.registry.client.delete_model_version(SERIES.name, "2")
    assert roll_back(SERIES, settings).champion_after == "1"
    assert "version 2: its run could not be noted on" in caplog.text


def test_a_decision_by_the_rule_at_a_persons_request_is_noted_too(workspace: Workspace, settings: Settings) -> None:
    decided = promote_by_hand(SERIES, settings, "4", TOLERANT)
    note = workspace.registry.client.get_model_version(SERIES.name, "4").description or ""
    assert f": decided by the rule again: {'promoted' if decided.action == 'promote' else 'held'}; " in note


@pytest.mark.usefixtures("settings")
def test_a_rollback_names_its_version_and_why_and_where_a_second_one_goes(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    commit_decision(workspace, row(workspace, "3", "2"))

    def printed(*words: str) -> str:
        assert run(("rollback", *words)) == 0
        return " ".join(capsys.readouterr().out.split())

    first, user = printed(), getpass.getuser()
    why = f"{user} rolled back from version 3 to version 2, which it replaced on 2026-11-26"
    assert f"BTC-USD-1d: version 2 is champion again, in place of 3: {why}" in first
    assert why in workspace.decision_log.rows(SERIES.name)[-1].reasons
    assert "To undo it: `riseorfall rollback --to 3`." in first
    assert "`riseorfall rollback` without --to goes back further, to version 1." in first
    assert "There is no champion before version 1." in printed()
    assert f"{user} rolled back from version 1 to version 3, as requested" in printed("--to", "3")


@pytest.mark.usefixtures("settings")
def test_status_and_decisions_show_the_hold_until_it_is_lifted(capsys: pytest.CaptureFixture[str]) -> None:
    def printed(*words: str) -> str:
        assert run(words) == 0
        return " ".join(capsys.readouterr().out.split())

    done = printed("rollback", "--reason", "strange probabilities")
    assert "version 1 is champion again, in place of 2" in done
    held = f"the recipe of version 2 (digest {RECIPE.digest}, its seed included) is on hold since the rollback"
    assert held in done
    assert held in printed("status")
    assert f"recipe {RECIPE.digest} is on hold until a person lifts it" in printed("decisions")
    assert len(json.loads(printed("status", "--json"))["holds"]) == 1
    assert "lifted the hold on recipe" in printed("rollback", "--lift", "--reason", "the bars were wrong")
    assert held not in printed("status")
    listed: Any = printed("decisions")
    assert "lift version 2" in listed
    assert "the bars were wrong" in listed


@pytest.mark.parametrize("flags", [(), ("--json",), ("--on", "2026-11-27")])
def test_decisions_of_a_name_without_any_names_those_that_have_some(
    flags: tuple[str, ...], workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    replayed = replace(row(workspace, "1", None), decision_id="replay", series_name="BTC-USD-1d-replay")
    workspace.decision_log.append(replayed)
    assert run(["decisions", "--name", "BTC-USD-1d-replay", *flags]) == 0
    capsys.readouterr()
    assert run(["decisions", "--name", "BTC-USD-1d-replya", *flags]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err == (
        "riseorfall: decisions: expected --name of a series or replay with decisions, found BTC-USD-1d-replya; there "
        "are decisions about BTC-USD-1d, BTC-USD-1d-replay.\n"
    )


@pytest.mark.parametrize("command", [["rollback"], ["promote", "--version", "3", "--force", "--reason", "better"]])
@pytest.mark.usefixtures("settings")
def test_a_committed_decision_is_shown_although_prefect_does_not_answer(
    command: list[str], workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: Any) -> None:
        raise ConnectionError("server is down")

    monkeypatch.setattr("tasks.services.prefect_server.use_server", refuse)
    assert run(command) == 0
    champion = sync_champion_alias(workspace).number
    outcome, warning = " ".join(capsys.readouterr().out.split()).split("warning: ")
    assert champion == ("1" if command == ["rollback"] else "3")
    assert f"version {champion}" in outcome
    assert warning == "the decision is committed, but Prefect does not show it: server is down"


def raised(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("error", "warning"),
    [
        (StaleChampion("trained 9 days ago"), "`predict` refuses it: trained 9 days ago"),
        (ChecksFailed("a bar breaks a rule"), "`predict` refuses it: a bar breaks a rule"),
        (StoreUnavailable("no answer"), "whether `predict` refuses it is unknown: no answer"),
        (ConnectionError("no route"), "whether `predict` refuses it is unknown: no route"),
    ],
    ids=["age", "checks", "store", "other"],
)
@pytest.mark.usefixtures("settings")
def test_a_rollback_is_shown_in_prefect_before_it_warns_of_a_refusal(
    error: Exception, warning: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("tasks.services.prefect_server.use_server", raised(ConnectionError("server is down")))
    monkeypatch.setattr("tasks.serving.forecast.require_fresh", raised(error))
    assert run(["rollback"]) == 0
    assert sync_champion_alias(workspace).number == "1"
    _, shown, warned = " ".join(capsys.readouterr().out.split()).split("warning: ")
    assert shown.startswith("the decision is committed")
    assert warned == warning
    with pytest.raises(type(error), match=str(error)):
        forecast(SERIES, workspace.settings)

"""The forms of what a person decides: promote with approval, a decline, a hold lifted; audit."""

import json
import time
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from copied_home import copy_home
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.client.schemas.sorting import ArtifactSort, FlowRunSort
from synthetic_bars import random_walk
from tiny_home import SERIES, tiny_home, tiny_version

from flows.audit import audit
from flows.explain import explain
from flows.lift_hold import lift_hold
from flows.monitor import monitor
from flows.predict import predict
from flows.promote import promote
from flows.release import release
from flows.remove import remove
from flows.rollback import rollback
from model.bars import Series
from model.errors import AuditFailed, SpecError
from model.leak_audit import Audit, Finding
from model.times import to_datetime
from tasks.champion.recipe_hold import held_recipes
from tasks.champion.version_audit import VersionAudit
from tasks.pages.champion_explanation import WrittenExplanation
from tasks.settings import Settings
from tasks.workspace import Workspace

BARS = random_walk(1000, seed=3)
FORCED = {"version": "2", "force": True, "reason": "by hand"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which version 1 is champion and version 2 is registered."""
    place = tmp_path_factory.mktemp("made")
    workspace = Workspace(tiny_home(place, BARS, 990), SERIES)
    version = tiny_version(workspace, BARS, 1000, gain=2.0)
    workspace.runs.log_values(workspace.registry.version(version).run_id, tags={"recipe": "of version 2"})
    return place


@pytest.fixture
def workspace(made: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A copy of that home; answers are looked for often. Its versions have no file that only a server needs."""
    monkeypatch.setattr("tasks.services.approval.POLL_SECONDS", 0.5)
    monkeypatch.setattr("tasks.services.approval.PATIENCE_SECONDS", 240)  # 8 hours: the test would hang
    monkeypatch.setattr("tasks.champion.commit_decision.load_as_served", lambda *_: None)
    copy_home(made, home)
    return Workspace(Settings(), SERIES)


def answered(answer: dict[str, Any], call: Callable[[], Any]) -> tuple[Any, FlowRun]:
    """Call a flow, and answer it as the form of a paused run does; return its result and the run when it paused."""
    paused: list[FlowRun] = []

    def resume() -> None:
        with get_client(sync_client=True) as client:
            while not paused:
                time.sleep(0.2)
                paused.extend(
                    run
                    for run in client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC)
                    if run.state_type == StateType.PAUSED
                )
            while client.resume_flow_run(paused[0].id, run_input=answer).status != SetStateStatus.ACCEPT:
                time.sleep(0.2)  # the run is paused before its form is stored; until then the answer is rejected

    thread = Thread(target=copy_context().run, args=(resume,))
    thread.start()
    result = call()
    thread.join(30)
    return result, paused[0]


def run_named(name: str) -> FlowRun:
    with get_client(sync_client=True) as client:
        return next(
            run
            for run in client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC)
            if run.state is not None and run.state.name == name
        )


def states_of(flow_name: str) -> list[State[Any]]:
    """Return the states of the runs whose name begins with that of a flow."""
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC)
    return [run.state for run in runs if run.state is not None and run.name.startswith(f"{flow_name} ")]


@pytest.mark.e2e
def test_a_version_is_promoted_only_after_a_person_approves(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    emitted: list[str] = []
    monkeypatch.setattr("tasks.services.events.emit_event_for", lambda name, *_, **__: emitted.append(name))
    rows = workspace.decision_log.rows(SERIES.name)
    answer = {"approve": True, "comment": "looks right"}
    row, paused = answered(answer, lambda: promote(SERIES.symbol, "1d", **FORCED))
    assert paused.state is not None
    assert paused.state.state_details.run_input_keyset is not None  # what makes the page show a form
    assert len(workspace.decision_log.rows(SERIES.name)) == len(rows) + 1
    assert workspace.registry.champion().version == "2"
    assert (row.action, row.champion_before, row.champion_after) == ("promote", "1", "2")
    assert row.reasons[0] == "forced: by hand"
    assert row.reasons[-1] == "approved: looks right"
    assert row.decided_at > paused.state.timestamp  # of the approval, so that the log is in the order of its times
    promoted = run_named("Promoted")
    assert (promoted.name, promoted.state_type) == ("promote BTC-USD 1d", StateType.COMPLETED)
    assert promoted.state is not None
    assert promoted.state.message == "promote version 2: forced: by hand"

    row = rollback(reason="it was not")
    assert (row.champion_after, len(held_recipes(workspace))) == ("1", 1)
    assert lift_hold(SERIES.symbol, "1d", reason="it was").action == "lift"
    assert not held_recipes(workspace)
    assert emitted == ["riseorfall.promoted", "riseorfall.rolled-back", "riseorfall.hold-lifted"]


@pytest.mark.usefixtures("workspace")
def test_the_flow_rolls_back_the_series_that_its_form_names_to_the_version_that_it_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[Any, ...]] = []

    def refuse(series: Series, _: Settings, *chosen: str) -> None:
        asked.append((series, *chosen))
        raise SpecError("expected nothing more")

    monkeypatch.setattr("flows.rollback.roll_back", refuse)
    with pytest.raises(SpecError, match="expected nothing more"):
        rollback("ETH-USD", "4h", to="7", reason="strange")
    assert asked == [(Series("ETH-USD", "4h"), "7", "strange")]


def test_a_declined_version_changes_nothing(workspace: Workspace) -> None:
    rows = workspace.decision_log.rows(SERIES.name)
    _, paused = answered({"approve": False}, lambda: promote(SERIES.symbol, "1d", **FORCED))
    assert paused.name == "promote BTC-USD 1d"
    assert workspace.decision_log.rows(SERIES.name) == rows
    assert workspace.registry.champion().version == "1"
    state = run_named("Declined").state
    assert state is not None
    assert state.message == "version 2 was declined; the champion has not changed"


def test_what_needs_no_approval_does_not_wait(workspace: Workspace) -> None:
    with pytest.raises(SpecError, match="expected a reason with --force"):
        promote(SERIES.symbol, "1d", version="2", force=True)
    with pytest.raises(SpecError, match="already the champion"):
        promote(SERIES.symbol, "1d", version="1", force=True, reason="again")
    assert workspace.registry.champion().version == "1"


@pytest.mark.parametrize("flow", [predict, monitor, audit], ids=lambda flow: flow.name)
def test_an_unknown_series_is_refused_with_the_stored_ones(workspace: Workspace, flow: Any) -> None:
    assert workspace.bar_store.stored_series() == (SERIES,)
    with pytest.raises(SpecError, match="ETH-USD 1d: expected a stored series, found none; stored: BTC-USD 1d"):
        flow("ETH-USD", "1d")


def test_a_bar_is_removed_and_released_again(workspace: Workspace) -> None:
    store, opened_at = workspace.bar_store, to_datetime(BARS.opened_at[-3])
    removed = remove(SERIES.symbol, "1d", first=opened_at, reason="a bad tick")
    assert (removed.opened_at, removed.trained, removed.champion) == ((opened_at.isoformat(),), ("2",), "1")
    assert store.ref(SERIES).rows == len(BARS) - 1
    assert [entry["rule"] for entry in store.refusals(SERIES)] == ["removed_bar"]
    with pytest.raises(SpecError, match="expected stored bars from"):
        remove(SERIES.symbol, "1d", first=opened_at, reason="again")
    other = to_datetime(BARS.opened_at[-5])
    remove(SERIES.symbol, "1d", first=other, reason="another one")
    times = [opened_at, other.replace(tzinfo=None)]  # as the form sends them, with a zone or without one
    assert release(SERIES.symbol, "1d", at=times, reason="it was none").added == 2
    assert store.ref(SERIES).rows == len(BARS)


def test_an_audit_that_passes_says_how_much_it_checked_and_logs_each_check(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    findings = Finding("windows", True, 1200, "1,200 windows repeat"), Finding("labels", True, 34, "34 labels repeat")
    ref = workspace.bar_store.ref(SERIES)
    found = VersionAudit(SERIES.name, "1", ref, True, Audit(findings))
    monkeypatch.setattr("flows.audit.audit_version", lambda *_: found)
    with caplog.at_level("INFO", "tasks.console.progress"):
        assert audit(SERIES.symbol, "1d") == 1234
    assert "version 1 passed: 1,234 values checked, no look-ahead" in [state.message for state in states_of("audit")]
    logged = [record.getMessage() for record in caplog.records]
    assert {"audit: windows: 1,200 windows repeat", "audit: labels: 34 labels repeat"} <= set(logged)


def test_an_explanation_ends_with_the_probability_and_the_page(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained: Any = SimpleNamespace(probability=0.54578, decided_at=np.datetime64("2026-11-27T00:00", "us"))
    page = workspace.settings.root / "data" / "page.html"
    found = WrittenExplanation(SERIES, "4", explained, page)
    monkeypatch.setattr("flows.explain.explain_champion", lambda *_: found)
    monkeypatch.setattr("flows.explain.show_explanation", lambda *_: None)
    monkeypatch.setattr(WrittenExplanation, "to_dict", lambda _: {})
    link = explain(SERIES.symbol, "1d")
    assert link == workspace.settings.link(page)
    assert any(
        state.message == f"P(rise) 0.5458 at 2026-11-27 00:00 UTC by version 4, page {link}"
        for state in states_of("explain")
    )


def test_an_audit_that_finds_look_ahead_fails_with_one_sentence_and_shows_each_check(workspace: Workspace) -> None:
    """The record of the champion covers 300 decisions, its folds 750."""
    with pytest.raises(AuditFailed, match="1 of 10 checks"):
        audit(SERIES.symbol, "1d", sample=4)
    assert workspace.runs.run_tags(workspace.registry.champion().run_id)["audit"].startswith("failed: record")
    with get_client(sync_client=True) as client:
        (table,) = client.read_artifacts(limit=1, sort=ArtifactSort.CREATED_DESC)
        state = client.read_flow_run(table.flow_run_id).state  # type: ignore[arg-type]
    found = {row["check"]: row["result"] for row in json.loads(str(table.data))}
    assert found.pop("record vs. folds and closes") == "LOOK-AHEAD"
    assert set(found.values()) == {"passed"}
    assert state is not None
    assert (state.name, str(state.message).startswith("BTC-USD-1d version 1: 1 of ")) == ("Failed", True)

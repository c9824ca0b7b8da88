"""Several series in one process: the same numbers as alone, a failure costs one series, a crash too."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pandas as pd
import pytest
from prefect import task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterIdempotencyKey,
)
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling, Completed, Crashed, Running, State
from series_files import write_series

from flows.deployments import plans, served
from flows.retrain import retrain
from flows.retrain_group import retrain_group
from model.abstention import AbstentionSpec
from model.bars import Series
from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.presets import recipe_for
from model.training import TrainingSpec
from model.walk_forward import _trainer, trainer_for
from model.windows import WindowSpec
from tasks.services import group_runs
from tasks.services.dead_runs import _end_flow_runs as end_flow_runs
from tasks.services.dead_runs import end_flow_runs_without_process
from tasks.services.group_runs import _series_runs, continue_after_crash, continue_group
from tasks.sources.source_spec import SourceSpec
from tasks.workspace import open_workspace

pytestmark = pytest.mark.e2e  # groups of retrains, 20 s of CPU time
RECIPE = {
    "window": WindowSpec(lookback_bars=5),
    "folds": FoldSpec(test_bars=110, count=2),
    "network": NetworkSpec(kind="cnn_lstm", filters=(2, 2), units=2, dense_units=4),
    "training": TrainingSpec(epochs=2, batch_size=128),
    "abstention": AbstentionSpec(opinion_share=0.2),
}
PARTS = ("window", "folds", "network", "training")
NAME = "retrain_group/retrain_group"


@task
def started_series() -> None:
    """Stand for the call of a child flow."""


@pytest.fixture
def client() -> Any:
    with get_client(sync_client=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def deployment() -> UUID:
    (plan,) = (plan for plan in plans() if plan.full_name == NAME)
    served(plan).apply()
    with get_client(sync_client=True) as opened:
        return opened.read_deployment_by_name(NAME).id


@dataclass(frozen=True)
class Grouped:
    """A finished group: a series, one whose file is absent, a third one, and the first once more."""

    home: Path
    sources: list[SourceSpec]
    state: State[Any]
    trainers: int
    traces: int


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Grouped:
    home = tmp_path_factory.mktemp("group")
    first, second, _ = write_series(home)
    absent = second.model_copy(update={"path": "absent.csv", "symbol": "ABSENT-USD"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RISEORFALL_HOME", str(home))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        _trainer.cache_clear()
        state = retrain_group([first, absent, second, first], **RECIPE, return_state=True)
        trainers = _trainer.cache_info().misses
        trainer = trainer_for(recipe_for(first.symbol, "1d", *(RECIPE[each] for each in PARTS)))
        return Grouped(home, [first, absent, second], state, trainers, trainer.trace_count)


def of_series(source: SourceSpec) -> tuple[pd.DataFrame, dict[str, float], str]:
    workspace = open_workspace(Series(source.symbol, source.interval))
    (row,) = workspace.decision_log.rows(workspace.name)
    return workspace.registry.read_version("1").record().frame(), dict(row.numbers), row.action


def table(client: SyncPrefectClient, run: UUID) -> list[dict[str, str]]:
    found = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run])))
    return list(json.loads(str(next(each.data for each in found if each.key == "decisions"))))


def test_a_series_of_a_group_equals_a_single_retrain_bit_for_bit(
    grouped: Grouped, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = grouped.sources[-1]
    _trainer.cache_clear()
    retrain(second, **RECIPE)
    alone = of_series(second)
    assert (len(alone[0]), alone[2]) == (110, "hold")
    monkeypatch.setenv("RISEORFALL_HOME", str(grouped.home))
    assert home != grouped.home
    record, numbers, action = of_series(second)
    pd.testing.assert_frame_equal(alone[0], record, check_exact=True)
    assert (alone[1], alone[2]) == (numbers, action)


def test_one_trace_serves_every_series_of_a_group(grouped: Grouped) -> None:
    assert (grouped.trainers, grouped.traces) == (1, 1)


def test_a_series_that_fails_does_not_stop_the_others(grouped: Grouped, client: SyncPrefectClient) -> None:
    state = grouped.state
    assert (state.name, state.message) == ("Failed", "2 of 3 series completed; not completed: ABSENT-USD 1d")
    group = client.read_flow_run(state.state_details.flow_run_id)
    runs = _series_runs(client, group)
    assert [(run.name, run.state_name) for run in runs] == [
        ("retrain AAA-USD 1d: v1 promoted", "Promoted"), ("retrain ABSENT-USD 1d", "Failed"),
        ("retrain BBB-USD 1d: v1 held", "Held"),
    ]  # fmt: skip
    assert all(run.parameters["source"]["symbol"] in run.tags for run in runs)
    assert runs[0].parameters["training"] == {"epochs": 2, "batch_size": 128}
    assert runs[0].parameters["abstention"] == {"opinion_share": 0.2}


def test_the_table_of_a_group_lists_every_decision_failures_first(grouped: Grouped, client: SyncPrefectClient) -> None:
    group = client.read_flow_run(grouped.state.state_details.flow_run_id)
    rows = table(client, group.id)
    assert [(row["series"], row["decision"]) for row in rows] == [
        ("ABSENT-USD 1d", "Failed"), ("AAA-USD 1d", "Promoted"), ("BBB-USD 1d", "Held"),
    ]  # fmt: skip
    assert "absent.csv" in rows[0]["reason"]
    assert rows[1]["reason"].startswith("promote version 1: ")
    assert str(_series_runs(client, group)[0].id) in rows[1]["run"]


def group_run(client: SyncPrefectClient, deployment: UUID, symbols: str = "ABC") -> FlowRun:
    given = [SourceSpec(symbol=f"{each}-USD").model_dump(mode="json") for each in symbols]
    parameters = {"sources": given, "training": {"epochs": 3}}
    run = client.create_flow_run_from_deployment(deployment, parameters=parameters, tags=["retrain_all"])
    client.set_flow_run_state(run.id, Running(), force=True)
    return client.read_flow_run(run.id)


def series_run(
    client: SyncPrefectClient, group: FlowRun, symbol: str, state: State[Any], tags: Sequence[str] = ()
) -> FlowRun:
    parent = client.create_task_run(started_series, group.id, dynamic_key=symbol)
    parameters = {"source": SourceSpec(symbol=f"{symbol}-USD").model_dump(mode="json")}
    return client.create_flow_run(retrain, parameters=parameters, parent_task_run_id=parent.id, state=state, tags=tags)


def crash(client: SyncPrefectClient, group: FlowRun) -> FlowRun:
    """Crash a group as the runner does: the state first, then the hook, which may be called twice."""
    state = Crashed(message="Process exited with status code: -9")
    client.set_flow_run_state(group.id, state, force=True)
    continue_after_crash(retrain_group, client.read_flow_run(group.id), state)
    return client.read_flow_run(group.id)


def follower(client: SyncPrefectClient, group: FlowRun) -> FlowRun | None:
    run = continue_group(client, group)  # once more: gives the same run
    return client.read_flow_run(UUID(run)) if run else None


def symbols_of(run: FlowRun | None) -> list[str]:
    return [each["symbol"] for each in run.parameters["sources"]] if run else []


def test_a_crash_costs_the_series_that_was_running_and_the_rest_is_started_once(
    client: SyncPrefectClient, deployment: UUID
) -> None:
    group = group_run(client, deployment)
    series_run(client, group, "A", Completed(name="Held", message="hold version 2: as before"))
    running = series_run(client, group, "B", Running())
    group = crash(client, group)
    after = client.read_flow_run(running.id)
    assert after.state is not None
    assert after.state.is_crashed()
    rest = follower(client, group)
    assert rest is not None
    assert symbols_of(rest) == ["C-USD"]
    assert rest.state is not None
    assert rest.state.is_scheduled()
    assert rest.id == follower(client, group).id  # type: ignore[union-attr]
    assert (rest.parameters["training"], rest.tags, rest.name) == (
        {"epochs": 3}, group.tags, "retrain group: C-USD 1d",
    )  # fmt: skip
    assert [(row["series"], row["decision"]) for row in table(client, group.id)] == [
        ("B-USD 1d", "Crashed"), ("C-USD 1d", "Not started"), ("A-USD 1d", "Held"),
    ]  # fmt: skip
    series_run(client, rest, "C", Running())
    rest = crash(client, rest)
    assert follower(client, rest) is None  # nothing is left: no further process
    assert [(row["series"], row["decision"]) for row in table(client, rest.id)] == [
        ("B-USD 1d", "Crashed"), ("C-USD 1d", "Crashed"), ("A-USD 1d", "Held"),
    ]  # fmt: skip


def test_a_group_whose_process_dies_before_the_first_series_is_repeated_once(
    client: SyncPrefectClient, deployment: UUID
) -> None:
    group = crash(client, group_run(client, deployment))
    again = follower(client, group)
    assert again is not None
    assert symbols_of(again) == ["A-USD", "B-USD", "C-USD"]
    assert follower(client, crash(client, again)) is None


def test_if_every_process_dies_each_series_is_tried_once(client: SyncPrefectClient, deployment: UUID) -> None:
    run: FlowRun | None = group_run(client, deployment)
    tried = []
    while run is not None:
        tried += symbols_of(run)[:1]
        series_run(client, run, tried[-1][0], Running())
        run = follower(client, crash(client, run))
    assert tried == ["A-USD", "B-USD", "C-USD"]


def test_a_group_that_no_process_executes_continues_too(client: SyncPrefectClient, deployment: UUID) -> None:
    group = group_run(client, deployment)
    running = series_run(client, group, "A", Running())
    assert end_flow_runs_without_process([NAME], datetime.now(UTC) + timedelta(hours=1)) >= 1
    assert client.read_flow_run(running.id).state_name == "Crashed"
    assert symbols_of(follower(client, client.read_flow_run(group.id))) == ["B-USD", "C-USD"]


def test_a_group_that_a_person_was_cancelling_does_not_continue(client: SyncPrefectClient, deployment: UUID) -> None:
    group = group_run(client, deployment)
    running = series_run(client, group, "A", Running())
    client.set_flow_run_state(group.id, Cancelling(), force=True)
    end_flow_runs_without_process([NAME], datetime.now(UTC) + timedelta(hours=1))
    assert [client.read_flow_run(each).state_name for each in (group.id, running.id)] == ["Cancelled"] * 2
    assert [(row["series"], row["decision"]) for row in table(client, group.id)] == [
        ("A-USD 1d", "Cancelled"), ("B-USD 1d", "Not started"), ("C-USD 1d", "Not started"),
    ]  # fmt: skip
    rest = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[f"rest of {group.id}"]))
    assert client.read_flow_runs(flow_run_filter=rest) == []


def test_a_series_of_a_group_that_is_left_running_is_no_group(client: SyncPrefectClient, deployment: UUID) -> None:
    running = series_run(client, group_run(client, deployment), "A", Running(), tags=["group"])
    end_flow_runs({str(running.id)})
    assert client.read_flow_run(running.id).state_name == "Crashed"


def test_a_group_continues_although_the_server_failed_once(
    client: SyncPrefectClient, deployment: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    group, later = group_run(client, deployment), datetime.now(UTC) + timedelta(hours=1)
    series_run(client, group, "A", Running())

    def fail(*_: Any, **__: Any) -> None:
        raise TimeoutError("the server is restarted")

    with monkeypatch.context() as patch:
        patch.setattr(SyncPrefectClient, "create_flow_run_from_deployment", fail)
        end_flow_runs_without_process([NAME], later)
    assert client.read_flow_run(group.id).state_name != "Crashed"
    end_flow_runs_without_process([NAME], later)
    assert client.read_flow_run(group.id).state_name == "Crashed"
    assert symbols_of(follower(client, client.read_flow_run(group.id))) == ["B-USD", "C-USD"]


@pytest.mark.parametrize("broken", ["series", "server"])
def test_a_group_that_cannot_be_continued_ends_with_its_error_and_the_others_go_on(
    broken: str, client: SyncPrefectClient, deployment: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A series whose symbol has been reserved since, or a server that refuses the run."""
    bad, good = group_run(client, deployment), group_run(client, deployment, "DE")
    series_run(client, good, "D", Running())
    read, create = group_runs._sources, SyncPrefectClient.create_flow_run_from_deployment

    def sources(group: FlowRun) -> list[SourceSpec]:
        if group.id == bad.id:
            raise ValueError("PANEL is reserved")
        return read(group)

    def refuse(*given: Any, **named: Any) -> FlowRun:
        if str(bad.id) in named["idempotency_key"]:
            raise ValueError("PANEL is reserved")
        return create(*given, **named)

    if broken == "series":
        monkeypatch.setattr(group_runs, "_sources", sources)
    else:
        monkeypatch.setattr(SyncPrefectClient, "create_flow_run_from_deployment", refuse)
    later = datetime.now(UTC) + timedelta(hours=1)
    names = []
    for _ in range(4):
        end_flow_runs_without_process([NAME], later)
        names.append(client.read_flow_run(bad.id).state_name)
    assert names == ["Running", "Running", "Crashed", "Crashed"]
    assert client.read_flow_run(bad.id).state.message == (  # type: ignore[union-attr]
        "interrupted: its process is gone; the series that had not started were not started: PANEL is reserved"
    )
    assert client.read_flow_run(good.id).state_name == "Crashed"
    assert symbols_of(follower(client, client.read_flow_run(good.id))) == ["E-USD"]


def test_the_hook_of_a_group_that_cannot_be_continued_names_the_error(
    client: SyncPrefectClient, deployment: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = group_run(client, deployment)

    def fail(*_: Any, **__: Any) -> None:
        raise TimeoutError("the server is restarted")

    monkeypatch.setattr(SyncPrefectClient, "create_flow_run_from_deployment", fail)
    with pytest.raises(TimeoutError):
        crash(client, group)
    found = client.read_flow_run(group.id).state
    assert found is not None
    assert found.is_crashed()
    assert found.message == (
        "Process exited with status code: -9; the series that had not started were not started: the server is restarted"
    )

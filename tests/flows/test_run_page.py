"""What a person reads on forms and run pages: titles, order, names, one sentence for a refusal, the decision."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from types import SimpleNamespace
from typing import Any, get_args
from uuid import UUID

import pytest
from prefect import flow, runtime, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.utilities.names import generate_slug
from rich.console import Console

from data_checks.check_report import CheckResult
from data_checks.rule_definitions import BAR_RULES
from flows.deployments import plans
from model.errors import SpecError
from model.windows import WindowSpec
from tasks.console.progress import report_progress_to
from tasks.console.terminal_progress import TerminalProgress
from tasks.pages.prefect_artifacts import OUTCOMES, PrefectProgress, decision_page, report_warning
from tasks.promotion import _decision_page
from tasks.registry.model_registry import Version
from tasks.results import PanelUnchanged, Promotion, Unchanged
from tasks.services.flow_run_names import add_outcome_to_name, flow_run_name, is_generated
from tasks.services.form_wording import in_words_of_the_form
from tasks.services.prefect_run_page import PlainRecords, completed, readable, state_of
from tasks.store.decision_log import Action, LoggedDecision
from tasks.validation import check_rows, failed_page
from tasks.windowing import cut

SENTENCE = "expected --source.path FILE, found none; `riseorfall retrain --help` lists them"
PLANS = {plan.full_name: plan for plan in plans()}


@task
def refuse() -> None:
    raise SpecError(SENTENCE)


@flow(name="refused")
@readable
def refused() -> str:
    refuse()
    return str(runtime.flow_run.id)


@task
def stumble() -> None:
    raise ZeroDivisionError("by hand")


@flow(name="stumbles")
@readable
def stumbles() -> None:
    stumble()


@flow(name="named", flow_run_name=flow_run_name)
@readable
def named(symbol: str = "ETH-USD") -> str:
    return f"{symbol} {runtime.flow_run.id}"


class Kept(logging.Handler):
    """Keeps the records that reach the handlers of a logger."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    kept, loggers = Kept(), [logging.getLogger(name) for name in ("prefect.flow_runs", "prefect.task_runs")]
    for each in loggers:
        each.addHandler(kept)
    yield kept.records
    for each in loggers:
        each.removeHandler(kept)


@flow(name="warns")
def warns() -> None:
    report_warning("2 gaps")


@pytest.mark.parametrize("deployed", [False, True])
def test_a_warning_is_in_the_log_of_the_run_once_also_where_a_terminal_shows_it(
    deployed: bool, logged: list[logging.LogRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    shown_by = PrefectProgress(("check",)) if deployed else TerminalProgress(Console(width=80))
    with report_progress_to(shown_by):
        warns()
    warnings = [each.getMessage() for each in logged if each.levelno == logging.WARNING]
    assert warnings == ["2 gaps"]
    assert ("warning: 2 gaps" in capsys.readouterr().out) != deployed


def newest_run(flow_name: str) -> FlowRun:
    with get_client(sync_client=True) as client:
        runs = [
            run
            for run in client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC)
            if client.read_flow(run.flow_id).name == flow_name
        ]
    return max(runs, key=lambda run: run.start_time or 0)  # type: ignore[type-var]


def test_a_refusal_is_one_sentence_as_state_and_in_the_log(logged: list[logging.LogRecord]) -> None:
    with pytest.raises(SpecError, match="found none"):
        refused()
    state = newest_run("refused").state
    assert state is not None
    assert (state.type.value, state.name, state.message) == ("FAILED", "Failed", SENTENCE)
    errors = [record for record in logged if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in errors] == [SENTENCE]
    assert all(record.exc_info is None for record in logged)


def test_an_unforeseen_error_has_one_traceback(logged: list[logging.LogRecord]) -> None:
    with pytest.raises(ZeroDivisionError):
        stumbles()
    assert [record.exc_info is not None for record in logged if "by hand" in record.getMessage()][:2] == [True, False]
    assert sum(record.exc_info is not None for record in logged) == 1


def test_no_task_logs_that_it_finished(logged: list[logging.LogRecord]) -> None:
    @task
    def quiet() -> None:
        """Do nothing."""

    @flow
    def of_quiet() -> None:
        quiet()

    of_quiet()
    assert [record.getMessage() for record in logged if "Finished in state" in record.getMessage()] == [
        "Finished in state Completed()"  # of the flow
    ]


def test_a_retry_is_still_announced() -> None:
    error = SpecError("not yet")
    record = logging.LogRecord(
        "prefect.task_runs", logging.ERROR, "", 0, "Task run failed with exception: %r - Retry 1/3 will start soon",
        (error,), (SpecError, error, None),
    )  # fmt: skip
    assert PlainRecords().filter(record)
    assert record.getMessage() == "not yet - Retry 1/3 will start soon"


def test_messages_name_fields_in_a_form_and_flags_in_a_shell() -> None:
    assert in_words_of_the_form(SENTENCE, "quick") == (
        "expected `path_or_exchange` FILE, found none; `riseorfall retrain --help` lists them"
    )
    assert in_words_of_the_form("choose a later --as-of.", "ingest") == "choose a later `as_of`."
    assert in_words_of_the_form("--from is after --to", "replay") == "`first` is after `last`"
    assert in_words_of_the_form("Choose one, such as --to 3.", "lift_hold") == "Choose one, such as `version` 3."
    assert in_words_of_the_form(SENTENCE) == SENTENCE


def test_a_run_of_the_quick_form_names_the_form_that_has_the_field_it_lacks() -> None:
    rule = next(each for each in BAR_RULES if each.name == "contradicting_price")
    advice = "or continue without them: `check.tolerate` contradicting_price"
    where = "`check.tolerate` is a field of the form `retrain/retrain`, not of this one"
    where += "; in a shell it is `--check.tolerate`"
    assert in_words_of_the_form(rule.advice(), "quick") == f"correct these bars in the source, {advice}\n{where}"
    assert in_words_of_the_form(f"{rule.advice()}; {rule.advice()}", "quick").count(where) == 1
    assert in_words_of_the_form(rule.advice(), "retrain") == f"correct these bars in the source, {advice}"


def test_the_state_is_named_after_the_decision() -> None:
    def unchanged(action: str) -> Any:
        promotion = Promotion(action, ("the reason", "another"), {}, "3", "3")
        nothing: Any = SimpleNamespace()
        return state_of(Unchanged("run", nothing, nothing, nothing, promotion))

    held = unchanged("hold")
    assert (held.type.value, held.name, held.message) == ("COMPLETED", "Held", "hold: the reason")
    assert unchanged("unchanged").name == "Unchanged"
    again: Any = PanelUnchanged("run", SimpleNamespace(), Promotion("unchanged", ("nothing to do",), {}, "3", "3"))
    assert (state_of(again).name, state_of(again).message) == ("Unchanged", "unchanged: nothing to do")
    assert state_of("else") == "else"


def test_the_table_of_checks_says_what_each_rule_requires_and_shows_failures_first() -> None:
    rule = next(each for each in BAR_RULES if each.name == "lesser_double")
    good = CheckResult("gap", "warning", True, 0, "none", "")
    bad = CheckResult(rule.name, "warning", False, 2, "2 doubles", "", required=rule.statement({}))
    assert check_rows([good, bad]) == [
        {"rule": "lesser_double", "result": "failed: warning", "requires": "Each open time occurs once"},
        {"rule": "gap", "result": "passed", "requires": ""},
    ]
    assert failed_page([good, replace(bad, message="expected: none; found 2 doubles")]) == (
        "- **lesser_double** (warning): expected: none; found 2 doubles"
    )


def test_every_cell_of_the_table_of_checks_is_whole_in_prefect() -> None:
    for rule in BAR_RULES:
        (row,) = check_rows([CheckResult(rule.name, "critical", False, 2, "", "", required=rule.expected)])
        assert len(row["rule"]) + len(row["result"]) + len(row["requires"]) <= 19 + 16 + 62


@flow(name="counts")
@readable
def counts() -> int:
    return completed(7, "7 values checked")


def test_a_run_without_a_decision_ends_with_its_result_in_one_line() -> None:
    assert counts() == 7
    state = newest_run("counts").state
    assert state is not None
    assert (state.name, state.message) == ("Completed", "7 values checked")


def test_a_decision_is_shown_with_the_deciding_reason_first() -> None:
    row = LoggedDecision(
        "id", datetime(2026, 11, 26, tzinfo=UTC), "BTC-USD-1d", "BTC-USD", "1d", "hold", "3", "2", "2",
        ("significantly worse", "sanity check: no problem found"), marks=("failed", "passed"),
    )  # fmt: skip
    assert decision_page(row) == (
        "# Held: version 3 of BTC-USD-1d\n\n**Why:** significantly worse\n\nVersion 2 is champion, as before.\n\n"
        "**What to do:** nothing after a single hold: the next retrain is compared again. If every retrain is held, "
        "follow what the failed reasons say. To promote this version against the rule: `riseorfall promote "
        '--symbol BTC-USD --interval 1d --version 3 --force --reason "..."`, or the form promote with force and a '
        "reason.\n\n"
        "Other findings:\n\n- **passed**: sanity check: no problem found\n"
    )
    first = replace(row, action="promote", champion_before=None, champion_after="3", reasons=("the first",), marks=())
    assert "Version 3 is champion: the first one.\n" in decision_page(first)
    assert "Version 3 is champion, in place of version 2.\n" in decision_page(replace(first, champion_before="2"))
    assert set(OUTCOMES) == set(get_args(Action))


def test_a_typed_name_stays_and_a_generated_one_is_replaced() -> None:
    _, run_id = named().split()
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(UUID(run_id)).name == "named ETH-USD 1d"
        typed = client.create_flow_run(named, parameters={}, name="my-run")
        from prefect.flow_engine import run_flow

        run_flow(named, flow_run=typed)
        assert client.read_flow_run(typed.id).name == "my-run"


@pytest.mark.parametrize(
    "name",
    ["alpha-andromedae", "omega417-canis-majoris-ring", "beta2-barad-dur-x", "Rustic-Zebu", "Small-Beaver"],
)
def test_a_name_that_a_form_generates_is_found_in_the_lists_of_its_scripts(name: str) -> None:
    assert is_generated(name)


def test_a_name_that_the_server_generates_is_found() -> None:
    assert all(is_generated(generate_slug(2)) for _ in range(200))


@pytest.mark.parametrize(
    "name",
    ["beta-test", "alpha-1", "alpha", "alpha-beta", "beta2-hourly-x", "delta-ring", "my-omega6-orionis-ring",
     "omega6-orionis-ring-2", "Small-windows", "Small-Polar Bear", "Rustic-", "small-windows", "new-model", "fast-run",
     "otter-quick", "first try", "night-2", "ETH-again", "a-b-c"],
)  # fmt: skip
def test_a_name_that_a_person_types_is_not(name: str) -> None:
    assert not is_generated(name)


@flow(name="retrain", flow_run_name=flow_run_name)
@readable
def repeats(symbol: str = "ETH-USD") -> Any:
    nothing: Any = SimpleNamespace(flow_run=(runtime.flow_run.id, symbol))
    return Unchanged("run", nothing, nothing, nothing, Promotion("unchanged", ("the reason",), {}, "3", "3"))


def test_the_name_of_a_retrain_ends_with_its_outcome_unless_it_was_typed() -> None:
    run_id, _ = repeats().landing.flow_run
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(UUID(run_id)).name == "retrain ETH-USD 1d: unchanged"
        typed = client.create_flow_run(repeats, parameters={}, name="my-run")
        from prefect.flow_engine import run_flow

        run_flow(repeats, flow_run=typed)
        assert client.read_flow_run(typed.id).name == "my-run"
        before_midnight = client.create_flow_run(repeats, parameters={}, name="retrain ETH-USD 1d as of 2026-11-23")
        run_flow(repeats, flow_run=before_midnight)
        name = client.read_flow_run(before_midnight.id).name
        assert name == "retrain ETH-USD 1d as of 2026-11-23: unchanged"


@flow(name="replay", flow_run_name=flow_run_name)
def replays(first: date, last: date, symbol: str = "ETH-USD") -> str:
    add_outcome_to_name("5 decisions, 1 promoted")
    return f"{symbol} {first} {last} {runtime.flow_run.id}"


def test_the_name_of_a_replay_has_its_days_and_its_outcome() -> None:
    run_id = replays(date(2019, 9, 1), date(2019, 9, 5)).rpartition(" ")[2]
    with get_client(sync_client=True) as client:
        name = client.read_flow_run(UUID(run_id)).name
    assert name == "replay ETH-USD 1d 2019-09-01 to 2019-09-05: 5 decisions, 1 promoted"


def shown(name: str) -> list[tuple[str, str, bool]]:
    """Return title and name of each field of a form in the order shown, and whether it is optional."""
    schema = PLANS[name].load().parameters.model_dump()

    in_order = sorted(schema["properties"].items(), key=lambda item: item[1]["position"])
    return [(field["title"].strip(), key, key not in schema["required"]) for key, field in in_order]


def test_the_full_form_of_retrain_goes_from_bars_to_checks() -> None:
    titles = [title for title, _, _ in shown("retrain/retrain")]
    assert titles == [
        "Source",
        "Window",
        "Training",
        "Folds",
        "Network",
        "Promotion",
        "Data checks",
        "As of",
        "Abstention",
        "Force",
    ]


def test_the_quick_form_has_six_fields_all_of_them_filled_in_and_none_optional() -> None:
    assert shown("retrain/quick") == [
        ("Source kind", "source_kind", False),
        ("Symbol", "symbol", False),
        ("Interval", "interval", False),
        ("Path or exchange", "path_or_exchange", False),
        ("Epochs", "epochs", False),
        ("Seed", "seed", False),
    ]
    assert dict(PLANS["retrain/quick"].parameters) == {
        "source_kind": "sample", "symbol": "BTC-USD", "interval": "1d", "path_or_exchange": "", "epochs": 60, "seed": 7
    }  # fmt: skip


def test_what_a_person_sets_stands_before_the_recipe() -> None:
    assert [name for _, name, _ in shown("replay/replay")][:4] == ["first", "last", "name", "symbol"]
    assert [name for _, name, _ in shown("tune/tune")][:4] == ["symbol", "interval", "spec", "window"]


def test_no_two_numbers_of_a_form_have_the_same_title() -> None:
    """The recipe's test bars, count and seed are those of a retrain; those of a search are named after it."""
    definitions = PLANS["tune/tune"].load().parameters.model_dump()["definitions"]
    titles = Counter(
        field["title"] for each in definitions.values() for field in each.get("properties", {}).values()
        if field.get("type") in {"integer", "number"}
    )  # fmt: skip
    assert {title for title, times in titles.items() if times > 1} == set()
    assert titles.keys() >= {"Test Bars", "Trial bars", "Count", "Trial folds", "Seed", "Search seed"}


def test_forms_name_nothing_that_only_a_reader_of_the_article_knows() -> None:
    for plan in PLANS.values():
        assert "article" not in str(plan.load().parameters.model_dump()), plan.full_name


def test_no_form_shows_the_name_of_a_class() -> None:
    for plan in PLANS.values():
        for name, definition in plan.load().parameters.model_dump()["definitions"].items():
            if definition.get("type") == "object":
                assert definition["title"] != name, f"{plan.full_name}: {name}"


def test_the_task_that_cuts_windows_is_named_by_their_bars_and_horizon() -> None:
    assert str(cut.task_run_name).format(window=WindowSpec(lookback_bars=30)) == "cut windows: 30 bars, horizon 1"


def test_the_page_of_a_decision_names_the_task_that_writes_its_report() -> None:
    """True before the report exists and after; `written next` stayed for ever."""
    row = LoggedDecision("id", datetime(2026, 11, 26, tzinfo=UTC), "BTC-USD-1d", "BTC-USD", "1d", "hold", "3", "2", "2",
                         ("worse",), marks=("failed",))  # fmt: skip
    page = _decision_page(
        row, Version("3", "run", datetime(2026, 11, 25, tzinfo=UTC), {}, {}), "http://m/", "http://r/"
    )
    assert "[Report](http://r/) (written by the task `report`), [MLflow run](http://m/)" in page

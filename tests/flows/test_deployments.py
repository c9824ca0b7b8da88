"""One table of deployments: prefect.yaml says the same, entrypoints load, forms are whole, errors are refused."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.schemas.sorting import FlowRunSort
from prefect.flows import load_flow_from_entrypoint

from flows.cli import run
from flows.deployments import (
    Plan,
    ScheduleSpec,
    check_yaml,
    plans,
    require_valid,
    require_valid_crons,
    served,
    yaml_text,
)
from model.bars import Series
from model.errors import NoChampion, SpecError
from model.presets import HOURLY, preset_for, recipe_for
from model.recipe import Recipe
from model.training import TrainingSpec
from model.windows import WindowSpec
from tasks.services.quick_form_defaults import quick_source
from tasks.sources.source_spec import SourceSpec

YAML = Path(__file__).parents[2] / "prefect.yaml"
PLANS = plans()
FLOWS = {plan.name: plan for plan in PLANS}
ENTRIES = yaml.safe_load(YAML.read_text(encoding="utf-8"))["deployments"]


def test_prefect_yaml_is_what_the_table_writes() -> None:
    assert YAML.read_text(encoding="utf-8") == yaml_text(PLANS)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry['entrypoint']}/{entry['name']}")
def test_every_entrypoint_loads_whole_and_takes_its_parameters(entry: dict[str, Any]) -> None:
    flow = load_flow_from_entrypoint(entry["entrypoint"], use_placeholder_flow=False)
    require_valid(flow, entry.get("parameters") or {}, entry["name"])
    assert flow.name == entry["entrypoint"].split(":")[1].replace("quick", "retrain")


@pytest.mark.parametrize("content", [None, "name: riseorfall\n", "deployments: [\n", "- a\n"])
def test_a_file_without_deployments_is_refused_by_its_name(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "prefect.yaml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(SpecError, match=rf"{path}: expected a file in YAML with `deployments`, found none"):
        check_yaml(path)


def test_check_yaml_reads_no_device_and_no_huge_file(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"^/dev/null: .* expected a regular file, found a device"):
        check_yaml(Path("/dev/null"))
    (tmp_path / "huge.yaml").touch()
    os.truncate(tmp_path / "huge.yaml", 2_000_000)
    with pytest.raises(SpecError, match=r"expected at most 1,000,000 bytes, found 2,000,000"):
        check_yaml(tmp_path / "huge.yaml")


@pytest.mark.parametrize("option", ["ingest", "predict", "retrain", "monitor", "housekeeping"])
@pytest.mark.parametrize("cron", ["x", "99 0 * * *", "0 0 31 2 *", "H 0 * * *"])
def test_up_starts_nothing_with_a_wrong_cron(
    option: str, cron: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RISEORFALL_HOME", str(tmp_path))
    assert run(["up", f"--schedule.{option}-cron", cron]) == SpecError.exit_code
    shown = capsys.readouterr().err
    assert shown.startswith(
        f"riseorfall: --schedule.{option}-cron: expected minute, hour, day, month and weekday, such"
    )
    assert f'found "{cron}" in UTC' in shown
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cron", ["", "*/5 * * * *", "0 0 29 2 *", "@daily", "0 9-17 * * mon-fri"])
def test_a_cron_that_prefect_runs_is_accepted(cron: str) -> None:
    require_valid_crons(ScheduleSpec(retrain_cron=cron))


@pytest.mark.parametrize(
    ("old", "new"), [("cron: 2 * * * *", "cron: 2 * * *"), ("timezone: UTC", "timezone: Mars/Base")]
)
def test_check_yaml_refuses_a_schedule_that_prefect_would(old: str, new: str, tmp_path: Path) -> None:
    text = YAML.read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "prefect.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(SpecError, match=r"prefect\.yaml, deployment ingest, schedules: expected minute, hour"):
        check_yaml(tmp_path / "prefect.yaml")


def test_check_yaml_lists_what_it_checked() -> None:
    assert len(check_yaml(YAML)) == len(ENTRIES)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("symbol: BTC-USD", "symbl: BTC-USD", "symbl"),
        ("collision_strategy: ENQUEUE", "colision_strategy: ENQUEUE", "colision_strategy"),
        ("interval: 1d", "interval: 7d", "7d"),
        ("  parameters:", "  paramters:", "paramters"),
        ("flows/predict.py:predict", "flows/predict.py:predikt", "predikt"),
    ],
)
def test_a_misspelt_key_of_prefect_yaml_is_refused(tmp_path: Path, old: str, new: str, reason: str) -> None:
    text = YAML.read_text(encoding="utf-8")
    assert old in text
    changed = tmp_path / "prefect.yaml"
    changed.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(SpecError, match=reason):
        check_yaml(changed)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"training": {"epochz": 3}}, "epochz"),
        ({"training": {"epochs": 100_000}}, "maximum of 10000"),
        ({"training": {"epochs": "many"}}, "'many' is not of type 'integer'"),
        ({"source": {"interval": "7d"}}, "'7d' is not one of"),
        ({"window": {"features": ["open", "open"]}}, "each column once"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_served(parameters: dict[str, Any], reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        require_valid(FLOWS["retrain"].load(), parameters, "deployment retrain")


def fields(schema: dict[str, Any], place: str = "") -> dict[str, dict[str, Any]]:
    """Return every field of a form by its place, specs opened up."""
    known = schema.get("definitions", {})
    found = {}
    for name, field in schema["properties"].items():
        where = f"{place}{name}"
        reference = field.get("$ref", "").rsplit("/", 1)[-1]
        found[where] = field
        if reference and "properties" in known[reference]:
            found |= fields({**known[reference], "definitions": known}, f"{where}.")
    return found


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.full_name)
def test_every_field_of_a_form_has_a_description_and_a_default_or_is_required(plan: Plan) -> None:
    schema = plan.load().parameters.model_dump()
    for where, field in fields(schema).items():
        assert field.get("description"), where
        assert "default" in field or where in schema["required"], where


def test_the_form_of_retrain_shows_ranges_and_menus() -> None:
    shown = fields(FLOWS["retrain"].load().parameters.model_dump())
    assert (shown["training.epochs"]["minimum"], shown["training.epochs"]["maximum"]) == (1, 10_000)
    assert shown["network.kind"]["enum"][0] == "cnn_lstm"
    assert shown["source.interval"]["enum"][-1] == "1d"
    assert shown["promotion.kind"]["enum"] == ["daily", "strict"]


def test_the_form_of_retrain_panel_says_what_panels_cannot_do_and_what_few_series_mean() -> None:
    shown = fields(FLOWS["retrain_panel"].load().parameters.model_dump())
    expected = {
        "interval": "All stored series with it form the panel, unless you name some below; nothing is fetched",
        "window": "stride must be 1",
        "training": "no warm start",
        "promotion": "Daily rule",
        "panel.symbols": "one an entry, such as BTC-USD; empty: every stored series of the interval",
        "panel.inputs": "only the panel's series can be predicted",
        "panel.least_series": "neither trained on nor tested, but are predicted like all others",
    }
    for where, words in expected.items():
        assert words in shown[where]["description"], where
    offered = {each for each in shown if each.startswith("promotion.")}
    limits = {"champion_tolerance", "champion_margin", "base_rate_tolerance", "base_rate_margin", "min_common_bars"}
    costs = {"trading", "trading.costs", "trading.cost_bps", "trading.slippage_bps"}
    assert offered == {f"promotion.{each}" for each in limits | costs}


def test_number_fields_have_a_range() -> None:
    for plan in PLANS:
        for where, field in fields(plan.load().parameters.model_dump()).items():
            if field.get("type") in {"integer", "number"}:
                assert field.keys() & {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}, where


def test_schedules_stay_on_and_one_retrain_runs_at_a_time() -> None:
    made = {plan.full_name: served(plan) for plan in PLANS}
    retrain = made["retrain/retrain"]
    assert (retrain.concurrency_limit, retrain.paused) == (1, False)
    assert retrain.concurrency_options is not None
    assert retrain.concurrency_options.collision_strategy == "ENQUEUE"
    crons = {name: each.schedules[0].schedule.cron for name, each in made.items() if each.schedules}  # type: ignore[union-attr]
    assert crons["ingest/ingest"] == "2 * * * *"
    assert crons["predict/predict"] == "5 0 * * *"
    assert crons["retrain/retrain"] == "10 0 * * *"
    assert crons["monitor/monitor"] == "30 0 * * *"
    assert all(schedule.active for each in made.values() for schedule in each.schedules or ())


def test_what_retrain_is_given_the_others_share() -> None:
    given = {"source": {"kind": "exchange", "symbol": "ETH-USD", "interval": "4h"}, "training": {"epochs": 3}}
    table = {plan.full_name: plan for plan in plans(given, ScheduleSpec(collision="CANCEL_NEW"))}
    assert table["ingest/ingest"].parameters == {"source": given["source"]}
    assert table["predict/predict"].parameters == {"symbol": "ETH-USD", "interval": "4h"}
    assert table["predict/predict"].cron == "5 */4 * * *"
    assert table["retrain/retrain"].parameters == given
    assert table["retrain/retrain"].collision == "CANCEL_NEW"
    for plan in table.values():
        require_valid(plan.load(), plan.parameters, plan.name)


@pytest.mark.parametrize(
    ("interval", "ingest", "predict"),
    [
        ("5m", "1,6,11,16,21,26,31,36,41,46,51,56 * * * *", "3,8,13,18,23,28,33,38,43,48,53,58 * * * *"),
        ("15m", "1,16,31,46 * * * *", "3,18,33,48 * * * *"),
        ("30m", "1,31 * * * *", "3,33 * * * *"),
        ("1h", "2 * * * *", "5 * * * *"),
        ("12h", "2 * * * *", "5 */12 * * *"),
        ("1d", "2 * * * *", "5 0 * * *"),
    ],
)
def test_predict_runs_after_ingest_and_before_the_next_close(interval: str, ingest: str, predict: str) -> None:
    table = {plan.full_name: plan for plan in plans({"source": {"interval": interval}})}
    assert (table["ingest/ingest"].cron, table["predict/predict"].cron) == (ingest, predict)


@pytest.mark.parametrize("interval", ["1m", "3m"])
def test_intervals_too_short_for_a_schedule_need_both_crons(interval: str) -> None:
    given = {"source": {"interval": interval}}
    with pytest.raises(SpecError, match=f"5m or longer.*found {interval}.*--schedule.predict-cron"):
        plans(given)
    with pytest.raises(SpecError, match="5m or longer"):
        plans(given, ScheduleSpec(ingest_cron="* * * * *"))
    table = {
        plan.name: plan.cron for plan in plans(given, ScheduleSpec(ingest_cron="7 * * * *", predict_cron="9 * * * *"))
    }
    assert (table["ingest"], table["predict"]) == ("7 * * * *", "9 * * * *")


def test_a_cron_that_is_given_is_kept_and_the_other_one_derived() -> None:
    table = {
        plan.name: plan.cron for plan in plans({"source": {"interval": "15m"}}, ScheduleSpec(ingest_cron="* * * * *"))
    }
    assert (table["ingest"], table["predict"]) == ("* * * * *", "3,18,33,48 * * * *")


def asked_for(parameters: dict[str, Any]) -> Recipe:
    """Return the recipe of a run that is given a deployment's parameters, each field of them, as a form sends them."""
    given = FLOWS["retrain"].load().validate_parameters(parameters)
    whole = {name: type(spec).model_validate(spec.model_dump()) for name, spec in given.items() if name in SPECS}
    return recipe_for(given["source"].symbol, given["source"].interval, **whole)


SPECS = ("window", "folds", "network", "training")


def test_the_form_of_a_preset_shows_it_and_what_is_shown_is_what_runs() -> None:
    (hourly,) = [plan for plan in PLANS if plan.full_name == "retrain/hourly"]
    assert dict(hourly.parameters["source"]) == {"symbol": "BTC-USD", "kind": "exchange", "interval": "1h"}
    assert asked_for(dict(hourly.parameters)) == recipe_for("BTC-USD", "1h")
    form = dict(hourly.parameters)
    form["window"] = form["window"] | {"lookback_bars": 30}  # typed in, though it is the default of daily bars
    assert asked_for(form) == recipe_for("BTC-USD", "1h", WindowSpec(lookback_bars=30))
    assert "retrain/hourly" not in {plan.full_name for plan in plans({"source": {"interval": "1h"}})}


def test_the_quick_form_is_on_the_first_page_of_the_deployments() -> None:
    """Both UIs list ten by name."""
    for given in ({}, {"source": {"interval": "1h"}}):
        assert "quick" in sorted(plan.deployed_as for plan in plans(given))[:10]


def test_a_panel_has_a_form_for_each_interval_with_a_preset() -> None:
    shown = {plan.deployed_as: dict(plan.parameters) for plan in PLANS if plan.name == "retrain_panel"}
    assert {name: form["interval"] for name, form in shown.items()} == {
        "retrain_panel": "1d",
        "retrain_panel_hourly": "1h",
    }
    assert (
        shown["retrain_panel_hourly"]["window"]["lookback_bars"],
        shown["retrain_panel"]["window"]["lookback_bars"],
    ) == (24, 30)
    assert all(form["training"]["members"] == 2 for form in shown.values())
    hourly = {plan.deployed_as: plan for plan in plans({"source": {"interval": "1h"}}) if plan.name == "retrain_panel"}
    assert {name: plan.parameters["interval"] for name, plan in hourly.items()} == {
        "retrain_panel": "1h",
        "retrain_panel_daily": "1d",
    }


def test_the_quick_form_is_filled_in_from_what_up_was_given() -> None:
    file = {"kind": "csv", "path": "/bars.csv", "symbol": "ETH-USD", "columns": "timestamp=unix"}
    table = {plan.full_name: plan for plan in plans({"source": file, "training": {"epochs": 3, "seed": 5}})}
    shown = dict(table["retrain/quick"].parameters)
    assert shown == {
        "source_kind": "csv", "symbol": "ETH-USD", "interval": "1d", "path_or_exchange": "/bars.csv", "epochs": 3,
        "seed": 5,
    }  # fmt: skip
    exchange = plans({"source": {"kind": "exchange", "exchange": "kraken", "interval": "1h"}})
    (quick,) = [plan for plan in exchange if plan.full_name == "retrain/quick"]
    assert quick.parameters["path_or_exchange"] == "kraken"
    assert quick.parameters["epochs"] == preset_for("1h").training.epochs


def test_a_quick_retrain_of_the_scheduled_file_keeps_what_the_form_does_not_show() -> None:
    series, scheduled = Series("ETH-USD", "1d"), {"kind": "csv", "path": "/bars.csv", "columns": "timestamp=unix"}
    scheduled |= {"symbol": "ETH-USD"}
    assert quick_source("csv", series, "/bars.csv", scheduled).columns == "timestamp=unix"
    other = quick_source("csv", series, "/other.csv", scheduled)
    assert (other.path, other.columns) == ("/other.csv", "")
    assert quick_source("exchange", series, "", scheduled) == SourceSpec(kind="exchange", symbol="ETH-USD")


def test_up_of_hourly_bars_shows_their_preset_in_every_form(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr("flows.cli.service_commands.require_readable", lambda _: None)
    monkeypatch.setattr("flows.up.up", lambda _, parameters, *__: given.append(parameters))
    bars = ["--source.kind", "csv", "--source.path", str(home / "hours.csv"), "--source.interval", "1h"]
    assert run(["up", *bars, "--training.epochs", "7", "--abstention.opinion-share", "0.2"]) == 0
    assert given[0]["abstention"]["opinion_share"] == 0.2
    assert asked_for(given[0]) == recipe_for("BTC-USD", "1h", training=TrainingSpec(epochs=7))
    assert plans(given[0])[-1].parameters["training"]["batch_size"] == HOURLY.training.batch_size


@pytest.mark.parametrize("interval", ["1d", "1h"])
def test_what_a_person_set_for_up_is_trained_also_where_it_is_the_default_of_daily_bars(
    interval: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr("flows.cli.service_commands.require_readable", lambda _: None)
    monkeypatch.setattr("flows.up.up", lambda _, parameters, *__: given.append(parameters))
    flags = ["--window.lookback-bars", "30", "--folds.test-bars", "750", "--network.scaling", "window"]
    flags += ["--network.dropout", "0.5", "--training.batch-size", "128"]
    assert run(["up", "--source.kind", "exchange", "--source.interval", interval, *flags]) == 0
    table = {plan.full_name: plan.parameters for plan in plans(given[0])}
    scheduled = FLOWS["retrain"].load().validate_parameters(dict(table["retrain/retrain"]))
    recipe = recipe_for("BTC-USD", interval, *(scheduled[name] for name in SPECS))
    assert (recipe.window.lookback_bars, recipe.folds.test_bars) == (30, 750)
    assert (recipe.network.scaling, recipe.network.dropout, recipe.training.batch_size) == ("window", 0.5, 128)
    assert recipe == asked_for(dict(table["retrain/retrain"]))  # the form shows and sends the same
    assert all(table["replay/replay"][name] == table["tune/tune"][name] == given[0][name] for name in SPECS)


def test_up_without_flags_passes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr("flows.up.up", lambda _, parameters, *__: given.append(parameters))
    assert run(["up"]) == 0
    assert given == [{}]


def test_a_pool_with_a_gpu_gets_what_trains() -> None:
    entries = yaml.safe_load(yaml_text(PLANS, gpu_pool="big"))["deployments"]
    pools = {f"{entry['entrypoint']}/{entry['name']}": (entry["work_pool"]["name"], entry["tags"]) for entry in entries}
    pool, tags = pools["flows/retrain.py:retrain/retrain"]
    assert (pool, "gpu" in tags) == ("big", True)
    pool, tags = pools["flows/predict.py:predict/predict"]
    assert (pool, "gpu" in tags) == ("riseorfall", False)


def test_runs_are_named_after_series_and_day(home: Path) -> None:  # noqa: ARG001 - a home of its own
    from prefect import runtime  # noqa: F401  # the name is made by it
    from prefect.client.orchestration import get_client

    from flows.monitor import monitor

    with pytest.raises((NoChampion, SpecError)):
        monitor(symbol="NO-SUCH", as_of=datetime(2026, 11, 24, tzinfo=UTC))
    with get_client(sync_client=True) as client:
        assert "monitor NO-SUCH 1d as of 2026-11-24" in {
            run.name for run in client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC)
        }

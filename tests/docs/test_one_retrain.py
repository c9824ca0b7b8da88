"""The page "One retrain" names what exists, in the order of the flow, and quotes the defaults of the code."""

import ast
import inspect
import re
from typing import get_args

import pytest
from guide_blocks import ROOT
from pydantic import BaseModel

from data_checks.bar_rules import LEVEL_BARS
from data_checks.check_spec import CheckSpec, TolerableRule
from data_checks.rule_definitions import BAR_RULES, WINDOW_RULES
from model import baselines, best_past_champion, bootstrap, final_fit, folds, leak_audit, training
from model.abstention import AbstentionSpec
from model.agreement_with_folds import PANEL_RULE, FinalNetworkRule
from model.networks import NetworkSpec
from model.promotion_rule import PromotionRule
from model.windows import WindowSpec
from tasks import ingestion, retrain_mlflow_run
from tasks.champion import challenger_decision, registered_network
from tasks.settings import Settings
from tasks.sources import exchange_source, file_source, source_spec
from tasks.store import bar_store

PAGE = (ROOT / "docs" / "one-retrain.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())
FLOW = ast.parse((ROOT / "flows" / "retrain.py").read_text(encoding="utf-8"))
FILES = list(dict.fromkeys(re.findall(r"`([\w/]+\.py)`", TEXT)))
PLACES = [
    (path, name)
    for path, names in re.findall(r"`([\w/]+\.py)` \(([^)]+)\)", TEXT)
    for name in re.findall(r"`([\w.]+)`", names)
]
SPECS: dict[str, BaseModel] = {
    "abstention": AbstentionSpec(),
    "check": CheckSpec(),
    "folds": folds.FoldSpec(),
    "network": NetworkSpec(),
    "promotion": PromotionRule(),
    "training": training.TrainingSpec(),
    "window": WindowSpec(),
    "AnchorRule": best_past_champion.AnchorRule(),
    "FinalNetworkRule": FinalNetworkRule(),
    "PANEL_RULE": PANEL_RULE,
}
CONSTANTS = {
    "RISEORFALL_MAX_FILE_MB": Settings.model_fields["max_file_mb"].default,
    "OVERLAP_BARS": ingestion.OVERLAP_BARS,
    "BACKFILL_BARS": exchange_source.BACKFILL_BARS,
    "MIN_GAIN": training.MIN_GAIN,
    "MINIMUM_TRAINING_WINDOWS": folds.MINIMUM_TRAINING_WINDOWS,
    "MAX_TRAINING_WINDOWS": baselines.MAX_TRAINING_WINDOWS,
    "REPETITIONS": bootstrap.REPETITIONS,
    "PROBE_WINDOWS": final_fit.PROBE_WINDOWS,
    "SHORT_SAMPLE": leak_audit.SHORT_SAMPLE,
    "SAME_PROBABILITY": leak_audit.SAME_PROBABILITY,
    "RELOAD_TOLERANCE": registered_network.RELOAD_TOLERANCE,
    "MAX_COMPARISONS": challenger_decision.MAX_COMPARISONS,
}
NAME = rf"`((?:{'|'.join(SPECS)})\.(?!onnx|keras)[a-z_.]+|{'|'.join(CONSTANTS)})`"  # `network.onnx` is a file
QUOTED = re.findall(rf"{NAME} = ([\w.,]+(?: %)?)", TEXT)


def defined_in(path: str) -> set[str]:
    """Return the functions, classes, methods (`Class.method`) and constants that a module defines itself."""
    found = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
        targets = [node.target] if isinstance(node, ast.AnnAssign) else getattr(node, "targets", [])
        found |= {each.id for each in targets if isinstance(each, ast.Name)}
    return found


def default_of(name: str) -> object:
    """Return the default of a spec's field, such as `folds.count`, or the value of a constant."""
    if name in CONSTANTS:
        return CONSTANTS[name]
    spec, _, fields = name.partition(".")
    value: object = SPECS[spec]
    for field in fields.split("."):
        value = getattr(value, field)
    return value


def number_or_word(text: str) -> object:
    """Read a quoted value: `750`, `1,000`, `2 %`, `off`, or a word."""
    plain = text.rstrip(".,").replace(",", "")
    if plain == "off":
        return False
    try:
        return float(plain.removesuffix(" %")) / (100 if plain.endswith("%") else 1)
    except ValueError:
        return plain


def test_the_page_names_at_most_25_files_and_each_exists() -> None:
    assert 15 <= len(FILES) <= 25
    assert f"the {len(FILES) - 1} after" in TEXT
    assert FILES[0] == "flows/retrain.py"
    assert not [path for path in FILES if not (ROOT / path).is_file()]
    assert {path for path, _ in PLACES} == set(FILES)
    stated = [f"{name}.py" for name in re.findall(r"`((?:data_checks|model|tasks)/[\w/]+)`", TEXT)]
    last_section = PAGE.split("## Stated here, not listed above")[1]
    assert {f"{name}.py" for name in re.findall(r"`([^`]+)`", last_section)} == set(stated)
    assert len(stated) >= 20
    assert not [path for path in stated if path in FILES or not (ROOT / path).is_file()]


@pytest.mark.parametrize(("path", "name"), PLACES, ids=lambda value: value)
def test_a_named_function_is_defined_in_its_file(path: str, name: str) -> None:
    assert name in defined_in(path)


def test_the_headings_have_every_step_of_the_flow_in_its_order() -> None:
    imported = {
        (each.asname or each.name): each.name
        for node in FLOW.body
        if isinstance(node, ast.ImportFrom) and re.fullmatch(r"tasks\.(?!results)\w+", node.module or "")
        for each in node.names
    }
    calls = [
        node.func.value if isinstance(node.func, ast.Attribute) and node.func.attr == "submit" else node.func
        for node in ast.walk(FLOW)
        if isinstance(node, ast.Call)
    ]
    names = [node for node in calls if isinstance(node, ast.Name)]
    called = [imported.get(node.id) for node in sorted(names, key=lambda node: (node.lineno, -node.col_offset))]
    headings = re.findall(r"^## .*$", PAGE, re.MULTILINE)
    assert [name for line in headings for name in re.findall(r"`(\w+)`", line)] == [step for step in called if step]


def test_the_specs_of_the_page_are_parameters_of_the_flow() -> None:
    (flow,) = [node for node in FLOW.body if isinstance(node, ast.FunctionDef) and node.name == "retrain"]
    defaults = dict(zip(flow.args.args, flow.args.defaults, strict=True))
    defaults |= dict(zip(flow.args.kwonlyargs, flow.args.kw_defaults, strict=True))
    made = {name.arg: ast.unparse(value) for name, value in defaults.items()}
    quoted = {name: spec for name, spec in SPECS.items() if name.islower()}
    assert {name: made[name] for name in quoted} == {name: f"{type(spec).__name__}()" for name, spec in quoted.items()}


@pytest.mark.parametrize(("name", "value"), QUOTED, ids=lambda value: value)
def test_a_quoted_default_is_that_of_the_code(name: str, value: str) -> None:
    expected = default_of(name)
    assert number_or_word(value) == (pytest.approx(expected, rel=1e-12) if isinstance(expected, float) else expected)


def test_every_named_field_and_constant_has_its_value() -> None:
    quoted = {name for name, _ in QUOTED}
    assert len(quoted) >= 40
    assert set(re.findall(NAME, TEXT)) == quoted
    assert set(re.findall(r"`([A-Z][A-Z\d]*_\w+)`", TEXT)) - quoted == {"BAR_RULES", "WINDOW_RULES"}  # places to read
    assert set(CONSTANTS) <= quoted


def test_numbers_in_words_are_those_of_the_code() -> None:
    assert f"Up to {len(BAR_RULES)} rules" in TEXT
    assert sum(rule.quarantines for rule in BAR_RULES) == 11
    assert f"median close of the {LEVEL_BARS} nearest bars" in TEXT
    severities = {rule.name: rule.severity for rule in BAR_RULES if rule.name in get_args(TolerableRule)}
    critical = [f"`{name}`" for name, severity in severities.items() if severity == "critical"]
    others = [f"`{name}`" for name, severity in severities.items() if severity == "warning"]
    assert (len(critical), len(others)) == (3, 1)
    lowered = f"lowers the severity of {critical[0]}, {critical[1]} and {critical[2]} to a warning ({others[0]}, which"
    assert lowered in TEXT
    assert "Eleven rules refuse single bars" in TEXT
    assert retrain_mlflow_run.HOURS_6 == 6 * 3600
    assert "stopped after six hours" in TEXT
    filters = NetworkSpec().filters
    assert f"convolutions of {filters[0]} and {filters[1]} filters" in TEXT
    assert f"({bootstrap.rate_block_bars(750)} at 750)" in TEXT
    assert inspect.signature(best_past_champion.references_to_keep).parameters["newest"].default + 2 == 7
    assert "least bold one (up to seven)" in TEXT
    low, high = leak_audit.SCRAMBLE
    assert f"multiplied by {low:g} to {high:g}" in TEXT
    assert f"on the newest {leak_audit.MAX_BARS:,} bars" in TEXT
    assert f"if at least {bar_store.LEAST_REVISED} of the landed bars that were stored already" in TEXT
    large, beginning = source_spec.QUICK_BYTES // 1_000_000, file_source.PREVIEW_BYTES >> 20
    assert f"of text files above {large} MB it reads the first {beginning} MB" in TEXT
    severities_of_windows = [rule.severity for rule in WINDOW_RULES]
    assert (len(severities_of_windows), severities_of_windows.count("warning")) == (6, 1)
    assert "Six rules check those with a label" in TEXT

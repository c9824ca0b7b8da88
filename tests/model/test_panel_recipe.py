"""The recipe of a panel: older recipes keep their digests, series are listed, and each choice is refused clearly."""

import pytest

from model.cross_section import CONTEXT
from model.errors import SpecError
from model.panel import PanelSpec
from model.panel_recipe import PanelRecipe, choose_series, panel_recipe_for, read_recipe
from model.presets import recipe_for
from model.recipe import Recipe
from model.training import TrainingSpec

STORED = ("C", "A", "B")


def test_the_recipes_of_single_series_keep_the_digests_that_homes_hold() -> None:
    assert Recipe().digest == "c25a535ee1e9"
    assert recipe_for("ETH-USD", "1h").digest == "34b5bc82006e"


def test_a_recipe_is_read_back_as_what_it_was() -> None:
    panel = panel_recipe_for("1d", PanelSpec(symbols=("A", "B"), label="rank"))
    for recipe in (panel, recipe_for("A", "1h")):
        found = read_recipe(recipe.model_dump_json())
        assert (type(found), found) == (type(recipe), recipe)
    with pytest.raises(ValueError, match="symbol"):
        PanelRecipe.model_validate({"symbol": "BTC-USD", "panel": {}})
    for broken in ("7", "[]", "not JSON", '{"panel": 3}'):
        with pytest.raises(ValueError):  # noqa: PT011 - pydantic's and json's
            read_recipe(broken)


def test_another_panel_is_another_recipe_of_the_same_series() -> None:
    one, other = (panel_recipe_for("1d", PanelSpec(symbols=symbols)) for symbols in (("A", "B"), ("A", "B", "C")))
    assert one.digest != other.digest
    assert one.series.name == other.series.name == "PANEL-1d"


@pytest.mark.parametrize(("inputs", "count"), [("own", 0), ("cross_section", len(CONTEXT))])
def test_only_the_cross_section_adds_inputs(inputs: str, count: int) -> None:
    panel = PanelSpec.model_validate({"symbols": ("A", "B"), "inputs": inputs})
    assert panel_recipe_for("1d", panel).context_count == count
    assert Recipe().context_count == 0


def test_every_stored_series_is_chosen_by_default_and_listed() -> None:
    assert choose_series(STORED, "1d", PanelSpec()).symbols == ("A", "B", "C")
    assert choose_series(STORED, "1d", PanelSpec(symbols=("C", "A"))).symbols == ("A", "C")


@pytest.mark.parametrize(
    ("stored", "panel", "reason"),
    [
        (STORED, PanelSpec(symbols=("A", "X")), r"missing X; stored: A, B, C\."),
        (("A",), PanelSpec(), r"at least 2 series, found 1; stored 1d series: A\."),
        ((), PanelSpec(), r"found 0; stored 1d series: none\."),
        (STORED, PanelSpec(label="rank"), r"at least 5 series \(--panel\.least-series"),
        (STORED, PanelSpec(inputs="cross_section", reference="BTC-USD"), r"reference BTC-USD among .*A, B, C\."),
    ],
)
def test_what_is_no_panel_is_refused(stored: tuple[str, ...], panel: PanelSpec, reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        choose_series(stored, "1d", panel)


def test_a_warm_start_is_refused() -> None:
    with pytest.raises(SpecError, match="no warm start"):
        panel_recipe_for("1d", PanelSpec(symbols=("A", "B")), training=TrainingSpec(warm_start=True))

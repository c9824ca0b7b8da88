"""The default recipe of each interval."""

import pytest
from pydantic import ValidationError

from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.panel import PanelSpec
from model.panel_recipe import panel_recipe_for
from model.presets import (
    DAILY,
    HOURLY,
    PANEL_DAILY,
    PANEL_HOURLY,
    Preset,
    panel_preset_for,
    preset_for,
    with_preset,
)
from model.recipe import Recipe
from model.training import TrainingSpec
from model.windows import WindowSpec


def test_daily_bars_get_the_specs_own_defaults() -> None:
    assert preset_for("1d") == DAILY == Preset(WindowSpec(), FoldSpec(), NetworkSpec(), TrainingSpec())
    assert with_preset(DAILY, window=WindowSpec(lookback_bars=9)).window == WindowSpec(lookback_bars=9)


def test_hourly_bars_get_their_preset_except_for_set_fields() -> None:
    assert with_preset(preset_for("1h")) == HOURLY
    found = with_preset(HOURLY, WindowSpec(lookback_bars=30), FoldSpec(count=3), NetworkSpec(kind="cnn"))
    assert found.window.lookback_bars == 30  # set here, though it is the default
    assert (found.folds.count, found.folds.test_bars) == (3, HOURLY.folds.test_bars)
    assert (found.network.kind, found.network.scaling) == ("cnn", "last_close")
    assert found.training == HOURLY.training


def test_every_preset_makes_a_recipe() -> None:
    for interval in ("1d", "1h", "5m"):
        preset = preset_for(interval)
        recipe = Recipe(
            interval=interval,  # type: ignore[arg-type]
            window=preset.window,
            folds=preset.folds,
            network=preset.network,
            training=preset.training,
        )
        assert len(recipe.digest) == 12


def test_a_panel_has_a_preset_of_its_own_except_for_set_fields() -> None:
    """The values are those of the candidates that docs/does-it-pay.md chose, typed in from its protocol."""
    symbols = PanelSpec(symbols=("A-USD", "B-USD"))
    daily = panel_recipe_for("1d", symbols, training=TrainingSpec(epochs=3, calibration="none"))
    assert (daily.window.lookback_bars, daily.network.scaling, daily.network.dropout) == (30, "last_close", 0.2)
    assert (daily.training.batch_size, daily.training.patience, daily.training.plateau_patience) == (1024, 6, 3)
    assert (daily.training.epochs, daily.training.calibration, daily.training.members) == (3, "none", 2)
    hourly = panel_recipe_for("1h", symbols)
    assert (hourly.window.lookback_bars, hourly.folds.test_bars) == (24, 10_000)
    assert (hourly.training.epochs, hourly.training.calibration) == (40, "temperature")
    assert panel_preset_for("1d") == PANEL_DAILY != panel_preset_for("1h") == PANEL_HOURLY
    assert panel_preset_for("5m") == preset_for("5m")


@pytest.mark.parametrize(
    "features", [("open", "high", "low", "close", "volume"), ("close", "open"), ("volume", "close")]
)
def test_prices_are_anchored_at_the_close_only(features: tuple[str, ...]) -> None:
    network = NetworkSpec(scaling="last_close")
    with pytest.raises(ValidationError, match="price columns only, close last"):
        Recipe(window=WindowSpec.model_validate({"features": features}), network=network)
    assert Recipe(window=WindowSpec(features=("high", "close")), network=network).network == network

"""The default recipe of each interval."""

import pytest
from pydantic import ValidationError

from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.presets import DAILY, HOURLY, Preset, preset_for, with_preset
from model.recipe import Recipe
from model.training import TrainingSpec
from model.windows import WindowSpec


def test_daily_bars_get_the_specs_own_defaults() -> None:
    assert preset_for("1d") == DAILY == Preset(WindowSpec(), FoldSpec(), NetworkSpec(), TrainingSpec())
    assert with_preset("1d", window=WindowSpec(lookback_bars=9)).window == WindowSpec(lookback_bars=9)


def test_hourly_bars_get_their_preset_except_for_set_fields() -> None:
    assert with_preset("1h") == HOURLY
    found = with_preset("1h", WindowSpec(lookback_bars=30), FoldSpec(count=3), NetworkSpec(kind="cnn"))
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


@pytest.mark.parametrize(
    "features", [("open", "high", "low", "close", "volume"), ("close", "open"), ("volume", "close")]
)
def test_prices_are_anchored_at_the_close_only(features: tuple[str, ...]) -> None:
    network = NetworkSpec(scaling="last_close")
    with pytest.raises(ValidationError, match="price columns only, close last"):
        Recipe(window=WindowSpec.model_validate({"features": features}), network=network)
    assert Recipe(window=WindowSpec(features=("high", "close")), network=network).network == network

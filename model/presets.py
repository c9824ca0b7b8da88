"""What a recipe is where nobody says otherwise, by the length of a bar.

The specs' own defaults are those of daily bars. Hourly bars come sixty thousand at a time and carry a faint pattern
(moves tend to come back within a day) that daily bars do not; docs/log.md tells how this preset was chosen, on which
bars, and what it was worth on bars that it was not chosen by. Intervals that were not studied get the defaults. The
trap: a field counts as said when it was given at all, even with the value that is its default.
"""

from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

from model.bars import IntervalName
from model.folds import FoldSpec
from model.networks import NetworkSpec
from model.recipe import Recipe
from model.training import TrainingSpec
from model.windows import WindowSpec

Spec = TypeVar("Spec", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Preset:
    """The four specs that a recipe is made of, beside its series."""

    window: WindowSpec = WindowSpec()
    folds: FoldSpec = FoldSpec()
    network: NetworkSpec = NetworkSpec()
    training: TrainingSpec = TrainingSpec()


DAILY = Preset()
HOURLY = Preset(
    window=WindowSpec(lookback_bars=24),
    folds=FoldSpec(test_bars=10_000),  # fourteen months; 750 hours would tell nothing from nothing
    network=NetworkSpec(scaling="last_close", dropout=0.2),
    training=TrainingSpec(batch_size=1024, patience=6, plateau_patience=3, members=5),
)
PRESETS = {"1h": HOURLY}


def preset_for(interval: str) -> Preset:
    """Return the preset of an interval, such as `1h`; the specs' defaults where there is none of its own."""
    return PRESETS.get(interval, DAILY)


def with_preset(
    interval: str,
    window: WindowSpec = WindowSpec(),
    folds: FoldSpec = FoldSpec(),
    network: NetworkSpec = NetworkSpec(),
    training: TrainingSpec = TrainingSpec(),
) -> Preset:
    """Fill what the specs leave unsaid with the interval's preset.

    Args:
        interval: length of a bar.
        window: fields given here stay as they are, those not given come from the preset; likewise the others.
        folds: see `window`.
        network: see `window`.
        training: see `window`.
    """
    preset = preset_for(interval)
    return Preset(
        _filled(preset.window, window),
        _filled(preset.folds, folds),
        _filled(preset.network, network),
        _filled(preset.training, training),
    )


def recipe_for(
    symbol: str,
    interval: IntervalName,
    window: WindowSpec = WindowSpec(),
    folds: FoldSpec = FoldSpec(),
    network: NetworkSpec = NetworkSpec(),
    training: TrainingSpec = TrainingSpec(),
) -> Recipe:
    """Return the recipe of a series: what was said, and the interval's preset for the rest; see `with_preset`."""
    chosen = with_preset(interval, window, folds, network, training)
    return Recipe(
        symbol=symbol,
        interval=interval,
        window=chosen.window,
        folds=chosen.folds,
        network=chosen.network,
        training=chosen.training,
    )


def _filled(preset: Spec, said: Spec) -> Spec:
    """Return the preset with every field that was said replaced; validated anew."""
    fields = {name: getattr(preset, name) for name in preset.model_fields_set}
    fields |= {name: getattr(said, name) for name in said.model_fields_set}
    return type(preset).model_validate(fields)

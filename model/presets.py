"""Define the default recipe of each interval, for one series and for a panel.

The specs' own defaults are for daily bars. Hourly bars are more numerous and have a weak reversal pattern within a day;
docs/log.md describes how this preset was chosen, on which bars, and its out-of-sample result. The presets of panels are
the candidates that docs/does-it-pay.md chose on its development bars. Intervals that were not studied get the
defaults. Caution: a field counts as set when it was passed at all, even with its default value.
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
    """The four specs of a recipe, without its series."""

    window: WindowSpec = WindowSpec()
    folds: FoldSpec = FoldSpec()
    network: NetworkSpec = NetworkSpec()
    training: TrainingSpec = TrainingSpec()


DAILY = Preset()
HOURLY = Preset(
    window=WindowSpec(lookback_bars=24),
    folds=FoldSpec(test_bars=10_000),  # fourteen months; 750 hours have too little power
    network=NetworkSpec(scaling="last_close", dropout=0.2),
    training=TrainingSpec(batch_size=1024, patience=6, plateau_patience=3, members=5),
)
PRESETS = {"1h": HOURLY}

PANEL_TRAINING = TrainingSpec(
    batch_size=1024, epochs=40, patience=6, plateau_patience=3, calibration="temperature", members=2
)
PANEL_DAILY = Preset(network=HOURLY.network, training=PANEL_TRAINING)
PANEL_HOURLY = Preset(HOURLY.window, HOURLY.folds, HOURLY.network, PANEL_TRAINING)
PANEL_PRESETS = {"1d": PANEL_DAILY, "1h": PANEL_HOURLY}


def preset_for(interval: str) -> Preset:
    """Return the preset of an interval, such as `1h`; the specs' defaults where it has none."""
    return PRESETS.get(interval, DAILY)


def panel_preset_for(interval: str) -> Preset:
    """Return the preset of a panel of an interval; that of a single series where panels have none."""
    return PANEL_PRESETS.get(interval, preset_for(interval))


def with_preset(
    preset: Preset,
    window: WindowSpec = WindowSpec(),
    folds: FoldSpec = FoldSpec(),
    network: NetworkSpec = NetworkSpec(),
    training: TrainingSpec = TrainingSpec(),
) -> Preset:
    """Fill the unset fields of the specs from a preset.

    Args:
        preset: of the interval.
        window: fields set here are kept, unset ones come from the preset; likewise the others.
        folds: see `window`.
        network: see `window`.
        training: see `window`.
    """
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
    """Return the recipe of a series: the fields set here, the rest from the interval's preset; see `with_preset`."""
    chosen = with_preset(preset_for(interval), window, folds, network, training)
    return Recipe(
        symbol=symbol,
        interval=interval,
        window=chosen.window,
        folds=chosen.folds,
        network=chosen.network,
        training=chosen.training,
    )


def _filled(preset: Spec, spec: Spec) -> Spec:
    """Return the preset with every field that is set in the spec replaced, validated."""
    fields = {name: getattr(preset, name) for name in preset.model_fields_set}
    fields |= {name: getattr(spec, name) for name in spec.model_fields_set}
    return type(preset).model_validate(fields)

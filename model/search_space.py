"""Define the search space of `tune`.

A trial is a mapping of plain values, so any search algorithm can propose one.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from model.folds import FoldSpec
from model.recipe import Recipe

Choices = dict[str, tuple[Any, ...]]
Ranges = dict[str, tuple[float, float]]

# Around the default recipe; sizes of the network in powers of two.
CHOICES: Choices = {
    "lookback_bars": (10, 15, 30, 60),
    "filters": ("8,4", "16,8", "32,16", "64,32"),
    "kernel_bars": (2, 3, 4, 6),
    "units": (8, 16, 32, 64),
    "dense_units": (16, 32, 64, 128),
    "batch_size": (32, 64, 128, 256),
}
RANGES: Ranges = {"dropout": (0.0, 0.7), "learning_rate": (1e-4, 1e-2)}  # the latter on a logarithmic scale


class TuneSpec(BaseModel):
    """How long to search, and on which windows a trial is scored."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Search")

    trials: int = Field(default=20, ge=1, le=10_000, description="Total number of trials, earlier calls included")
    test_bars: int = Field(
        default=500,
        title="Trial bars",
        ge=1,
        le=10_000_000,
        description="Newest windows before the recipe's test bars, on which trials are scored",
    )
    count: int = Field(
        default=3,
        title="Trial folds",
        ge=1,
        le=100,
        description="Number of folds of a trial; the model is trained once for each",
    )
    seed: int = Field(
        default=7,
        title="Search seed",
        ge=0,
        le=2**31 - 1,
        description="Seed of the search; trials are trained with the recipe's seed",
    )

    def folds_of(self, recipe: Recipe) -> FoldSpec:
        """Return the folds of a trial: with the recipe's share of validation windows, by which training stops early."""
        share = recipe.folds.validation_share
        return FoldSpec(test_bars=self.test_bars, count=self.count, validation_share=share)


def choices_of(recipe: Recipe) -> Choices:
    """Return the choices of a search, the recipe's own values included."""
    own = values_of(recipe)
    return {
        name: values if own[name] in values else tuple(sorted((*values, own[name]), key=str))
        for name, values in CHOICES.items()
    }


def ranges_of(recipe: Recipe) -> Ranges:
    """Return the ranges of a search, widened to include the recipe's own values."""
    own = values_of(recipe)
    return {name: (min(low, own[name]), max(high, own[name])) for name, (low, high) in RANGES.items()}


def values_of(recipe: Recipe) -> dict[str, Any]:
    """Return the values of a recipe as a trial."""
    return {
        "lookback_bars": recipe.window.lookback_bars,
        "filters": ",".join(map(str, recipe.network.filters)),
        "kernel_bars": recipe.network.kernel_bars,
        "units": recipe.network.units,
        "dense_units": recipe.network.dense_units,
        "dropout": recipe.network.dropout,
        "batch_size": recipe.training.batch_size,
        "learning_rate": recipe.training.learning_rate,
    }


def recipe_of(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return a recipe with a trial's values in place of its own."""
    network = {name: values[name] for name in ("kernel_bars", "units", "dense_units", "dropout")}
    filters = tuple(int(part) for part in str(values["filters"]).split(","))
    training = {name: values[name] for name in ("batch_size", "learning_rate")}
    parts = {
        "window": recipe.window.model_dump() | {"lookback_bars": values["lookback_bars"]},
        "network": recipe.network.model_dump() | network | {"filters": filters},
        "training": recipe.training.model_dump() | training,
    }
    return Recipe.model_validate(recipe.model_dump() | parts)

"""Define the recipe of a model: the series and all specs that determine what is trained.

Its hash identifies an experiment: two models of one recipe differ by their bars only. Where anything runs is not part
of it.
"""

import hashlib

from pydantic import BaseModel, ConfigDict, Field, model_validator

from model.bars import IntervalName, Series
from model.folds import EXECUTION_FIELDS, FoldSpec
from model.networks import NetworkSpec
from model.training import TrainingSpec
from model.windows import WindowSpec

RECIPE_HASH_LENGTH = 12


class Recipe(BaseModel):
    """Series and specs of one model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    symbol: str = Field("BTC-USD", description="Symbol of the series")
    interval: IntervalName = Field("1d", description="Length of a bar")
    window: WindowSpec = Field(WindowSpec(), description="Windows and labels")
    folds: FoldSpec = Field(FoldSpec(), description="Walk-forward folds")
    network: NetworkSpec = Field(NetworkSpec(), description="The network")
    training: TrainingSpec = Field(TrainingSpec(), description="Training")

    @model_validator(mode="after")
    def _find_close_last(self) -> "Recipe":
        features = self.window.features
        if self.network.scaling == "last_close" and (features[-1] != "close" or "volume" in features):
            raise ValueError(
                f"network.scaling last_close: expected price columns only, close last; found {', '.join(features)}"
            )
        if self.network.output_count > 1 and features[-1] != "close":
            name = "magnitude" if self.network.magnitude else "beyond_cost_bps"
            raise ValueError(
                f"network.{name}: expected close as the last of --window.features, found {', '.join(features)}"
            )
        return self

    @property
    def series(self) -> Series:
        """The series that the model predicts."""
        return Series(self.symbol, self.interval)

    @property
    def context_count(self) -> int:
        """How many inputs of a window describe the other series of a panel; none for a single series."""
        return 0

    @property
    def identity(self) -> str:
        """Every field that changes a number, as JSON; without fields of the execution and those that are off."""
        return self.model_dump_json(exclude=self.fields_off)

    @property
    def fields_off(self) -> dict[str, set[str]]:
        """Fields that change no number, by spec: those of the execution and those that are off."""
        training = {"sample_weights"} if self.training.sample_weights.equal else set()
        if not self.network.magnitude:
            training.add("magnitude_weight")
        network = {name for name in ("magnitude", "beyond_cost_bps") if not getattr(self.network, name)}
        return {"folds": set(EXECUTION_FIELDS), "training": training, "network": network}

    @property
    def digest(self) -> str:
        """First characters of the SHA-256 of the recipe: the identity of the experiment."""
        return hashlib.sha256(self.identity.encode()).hexdigest()[:RECIPE_HASH_LENGTH]

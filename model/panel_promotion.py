"""The part of the promotion rule that a panel has: the daily rule, and the costs of its policies and portfolios.

A form or a command line shows these fields only. Values for `PromotionRule` are accepted where they mean the same, so
stored parameters keep working; others are refused with the reason.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from model.promotion_rule import PromotionRule
from model.trading import TradingCosts, TradingSpec


class PanelPromotion(BaseModel):
    """What a challenger of a panel must show to become champion."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Promotion")

    champion_tolerance: float = Field(
        default=0.002,
        ge=0,
        le=1,
        description="Hold when significantly worse than the champion: the lower bound of the 95 % interval of the "
        "paired log loss difference exceeds this tolerance (nats)",
    )
    champion_margin: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="Hold when the mean log loss exceeds the champion's by more than this, significant or not (nats)",
    )
    base_rate_tolerance: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Hold when significantly worse than the base rate: the lower bound of the 95 % interval of the "
        "paired log loss difference exceeds this tolerance (nats)",
    )
    base_rate_margin: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Hold when the mean log loss exceeds the base rate's by more than this, significant or not (nats)",
    )
    min_common_bars: int = Field(
        default=100,
        ge=1,
        le=1_000_000,
        description="Windows that challenger and champion both decided and that a comparison needs; with fewer, the "
        "base rate alone is compared (windows)",
    )
    trading: TradingCosts = Field(
        default=TradingCosts(),
        description="costs of the policies (label rise) and of the market-neutral portfolio (label rank); reported, no "
        "condition of a promotion",
    )

    @model_validator(mode="before")
    @classmethod
    def _accept_rule(cls, given: Any) -> Any:
        """Take what a `PromotionRule` sets for its daily rule; refuse what panels do not have.

        Raises:
            ValueError: the strict rule, or a way of trading.
        """
        found = given.model_dump(exclude_unset=True) if isinstance(given, PromotionRule) else given
        if not isinstance(found, Mapping):
            return found
        own = {name: value for name, value in found.items() if name not in ("kind", "alpha")}  # alpha: strict rule
        if found.get("kind", "daily") != "daily":
            raise ValueError(
                f"panel: expected the daily rule, found {found['kind']}: the strict rule corrects for earlier recipes, "
                "and does not know panels yet"
            )
        if isinstance(own.get("trading"), Mapping):
            own["trading"] = _costs_of(own["trading"])
        return own

    def rule(self) -> PromotionRule:
        """Return the daily rule with these numbers."""
        return PromotionRule(**self.model_dump(exclude={"trading"}), trading=TradingSpec(**self.trading.model_dump()))


def _costs_of(trading: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the ways of trading that a `TradingSpec` has by default.

    Raises:
        ValueError: another way of trading.
    """
    ways = {name: TradingSpec.model_fields[name].default for name in ("kind", "policy", "threshold")}
    for name, usual in ways.items():
        if trading.get(name, usual) != usual:
            raise ValueError(
                f"panel: expected no trading.{name}, found {trading[name]}: a panel reports every policy, long or "
                "short (label rise), or a market-neutral portfolio of its top and bottom fifth (label rank)"
            )
    return {name: value for name, value in trading.items() if name not in ways}

"""The promotion rule of a panel offers what a panel has, takes equal values of the whole rule, and refuses others."""

from typing import Any

import pytest
from pydantic import ValidationError

from model.panel_promotion import PanelPromotion
from model.promotion_rule import PromotionRule
from model.trading import TradingSpec

LIMITS = ("champion_tolerance", "champion_margin", "base_rate_tolerance", "base_rate_margin", "min_common_bars")


def test_it_offers_the_limits_of_the_daily_rule_and_costs_and_nothing_else() -> None:
    assert tuple(PanelPromotion.model_fields) == (*LIMITS, "trading")
    assert set(PanelPromotion().trading.model_dump()) == {"costs", "cost_bps", "slippage_bps"}
    for name in LIMITS:
        own, whole = PanelPromotion.model_fields[name], PromotionRule.model_fields[name]
        assert (own.default, own.metadata) == (whole.default, whole.metadata), name


def test_the_rule_is_the_daily_one_with_these_numbers() -> None:
    assert PanelPromotion().rule() == PromotionRule()
    chosen = PanelPromotion(champion_margin=0.5, trading={"costs": "perpetual_taker"}).rule()
    assert chosen == PromotionRule(
        champion_margin=0.5, trading=TradingSpec(cost_bps=5, slippage_bps=5, costs="perpetual_taker")
    )


@pytest.mark.parametrize(
    "stored",
    [
        {"kind": "daily", "alpha": 0.1, "base_rate_margin": 0.3, "trading": {"cost_bps": 7}},
        {
            "base_rate_margin": 0.3,
            "trading": {"kind": "long_flat", "policy": "sign", "threshold": 0.5, "cost_bps": 7},
        },
        PromotionRule(base_rate_margin=0.3, trading=TradingSpec(cost_bps=7)),
    ],
)
def test_stored_values_of_the_whole_rule_go_on_working(stored: Any) -> None:
    found = PanelPromotion.model_validate(stored)
    assert (found.base_rate_margin, found.trading.side_bps) == (0.3, 12)


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        ({"kind": "strict"}, "expected the daily rule, found strict: the strict rule corrects for earlier recipes"),
        (PromotionRule(kind="strict"), "expected the daily rule, found strict"),
        ({"trading": {"policy": "threshold"}}, "expected no trading.policy, found threshold: a panel reports every"),
        ({"trading": {"threshold": 0.6}}, r"expected no trading.threshold, found 0\.6"),
        ({"trading": {"kind": "long_short"}}, "expected no trading.kind, found long_short"),
        ({"champion_margins": 1}, "champion_margins"),
    ],
)
def test_what_panels_do_not_have_is_refused_with_the_reason(stored: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        PanelPromotion.model_validate(stored)

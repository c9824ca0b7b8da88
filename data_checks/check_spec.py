"""The limits of the data checks that an experiment may change, and which failures stop a run.

The rules themselves are in `rule_definitions.py`. Nothing is computed here.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Severity = Literal["critical", "warning", "info"]
TolerableRule = Literal["unreal_price", "contradicting_price", "unreal_volume", "undecided_double"]


class CheckSpec(BaseModel):
    """Limits of the data checks, and which failures stop a run."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Data checks")

    stop_on: Literal["critical", "warning"] = Field("critical", description="Lowest severity that stops a run")
    tolerate: tuple[TolerableRule, ...] = Field((), description="Rules that quarantine bars without stopping the run")
    absurd_tick_factor: float = Field(
        3.0, gt=1, le=100, description="A low or high this many times away from open and close is a bad tick (factor)"
    )
    absurd_price_factor: float = Field(
        100.0,
        gt=1,
        le=1e6,
        description="A price that differs from the median close of its neighbours by more than this factor is refused",
    )
    max_quarantined_share: float = Field(0.02, ge=0, le=1, description="Largest accepted share of refused bars")
    min_bars: int = Field(200, ge=1, description="Smallest number of accepted bars")
    max_age_bars: float = Field(3.0, ge=0, description="Largest age of the newest bar at the time of the check (bars)")
    max_jump_factor: float = Field(
        2.0, gt=1, le=100, description="A larger factor between consecutive closes is reported as a jump"
    )
    max_flat_bars: int = Field(3, ge=0, description="A longer run of flat bars without volume is reported (bars)")
    volume_jump_factor: float = Field(
        50.0, gt=1, description="A lasting change of the volume by this factor is a change of its unit"
    )
    part_bar_share: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="A last bar below this share of the usual volume covers only part of its interval",
    )
    min_overlap_bars: int = Field(
        60, ge=10, description="Fewest labels in common with a second series for a comparison"
    )
    max_shift_bars: int = Field(3, ge=0, le=48, description="Largest shift tried against a second series (bars)")
    min_agreement: float = Field(0.75, ge=0.5, le=1, description="Smallest share of labels equal in a second series")
    max_price_difference: float = Field(
        0.05, gt=0, description="Largest median difference of closes from a second series (share of the price)"
    )
    min_windows: int = Field(100, ge=1, description="Fewest windows with a label")
    max_rise_share: float = Field(0.75, gt=0.5, le=1, description="Largest share of rises, and of falls, in the labels")

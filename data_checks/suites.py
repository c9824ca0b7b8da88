"""The suites: which rules bars and windows are held to, how grave each is, in which words, and with which limits.

`CheckSpec` is what an experiment may vary; `BAR_RULES` and `WINDOW_RULES` say the rest. The words here are used in
the messages of the command line and in the Data Docs alike. Nothing is computed here: the logic stands in `rules.py`.
The trap: rules are listed in order of precedence - a bar that breaks two is quarantined under the first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Severity = Literal["critical", "warning", "info"]
TolerableRule = Literal["unreal_price", "contradicting_price", "unreal_volume", "undecided_double"]


class CheckSpec(BaseModel):
    """What bars must keep to, and which failures stop a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stop_on: Literal["critical", "warning"] = Field("critical", description="Least grave failure that stops a run")
    tolerate: tuple[TolerableRule, ...] = Field(
        (), description="Rules that only quarantine the bars that break them, and no longer stop a run"
    )
    absurd_tick_factor: float = Field(
        3.0, gt=1, le=100, description="A low or high this many times away from open and close is a bad tick"
    )
    max_quarantined_share: float = Field(0.02, ge=0, le=1, description="Largest share of refused bars")
    min_bars: int = Field(200, ge=1, description="Fewest accepted bars")
    max_age_bars: float = Field(3.0, ge=0, description="Largest age of the newest bar at the check, in bars")
    max_jump_factor: float = Field(
        2.0, gt=1, le=100, description="Largest factor between one close and the next that is not reported"
    )
    max_flat_bars: int = Field(3, ge=0, description="Longest run of flat bars without volume that is not reported")
    volume_jump_factor: float = Field(
        50.0, gt=1, description="Lasting change of volume by this factor is a change of its unit"
    )
    part_bar_share: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="A first or last bar under this share of usual volume covers a part of its interval",
    )
    min_overlap_bars: int = Field(60, ge=10, description="Fewest labels in common with a second series")
    max_shift_bars: int = Field(3, ge=0, le=48, description="Shifts tried against a second series, in bars")
    min_agreement: float = Field(0.75, ge=0.5, le=1, description="Least share of labels equal to a second series'")
    max_price_difference: float = Field(
        0.05, gt=0, description="Largest median difference of closes from a second series, as a share of the price"
    )
    min_windows: int = Field(100, ge=1, description="Fewest windows with a label")
    max_rise_share: float = Field(0.75, gt=0.5, le=1, description="Largest share of rises, and of falls, in the labels")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule in words.

    Attributes:
        name: what a quarantined bar and a result are filed under.
        expectation: the type of its Great Expectations expectation.
        severity: how grave a failure is, unless the spec tolerates it.
        expected: what must hold; names in braces are fields of the spec or arguments of the expectation.
        remedy: what to do when it does not.
        columns: columns that the rule reads bar by bar; empty for a rule about the whole series.
        quarantines: whether the bars that break it are refused.
    """

    name: str
    expectation: str
    severity: Severity
    expected: str
    remedy: str
    columns: tuple[str, ...] = ()
    quarantines: bool = False

    def statement(self, limits: Mapping[str, Any]) -> str:
        """Return what is expected, with the limits filled in."""
        return self.expected.format(**limits)

    def advice(self) -> str:
        """Return what to do when the rule does not hold."""
        return self.remedy[0].lower() + self.remedy[1:].format(rule=self.name)


NEVER_RELEASED = ("unreal_price", "unreal_volume", "absent_price", "off_grid")  # nobody's word makes a bar of these
_PRICES = ("open", "high", "low", "close")
_ALL = ("timestamp", *_PRICES, "volume")
_MEND = "Correct these bars at the source, or accept the loss of them with --check.tolerate {rule}"

BAR_RULES: tuple[Rule, ...] = (
    Rule(
        "unreal_price",
        "expect_prices_to_be_positive",
        "critical",
        "Each price is positive and finite",
        _MEND,
        ("timestamp", *_PRICES),
        quarantines=True,
    ),
    Rule(
        "contradicting_price",
        "expect_low_and_high_to_span_prices",
        "critical",
        "low <= open, close <= high",
        _MEND,
        ("timestamp", *_PRICES, "released"),
        quarantines=True,
    ),
    Rule(
        "unreal_volume",
        "expect_volumes_to_be_finite",
        "critical",
        "volume is zero or more, and finite",
        _MEND,
        ("timestamp", "volume"),
        quarantines=True,
    ),
    Rule(
        "undecided_double",
        "expect_doubles_to_be_decidable",
        "critical",
        "Bars of one open time are copies, or earlier states, of the fullest of them",
        "Keep the right one of these bars in the source, or accept the loss of both with --check.tolerate {rule}",
        (*_ALL, "released"),
        quarantines=True,
    ),
    Rule(
        "absent_price",
        "expect_prices_to_be_present",
        "warning",
        "Each bar has its four prices",
        "Nothing, if the source has no trade there: such bars are gaps",
        ("timestamp", *_PRICES),
        quarantines=True,
    ),
    Rule(
        "lesser_double",
        "expect_times_to_occur_once",
        "warning",
        "Each open time occurs once",
        "Nothing: the fuller bar of each time was kept",
        (*_ALL, "released"),
        quarantines=True,
    ),
    Rule(
        "absurd_tick",
        "expect_ticks_near_open_and_close",
        "warning",
        "low and high are less than {absurd_tick_factor:g} times away from open and close",
        "Nothing, unless there are many: windows across these bars are left out",
        ("timestamp", *_PRICES, "released"),
        quarantines=True,
    ),
    Rule(
        "off_grid",
        "expect_times_on_grid",
        "warning",
        "Bars open at whole steps of {interval} from one another",
        "Look whether --source.interval is right",
        ("timestamp", "close"),
        quarantines=True,
    ),
    Rule(
        "future_bar",
        "expect_no_future_bar",
        "warning",
        "No bar opens after {as_of}",
        "Look at the time zone of the source, or at the as-of time",
        ("timestamp", "close"),
    ),
    Rule(
        "unfinished_bar",
        "expect_bars_to_have_closed",
        "info",
        "Every bar has closed by {as_of}",
        "Nothing: the bar is left out until it has closed",
        ("timestamp", "close"),
    ),
    Rule(
        "part_bar",
        "expect_edge_bars_to_be_whole",
        "warning",
        "The first and the last bar are whole (volume at least {part_bar_share:.0%} of their neighbours')",
        "Nothing: the bar comes whole with a later ingest",
        (*_ALL, "verdict", "released"),
        quarantines=True,
    ),
    Rule(
        "running_back",
        "expect_times_to_increase",
        "warning",
        "Bars stand oldest first",
        "Nothing: they were sorted",
        ("timestamp", "close"),
    ),
    Rule(
        "unknown_volume",
        "expect_volumes_to_be_known",
        "info",
        "Volume is known from the first bar that has one",
        "Leave volume out of the features, or fill it at the source",
        ("timestamp", "volume"),
    ),
    Rule(
        "too_many_refused",
        "expect_few_bars_refused",
        "critical",
        "At most {max_quarantined_share:.1%} of the bars are refused",
        "Look at the quarantine: so many bad bars mean a wrong file layout more often than bad luck",
    ),
    Rule(
        "enough_bars",
        "expect_enough_bars",
        "critical",
        "At least {min_bars} bars remain",
        "Give a longer history, or lower --check.min-bars",
    ),
    Rule(
        "gap",
        "expect_gapless_clock",
        "warning",
        "The clock of {interval} has no gap",
        "Nothing, if few: no window crosses a gap. Otherwise take a fuller source",
    ),
    Rule(
        "stale",
        "expect_fresh_bars",
        "warning",
        "The newest bar closed at most {max_age_bars:g} bars before {as_of}",
        "Ingest newer bars",
    ),
    Rule(
        "clock_phase",
        "expect_clock_on_utc_grid",
        "info",
        "Bars open on the UTC grid of {interval}",
        "If the source's days start elsewhere than at 00:00 UTC, name its zone with --source.timezone",
    ),
    Rule(
        "price_jump",
        "expect_no_price_jump",
        "warning",
        "No close is more than {max_jump_factor:g} times the one before, or under that part of it",
        "Look whether these moves happened: compare with a second source (--source.cross-check)",
    ),
    Rule(
        "flat_run",
        "expect_no_flat_run",
        "warning",
        "No more than {max_flat_bars} bars in a row without a move and without volume",
        "Leave these bars out if the market stood still: their labels are all falls",
    ),
    Rule(
        "volume_unit",
        "expect_volume_to_keep_its_unit",
        "warning",
        "The volume keeps its unit (no lasting change by a factor of {volume_jump_factor:g})",
        "Name the volume column with --source.columns, or leave volume out of the features",
    ),
    Rule(
        "second_series",
        "expect_agreement_with_second_series",
        "critical",
        "Labels and prices agree with the second series (at least {min_agreement:.0%} of labels)",
        "Correct the times of the source (--source.timezone, --source.bar-stamp), or look which of the two is right",
    ),
)

WINDOW_RULES: tuple[Rule, ...] = (
    Rule(
        "enough_windows",
        "expect_enough_windows",
        "critical",
        "At least {min_windows} windows with a label",
        "Give a longer history, or shorten the lookback",
    ),
    Rule(
        "finite_features",
        "expect_features_to_be_finite",
        "critical",
        "Each feature of each window is finite",
        "Leave out the feature that is unknown (volume), or quarantine its bars",
        ("decided_at", "finite"),
    ),
    Rule(
        "window_gap",
        "expect_windows_without_gap",
        "critical",
        "No window crosses a gap",
        "This is a fault of the windowing, not of the bars: report it",
        ("decided_at", "crosses_gap"),
    ),
    Rule(
        "label_time",
        "expect_labels_at_the_horizon",
        "critical",
        "Each label is fixed at the horizon of {horizon_bars} (in bars after its decision)",
        "This is a fault of the windowing, not of the bars: report it",
        ("decided_at", "resolved_at"),
    ),
    Rule(
        "both_labels",
        "expect_both_labels",
        "critical",
        "Both rises and falls occur",
        "A series that only rises or only falls teaches nothing: look at the bars",
    ),
    Rule(
        "rise_share",
        "expect_plausible_share_of_rises",
        "warning",
        "The share of rises lies between {min_rise_share:.0%} and {max_rise_share:.0%}",
        "Look for constant prices and for a wrong horizon",
    ),
)


@dataclass(frozen=True, slots=True)
class Suite:
    """Rules with their limits: what one check holds its bars, or windows, to.

    Attributes:
        name: what the suite is called in the Data Docs.
        rules: the rules, in the order of precedence.
        limits: the spec's fields and what else the rules need, JSON-able.
        tolerate: rules whose failures are warnings.
    """

    name: str
    rules: tuple[Rule, ...]
    limits: dict[str, Any]
    tolerate: tuple[str, ...]

    def severity(self, rule: Rule) -> Severity:
        """Return how grave a failure of `rule` is."""
        return "warning" if rule.name in self.tolerate else rule.severity


def applicable_rules(*, with_clock: bool, with_second_series: bool) -> tuple[Rule, ...]:
    """Return the rules of bars that can be asked: some need to know the time, one a second series."""
    unasked = set() if with_clock else {rule.name for rule in BAR_RULES if "{as_of}" in rule.expected}
    unasked |= set() if with_second_series else {"second_series"}
    return tuple(rule for rule in BAR_RULES if rule.name not in unasked)

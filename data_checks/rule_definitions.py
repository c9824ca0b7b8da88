"""The suites of rules for bars and windows: severity, text and limits of each rule.

The limits that an experiment may change are in `check_spec.py`; `BAR_RULES` and `WINDOW_RULES` hold everything else.
Messages of the command line and the Data Docs use the texts of this file. Nothing is computed here: the logic is in
`bar_rules.py` and `window_rules.py`. Caution: rules are listed in order of precedence; a bar that violates two is
quarantined under the first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

from data_checks.check_spec import Severity
from model.plurals import counted

COUNTED = ("bar", "window")


class _Counts(Formatter):
    """Formats `{horizon_bars:bar}` as a number with its noun: `1 bar`, `2 bars`."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec not in COUNTED:
            return str(super().format_field(value, format_spec))
        return counted(int(value), format_spec) if value == int(value) else f"{value:g} {format_spec}s"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: severity, text, and the columns that it reads.

    Attributes:
        name: in results and in the quarantine table.
        expectation: type of its Great Expectations expectation.
        severity: of a failure, unless the spec tolerates it.
        expected: what the rule requires; names in braces are fields of the limits, `:bar` and `:window` count them.
        remedy: what to do when it fails.
        columns: columns that the rule reads bar by bar; empty for a rule about the whole series.
        quarantines: whether bars that violate it are refused.
    """

    name: str
    expectation: str
    severity: Severity
    expected: str
    remedy: str
    columns: tuple[str, ...] = ()
    quarantines: bool = False

    def statement(self, limits: Mapping[str, Any]) -> str:
        """Return the requirement, with the limits filled in."""
        return _Counts().format(self.expected, **limits)

    def advice(self) -> str:
        """Return what to do when the rule fails."""
        return self.remedy[0].lower() + self.remedy[1:].format(rule=self.name)


FEWEST_INGESTED = 200  # own choice: one bad bar of the 51 that a daily ingest reads is no misread layout
REMOVED = "removed_bar"  # of bars that a person removed
NEVER_RELEASED = (
    "unreal_price",
    "unreal_volume",
    "absent_price",
    "off_grid",
)  # unusable even if released
_PRICES = ("open", "high", "low", "close")
_ALL = ("timestamp", *_PRICES, "volume")
_CORRECT = "Correct these bars in the source, or continue without them: --check.tolerate {rule}"

BAR_RULES: tuple[Rule, ...] = (
    Rule(
        REMOVED,
        "expect_no_removed_bar",
        "warning",
        "No bar was removed by hand (`riseorfall remove`)",
        "Nothing: these bars stay in quarantine. `riseorfall release` accepts them again",
        ("timestamp", "close", "released", "removed"),
        quarantines=True,
    ),
    Rule(
        "unreal_price",
        "expect_prices_to_be_positive",
        "critical",
        "Each price is positive and finite",
        _CORRECT,
        ("timestamp", *_PRICES),
        quarantines=True,
    ),
    Rule(
        "contradicting_price",
        "expect_low_and_high_to_span_prices",
        "critical",
        "low <= open, close <= high",
        _CORRECT,
        ("timestamp", *_PRICES, "released"),
        quarantines=True,
    ),
    Rule(
        "unreal_volume",
        "expect_volumes_to_be_finite",
        "critical",
        "Volume is zero or more, and finite",
        _CORRECT,
        ("timestamp", "volume"),
        quarantines=True,
    ),
    Rule(
        "undecided_double",
        "expect_doubles_to_be_decidable",
        "warning",
        "Bars with the same open time are identical to, or earlier states of, the most complete one",
        "Nothing: both are refused, which leaves a gap. To keep one, remove the other from the source",
        (*_ALL, "released"),
        quarantines=True,
    ),
    Rule(
        "absent_price",
        "expect_prices_to_be_present",
        "warning",
        "Each bar has four prices",
        "Nothing, if there were no trades: such bars become gaps",
        ("timestamp", *_PRICES),
        quarantines=True,
    ),
    Rule(
        "lesser_double",
        "expect_times_to_occur_once",
        "warning",
        "Each open time occurs once",
        "Nothing: the most complete bar of each time was kept",
        (*_ALL, "released"),
        quarantines=True,
    ),
    Rule(
        "absurd_tick",
        "expect_ticks_near_open_and_close",
        "warning",
        "Low and high are less than {absurd_tick_factor:g} times away from open and close",
        "Nothing, unless there are many: no window contains these bars",
        ("timestamp", *_PRICES, "released"),
        quarantines=True,
    ),
    Rule(
        "off_grid",
        "expect_times_on_grid",
        "warning",
        "Open times are whole multiples of {interval} apart",
        "Check --source.interval",
        ("timestamp", "close"),
        quarantines=True,
    ),
    Rule(
        "absurd_price",
        "expect_prices_near_their_neighbours",
        "warning",
        "Prices differ from the median close of the 21 nearest bars by less than a factor of {absurd_price_factor:g}",
        "Nothing if they are wrong: no window contains these bars. A real change of the level is accepted once ten "
        "bars have followed it, or by `riseorfall release`",
        ("timestamp", *_PRICES, "verdict", "released"),
        quarantines=True,
    ),
    Rule(
        "future_bar",
        "expect_no_future_bar",
        "warning",
        "No bar opens after {as_of}",
        "Check the time zone of the source (--source.timezone) and the as-of time",
        ("timestamp", "close"),
    ),
    Rule(
        "unfinished_bar",
        "expect_bars_to_have_closed",
        "info",
        "Each bar has closed by {as_of}",
        "Nothing: the bar is used once it has closed",
        ("timestamp", "close"),
    ),
    Rule(
        "part_bar",
        "expect_edge_bars_to_be_whole",
        "warning",
        "The first and the last bar cover their whole interval (their volume is not far below that of the nearest 20)",
        "Nothing for a last bar: a later ingest brings the complete one. `riseorfall release` accepts a whole bar",
        (*_ALL, "verdict", "released"),
        quarantines=True,
    ),
    Rule(
        "running_back",
        "expect_times_to_increase",
        "warning",
        "Bars are ordered oldest first",
        "Nothing: they were sorted",
        ("timestamp", "close"),
    ),
    Rule(
        "unknown_volume",
        "expect_volumes_to_be_known",
        "info",
        "Each bar has a volume, from the first bar with a volume on",
        "Remove volume from the features, or complete it in the source",
        ("timestamp", "volume"),
    ),
    Rule(
        "too_many_refused",
        "expect_few_bars_refused",
        "critical",
        "At most {max_quarantined_share:.1%} of all bars are refused, and at most {max_quarantined_share:.1%} of those "
        f"read by this ingest (fewer than {FEWEST_INGESTED} count as {FEWEST_INGESTED})",
        "Run `riseorfall quarantine`: so many refused bars usually mean that the file layout was misread. If the bars "
        "are as the source has them, raise --check.max-quarantined-share",
    ),
    Rule(
        "enough_bars",
        "expect_enough_bars",
        "critical",
        "The checks leave at least {min_bars:bar}",
        "Provide a longer history, or lower --check.min-bars",
    ),
    Rule(
        "gap",
        "expect_gapless_clock",
        "warning",
        "No {interval} bar is missing between the first and the last",
        "Nothing, if they are few: windows and labels that need a missing bar are left out. Otherwise use a more "
        "complete source",
    ),
    Rule(
        "stale",
        "expect_fresh_bars",
        "warning",
        "The newest bar closed at most {max_age_bars:bar} before {as_of}",
        "Ingest newer bars",
    ),
    Rule(
        "clock_phase",
        "expect_clock_on_utc_grid",
        "info",
        "Bars open on the UTC grid of {interval}",
        "If the days of the source do not start at 00:00 UTC, set its zone: --source.timezone",
    ),
    Rule(
        "price_jump",
        "expect_no_price_jump",
        "warning",
        "Consecutive closes differ by a factor of at most {max_jump_factor:g}",
        "Compare with a second source (--source.cross-check) whether these moves are real",
    ),
    Rule(
        "flat_run",
        "expect_no_flat_run",
        "warning",
        "At most {max_flat_bars:bar} in a row without price range and volume",
        "Remove these bars if there was no trading: their labels are all falls",
    ),
    Rule(
        "volume_unit",
        "expect_volume_to_keep_its_unit",
        "warning",
        "The unit of the volume does not change (no lasting change by a factor of {volume_jump_factor:g})",
        "Choose the volume column with --source.columns, or remove volume from the features",
    ),
    Rule(
        "second_series",
        "expect_agreement_with_second_series",
        "critical",
        "Labels and prices agree with the second series (at least {min_agreement:.0%} of labels)",
        "Correct the times of the source (--source.timezone, --source.bar-stamp), or find out which series is wrong",
    ),
)

WINDOW_RULES: tuple[Rule, ...] = (
    Rule(
        "enough_windows",
        "expect_enough_windows",
        "critical",
        "At least {min_windows:window} with a label",
        "Provide a longer history, or shorten the lookback",
    ),
    Rule(
        "finite_features",
        "expect_features_to_be_finite",
        "critical",
        "Each feature of each window is finite",
        "Remove the feature with unknown values (volume), or quarantine these bars",
        ("decided_at", "finite"),
    ),
    Rule(
        "window_gap",
        "expect_windows_without_gap",
        "critical",
        "No window crosses a gap",
        "Report this as a bug of the windowing; the bars are not the cause",
        ("decided_at", "crosses_gap"),
    ),
    Rule(
        "label_time",
        "expect_labels_at_the_horizon",
        "critical",
        "Each label is resolved {horizon_bars:bar} after its decision",
        "Report this as a bug of the windowing; the bars are not the cause",
        ("decided_at", "resolved_at"),
    ),
    Rule(
        "both_labels",
        "expect_both_labels",
        "critical",
        "Both labels, rise and fall, occur",
        "Check the bars: a network cannot learn from one class only",
    ),
    Rule(
        "rise_share",
        "expect_plausible_share_of_rises",
        "warning",
        "The share of rises is between {min_rise_share:.0%} and {max_rise_share:.0%}",
        "Check for constant prices and for a wrong horizon",
    ),
)


@dataclass(frozen=True, slots=True)
class Suite:
    """The rules of one check, with their limits.

    Attributes:
        name: of the suite in the Data Docs.
        rules: the rules, in the order of precedence.
        limits: the fields of the spec and everything else that the rules need, JSON values.
        tolerate: rules whose failures are warnings.
    """

    name: str
    rules: tuple[Rule, ...]
    limits: dict[str, Any]
    tolerate: tuple[str, ...]

    def severity(self, rule: Rule) -> Severity:
        """Return the severity of a failure of `rule`."""
        return "warning" if rule.name in self.tolerate else rule.severity


def applicable_rules(*, with_clock: bool, with_second_series: bool) -> tuple[Rule, ...]:
    """Return the rules for bars that can be applied: some need the current time, one needs a second series."""
    omitted = set() if with_clock else {rule.name for rule in BAR_RULES if "{as_of}" in rule.expected}
    omitted |= set() if with_second_series else {"second_series"}
    return tuple(rule for rule in BAR_RULES if rule.name not in omitted)

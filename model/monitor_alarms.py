"""Raise alarms about a champion from its live score, drift, age and missing predictions; each names its numbers.

Knows the results of `model.live_score` and `model.drift`, limits, and which alarms were raised before; no store and no
clock.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from model.drift import Drift
from model.live_score import LiveScore, ServiceEvidence

AlarmKind = Literal["degraded", "drifted", "stale", "missing"]


class MonitorSpec(BaseModel):
    """Limits of the monitor."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Alarm limits")

    false_alarm_rate: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="Probability that versions as good as their records ever raise a score alarm: half for the "
        "service-wide e-process, half shared by all versions",
    )
    score_tolerance: float = Field(
        default=0.005, ge=0, le=1, description="Mean log loss above the record's that is tolerated (nats per decision)"
    )
    recent_bars: int = Field(
        default=120, ge=30, le=100_000, description="Newest bars compared with the champion's training bars"
    )
    drift_slack: float = Field(
        default=1.3,
        ge=1,
        le=10,
        description="A drift alarm needs a distance above that of the most unusual training stretch times this factor",
    )
    max_level_factor: float = Field(
        default=3.0, gt=1, le=1000, description="Largest ratio of the price level to that of the last training bars"
    )
    max_champion_age_days: float = Field(
        default=30.0, gt=0, le=10_000, description="Largest age of the champion's newest training bar (days)"
    )
    max_missing_share: float = Field(
        default=0.1, ge=0, le=1, description="Largest share of recent decisions without a prediction"
    )
    cool_down_days: float = Field(
        default=7.0, ge=0, le=1000, description="Days until an alarm that persists is raised again"
    )


@dataclass(frozen=True, slots=True)
class Alarm:
    """A problem that needs a person or a retrain."""

    kind: AlarmKind
    message: str


def find_alarms(
    score: LiveScore,
    service: ServiceEvidence,
    drift: tuple[Drift, ...],
    age_days: float,
    missing: int,
    expected: int,
    spec: MonitorSpec,
) -> tuple[Alarm, ...]:
    """Return an alarm for each limit that is exceeded, with its numbers in one sentence.

    Args:
        score: live score of the champion.
        service: evidence across all versions that served.
        drift: what `measure_drift` returned; empty where there are too few bars.
        age_days: age of the champion's newest training bar.
        missing: recent decisions without a prediction.
        expected: recent decisions.
        spec: limits.
    """
    found = []
    if score.degraded:
        worse = score.log_loss[0] - score.base_rate_loss
        # Without the tolerance the allowance is the record's own excess loss, at its upper bound: negative with skill.
        lost = score.allowed_excess < spec.score_tolerance and worse >= 0
        found.append(
            Alarm(
                "degraded",
                f"log loss {score.log_loss[0]:.4f} over {score.counted}, {worse:+.4f} vs. the base rate "
                f"where its record allows {score.allowed_excess:+.4f}; e-value {score.e_values.max():.0f}, "
                f"threshold {score.threshold:.0f}"
                + ("; the skill of its out-of-sample record is not seen on live bars" if lost else ""),
            )
        )
    elif service.degraded:
        served = f"the {service.count} predictions served"
        if service.of_closes:
            served = f"the predictions served at {service.count} closes"
        found.append(
            Alarm(
                "degraded",
                f"{served} are worse than the records of their versions allow; "
                f"service-wide e-value {service.e_value:.0f}, threshold {service.threshold:.0f}",
            )
        )
    moved = [_describe_drift(each) for each in drift if each.drifted]
    if moved:
        found.append(Alarm("drifted", f"recent bars differ from the training bars: {'; '.join(moved)}"))
    if age_days > spec.max_champion_age_days:
        message = f"newest training bar {age_days:.1f} days old; limit {spec.max_champion_age_days:g} days"
        found.append(Alarm("stale", message))
    if missing > spec.max_missing_share * expected:
        found.append(Alarm("missing", f"{missing} of the last {expected} decisions have no prediction made in time"))
    return tuple(found)


def _describe_drift(drift: Drift) -> str:
    if drift.name == "level":
        return f"price {drift.psi:.3g} times that of the last training bars (limit {drift.psi_limit:g})"
    ks, index = f"KS {drift.ks:.2f} (limit {drift.ks_limit:.2f})", f"PSI {drift.psi:.2f} (limit {drift.psi_limit:.2f})"
    return f"{drift.name} {ks}, {index}"


def fresh_alarms(
    found: Sequence[Alarm], raised: Iterable[tuple[datetime, Sequence[str]]], now: datetime, cool_down: timedelta
) -> tuple[Alarm, ...]:
    """Return the alarms to raise: one that persists is raised again only after its cool-down.

    So nothing that alarms start can loop.

    Args:
        found: what `find_alarms` returned.
        raised: time of each earlier run, UTC, and the kinds of the alarms that it raised.
        now: time of this run, UTC.
        cool_down: shortest time between two alarms of a kind.
    """
    recent = {kind for time, kinds in raised if now - time < cool_down for kind in kinds}
    return tuple(alarm for alarm in found if alarm.kind not in recent)

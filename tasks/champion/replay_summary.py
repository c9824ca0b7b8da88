"""Results of a replay: its decisions, and the scores of promoting as decided, never, and always, on the same bars."""

import math
from collections import Counter
from dataclasses import dataclass
from datetime import date
from shlex import quote
from typing import Any

from model.bootstrap import PairedDifference
from model.plurals import counted
from tasks.champion.live_comparison import MIN_DECISIONS
from tasks.store.decision_log import LoggedDecision

STRATEGIES = ("replayed", "never promoting", "always promoting")


@dataclass(frozen=True, slots=True)
class ReplaySummary:
    """Results of a replay.

    Attributes:
        name: of the replay.
        first: first day.
        last: last day.
        decisions: rows of the decision log, oldest first.
        scores: `METRICS` by strategy on the same decisions. Strategies: `replayed`, the champion of each day; `never
            promoting`, the first champion throughout; `always promoting`, the challenger of each day.
        predictions: decisions scored.
        cost: log loss of never promoting minus that of the replay, nats; positive where promoting was better. None
            with fewer than `MIN_DECISIONS` predictions.
        run_id: MLflow run of the summary.
    """

    name: str
    first: date
    last: date
    decisions: tuple[LoggedDecision, ...]
    scores: dict[str, dict[str, float]]
    predictions: int
    cost: PairedDifference | None
    run_id: str = ""

    @property
    def outcome(self) -> str:
        """Return the number of decisions and of promotions, for the name of a run."""
        promoted = sum(row.action == "promote" for row in self.decisions)
        return f"{counted(len(self.decisions), 'decision')}, {promoted} promoted"

    @property
    def title(self) -> str:
        """Return the days and their outcome, for the name of a run."""
        return f"{self.first} to {self.last}: {self.outcome}"

    @property
    def caveat(self) -> str:
        """Return the warning that the scores are of few decisions; empty where they are of enough."""
        if self.predictions >= MIN_DECISIONS:
            return ""
        return (
            f"{counted(self.predictions, 'scored decision')}: too few to compare, differences between these scores "
            f"may be chance; the difference has an interval from {MIN_DECISIONS} on"
        )

    def lines(self) -> list[str]:
        """Return the results as text lines."""
        counts = Counter(row.action for row in self.decisions)
        lines = [
            f"{self.first} to {self.last}: {len(self.decisions)} decisions, "
            + ", ".join(f"{action} {count}" for action, count in counts.items()),
        ]
        if self.caveat:
            lines.append(self.caveat)
        if self.predictions:
            lines += [
                f"{name}: log loss {numbers['log_loss']:.4f}, accuracy {numbers['accuracy']:.1%} on "
                f"{self.predictions} decisions"
                for name, numbers in self.scores.items()
            ]
        if self.cost is not None:
            lines.append(
                f"cost of never promoting: {self.cost.mean:+.4f} nats a decision "
                f"[{self.cost.low:+.4f}, {self.cost.high:+.4f}]"
            )
        return [*lines, f"all reasons: `riseorfall decisions --name {quote(self.name)} --last 0`"]

    def to_dict(self) -> dict[str, Any]:
        """Return the results as JSON values."""
        cost = self.cost
        return {
            "name": self.name,
            "first": self.first.isoformat(),
            "last": self.last.isoformat(),
            "predictions": self.predictions,
            "scores": {
                strategy: {name: value if math.isfinite(value) else None for name, value in numbers.items()}
                for strategy, numbers in self.scores.items()
            },
            "cost_of_not_promoting": None
            if cost is None
            else {"log_loss": cost.mean, "low": cost.low, "high": cost.high, "p_value": cost.p_value},
            "champions": [
                {"as_of": row.decided_at.isoformat(), "action": row.action, "champion": row.champion_after}
                for row in self.decisions
            ],
            "run_id": self.run_id,
        }

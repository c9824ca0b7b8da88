"""Replay the daily retrain and its gate on each day of a span, from stored bars.

A replay has its own name (`BTC-USD-1d-replay`) in registry, decision log and prediction log, so it never touches the
real champion. A day is one decision: version, predictions, row of the decision log, written in this order and found
again if they exist, so an interrupted replay resumes with the same result. The rows are those of the schedule, which
predicts a bar before the retrain at its close. Caution: bars are read as they are stored now; a value that an exchange
revised later is replayed as revised.
"""

import hashlib
import json
import logging
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property

import numpy as np

from model.bars import Bars
from model.errors import SpecError
from model.final_fit import fit_final_network
from model.folds import naming_bars_needed, split_folds
from model.metrics import METRICS, score
from model.promotion_rule import PromotionRule
from model.recipe import Recipe
from model.times import iso_text, to_datetime, to_datetime64
from model.walk_forward import trainer_for, walk_forward
from model.windows import cut_windows
from tasks.champion.challenger_decision import log_outcome, logged_decision
from tasks.champion.challenger_vs_champion import compare_with_champion
from tasks.champion.commit_decision import commit_decision, sync_champion_alias, timeline_steps
from tasks.champion.corrected_skill import record_look
from tasks.champion.replay_scores import score_replay
from tasks.champion.replay_summary import STRATEGIES, ReplaySummary
from tasks.champion.shadow_predictions import shadow_predictions
from tasks.champion.shadow_spec import ShadowSpec
from tasks.champion.shadow_versions import shadow_versions
from tasks.champion.unchanged_inputs import unchanged_row
from tasks.champion.warm_start import start_of_final, start_of_fold
from tasks.registry.experiment_page import NOTE_TAG
from tasks.registry.loaded_version import OpenedVersion, open_version
from tasks.registry.mlflow_run_names import SHORT_HASH
from tasks.registry.model_files import ModelFiles
from tasks.registry.model_registry import Version
from tasks.registry.run_artifacts import (
    REPLAY_SUMMARY,
    log_fold_networks,
    log_probe,
    log_record,
    log_validation,
    picture_path,
)
from tasks.registry.run_metrics import score_metrics
from tasks.settings import Settings
from tasks.store.bar_store import BarStore
from tasks.store.bars_hash import hash_bars
from tasks.store.bars_ref import BarsRef
from tasks.store.decision_log import LoggedDecision, former_champions
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

DAY = timedelta(days=1)


@dataclass
class Replay:
    """A replay of one recipe and rule over days; the bars are read once.

    Attributes:
        recipe: what is trained each day.
        rule: what it must show.
        first: first day; its decision is made at its beginning (00:00 UTC) with the bars closed by then.
        last: last day.
        settings: where bars, registry and decision log are.
        name: in registry and decision log; empty takes the series' name with `-replay`.
    """

    recipe: Recipe
    rule: PromotionRule
    first: date
    last: date
    settings: Settings = field(default_factory=Settings)
    name: str = ""

    def __post_init__(self) -> None:
        """Open registry and decision log, and check that this replay can continue.

        Raises:
            SpecError: the span is empty, or the decision log holds another replay of this name.
        """
        if self.last < self.first:
            raise SpecError(f"replay: expected --to at or after --from, found {self.last} before {self.first}")
        self.series = self.recipe.series
        self.name = self.name or f"{self.series.name}-replay"
        if self.name == self.series.name:
            raise SpecError(f"replay: expected a name of its own, found the series' own, {self.name}")
        self.workspace = Workspace(self.settings, self.series, self.name, "replay")
        self._opened: dict[str, OpenedVersion] = {}  # versions that predict, in memory
        self._require_continuation()

    @cached_property
    def ref(self) -> BarsRef:
        """The stored bars at their present version."""
        return self._store.ref(self.series)

    @cached_property
    def bars(self) -> Bars:
        """All stored bars; those after the span are needed to score it."""
        return self._store.read_bars(self.ref)

    @cached_property
    def _store(self) -> BarStore:
        return self.workspace.bar_store

    @property
    def days(self) -> tuple[date, ...]:
        """All days of the span."""
        return tuple(self.first + n * DAY for n in range((self.last - self.first).days + 1))

    @property
    def digest(self) -> str:
        """Identity of recipe and rule."""
        text = self.recipe.identity + self.rule.model_dump_json()
        return hashlib.sha256(text.encode()).hexdigest()[:SHORT_HASH]

    def decision_id(self, day: date) -> str:
        """Return the id of a day's decision, the same in every run."""
        return f"{self.name}@{day.isoformat()}#{self.digest}"

    def pending(self) -> tuple[date, ...]:
        """Return the days that are not decided yet."""
        done = {row.decision_id for row in self.workspace.decision_log.rows(self.name)}
        return tuple(day for day in self.days if self.decision_id(day) not in done)

    def _require_continuation(self) -> None:
        """Raise where this replay cannot continue the decision log of its name."""
        rows = self.workspace.decision_log.rows(self.name)
        others = [row for row in rows if not row.decision_id.endswith(f"#{self.digest}")]
        if others:
            raise SpecError(
                f"replay {self.name}: its decision log holds days of another recipe or rule (first "
                f"{others[0].decided_at}). Give this replay another --name."
            )
        pending = self.pending()
        newest = max((row.decided_at.date() for row in rows), default=None)
        if newest is not None and pending and pending[0] < newest:
            raise SpecError(
                f"replay {self.name}: expected days after {newest}, its last one, found {pending[0]}: an earlier day "
                "cannot be added. Give this replay another --name."
            )

    def run_day(self, day: date) -> LoggedDecision:
        """Retrain and decide as of the beginning of a day; a day that was decided before is returned unchanged.

        Raises:
            BarsTooShort: the bars closed by then do not suffice.
        """
        done = self.workspace.decision_log.find_decision(self.decision_id(day))
        if done is not None:
            return done
        as_of = datetime.combine(day, time(0), UTC)
        bars = self.bars.closed_by(to_datetime64(as_of))
        row = self._repeat(day, as_of, bars) or self._decide(day, as_of, bars)
        self._predict(row, as_of)
        commit_decision(self.workspace, row, smoke_test=_skip_smoke_test)
        if row.action != "unchanged":  # a day without a new bar has no run of its own
            log_outcome(self.workspace, row, as_of)
        return row

    def _repeat(self, day: date, as_of: datetime, bars: Bars) -> LoggedDecision | None:
        """Return the row of a day without a new bar, which repeats the last decision; None where a bar is new."""
        decided = [row for row in self.workspace.decision_log.rows(self.name) if row.action != "unchanged"]
        if not decided or decided[-1].bars_sha256 != hash_bars(bars):
            return None
        return unchanged_row(decided[-1], self.decision_id(day), as_of)

    def _decide(self, day: date, as_of: datetime, bars: Bars) -> LoggedDecision:
        """Return the decision about the day's version."""
        version = self._version_of(day, bars)
        record_look(self.workspace, "replay", self.decision_id(day), self.recipe, version.run_id, as_of)
        state = sync_champion_alias(self.workspace)
        found = compare_with_champion(self.workspace, version, state, bars, self.rule, self.recipe.training.seed)
        return replace(
            logged_decision(self.workspace, version, state, found, self.rule, self.ref),
            decision_id=self.decision_id(day),
            decided_at=as_of,
            bars_sha256=hash_bars(bars),
        )

    def _version_of(self, day: date, bars: Bars) -> Version:
        """Return the day's version; train it if an interrupted run has not done so already."""
        existing = self.workspace.registry.find_versions("as_of", self.decision_id(day))
        if existing:
            return self.workspace.registry.version(existing[0])
        from model.network_files import network_to_bytes, network_to_onnx  # imported here: loads TensorFlow

        recipe = self.recipe
        began, trainer = datetime.now(UTC), trainer_for(recipe)
        found = f"{recipe.symbol} {recipe.interval}: {len(bars)} bars had closed by {day}"
        with naming_bars_needed(found, recipe.window, recipe.folds):
            windows = cut_windows(bars, recipe.window)
            resolved = windows.resolved()
            folds = split_folds(resolved, recipe.folds)
        known = (self.workspace.registry, self.workspace.decision_log, recipe, resolved)
        walked = walk_forward(
            trainer,
            resolved,
            folds,
            recipe.training.seed,
            start=lambda fold: start_of_fold(*known, fold),
            threads=recipe.folds.threads,
        )
        final = fit_final_network(trainer, windows, walked.best_epochs, start=start_of_final(*known, folds))
        network = trainer.keras_model(final.fitted)
        tags = {"as_of": day.isoformat(), "recipe": recipe.digest}
        run_id = self.workspace.runs.start_run(f"replay {day}", tags, started_at=began)
        log_record(self.workspace.runs, run_id, walked.record, {"base_rate": walked.base_rate})
        log_validation(self.workspace.runs, run_id, walked.validation)
        log_fold_networks(self.workspace.runs, run_id, walked.fold_networks)
        log_probe(self.workspace.runs, run_id, final)
        numbers = score(walked.record.labels, walked.record.probabilities)
        metrics = {**score_metrics(numbers), "train/epochs": float(final.epochs)}
        self.workspace.runs.log_values(run_id, metrics=metrics)
        tags = {
            "as_of": self.decision_id(day),
            "trained_until": iso_text(resolved.resolved_at[-1]),
            "recipe": recipe.digest,
            **{f"metric.{name}": f"{value:.6f}" for name, value in numbers.items()},
        }
        stored = network_to_bytes(network), network_to_onnx(network)
        files = ModelFiles(*stored, recipe, walked.record, walked.calibrator)
        version = self.workspace.registry.add_version(run_id, files, tags)
        self.workspace.runs.finish_run(run_id)
        return version

    def _predict(self, row: LoggedDecision, as_of: datetime) -> None:
        """Store what the schedule would until the next decision: the champion's predictions, and the shadows'.

        A bar is predicted before the retrain at its close, so the day's version predicts from the next bar on. The
        first champion is always among the shadows, for the summary.
        """
        rows = (*self.workspace.decision_log.rows(self.name), row)
        first = next(iter(former_champions(rows[:-1])), row.champion_after)
        numbers = dict.fromkeys(
            (*shadow_versions(self.workspace.registry, rows, ShadowSpec()), first, row.champion_after)
        )
        self._opened = {number: each for number, each in self._opened.items() if number in numbers}
        for number in numbers:
            if number is not None and number not in self._opened:
                self._opened[number] = open_version(self.workspace.registry, number)
        bars = self.bars.closed_by(to_datetime64(as_of + DAY))
        after = to_datetime64(as_of) + np.timedelta64(1, "us")
        made = shadow_predictions(self.workspace, self._opened.values(), bars, after, to_datetime)
        self.workspace.prediction_log.store_all([each for each in made if each.version == row.champion_after])
        self.workspace.shadow_log.store_all([each for each in made if each.version != row.champion_after])

    def summary(self) -> ReplaySummary:
        """Score the champion of each day vs. never and always promoting, on the same decisions."""
        return score_replay(self.workspace, self.recipe, self.bars, self.first, self.last)

    def show(self, summary: ReplaySummary) -> str:
        """Log a summary and the timeline of champions as a run of the replay's experiment; return its id."""
        from model.champion_timeline_picture import champion_history_picture  # imported here: matplotlib takes a second

        tags = {"recipe": self.recipe.digest, NOTE_TAG: "\n".join(f"- {line}" for line in summary.lines())}
        run_id = self.workspace.runs.start_run(f"replay {summary.title}", tags)
        metrics = {
            f"{strategy.replace(' ', '_')}/{name}": summary.scores[strategy][name]
            for strategy in STRATEGIES
            for name in METRICS
        }
        if summary.cost is not None:
            cost = summary.cost
            name = "headline/cost_of_never_promoting"
            metrics |= {name: cost.mean, f"{name}_low": cost.low, f"{name}_high": cost.high}
        self.workspace.runs.log_values(run_id, metrics=metrics)
        picture = champion_history_picture(timeline_steps(summary.decisions))
        self.workspace.runs.log_figure(run_id, picture, picture_path("champion_history"))
        self.workspace.runs.log_text(run_id, json.dumps(summary.to_dict(), indent=2), REPLAY_SUMMARY)
        self.workspace.runs.finish_run(run_id)
        return run_id


def _skip_smoke_test(_workspace: Workspace, _version: str) -> None:
    """Skip the smoke test: the gate has loaded the version's files and predicted with them."""

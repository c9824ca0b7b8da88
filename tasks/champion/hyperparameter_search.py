"""Search for a better recipe with Optuna, on the bars before the test bars.

Each trial is a child run in MLflow, the search is its parent. Trials are kept in a journal below `data/tune`, so an
interrupted search resumes, and a larger number of trials adds to the finished ones. Another recipe, other folds or
other bars make another search. Caution: the best of many trials looks better than it is; only a retrain of the recipe
found measures it out of sample.
"""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from model.bars import Bars
from model.bars_before_test import bars_before_test
from model.ensemble import AnyTrainer
from model.errors import BarsTooShort, UnsoundModel
from model.folds import EXECUTION_FIELDS, naming_bars_needed, split_folds
from model.metrics import log_losses, score
from model.multiple_testing import BacktestOverfitting, backtest_overfitting, fitting_parts
from model.presets import recipe_for
from model.recipe import Recipe
from model.search_space import TuneSpec, choices_of, ranges_of, recipe_of, values_of
from model.times import to_datetime
from model.walk_forward import trainer_for, walk_forward
from model.windows import cut_windows
from tasks.registry.experiment_runs import flatten_specs
from tasks.registry.metric_names import BASE_RATE, LOG_LOSS
from tasks.registry.mlflow_run_names import SHORT_HASH, as_of_text
from tasks.registry.run_artifacts import BEST_VALUES
from tasks.registry.run_metrics import score_metrics
from tasks.settings import Settings
from tasks.store.bars_hash import hash_bars
from tasks.store.trial_log import TrialForecasts, trial_of
from tasks.workspace import Workspace

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)

RUN = "run_id"  # where a study keeps its MLflow run
STRICT = "--promotion.kind strict"  # for a recipe chosen among many: better with evidence, corrected for looks


@dataclass(frozen=True, slots=True)
class ScoredTrial:
    """A trial of a search: its number from 0, its score in nats, its values, and its MLflow run."""

    number: int
    log_loss: float
    values: dict[str, Any]
    run_id: str


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Result of a search.

    Attributes:
        study: name of the search.
        trials: trials finished, failed ones included.
        values: of the best trial.
        log_loss: of the best trial on the bars before the test bars, nats.
        default_log_loss: of the recipe as given; NaN if it could not be trained.
        base_rate_log_loss: of the base rate on the windows of the recipe as given, or else of the best trial.
        flags: of `riseorfall retrain`, for the source of the bars, the best recipe and the rule for a new recipe.
        run_id: MLflow run.
        overfitting: how often the best recipe of one half of the windows was in the lower half of all recipes on the
            other half (CSCV); None with fewer than two recipes or too few windows.
        scored: the trials that have a score, best first.
    """

    study: str
    trials: int
    values: dict[str, Any]
    log_loss: float
    default_log_loss: float
    base_rate_log_loss: float
    flags: str
    run_id: str
    overfitting: BacktestOverfitting | None = None
    scored: tuple[ScoredTrial, ...] = ()

    def lines(self) -> list[str]:
        """Return the result as text lines."""
        given = "none, it could not be trained" if math.isnan(self.default_log_loss) else f"{self.default_log_loss:.4f}"
        numbers = (
            f"best log loss {self.log_loss:.4f}, as given {given}, base rate {self.base_rate_log_loss:.4f}, all on "
            "bars before the test bars"
        )
        why = "evaluate it once on the test bars, by the strict rule for a new recipe:"
        advice = [why, f"riseorfall retrain {self.flags}"]
        if self.log_loss >= self.default_log_loss:
            advice = ["no trial was better than the recipe as given"]
        return [f"{self.trials} trials; {numbers}", _describe_overfitting(self.overfitting), *advice]


@dataclass
class RecipeSearch:
    """A search from one recipe.

    Attributes:
        recipe: where it starts; what it does not vary stays.
        spec: number of trials and the folds that score them.
        settings: where bars, journal and MLflow are.
        trainer: returns the trainer of a recipe.
        report_line: called with a line about each trial.
    """

    recipe: Recipe
    spec: TuneSpec
    settings: Settings = field(default_factory=Settings)
    trainer: Callable[[Recipe], AnyTrainer] = trainer_for
    report_line: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        """Open the workspace of the search."""
        self.series, self.folds = self.recipe.series, self.spec.folds_of(self.recipe)
        self.workspace = Workspace(self.settings, self.series, f"{self.series.name}-tune", "tune")

    @cached_property
    def bars(self) -> Bars:
        """The bars before the test bars; the search uses no others."""
        store = self.workspace.bar_store
        return bars_before_test(store.read_bars(store.ref(self.series)), self.recipe)

    @property
    def study_name(self) -> str:
        """Name of the study: the same for the same recipe, folds, seed and bars, whatever the number of trials."""
        identity = [
            self.recipe.identity,
            self.folds.model_dump_json(exclude=set(EXECUTION_FIELDS)),
            str(self.spec.seed),
        ]
        digest = hashlib.sha256("".join([*identity, hash_bars(self.bars)]).encode()).hexdigest()[:SHORT_HASH]
        return f"{self.series.name}-{digest}"

    def search(self) -> SearchResult:
        """Run the remaining trials, and return the best of all.

        Raises:
            UnsoundModel: no trial finished.
        """
        import optuna  # imported here: takes a second to import

        optuna.logging.disable_default_handler()
        study = self._open()
        done = _finished(study)
        self.report_line(
            f"{study.study_name}: {done} of {self.spec.trials} trials done, {len(self.bars)} bars before the test"
        )
        if done < self.spec.trials:
            if self._as_given(study) is None:
                study.enqueue_trial(values_of(self.recipe))
            study.optimize(self._objective, n_trials=self.spec.trials - done, catch=(UnsoundModel, BarsTooShort))
        return self._found(study)

    def _open(self) -> "optuna.Study":
        """Open or resume the study."""
        import optuna  # imported here: see `search`
        from optuna.storages.journal import JournalFileBackend

        folder = self.settings.data_folder / "tune"
        folder.mkdir(parents=True, exist_ok=True)
        backend = JournalFileBackend(str(folder / f"{self.series.name}.journal"))
        study = optuna.create_study(
            study_name=self.study_name,
            storage=optuna.storages.JournalStorage(backend),
            load_if_exists=True,
            direction="minimize",
        )
        # With the same seed a resumed search would repeat its first proposals.
        study.sampler = optuna.samplers.TPESampler(seed=self.spec.seed + len(study.trials))
        if RUN not in study.user_attrs:
            run_id = self.workspace.runs.start_run(f"tune {self.series.name}", {"recipe": self.recipe.digest})
            self.workspace.runs.log_values(run_id, params={**self.folds.model_dump(), "study": study.study_name})
            study.set_user_attr(RUN, run_id)
        self.workspace.runs.claim_run(study.user_attrs[RUN])
        return study

    def _as_given(self, study: "optuna.Study") -> "optuna.trial.FrozenTrial | None":
        """Return the trial that scored the recipe as given; None where there is none, or it was interrupted."""
        own = values_of(self.recipe)
        return next((trial for trial in study.trials if trial.value is not None and trial.params == own), None)

    def _objective(self, trial: "optuna.Trial") -> float:
        """Score one recipe by walk-forward, as a child run."""
        values: dict[str, Any] = {
            name: trial.suggest_categorical(name, choices) for name, choices in choices_of(self.recipe).items()
        }
        for name, (low, high) in ranges_of(self.recipe).items():
            values[name] = trial.suggest_float(name, low, high, log=name == "learning_rate")
        recipe = recipe_of(self.recipe, values)
        parent = str(trial.study.user_attrs[RUN])
        run_id = self.workspace.runs.start_run(f"trial {trial.number}", {"trial": str(trial.number)}, parent=parent)
        self.workspace.runs.log_values(run_id, params=values)
        try:
            found = f"{recipe.symbol} {recipe.interval}: {len(self.bars)} bars closed before the test bars"
            with naming_bars_needed(found, recipe.window, self.folds):
                windows = cut_windows(self.bars, recipe.window).resolved()
                folds = split_folds(windows, self.folds)
            seed, threads = recipe.training.seed, recipe.folds.threads
            walked = walk_forward(self.trainer(recipe), windows, folds, seed, threads=threads)
            numbers = score(walked.record.labels, walked.record.probabilities)
            base_rate = score(walked.record.labels, walked.base_rate)["log_loss"]
        except BaseException:
            self.workspace.runs.finish_run(run_id, "FAILED")
            raise
        now = datetime.now(UTC)
        tried = trial_of("tune", run_id, recipe, walked.record, walked.base_rate, recorded_at=now, run_id=run_id)
        self.workspace.trial_log.append([tried])
        metrics = {"baseline/base_rate_log_loss": base_rate, "train/epochs": float(walked.epochs)}
        self.workspace.runs.log_values(run_id, metrics=score_metrics(numbers) | metrics)
        self.workspace.runs.rename_run(run_id, f"trial {trial.number}: log loss {numbers['log_loss']:.4f}")
        self.workspace.runs.finish_run(run_id)
        trial.set_user_attr("base_rate_log_loss", base_rate)
        trial.set_user_attr(RUN, run_id)
        self.report_line(f"trial {trial.number}: log loss {numbers['log_loss']:.4f} (base rate {base_rate:.4f})")
        return numbers["log_loss"]

    def _found(self, study: "optuna.Study") -> SearchResult:
        """Return the best trial and log it to the parent run."""
        complete = [trial for trial in study.trials if trial.value is not None]
        if not complete:
            raise UnsoundModel(f"tune {study.study_name}: expected a finished trial, found none")
        best = study.best_trial
        given = self._as_given(study)
        run_id, recipe_flags = str(study.user_attrs[RUN]), flags_of(recipe_of(self.recipe, best.params))
        found = SearchResult(
            study=study.study_name,
            trials=_finished(study),
            values=dict(best.params),
            log_loss=float(study.best_value),
            default_log_loss=float("nan") if given is None else float(given.value or 0.0),
            base_rate_log_loss=float((given or best).user_attrs["base_rate_log_loss"]),
            flags=f"{self.workspace.source_flags} {recipe_flags}{' ' if recipe_flags else ''}{STRICT}".strip(),
            run_id=run_id,
            overfitting=self._overfitting([str(trial.user_attrs.get(RUN, "")) for trial in complete]),
            scored=tuple(
                ScoredTrial(trial.number, float(trial.value), dict(trial.params), str(trial.user_attrs.get(RUN, "")))
                for trial in sorted(complete, key=lambda trial: float(trial.value or 0))
                if trial.value is not None
            ),
        )
        self.workspace.runs.log_values(
            run_id,
            metrics={LOG_LOSS: found.log_loss, "headline/log_loss_as_given": found.default_log_loss,
                     BASE_RATE: found.base_rate_log_loss, "headline/trials": float(found.trials),
                     **_overfitting_metrics(found.overfitting)},
            tags={"flags": found.flags, "best_trial": str(best.number),
                  "overfitting": _describe_overfitting(found.overfitting)},
        )  # fmt: skip
        until = as_of_text(to_datetime(self.bars.closed_at[-1]))
        self.workspace.runs.rename_run(run_id, f"{until}: {found.trials} trials, best log loss {found.log_loss:.4f}")
        self.workspace.runs.log_text(run_id, json.dumps(found.values, indent=2), BEST_VALUES)
        self.workspace.runs.finish_run(run_id)
        return found

    def _overfitting(self, run_ids: Sequence[str]) -> BacktestOverfitting | None:
        """Estimate the probability of backtest overfitting from the trials' forecasts, on their common windows."""
        log = self.workspace.trial_log
        trials = [each for each in log.trials(self.series.symbol, self.series.interval) if each.run_id in run_ids]
        known = [each.forecasts for each in log.with_forecasts(trials) if each.forecasts is not None]
        if not known:
            return None
        common = reduce(np.intersect1d, [each.decided_at for each in known])
        gains = np.array([_gains(each)[np.isin(each.decided_at, common)] for each in known])
        parts = fitting_parts(len(known), len(common))
        return backtest_overfitting(gains, parts) if parts else None


def flags_of(recipe: Recipe) -> str:
    """Return the flags of `riseorfall retrain` for a recipe; only those that differ from its defaults."""
    flags = []
    usual = _fields(recipe_for(recipe.symbol, recipe.interval))
    for name, value in _fields(recipe).items():
        place, _, last = f"--{name.replace('_', '-')}".rpartition(".")
        if value == usual[name]:
            continue
        if isinstance(value, bool):
            flags.append(f"{place}.{'' if value else 'no-'}{last}")
        else:
            values = value if isinstance(value, tuple) else (value,)
            flags += [f"{place}.{last} {f'{each:.6g}' if isinstance(each, float) else each}" for each in values]
    return " ".join(flags)


def _fields(recipe: Recipe) -> dict[str, Any]:
    """Return the values of the recipe's specs by their dotted names, without where folds are trained."""
    return flatten_specs(recipe.model_dump(exclude={"symbol": True, "interval": True, "folds": set(EXECUTION_FIELDS)}))


def _gains(found: TrialForecasts) -> np.ndarray:
    """Return the log loss of the base rate minus that of a trial, shape (window,), nats."""
    gains: np.ndarray = log_losses(found.labels, found.base_rates) - log_losses(found.labels, found.probabilities)
    return gains


def _describe_overfitting(found: BacktestOverfitting | None) -> str:
    """Return the probability of backtest overfitting in plain words."""
    if found is None:
        return "probability of backtest overfitting: not estimated, it needs two recipes and 40 windows in common"
    return (
        f"probability of backtest overfitting {found.probability:.0%}: the recipe that is best on one half of the "
        f"windows is in the lower half of all recipes on the other half in {found.probability:.0%} of "
        f"{len(found.logits):,} splits, and worse than the base rate there in {found.probability_of_loss:.0%} "
        "(a choice at random: 50 %)"
    )


def _overfitting_metrics(found: BacktestOverfitting | None) -> dict[str, float]:
    if found is None:
        return {}
    name = "headline/backtest_overfitting"
    return {name: found.probability, f"{name}_loss": found.probability_of_loss}


def _finished(study: "optuna.Study") -> int:
    """Return the number of finished trials, failed ones included; a killed trial is not finished."""
    return sum(trial.state.is_finished() for trial in study.trials)

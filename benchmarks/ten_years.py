"""Years of bars and a retrain a day in one home: disk, and the time of each command.

Stores, MLflow on SQLite, decisions, predictions of champion and shadows, monitor and housekeeping are the project's;
time is simulated. Training is a stand-in (tests/simulation/), whose runs hold files, curves and parameters of the size
that a retrain of the bundled sample leaves. Of hourly bars the 24 of a day are stored in one commit, and `predict`
fills in the 23 before the newest; `--hourly` runs both each hour, which shows the difference. Housekeeping runs every
`--housekeeping-days` days. With `--real-every N` only each N-th day runs its commands, and the days before a
measurement; the others are written into the stores (`written_days.py`). Times are the processor time of the command's
work in a process that has read nothing yet, without the start of Python: the least of `MEASURED`. Results are appended
to `--out` as JSON lines. `old_home_commands.py` measures whole commands, with the start of Python.
Run: python benchmarks/ten_years.py [--days 3650] [--interval 1h] [--real-every N] [--out FILE]
"""

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote, urlsplit

import numpy as np

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS / "simulation"), str(TESTS / "reference"), str(TESTS.parent)]

import simulated_world as world  # noqa: E402 - below tests/

from model.bars import Bars, Series  # noqa: E402 - the project's own
from model.times import to_datetime64, to_timedelta  # noqa: E402 - the same

BARS_OF_A_DAY = {"1d": 1, "1h": 24}
HISTORY = {"1d": 2600, "1h": 24 * 60}  # bars before the first day
TEST_BARS = {"1d": 750, "1h": 750}  # the default
FIRST_REAL, REAL_BEFORE_MEASURING = 5, 3  # days that run their commands in any case
REPORT_BYTES, KERAS_BYTES, CODE_BYTES, MODEL_BYTES = 237_000, 37_000, 67_500, 37_500
SIZES = {  # bytes by file of a retrain's run; the folders of many files are one each
    "pictures/all": 48_000,
    "evaluation/all": 84_000,
    "network/network.keras": KERAS_BYTES,
    "network/network.onnx": 36_000,
}
FOLD_COUNT, EPOCHS, PARAMS, METRICS = 5, 20, 120, 90
MEASURED = 3


class Market:
    """An exchange of hourly bars: a random walk, known up to the clock."""

    def __init__(self, clock: Any, days: int) -> None:
        """Draw all bars."""
        rng, drawn = np.random.default_rng(1), HISTORY[world.SERIES.interval] + bars_of_a_day() * (2 * days + 99)
        self.clock = clock
        self.close = 20_000 * np.exp(np.cumsum(rng.normal(0, 0.004, drawn)))

    def page(self, since: Any, limit: int) -> list[list[float]]:
        """Return the bars of a page, the unfinished one at the end."""
        first = max(0, round((since - world.FIRST_BAR) / world.DAY))
        last = min(int((self.clock.true - world.FIRST_BAR) / world.DAY) + 1, first + limit)
        return [self._bar(number) for number in range(first, last)]

    def _bar(self, number: int) -> list[float]:
        return [(world.FIRST_BAR + number * world.DAY).timestamp() * 1000, *self._ohlcv(number)]

    def _ohlcv(self, number: int) -> list[float]:
        opened, closed = float(self.close[max(number - 1, 0)]), float(self.close[number])
        return [opened, max(opened, closed) * 1.001, min(opened, closed) * 0.999, closed, 100.0]

    def newest(self, count: int) -> Bars:
        """Return the newest closed bars."""
        end = int((self.clock.true - world.FIRST_BAR) / world.DAY)
        numbers = range(end - count, end)
        opened_at = [to_datetime64(world.FIRST_BAR + number * world.DAY) for number in numbers]
        return Bars(world.SERIES.interval, np.array(opened_at), np.array([self._ohlcv(number) for number in numbers]))


def stand_in() -> type:
    """Return a stand-in for training whose runs are as large as those of a retrain."""
    from simulated_commands import Training, open_workspace

    from tasks.champion.corrected_skill import comparable_records
    from tasks.pages.written_pages import write_report
    from tasks.registry.run_artifacts import MODEL_FOLDER, log_artifacts
    from tasks.registry.serving_code import ARCHIVE
    from tasks.results import FoldOutcome
    from tasks.store.trial_log import count_looks, trial_of

    class Sized(Training):  # type: ignore[misc]  # tests carry no types here
        def train_folds(self, windows: Any, recipe: Any, run_id: str) -> list[Any]:  # noqa: ARG002
            runs = open_workspace(recipe.series).runs
            self.gains[run_id] = float(self.rng.normal(0, 1))
            for number in range(FOLD_COUNT):
                fold = runs.start_run(f"fold {number + 1} of {FOLD_COUNT}", {"fold": str(number + 1)}, parent=run_id)
                names = ("loss", "accuracy", "validation_loss", "validation_accuracy")
                runs.log_values(fold, curves={f"curve/{name}": self.rng.random(EPOCHS).tolist() for name in names})
                log_artifacts(runs, fold, {"record.parquet": self.rng.bytes(10_000)})
                runs.finish_run(fold)
            return [FoldOutcome(0, fold, 3, 3, 0.0, "cpu", 0.69)]

        def evaluate(self, ref: Any, recipe: Any, folds: Any, baselines: Any, run_id: str, *more: Any) -> Any:
            runs = open_workspace(recipe.series).runs
            values = {f"metric_{number}": float(self.rng.random()) for number in range(METRICS)}
            params = {f"parameter_{number}": self.rng.random() for number in range(PARAMS)}
            runs.log_values(run_id, values, params)
            log_artifacts(runs, run_id, {name: self.rng.bytes(size) for name, size in SIZES.items()})
            found = super().evaluate(ref, recipe, folds, baselines, run_id, *more)
            self._count_looks(ref, recipe, run_id)
            return found

        def _count_looks(self, ref: Any, recipe: Any, run_id: str) -> None:
            """Append the trial and read the others, as `tasks/evaluation.py` does."""
            record, log = self._record(ref, recipe, run_id)[0], open_workspace(recipe.series).trial_log
            base_rate = np.full(len(record), 0.5)
            trial = trial_of(
                "retrain", run_id, recipe, record, base_rate, recorded_at=self.clock.shown, run_id=run_id, p_value=0.5
            )
            log.append([trial])
            trials = log.trials(recipe.symbol, recipe.interval, between=(trial.test_first, trial.test_last))
            count_looks(trials, trial.test_first, trial.test_last)
            comparable_records(log, trials, trial, record)

        def register(self, ref: Any, recipe: Any, folds: Any, final: Any, numbers: Any, rule: Any, run_id: str) -> Any:
            files = {
                f"{MODEL_FOLDER}/rest": self.rng.bytes(MODEL_BYTES + KERAS_BYTES),
                f"{Path(MODEL_FOLDER).parent}/code/{ARCHIVE}": bytes(CODE_BYTES),  # equal in all versions
            }
            log_artifacts(open_workspace(recipe.series).runs, run_id, files)
            return super().register(ref, recipe, folds, final, numbers, rule, run_id)

        def report(self, result: Any, recipe: Any, folds: Any) -> str:
            text = self.rng.bytes(REPORT_BYTES // 2).hex()
            path = write_report(open_workspace(recipe.series), result.run_id, text)
            moment = self.clock.shown.timestamp()
            os.utime(path, (moment, moment))
            return str(super().report(result, recipe, folds))

    return Sized


class Years:
    """A home in simulated time."""

    def __init__(self, home: Path, days: int, housekeeping_days: int) -> None:
        """Begin after the history."""
        from simulated_faults import Faults

        self.home, self.clock, self.rng = home, world.Clock(), np.random.default_rng(2)
        self.clock.true = world.FIRST_BAR + HISTORY[world.SERIES.interval] * world.DAY
        self.market = Market(self.clock, days)
        self.faults = Faults(self.rng, lambda _: None, lambda _: None)
        self.housekeeping_days = housekeeping_days
        self.versions: dict[str, list[tuple[Any, int]]] = {}  # of tables: time and version

    def inside(self) -> ExitStack:
        """Return a context in which the clock is simulated, MLflow's and housekeeping's too."""
        import simulated_commands as commands

        from tasks.repair import retention
        from tasks.store import delta_table

        sized = stand_in()
        sized.clock = self.clock
        stack = ExitStack()
        source = commands.SOURCE.model_copy(update={"interval": world.SERIES.interval})
        stack.enter_context(patch.object(commands, "SOURCE", source))
        folds = commands.FOLDS.model_copy(update={"test_bars": TEST_BARS[world.SERIES.interval]})
        stack.enter_context(patch.object(commands, "FOLDS", folds))
        stack.enter_context(patch.object(commands, "Training", sized))
        most = delta_table.MAX_FILES
        stack.enter_context(commands.simulated(self.home, self.clock, self.market, self.faults, self.rng))
        stack.enter_context(patch.object(delta_table, "MAX_FILES", most))  # a simulation of few days merges from 3 on
        stack.enter_context(patch.object(retention, "datetime", world.simulated_datetime(self.clock)))
        stack.enter_context(patch.object(retention, "_vacuum", self._vacuum))
        at_once = {**delta_table.FORGET_EARLIER_VERSIONS, delta_table.DELETED_FILES: "interval 0 days"}
        stack.enter_context(patch.object(delta_table, "FORGET_EARLIER_VERSIONS", at_once))
        for name, module in list(sys.modules.items()):
            if name.startswith("mlflow.") and hasattr(module, "get_current_time_millis"):
                now = lambda: int(self.clock.shown.timestamp() * 1000)  # noqa: E731 - as MLflow's
                stack.enter_context(patch.object(module, "get_current_time_millis", now))
        return stack

    def _vacuum(self, opened: Any, spec: Any, keep: set[int], *, full: bool, dry_run: bool) -> list[str]:
        """Delete what the project's own call would: deltalake knows real time only."""
        first = self.clock.shown - timedelta(days=spec.table_days)
        place = unquote(urlsplit(opened.table_uri).path).rstrip("/")
        old = [version for at, version in self.versions.get(place, []) if at < first]
        oldest = min((int(path.name[:20]) for path in (Path(place) / "_delta_log").glob("0*.*")), default=0)
        recent = range(max(old, default=0) if not oldest else opened.version(), opened.version() + 1)
        kept = sorted(keep & set(range(opened.version() + 1)) | set(recent))
        return list(opened.vacuum(0, dry_run=dry_run, enforce_retention_duration=False, full=full, keep_versions=kept))

    def day(self, number: int, *, hourly: bool) -> None:
        """Let a day pass: ingest, predict, retrain, monitor; housekeeping every few days."""
        import simulated_commands as commands

        from tasks.repair.retention_spec import RetentionSpec

        for _ in range(bars_of_a_day() if hourly else 1):
            self.clock.true += world.DAY if hourly else bars_of_a_day() * world.DAY
            new_process()
            commands.ingest(self.rng)
            if number:
                commands.predict(self.rng)
                if not hourly and bars_of_a_day() > 1:
                    self._missed_hours()
        new_process()
        commands.retrain(self.rng)
        new_process()
        commands.monitor(self.rng)
        self._note_versions()
        if number % self.housekeeping_days == self.housekeeping_days - 1:
            commands.result_of(commands.flows.housekeeping.housekeeping.fn(RetentionSpec()))

    def _note_versions(self) -> None:
        from tasks.workspace import open_workspace

        for table in open_workspace(world.SERIES).tables:
            opened = table.open()
            if opened is not None:
                self._note_version(table.uri, opened.version())

    def _note_version(self, place: str, version: int) -> None:
        """Note when a version was committed, in the times of its files too: old commits of logs are deleted."""
        noted, moment = self.versions.setdefault(place, []), self.clock.shown.timestamp()
        for number in range(noted[-1][1] + 1 if noted else 0, version + 1):
            for ending in ("json", "checkpoint.parquet"):
                with suppress(FileNotFoundError):
                    os.utime(Path(place) / "_delta_log" / f"{number:020}.{ending}", (moment, moment))
        noted.append((self.clock.shown, version))

    def write_days(self, count: int) -> None:
        """Write days into the stores instead of running their commands."""
        from written_days import WrittenDays

        from tasks.workspace import open_workspace

        days = WrittenDays(open_workspace(world.SERIES), self.rng)
        for _ in range(count):
            self.clock.true += bars_of_a_day() * world.DAY
            days.write(self.market.newest(bars_of_a_day()), self.clock.true)
            for uri, opened in days.opened.items():
                self._note_version(uri, opened.version())

    def _missed_hours(self) -> None:
        """Store the shadow predictions of the hours before the newest, as 23 more runs of `predict` would."""
        from model.times import to_datetime
        from tasks.champion.shadow_predictions import shadow_predictions
        from tasks.champion.shadow_spec import ShadowSpec
        from tasks.champion.shadow_versions import open_shadows, shadow_versions
        from tasks.workspace import open_workspace

        workspace = open_workspace(world.SERIES)
        bars = workspace.bar_store.read_bars(workspace.bar_store.ref(world.SERIES))
        rows = workspace.decision_log.rows(workspace.name)
        shadows = open_shadows(workspace.registry, shadow_versions(workspace.registry, rows, ShadowSpec()))
        after = bars.closed_at[-bars_of_a_day()]
        made = shadow_predictions(workspace, shadows, bars, after, to_datetime)
        workspace.shadow_log.store_all(made)

    def measure(self, day: int) -> dict[str, Any]:
        """Return disk and times."""
        import simulated_commands as commands

        from tasks.champion.series_status import series_status
        from tasks.pages.dashboard_content import DashboardReader
        from tasks.pages.dashboard_page import dashboard_page
        from tasks.repair.home_backup import back_up
        from tasks.repair.retention_spec import RetentionSpec
        from tasks.settings import Settings
        from tasks.workspace import open_workspace

        name, found = world.SERIES.name, dict[str, list[float]]()
        copy = self.home.parent / "backup"
        work: dict[str, Callable[[], object]] = {
            "ingest": lambda: commands.ingest(self.rng),
            "predict": lambda: commands.predict(self.rng),
            "retrain": lambda: commands.retrain(self.rng),
            "monitor": lambda: commands.monitor(self.rng),
            "status": lambda: series_status(world.SERIES, Settings()),
            "decisions": lambda: open_workspace(world.SERIES).decision_log.rows(name, last=20),
            "dashboard": lambda: dashboard_page(DashboardReader(Settings()).read(), {}, [], self.clock.shown),
        }
        for _ in range(MEASURED):
            self.clock.true += world.DAY * bars_of_a_day()
            for each, command in work.items():
                found.setdefault(each, []).append(timed(command))
        home = disk(self.home)
        found["housekeeping"] = [
            timed(lambda: commands.result_of(commands.flows.housekeeping.housekeeping.fn(RetentionSpec())))
        ]
        found["backup"] = [timed(lambda: back_up(Settings(), copy, lambda _: None))]
        shutil.rmtree(copy)
        rows = open_workspace(world.SERIES).decision_log.rows(name)
        shadows = open_workspace(world.SERIES).shadow_log.read(name)
        return {
            "day": day,
            **{f"{each}_s": round(min(seconds), 4) for each, seconds in found.items()},
            **{part: round(size / 1e6, 2) for part, size in home.items()},
            "decisions": len(rows),
            "champions": len({row.champion_after for row in rows}),
            "shadow_predictions": len(shadows),
        }


def set_interval(name: str) -> None:
    """Set the bars of the simulation, before `simulated_commands` reads them."""
    series = Series("BTC-USD", name)
    world.SERIES, world.DAY = series, to_timedelta(series.delta)


def bars_of_a_day() -> int:
    """Return the number of bars that close in a day."""
    return BARS_OF_A_DAY[world.SERIES.interval]


def new_process() -> None:
    """Forget what a process keeps in memory."""
    import simulated_commands as commands

    from tasks.store import table_cache

    commands.forget_caches()
    table_cache._kept.clear()  # noqa: SLF001 - a new process


def timed(work: Callable[[], object]) -> float:
    """Return the processor time of a command's work in a new process, seconds."""
    new_process()
    began = time.process_time()
    work()
    return time.process_time() - began


def disk(home: Path) -> dict[str, int]:
    """Return the bytes on the disk by part of a home; a file with two names counts once."""
    found: dict[str, int] = {"disk": 0}
    seen = set()
    for folder, _, names in os.walk(home):
        for name in names:
            state = Path(folder, name).stat()
            if state.st_ino in seen:
                continue
            seen.add(state.st_ino)
            parts = Path(folder).relative_to(home).parts
            part = "_".join(parts[1:3] if parts[0] == "data" else parts[1:2])
            part = "database" if name.startswith("mlflow.db") else part
            for each in ("disk", part):
                found[each] = found.get(each, 0) + state.st_blocks * 512
    return found


def show(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def main() -> None:
    """Run the days, or draw what earlier runs measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=3650)
    parser.add_argument("--measured-days", type=int, nargs="+", default=[7, 365, 5 * 365, 10 * 365])
    parser.add_argument("--interval", choices=sorted(BARS_OF_A_DAY), default="1d")
    parser.add_argument("--real-every", type=int, default=1)
    parser.add_argument("--hourly", action="store_true")
    parser.add_argument("--housekeeping-days", type=int, default=1)
    parser.add_argument("--folder", help="where the home is made; a disk in memory is quicker")
    parser.add_argument("--out", default="")
    chosen = parser.parse_args()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    logging.disable(logging.CRITICAL)
    set_interval(chosen.interval)
    from simulation import make_template

    wanted = {day for day in chosen.measured_days if day < chosen.days} | {chosen.days}
    with tempfile.TemporaryDirectory(prefix="ten-years-", dir=chosen.folder) as folder:
        years = Years(make_template(Path(folder) / "home"), chosen.days, chosen.housekeeping_days)
        began = time.perf_counter()
        with years.inside():
            written = 0
            for number in range(chosen.days):
                soon = any(day in wanted for day in range(number + 1, number + 1 + REAL_BEFORE_MEASURING))
                if number >= FIRST_REAL and number % chosen.real_every and not soon:
                    written += 1
                    continue
                if written:
                    years.write_days(written)
                    written = 0
                years.day(number, hourly=chosen.hourly)
                if number + 1 in wanted:
                    line = years.measure(number + 1) | {"seconds": round(time.perf_counter() - began)}
                    show(json.dumps(line))
                    if chosen.out:
                        with Path(chosen.out).open("a", encoding="utf-8") as file:
                            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()

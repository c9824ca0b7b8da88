"""Whole commands in homes of several ages: processor time of `riseorfall status` and `riseorfall predict`.

Each home is made as `ten_years.py` makes one, most days written into the stores; its last bar closed today, so the
commands run as a person runs them, the start of Python included. The networks are the interval's default one with
weights of their own. `predict` finds a close that no version has predicted: the tables of predictions are put back
after each run. Of hourly bars (`--interval 1h`) the 24 of a day are stored in one commit, and the newest bar may be
days old. The homes take turns, and the least of the rounds counts. `--keep` leaves the homes where they are, and
takes homes that are there. `--code` names another checkout that measures the same homes in the same rounds. `--out`
appends results as JSON lines, which `ten_years_picture.py` draws.
Run: python benchmarks/old_home_commands.py [--days 7 365] [--interval 1h] [--rounds 5] [--folder FOLDER [--keep]]
     [--code CODE] [--out FILE]
"""

import argparse
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import ten_years
from ten_years import HISTORY, Years, disk, set_interval, show, world

COMMANDS = {"status": ["status"], "predict": ["predict", "--staleness.max-bars-behind", "200"]}
ROOT = Path(__file__).resolve().parents[1]
HOUSEKEEPING_DAYS = 365
WRITTEN_DAYS = 91  # at once
RUN = (  # drop the editable install's finder, so that CODE is imported
    "import sys; sys.meta_path[:] = [each for each in sys.meta_path if 'Redirect' not in str(each)]; "
    "sys.path.insert(0, sys.argv.pop(1)); from flows.cli.app import main; main()"
)


def default_networks(interval: str) -> Any:
    """Return a function that makes an ONNX file of an interval's default network; its weights depend on a number.

    The mean of several networks if the interval's preset trains several.
    """
    import onnx

    from model.ensemble import FittedEnsemble, open_trainer
    from model.network_files import network_to_onnx
    from model.networks import build_network
    from model.presets import preset_for
    from model.training import Fitted

    preset = preset_for(interval)
    shape = (preset.window.lookback_bars, len(preset.window.features))
    members = tuple(
        Fitted(tuple(build_network(preset.network, *shape).get_weights()), (), 1, "CPU", 0.0)
        for _ in range(preset.training.members)
    )
    fitted = FittedEnsemble(members) if len(members) > 1 else members[0]
    made = onnx.load_from_string(
        network_to_onnx(open_trainer(preset.network, preset.training, *shape).keras_model(fitted))
    )

    def network(_lookback_bars: int, gain: float = 1.0) -> bytes:
        other, rng = onnx.ModelProto(), np.random.default_rng(int(abs(gain) * 1e6))
        other.CopyFrom(made)
        for part in other.graph.initializer:
            values = onnx.numpy_helper.to_array(part)
            if values.dtype.kind == "f" and values.size > 1:
                noisy = (values + rng.normal(0, 0.03, values.shape)).astype(values.dtype)
                part.CopyFrom(onnx.numpy_helper.from_array(noisy, part.name))
        return bytes(other.SerializeToString())

    return network


def megabytes(home: Path) -> dict[str, float]:
    """Return the size of a home and of its parts on the disk, MB."""
    return {part: round(size / 1e6, 2) for part, size in disk(home).items()}


def make_home(home: Path, days: int, write: Callable[[dict[str, float]], None]) -> None:
    """Make a home whose last retrain was today and whose newest close is not predicted yet; housekeeping each year.

    Args:
        home: a folder that is not there yet.
        days: number of retrains.
        write: takes the size of the home after each housekeeping.
    """
    import simulated_commands as commands
    from simulation import make_template

    from model.presets import preset_for
    from tasks.repair.retention_spec import RetentionSpec

    interval = world.SERIES.interval
    commands.WINDOW, commands.tiny_onnx = preset_for(interval).window, default_networks(interval)
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    world.FIRST_BAR = midnight - (HISTORY[interval] + 1) * world.DAY - (days - 1) * timedelta(days=1)
    begin = f"{world.FIRST_BAR:%Y-%m-%d}"  # the one of the simulation is too late for an old home
    commands.SOURCE = commands.SOURCE.model_copy(update={"backfill_from": begin})
    years, number = Years(make_template(home), days, sys.maxsize), 0
    last = days - 1 - ten_years.REAL_BEFORE_MEASURING
    with years.inside():
        while number < days - 1:
            if number < ten_years.FIRST_REAL or number >= last:
                years.day(number, hourly=False)
                number += 1
                continue
            written = min(WRITTEN_DAYS, last - number, HOUSEKEEPING_DAYS - number % HOUSEKEEPING_DAYS)
            years.write_days(written)
            number += written
            if number % HOUSEKEEPING_DAYS == 0:
                ten_years.new_process()
                commands.result_of(commands.flows.housekeeping.housekeeping.fn(RetentionSpec()))
                write({"day": number} | megabytes(home))
        years.clock.true += world.DAY
        for command in (commands.ingest, commands.retrain, commands.monitor):
            ten_years.new_process()
            command(years.rng)


def processor_time(code: Path, home: Path, command: str) -> float:
    """Run a command in a process of its own and return its user and system time, seconds; predictions are put back."""
    tables, kept = home / "data" / "tables", home.parent / f"{home.name}.tables"
    if command == "predict" and not kept.exists():
        for name in ("predictions", "shadow_predictions"):
            shutil.copytree(tables / name, kept / name)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-c", RUN, str(code), *COMMANDS[command]],
        env=os.environ | {"RISEORFALL_HOME": str(home)},
        cwd=home,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if command == "predict":
        for name in ("predictions", "shadow_predictions"):
            shutil.rmtree(tables / name)
            shutil.copytree(kept / name, tables / name)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def least_times(command: str, homes: dict[int, Path], codes: list[Path], rounds: int) -> dict[int, float]:
    """Print the least time of a command in each home by each checkout; return those of the first one, by day."""
    taken: dict[tuple[Path, int], list[float]] = {}
    for _ in range(rounds):
        for days, home in homes.items():
            for code in codes:
                taken.setdefault((code, days), []).append(processor_time(code, home, command))
    first = next(iter(homes))
    for (code, days), seconds in taken.items():
        ratio = min(seconds) / min(taken[code, first])
        show(f"{command}, day {days}: {min(seconds):.2f} s, {ratio:.2f} times day {first} ({code})")
    return {days: min(taken[codes[0], days]) for days in homes}


def main() -> None:
    """Make the homes that are not there and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, nargs="+", default=[7, 365])
    parser.add_argument("--interval", choices=sorted(HISTORY), default="1d")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the homes are made; a disk in memory is quicker")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--out", type=Path, help="JSON lines, which `ten_years_picture.py` draws")
    parser.add_argument("--code", type=Path, action="append", default=[], help="another checkout to measure too")
    chosen = parser.parse_args()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
    logging.disable(logging.CRITICAL)
    set_interval(chosen.interval)

    def write(line: dict[str, float]) -> None:
        show(json.dumps(line))
        if chosen.out:
            with chosen.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    folder = chosen.folder if chosen.keep and chosen.folder else Path(tempfile.mkdtemp(dir=chosen.folder))
    homes = {days: folder / f"day-{days}" for days in chosen.days}
    for days, home in homes.items():
        if not home.exists():
            make_home(home, days, write)
    least = {
        command: least_times(command, homes, [ROOT, *(code.resolve() for code in chosen.code)], chosen.rounds)
        for command in COMMANDS
    }
    for days, home in homes.items():
        write({"day": days} | {f"{name}_s": round(least[name][days], 2) for name in COMMANDS} | megabytes(home))
    if not chosen.keep:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

"""Files that a retrain, replay or search keeps in its MLflow runs: the only module that knows their paths.

A frame is kept as one Parquet file. Paths are stored formats: older homes hold them. The files of a registered version
are named in `model_files.py`; only their place in the run, `MODEL_FOLDER`, is named here.
"""

import io
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from model.calibration import Calibrator, calibrator_from_json, calibrator_to_json
from model.record import Record, record_from_frame
from model.times import utc_index

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from model.final_fit import FinalNetwork
    from model.walk_forward import FoldFit
    from tasks.registry.experiment_runs import ExperimentRuns

# A fold's run.
FOLD_RECORD = "record.parquet"
FOLD_VALIDATION = "validation.parquet"  # its record of the validation windows, seen by early stopping; since 0.2
FOLD_CALIBRATOR = "calibrator.json"
FOLD_SEEDS = "seeds.parquet"  # P(rise) of its test windows, one column per further seed
FOLD_UNCALIBRATED = "uncalibrated.parquet"  # its network's P(rise) of its own test windows and of earlier folds'
FOLD_HELD_OUT = "held_out.parquet"  # of a panel, its record of the held-out series; since 0.2
# A retrain's or a replayed day's run.
RECORD = "evaluation/record.parquet"
FOLD_NETWORKS = "evaluation/fold_networks.parquet"  # one column per fold; since 0.2
VALIDATION = "evaluation/validation.parquet"  # records of the folds' validation windows, by fold; since 0.2
POLICIES = "evaluation/policies.json"  # what each trading policy earned; since 0.2
NUMBERS = "evaluation/numbers.json"
DETAILS = "evaluation/details.json"  # tests and figures that are no metrics of the run; since 0.2
CLASSIFICATION_REPORT = "evaluation/classification_report.txt"
COST_CLASSES_REPORT = "evaluation/cost_classes.txt"  # of the three classes of a cost; since 0.2
EQUITY = "evaluation/equity.parquet"
SERIES_TABLE = "evaluation/series.json"  # scores by series of a panel, as a table of MLflow; since 0.2
KERAS = "network/network.keras"
ONNX = "network/network.onnx"
PROBE = "network/probe.parquet"
CALIBRATOR = "network/calibrator.json"
REPORT = "report.html"
LIVE_PREDICTIONS = "evaluation/live_predictions.json"  # champion and shadows on live decisions; since 0.2
MODEL_FOLDER = "model/artifacts"  # files of the registered version
# A replay's summary and a search.
REPLAY_SUMMARY = "replay.json"
BEST_VALUES = "best.json"

ENCODED = frozenset("fM")  # kinds of columns: floats and times


def picture_path(name: str) -> str:
    """Return the path of a picture that matplotlib draws."""
    return f"pictures/{name}.png"


def log_charts(runs: "ExperimentRuns", run_id: str, charts: Mapping[str, "Figure"], confusion: str) -> None:
    """Log charts of the report by name as pictures, and a confusion matrix, which is an `svg` element.

    Drawn by our own code: matplotlib took a second for the four.
    """
    from model.chart_svg import chart_svg, standalone_svg  # imported here: serving reads artifacts too

    pictures = {name: chart_svg(json.loads(str(figure.to_json())), name) for name, figure in charts.items()}
    pictures["confusion_matrix"] = confusion
    files = {f"pictures/{name}.svg": standalone_svg(picture).encode() for name, picture in pictures.items()}
    log_artifacts(runs, run_id, files)


def log_fold(runs: "ExperimentRuns", run_id: str, fold: "FoldFit") -> None:
    """Log what a fitted fold leaves: its records, its calibrator, the probabilities of further seeds."""
    import pandas as pd  # imported here: arrays inside need no pandas

    files = {
        FOLD_RECORD: parquet_bytes(fold.record.frame()),
        FOLD_VALIDATION: parquet_bytes(fold.validation.frame()),
        FOLD_CALIBRATOR: calibrator_to_json(fold.calibrator).encode(),
        FOLD_UNCALIBRATED: parquet_bytes(pd.DataFrame({"probability": fold.uncalibrated})),
    }
    if fold.further_seeds:
        frame = pd.DataFrame({str(seed): probabilities for seed, probabilities in fold.further_seeds.items()})
        files[FOLD_SEEDS] = parquet_bytes(frame)
    if fold.held_out is not None:
        frames = [each.frame() for each in (*fold.held_out, fold.record.take(np.empty(0, dtype=np.int64)))]
        files[FOLD_HELD_OUT] = parquet_bytes(pd.concat(frames, ignore_index=True))
    log_artifacts(runs, run_id, files)


def log_final_network(
    runs: "ExperimentRuns", run_id: str, network: Any, final: "FinalNetwork", calibrator: Calibrator
) -> None:
    """Log a final network: the `keras.Model` in both stored forms, its probe and its calibrator."""
    from model.network_files import network_to_bytes, network_to_onnx  # imported here: loads TensorFlow

    files = {
        PROBE: _probe_bytes(final),
        KERAS: network_to_bytes(network),
        ONNX: network_to_onnx(network),
        CALIBRATOR: calibrator_to_json(calibrator).encode(),
    }
    log_artifacts(runs, run_id, files)


def log_probe(runs: "ExperimentRuns", run_id: str, final: "FinalNetwork") -> None:
    """Log the trained network's probabilities of the newest windows; the registered files must repeat them."""
    log_artifacts(runs, run_id, {PROBE: _probe_bytes(final)})


def _probe_bytes(final: "FinalNetwork") -> bytes:
    import pandas as pd  # imported here: arrays inside need no pandas

    frame = pd.DataFrame({"decided_at": final.probe_decided_at, "probability": final.probe})
    further = {f"output_{number}": values for number, values in enumerate(final.probe_further.T, 2)}
    return parquet_bytes(frame.assign(**further))


def log_record(runs: "ExperimentRuns", run_id: str, record: Record, baselines: dict[str, np.ndarray]) -> None:
    """Log an out-of-sample record with the baselines' probabilities on the same windows, `base_rate` among them."""
    log_artifacts(runs, run_id, {RECORD: parquet_bytes(record.frame().assign(**baselines))})


def log_validation(runs: "ExperimentRuns", run_id: str, validation: Iterable[Record]) -> None:
    """Log each fold's record of its validation windows; see `FoldFit.validation`."""
    import pandas as pd  # imported here: arrays inside need no pandas

    frame = pd.concat([each.frame() for each in validation], ignore_index=True)
    log_artifacts(runs, run_id, {VALIDATION: parquet_bytes(frame)})


def read_validation(runs: "ExperimentRuns", run_id: str) -> tuple[Record, ...]:
    """Return what `log_validation` logged, by fold.

    Raises:
        UnsoundModel: the run has none: it is of version 0.1.
    """
    frame = _read_frame(runs, run_id, VALIDATION)
    return tuple(record_from_frame(part) for _, part in frame.groupby("fold"))


def log_fold_networks(runs: "ExperimentRuns", run_id: str, fold_networks: np.ndarray) -> None:
    """Log the fold networks' uncalibrated P(rise) on the windows of the record, shape (fold, window)."""
    import pandas as pd  # imported here: arrays inside need no pandas

    frame = pd.DataFrame({str(number): probabilities for number, probabilities in enumerate(fold_networks)})
    log_artifacts(runs, run_id, {FOLD_NETWORKS: parquet_bytes(frame)})


def log_equity(runs: "ExperimentRuns", run_id: str, closed_at: np.ndarray, equity: dict[str, np.ndarray]) -> None:
    """Log equity curves by name, shape (bar,), with the closes of their bars."""
    import pandas as pd  # imported here: arrays inside need no pandas

    frame = pd.DataFrame(equity)
    frame.insert(0, "closed_at", utc_index(closed_at))
    log_artifacts(runs, run_id, {EQUITY: parquet_bytes(frame)})


def log_artifacts(runs: "ExperimentRuns", run_id: str, files: dict[str, bytes]) -> None:
    """Log files by their paths in the run."""
    folders: dict[str, dict[str, bytes]] = {}
    for path, content in files.items():
        folder, _, name = path.rpartition("/")
        folders.setdefault(folder, {})[name] = content
    for folder, named in folders.items():
        runs.log_files(run_id, named, folder)


def parquet_bytes(frame: "pd.DataFrame") -> bytes:
    """Return a frame as the bytes of a Parquet file: numbers and times are encoded so that they compress well."""
    encodings = {
        str(name): "BYTE_STREAM_SPLIT" if kind.kind == "f" else "DELTA_BINARY_PACKED"
        for name, kind in frame.dtypes.items()
        if kind.kind in ENCODED
    }
    buffer = io.BytesIO()
    frame.to_parquet(
        buffer,
        index=False,
        compression="zstd",
        use_dictionary=[str(name) for name in frame.columns if str(name) not in encodings] or False,
        column_encoding=encodings or None,
        write_statistics=False,
    )
    return buffer.getvalue()


def read_calibrator(runs: "ExperimentRuns", run_id: str, path: str = FOLD_CALIBRATOR) -> Calibrator:
    """Return the calibrator of a fold's run, or, at `CALIBRATOR`, of a retrain's final network."""
    return calibrator_from_json(runs.read_file(run_id, path).decode())


def pooled_record(runs: "ExperimentRuns", fold_run_ids: Iterable[str]) -> Record:
    """Return the out-of-sample record of all folds, oldest first."""
    import pandas as pd

    frames = [_read_frame(runs, run_id, FOLD_RECORD) for run_id in fold_run_ids]
    return record_from_frame(pd.concat(frames, ignore_index=True))


def held_out_record(runs: "ExperimentRuns", fold_run_ids: Iterable[str]) -> Record:
    """Return the record of the held-out series of all folds, oldest first; empty where they have no test window."""
    import pandas as pd

    frames = [_read_frame(runs, run_id, FOLD_HELD_OUT) for run_id in fold_run_ids]
    return record_from_frame(pd.concat(frames, ignore_index=True))


def validation_records(runs: "ExperimentRuns", fold_run_ids: Iterable[str]) -> tuple[Record, ...]:
    """Return the record of each fold's validation windows, by fold; see `FoldFit.validation`.

    Raises:
        UnsoundModel: a fold has none: it is of version 0.1.
    """
    return tuple(record_from_frame(_read_frame(runs, run_id, FOLD_VALIDATION)) for run_id in fold_run_ids)


def pooled_seeds(runs: "ExperimentRuns", fold_run_ids: Iterable[str]) -> dict[int, np.ndarray]:
    """Return P(rise) of all test windows by further seed, oldest first: shape (window,) each."""
    import pandas as pd

    frame = pd.concat([_read_frame(runs, run_id, FOLD_SEEDS) for run_id in fold_run_ids], ignore_index=True)
    return {int(name): frame[name].to_numpy(dtype=np.float64) for name in frame.columns}


def pooled_fold_networks(runs: "ExperimentRuns", fold_run_ids: Iterable[str]) -> np.ndarray:
    """Return the fold networks' uncalibrated P(rise) on the windows of the record: shape (fold, window)."""
    from model.walk_forward import stack_fold_networks  # imported here: serving reads artifacts too

    frames = [_read_frame(runs, run_id, FOLD_UNCALIBRATED) for run_id in fold_run_ids]
    return stack_fold_networks([frame["probability"].to_numpy(dtype=np.float64) for frame in frames])


def read_fold_networks(runs: "ExperimentRuns", run_id: str) -> np.ndarray:
    """Return what `log_fold_networks` logged: shape (fold, window), float64.

    Raises:
        UnsoundModel: the run has none: it is of version 0.1.
    """
    return _read_frame(runs, run_id, FOLD_NETWORKS).to_numpy(dtype=np.float64).T.copy()


def read_evaluation(runs: "ExperimentRuns", run_id: str) -> tuple[Record, np.ndarray]:
    """Return the out-of-sample record of a retrain, and the base rate's probabilities on the same windows."""
    frame = _read_frame(runs, run_id, RECORD)
    return record_from_frame(frame), frame["base_rate"].to_numpy(dtype=np.float64)


def read_probe(runs: "ExperimentRuns", run_id: str) -> "pd.DataFrame":
    """Return the trained network's probabilities of the newest windows: decided_at, probability, further outputs."""
    return _read_frame(runs, run_id, PROBE)


def read_equity(runs: "ExperimentRuns", run_id: str) -> "pd.DataFrame":
    """Return the equity curves of a retrain: closed_at, then one column per way of trading."""
    return _read_frame(runs, run_id, EQUITY)


def _read_frame(runs: "ExperimentRuns", run_id: str, path: str) -> "pd.DataFrame":
    import pandas as pd

    return pd.read_parquet(io.BytesIO(runs.read_file(run_id, path)))

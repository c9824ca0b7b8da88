"""What a retrain left in MLflow, read back: out-of-sample records, the final network's probe, calibrators. Plain.

A frame is kept as one Parquet file among a run's artifacts; paths are known here and nowhere else by readers.
"""

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from model.calibration import Calibrator, calibrator_from_json
from model.metrics import Record, record_from_frame
from tasks.registry.tracking import CALIBRATOR, Tracking

if TYPE_CHECKING:
    import pandas as pd

SEEDS = "seeds.parquet"  # of a fold's run: P(rise) of its test windows, one column a further seed


def parquet_bytes(frame: "pd.DataFrame") -> bytes:
    """Return a frame as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def read_calibrator(tracking: Tracking, run_id: str, folder: str = "") -> Calibrator:
    """Return the calibrator that a fold's run left, or, from folder `network/`, a retrain's final fit."""
    return calibrator_from_json(tracking.read_file(run_id, folder + CALIBRATOR).decode())


def pooled_record(tracking: Tracking, fold_run_ids: Iterable[str]) -> Record:
    """Return the out-of-sample record of all folds, oldest first."""
    import pandas as pd

    frames = [_read(tracking, run_id, "record.parquet") for run_id in fold_run_ids]
    return record_from_frame(pd.concat(frames, ignore_index=True))


def pooled_seeds(tracking: Tracking, fold_run_ids: Iterable[str]) -> dict[int, np.ndarray]:
    """Return what further seeds said of all folds' test windows, oldest first: shape (window,) by seed."""
    import pandas as pd

    frame = pd.concat([_read(tracking, run_id, SEEDS) for run_id in fold_run_ids], ignore_index=True)
    return {int(name): frame[name].to_numpy(dtype=np.float64) for name in frame.columns}


def read_evaluation(tracking: Tracking, run_id: str) -> tuple[Record, np.ndarray]:
    """Return the out-of-sample record that a retrain logged, and the base rate's probabilities on the same windows."""
    frame = _read(tracking, run_id, "evaluation/record.parquet")
    return record_from_frame(frame), frame["base_rate"].to_numpy(dtype=np.float64)


def read_probe(tracking: Tracking, run_id: str) -> "pd.DataFrame":
    """Return what the final network said of the newest windows while it was in training: decided_at, probability."""
    return _read(tracking, run_id, "network/probe.parquet")


def _read(tracking: Tracking, run_id: str, path: str) -> "pd.DataFrame":
    import pandas as pd

    return pd.read_parquet(io.BytesIO(tracking.read_file(run_id, path)))

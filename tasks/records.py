"""What a retrain left in MLflow, read back: out-of-sample records and the probe of the final network. Plain.

A frame is kept as one Parquet file among a run's artifacts; paths are known here and nowhere else by readers.
"""

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from model.metrics import Record, record_from_frame
from tasks.tracking import Tracking

if TYPE_CHECKING:
    import pandas as pd


def parquet_bytes(frame: "pd.DataFrame") -> bytes:
    """Return a frame as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def pooled_record(tracking: Tracking, fold_run_ids: Iterable[str]) -> Record:
    """Return the out-of-sample record of all folds, oldest first."""
    import pandas as pd

    frames = [_read(tracking, run_id, "record.parquet") for run_id in fold_run_ids]
    return record_from_frame(pd.concat(frames, ignore_index=True))


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

"""A home written by version 0.1, to test that newer versions read it.

`home_0.1.tar.xz` was made at commit 92f5a7c: `riseorfall retrain` on the bundled sample in an empty /tmp/home01, then
`riseorfall predict`. Of the result it keeps `data/tables`, `mlruns/mlflow.db` (after VACUUM), the files of version 1
and the artifacts of the retrain's run; left out are logs, Data Docs, Prefect's database, `report.html`, `pictures/`
and the artifacts of the fold runs. Packed with
`tar --sort=name --owner=0 --group=0 --mtime=2026-11-26 -C /tmp/home01 -cf - data mlruns | xz -9e`.
"""

import shutil
import tarfile
from pathlib import Path

from copied_home import repoint_registry

ARCHIVE = Path(__file__).parent / "home_0.1.tar.xz"
WRITTEN_AT = Path("/tmp/home01")

# Predictions of version 1 for the last 20 stored bars, computed by version 0.1 (onnxruntime, one AVX-512 machine).
PROBABILITIES = {
    "2019-09-28T00:00:00Z": 0.4970196783542633,
    "2019-09-29T00:00:00Z": 0.4997279942035675,
    "2019-09-30T00:00:00Z": 0.5020889043807983,
    "2019-10-01T00:00:00Z": 0.5018794536590576,
    "2019-10-02T00:00:00Z": 0.5017993450164795,
    "2019-10-03T00:00:00Z": 0.5017843842506409,
    "2019-10-04T00:00:00Z": 0.49964940547943115,
    "2019-10-05T00:00:00Z": 0.4982735514640808,
    "2019-10-06T00:00:00Z": 0.4975235164165497,
    "2019-10-07T00:00:00Z": 0.49640029668807983,
    "2019-10-08T00:00:00Z": 0.49567586183547974,
    "2019-10-09T00:00:00Z": 0.49738216400146484,
    "2019-10-10T00:00:00Z": 0.4960896670818329,
    "2019-10-11T00:00:00Z": 0.49784326553344727,
    "2019-10-12T00:00:00Z": 0.49387627840042114,
    "2019-10-13T00:00:00Z": 0.49460655450820923,
    "2019-10-14T00:00:00Z": 0.4924619197845459,
    "2019-10-15T00:00:00Z": 0.4935350716114044,
    "2019-10-16T00:00:00Z": 0.49211585521698,
    "2019-10-17T00:00:00Z": 0.49143186211586,
}
# The same by `network.keras` in TensorFlow.
KERAS_PROBABILITIES = (
    0.4970196485519409, 0.4997279644012451, 0.5020889043807983, 0.5018794536590576, 0.5017993450164795,
    0.5017843246459961, 0.49964937567710876, 0.4982735514640808, 0.4975234866142273, 0.49640029668807983,
    0.49567586183547974, 0.49738216400146484, 0.4960896670818329, 0.49784326553344727, 0.49387627840042114,
    0.49460655450820923, 0.4924619197845459, 0.4935350716114044, 0.49211585521698, 0.49143186211586,
)  # fmt: skip
STORED_PREDICTION = {
    "symbol": "BTC-USD",
    "interval": "1d",
    "decided_at": "2019-10-17T00:00:00+00:00",
    "resolves_at": "2019-10-18T00:00:00+00:00",
    "probability": 0.49143186211586,
    "version": "1",
}
DECISION_ID = "4f68701a7abb412080ac5b383523d514"  # also the MLflow run of the retrain
# The daily rule's numbers of version 1 as a challenger of itself, seed 7.
GATE_NUMBERS = {
    "base_rate.difference": -0.0017667196417613246,
    "base_rate.low": -0.006125289591896474,
    "base_rate.high": 0.0023777970114402408,
    "base_rate.p_value": 0.3956043956043956,
    "base_rate.n": 750.0,
    "champion.difference": 0.0,
    "champion.low": 0.0,
    "champion.high": 0.0,
    "champion.p_value": 1.0,
    "champion.n": 750.0,
}


def unpack_home(target: Path) -> Path:
    """Unpack the home into a new folder and return it; its MLflow database names the files there."""
    target.mkdir(parents=True)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(target, filter="data")
    repoint_registry(target, WRITTEN_AT)
    return target


def drop_prediction_log(home: Path) -> None:
    """Delete the stored predictions, so that `predict` computes them."""
    shutil.rmtree(home / "data" / "tables" / "predictions")

"""Convert a network to its two stored forms, `.keras` and ONNX, and read the first one back.

A network is stored as `.keras` (inspection, warm start) and as ONNX (serving without TensorFlow, see
`model.predictor`). Where files are kept is not known here. Caution: Keras and tf2onnx write to paths only, so the
conversions use a temporary folder, the one place where `model/` touches a disk; it is removed on return.
"""

import io
import logging
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


def network_to_bytes(network: Any) -> bytes:
    """Return a `keras.Model` as the bytes of a `.keras` file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.keras")
        network.save(path)
        return _compressed(path)


def _compressed(path: Path) -> bytes:
    """Return a ZIP archive with its members compressed: Keras stores them as they are, half of them zeros."""
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as stored, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in stored.infolist():
            content = stored.read(member)
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, content)
    return packed.getvalue()


def network_from_bytes(content: bytes) -> Any:
    """Return the `keras.Model` that a `.keras` file holds; nothing in the file is run as code."""
    import keras  # imported here: loads TensorFlow

    import model.layers  # noqa: F401  # registers the custom layers

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.keras")
        path.write_bytes(content)
        return keras.models.load_model(path)


def network_to_onnx(network: Any) -> bytes:
    """Return a `keras.Model` as ONNX: windows (window, lookback, feature) float64 -> its output, float32."""
    from model.onnx_export import UnknownLayer, write_onnx  # imported here: loads TensorFlow

    try:
        return write_onnx(network)
    except UnknownLayer as error:
        log.info("network %s is exported to ONNX by Keras, which is slower: %s", network.name, error)
        return export_by_keras(network)


def export_by_keras(network: Any) -> bytes:
    """Return any `keras.Model` as ONNX, traced a second time."""
    from model.onnx_export import OPSET  # imported here: loads TensorFlow

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        with warnings.catch_warnings():
            # Keras tests for the removed alias `np.object`, at which NumPy warns.
            warnings.filterwarnings("ignore", "In the future `np.object`", FutureWarning)
            network.export(path, format="onnx", verbose=False, input_signature=network.inputs, opset_version=OPSET)
        return path.read_bytes()

"""Archives that would write outside their folder, or run code that they contain."""

import io
import json
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from model.network_files import network_from_bytes, network_to_bytes
from model.networks import NetworkSpec, build_network


def test_a_model_archive_with_a_path_that_leaves_it_writes_nothing_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(inner))
    content = io.BytesIO(network_to_bytes(build_network(NetworkSpec(filters=(2, 2), units=2, dense_units=2), 10, 4)))
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr("../../evil.txt", "evil")
        archive.writestr("assets/../../../evil.txt", "evil")
    with pytest.warns(UserWarning, match="Skipping invalid path"):
        network_from_bytes(content.getvalue())
    assert not [*tmp_path.rglob("evil.txt")]
    assert not [*inner.iterdir()]


def test_a_model_archive_that_contains_code_is_refused() -> None:
    import keras

    code = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x * 2)])
    with pytest.raises(ValueError, match="ambda"):
        network_from_bytes(network_to_bytes(code))


def test_a_copy_of_the_buckets_with_a_path_that_leaves_them_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import importlib.util

    place = Path(__file__).parents[3] / "docker" / "bucket_copies.py"
    spec = importlib.util.spec_from_file_location("copies", place)
    assert spec is not None
    assert spec.loader is not None
    copies = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copies)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        content = json.dumps({}).encode()
        entry = tarfile.TarInfo("tables/../../etc/evil")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    stream.seek(0)
    (tmp_path / "copy.tar").write_bytes(stream.getvalue())
    monkeypatch.setattr(copies, "_client", lambda: None)
    with (tmp_path / "copy.tar").open("rb") as file, monkeypatch.context() as patch:
        patch.setattr("sys.stdin", SimpleNamespace(buffer=file))
        with pytest.raises(SystemExit, match="expected an object"):
            copies.load(["mlflow", "tables"])

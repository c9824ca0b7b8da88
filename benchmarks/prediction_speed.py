"""Prediction speed: a cold `riseorfall predict`, windows per second, the ONNX export, the latency of the REST server.

Needs the home of a retrain with a champion. The cold start is a whole process, compared with a process that imports
Keras, loads the champion's Keras file and predicts one window (the TensorFlow route). Both alternate; the first run of
each, which fills the page cache, is not counted.
"""

import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
from synthetic_series import walk
from timed_comparison import Line, versus

from model.network_files import export_by_keras, network_from_bytes, network_to_onnx
from model.predictor import Predictor
from model.recipe import Recipe
from model.windows import cut_windows

COUNT = 20_000
REQUESTS = 300
COMMAND = Path(sys.executable).with_name("riseorfall")
TENSORFLOW_ROUTE = (
    "import sys, keras, numpy as np, model.layers; network = keras.models.load_model(sys.argv[1]); "
    "print(network.predict(np.random.default_rng(0).uniform(1, 2, (1, *network.input_shape[1:])), verbose=0))"
)


def lines(rounds: int, home: Path) -> list[Line]:
    """Compare."""
    environment = os.environ | {"RISEORFALL_HOME": str(home), "TF_CPP_MIN_LOG_LEVEL": "3"}
    files = next(iter(sorted(home.glob("mlruns/artifacts/**/network.onnx"))[-1:])).parent

    def run(command: list[str]) -> None:
        subprocess.run(command, env=environment, check=True, capture_output=True)

    cold = versus(
        "cold start, whole process: TensorFlow route (import Keras, load network.keras, predict)",
        lambda: run([str(COMMAND), "predict"]),
        lambda: run([sys.executable, "-c", TENSORFLOW_ROUTE, str(next(files.glob("network.keras")))]),
        rounds, 8,
    )  # fmt: skip
    recipe = Recipe.model_validate_json((files / "recipe.json").read_text(encoding="utf-8"))
    bars = walk(COUNT + recipe.window.lookback_bars - 1)
    predictor = Predictor((files / "network.onnx").read_bytes(), recipe.window)
    network = network_from_bytes((files / "network.keras").read_bytes())
    values = cut_windows(bars, recipe.window).values()
    _, predicted = predictor.predict(bars)
    np.testing.assert_allclose(predicted, network.predict(values, batch_size=1024, verbose=0)[:, 0], atol=1e-5)
    throughput = versus(
        f"P(rise) of {COUNT:,} windows: keras predict, batches of 1024",
        lambda: predictor.predict(bars), lambda: network.predict(values, batch_size=1024, verbose=0), rounds, 3,
    )  # fmt: skip
    usual = versus(
        "P(rise) of 4,000 windows: keras predict, its default batch of 32",
        lambda: predictor.predict(walk(4_000 + recipe.window.lookback_bars - 1)),
        lambda: network.predict(values[:4_000], verbose=0), rounds,
    )  # fmt: skip
    export = versus(
        "network.onnx written from the weights: Keras's export (tf2onnx)",
        lambda: network_to_onnx(network), lambda: export_by_keras(network), rounds, 10,
    )  # fmt: skip
    return [cold, throughput, usual, export, _rest(environment, recipe)]


def _rest(environment: dict[str, str], recipe: Recipe) -> Line:
    """Request one window repeatedly from a server, one request at a time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    bars = walk(recipe.window.lookback_bars)
    rows = [
        {"timestamp": f"{at}Z", **dict(zip(("open", "high", "low", "close", "volume"), map(float, row), strict=True))}
        for at, row in zip(np.datetime_as_string(bars.opened_at, unit="s"), bars.ohlcv, strict=True)
    ]
    body = json.dumps({"bars": rows}).encode()
    address = f"http://127.0.0.1:{port}/predict"
    server = subprocess.Popen(
        [str(COMMAND), "serve", "--port", str(port)],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        seconds = []
        for attempt in range(-400, REQUESTS):
            started = time.perf_counter()
            try:
                request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
                with urllib.request.urlopen(request, timeout=30) as answer:
                    answer.read()
            except urllib.error.URLError as error:
                if isinstance(error, urllib.error.HTTPError) or attempt >= -1 or server.poll() is not None:
                    raise
                time.sleep(0.2)
                continue
            if attempt >= 0:
                seconds.append(time.perf_counter() - started)
    finally:
        server.terminate()
        server.wait()
    cuts = statistics.quantiles(seconds, n=100)
    return Line("REST latency, one window: p50 (ours), p99 (other)", 1e3 * cuts[49], 1e3 * cuts[98], "ms", None)

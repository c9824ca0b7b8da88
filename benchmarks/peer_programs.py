"""The programs of the peers, run by the Python of `.venv-bench`; they import nothing from this project.

`torch`: the default network of this project in PyTorch, an epoch over windows held in memory, with NAdam.
`neuralforecast`: `cross_validation(refit=True)` of an LSTM with 32 units, a step ahead, on a random walk.
"""

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

LOOKBACK = 30


def torch_epoch(settings: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Return an epoch of training of the network CNN + LSTM on 4,000 windows."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv_1, self.norm_1 = nn.Conv1d(4, 16, 4, padding="same", bias=False), nn.BatchNorm1d(16)
            self.conv_2, self.norm_2 = nn.Conv1d(16, 8, 4, padding="same", bias=False), nn.BatchNorm1d(8)
            self.lstm = nn.LSTM(8, 32, batch_first=True)
            self.dense, self.dense_norm = nn.Linear(32, 64, bias=False), nn.BatchNorm1d(64)
            self.probability, self.leaky, self.drop = nn.Linear(64, 1), nn.LeakyReLU(0.3), nn.Dropout(0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            deviation, mean = torch.std_mean(x, dim=1, keepdim=True, correction=0)
            x = ((x - mean) / deviation).float().transpose(1, 2)
            x = self.drop(self.leaky(self.norm_1(self.conv_1(x))))
            x = self.drop(self.leaky(self.norm_2(self.conv_2(x))))
            _, (last, _) = self.lstm(x.transpose(1, 2))
            x = self.leaky(self.dense_norm(self.dense(last[0])))
            return self.probability(x)[:, 0]

    count, batch = settings["windows"], settings["batch"]
    rng = np.random.default_rng(0)
    close = 20_000 * np.exp(np.cumsum(rng.normal(0, 0.02, count + LOOKBACK)))
    bars = np.column_stack((close, close * 1.01, close * 0.99, close))
    view = np.lib.stride_tricks.sliding_window_view(bars, LOOKBACK, axis=0).swapaxes(1, 2)
    windows = torch.from_numpy(np.ascontiguousarray(view[:count]))
    labels = torch.from_numpy((close[LOOKBACK : LOOKBACK + count] > close[LOOKBACK - 1 : LOOKBACK - 1 + count]) * 1.0)
    labels = labels.float()
    torch.manual_seed(7)
    network = Network()
    optimizer = torch.optim.NAdam(network.parameters(), lr=1e-3, foreach=True)
    loss_of = nn.BCEWithLogitsLoss()

    def epoch() -> dict[str, Any]:
        network.train()
        for rows in torch.randperm(count).split(batch):
            optimizer.zero_grad(set_to_none=True)
            loss_of(network(windows[rows]), labels[rows]).backward()
            optimizer.step()
        return {}

    seconds = {}
    # The faster number of threads for such a small network depends on the machine.
    for threads in (1, os.cpu_count() or 1):
        torch.set_num_threads(threads)
        epoch()
        started = time.perf_counter()
        epoch()
        seconds[threads] = time.perf_counter() - started
    torch.set_num_threads(min(seconds, key=lambda threads: seconds[threads]))
    return epoch


def neuralforecast_days(settings: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Return a cross-validation that refits an LSTM each day, and its seconds."""
    import pandas as pd
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import DistributionLoss
    from neuralforecast.models import LSTM

    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    series = pd.DataFrame(
        {
            "unique_id": "a",
            "ds": pd.date_range("2015-01-01", periods=settings["bars"], freq="D"),
            "y": rng.normal(0, 0.02, settings["bars"]),
        }
    )

    def days() -> dict[str, Any]:
        model = LSTM(
            h=1, input_size=LOOKBACK, encoder_hidden_size=32, encoder_n_layers=1, decoder_hidden_size=64,
            max_steps=settings["steps"], batch_size=1, windows_batch_size=settings["batch"], random_seed=7,
            loss=DistributionLoss("Normal"), enable_progress_bar=False, logger=False, enable_checkpointing=False,
            enable_model_summary=False, accelerator="cpu",
        )  # fmt: skip
        forecast = NeuralForecast([model], freq="D")
        started = time.perf_counter()
        forecast.cross_validation(series, n_windows=settings["days"], step_size=1, refit=True)
        return {"seconds": time.perf_counter() - started}

    return days


def main(program: str, settings: dict[str, Any]) -> None:
    """Prepare, then do one unit of work per input line."""
    try:
        work = {"torch": torch_epoch, "neuralforecast": neuralforecast_days}[program](settings)
    except ImportError as error:
        sys.stdout.write(json.dumps({"peer": program, "missing": f"{error.name} is not installed"}) + "\n")
        return
    sys.stdout.write(json.dumps({"peer": program}) + "\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        result = work()
        sys.stdout.write(json.dumps({"peer": program, **result}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))

"""The network that will serve: its registered files are loaded, and must predict what was predicted after training."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Shaped

from model.bars import Bars
from model.errors import StoreUnavailable, UntrustedModel
from model.recipe import Recipe
from model.record import common_places
from model.sanity_check import SanityCheck, run_sanity_check
from model.times import column_times
from tasks.champion.panel_comparison import predict_since
from tasks.registry.model_registry import Version
from tasks.registry.run_artifacts import read_probe
from tasks.registry.unreachable_store import is_store_failure, store_unavailable
from tasks.workspace import Workspace

log = logging.getLogger(__name__)

RELOAD_TOLERANCE = 1e-5  # largest difference between the stored network's probabilities and those of training


@dataclass(frozen=True, slots=True)
class RegisteredNetwork:
    """The challenger's registered files, loaded and checked.

    Attributes:
        sanity_check: whether it may be served at all.
        decided_at: shape (window,), datetime64[us], UTC: all decisions of the bars, of a panel those of `first` and
            later; empty if it cannot predict.
        uncalibrated: shape (window,), float64: its probabilities before calibration.
        recipe: None if it does not pass the sanity check.
        symbols: shape (window,), text: the series of each decision of a panel; empty for one series.
    """

    sanity_check: SanityCheck
    decided_at: np.ndarray
    uncalibrated: np.ndarray
    recipe: Recipe | None = None
    symbols: Shaped[np.ndarray, " _"] = field(default_factory=lambda: np.empty(0, np.str_))


def check_registered_network(
    workspace: Workspace,
    challenger: Version,
    bars: Bars | Mapping[str, Bars],
    first: np.datetime64 | None = None,
) -> RegisteredNetwork:
    """Load the registered files and compare what they predict with what was predicted after training.

    Args:
        workspace: registry and runs.
        challenger: the registered version.
        bars: shape (bar,), oldest first; of a panel by symbol.
        first: of a panel, the oldest close that it predicts; see `predict_since`.
    """
    try:
        probe = read_probe(workspace.runs, challenger.run_id)
        loaded = workspace.registry.read_version(challenger.version)
        if isinstance(bars, Bars):
            decided_at, outputs = loaded.predictor(calibrated=False).predict_outputs(bars)
            symbols = np.empty(0, np.str_)
        else:
            windows, outputs = predict_since(loaded, bars, first)
            decided_at, symbols = windows.decided_at, windows.symbols
        recipe = loaded.recipe()
        uncalibrated = outputs[:, 0]
        probabilities = loaded.calibrator().apply(uncalibrated)
    except (StoreUnavailable, UntrustedModel):
        raise
    except Exception as error:  # any exception of a broken file is the reason of the rejection
        if is_store_failure(error):
            raise store_unavailable(f"{workspace.name} version {challenger.version}", error) from error
        log.error("%s: version %s is broken: %s", workspace.name, challenger.version, error)  # noqa: TRY400
        broken = SanityCheck(
            finite=True,
            not_constant=True,
            both_classes_possible=True,
            reloads_equal=True,
            detail=str(error),
            loads=False,
        )
        return RegisteredNetwork(broken, np.empty(0, "datetime64[us]"), np.empty(0))
    probed_at = column_times(probe["decided_at"])
    ours, theirs = common_places(_numbered(decided_at), _numbered(probed_at))
    expected = probe.drop(columns="decided_at").to_numpy(dtype=np.float64)[theirs]
    difference = float(np.abs(outputs[ours] - expected).max(initial=0.0)) if len(ours) else float("inf")
    sanity = run_sanity_check(probabilities, reloads_equal=difference <= RELOAD_TOLERANCE)
    return RegisteredNetwork(sanity, decided_at, uncalibrated, recipe if sanity.passed else None, symbols)


def _numbered(decided_at: Shaped[np.ndarray, " window"]) -> Shaped[np.ndarray, " window"]:
    """Return unique times, oldest first: the k-th of n windows of one close gets that time minus n - k microseconds."""
    before_last = np.searchsorted(decided_at, decided_at, side="right") - 1 - np.arange(len(decided_at))
    numbered: np.ndarray = decided_at - before_last.astype("timedelta64[us]")
    return numbered

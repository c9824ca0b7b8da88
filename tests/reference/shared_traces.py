"""Trainers of one network share its traced graph, which keeps nothing of a fit; tracing takes two to four seconds."""

from typing import Any, TypeVar

from model.ensemble import open_trainer
from model.training import Trainer

T = TypeVar("T")

_graphs: dict[Any, Any] = {}


def share_trace(trainer: T) -> T:
    """Give a trainer the graph of the first one of the same network, window, batch and precision."""
    single: Any = trainer
    while not isinstance(single, Trainer):  # of an ensemble, or of a calibrated one
        single = single.trainer
    spec = single.training
    shape = single.lookback_bars, single.feature_count, single.context_count, spec.batch_size
    key = single.network, shape, spec.precision, spec.sample_weights.equal, spec.magnitude_weight
    single._graph = _graphs.setdefault(key, single._graph)
    return trainer


def open_sharing_trainer(*recipe: Any) -> Any:
    """Return what `open_trainer` returns, with a shared trace."""
    return share_trace(open_trainer(*recipe))

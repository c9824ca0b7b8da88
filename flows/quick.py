"""Retrain with a short form: where the bars come from, epochs and seed; the rest is as in the scheduled retrain."""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.retrain import retrain
from model.bars import IntervalName, Series
from tasks.retrain_mlflow_run import HOURS_6
from tasks.services.flow_run_names import flow_run_name
from tasks.services.prefect_run_page import readable
from tasks.services.quick_form_defaults import quick_source, scheduled_parameters
from tasks.sources.source_spec import SourceKind


@flow(name="retrain", flow_run_name=flow_run_name, timeout_seconds=HOURS_6)
@readable
def quick(
    source_kind: SourceKind,
    symbol: Annotated[str, Field(min_length=1)],
    interval: IntervalName,
    path_or_exchange: str,
    epochs: Annotated[int, Field(ge=1, le=10_000)],
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)],
) -> Any:
    """Retrain one series, with a short form; every other parameter is that of the scheduled retrain, or its default.

    Args:
        source_kind: sample: the bundled BTC-USD daily bars; csv: a file; exchange: an exchange's public bars.
        symbol: Base and quote of the series, such as BTC-USD.
        interval: Length of a bar.
        path_or_exchange: Path of the file, or name of the exchange, such as coinbase; empty for the sample.
        epochs: Maximum number of epochs; early stopping usually ends a fit sooner.
        seed: Seed of initial weights, order of windows and dropout.
    """
    series = Series(symbol, interval)
    scheduled = scheduled_parameters(series)
    source = quick_source(source_kind, series, path_or_exchange, scheduled.get("source", {}))
    training = scheduled.get("training", {}) | {"epochs": epochs, "seed": seed}
    parameters = retrain.validate_parameters(scheduled | {"source": source, "training": training})
    return retrain.fn(**parameters)

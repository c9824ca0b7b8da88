"""The signature of a registered version: the columns that it takes and returns."""

from typing import Any

from model.network_heads import further_columns
from model.networks import NetworkSpec


def model_signature(*, panel: bool, network: NetworkSpec) -> Any:
    """Return the columns of a version: those of a panel name the series, heads of the network add outputs."""
    from mlflow.models import ModelSignature  # imported here: see ExperimentRuns.client
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType

    prices = [ColSpec(DataType.double, name) for name in ("open", "high", "low", "close")]
    when = ColSpec(
        AnyType(), "timestamp"
    )  # a time with or without a zone, or ISO text: MLflow's datetime takes one of these
    inputs = [when, *prices, ColSpec(DataType.double, "volume", required=False)]
    outputs = [ColSpec(DataType.string, "decided_at"), ColSpec(DataType.double, "probability")]
    outputs += [ColSpec(DataType.double, name) for name in further_columns(network)]
    if panel:
        inputs.append(ColSpec(DataType.string, "symbol", required=False))
        outputs.insert(1, ColSpec(DataType.string, "symbol", required=False))
    return ModelSignature(Schema(inputs), Schema(outputs))

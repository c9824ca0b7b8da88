"""What a quick retrain takes over from the scheduled one: everything that its short form does not show.

The scheduled retrain is the deployment `retrain/retrain`. A series that it does not retrain gets the defaults and
presets of its interval.
"""

from typing import Any

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound

from model.bars import Series
from tasks.sources.source_spec import SourceKind, SourceSpec

SCHEDULED = "retrain/retrain"


def scheduled_parameters(series: Series) -> dict[str, Any]:
    """Return the parameters of the scheduled retrain, if it retrains this series; none in a run from a shell."""
    if not runtime.deployment.id:
        return {}
    with get_client(sync_client=True) as client:
        try:
            parameters = dict(client.read_deployment_by_name(SCHEDULED).parameters)
        except ObjectNotFound:
            return {}
    return parameters if SourceSpec(**parameters.get("source", {})).series == series else {}


def quick_source(kind: SourceKind, series: Series, path_or_exchange: str, scheduled: dict[str, Any]) -> SourceSpec:
    """Return the source that a short form describes.

    Args:
        kind: of the source.
        series: whose bars.
        path_or_exchange: of a file, or name of an exchange; empty: the default exchange.
        scheduled: source of the scheduled retrain; its other fields, such as columns and time zone, hold for the same
            file or exchange.
    """
    place = "exchange" if kind == "exchange" else "path"  # the sample refuses a path
    fields = {"kind": kind, "symbol": series.symbol, "interval": series.interval}
    fields |= {place: path_or_exchange} if path_or_exchange else {}
    short, known = SourceSpec.model_validate(fields), SourceSpec.model_validate(scheduled)
    same = (short.kind, short.path, short.exchange) == (known.kind, known.path, known.exchange)
    return SourceSpec.model_validate(scheduled | fields) if same else short

"""REST server of the champion: bars in, probabilities out.

The network stays in memory; a new champion is loaded within `REFRESH_SECONDS`. Requests are not trusted: size, number,
times and prices are checked before the network is called, and a fault is returned in `detail` with a 4xx code. It
stores nothing: a reply is no prediction of record.
"""

import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, FiniteFloat

from model.bars import Bars, Series
from model.errors import RiseOrFallError, SpecError
from model.predictor import Predictor
from model.recipe import Recipe
from model.times import to_datetime, to_datetime64
from model.windows import cut_windows
from tasks.champion.commit_decision import read_champion
from tasks.serving.request_limits import BoundedBody, impatient_protocol
from tasks.serving.service_metrics import RequestMetrics
from tasks.settings import Settings
from tasks.workspace import Workspace

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger(__name__)

REFRESH_SECONDS = 30.0
MAX_BARS = 10_000
MAX_FAULTS = 5  # listed in one reply
MAX_BODY_BYTES = 4 * 1024 * 1024
BODY_SECONDS = 20.0  # own choice: 4 MiB arrive in this time at 2 Mbit/s
HEADER_SECONDS = 10.0
NOT_STARTED = 3  # uvicorn's exit code; of this command line, that of failed data checks

Price = Annotated[FiniteFloat, Field(gt=0, description="in the quote currency", strict=True)]


class BarIn(BaseModel):
    """One closed bar."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timestamp: datetime = Field(description="open time, ISO 8601 with a zone, or UTC")
    open: Price
    high: Price
    low: Price
    close: Price
    volume: Annotated[FiniteFloat, Field(ge=0, strict=True)] | None = Field(None, description="in the source's unit")


class Question(BaseModel):
    """Closed bars of the series, oldest first, without a gap in the last window."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bars: Annotated[list[BarIn], FailFast(), Field(min_length=1, max_length=MAX_BARS)]  # faults of one bar only


class Answer(BaseModel):
    """One row for each decidable bar, oldest first."""

    symbol: str
    interval: str
    version: str
    predictions: list["Row"]


class Row(BaseModel):
    """Prediction of the champion at one close."""

    decided_at: datetime
    probability: float = Field(description="that the close `horizon` bars later is higher")
    further: dict[str, float] | None = Field(None, description="what else the champion predicts, by name")


class Health(BaseModel):
    """State of the server."""

    status: Literal["ok"]
    series: str
    version: str
    trained_until: datetime


@dataclass(frozen=True, slots=True)
class Ready:
    """A champion in memory."""

    version: str
    trained_until: datetime
    recipe: Recipe
    predictor: Predictor


class Champion:
    """The champion of a series, loaded once and again after a promotion."""

    def __init__(self, series: Series, settings: Settings) -> None:
        """Set the series; nothing is loaded yet."""
        self.series = series
        self.workspace = Workspace(settings, series)
        self._lock = Lock()
        self._ready: Ready | None = None
        self._refreshed_at = float("-inf")

    def ready(self) -> Ready:
        """Return the champion.

        Raises:
            NoChampion: no version has been promoted yet.
            UnsoundModel: its files cannot be read, and no former champion is in memory.
            UntrustedModel: they are not those that were decided about, and no former champion is in memory.
            StoreUnavailable: registry or files cannot be reached, and no former champion is in memory.
        """
        # One request refreshes, which takes MLflow's client minutes while its server is down; the others do not wait.
        if self._is_stale() and self._lock.acquire(blocking=self._ready is None):
            try:
                if self._is_stale():
                    self._refresh()
            finally:
                self._lock.release()
        assert self._ready is not None
        return self._ready

    def served(self) -> tuple[str, datetime] | None:
        """Return the version in memory and the end of its training bars; None before the first request."""
        return (self._ready.version, self._ready.trained_until) if self._ready else None

    def _is_stale(self) -> bool:
        return self._ready is None or time.monotonic() - self._refreshed_at > REFRESH_SECONDS

    def _refresh(self) -> None:
        workspace = self.workspace
        try:
            champion = read_champion(workspace).require(workspace)
            if self._ready is None or self._ready.version != champion.version:
                loaded = workspace.registry.read_version(champion.version)
                self._ready = Ready(champion.version, champion.trained_until, loaded.recipe(), loaded.predictor())
                log.info("%s: version %s serves from now on", self.series.name, champion.version)
                if workspace.decision_log.last(workspace.name) is None:
                    log.warning(
                        "%s: no decision about it in %s: the alias is the champion, and its files are not verified",
                        self.series.name, workspace.settings.store_root,
                    )  # fmt: skip
        except Exception:
            # Of MLflow, deltalake, pyarrow, onnxruntime or the system: none may end the service of the former champion.
            if self._ready is None:
                raise
            log.exception(
                "%s: the new champion cannot be loaded; version %s keeps serving", self.series.name, self._ready.version
            )
        finally:
            self._refreshed_at = time.monotonic()


def application(champion: Champion) -> "FastAPI":
    """Return the web application of one series."""
    from fastapi import FastAPI, HTTPException, Request, Response  # imported here: half a second
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse

    from tasks.serving.request_body import BoundedRoute  # imported here: of FastAPI, as above

    app = FastAPI(
        title=f"riseorfall: {champion.series.name}",
        description="P(rise) by the champion: that the close at its horizon is higher. Not advice.",
        docs_url="/docs",
    )
    app.router.route_class = BoundedRoute
    metrics = RequestMetrics(champion.served)
    app.middleware("http")(metrics.measure)
    app.add_middleware(BoundedBody, max_bytes=MAX_BODY_BYTES, seconds=BODY_SECONDS)

    @app.exception_handler(RequestValidationError)
    async def refuse(_: Request, error: RequestValidationError) -> Response:
        """Describe the faults without repeating the request, which may be long or no JSON (NaN)."""
        return JSONResponse({"detail": _faults(error.errors())}, status_code=422)

    def require_ready() -> Ready:
        """Return the champion; 503 if none can be loaded."""
        try:
            return champion.ready()
        except RiseOrFallError as error:
            raise HTTPException(503, str(error)) from error

    @app.get("/health")
    def health() -> Health:
        """Return the version that serves; 503 without one."""
        ready = require_ready()
        return Health(
            status="ok", series=champion.series.name, version=ready.version, trained_until=ready.trained_until
        )

    @app.get("/metrics", response_class=Response)
    def read_metrics() -> Response:
        """Return requests, latency and the version in memory for Prometheus."""
        content, kind = metrics.page()
        return Response(content, headers={"Content-Type": kind})

    @app.post("/predict", response_model_exclude_none=True)
    def predict(question: Question) -> Answer:
        """Return P(rise) at each decidable bar."""
        ready = require_ready()
        try:
            return _answer(question, champion.series, ready)
        except (RiseOrFallError, ValueError) as error:
            raise HTTPException(422, str(error)) from error

    return app


def require_free_address(host: str, port: int) -> None:
    """Raise SpecError unless the server can listen on an address."""
    try:
        for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # as the server does
                probe.bind(address)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(
            f"serve: expected an address of this machine and a free port, found {host}:{port} ({reason}). Choose "
            "others with --host and --port."
        ) from error


def serve(series: Series, settings: Settings, host: str, port: int, report: Callable[[str], None]) -> None:
    """Serve the champion until a signal arrives; report the address once it is loaded.

    Raises:
        SpecError: the server cannot listen on the address.
        NoChampion: no version has been promoted yet.
        UnsoundModel: the champion's files cannot be read.
        StoreUnavailable: the store of its files did not answer.
    """
    import uvicorn  # imported here: it comes with Prefect and MLflow

    require_free_address(host, port)
    champion = Champion(series, settings)
    champion.ready()
    report(f"{series.symbol} {series.interval}: POST http://{host}:{port}/predict; Ctrl-C stops the server")
    try:
        uvicorn.run(
            application(champion),
            host=host,
            port=port,
            log_level="warning",
            access_log=False,
            http=impatient_protocol(HEADER_SECONDS),
        )
    except SystemExit as ended:
        if ended.code != NOT_STARTED:
            raise
        raise SpecError(f"serve: the server did not start at {host}:{port}") from ended


def _faults(found: Sequence[Any]) -> str:
    """Return the first faults of a request, by their field."""
    faults = [f"{'.'.join(map(str, each['loc'][1:])) or 'body'}: {each['msg']}" for each in found[:MAX_FAULTS]]
    more = [f"and {len(found) - MAX_FAULTS} more"] if len(found) > MAX_FAULTS else []
    return "; ".join([*faults, *more])


def _answer(question: Question, series: Series, ready: Ready) -> Answer:
    """Return P(rise) at each decidable bar of a request; RiseOrFallError or ValueError if its bars cannot be used."""
    windows = cut_windows(_bars(question, series, ready), ready.predictor.window)
    probabilities, further = ready.predictor.predict_windows(windows), ready.predictor.predict_further(windows)
    rows = [
        Row(
            decided_at=to_datetime(each),
            probability=float(probabilities[place]),
            further={name: float(values[place]) for name, values in further.items()} or None,
        )
        for place, each in enumerate(windows.decided_at)
    ]
    return Answer(symbol=series.symbol, interval=series.interval, version=ready.version, predictions=rows)


def _bars(question: Question, series: Series, ready: Ready) -> Bars:
    """Return the bars of a request; SpecError names the first impossible one."""
    from model.bars import bars_from_frame, require_possible

    import pandas as pd  # isort: skip  # imported here: loaded by the first request

    frame = pd.DataFrame([bar.model_dump() for bar in question.bars])
    frame["volume"] = frame["volume"].astype(float)
    times = [to_datetime64(bar.timestamp) for bar in question.bars]
    bars = bars_from_frame(frame.assign(timestamp=times), series.interval)
    require_possible(bars)
    _require_plausible_times(bars, ready)
    return bars


def _require_plausible_times(bars: Bars, ready: Ready) -> None:
    """Raise SpecError where a bar has not closed yet, or does not open where the bars of the training do."""
    newest, now = bars.closed_at[-1], to_datetime64(datetime.now(UTC))
    if newest > now:
        raise SpecError(f"bars {bars.interval}: expected closed bars, found one that closes at {newest}, after {now}")
    off = (bars.opened_at - to_datetime64(ready.trained_until)) % bars.delta
    if off.any():
        raise SpecError(
            f"bars {bars.interval}: expected open times a whole number of intervals from the end of the training, "
            f"{ready.trained_until}; found {bars.opened_at[0]}"
        )

"""Limits of a request to the REST server: bytes of its body, counted as they arrive, and seconds until it is complete.

A length that the client states proves nothing: a body sent in chunks may be longer. Caution: uvicorn closes idle
connections only after a first answer, so one that never completes its headers would stay open for ever.
"""

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol


class BoundedBody:
    """ASGI middleware: read the body before the application does; answer 413 to one too long, 408 to one too slow."""

    def __init__(self, app: Any, max_bytes: int, seconds: float) -> None:
        """Wrap an application.

        Args:
            app: ASGI application.
            max_bytes: largest body.
            seconds: longest time until the body is complete.
        """
        self.app = app
        self.max_bytes = max_bytes
        self.seconds = seconds

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass the request on with its whole body, or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        if stated.isdigit() and int(stated) > self.max_bytes:
            await _answer(send, 413, f"expected at most {self.max_bytes} bytes, found {int(stated)}")
            return
        try:
            body = await asyncio.wait_for(self._read(receive), self.seconds)
        except TimeoutError:
            await _answer(send, 408, f"expected the whole body within {self.seconds:g} s")
            return
        if body is None:
            await _answer(send, 413, f"expected at most {self.max_bytes} bytes, found more")
            return
        parts = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def replay() -> Any:
            return next(parts, None) or await receive()

        await self.app(scope, replay, send)

    async def _read(self, receive: Any) -> bytes | None:
        """Return the body; None as soon as it exceeds the limit, the rest unread."""
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            body += message.get("body", b"")
            if len(body) > self.max_bytes:
                return None
            more = message.get("more_body", False)
        return bytes(body)


async def _answer(send: Any, status: int, detail: str) -> None:
    """Answer with a reason and close the connection, so that the rest of the body is not read as a next request."""
    from starlette.responses import JSONResponse  # imported here: it comes with FastAPI

    response = JSONResponse({"detail": detail}, status_code=status, headers={"Connection": "close"})
    await response({"type": "http"}, _nothing, send)


async def _nothing() -> dict[str, str]:
    return {"type": "http.disconnect"}


def impatient_protocol(seconds: float) -> "type[H11Protocol]":
    """Return uvicorn's HTTP protocol that closes a connection whose request headers are not complete in time.

    Args:
        seconds: from the opening of the connection, or from the first byte of a further request.
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol  # imported here: it comes with Prefect and MLflow

    class ImpatientProtocol(H11Protocol):
        deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.deadline = self.loop.call_later(seconds, transport.close)

        def data_received(self, data: bytes) -> None:
            if self.deadline is None and not self._answering():
                self.deadline = self.loop.call_later(seconds, self.transport.close)
            super().data_received(data)
            if self.deadline is not None and self._answering():
                self.deadline.cancel()
                self.deadline = None

        def connection_lost(self, exc: Exception | None) -> None:
            if self.deadline is not None:
                self.deadline.cancel()
            super().connection_lost(exc)

        def _answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

    return ImpatientProtocol

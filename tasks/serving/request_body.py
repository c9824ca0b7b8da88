"""The JSON of a request to the REST server: bounded, and without a key that stands twice in one object, at any depth.

Python's parser keeps the last of two values, another one the first: the sender cannot know which was answered. Objects
and their keys are counted while they are parsed, because each fault that is found in them later takes a kilobyte.
"""

import json
from collections import Counter
from typing import Any

from fastapi import HTTPException, Request
from fastapi.routing import APIRoute

LONGEST_KEY = 100  # characters of it that a reply repeats
MAX_KEYS = 32  # of an object; a bar has six
MAX_OBJECTS = 20_000  # twice as many as a question has bars


class BoundedRoute(APIRoute):
    """A route that answers 422 to a body with a doubled key, or with more keys or objects than any question has."""

    def get_route_handler(self) -> Any:
        """Return FastAPI's handler, reading the body by `_Request`."""
        handle = super().get_route_handler()

        async def handle_bounded(request: Request) -> Any:
            return await handle(_Request(request.scope, request.receive))

        return handle_bounded


class _Request(Request):
    async def json(self) -> Any:
        """Parse the body; FastAPI calls it once."""
        return json.loads(await self.body(), object_pairs_hook=_Objects())


class _Objects:
    """Makes the objects of one body; HTTPException if one has a key twice, or if they are too many."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._count += 1
        if len(pairs) > MAX_KEYS or self._count > MAX_OBJECTS:
            raise HTTPException(
                422, f"expected at most {MAX_OBJECTS:,} objects of at most {MAX_KEYS} keys each, found more"
            )
        found = dict(pairs)
        if len(found) < len(pairs):
            doubled = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise HTTPException(422, f"expected each key once in an object, found {doubled[:LONGEST_KEY]!r} again")
        return found

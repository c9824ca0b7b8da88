"""The JSON of a request to the REST server: a key that stands twice in one object is an error, at any depth.

Python's parser keeps the last of two values, another one the first: the sender cannot know which was answered.
"""

import json
from collections import Counter
from typing import Any

from fastapi import HTTPException, Request
from fastapi.routing import APIRoute

LONGEST_KEY = 100  # characters of it that a reply repeats


class UniqueKeysRoute(APIRoute):
    """A route that answers 422 to a body with a doubled key."""

    def get_route_handler(self) -> Any:
        """Return FastAPI's handler, reading the body by `_Request`."""
        handle = super().get_route_handler()

        async def handle_unique(request: Request) -> Any:
            return await handle(_Request(request.scope, request.receive))

        return handle_unique


class _Request(Request):
    async def json(self) -> Any:
        """Parse the body; FastAPI calls it once."""
        return json.loads(await self.body(), object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of these keys; HTTPException if one stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        doubled = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise HTTPException(422, f"expected each key once in an object, found {doubled[:LONGEST_KEY]!r} again")
    return found

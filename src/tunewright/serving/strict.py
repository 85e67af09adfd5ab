"""The bodies of requests as JSON's standard has them; see `tunewright.core.strict_json`.

What no model, no log and no answer can hold (half letters, NaN, nesting without end) is refused here, in one place.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from tunewright.core.limits import JSON_DEPTH, JSON_PARTS
from tunewright.core.strict_json import JSON_FAULTS, StrictJson, described

_REASONS = {
    "surrogate": "there is half a letter in it, a lone surrogate",
    "nesting": f"it is nested more than {JSON_DEPTH} levels deep",
    "number": "it holds a whole number of thousands of digits; write it as text",
    "nan": "it holds a number that JSON doesn't have, such as NaN; write null",
}
"""By the codes of `described`, whose own reasons speak of the lines of a file."""


class StrictRoute(APIRoute):
    """A route whose body is read so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly


class _StrictRequest(Request):
    async def json(self) -> Any:
        """Raises:
        json.JSONDecodeError: it is no JSON.
        HTTPException: it is not JSON as the standard has it.
        """
        if not hasattr(self, "_json"):
            body = await self.body()
            self._json = await _read_aside(body) if len(body) > _LARGE else read_json(body)
        return self._json


_PARTS = (b"[", b"{", b",")
_LARGE = 1 << 20
"""Bytes of a body from which on it is read in a thread."""
_READER = ThreadPoolExecutor(1, "large-bodies")
"""That thread. There is one, because malloc keeps free memory for each thread: with those of a pool, 100 MB."""


async def _read_aside(body: bytes) -> Any:
    """As `read_json`. Others get a turn between decoding, reading and looking: 20 MB take a tenth of a second."""
    return await asyncio.get_running_loop().run_in_executor(_READER, read_json, body)


def read_json(body: bytes) -> Any:
    """The value of a body; raises as `_StrictRequest.json`."""
    # Looked at first, because reading them keeps all other requests waiting: 20 MB of [] take five seconds.
    if sum(map(body.count, _PARTS)) > JSON_PARTS:
        raise HTTPException(400, f"body: it has more than {JSON_PARTS:,} commas and brackets")
    try:
        return StrictJson().read(body.decode(json.detect_encoding(body)))[0]
    except json.JSONDecodeError:
        raise
    except UnicodeDecodeError:
        raise HTTPException(400, "body: it is not written in UTF-8") from None
    except JSON_FAULTS as error:
        raise HTTPException(400, f"body: {_REASONS[described(error).code]}") from None

"""Request bodies as strict JSON; see `tunewright.core.strict_json`.

This one place refuses what no model, no log and no answer can hold: half letters, NaN, nesting without end.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.exceptions import HTTPException

from tunewright.core.limits import JSON_DEPTH, JSON_PARTS
from tunewright.core.strict_json import JSON_FAULTS, StrictJson, described

_REASONS = {
    "surrogate": "there is half a letter in it, a lone surrogate",
    "nesting": f"it is nested more than {JSON_DEPTH} levels deep",
    "number": "it holds a whole number of thousands of digits; write it as text",
    "nan": "it holds a number that JSON doesn't have, such as NaN; write null",
}
"""By the codes of `described`. Its own reasons are about lines of a file."""


_PARTS = (b"[", b"{", b",")
_LARGE = 1 << 20
"""Bytes of a body above which a thread reads it."""
_READER = ThreadPoolExecutor(1, "large-bodies")
"""That thread. There is only one, because malloc keeps free memory for each thread: 100 MB for a pool's threads."""


async def read_body(body: bytes) -> Any:
    """As `read_json`. While it reads a large body, other requests get a turn: 20 MB take a tenth of a second."""
    if len(body) <= _LARGE:
        return read_json(body)
    return await asyncio.get_running_loop().run_in_executor(_READER, read_json, body)


def read_json(body: bytes) -> Any:
    """The value of a body.

    Raises:
        json.JSONDecodeError: it is no JSON.
        HTTPException: it is JSON that the standard does not allow, or too much of it.
    """
    # Counted before reading, which keeps all other requests waiting: 20 MB of [] take five seconds.
    if sum(map(body.count, _PARTS)) > JSON_PARTS:
        raise HTTPException(400, f"body: it has more than {JSON_PARTS:,} commas and brackets")
    try:
        return StrictJson().read(body.decode(json.detect_encoding(body)))[0]
    except json.JSONDecodeError:
        raise
    except UnicodeDecodeError:
        raise HTTPException(400, "body: it is not in UTF-8") from None
    except JSON_FAULTS as error:
        raise HTTPException(400, f"body: {_REASONS[described(error).code]}") from None

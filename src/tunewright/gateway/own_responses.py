"""The ids of own models' responses on /v1/responses, by which the gateway knows them again. No API has stored them."""

from __future__ import annotations

import re

_ID = re.compile(r"resp_tw[0-9a-f]{32}")
"""APIs' own ids have hexadecimal digits alone, and some as many."""


def own_response(identity: str) -> str:
    """The id of an own response, without its prefix `resp_`.

    Args:
        identity: of the request, 32 letters.
    """
    return f"tw{identity}"


def is_own_response(identity: object) -> bool:
    """Whether an id, with its prefix, is that of an own response."""
    return isinstance(identity, str) and _ID.fullmatch(identity) is not None

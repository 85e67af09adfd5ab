"""What a request asks for, by its method and path."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Kind = Literal["chat", "responses", "completions", "embeddings", "other"]

_ROOT = re.compile(
    r"/(?P<azure>openai/)?(?P<v1>v1/)?(?:deployments/(?P<deployment>[^/]+)/)?"
    r"(?P<rest>chat/completions|responses|completions|embeddings)/?"
)
KINDS: dict[str, Kind] = {
    "chat/completions": "chat",
    "responses": "responses",
    "completions": "completions",
    "embeddings": "embeddings",
}
"""The kinds of requests whose bodies the gateway reads, by the ends of their paths."""


class Route(NamedTuple):
    kind: Kind
    """other: a route whose bodies the gateway does not read."""
    deployment: str | None
    """The Azure deployment that the path names."""


def route_of(method: str, path: str) -> Route:
    """What a request asks for. `path` is decoded.

    Azure OpenAI has `/openai/deployments/NAME/chat/completions` and `/openai/v1/chat/completions`, OpenAI
    `/v1/chat/completions`. Source: learn.microsoft.com/azure/foundry/openai/reference (2026-11-28).
    """
    found = _ROOT.fullmatch(path)
    if method != "POST" or not found or not (found["azure"] or found["v1"]):
        return Route("other", _deployment(path))
    return Route(KINDS[found["rest"]], found["deployment"])


def is_azure(path: str) -> bool:
    """Whether only Azure OpenAI has such a path."""
    return path.startswith("/openai/")


def _deployment(path: str) -> str | None:
    found = re.match(r"/openai/deployments/([^/]+)/", path)
    return found[1] if found else None

"""What a request asks for, by its method and path."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Kind = Literal["chat", "responses", "completions", "embeddings", "other"]

_ROOT = re.compile(
    r"/(?P<azure>openai/)?(?P<v1>v1/)?(?:deployments/(?P<deployment>[^/]+)/)?"
    r"(?P<rest>chat/completions|responses|completions|embeddings)/?",
    re.IGNORECASE,
)
_DEPLOYMENT = re.compile(r"/openai/deployments/([^/]+)/", re.IGNORECASE)
_PARAMETERS = re.compile(r";[^/]*")
_SLASHES = re.compile(r"/+")
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
    """What a request asks for, also of a server that does not mind case, repeated slashes or parameters (`;a=b`).

    `path` is decoded. Azure OpenAI has `/openai/deployments/NAME/chat/completions` and `/openai/v1/chat/completions`,
    OpenAI `/v1/chat/completions`. Source: learn.microsoft.com/azure/foundry/openai/reference (2026-11-28).
    """
    path = _plain(path)
    found = _ROOT.fullmatch(path)
    if method != "POST" or not found or not (found["azure"] or found["v1"]):
        return Route("other", _deployment(path))
    return Route(KINDS[found["rest"].lower()], found["deployment"])


def is_azure(path: str) -> bool:
    """Whether only Azure OpenAI has such a path."""
    return _plain(path).lower().startswith("/openai/")


def _plain(path: str) -> str:
    """A path without what lenient servers leave out."""
    return _SLASHES.sub("/", _PARAMETERS.sub("", path))


def _deployment(path: str) -> str | None:
    found = _DEPLOYMENT.match(path)
    return found[1] if found else None

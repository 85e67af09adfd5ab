"""Which headers pass through the gateway, and which belong to one connection, or to the gateway, alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from tunewright.gateway.answers import ENCODINGS

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case, and values."""

OWN = b"x-tunewright-"
"""The beginning of the gateway's own headers."""
_OF_ONE_CONNECTION = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Headers of one connection (RFC 9110, section 7.6.1)."""
_CREDENTIALS = (b"authorization", b"api-key", b"x-api-key")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""Characters that no header may have (RFC 9110, section 5.5). The parser of requests lets some of them through."""


def value_of(headers: Headers, name: bytes) -> str:
    """The first value of a header; empty if there is none."""
    return next((value.decode("latin-1") for key, value in headers if key == name), "")


def has_control_characters(headers: Headers) -> bool:
    """Whether a header can't be passed on."""
    return any(_CONTROL.search(value) for _, value in headers)


def asks_for_websocket(headers: Headers) -> bool:
    """Whether a request asks to go on as a WebSocket (RFC 6455, section 4.2.1)."""
    named = value_of(headers, b"connection").lower().split(",")
    return "upgrade" in map(str.strip, named) and value_of(headers, b"upgrade").lower() == "websocket"


def to_upstream(
    headers: Headers, credential: tuple[str, str] | None, trace: Mapping[str, str]
) -> list[tuple[str, str]]:
    """The headers of a request to an upstream.

    Args:
        credential: the header that replaces the client's own key; None: the client's key is passed on.
        trace: headers that replace the client's own, so that the upstream continues the gateway's trace.
    """
    dropped = _dropped(headers) | {b"host", b"expect"}
    if credential:
        dropped |= {*_CREDENTIALS}
    dropped |= {name.encode("latin-1") for name in trace}
    sent = [
        (name.decode("latin-1"), _text(value))
        for name, value in headers
        if name not in dropped and not name.startswith(OWN) and name != b"accept-encoding"
    ]
    sent.append(("accept-encoding", _encodings(value_of(headers, b"accept-encoding"))))
    if asks_for_websocket(headers):
        sent += [("connection", "Upgrade"), ("upgrade", "websocket")]
    if credential:
        sent.append(credential)
    return [*sent, *trace.items()]


def _text(value: bytes) -> str:
    """A header's value as aiohttp takes it, which sends UTF-8. So UTF-8 passes byte for byte, and Latin-1 by its
    letters."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


def to_client(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of an upstream's answer for the client."""
    lowered = [(name.lower(), value) for name, value in headers]
    dropped = _dropped(lowered)
    return [(name, value) for name, value in lowered if name not in dropped]


def _dropped(headers: Headers) -> set[bytes]:
    """Headers of one connection: those of the standard, and those that `Connection` names."""
    named = (value for name, value in headers if name == b"connection")
    return {*_OF_ONE_CONNECTION, *(each.strip().lower() for value in named for each in value.split(b","))}


def _encodings(accepted: str) -> str:
    """What the client accepts of the encodings that the gateway can read."""
    known = [each.strip() for each in accepted.split(",") if each.partition(";")[0].strip().lower() in ENCODINGS]
    return ", ".join(known) or "identity"

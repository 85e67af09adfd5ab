"""Whether traces are sent, and where to, by OpenTelemetry's own environment variables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tunewright.core.errors import UserError

if TYPE_CHECKING:
    from tunewright.gateway.tracing import Tracing

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"


def tracing_by_environment() -> Tracing | None:
    """The traces that the environment asks for; None: none.

    Raises:
        UserError: they can't be sent in that way.
    """
    endpoint = next((name for name in _ENDPOINTS if os.environ.get(name)), None)
    exporter = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if endpoint is None or exporter == "none" or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    if exporter != "otlp":
        raise _unusable("OTEL_TRACES_EXPORTER", f"The gateway can't send traces by '{exporter}'.", "otlp")
    for name in _PROTOCOLS:
        protocol = os.environ.get(name) or _PROTOCOL
        if protocol != _PROTOCOL:
            raise _unusable(name, f"The gateway can't send traces by the protocol '{protocol}'.", _PROTOCOL)
    parts = urlsplit(os.environ[endpoint])
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _unusable(endpoint, "Traces can't be sent to what is no web address.", "http://localhost:4318")
    # Imported only where needed, because it takes 70 ms.
    from tunewright.gateway.tracing import Tracing

    return Tracing()


def _unusable(name: str, what: str, instead: str) -> UserError:
    return UserError(what, where=f"environment variable {name}", fix=f"Type: export {name}={instead}")

"""Ask an upstream: connections, time limits, and what may be tried again."""

from __future__ import annotations

import asyncio
import io
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from email.utils import mktime_tz, parsedate_tz
from types import SimpleNamespace
from typing import Any

import aiohttp

from tunewright.gateway.body import Body, ClientLeft, TooSlow
from tunewright.gateway.headers import to_upstream
from tunewright.gateway.upstreams import Upstream, UpstreamFault
from tunewright.serving.guard import Message

_PAUSES = (0.1, 0.4)
"""Seconds before the second and third attempt to connect."""
_KEEP_SECONDS = 30.0
"""Seconds for which an idle connection is kept."""
_HEAD_BYTES = 64 << 10
"""Bytes of a header of an answer."""
_MAY_REPEAT = (408, 409, 429)
"""Statuses below 500 after which OpenAI's own clients send a request again. Source: openai-python (2026-11-28)."""
_LONGEST_PAUSE = 5.0
"""Seconds that the gateway waits at an upstream's request before it sends a request again."""
_LARGE = 1 << 20
"""Bytes of a body above which it is sent in pieces, so that other requests get a turn."""


class UpstreamConnection:
    """An upstream with its connections."""

    def __init__(self, upstream: Upstream):
        self.upstream = upstream
        spec = upstream.spec
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reuse)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=spec.connections,
                keepalive_timeout=_KEEP_SECONDS,
                ttl_dns_cache=60,
                ssl=ssl.create_default_context(),
            ),
            timeout=aiohttp.ClientTimeout(
                total=None, connect=spec.connect_seconds, sock_connect=spec.connect_seconds, sock_read=spec.timeout
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            max_field_size=_HEAD_BYTES,
            max_line_size=_HEAD_BYTES,
            trace_configs=[trace],
        )

    async def close(self) -> None:
        await self._session.close()

    async def ask(
        self, scope: Message, body: Body, whole: bytes | None, trace: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """The head of the upstream's answer to a request, its body still to be read.

        A request is sent again only if the upstream can't have answered it: it did not take the connection, or it had
        closed an idle one; and after a refusal that allows it, as often as the settings say.

        Args:
            whole: the body, if it is in memory; else it is passed on as it arrives, and can't be sent twice.
            trace: headers that replace the client's own.

        Raises:
            UpstreamFault, ClientLeft, TooSlow
        """
        connects, repeats, was_stale = 0, 0, False
        headers = to_upstream(scope["headers"], await self.upstream.credential(scope["path"]), trace)
        while True:
            reused = SimpleNamespace(is_reused=False)
            try:
                response = await self._send(scope, headers, body, whole, reused)
            except aiohttp.ClientConnectorError as error:
                if whole is None or connects == len(_PAUSES) or isinstance(error, aiohttp.ClientSSLError):
                    raise self._unreachable(error) from None
                await asyncio.sleep(_PAUSES[connects])
                connects += 1
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if whole is None or was_stale or not reused.is_reused:
                    raise self._unreachable(error) from None
                was_stale = True
            except (aiohttp.ConnectionTimeoutError, aiohttp.SocketTimeoutError) as error:
                raise self._late(error) from None
            except aiohttp.ClientError as error:
                raise self._unreachable(error) from None
            else:
                pause = _pause(response, repeats)
                if whole is None or repeats >= self.upstream.spec.retries or pause is None:
                    return response
                response.close()
                repeats += 1
                await asyncio.sleep(pause)

    async def _send(
        self, scope: Message, headers: list[tuple[str, str]], body: Body, whole: bytes | None, context: Any
    ) -> aiohttp.ClientResponse:
        upstream = self.upstream
        data: Any = None
        if whole is None:
            data = body.pieces()
        elif whole or any(name == "content-length" for name, _ in headers):
            data = io.BytesIO(whole) if len(whole) > _LARGE else whole
            headers = [(name, value) for name, value in headers if name != "content-length"]
        failure: list[Exception] = []
        address = upstream.address(scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1"))
        try:
            return await self._session.request(
                scope["method"],
                address,
                headers=headers,
                data=_noting(data, failure) if whole is None else data,
                allow_redirects=False,
                proxy=upstream.proxy,
                trace_request_ctx=context,
            )
        except aiohttp.ClientError:
            if failure:
                raise failure[0] from None
            raise

    def _unreachable(self, error: Exception) -> UpstreamFault:
        reason = str(error) or type(error).__name__
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            reason = str(error.certificate_error)
        elif isinstance(error, aiohttp.ClientConnectorError):
            reason = f"no connection to {error.host}:{error.port} ({error.strerror})"
        elif isinstance(error, aiohttp.ClientHttpProxyError):
            # Its own text has the proxy's address, and perhaps a password in it.
            reason = f"the proxy on the way answers with status {error.status}"
        elif isinstance(error, aiohttp.ServerDisconnectedError):
            reason = "it closed the connection without an answer"
        return UpstreamFault(
            502,
            f"The upstream '{self.upstream.name}' can't be asked: {reason}.",
            "upstream_unreachable",
            may_be_billed=not isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError)),
        )

    def _late(self, error: Exception) -> UpstreamFault:
        spec = self.upstream.spec
        is_connected = not isinstance(error, aiohttp.ConnectionTimeoutError)
        if is_connected:
            what = f"sent nothing within {spec.timeout:g} s"
        else:
            what = f"took no connection within {spec.connect_seconds:g} s"
        what = f"The upstream '{self.upstream.name}' {what}."
        return UpstreamFault(504, what, "upstream_timeout", may_be_billed=is_connected)


async def _noting(pieces: Any, failure: list[Exception]) -> Any:
    """The pieces of a body. An error in them is noted, because aiohttp reports it as the connection's."""
    try:
        async for piece in pieces:
            yield piece
    except (ClientLeft, TooSlow) as error:
        failure.append(error)
        raise


async def _note_reuse(_session: Any, context: Any, _params: Any) -> None:
    context.trace_request_ctx.is_reused = True


def _pause(response: aiohttp.ClientResponse, repeats: int) -> float | None:
    """Seconds after which a request may be sent again; None: it may not, or not so soon."""
    headers = response.headers
    allowed = headers.get("x-should-retry")
    if allowed == "false" or not (allowed == "true" or response.status in _MAY_REPEAT or response.status >= 500):
        return None
    pause = _asked_pause(headers)
    pause = 0.5 * 2**repeats if pause is None else pause
    return pause if 0 <= pause <= _LONGEST_PAUSE else None


def _asked_pause(headers: Mapping[str, str]) -> float | None:
    """Seconds that an upstream asks to wait; None: it does not say. It may name a date instead (RFC 9110, section
    10.2.3)."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        with suppress(KeyError, ValueError):
            return float(headers[name]) / unit
    with suppress(ValueError, OverflowError):
        if date := parsedate_tz(headers.get("retry-after")):
            return max(0.0, mktime_tz(date) - time.time())
    return None

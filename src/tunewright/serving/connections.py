"""An HTTP server for the open network: it limits its connections, and how long each may keep it waiting.

uvicorn takes any number of connections, and waits for each without limit. Here a client must send a request's head, and
take its answer, in time. When there are too many connections, the server ends the one that has waited longest for its
client, so clients that only connect, or send slowly, keep no other client out. `tunewright serve` and `tunewright
review` both use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import gc
import ipaddress
import json
import logging
import resource
import socket
import sys
import termios
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import uvicorn
from h11 import IDLE, SEND_RESPONSE, InformationalResponse
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tunewright.core.limits import (
    HEAD_BYTES,
    KEEP_ALIVE_SECONDS,
    LOGGED_SECONDS,
    MOST_CONNECTIONS,
    REQUEST_SECONDS,
    RESERVED_DESCRIPTORS,
    STALLED_BYTES,
    STALLED_SECONDS,
)
from tunewright.serving.errors import error_body, refusal

HANG_UP = "tunewright.hang_up"
"""The key of a request's scope with a function that ends its connection, once the client has what was sent so far."""
SWITCH = "tunewright.switch"
"""The key of a request's scope with its connection's `switch`."""
SWITCHING = 101
"""The status that ends HTTP on a connection: bytes of another protocol follow."""
_LOOKS = 10
"""How often the server checks a connection within its time limit."""
_AGAIN_SECONDS = 0.1
"""Pause after a connection that could not be taken."""
_KIND = 20
"""Letters at the beginning of a log message that give its kind; the rest may differ each time."""
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_log = logging.getLogger("uvicorn.error")

Write = Callable[[bytes], Awaitable[None]]
"""Sends bytes, and waits while too many are unsent."""


def connections_allowed() -> int:
    """How many connections a server may have at a time.

    It raises the soft limit of file descriptors as far as needed and as the hard limit allows. Where that is low, it
    leaves a reserve for files, or half of the descriptors.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = MOST_CONNECTIONS + RESERVED_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS has a further limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, max(soft - RESERVED_DESCRIPTORS, soft // 2))


def client_of(host: str) -> str:
    """The client that an address belongs to. For IPv6 that is the network of the first 64 bits, because one customer
    has all addresses in it."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


class Connections:
    """A server's open connections.

    Args:
        most: connections of all clients together; one client may have half of them.
    """

    def __init__(self, most: int):
        self.most, self.share = most, max(1, most // 2)
        self._all: set[ClientConnection] = set()
        self._waiting: OrderedDict[ClientConnection, None] = OrderedDict()
        """The connections that wait for a request or the rest of one, the longest waiting first."""
        self._by_client: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._all)

    def take(self, connection: ClientConnection) -> bool:
        """Add a connection, if need be in the place of one that waits. Returns whether there was a place."""
        if self._by_client[connection.client_key] >= self.share:
            free = self.end_longest(connection.client_key)
        else:
            free = len(self._all) < self.most or self.end_longest()
        if free:
            self._all.add(connection)
            self._waiting[connection] = None
            self._by_client[connection.client_key] += 1
        return free

    def end_longest(self, client_key: str | None = None) -> bool:
        """End the connection that has waited longest, of one client or of all. Returns whether there was one."""
        longest = next((each for each in self._waiting if client_key in (None, each.client_key)), None)
        if longest:
            self.leave(longest)
            longest.transport.abort()
        return longest is not None

    def note(self, connection: ClientConnection, *, waits: bool) -> None:
        """Note that a connection begins or stops waiting for its client."""
        if not waits:
            self._waiting.pop(connection, None)
        elif connection in self._all:
            self._waiting[connection] = None
            self._waiting.move_to_end(connection)

    def leave(self, connection: ClientConnection) -> None:
        if connection not in self._all:
            return
        self._all.discard(connection)
        self._waiting.pop(connection, None)
        self._by_client[connection.client_key] -= 1
        if not self._by_client[connection.client_key]:
            del self._by_client[connection.client_key]


class ClientConnection(H11Protocol):
    """One HTTP/1.1 connection.

    Args:
        connections: all connections of the server.
    """

    def __init__(self, connections: Connections, config: uvicorn.Config, state: ServerState, app_state: dict[str, Any]):
        super().__init__(config, state, app_state)
        self._connections = connections
        self._application = self.app
        self.app = self._answer
        self.client_key = ""
        """The client, as `client_of` gives it."""
        self._state = False, True
        """Whether a request is under way; whether the server waits for one, or for the rest of it."""
        self._idle_since: float | None = self.loop.time()
        self._is_kept = False
        """Whether it is kept between requests, without a byte of the next one."""
        self._unsent = 0
        """Bytes of answers that were waiting in memory when the client last took some."""
        self._taken = self.loop.time()
        """When the client last took some."""
        self._check: asyncio.TimerHandle | None = None
        self._raw: asyncio.StreamReader | None = None
        """What comes from the client after `switch`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.client_key = client_of(self.client[0]) if self.client else ""
        if self._connections.take(self):
            self._check_later()
        else:
            transport.write(_raw(503, "There are too many connections; try again later.", "overloaded"))
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._connections.leave(self)
        if self._raw:
            self._raw.feed_eof()
        self._unset_keepalive_if_required()  # uvicorn leaves this timer behind when a connection breaks
        if self._check:
            self._check.cancel()

    def data_received(self, data: bytes) -> None:
        if self._raw:
            self._raw.feed_data(data)
            return
        if self._is_kept:
            self._is_kept, self._idle_since = False, self.loop.time()
        super().data_received(data)
        self._note_state()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._note_state()
        self._is_kept = self._idle_since is not None

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taken = self.loop.time()

    @contextlib.contextmanager
    def switch(self, headers: list[tuple[bytes, bytes]]) -> Iterator[tuple[asyncio.StreamReader, Write]]:
        """Answer the request under way with `SWITCHING`, and end the connection at the end of the context.

        Yields: what the client sends from here on, and a function that sends bytes to it.
        """
        cycle, reader = self.cycle, asyncio.StreamReader()
        head = InformationalResponse(status_code=SWITCHING, headers=headers, reason=b"Switching Protocols")
        self.transport.write(self.conn.send(head) or b"")
        cycle.response_started = True
        reader.set_transport(self.transport)
        reader.feed_data(self.conn.trailing_data[0])
        self._raw = reader
        # A peer that is gone without a word is noticed by the system, because such a connection may rest for hours.
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.flow.resume_reading()

        async def write(data: bytes) -> None:
            self.transport.write(data)
            await self.flow.drain()

        try:
            yield reader, write
        finally:
            cycle.response_complete = True
            self.transport.close()

    def _should_upgrade(self) -> bool:
        """Whether uvicorn shall speak another protocol: never, and it shall not warn of it."""
        return False

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (uvicorn's own)
        if self.conn.our_state in (IDLE, SEND_RESPONSE):
            reason = f"This is no HTTP request, or its head has more than {HEAD_BYTES >> 10} KiB."
            self.transport.write(_raw(400, reason, "invalid_request"))
        self.transport.close()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        """The application, behind a check of the head's size: h11 counts a head's bytes only until it is whole, so it
        misses a head that comes in one piece."""
        size = len(scope["raw_path"]) + len(scope["query_string"])
        size += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        if size > HEAD_BYTES:
            self.cycle.keep_alive = False
            reason = f"The request's head has more than {HEAD_BYTES >> 10} KiB."
            await refusal(431, reason, "headers_too_large")(scope, receive, send)
        else:
            scope[HANG_UP] = self.transport.close
            scope[SWITCH] = self.switch
            await self._application(scope, receive, send)

    def _note_state(self) -> None:
        under_way = self.cycle is not None and not self.cycle.response_complete
        state = under_way, not under_way or self.cycle.more_body
        if state == self._state:  # a few more bytes don't shorten the time that the connection has waited
            return
        self._state = state
        self._idle_since = None if under_way else self.loop.time()
        self._connections.note(self, waits=state[1])

    def _check_later(self) -> None:
        self._check = self.loop.call_later(min(REQUEST_SECONDS, STALLED_SECONDS) / _LOOKS, self._check_now)

    def _check_now(self) -> None:
        """End the connection if its client is late."""
        if self._is_late(self.loop.time()):
            self.transport.abort()
        else:
            self._check_later()

    def _is_late(self, now: float) -> bool:
        waiting = self.transport.get_write_buffer_size()
        if waiting:  # add the kernel's buffer: the kernel takes more only when a good part of it has gone
            waiting += _unsent(self.transport.get_extra_info("socket"))
        if waiting == 0 and self._unsent == 0:
            allowed = KEEP_ALIVE_SECONDS if self._is_kept else REQUEST_SECONDS
            return self._idle_since is not None and now - max(self._idle_since, self._taken) > allowed
        if self._unsent == 0 or waiting == 0 or waiting <= self._unsent - STALLED_BYTES:
            self._unsent, self._taken = waiting, now
            return False
        self._unsent = max(self._unsent, waiting)  # the application may have added to it
        return now - self._taken > STALLED_SECONDS


class HttpServer(uvicorn.Server):
    """An HTTP server for an application.

    Args:
        proxies: addresses or networks of the proxies that the server trusts for a client's address and scheme.
        drain: seconds that requests under way have to end when the server stops; None: no limit.
        date: add a Date header to answers.
    """

    def __init__(self, app: Any, proxies: Sequence[str] = (), drain: int | None = None, *, date: bool = True):
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=date,
            timeout_graceful_shutdown=drain,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            http="h11",
            h11_max_incomplete_event_size=HEAD_BYTES,
            ws="none",
            proxy_headers=bool(proxies),
            forwarded_allow_ips=list(proxies),
        )
        super().__init__(config)
        self._connections = Connections(connections_allowed())
        self._taking: list[asyncio.Task[None]] = []

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        # What was loaded stays, and looking through it for garbage takes milliseconds in which nobody is answered.
        gc.collect()
        gc.freeze()
        with _throttled_logs():
            super().run(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # Not asyncio's own way to take connections: it takes all that wait before it serves one, and when descriptors
        # run out it logs an error for each connection that may wait.
        await super().startup(sockets=[])
        self._taking = [asyncio.create_task(self._take_from(each)) for each in sockets or ()]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in self._taking:
            task.cancel()
        await asyncio.gather(*self._taking, return_exceptions=True)
        await super().shutdown(sockets)

    async def _take_from(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        listening.setblocking(False)
        while True:
            try:
                connected, _ = await loop.sock_accept(listening)
                await loop.connect_accepted_socket(self._connection, connected)
            except OSError as error:
                _log.warning("A connection could not be taken: %s.", error.strerror)
                if error.errno in _EXHAUSTED:
                    self._connections.end_longest()
                await asyncio.sleep(_AGAIN_SECONDS)

    def _connection(self) -> ClientConnection:
        return ClientConnection(self._connections, self.config, self.server_state, self.lifespan.state)


class LogThrottle(logging.Filter):
    """Lets one record of each kind through per `LOGGED_SECONDS`. The next one gives the number of those dropped, so
    that clients can't fill the disk with errors."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}
        self._dropped: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now = str(record.msg)[:_KIND], time.monotonic()
        if now - self._last.get(kind, -LOGGED_SECONDS) < LOGGED_SECONDS:
            self._dropped[kind] += 1
            return False
        self._last[kind] = now
        if dropped := self._dropped.pop(kind, 0):
            record.msg = f"{record.msg} ({dropped} more like this before it)"
        return True


@contextlib.contextmanager
def _throttled_logs() -> Iterator[None]:
    throttle = LogThrottle()
    loggers = [_log, logging.getLogger("asyncio")]
    for logger in loggers:
        logger.addFilter(throttle)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(throttle)


def _unsent(connected: socket.socket) -> int:
    """Bytes that the kernel has taken and the client has not; 0 where the kernel does not say."""
    counted = bytearray(4)
    try:
        fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, counted)
    except OSError:
        return 0
    return int.from_bytes(counted, sys.byteorder)


def _raw(status: int, message: str, code: str) -> bytes:
    """A whole HTTP response with an error, for a client whose request could not be read."""
    body = json.dumps(error_body(status, message, code)).encode()
    reason = {400: "Bad Request", 503: "Service Unavailable"}[status]
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    wait = "Retry-After: 1\r\n" if status == 503 else ""
    return f"{head}{wait}Connection: close\r\n\r\n".encode() + body

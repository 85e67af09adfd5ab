"""An HTTP server for the open network: how many connections it has, and how long each may keep it waiting.

uvicorn answers over any number of connections, and waits for each as long as it likes. Here a connection must send a
request's head, and take its answer, in time. Where there are too many, the one makes room whose client has owed
something longest: who only connects, or sends slowly, keeps nobody out. `tunewright serve` and `tunewright review` have
all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import ipaddress
import json
import logging
import resource
import socket
import sys
import termios
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import uvicorn
from h11 import IDLE, SEND_RESPONSE
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from tunewright.core.limits import (
    HEAD_BYTES,
    LOGGED_SECONDS,
    MOST_CONNECTIONS,
    REQUEST_SECONDS,
    RESERVED_DESCRIPTORS,
    STALLED_BYTES,
    STALLED_SECONDS,
)
from tunewright.serving.errors import error_body, refusal

_LOOKS = 10
"""That are taken at a connection in the time it has."""
_AGAIN_SECONDS = 0.1
"""After which a connection that could not be taken is tried again."""
_KIND = 20
"""Letters that a message's kind shows in. Behind them there may be what differs each time."""
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_log = logging.getLogger("uvicorn.error")


def connections_allowed() -> int:
    """How many connections a server may have at a time. The soft limit of file descriptors is raised for them, as far
    as the hard one allows; where that is low, a reserve is left for files, or half of them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + RESERVED_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS has a limit above this one
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, max(soft - RESERVED_DESCRIPTORS, soft // 2))


def client_of(host: str) -> str:
    """Whom an address stands for: of IPv6 its first 64 bits, because one customer of a provider has all others."""
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
    """Those that a server has.

    Args:
        most: of all clients together; of one client half of them.
    """

    def __init__(self, most: int):
        self.most, self.share = most, max(1, most // 2)
        self._all: set[ClientConnection] = set()
        self._waiting: OrderedDict[ClientConnection, None] = OrderedDict()
        """Those that wait for a request or the rest of one, the longest waiting first."""
        self._by_client: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._all)

    def take(self, connection: ClientConnection) -> bool:
        """Take one in, if need be in the place of one that waits. Returns whether there was a place."""
        if self._by_client[connection.whose] >= self.share:
            free = self.end_longest(connection.whose)
        else:
            free = len(self._all) < self.most or self.end_longest()
        if free:
            self._all.add(connection)
            self._waiting[connection] = None
            self._by_client[connection.whose] += 1
        return free

    def end_longest(self, whose: str | None = None) -> bool:
        """End the connection that has waited longest, of one client or of all. Returns whether there was one."""
        found = next((each for each in self._waiting if whose in (None, each.whose)), None)
        if found:
            self.leave(found)
            found.transport.abort()
        return found is not None

    def note(self, connection: ClientConnection, *, waits: bool) -> None:
        """Note that a connection begins or ends to wait for its client."""
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
        self._by_client[connection.whose] -= 1
        if not self._by_client[connection.whose]:
            del self._by_client[connection.whose]


class ClientConnection(H11Protocol):
    """One connection, in HTTP/1.1.

    Args:
        connections: all of the server's.
    """

    def __init__(self, connections: Connections, config: uvicorn.Config, state: ServerState, app_state: dict[str, Any]):
        super().__init__(config, state, app_state)
        self._connections = connections
        self._asked = self.app
        self.app = self._answer
        self.whose = ""
        """The client."""
        self._state = False, True
        """Whether a request is under way; whether the client owes one, or the rest of it."""
        self._idle_since: float | None = self.loop.time()
        self._unsent = 0
        """Bytes of answers that were waiting in memory when the client last took some."""
        self._taken = self.loop.time()
        """When that was."""
        self._look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.whose = client_of(self.client[0]) if self.client else ""
        if self._connections.take(self):
            self._look_later()
        else:
            transport.write(_raw(503, "There are too many connections; come again.", "overloaded"))
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._connections.leave(self)
        self._unset_keepalive_if_required()  # which a connection that breaks would leave behind
        if self._look:
            self._look.cancel()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._note_state()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._note_state()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._taken = self.loop.time()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 (uvicorn's own)
        if self.conn.our_state in (IDLE, SEND_RESPONSE):
            said = f"This is no HTTP request, or its head has more than {HEAD_BYTES >> 10} KiB."
            self.transport.write(_raw(400, said, "invalid_request"))
        self.transport.close()

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        """The application. h11 counts the bytes of a head only while it is not whole, and a head may come at once."""
        size = len(scope["raw_path"]) + len(scope["query_string"])
        size += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        if size > HEAD_BYTES:
            self.cycle.keep_alive = False
            large = f"The request's head has more than {HEAD_BYTES >> 10} KiB."
            await refusal(431, large, "headers_too_large")(scope, receive, send)
        else:
            await self._asked(scope, receive, send)

    def _note_state(self) -> None:
        under_way = self.cycle is not None and not self.cycle.response_complete
        state = under_way, not under_way or self.cycle.more_body
        if state == self._state:  # that some bytes have come makes nobody younger
            return
        self._state = state
        self._idle_since = None if under_way else self.loop.time()
        self._connections.note(self, waits=state[1])

    def _look_later(self) -> None:
        self._look = self.loop.call_later(min(REQUEST_SECONDS, STALLED_SECONDS) / _LOOKS, self._look_now)

    def _look_now(self) -> None:
        """End the connection if nothing comes of it."""
        if self._is_late(self.loop.time()):
            self.transport.abort()
        else:
            self._look_later()

    def _is_late(self, now: float) -> bool:
        waiting = self.transport.get_write_buffer_size()
        if waiting:  # what the kernel holds counts, because it takes more only when a good part of that has gone
            waiting += _unsent(self.transport.get_extra_info("socket"))
        if waiting == 0 and self._unsent == 0:
            return self._idle_since is not None and now - max(self._idle_since, self._taken) > REQUEST_SECONDS
        if self._unsent == 0 or waiting == 0 or waiting <= self._unsent - STALLED_BYTES:
            self._unsent, self._taken = waiting, now
            return False
        self._unsent = max(self._unsent, waiting)  # more was added to it
        return now - self._taken > STALLED_SECONDS


class HttpServer(uvicorn.Server):
    """A server of an application.

    Args:
        proxies: addresses, or networks, of proxies whose word is taken for a client's address and scheme.
        drain: seconds that requests under way have to end, once the server is told to stop; None: any number.
    """

    def __init__(self, app: Any, proxies: Sequence[str] = (), drain: int | None = None):
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=drain,
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
        with _logging_seldom():
            super().run(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # Not what asyncio takes connections with: it takes all that wait before it looks at one, and where descriptors
        # run out it logs as many errors as connections may wait.
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


class Seldom(logging.Filter):
    """Lets one record of each kind through in a while, and has the next one tell how many there were between: what
    others send fills no disk with complaints about it."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, float] = {}
        self._held: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now = str(record.msg)[:_KIND], time.monotonic()
        if now - self._last.get(kind, -LOGGED_SECONDS) < LOGGED_SECONDS:
            self._held[kind] += 1
            return False
        self._last[kind] = now
        if held := self._held.pop(kind, 0):
            record.msg = f"{record.msg} ({held} more like this before it)"
        return True


@contextlib.contextmanager
def _logging_seldom() -> Iterator[None]:
    seldom = Seldom()
    loggers = [_log, logging.getLogger("asyncio")]
    for logger in loggers:
        logger.addFilter(seldom)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(seldom)


def _unsent(connected: socket.socket) -> int:
    """Bytes that the kernel has taken, and the client has not; 0 where it does not say."""
    counted = bytearray(4)
    try:
        fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, counted)
    except OSError:
        return 0
    return int.from_bytes(counted, sys.byteorder)


def _raw(status: int, message: str, code: str) -> bytes:
    """A refusal where there is no request, or none that could be read."""
    body = json.dumps(error_body(status, message, code)).encode()
    reason = {400: "Bad Request", 503: "Service Unavailable"}[status]
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    wait = "Retry-After: 1\r\n" if status == 503 else ""
    return f"{head}{wait}Connection: close\r\n\r\n".encode() + body

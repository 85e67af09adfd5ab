"""Each Python of an emulated container loads this at its start. It refuses connections that bypass the emulator's
proxy.

Clients that use HTTPS_PROXY are not affected, nor are programs that are not Python.
"""

import os
import socket
import sys
from urllib.parse import urlsplit

_HERE = ("", "localhost", "0.0.0.0", "::", "::1")


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.getaddrinfo":
        _require_here(arguments[0])
    elif event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        if isinstance(address, tuple):
            _require_here(address[0])


def _require_here(host: object) -> None:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if not isinstance(name, str) or name in _HERE or name.startswith("127.") or name == socket.gethostname():
        return
    _report(name)
    raise PermissionError(
        f"The network of an emulated node is closed: {name} can't be reached from there. "
        "What a job needs travels with it."
    )


def _report(host: str) -> None:
    """Let the proxy record the host, as it records the hosts of its own requests."""
    proxy = urlsplit(os.environ.get("HTTPS_PROXY", ""))
    if proxy.hostname and proxy.port:
        with socket.create_connection((proxy.hostname, proxy.port), timeout=5) as connection:
            connection.sendall(f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode("ascii", "replace"))
            connection.recv(1)


sys.addaudithook(_watch)

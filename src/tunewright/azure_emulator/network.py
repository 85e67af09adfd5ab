"""Azure's host names on this machine: a proxy that leads them to the emulator and refuses all others, and their
certificates."""

from __future__ import annotations

import re
import select
import socket
import socketserver
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

BLOBS = ".blob.core.windows.net"
_CHUNK = 1 << 16
_REFUSAL = b"HTTP/1.1 403 Refused by the emulator: no host of Azure's\r\nContent-Length: 0\r\n\r\n"
"""Clients show the first line in their errors."""
_HEAD = 1 << 14
"""The most bytes of a CONNECT request."""


@dataclass(frozen=True)
class Certificates:
    """The files of the authority to trust, and of a certificate with its key."""

    authority: Path
    certificate: Path
    key: Path


def hosts(region: str) -> tuple[str, ...]:
    """The hosts that the emulator answers for. `*` stands for one part of a name."""
    return (
        "management.azure.com",
        "login.microsoftonline.com",
        "prices.azure.com",
        f"*{BLOBS}",
        "*.api.azureml.ms",
        f"*.{region}.inference.ml.azure.com",
        f"*.emulator.{region}.azurecontainerapps.io",
    )


def certificates(folder: Path, region: str) -> Certificates:
    """Make an authority that lives as long as the emulator, and its certificate for all of `hosts`.

    Raises:
        ModuleNotFoundError: the extra [emulator] is not installed.
    """
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert(*hosts(region), "127.0.0.1")
    files = Certificates(folder / "authority.pem", folder / "certificate.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(files.authority)
    issued.private_key_pem.write_to_path(files.key)
    files.certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    return files


def is_mapped(host: str, known: Iterable[str]) -> bool:
    """Whether a host is among the known ones, where `*` stands for one part of a name."""
    return any(re.fullmatch(re.escape(each).replace(r"\*", r"[^.]+"), host) for each in known)


class Proxy:
    """A CONNECT proxy on a port of its own. It leads known hosts to a port. Others get 403 and are recorded.

    Args:
        known: the known hosts, as `hosts` returns them.
        port: a port of this machine.
    """

    def __init__(self, known: Iterable[str], port: int):
        self._known, self._port = tuple(known), port
        self.refused: list[str] = []
        """Requested hosts that are not known, in order."""
        self.requires_sign_in = False
        """Whether it refuses callers without a name and password."""
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                outer._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, client: socket.socket) -> None:
        try:
            host = _connect_host(client)
            if self.requires_sign_in:
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
            if host is None or not is_mapped(host, self._known):
                self.refused.append(host or "plain http")
                client.sendall(_REFUSAL)
                return
            with socket.create_connection(("127.0.0.1", self._port), timeout=10) as server:
                for each in (client, server):
                    # A head and its body come in two parts, and without this the second waits 40 ms.
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                server.settimeout(None)
                _relay(client, server)
        except OSError:
            return  # the client or the server closed the connection


def _connect_host(client: socket.socket) -> str | None:
    """The host of a CONNECT request; None for another request."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _HEAD:
        part = client.recv(_CHUNK)
        if not part:
            raise OSError("the client closed the connection")
        head += part
    match = re.match(rb"CONNECT ([^\s:]+):\d+ HTTP/1", head)
    return match[1].decode("ascii", "replace").lower() if match else None


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until one side ends."""
    while True:
        readable, _, _ = select.select([one, other], [], [])
        for source in readable:
            data = source.recv(_CHUNK)
            if not data:
                return
            (other if source is one else one).sendall(data)

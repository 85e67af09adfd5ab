"""Containers of served models, as subprocesses: this package runs what a cloud would start from an image."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import httpx

from tunewright.azure_emulator.children import started, stop
from tunewright.azure_emulator.cloud import HttpRequest, HttpResponse, error
from tunewright.azure_emulator.containers import environment_of_containers, sign_in
from tunewright.azure_emulator.dockerfiles import Container
from tunewright.core.processes import free_port

_START_SECONDS = 120.0
SERVER = Container(("python", "-m", "tunewright", "serve", "--host", "0.0.0.0"))
_ONE_HOP = ("connection", "transfer-encoding", "host", "content-length", "accept-encoding", "content-encoding")


class ModelContainer:
    """A container on a port of its own, started by its image's command.

    Args:
        folder: the emulator's folder.
        bundle: the bundle, which `TUNEWRIGHT_BUNDLE` names in the container.
        name: the name of its log, below the folder.
        options: replace the image's arguments of the command line.
        container: its image's command and variables; by default those of our images.
        ready: the path that answers when it is ready.
        principal: the object id of its identity; None if it has none.
    """

    def __init__(
        self,
        folder: Path,
        bundle: Path,
        name: str,
        options: tuple[str, ...] = (),
        container: Container = SERVER,
        ready: str = "/ready",
        principal: str | None = None,
    ):
        self._ready = ready
        self.port, self.log = free_port(), folder / "served" / f"{name}.log"
        command = container.here(self.port, options)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        home = self.log.with_suffix("")
        home.mkdir(exist_ok=True)
        own = {"TUNEWRIGHT_BUNDLE": str(bundle), "HOME": str(home)}
        signed_in = sign_in(principal) if principal else {}
        environment = environment_of_containers() | signed_in | container.variables | own
        with self.log.open("wb") as output:
            self._process = started(folder, command, output, environment)
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=120)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait(self, seconds: float = _START_SECONDS) -> bool:
        """Wait until it is ready. Returns whether it is; False if it ended, or takes longer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._process.poll() is None:
            try:
                if self._client.get(self._ready).status_code == 200:
                    return True
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        return False

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Its answer to a request."""
        headers = {name: value for name, value in request.headers.items() if name not in _ONE_HOP}
        try:
            reply = self._client.request(request.method, request.target, headers=headers, content=request.body)
        except httpx.HTTPError as fault:
            return error(502, "BadGateway", type(fault).__name__)
        kept = {name: value for name, value in reply.headers.items() if name.lower() not in _ONE_HOP}
        return HttpResponse(reply.status_code, reply.content, kept)

    def text(self) -> str:
        """Its log so far."""
        return self.log.read_text("utf-8", "replace") if self.log.is_file() else ""

    def close(self) -> None:
        self._client.close()
        stop(self._process, signal.SIGTERM)
        self._process.wait()

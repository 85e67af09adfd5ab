"""Running the server: in this process for `tunewright serve`, in a child process for tests and the parity step."""

from __future__ import annotations

import argparse
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO, TYPE_CHECKING

import httpx

from tunewright.errors import EXIT_USER, UserError
from tunewright.export.bundle import load_bundle
from tunewright.processes import end_with_parent, free_port, listener
from tunewright.progress import say
from tunewright.serve.adapters import BASE, AdapterStore
from tunewright.serve.captures import CaptureJournal
from tunewright.serve.guard import ANSWER_SECONDS, MOST_UNDER_WAY
from tunewright.serve.identity import Identity
from tunewright.serve.keys import KeyRing

if TYPE_CHECKING:
    from tunewright.serve.hosts import OneModel

READY_SECONDS = 900.0
"""vLLM takes minutes."""
DRAIN_SECONDS = 30
"""That requests under way have to end, once the server is told to stop."""


@dataclass(frozen=True)
class Limits:
    """What a server takes on."""

    keys: Path | None = None
    """The file of those who may ask."""
    identity: Path | None = None
    """The file that names where others who may ask sign in. Without both, everybody may ask."""
    most: int = MOST_UNDER_WAY
    """Requests under way; a further one is told to come again."""
    seconds: float = ANSWER_SECONDS
    """In which a request must be answered."""
    captures: Path | None = None
    """Where questions and answers are kept; None: nowhere."""
    engine: str | None = None
    """What the bundle must run in; None: whatever it is for."""


OPEN = Limits()


def serve(find: Callable[[], Path], host: str, port: int, threads: int | None = None, limits: Limits = OPEN) -> None:
    """Load a bundle, or a folder of adapters, and answer until interrupted; what is under way then is answered first.
    At SIGHUP the bundle that is found then is loaded beside the one that answers, and takes its place.

    Args:
        find: tells the folder.
        port: 0 takes any free port; the address is printed when the server is ready.

    Raises:
        UserError: the folder is no bundle, the port is taken, or the key file can't be read.
    """
    import uvicorn

    from tunewright.serve.app import build_app
    from tunewright.serve.engine import Engine
    from tunewright.serve.hosts import Adapters, Host, OneModel

    folder = find()
    bundle = None if (folder / BASE).is_dir() else load_bundle(folder)
    runtime = bundle.info.runtime if bundle else "openvino-lora"
    if limits.engine and runtime.removesuffix("-lora") != limits.engine:
        raise UserError(f"This bundle runs in {runtime}.", where=folder,
                        fix=f"Make one for it: tunewright run PROJECT export.runtime={limits.engine}")  # fmt: skip
    keys = KeyRing(limits.keys) if limits.keys else None
    identity = Identity(limits.identity) if limits.identity else None
    journal = CaptureJournal(limits.captures) if limits.captures else None
    waiting = listener(host, port)
    started = time.monotonic()
    # From here on a connection waits instead of being refused, so "ready" below is true when it is read.
    waiting.listen(socket.SOMAXCONN)
    models: Host
    if bundle is None:
        models = Adapters(AdapterStore(folder), threads)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the folder is looked at at each request
    else:
        models = one = OneModel(Engine.load(bundle, threads))
        # In a thread, so that requests are answered meanwhile.
        signal.signal(signal.SIGHUP, lambda *_: Thread(target=_reload, args=(one, find, threads)).start())
    app = build_app(models, keys, identity, most=limits.most, seconds=limits.seconds, journal=journal)
    address = f"http://{host}:{waiting.getsockname()[1]}"
    say(f"{models.label} ({models.precision}) is ready at {address} after {time.monotonic() - started:.1f} s")
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=DRAIN_SECONDS, server_header=False
    )
    uvicorn.Server(config).run(sockets=[waiting])


def _reload(model: OneModel, find: Callable[[], Path], threads: int | None) -> None:
    """Put the bundle that is found now into a server. One that can't be loaded changes nothing."""
    from tunewright.serve.engine import Engine

    try:
        engine = Engine.load(load_bundle(find()), threads)
    except Exception as error:  # noqa: BLE001 (whatever is wrong with the new one, the old one answers on)
        reason = error.paragraph() if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        say(f"The new bundle can't be loaded; the old one goes on. {reason}")
        return
    model.serve(engine)
    say(f"{model.label} ({model.precision}) was loaded anew.")


@contextmanager
def running_server(folder: Path, *options: str) -> Iterator[str]:
    """A server on a free port of this machine, in a process of its own; yields its address.

    Args:
        options: further ones of its command line.

    Raises:
        UserError: it did not become ready; its last words are the reason.
    """
    with tempfile.TemporaryFile("w+") as log:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "tunewright.serve.server", str(folder), "--port", str(port), *options],
            stderr=log, stdout=log,
        )  # fmt: skip
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_ready(process, address, log)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_ready(process: subprocess.Popen[bytes], address: str, log: IO[str]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{address}/ready", timeout=2).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    log.seek(0)
    said = log.read().strip().splitlines()[-1:]
    raise UserError(
        "The server did not become ready.", why=said[0] if said else None, fix="Try: tunewright serve BUNDLE"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tunewright.serve.server")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--identity", type=Path)
    parser.add_argument("--captures", type=Path)
    parser.add_argument("--engine")
    options = parser.parse_args()
    end_with_parent()
    try:
        serve(
            lambda: options.bundle,
            options.host,
            options.port,
            limits=Limits(options.keys, options.identity, captures=options.captures, engine=options.engine),
        )
    except UserError as error:
        say(f"Error: {error.paragraph()}")
        return EXIT_USER
    return 0


if __name__ == "__main__":
    sys.exit(main())

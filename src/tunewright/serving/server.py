"""Running the server: in this process for `tunewright serve`, in a child process for tests and the parity step."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx

from tunewright.auth.identity import Identity
from tunewright.auth.keys import KeyRing
from tunewright.core.errors import EXIT_USER, UserError
from tunewright.core.limits import ANSWER_SECONDS, MOST_UNDER_WAY
from tunewright.core.processes import end_with_parent, free_port, listener, machine_memory
from tunewright.core.progress import say
from tunewright.inference.bundle import Bundle, load_bundle
from tunewright.inference.checksums import SECOND, VERIFY, Verification
from tunewright.inference.runtimes.base import ENGINES, is_of_encoder
from tunewright.models.linear_model import LINEAR
from tunewright.project import Traffic
from tunewright.serving.adapters import AdapterStore
from tunewright.serving.captures import RequestLog

READY_SECONDS = 900.0
"""vLLM takes minutes."""
_ENDING_SECONDS = 1.0
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
    capture_share: float = 1.0
    """Of the questions that are kept."""
    redact: bool = False
    """Whether personal data is taken out of what is kept."""
    verification: Verification = field(default_factory=Verification.by_environment)
    """What is asked of a bundle before it is loaded."""

    def __post_init__(self) -> None:
        if self.captures is None and (self.capture_share < 1 or self.redact):
            raise UserError(
                "Without a folder nothing is kept, so there is nothing to leave out.",
                fix="Name one with --captures FOLDER.",
            )


OPEN = Limits()


def serve(
    find: Callable[[], Traffic],
    host: str,
    port: int,
    threads: int | None = None,
    limits: Limits = OPEN,
    runs: Path | None = None,
) -> None:
    """Load a bundle, or a folder of adapters, and answer until interrupted; what is under way then is answered first.
    At SIGHUP the bundle that is found then is loaded beside the one that answers, and takes its place.

    Args:
        find: tells what is to serve.
        port: 0 takes any free port; the address is printed when the server is ready.
        runs: the folder of a project's outputs; a change of its `serving.json` counts within seconds.

    Raises:
        UserError: the folder is no bundle or not what it was made as, the port is taken, or the key file can't be read.
    """
    from tunewright.serving.app import build_app
    from tunewright.serving.connections import HttpServer
    from tunewright.serving.hosts import Host, ManyModels

    folder = find().champion
    served = _served(folder, limits.verification)
    if limits.engine:
        _check_engine(served, limits.engine)
    keys = KeyRing(limits.keys) if limits.keys else None
    identity = Identity(limits.identity) if limits.identity else None
    request_log = _request_log(limits)
    waiting = listener(host, port)
    started = time.monotonic()
    # From here on a connection waits instead of being refused, so "ready" below is true when it is read.
    waiting.listen(socket.SOMAXCONN)
    address = f"http://{host}:{waiting.getsockname()[1]}"
    models: Host
    watching = None
    if isinstance(served, AdapterStore):
        models = ManyModels(served, threads, limits.verification)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the folder is looked at at each request
    else:
        from tunewright.serving.watching import Watching

        watching = Watching(find, served, runs, threads)
        models = watching.models
        signal.signal(signal.SIGHUP, lambda *_: watching.reload())
        watching.start(address)
    app = build_app(models, keys, identity, most=limits.most, seconds=limits.seconds, request_log=request_log)
    digest = f", digest {served.checksums.digest}" if isinstance(served, Bundle) and served.checksums else ""
    say(f"{models.label} ({models.precision}) is ready at {address} after {time.monotonic() - started:.1f} s{digest}")

    class Server(HttpServer):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await super().shutdown(sockets)
            if watching:  # here, because behind `run` a SIGTERM that came has ended the process
                watching.end()

    Server(app, drain=DRAIN_SECONDS).run(sockets=[waiting])


def _served(folder: Path, verification: Verification) -> AdapterStore | Bundle:
    if not AdapterStore.is_one(folder):
        return load_bundle(folder, verification=verification)
    if verification.pin:
        raise UserError(
            "A folder of adapters changes while it is served, and can't be pinned.",
            where=folder,
            fix="Leave --pin away, or serve a bundle by itself.",
        )
    return AdapterStore(folder)


def _check_engine(served: AdapterStore | Bundle, wanted: str) -> None:
    """Refuse what runs in another engine than the wanted one.

    Raises:
        UserError: it does.
    """
    infos = served.infos() if isinstance(served, AdapterStore) else {"": served.info}
    if isinstance(served, Bundle) and served.second:
        infos |= {SECOND: served.second.info}
    # numpy is in every image: beside others, a linear model needs none of its own.
    alone = isinstance(served, Bundle) and len(infos) == 1
    checked = {name: info.runtime for name, info in infos.items() if info.runtime != LINEAR or alone}
    for name, runtime in checked.items():
        engine = ENGINES[runtime]
        if engine == wanted:
            continue
        fix = f"Make one for it: tunewright run PROJECT export.runtime={wanted}"
        if runtime == LINEAR:
            fix = "numpy answers for a linear model: take the image linear."
        elif is_of_encoder(runtime) and wanted == "vllm":
            fix = f"vLLM serves no encoders: take the image with {engine}."
        raise UserError(f"This bundle runs in {runtime}.", where=served.folder / name, fix=fix)


def _request_log(limits: Limits) -> RequestLog | None:
    if limits.captures is None:
        return None
    if not limits.redact:
        return RequestLog(limits.captures, limits.capture_share)
    # Only where it is asked for: its lists of names take time and memory.
    from tunewright.serving.redaction import redact

    return RequestLog(limits.captures, limits.capture_share, redact)


@contextmanager
def running_server(folder: Path, *options: str) -> Iterator[str]:
    """A server on a free port of this machine, in a process of its own; yields its address.

    Args:
        options: further ones of its command line.

    Raises:
        UserError: it did not become ready, and its last words are the reason; or it was killed while it was asked.
    """
    with tempfile.TemporaryFile("w+") as log:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "tunewright.serving.server", str(folder), "--port", str(port), *options],
            stderr=log,
            stdout=log,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_ready(process, address, log)
            yield address
        except httpx.TransportError:
            with contextlib.suppress(subprocess.TimeoutExpired):  # what closed the connection may take a moment to end
                process.wait(_ENDING_SECONDS)
            if process.poll() == -signal.SIGKILL:
                raise _killed() from None
            raise
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
    if process.poll() == -signal.SIGKILL:
        raise _killed()
    log.seek(0)
    said = log.read().strip().splitlines()[-1:]
    raise UserError(
        "The server did not become ready.", why=said[0] if said else None, fix="Try: tunewright serve BUNDLE"
    )


def _killed() -> UserError:
    return UserError(
        "The server of the bundle was killed.",
        why=f"Most often memory has run out: there are {machine_memory() / 2**30:.1f} GiB here.",
        fix="Serve half of the bytes: export.precision=int4; or use a machine with more memory.",
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tunewright.serving.server")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--keys", type=Path)
    parser.add_argument("--identity", type=Path)
    parser.add_argument("--captures", type=Path)
    parser.add_argument("--capture-share", type=float, default=1.0)
    parser.add_argument("--redact", action="store_true")
    parser.add_argument("--engine")
    parser.add_argument("--verify", default=os.environ.get(VERIFY, "on"))
    options = parser.parse_args()
    end_with_parent()
    try:
        serve(
            lambda: Traffic(options.bundle),
            options.host,
            options.port,
            limits=Limits(
                options.keys,
                options.identity,
                captures=options.captures,
                engine=options.engine,
                capture_share=options.capture_share,
                redact=options.redact,
                verification=Verification(on=options.verify != "off"),
            ),
        )
    except UserError as error:
        say(f"Error: {error.paragraph()}")
        return EXIT_USER
    return 0


if __name__ == "__main__":
    sys.exit(main())

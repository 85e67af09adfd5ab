"""Running the server in this process, for `tunewright serve`. `tunewright.serving.child` runs it in another one."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tunewright.auth.identity import Identity
from tunewright.auth.keys import KeyRing
from tunewright.core.errors import EXIT_USER, UserError
from tunewright.core.limits import ANSWER_SECONDS, MOST_UNDER_WAY
from tunewright.core.processes import end_with_parent, listener
from tunewright.core.progress import say
from tunewright.core.threads import confine
from tunewright.inference.bundle import Bundle, BundleWeights, load_bundle
from tunewright.inference.checksums import SECOND, VERIFY, Verification
from tunewright.inference.runtimes.base import ENGINES, Runtime, is_of_encoder
from tunewright.models.linear_model import LINEAR
from tunewright.project import Traffic
from tunewright.serving.adapters import AdapterStore
from tunewright.serving.captures import RequestLog

if TYPE_CHECKING:
    from tunewright.serving.engine import Engine

DRAIN_SECONDS = 30
"""Time that requests under way have to end when the server stops."""


@dataclass(frozen=True)
class Limits:
    """A server's options: its clients, its limits, its captures, its checks."""

    keys: Path | None = None
    """The key file."""
    identity: Path | None = None
    """The file that names the identity provider. Without keys and identity, every client may use the server."""
    most: int = MOST_UNDER_WAY
    """Requests under way; the server refuses further ones."""
    seconds: float = ANSWER_SECONDS
    """Time limit for an answer."""
    captures: Path | None = None
    """The folder of the request log; None: the server keeps no questions and answers."""
    engine: str | None = None
    """The engine that the bundle must run in; None: any."""
    capture_share: float = 1.0
    """The share of the questions to keep."""
    redact: bool = False
    """Whether to take personal data out of the request log."""
    verification: Verification = field(default_factory=Verification.by_environment)
    """The check of a bundle before it is loaded."""
    any_system_prompt: bool = False
    """Whether clients may send system prompts that the bundle does not know."""

    def __post_init__(self) -> None:
        if self.captures is None and (self.capture_share < 1 or self.redact):
            raise UserError(
                "--capture-share and --redact need a folder of captures.",
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
    """Load a bundle or a folder of adapters, and answer until interrupted. Requests under way are answered first.

    At SIGHUP the server calls `find` again, loads that bundle beside the one that answers, and then replaces it.

    Args:
        find: gives the bundle or folder to serve.
        port: 0 takes any free port; the server prints its address when it is ready.
        runs: the folder of a project's outputs; the server follows a change of its `serving.json` within seconds.

    Raises:
        UserError: the folder is no bundle or fails verification, the port is taken, or the key file can't be read.
    """
    started, early = time.monotonic(), EarlyLoad(threads)
    # First what can be wrong without the bundle: weights that are being loaded keep the process until they are.
    keys = KeyRing(limits.keys) if limits.keys else None
    identity = Identity(limits.identity) if limits.identity else None
    listening = listener(host, port)
    served = _opened(find().champion, limits.verification, early)
    if limits.engine:
        _check_engine(served, limits.engine)
    request_log = _request_log(limits)
    if isinstance(served, Bundle):
        early.warm_up(served)
    from tunewright.serving.app import build_app
    from tunewright.serving.connections import HttpServer
    from tunewright.serving.hosts import Host, ManyModels

    # From here on the system queues connections instead of refusing them, so the message "ready" below is true.
    listening.listen(socket.SOMAXCONN)
    address = f"http://{host}:{listening.getsockname()[1]}"
    models: Host
    watcher = None
    if isinstance(served, AdapterStore):
        models = ManyModels(served, threads, limits.verification)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the server reads the folder at each request
    else:
        from tunewright.serving.watcher import BundleWatcher

        watcher = BundleWatcher(find, early.engine(served), runs, threads)
        models = watcher.models
        signal.signal(signal.SIGHUP, lambda *_: watcher.reload())
        watcher.start(address)
    app = build_app(
        models,
        keys,
        identity,
        most=limits.most,
        seconds=limits.seconds,
        request_log=request_log,
        any_system_prompt=limits.any_system_prompt,
    )
    digest = f", digest {served.checksums.digest}" if isinstance(served, Bundle) and served.checksums else ""
    say(f"{models.label} ({models.precision}) is ready at {address} after {time.monotonic() - started:.1f} s{digest}")

    class Server(HttpServer):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await super().shutdown(sockets)
            if watcher:  # here and not after `run`, because uvicorn ends the process there at a SIGTERM
                watcher.end()

    Server(app, drain=DRAIN_SECONDS).run(sockets=[listening])


class EarlyLoad:
    """Loads a decoder's weights in a thread of its own, and has it read the system prompt there. Both hardly need
    Python's lock, so meanwhile this thread reads the tokenizer and imports the server, which together take about as
    long."""

    def __init__(self, threads: int | None):
        self._threads = threads
        self._pool = ThreadPoolExecutor(1, "early-load")
        self._weights: Future[Runtime] | None = None
        self._warm: Future[Engine] | None = None

    def __call__(self, weights: BundleWeights) -> None:
        """Begin to verify the weights, and to load them. Encoders and linear models load at once, and vLLM's process
        would end with the thread that starts it."""
        if weights.info.runtime in ("openvino", "openvino-lora"):
            self._weights = self._pool.submit(self._verified, weights)

    def warm_up(self, bundle: Bundle) -> None:
        """Begin to make the engine of a bundle whose weights are being loaded. A second bundle may be vLLM's."""
        if self._weights and not bundle.second:
            self._warm = self._pool.submit(self._made, bundle)

    def engine(self, bundle: Bundle) -> Engine:
        """The engine of the bundle.

        Raises:
            UserError: its weights have changed, or can't be loaded.
        """
        warm, self._warm = self._warm, None
        self._pool.shutdown(wait=False)
        return warm.result() if warm else self._made(bundle)

    def _verified(self, weights: BundleWeights) -> Runtime:
        weights.verify()
        return weights.load(self._threads)

    def _made(self, bundle: Bundle) -> Engine:
        from tunewright.serving.engine import Engine

        weights, self._weights = self._weights, None  # so that nothing else keeps them
        return Engine.load(bundle, self._threads, runtime=weights.result() if weights else None)


def _opened(folder: Path, verification: Verification, early: EarlyLoad) -> AdapterStore | Bundle:
    if not AdapterStore.is_one(folder):
        return load_bundle(folder, verification=verification, early=early)
    if verification.pin:
        raise UserError(
            "A folder of adapters changes while it is served, and can't be pinned.",
            where=folder,
            fix="Leave --pin away, or serve a bundle by itself.",
        )
    return AdapterStore(folder)


def _check_engine(served: AdapterStore | Bundle, required: str) -> None:
    """Raises:
    UserError: a bundle runs in another engine than the required one.
    """
    infos = served.infos() if isinstance(served, AdapterStore) else {"": served.info}
    if isinstance(served, Bundle) and served.second:
        infos |= {SECOND: served.second.info}
    # numpy is in every image, so a linear model beside other bundles needs no image of its own.
    alone = isinstance(served, Bundle) and len(infos) == 1
    checked = {name: info.runtime for name, info in infos.items() if info.runtime != LINEAR or alone}
    for name, runtime in checked.items():
        engine = ENGINES[runtime]
        if engine == required:
            continue
        fix = f"Make a bundle for {required}: tunewright run PROJECT export.runtime={required}"
        if runtime == LINEAR:
            fix = "numpy answers for a linear model: take the image linear."
        elif is_of_encoder(runtime) and required == "vllm":
            fix = f"vLLM serves no encoders: take the image with {engine}."
        raise UserError(f"This bundle runs in {runtime}.", where=served.folder / name, fix=fix)


def _request_log(limits: Limits) -> RequestLog | None:
    if limits.captures is None:
        return None
    if not limits.redact:
        return RequestLog(limits.captures, limits.capture_share)
    # Imported only for this option: its lists of names take time and memory.
    from tunewright.serving.redaction import redact

    return RequestLog(limits.captures, limits.capture_share, redact)


def main() -> int:
    confine()
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
    parser.add_argument("--any-system-prompt", action="store_true")
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
                any_system_prompt=options.any_system_prompt,
            ),
        )
    except UserError as error:
        say(f"Error: {error.paragraph()}")
        return EXIT_USER
    return 0


if __name__ == "__main__":
    sys.exit(main())

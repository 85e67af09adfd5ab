"""The process that is forked: `python parent.py SOCKET`, until its standard input ends."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.core.progress import quiet_libraries

LIBRARIES = (
    "transformers:AutoModelForCausalLM",
    "transformers:AutoTokenizer",
    "transformers:Trainer",
    "trl:SFTTrainer",
    "peft",
    "bitsandbytes",
    "datasets",
    "onnxruntime_genai.models.builder",
    "sklearn.svm",
    "sklearn.feature_extraction.text",
    "tunewright.data.steps",
    "tunewright.training.steps",
    "tunewright.training.loop.trainer",
    "tunewright.training.encoders.steps",
    "tunewright.exporters.steps",
    "tunewright.evaluation.steps",
    "tunewright.parity.step",
)


def main(address: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # clients pass Ctrl-C on
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{address}.new")
        listening.listen(64)
        Path(f"{address}.new").rename(address)
        import_libraries()
        gc.collect()
        gc.freeze()  # what a fork never looks at stays shared
        request = serve(listening)
    if request:
        become(**request)


def serve(listening: socket.socket) -> dict[str, Any] | None:
    """Fork for each request, until the standard input ends. Returns in each fork what it is to do, and at the end
    None."""
    with selectors.DefaultSelector() as watched:
        watched.register(sys.stdin.fileno(), selectors.EVENT_READ)
        watched.register(listening, selectors.EVENT_READ)
        while True:
            for key, _ in watched.select():
                if key.data:
                    key.data.look(watched, key.fileobj)
                elif key.fileobj is not listening:
                    return None
                elif request := forked(listening.accept()[0], watched):
                    return request


def forked(client: socket.socket, watched: selectors.BaseSelector) -> dict[str, Any] | None:
    """Fork for a client. Returns in the fork what it is to do, and here None."""
    request, streams = received(client)
    if request is None:
        client.close()
        return None
    if pid := os.fork():
        Child(pid, client, os.pidfd_open(pid)).watch(watched)
    else:
        for number, each in enumerate(streams):
            os.dup2(each, number)
    for each in streams:
        os.close(each)
    return None if pid else request


def received(client: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """(what a client asks, its three standard streams); nothing, where it was killed meanwhile."""
    head, streams, _, _ = socket.recv_fds(client, 4, 3)
    body, length = b"", int.from_bytes(head, "big")
    while len(body) < length and (piece := client.recv(length)):
        body += piece
    if length and len(body) == length:
        return json.loads(body), streams
    for each in streams:
        os.close(each)
    return None, []


def import_libraries() -> None:
    """What steps and the ONNX builder import; not the modules themselves, which are run as `__main__`."""
    quiet_libraries()
    for name in LIBRARIES:
        module, _, attribute = name.partition(":")
        found = importlib.import_module(module)
        if attribute:
            getattr(found, attribute)  # transformers imports what is asked for


@dataclass
class Child:
    """A fork at work.

    Args:
        client: the connection of the process that waits for it.
        ended: a file descriptor that can be read when it has ended.
    """

    pid: int
    client: socket.socket
    ended: int

    def watch(self, watched: selectors.BaseSelector) -> None:
        for each in (self.client, self.ended):
            watched.register(each, selectors.EVENT_READ, self)

    def look(self, watched: selectors.BaseSelector, at: Any) -> None:
        """One of the two has something to say."""
        if at is not self.client:
            _, status = os.waitpid(self.pid, 0)
            with contextlib.suppress(OSError):  # the client is gone
                self.client.sendall(os.waitstatus_to_exitcode(status).to_bytes(2, "big", signed=True))
            for each in (self.client, self.ended):
                with contextlib.suppress(KeyError):
                    watched.unregister(each)
            os.close(self.ended)
            self.client.close()
        elif self.client.fileno() >= 0:  # else its end was seen in the same look
            said = self.client.recv(1)
            os.kill(self.pid, said[0] if said else signal.SIGKILL)
            if not said:
                watched.unregister(self.client)


def become(module: str, arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Run a module, as `python -m` would."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["", *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1])

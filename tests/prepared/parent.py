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

from tunewright.models.torch_model import quiet_libraries

LIBRARIES = (
    "transformers:AutoModelForCausalLM", "transformers:AutoTokenizer", "transformers:Trainer", "trl:SFTTrainer",
    "peft", "bitsandbytes", "datasets", "sklearn.svm", "sklearn.feature_extraction.text",
    "tunewright.data.steps", "tunewright.train.steps", "tunewright.train.trainer", "tunewright.train.encoders.steps",
    "tunewright.export.steps", "tunewright.evaluate.steps", "tunewright.serve.steps",
)  # fmt: skip


def main(address: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is passed on by those who wait
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{address}.new")
        listening.listen(64)
        Path(f"{address}.new").rename(address)
        import_libraries()
        gc.collect()
        gc.freeze()  # what a fork never looks at stays shared
        order = take_orders(listening)
    if order:
        become(**order)


def take_orders(listening: socket.socket) -> dict[str, Any] | None:
    """Fork for each order, until the standard input ends. Returns in each fork what it is to become, and at the end
    None."""
    with selectors.DefaultSelector() as watched:
        watched.register(sys.stdin.fileno(), selectors.EVENT_READ, None)
        watched.register(listening, selectors.EVENT_READ, None)
        while True:
            for key, _ in watched.select():
                if key.data:
                    key.data.look(watched, key.fileobj)
                elif key.fileobj is not listening:
                    return None
                else:
                    asker = listening.accept()[0]
                    order, streams = received(asker)
                    if order is None:
                        asker.close()
                        continue
                    pid = os.fork()
                    for number, each in enumerate(streams):
                        if not pid:
                            os.dup2(each, number)
                        os.close(each)
                    if not pid:
                        return order
                    Child(pid, asker, os.pidfd_open(pid)).watch(watched)


def received(asker: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """(what is asked, the three standard streams of who asks); nothing, where who asks was killed meanwhile."""
    head, streams, _, _ = socket.recv_fds(asker, 4, 3)
    asked, length = b"", int.from_bytes(head, "big")
    while len(asked) < length and (piece := asker.recv(length)):
        asked += piece
    if length and len(asked) == length:
        return json.loads(asked), streams
    for each in streams:
        os.close(each)
    return None, []


def import_libraries() -> None:
    """What steps import, and not what is asked as `__main__`."""
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
        asker: the socket of who waits for it.
        ended: a file descriptor that can be read when it has ended.
    """

    pid: int
    asker: socket.socket
    ended: int

    def watch(self, watched: selectors.BaseSelector) -> None:
        for each in (self.asker, self.ended):
            watched.register(each, selectors.EVENT_READ, self)

    def look(self, watched: selectors.BaseSelector, at: Any) -> None:
        """One of the two has something to say."""
        if at is not self.asker:
            _, status = os.waitpid(self.pid, 0)
            with contextlib.suppress(OSError):  # who waited is gone
                self.asker.sendall(os.waitstatus_to_exitcode(status).to_bytes(2, "big", signed=True))
            for each in (self.asker, self.ended):
                with contextlib.suppress(KeyError):
                    watched.unregister(each)
            os.close(self.ended)
            self.asker.close()
        elif self.asker.fileno() >= 0:  # else its end was seen in the same look
            said = self.asker.recv(1)
            os.kill(self.pid, said[0] if said else signal.SIGKILL)
            if not said:
                watched.unregister(self.asker)


def become(module: str, arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Run a module as `python -m` would, and end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["", *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1])

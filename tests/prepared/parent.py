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
HANDED_OVER = 3
"""Standard input, output and errors."""


def main(address: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is passed on by those who wait
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"{address}.new")
    listening.listen(64)
    Path(f"{address}.new").rename(address)
    import_libraries()
    gc.collect()
    gc.freeze()  # what a fork never looks at stays shared
    with selectors.DefaultSelector() as watched:
        watched.register(sys.stdin.fileno(), selectors.EVENT_READ, None)
        watched.register(listening, selectors.EVENT_READ, None)
        while True:
            for key, _ in watched.select():
                if key.fileobj == sys.stdin.fileno():
                    return
                if key.fileobj is listening:
                    if child := forked(listening.accept()[0]):
                        watched.register(child.asker, selectors.EVENT_READ, child)
                        watched.register(child.ended, selectors.EVENT_READ, child)
                    continue
                key.data.look(watched, key.fileobj)


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

    def look(self, watched: selectors.BaseSelector, at: Any) -> None:
        """One of the two has something to say."""
        if at is self.asker:
            said = self.asker.recv(1)
            if said:
                os.kill(self.pid, said[0])
            else:  # who waited is gone
                watched.unregister(self.asker)
                os.kill(self.pid, signal.SIGKILL)
            return
        _, status = os.waitpid(self.pid, 0)
        with contextlib.suppress(OSError):
            self.asker.sendall(os.waitstatus_to_exitcode(status).to_bytes(2, "big", signed=True))
        for each in (self.asker, self.ended):
            with contextlib.suppress(KeyError):
                watched.unregister(each)
        self.asker.close()
        os.close(self.ended)


def forked(asker: socket.socket) -> Child | None:
    """A child that does what is asked, for the parent."""
    head, given, _, _ = socket.recv_fds(asker, 4, HANDED_OVER)
    asked = b""
    while len(asked) < int.from_bytes(head, "big"):
        asked += asker.recv(2**16)
    pid = os.fork()
    if pid:
        for each in given:
            os.close(each)
        return Child(pid, asker, os.pidfd_open(pid))
    for number, each in enumerate(given):
        os.dup2(each, number)
    os.closerange(HANDED_OVER, os.sysconf("SC_OPEN_MAX"))
    become(**json.loads(asked))
    return None


def become(module: str, arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Run a module as `python -m` would, and end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["", *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    main(sys.argv[1])

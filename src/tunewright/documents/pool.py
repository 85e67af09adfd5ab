"""A pool of processes that read documents for this one. Each of them may be killed at any time.

A document may be hostile, and can make the libraries that parse it take any time and memory. So a `worker` process
reads it. The kernel ends the worker at its limits of memory and processor time; this process watches the clock. Workers
start when they are needed, and stay. A worker that was ended is replaced, and its document is refused.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from tunewright.core import limits
from tunewright.core.call import check_call
from tunewright.core.errors import UserError
from tunewright.core.threads import cores
from tunewright.documents.frames import ANSWER, ENCODING, ERRORS, MISSING, OUT_OF_MEMORY, READY, REFUSED, REQUEST

_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
"""Exit codes of a worker that was killed from outside, for example by the kernel when memory ran out."""
_SMALLER = "Cut out the pages that matter, export it again, or leave it out."
_LOOK_SECONDS = 0.25
"""Interval at which a waiting thread checks its call. A worker that takes longer gets a lower priority."""
_LOW_PRIORITY = 10
"""The niceness of a worker whose document takes long, so that requests with short documents don't wait for it."""


class _Ended(Exception):
    """The worker ended before it answered."""


class _Late(Exception):
    """The worker exceeded its time on the clock."""


class _Worker:
    """A process that reads documents. One thread uses it at a time."""

    def __init__(self, *flags: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tunewright.documents.worker", str(limits.DOCUMENT_MEMORY_BYTES), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        assert self._process.stdin and self._process.stdout
        self._pipes = (self._process.stdin, self._process.stdout)
        self._into, self._from = (pipe.fileno() for pipe in self._pipes)
        os.set_blocking(self._into, False)
        os.set_blocking(self._from, False)
        self._writable, self._readable = select.poll(), select.poll()
        self._writable.register(self._into, select.POLLOUT)
        self._readable.register(self._from, select.POLLIN)

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def ask(self, name: str, content: bytes, seconds: int) -> tuple[int, bool, bytes]:
        """(the answer's kind, whether this worker must be replaced, the answer's body).

        Raises:
            _Ended: the worker ended; `code` gives its exit code.
            _Late: it took too long.
            UserError: the text is too large.
            Abandoned, OutOfTime: as `tunewright.core.call.check_call`.
        """
        deadline = time.monotonic() + limits.DOCUMENT_WALL_SECONDS
        encoded_name = name.encode(ENCODING, ERRORS)
        self._send(REQUEST.pack(len(encoded_name), len(content), seconds) + encoded_name, deadline)
        self._send(content, deadline)
        is_niced = not self._readable.poll(_LOOK_SECONDS * 1000) and self._nice(_LOW_PRIORITY)
        kind, worn, length = ANSWER.unpack(self._received(ANSWER.size, deadline))
        worn = worn or (is_niced and not self._nice(os.getpriority(os.PRIO_PROCESS, 0)))
        if length > limits.DOCUMENT_TEXT_BYTES:
            raise UserError(
                f"The document's text is larger than {limits.DOCUMENT_TEXT_BYTES >> 20} MiB.", where=name, fix=_SMALLER
            )
        return kind, bool(worn), self._received(length, deadline)

    def _nice(self, niceness: int) -> bool:
        """Set the worker's niceness. Returns whether this user may: only root may lower it."""
        try:
            os.setpriority(os.PRIO_PROCESS, self._process.pid, niceness)
        except OSError:  # not permitted, or the worker has ended, which the next read from it finds
            return False
        return True

    def code(self) -> int:
        """The exit code of a worker that closed its pipes."""
        try:
            return self._process.wait(1)
        except subprocess.TimeoutExpired:
            return 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self.forget()

    def forget(self) -> None:
        """Close the pipes, and leave the process alone."""
        for pipe in self._pipes:
            pipe.close()

    def _send(self, content: bytes, deadline: float) -> None:
        rest = memoryview(content)
        while rest:
            try:
                rest = rest[os.write(self._into, rest) :]
            except BlockingIOError:
                _wait(self._writable, deadline)
            except BrokenPipeError:
                raise _Ended from None

    def _received(self, count: int, deadline: float) -> bytes:
        chunks = []
        while count:
            _wait(self._readable, deadline)
            if not (chunk := os.read(self._from, count)):
                raise _Ended
            chunks.append(chunk)
            count -= len(chunk)
        return b"".join(chunks)


def _wait(poll: select.poll, deadline: float) -> None:
    while not poll.poll(max(0.0, min(deadline - time.monotonic(), _LOOK_SECONDS)) * 1000):
        check_call()
        if time.monotonic() >= deadline:
            raise _Late


class Pool:
    """Some workers. Any number of threads may use the pool; each waits for a free worker."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        # At least two, so that one slow document does not hold up all others.
        self._most = max(2, cores())
        self._places = threading.BoundedSemaphore(self._most)
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        # The kernel ends a worker together with the thread that started it, so one thread that stays starts them all.
        self._starter = ThreadPoolExecutor(1, "documents")

    def text_of(self, name: str, content: bytes, seconds: int) -> str:
        """A document's text.

        Args:
            seconds: processor time that reading may take.

        Raises:
            UserError: as `tunewright.documents.text_of`; also if the document exceeds a limit or ends its worker.
            ModuleNotFoundError: a library of the [documents] extra is missing.
            RuntimeError: no worker can be started.
            Abandoned, OutOfTime: as `tunewright.core.call.check_call`.
        """
        while not self._places.acquire(timeout=_LOOK_SECONDS):
            check_call()
        try:
            try:
                kind, body = self._ask(name, content, seconds)
            except _Ended:
                try:
                    kind, body = self._ask(name, content, seconds)
                except _Ended:
                    raise UserError(
                        "The process that read the document was killed twice.",
                        where=name,
                        why="Most often memory has run out.",
                        fix="Free some memory, then type the same command again.",
                    ) from None
        finally:
            self._places.release()
        if kind == MISSING:
            raise ModuleNotFoundError("A library is not installed.", name=body.decode())
        if kind == REFUSED:
            raise UserError(**json.loads(body))
        return body.decode(ENCODING, ERRORS)

    def _ask(self, name: str, content: bytes, seconds: int) -> tuple[int, bytes]:
        """(the answer's kind, its body).

        Raises:
            _Ended: the worker was killed from outside.
            UserError, RuntimeError: as `text_of`.
        """
        worker = self._idle_worker()
        keep = False
        try:
            kind, worn, body = worker.ask(name, content, seconds)
            keep = not worn
        except _Ended:
            if (code := worker.code()) in _OUTSIDE:
                raise
            raise _failure(name, code, seconds) from None
        except _Late:
            reason = f"Reading the document took longer than {limits.DOCUMENT_WALL_SECONDS} seconds."
            raise UserError(reason, where=name, fix=_SMALLER) from None
        finally:
            if keep:
                self._idle.append(worker)
            else:
                worker.kill()
                self._workers.discard(worker)
                with suppress(RuntimeError):  # this process is ending
                    self._starter.submit(self._replace)
        return kind, body

    def _idle_worker(self) -> _Worker:
        """A worker without a request: the one that was busy last, or a new one."""
        while self._idle:
            try:
                worker = self._idle.pop()
            except IndexError:  # another thread took it
                break
            if worker.runs:
                return worker
            worker.kill()
            self._workers.discard(worker)
        return self._starter.submit(self._start).result()

    def _start(self, *flags: str) -> _Worker:
        worker = _Worker(*flags)
        self._workers.add(worker)
        return worker

    def _replace(self) -> None:
        """Start a worker in place of one that was ended, with its parsers imported before a document arrives."""
        if len(self._workers) < self._most:
            self._idle.insert(0, self._start(READY))

    def close(self) -> None:
        """End all workers."""
        for worker in list(self._workers):
            worker.kill()

    def begin_again(self) -> None:
        """Begin without workers, in a fork: the workers belong to the process that started them."""
        for worker in self._workers:
            worker.forget()
        self._begin()


def _failure(name: str, code: int, seconds: int) -> UserError | RuntimeError:
    """The error for a worker's exit code."""
    if code == -signal.SIGXCPU:
        reason = f"Reading the document took more than {seconds} seconds of processor time."
        return UserError(reason, where=name, fix=_SMALLER)
    if code == OUT_OF_MEMORY:
        reason = f"Reading the document took more than {limits.DOCUMENT_MEMORY_BYTES >> 20} MiB of memory."
        return UserError(reason, where=name, fix=_SMALLER)
    if code < 0:
        return UserError(
            f"The document ended the process that read it ({signal.Signals(-code).name}).",
            where=name,
            why=f"It is broken, or needs more than {limits.DOCUMENT_MEMORY_BYTES >> 20} MiB of memory.",
            fix=_SMALLER,
        )
    return RuntimeError(
        f"The process that reads documents ended with exit code {code}. "
        "To see why, type: python -m tunewright.documents.worker 1000000000 </dev/null"
    )


POOL = Pool()
"""This process's pool."""
os.register_at_fork(after_in_child=POOL.begin_again)
atexit.register(POOL.close)

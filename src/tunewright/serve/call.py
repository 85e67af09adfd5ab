"""The call under which work is done: whoever works asks between two steps whether anybody still waits for it.

The middleware that reads a request sets it; it travels into worker threads with the context.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tunewright.models.following import Wanted, WritingModel
from tunewright.models.runtime import ClassifyingRuntime, NextTokenRuntime, Runtime, WritingRuntime
from tunewright.models.writing import Growing, growing


class Abandoned(Exception):
    """Whoever asked has gone."""


class OutOfTime(Exception):
    """A request took longer than the server gives one.

    Args:
        seconds: that it had.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        super().__init__(f"longer than {seconds:g} s")


@dataclass(frozen=True)
class Call:
    """A request under way.

    Args:
        seconds: in which it must be answered.
    """

    seconds: float
    began: float = field(default_factory=time.monotonic)
    gone: threading.Event = field(default_factory=threading.Event)
    """Set where whoever asked has gone."""

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (time.monotonic() - self.began)

    def check(self) -> None:
        """Raises:
        Abandoned: nobody waits for the answer any more.
        OutOfTime: the deadline is over.
        """
        if self.gone.is_set():
            raise Abandoned
        if self.left < 0:
            raise OutOfTime(self.seconds)


CALL: ContextVar[Call | None] = ContextVar("tunewright_call", default=None)
"""The one under way here; None where nobody can go, as in a batch."""


@contextmanager
def turn(places: threading.BoundedSemaphore) -> Iterator[None]:
    """A place, waited for until the call's deadline.

    Raises:
        Abandoned, OutOfTime: as `Call.check`.
    """
    call = CALL.get()
    if not places.acquire(timeout=max(0.0, call.left) if call else None):
        raise OutOfTime(call.seconds if call else 0.0)
    try:
        if call:
            call.check()
        yield
    finally:
        places.release()


def attended(model: Runtime) -> Runtime:
    """A runtime that stops where nobody waits for the answer any more; an encoder's single pass is not stopped."""
    if isinstance(model, ClassifyingRuntime):
        return model
    return _AttendedWriting(model) if isinstance(model, WritingModel) else _Attended(model)


def _check() -> None:
    if call := CALL.get():
        call.check()


class _Attended:
    def __init__(self, model: NextTokenRuntime):
        self._model = model
        self.at_once = model.at_once

    @property
    def ended(self) -> bool:
        return self._model.ended

    def __call__(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        _check()
        return self._model(ids)

    def many(self, sequences: Sequence[Sequence[int]]) -> Sequence[npt.NDArray[np.float32]]:
        _check()
        return self._model.many(sequences)

    def begin(self, prompt: Sequence[int]) -> Growing:
        behind = growing(self._model, prompt)

        def attended(written: Sequence[int]) -> npt.NDArray[np.float32]:
            _check()
            return behind(written)

        return attended


class _AttendedWriting:
    def __init__(self, model: WritingRuntime):
        self._model = model
        self.at_once = model.at_once

    def of_tokens(self, asked: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Sequence[npt.NDArray[np.float32]]:
        _check()
        return self._model.of_tokens(asked)

    @property
    def ended(self) -> bool:
        return self._model.ended

    def write(self, prompt: Sequence[int], wanted: Wanted) -> Generator[tuple[int, float], None, None]:
        with closing(self._model.write(prompt, wanted)) as tokens:
            for token in tokens:
                _check()
                yield token

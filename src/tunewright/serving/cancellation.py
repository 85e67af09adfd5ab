"""Runtimes that stop when the client has disconnected or the call's time is over, and a queue that does the same.

See `tunewright.core.call`.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager

import numpy as np
import numpy.typing as npt

from tunewright.core.call import CALL, OutOfTime, check_call
from tunewright.inference.decoding.protocols import NextLogits, WritingConfig, WritingModel
from tunewright.inference.decoding.writing import next_logits
from tunewright.inference.runtimes.base import ClassifyingRuntime, NextTokenRuntime, Runtime, WritingRuntime


@contextmanager
def slot(slots: threading.BoundedSemaphore) -> Iterator[None]:
    """Wait for a slot until the call's deadline, and hold it.

    Raises:
        Abandoned, OutOfTime: as `Call.check`.
    """
    call = CALL.get()
    if not slots.acquire(timeout=max(0.0, call.left) if call else None):
        raise OutOfTime(call.seconds if call else 0.0)
    try:
        if call:
            call.check()
        yield
    finally:
        slots.release()


def cancellable(model: Runtime) -> Runtime:
    """A runtime that checks the call before each step of its work. An encoder's single forward pass is not stopped."""
    if isinstance(model, ClassifyingRuntime):
        return model
    return _CancellableWriting(model) if isinstance(model, WritingModel) else _Cancellable(model)


class _Cancellable:
    def __init__(self, model: NextTokenRuntime):
        self._model = model
        self.at_once = model.at_once

    @property
    def ended(self) -> bool:
        return self._model.ended

    def __call__(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        check_call()
        return self._model(ids)

    def of_tokens(self, queries: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Sequence[npt.NDArray[np.float32]]:
        check_call()
        return self._model.of_tokens(queries)

    def begin(self, prompt: Sequence[int]) -> NextLogits:
        inner = next_logits(self._model, prompt)

        def checked(written: Sequence[int]) -> npt.NDArray[np.float32]:
            check_call()
            return inner(written)

        return checked


class _CancellableWriting:
    def __init__(self, model: WritingRuntime):
        self._model = model
        self.at_once = model.at_once

    def of_tokens(self, queries: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Sequence[npt.NDArray[np.float32]]:
        check_call()
        return self._model.of_tokens(queries)

    @property
    def ended(self) -> bool:
        return self._model.ended

    def write(self, prompt: Sequence[int], config: WritingConfig) -> Generator[tuple[int, float], None, None]:
        with closing(self._model.write(prompt, config)) as tokens:
            for token in tokens:
                check_call()
                yield token

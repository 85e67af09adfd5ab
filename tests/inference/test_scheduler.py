"""The scheduler of forward passes, with a network that only counts."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Thread

import numpy as np
import pytest

from tunewright.inference.runtimes.openvino.passes import PASS_TOKENS, SequencePart
from tunewright.inference.runtimes.openvino.scheduler import PassScheduler, SequenceRequest


class CountingNetwork:
    """Notes the tokens of each pass, and gives the last one back as the logits."""

    block_size, slots = 16, 0

    def __init__(self, blocks: int = 400):
        self.blocks = blocks
        self.passes: list[int] = []

    def copy(self, source: int, target: int) -> None: ...

    def forward(self, parts: Sequence[SequencePart]) -> np.ndarray:
        self.passes.append(sum(len(part.tokens) for part in parts))
        return np.array([[part.tokens[-1]] for part in parts if part.needs_logits], np.float32)


def answered(network: CountingNetwork, sequences: Sequence[list[int]]) -> list[float]:
    """The answers to sequences that all wait when the first pass begins."""
    scheduler, requests = PassScheduler(network), [SequenceRequest(ids, None) for ids in sequences]
    scheduler.submit(requests)
    runner = Thread(target=scheduler.run)
    runner.start()
    for request in requests:
        assert request.answered.wait(10)
    scheduler.close()
    runner.join()
    return [float(request.logits[0]) for request in requests]


@pytest.mark.parametrize("system", [200, 610, 192])
def test_a_prompt_that_many_bring_at_once_runs_once(system: int) -> None:
    """As after a server's start, behind an adapter that was just added, or in a stream that is new."""
    network, own = CountingNetwork(), [[1000 + n, 7, n] for n in range(40)]
    assert answered(network, [[*range(system), *ids] for ids in own]) == [ids[-1] for ids in own]
    # The last block of the prompt is no whole one, so it may run again.
    assert sum(network.passes) <= system + 40 * (3 + system % network.block_size)
    assert max(network.passes) <= PASS_TOKENS + 2


def test_equal_sequences_and_others_are_all_answered() -> None:
    network = CountingNetwork(blocks=60)
    sequences = [[*range(k % 3, 100 + k % 3), *range(500, 500 + k % 5)] for k in range(30)]
    assert answered(network, sequences) == [ids[-1] for ids in sequences]

"""A forward pass, and what a scheduler asks of the network that runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tunewright.inference.runtimes.openvino.adapter import Adapter

PASS_TOKENS = 256
"""Tokens of a forward pass. Larger passes hardly have more throughput, and every sequence in a pass waits for its
end."""
MIN_TOGETHER = 2
"""Tokens in a pass of a sequence that must not run token by token. A pass has up to as many more than `PASS_TOKENS`."""
_MEMORY = 256 * 2**20
"""Bytes for keys and values, unless the context needs more."""
_CONTEXTS = 2
"""Sequences of full context length that the memory must hold."""


@dataclass(frozen=True)
class SequencePart:
    """The part of a sequence that a forward pass runs."""

    tokens: Sequence[int]
    past: int
    """Tokens of the sequence before this part; their keys and values are in memory."""
    blocks: Sequence[int]
    """The blocks of the whole sequence, with space for the new tokens."""
    adapter: Adapter | None
    needs_logits: bool
    """Whether somebody needs the logits after the last token."""
    choices: Sequence[int] | None = None
    """The tokens whose logits are needed, at least one; None: all."""


class PassNetwork(Protocol):
    """A decoder with its memory."""

    @property
    def blocks(self) -> int:
        """The number of blocks in memory."""

    @property
    def block_size(self) -> int:
        """Tokens in a block."""

    @property
    def slots(self) -> int:
        """Adapters that a forward pass can have."""

    def copy(self, source: int, target: int) -> None:
        """Copy one block over another."""

    def forward(self, parts: Sequence[SequencePart]) -> npt.NDArray[np.float32]:
        """Run a forward pass with at most `slots` adapters.

        Returns: the logits of the parts that need them, in order, [at least as many, vocabulary]. They are valid until
        the next pass, and those that no part needs may be anything.
        """


def blocks_in_memory(bytes_a_block: int, block_size: int, context: int) -> int:
    """The blocks that a network has for sequences of up to `context` tokens."""
    return max(_MEMORY // bytes_a_block, _CONTEXTS * -(-context // block_size))

"""What a model remembers of its prompt, kept in a file beside the weights: a server that starts reads the file, not the
prompt. llama.cpp keeps prompts like this (`--prompt-cache`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tunewright.core.errors import UserError
from tunewright.models.tensor_files import TensorFile, TensorWriter

_TOKENS, _BLOCKS, _MADE_BY = "tokens", "blocks", "made_by"


@dataclass(frozen=True)
class KeptPrompt:
    """The keys and values of the first tokens of a prompt, in whole blocks of memory."""

    tokens: list[int]
    blocks: npt.NDArray[np.uint8]
    """[blocks, bytes of a block]"""
    made_by: str
    """The `fingerprint` of the `PackedWeights` that computed them. No others may use them."""

    def save(self, file: Path) -> None:
        """Write it to a new file."""
        writer = TensorWriter(file, 3)
        writer.write(_TOKENS, np.array(self.tokens, np.int64))
        writer.write(_MADE_BY, np.frombuffer(self.made_by.encode(), np.uint8))
        writer.write(_BLOCKS, self.blocks)
        writer.close()

    @classmethod
    def load(cls, file: Path) -> KeptPrompt:
        """Read one. The blocks are a view of the file.

        Raises:
            UserError: the file is not one, or is cut.
        """
        tensors = {name: tensor.raw for name, tensor in TensorFile(file).items()}
        kinds = {name: (array.dtype.name, array.ndim) for name, array in tensors.items()}
        if kinds != {_TOKENS: ("int64", 1), _MADE_BY: ("uint8", 1), _BLOCKS: ("uint8", 2)}:
            raise UserError(
                "This is not a prompt cache.",
                where=file,
                why=f"It holds {', '.join(sorted(kinds)) or 'nothing'}.",
                fix="Remove it: without it a server starts later, and answers the same.",
            )
        made_by = tensors[_MADE_BY].tobytes().decode("utf-8", "replace")
        return cls(tensors[_TOKENS].tolist(), tensors[_BLOCKS], made_by)

    def fits(self, made_by: str, block_size: int, bytes_a_block: int) -> bool:
        """Whether a network of these weights can use it."""
        count, size = self.blocks.shape
        return self.made_by == made_by and size == bytes_a_block and len(self.tokens) == count * block_size > 0

"""A linear model beside an encoder: it reads the text of the encoder's tokens, and its logits are added to the
encoder's.

An encoder knows what words mean; a linear model knows which words there are. Trained on the same job, they make
different errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tunewright.models.linear_model import Floats, LinearModel
from tunewright.models.tokenizer import TextTokenizer

BESIDE = "linear"
"""The folder of the linear model within the folder of the encoder's weights."""


class Beside:
    """The logits to add to an encoder's; thread-safe.

    Args:
        model: a linear model with the encoder's labels in the same order.
        tokenizer: the encoder's tokenizer.
    """

    def __init__(self, model: LinearModel, tokenizer: TextTokenizer):
        self.model, self._tokenizer = model, tokenizer

    @classmethod
    def load(cls, weights: Path, tokenizer: TextTokenizer | Path) -> Self | None:
        """Load what `save` wrote beside an encoder's weights; None if there is nothing.

        Args:
            tokenizer: the encoder's tokenizer, or its folder.
        """
        folder = weights / BESIDE
        if not folder.is_dir():
            return None
        return cls(LinearModel.load(folder), TextTokenizer(tokenizer) if isinstance(tokenizer, Path) else tokenizer)

    def save(self, weights: Path) -> None:
        self.model.save(weights / BESIDE)

    def logits(self, sequences: Sequence[Sequence[int]]) -> list[Floats]:
        """The logits [labels] of each text, given as the encoder's tokens."""
        return self.model.of_texts(map(self._tokenizer.text_of, sequences))

"""A linear model beside an encoder: it reads the encoder's tokens as the text that they are, and its logits are added
to the encoder's.

An encoder knows what words mean, a linear model which of them stand there; where both have learnt the same job, their
errors are not the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tunewright.models.linear_model import Floats, LinearModel
from tunewright.models.tokenizer import TextTokenizer

BESIDE = "linear"
"""Its folder, in the one of the encoder's weights."""


class Beside:
    """Logits to be added to those of an encoder; thread-safe.

    Args:
        model: of the encoder's labels, in their order.
        tokenizer: the encoder's.
    """

    def __init__(self, model: LinearModel, tokenizer: TextTokenizer):
        self.model, self._tokenizer = model, tokenizer

    @classmethod
    def load(cls, weights: Path, tokenizer: TextTokenizer | Path) -> Self | None:
        """What `save` wrote beside an encoder's weights; None where there is none.

        Args:
            tokenizer: the encoder's, or its folder.
        """
        folder = weights / BESIDE
        if not folder.is_dir():
            return None
        return cls(LinearModel.load(folder), TextTokenizer(tokenizer) if isinstance(tokenizer, Path) else tokenizer)

    def save(self, weights: Path) -> None:
        self.model.save(weights / BESIDE)

    def logits(self, sequences: Sequence[Sequence[int]]) -> list[Floats]:
        """Those [labels] of several texts, given as the encoder's tokens."""
        return self.model.of_texts(map(self._tokenizer.text_of, sequences))

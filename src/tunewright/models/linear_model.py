"""A linear model over n-grams: it counts words and parts of words, and each has a weight for each label.

numpy alone serves it. It has an encoder's interface: an encoder reads token ids, this model the numbers of n-grams. The
values are TF-IDF (Salton & Buckley 1988) with logarithmic counts. Words and characters make one vector each, with
length one.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from tunewright.core.errors import UserError
from tunewright.models.files import read_object
from tunewright.models.tensor_files import TensorFile

LINEAR: Final = "linear"
"""Its name in the spec's `model`. It has no base weights to fetch."""
WEIGHTS, NGRAMS = "weights.safetensors", "ngrams.json"
_WORD = re.compile(r"\b\w\w+\b")
_CHARACTERS = (2, 3, 4)
"""Lengths of the parts of words. A word gets a blank at each end."""

Floats = npt.NDArray[np.float32]


def unable_linear(kind: str) -> UserError | None:
    """The reason why a linear model can't do a kind of task; None if it can."""
    if kind in ("classify", "multi_label"):
        return None
    return UserError(
        f"A linear model can't do this task: it is {kind}, and a linear model chooses a label.",
        where="model",
        fix="Choose a model that writes: tunewright models ls",
    )


def ngrams(text: str) -> tuple[list[str], list[str]]:
    """(words and pairs of neighbouring words, parts of words), with repetitions."""
    text = text.lower()
    words = _WORD.findall(text)
    pairs = [f"{one} {other}" for one, other in pairwise(words)]
    parts = []
    for word in text.split():
        padded = f" {word} "
        parts += [padded[at : at + size] for size in _CHARACTERS for at in range(len(padded) - size + 1)]
    return words + pairs, parts


class Ngrams:
    """The vocabulary of n-grams with their numbers. Words come first.

    Args:
        words, parts: in the order of their numbers.
    """

    def __init__(self, words: Sequence[str], parts: Sequence[str]):
        self.words, self.parts = list(words), list(parts)
        self._of_word = {ngram: number for number, ngram in enumerate(self.words)}
        self._of_part = {ngram: number for number, ngram in enumerate(self.parts, len(self.words))}

    def __len__(self) -> int:
        return len(self.words) + len(self.parts)

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """The n-grams of some texts."""
        words: set[str] = set()
        parts: set[str] = set()
        for text in texts:
            of_words, of_parts = ngrams(text)
            words.update(of_words)
            parts.update(of_parts)
        return cls(sorted(words), sorted(parts))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load the n-grams that `LinearModel.save` wrote."""
        about = _about(folder)
        return cls(about["words"], about["parts"])

    @staticmethod
    def most_letters(count: int) -> int:
        """A longer text may have more than `count` known n-grams, because one may begin at each character; see
        `TextTokenizer`."""
        return count

    def encode_framed(self, text: str) -> list[int]:
        """The numbers of a text's known n-grams, with repetitions. The name is that of a tokenizer's method, which this
        one replaces."""
        words, parts = ngrams(text)
        return [*_known(words, self._of_word), *_known(parts, self._of_part)]


def _about(folder: Path) -> dict[str, Any]:
    """The n-grams and labels of a model's folder.

    Raises:
        UserError: they can't be read.
    """
    about = read_object(folder / NGRAMS)
    for name in ("words", "parts", "labels"):
        each = about.get(name)
        if not isinstance(each, list) or not all(isinstance(text, str) for text in each):
            raise UserError(f"Its {name} are not a list of texts.", where=folder / NGRAMS, fix="Copy it again.")
    return about


def _known(all_ngrams: Sequence[str], numbers: Mapping[str, int]) -> list[int]:
    return [numbers[ngram] for ngram in all_ngrams if ngram in numbers]


@dataclass(frozen=True)
class LinearModel:
    """Logits from the numbers of n-grams; thread-safe.

    Args:
        weight: [n-grams, labels], each row times the inverse document frequency of its n-gram.
        frequency: inverse document frequency of each n-gram.
        bias: [labels].
    """

    ngrams: Ngrams
    frequency: Floats
    weight: Floats
    bias: Floats
    labels: tuple[str, ...]

    at_once: int = field(default=1, init=False)
    ended: bool = field(default=False, init=False)

    def logits(self, sequences: Sequence[Sequence[int]]) -> list[Floats]:
        """The logits [labels] of each text, given as numbers of n-grams."""
        return [self._logits(sequence) for sequence in sequences]

    def times(self, factor: float) -> Self:
        """The model with its logits multiplied by a factor."""
        return replace(self, weight=self.weight * np.float32(factor), bias=self.bias * np.float32(factor))

    def of_texts(self, texts: Iterable[str]) -> list[Floats]:
        """The logits [labels] of each text."""
        return self.logits([self.ngrams.encode_framed(text) for text in texts])

    def _logits(self, sequence: Sequence[int]) -> Floats:
        numbers, values = weighed(sequence, len(self.ngrams.words), self.frequency)
        return np.asarray(values @ self.weight[numbers] + self.bias, np.float32)

    def save(self, folder: Path) -> None:
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"weight": self.weight, "bias": self.bias, "frequency": self.frequency}
        save_file(tensors, str(folder / WEIGHTS))
        about = {"labels": self.labels, "words": self.ngrams.words, "parts": self.ngrams.parts}
        (folder / NGRAMS).write_text(json.dumps(about, ensure_ascii=False), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load what `save` wrote.

        Raises:
            UserError: its files can't be read, or don't belong together.
        """
        about, tensors = _about(folder), TensorFile(folder / WEIGHTS)
        known, labels = Ngrams(about["words"], about["parts"]), tuple(about["labels"])
        expected = {"weight": (len(known), len(labels)), "frequency": (len(known),), "bias": (len(labels),)}
        shapes = {name: tensor.shape for name, tensor in tensors.items() if tensor.kind == "F32"}
        if shapes != expected:
            raise UserError(
                "These are not the files of one linear model.",
                where=folder,
                why=f"{WEIGHTS} has {shapes}, and by {NGRAMS} it would have {expected}.",
                fix="Copy it again.",
            )
        weight, frequency, bias = (np.array(tensors[name].float32()) for name in ("weight", "frequency", "bias"))
        return cls(known, frequency, weight, bias, labels)


def weighed(sequence: Sequence[int], words: int, frequency: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """(the numbers of a text's n-grams in rising order, the TF-IDF value of each).

    Args:
        sequence: the result of `Ngrams.encode_framed`.
        words: how many n-grams are words.
        frequency: inverse document frequency of each n-gram.
    """
    numbers, counts = np.unique(np.asarray(sequence, np.int64), return_counts=True)
    values = (1 + np.log(counts)).astype(np.float32) * frequency[numbers]
    first = int(np.searchsorted(numbers, words))
    for part in (values[:first], values[first:]):
        if len(part):
            part /= np.linalg.norm(part)
    return numbers, values


def document_frequency(sequences: Sequence[Sequence[int]], known: int) -> Floats:
    """The inverse document frequency of each n-gram, smoothed like scikit-learn's: 1 + ln((1 + texts) / (1 + texts
    with it))."""
    counts = Counter(number for sequence in sequences for number in set(sequence))
    with_it = np.zeros(known, np.float32)
    with_it[list(counts)] = list(counts.values())
    return np.asarray(1 + np.log((1 + len(sequences)) / (1 + with_it)), np.float32)

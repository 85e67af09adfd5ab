"""The reference: a model's training texts, and the traits of the answers that it was judged by; `reference.npz` in a
bundle.

It holds no text. For each trait it has the numbers, sorted by themselves so that nobody can put a row together again,
or the count of each kind. The training texts are kept as `KnownTexts`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.core.errors import UserError
from tunewright.drift.known import KnownTexts, Numbers
from tunewright.drift.traits import NUMBERS, Traits, traits_of
from tunewright.drift.two_sample import EXPECTED, TAIL
from tunewright.evaluation.statistics.grouped import numbered
from tunewright.tasks import Task


def design_effects(traits: Traits, groups: Sequence[str]) -> dict[str, float]:
    """By trait, the number of rows that are worth one independent row; at least 1.

    Args:
        traits: the traits of n rows.
        groups: the customer of each row, shape [n].

    Source: for kinds Rao & Scott 1981, the mean of the design effects of the kinds; for numbers Kish 1965, section 8.2,
    the largest of the effects on their ranks and on either tail.
    """
    member_of, _ = numbered(groups, len(traits))
    effects = {name: _of_kinds(column, member_of) for name, column in traits.kinds.items()}
    for name, column in traits.numbers.items():
        known = ~np.isnan(column)
        effects[name] = _of_numbers(column[known], member_of[known], NUMBERS[name].worse) if known.any() else 1.0
    return effects


def _of_kinds(column: npt.NDArray[np.str_], member_of: npt.NDArray[np.int64]) -> float:
    _, kinds, counts = np.unique(column, return_inverse=True, return_counts=True)
    rare = counts < EXPECTED
    # The rare kinds count as one, as in the comparison of kinds.
    pooled = np.where(rare, 0, np.cumsum(~rare) - (0 if rare.any() else 1))
    marks = np.eye(int(pooled.max()) + 1)[pooled[kinds]]
    return _effect((marks - marks.mean(axis=0)) / np.sqrt(marks.mean(axis=0)), member_of)


def _of_numbers(column: Numbers, member_of: npt.NDArray[np.int64], worse: int) -> float:
    from scipy.stats import rankdata

    values = [rankdata(column)]
    if worse >= 0:
        values.append(column > np.quantile(column, TAIL, method="inverted_cdf"))
    if worse <= 0:
        values.append(-column > np.quantile(-column, TAIL, method="inverted_cdf"))
    return max(_effect((value - value.mean())[:, None], member_of) for value in values)


def _effect(deviations: npt.NDArray[Any], member_of: npt.NDArray[np.int64]) -> float:
    """The variance of a mean between groups, divided by that of independent rows.

    Args:
        deviations: deviations from the mean, shape [rows, columns].
    """
    independent = float(np.square(deviations).sum())
    groups = len(np.unique(member_of))
    if not independent or groups < 2:
        return 1.0
    sums = np.zeros((int(member_of.max()) + 1, deviations.shape[1]))
    np.add.at(sums, member_of, deviations)
    return max(1.0, groups / (groups - 1) * float(np.square(sums).sum()) / independent)


REFERENCE_FILE = "reference.npz"
_VERSION = 1
_NUMBER = "number."
"""Prefix of the names of columns of numbers."""


@dataclass(frozen=True)
class Reference:
    """The data that a live window is compared with.

    Args:
        known: the training texts.
        rows: the number of answers.
        kinds: by trait, the count of each kind.
        numbers: by trait, all numbers, sorted.
        effects: by trait, the number of answers worth one independent answer, where rows are grouped; 1 for a missing
            trait.
    """

    known: KnownTexts
    rows: int
    kinds: Mapping[str, Mapping[str, int]]
    numbers: Mapping[str, Numbers]
    effects: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        training_texts: Sequence[str],
        texts: Sequence[str],
        answers: Sequence[str],
        confidences: Sequence[float | None],
        task: Task,
        groups: Sequence[str] | None = None,
    ) -> Reference:
        """Make a reference.

        Args:
            taught: the training texts. None of the other texts may be among them, or these would look less novel than
                they are.
            texts: the texts to compare windows with, with the model's answers and confidences.
            groups: the customer of each text; None where the texts are independent, or that is not known.
        """
        known = KnownTexts.of(training_texts)
        return cls.from_traits(known, traits_of(texts, answers, confidences, task, known), groups)

    @classmethod
    def from_captures(
        cls,
        texts: Sequence[str],
        answers: Sequence[str],
        confidences: Sequence[float | None],
        task: Task,
        effects: Mapping[str, float],
        seed: int = 0,
    ) -> Reference:
        """Make a reference from live traffic that is considered good: half of it takes the place of the training texts,
        the other half is compared with windows.

        Args:
            effects: the design effects of the reference that this one replaces; captures do not name the customer.
        """
        order = np.random.default_rng(seed).permutation(len(texts))
        training_texts, window = order[::2], order[1::2]
        reference = cls.of(
            [texts[row] for row in training_texts],
            [texts[row] for row in window],
            [answers[row] for row in window],
            [confidences[row] for row in window],
            task,
        )
        return replace(reference, effects=effects)

    @classmethod
    def from_traits(cls, known: KnownTexts, traits: Traits, groups: Sequence[str] | None = None) -> Reference:
        kinds = {}
        for name, column in traits.kinds.items():
            values, counts = np.unique(column, return_counts=True)
            kinds[name] = dict(zip(values.tolist(), counts.tolist(), strict=True))
        numbers = {name: np.sort(column[~np.isnan(column)]) for name, column in traits.numbers.items()}
        return cls(known, len(traits), kinds, numbers, design_effects(traits, groups) if groups else {})

    def novelty(self, texts: Sequence[str]) -> Numbers:
        """The novelty of texts, from 0 to 1: the share of the reference that is less unlike the training texts."""
        distance, _, _ = self.known.place(texts)
        window = self.numbers["novelty"]
        return np.asarray(np.searchsorted(window, distance) / max(len(window), 1), np.float32)

    def save(self, folder: Path) -> Path:
        """Write the reference into a folder; the same reference gives the same bytes."""
        header = {"version": _VERSION, "rows": self.rows, "kinds": self.kinds, "effects": self.effects}
        arrays: dict[str, Any] = {
            "words": np.frombuffer(json.dumps(header, sort_keys=True).encode(), np.uint8),
            "known": np.packbits(self.known.known),
            "weights": self.known.weights,
            "centres": self.known.centres.astype(np.float16),
            "topics": self.known.topics.astype(np.uint8),
            **{f"{_NUMBER}{name}": column for name, column in self.numbers.items()},
        }
        file = folder / REFERENCE_FILE
        np.savez_compressed(file, allow_pickle=False, **arrays)
        return file


def load_reference(bundle_folder: Path) -> Reference | None:
    """The reference of a bundle; None where it has none, like old bundles.

    Raises:
        UserError: it can't be read.
    """
    file = bundle_folder / REFERENCE_FILE
    if not file.exists():
        return None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            header = json.loads(arrays["words"].tobytes())
            if header["version"] != _VERSION:
                raise UserError(
                    f"This reference has version {header['version']}, not {_VERSION}.",
                    where=file,
                    fix="Make the bundle again with: tunewright run YOUR_PROJECT",
                )
            known = KnownTexts(
                np.unpackbits(arrays["known"]).astype(bool),
                arrays["weights"],
                arrays["centres"].astype(np.float32),
                arrays["topics"].astype(np.int64),
            )
            numbers = {
                name.removeprefix("number."): arrays[name].astype(float)
                for name in arrays
                if name.startswith("number.")
            }
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001 (damage makes zip, zlib, numpy and json raise countless errors)
        raise UserError(
            "The bundle's reference can't be read.",
            where=file,
            why=str(error),
            fix="Make the bundle again with: tunewright run YOUR_PROJECT",
        ) from None
    return Reference(known, header["rows"], header["kinds"], numbers, header.get("effects", {}))

"""What judges are known to favour: lengths, and answers of their own family.

Zheng et al. 2023, section 3.3, found long answers favoured; arXiv 2604.23178 (2026-04), with newer models, short ones.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from tunewright.evaluation.verdict.truth import teacher_of
from tunewright.tasks import Example

_FAMILIES = {
    "chatgpt": "gpt",
    "claude": "claude",
    "codestral": "mistral",
    "command": "command",
    "deepseek": "deepseek",
    "devstral": "mistral",
    "gemini": "gemini",
    "gemma": "gemini",
    "gpt": "gpt",
    "grok": "grok",
    "llama": "llama",
    "magistral": "mistral",
    "ministral": "mistral",
    "mistral": "mistral",
    "mixtral": "mistral",
    "o": "gpt",
    "phi": "phi",
    "qwen": "qwen",
    "qwq": "qwen",
}
"""The family that a word of a model's name tells; the o of o3 is OpenAI's."""
_NOTED = 0.3
"""A correlation from which length may be what is marked."""
_FEW = 10
"""Fewer marks tell no correlation."""


@dataclass
class MarkTally:
    """Collects what the biases are told by, a few bytes a row."""

    marks: array[int] = field(default_factory=lambda: array("b"))
    lengths: array[int] = field(default_factory=lambda: array("q"))
    by_family: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    """(rows, sum of their marks) of each family of models that a log names as the answer's writer."""

    def add(self, example: Example, mark: int) -> None:
        self.marks.append(mark)
        self.lengths.append(len(example.answer))
        if teacher := teacher_of(example):
            counted = self.by_family[family_of(teacher)]
            counted[0] += 1
            counted[1] += mark


def family_of(model: str) -> str:
    """The family of a model by its name: gpt for gpt-4o and o3-mini, claude for anthropic.claude-sonnet; the name's
    first word where none is known."""
    words: list[str] = re.findall(r"[a-z]+", model.rpartition("/")[2].casefold())
    return next((_FAMILIES[word] for word in words if word in _FAMILIES), words[0] if words else model)


def by_length(marks: Sequence[int], lengths: Sequence[int]) -> float | None:
    """Spearman's correlation of marks with lengths; None where too few, or all alike."""
    from scipy.stats import spearmanr

    if len(marks) < _FEW or len(set(marks)) < 2 or len(set(lengths)) < 2:
        return None
    return float(spearmanr(marks, lengths).statistic)


def bias_sentences(
    judge: str, tally: MarkTally, rho: float | None, of_people: tuple[float | None, float | None]
) -> list[str]:
    """What to know of the judge's preferences.

    Args:
        rho: the correlation of its marks with the lengths of the answers.
        of_people: the same of people's marks, and of the judge's marks of the same answers.
    """
    told = []
    if rho is not None:
        told.append(f"The judge's marks and the lengths of the answers correlate by {rho:+.2f} (Spearman).")
        theirs, its = of_people
        if theirs is not None and its is not None:
            told[-1] += (
                f" On the answers that people marked, people's marks do by {theirs:+.2f}, the judge's by {its:+.2f}."
            )
        elif abs(rho) >= _NOTED:
            told[-1] += " A judge may favour a length. Only people's marks tell whether length is a merit here."
    own = tally.by_family.get(family_of(judge))
    others = [each for name, each in tally.by_family.items() if name != family_of(judge)]
    if own:
        count, total = (sum(each) for each in zip(*others, strict=True)) if others else (0, 0)
        told.append(
            f"{own[0]:,} answers were written by the judge's own family, {family_of(judge)}, which judges favour: "
            f"their mean mark is {own[1] / own[0]:.2f}"
            + (f", that of {count:,} answers of other models {total / count:.2f}." if count else ".")
        )
    elif tally.by_family:
        told.append(
            f"No answer that a log names a model for was written by the judge's own family, {family_of(judge)}."
        )
    else:
        told.append(
            "No row names the model that wrote its answer, so whether the judge marks its own family is not known."
        )
    return told

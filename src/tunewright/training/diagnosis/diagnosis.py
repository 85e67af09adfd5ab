"""A diagnosis of a training: the cause, the evidence for it, and what to change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.core.errors import UserError

_CERTAIN = ("T001", "T006", "T008", "T009")
"""Codes that chance can't cause."""


@dataclass(frozen=True)
class Diagnosis:
    code: str
    """T001 and so on; a code never changes its meaning."""
    title: str
    cause: str
    evidence: str
    """The figures that show the cause."""
    change: str
    """What the user should type or do next."""

    def lines(self) -> list[str]:
        """The diagnosis for a terminal."""
        return [f"{self.code} {self.title}: {self.cause}", f"  {self.evidence}", f"  {self.change}"]


class CannotTrain(UserError):
    """A training can't go on, because of a diagnosis."""

    def __init__(self, diagnosis: Diagnosis):
        self.diagnosis = diagnosis
        super().__init__(
            f"The training can't go on. {diagnosis.code}: {diagnosis.title}.",
            why=f"{diagnosis.cause} {diagnosis.evidence}",
            fix=diagnosis.change,
        )


def joint(diagnoses: Sequence[Sequence[Diagnosis]]) -> list[Diagnosis]:
    """Merge the diagnoses of several adapters of one training: each code once, with the evidence of the first adapter
    that has it.

    A code that chance can't cause counts if one adapter has it. Any other counts only if half of them have it, since
    each further adapter is one more chance to err.
    """
    codes: dict[str, list[Diagnosis]] = defaultdict(list)
    for diagnosis in (each for one in diagnoses for each in one):
        codes[diagnosis.code].append(diagnosis)
    return [
        same_code[0]
        for code, same_code in sorted(codes.items())
        if code in _CERTAIN or 2 * len(same_code) >= len(diagnoses)
    ]


def summary(diagnoses: Sequence[Diagnosis]) -> list[str]:
    """The summary at the end of a training, for a terminal."""
    if not diagnoses:
        return ["diagnosis: nothing found in the curve"]
    return ["diagnosis:", *(f"  {line}" for diagnosis in diagnoses for line in diagnosis.lines())]

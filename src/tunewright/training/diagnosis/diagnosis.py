"""What is wrong with a training: the cause, the evidence for it, and what to change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.core.errors import UserError

_CERTAIN = ("T001", "T006", "T008", "T009")
"""Codes that are no matter of chance."""


@dataclass(frozen=True)
class Diagnosis:
    code: str
    """T001 and so on; a code never changes its meaning."""
    title: str
    cause: str
    evidence: str
    """The figures that show it."""
    change: str
    """What to type or to do next."""

    def lines(self) -> list[str]:
        """For a terminal."""
        return [f"{self.code} {self.title}: {self.cause}", f"  {self.evidence}", f"  {self.change}"]


class CannotTrain(UserError):
    """A training that can't go on, and why."""

    def __init__(self, diagnosis: Diagnosis):
        self.diagnosis = diagnosis
        super().__init__(
            f"The training can't go on. {diagnosis.code}: {diagnosis.title}.",
            why=f"{diagnosis.cause} {diagnosis.evidence}",
            fix=diagnosis.change,
        )


def joint(found: Sequence[Sequence[Diagnosis]]) -> list[Diagnosis]:
    """The diagnoses of several adapters of one training, each code once, with the evidence of the first that has it.

    What is wrong for certain is said if one adapter has it; what is judged by chance, only if half of them have: each
    further adapter is one more chance to err.
    """
    codes: dict[str, list[Diagnosis]] = defaultdict(list)
    for diagnosis in (each for one in found for each in one):
        codes[diagnosis.code].append(diagnosis)
    return [said[0] for code, said in sorted(codes.items()) if code in _CERTAIN or 2 * len(said) >= len(found)]


def summary(found: Sequence[Diagnosis]) -> list[str]:
    """For the end of a training, on a terminal."""
    if not found:
        return ["diagnosis: nothing found in the curve"]
    return ["diagnosis:", *(f"  {line}" for diagnosis in found for line in diagnosis.lines())]

"""Comparing a live window with the reference: a finding for each trait, and which of them count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tunewright.drift.reference import Reference
from tunewright.drift.traits import KINDS, NUMBERS, TRAITS, Traits
from tunewright.drift.two_sample import Difference, mix, shift

FEWEST = 200
"""Requests below which a window is not tested."""
FEWEST_REFERENCE = 100
"""Answers below which a reference is none."""
_SHOWN = 3
"""Kinds that a sentence names."""
EXAMPLES = 5


@dataclass(frozen=True)
class DriftFinding:
    """How a trait of a window compares.

    Args:
        effect: in units of the smallest one that matters; see `two_sample`.
        said: what it was and what it is, in words.
        examples: the rows of the window that differ most.
        drifted: whether it counts as drift.
    """

    trait: str
    p: float
    effect: float
    said: str
    examples: list[int]
    drifted: bool = False

    @property
    def title(self) -> str:
        return TRAITS[self.trait].title


def compare(reference: Reference, window: Traits, alpha: float) -> list[DriftFinding]:
    """A finding for each trait that both have, the likeliest drift first.

    Captures do not say whose they are, so the window's rows are taken to come together as the reference's do: where a
    customer has five rows in the test part, they have about five in the window.

    Args:
        window: of at least `FEWEST` rows.
        alpha: probability that anything is called drift where nothing is.
    """
    effects = {name: reference.effects.get(name, 1.0) for name in TRAITS}
    found = [
        _of_kinds(name, reference.kinds[name], window, effects[name])
        for name in KINDS
        if name in window.kinds and name in reference.kinds
    ]
    for name in NUMBERS:
        told = ~np.isnan(window.numbers.get(name, np.empty(0)))
        enough = told.sum() >= FEWEST and len(reference.numbers.get(name, ())) >= FEWEST_REFERENCE
        if enough:
            found.append(_of_numbers(name, reference, window, effects[name]))
    return _holm(sorted(found, key=lambda finding: finding.p), alpha)


def _holm(found: list[DriftFinding], alpha: float) -> list[DriftFinding]:
    """Mark what drifted: the smallest p-value may be alpha / number of tests, the next of those that are left, and so
    on to the first that is larger (Holm 1979); of these, the effects that matter."""
    judged, open_yet = [], True
    for place, finding in enumerate(found):
        open_yet = open_yet and finding.p <= alpha / (len(found) - place)
        judged.append(replace(finding, drifted=open_yet and finding.effect >= 1))
    return judged


def _of_kinds(name: str, before: Mapping[str, int], window: Traits, effect: float) -> DriftFinding:
    column = window.kinds[name]
    after = Counter(column.tolist())
    sizes = sum(before.values()), len(column)
    shares = {kind: (before.get(kind, 0) / sizes[0], after[kind] / sizes[1]) for kind in before.keys() | after.keys()}
    # Each kind's part in the chi-square statistic.
    moved = sorted(shares, key=lambda kind: -((shares[kind][1] - shares[kind][0]) ** 2) / sum(shares[kind]))
    shown = "; ".join(f"{kind} {shares[kind][0]:.1%} → {shares[kind][1]:.1%}" for kind in moved[:_SHOWN])
    grown = next((kind for kind in moved if shares[kind][1] > shares[kind][0]), None)
    return _finding(name, mix(before, after, effect), shown, np.flatnonzero(column == grown)[:EXAMPLES])


def _of_numbers(name: str, reference: Reference, window: Traits, effect: float) -> DriftFinding:
    column, before = window.numbers[name], reference.numbers[name]
    told = column[~np.isnan(column)]
    worse = NUMBERS[name].worse
    middles, tails = ([np.quantile(part, q) for part in (before, told)] for q in (0.5, 0.05 if worse < 0 else 0.95))
    shown = (
        f"median {middles[0]:.4g} → {middles[1]:.4g}, {'5' if worse < 0 else '95'} % quantile {tails[0]:.4g} → "
        f"{tails[1]:.4g}"
    )
    centre = 0 if worse else float(np.median(before))
    odd = np.abs(column - centre) if not worse else column * worse
    order = np.argsort(np.where(np.isnan(odd), -np.inf, odd), kind="stable")[::-1]
    return _finding(name, shift(before, told, worse, effect), shown, order[:EXAMPLES])


def _finding(name: str, difference: Difference, shown: str, rows: npt.NDArray[np.int64]) -> DriftFinding:
    return DriftFinding(name, difference.p, difference.effect, shown, [int(row) for row in rows])

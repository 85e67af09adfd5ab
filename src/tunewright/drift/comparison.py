"""Compares a live window with the reference: a finding for each trait, and which of them count."""

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
"""A window with fewer requests is not tested."""
FEWEST_REFERENCE = 100
"""A reference needs at least this many answers."""
_SHOWN = 3
"""Number of kinds that a sentence names."""
EXAMPLES = 5


@dataclass(frozen=True)
class DriftFinding:
    """The comparison of one trait.

    Args:
        effect: in units of the smallest effect that matters; see `two_sample`.
        said: the trait before and now, in words.
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

    Captures do not name the customer, so the window's rows are assumed to be grouped as the reference's are: where a
    customer has five rows in the test part, they have about five in the window.

    Args:
        window: at least `FEWEST` rows.
        alpha: probability of calling anything drift where there is none.
    """
    effects = {name: reference.effects.get(name, 1.0) for name in TRAITS}
    findings = [
        _of_kinds(name, reference.kinds[name], window, effects[name])
        for name in KINDS
        if name in window.kinds and name in reference.kinds
    ]
    for name in NUMBERS:
        known = ~np.isnan(window.numbers.get(name, np.empty(0)))
        enough = known.sum() >= FEWEST and len(reference.numbers.get(name, ())) >= FEWEST_REFERENCE
        if enough:
            findings.append(_of_numbers(name, reference, window, effects[name]))
    return _holm(sorted(findings, key=lambda finding: finding.p), alpha)


def _holm(findings: list[DriftFinding], alpha: float) -> list[DriftFinding]:
    """Mark the findings that drifted, by Holm's method (1979) and only where the effect matters.

    The smallest p-value may be alpha / number of tests, the next alpha / number of tests left, and so on up to the
    first that is larger.
    """
    judged, open_yet = [], True
    for index, finding in enumerate(findings):
        open_yet = open_yet and finding.p <= alpha / (len(findings) - index)
        judged.append(replace(finding, drifted=open_yet and finding.effect >= 1))
    return judged


def _of_kinds(name: str, before: Mapping[str, int], window: Traits, effect: float) -> DriftFinding:
    column = window.kinds[name]
    after = Counter(column.tolist())
    sizes = sum(before.values()), len(column)
    shares = {kind: (before.get(kind, 0) / sizes[0], after[kind] / sizes[1]) for kind in before.keys() | after.keys()}
    # Sorted by each kind's part in the chi-square statistic.
    moved = sorted(shares, key=lambda kind: -((shares[kind][1] - shares[kind][0]) ** 2) / sum(shares[kind]))
    shown = "; ".join(f"{kind} {shares[kind][0]:.1%} → {shares[kind][1]:.1%}" for kind in moved[:_SHOWN])
    grown = next((kind for kind in moved if shares[kind][1] > shares[kind][0]), None)
    return _finding(name, mix(before, after, effect), shown, np.flatnonzero(column == grown)[:EXAMPLES])


def _of_numbers(name: str, reference: Reference, window: Traits, effect: float) -> DriftFinding:
    column, before = window.numbers[name], reference.numbers[name]
    known = column[~np.isnan(column)]
    worse = NUMBERS[name].worse
    middles, tails = ([np.quantile(part, q) for part in (before, known)] for q in (0.5, 0.05 if worse < 0 else 0.95))
    shown = (
        f"median {middles[0]:.4g} → {middles[1]:.4g}, {'5' if worse < 0 else '95'} % quantile {tails[0]:.4g} → "
        f"{tails[1]:.4g}"
    )
    centre = 0 if worse else float(np.median(before))
    odd = np.abs(column - centre) if not worse else column * worse
    order = np.argsort(np.where(np.isnan(odd), -np.inf, odd), kind="stable")[::-1]
    return _finding(name, shift(before, known, worse, effect), shown, order[:EXAMPLES])


def _finding(name: str, difference: Difference, shown: str, rows: npt.NDArray[np.int64]) -> DriftFinding:
    return DriftFinding(name, difference.p, difference.effect, shown, [int(row) for row in rows])

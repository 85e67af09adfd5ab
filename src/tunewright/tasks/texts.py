"""How similar two texts are, and how much of a text is copied or repeated. Each function imports its library itself,
because serving needs none of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from tunewright.tasks.measures import Ratio

_RUN = 4
"""Words in a row that are hardly a coincidence."""


def chrf(gold: str, answer: str) -> float:
    """chrF, 0 to 1: the F2 of character n-grams up to 6 without spaces, as sacrebleu computes it.

    Source: Popović 2015, with the settings of WMT.
    """
    return float(_chrf().sentence_score(answer, [gold]).score) / 100


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def rouge_l(gold: str, answer: str) -> float:
    """ROUGE-L, 0 to 1: the F1 of the longest common subsequence of words, ignoring case. Source: Lin 2004."""
    from rapidfuzz.distance import LCSseq

    right, given = words(gold), words(answer)
    common = LCSseq.similarity(right, given)
    return 2 * common / (len(right) + len(given)) if common else float(right == given)


def copied(request: str, answer: str) -> Ratio:
    """The share of an answer's runs of four words that also stand in the request."""
    known = set(_runs(words(request)))
    runs = _runs(words(answer))
    return Ratio(sum(run in known for run in runs), len(runs))


def repeated(answer: str) -> Ratio:
    """The share of an answer's runs of four words that it has used before.

    Source: Welleck et al. 2020, seq-rep-4.
    """
    runs = _runs(words(answer))
    return Ratio(len(runs) - len(set(runs)), len(runs))


def words(text: str) -> list[str]:
    """The words, numbers and other signs of a text, case-folded."""
    return re.findall(r"\w+|[^\w\s]", text.casefold())


def _runs(sequence: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(sequence[start : start + _RUN]) for start in range(len(sequence) - _RUN + 1)]

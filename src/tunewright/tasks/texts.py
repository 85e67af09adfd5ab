"""How alike two texts are, and how much of a text is its own. The libraries are imported where they are needed, because
serving needs none of this."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from tunewright.tasks.measures import Ratio

_RUN = 4
"""Words in a row that are no coincidence."""


def chrf(gold: str, answer: str) -> float:
    """chrF, 0 to 1: the F2 of character n-grams up to 6, spaces aside, as sacrebleu computes it.

    Source: Popović 2015, with the settings of WMT.
    """
    return float(_chrf().sentence_score(answer, [gold]).score) / 100


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()


def rouge_l(gold: str, answer: str) -> float:
    """ROUGE-L, 0 to 1: the F1 of the longest common subsequence of words, case aside. Source: Lin 2004."""
    from rapidfuzz.distance import LCSseq

    right, found = words(gold), words(answer)
    common = LCSseq.similarity(right, found)
    return 2 * common / (len(right) + len(found)) if common else float(right == found)


def copied(request: str, answer: str) -> Ratio:
    """The runs of four words of an answer, and how many of them stand in the request as well."""
    known = set(_runs(words(request)))
    runs = _runs(words(answer))
    return Ratio(sum(run in known for run in runs), len(runs))


def repeated(answer: str) -> Ratio:
    """The runs of four words of an answer, and how many of them it has said before.

    Source: Welleck et al. 2020, seq-rep-4.
    """
    runs = _runs(words(answer))
    return Ratio(len(runs) - len(set(runs)), len(runs))


def words(text: str) -> list[str]:
    """Words, numbers and each other sign that is no space, case aside."""
    return re.findall(r"\w+|[^\w\s]", text.casefold())


def _runs(of: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(of[start : start + _RUN]) for start in range(len(of) - _RUN + 1)]

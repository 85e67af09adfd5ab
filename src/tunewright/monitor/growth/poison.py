"""Corrections from one source that pull an answer: a slip that repeats itself, or an attempt to poison the model.

A wrong correction alone can't be told from a hard one. What can be told is that those of one source contradict what is
known far more often than the others' do, and always for the same answer. Three witnesses must be against a row: the
model, which was sure of another answer; a classifier that learnt the data and earlier corrections, none of the new
ones; and that no second person says the same. How often honest rows have them all against them is estimated from the
other sources' rows; a source whose rows have them against them more often than chance allows is held back.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tunewright.data.checks.wrong_labels import CHARACTERS, LOOKED_AT
from tunewright.data.corrections import Correction
from tunewright.data.label_noise import CLEAR_MARGIN, doubts
from tunewright.monitor.growth.choose import people
from tunewright.monitor.growth.known import ENOUGH, Known

LEVEL = 0.01
"""Probability, over all tests of a growth together (Holm), of a source that is held back by chance."""
LEAST = 5
"""Rows with all witnesses against them, below which no source is held back."""
SURE = 0.7
"""Confidence from which the model counts as sure."""
HONEST = 0.2
"""Share of an honest source's corrections that have all witnesses against them, where nothing else tells."""
WEIGHT = 20
"""Rows that HONEST counts for beside the other sources' own."""
_WORDS = 3
"""Words in a phrase, at most."""


@dataclass(frozen=True)
class Pull:
    """A source that pulls an answer."""

    source: str
    """Under which name `--include` releases it: reviewer:NAME, key:NAME or phrase:WORDS."""
    answer: str
    """The label; or what the answers carry."""
    rows: tuple[str, ...]
    """The captures that are held back for it."""
    against: int
    """How many of them have all witnesses against them."""
    usual: float
    """The share of other rows that have."""
    p: float
    """Probability of so many by chance."""

    def __str__(self) -> str:
        return (
            f"{self.source} pulls '{self.answer}': {self.against} of {len(self.rows)} contradict both the model and "
            f"the data, where {100 * self.usual:.0f} % are usual (p = {self.p:.1g})"
        )


def pulls(known: Known, corrections: Sequence[Correction], confidence: dict[str, float | None],
          include: Collection[str] = ()) -> list[Pull]:  # fmt: skip
    """The sources that pull a label.

    Args:
        confidence: of the model's answer to each capture; None where it has none.
        include: sources that are not looked at.
    """
    alone = [each for each in corrections if people(each) < ENOUGH]
    against = _against(known, alone, confidence)
    tests = [test for test in _tests(alone, against) if test.source not in include]
    found: list[Pull] = []
    for rank, test in enumerate(sorted(tests, key=lambda test: test.p)):
        if test.p > LEVEL / (len(tests) - rank):
            break
        found.append(test)
    return found


def _against(known: Known, corrections: Sequence[Correction], confidence: dict[str, float | None]) -> list[bool]:
    """Whether model and data are both sure of another answer, for each."""
    rows = _sample(known)
    margins = doubts(
        [known.train.texts[row] for row in rows], [known.train.answers[row] for row in rows],
        [each.text for each in corrections], [each.answer for each in corrections],
    )  # fmt: skip
    return [
        bool(margin >= CLEAR_MARGIN) and each.said != each.answer and (_sure(confidence.get(each.capture)))
        for each, margin in zip(corrections, margins.tolist(), strict=True)
    ]


def _sure(confidence: float | None) -> bool:
    return confidence is None or confidence >= SURE


def _sample(known: Known) -> list[int]:
    """The rows of the data that are learnt from: of many, as many as a classifier learns in a minute."""
    rows = range(len(known.train.texts))
    characters = sum(map(len, known.train.texts))
    most = min(LOOKED_AT, len(rows) * CHARACTERS // max(characters, 1))
    return sorted(random.Random(0).sample(rows, most)) if len(rows) > most else list(rows)


def _tests(corrections: Sequence[Correction], against: Sequence[bool]) -> Iterator[Pull]:
    """Each source and label with enough rows against, and the probability of so many by chance."""
    from scipy.stats import binom

    flags = np.array(against, bool)
    of_source: dict[str, set[int]] = defaultdict(set)
    for index, each in enumerate(corrections):
        for source in sources_of(each):
            of_source[source].add(index)
    for source, members in of_source.items():
        by_label: dict[str, list[int]] = defaultdict(list)
        for index in sorted(members):
            by_label[corrections[index].answer].append(index)
        for label, rows in by_label.items():
            hits = int(flags[rows].sum())
            if hits < LEAST:
                continue
            others = np.ones(len(flags), bool)
            others[list(members) if not source.startswith("phrase:") else rows] = False
            usual = (float(flags[others].sum()) + HONEST * WEIGHT) / (int(others.sum()) + WEIGHT)
            p = float(binom.sf(hits - 1, len(rows), usual))
            captures = tuple(corrections[index].capture for index in rows)
            yield Pull(source, label, captures, hits, usual, p)


def sources_of(correction: Correction) -> Iterator[str]:
    """What a correction comes from: who reviewed it, who asked, and each phrase of its text."""
    for review in correction.reviews:
        yield f"{'feedback' if review.source == 'feedback' else 'reviewer'}:{review.reviewer}"
    if correction.by:
        yield f"key:{correction.by}"
    words = re.findall(r"\w+", correction.text.casefold())[:200]
    phrases = {" ".join(words[i : i + n]) for n in range(1, _WORDS + 1) for i in range(len(words) - n + 1)}
    yield from (f"phrase:{phrase}" for phrase in sorted(phrases))

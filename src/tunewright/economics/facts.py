"""Facts of a job before any model is trained: counts, lengths, agreement of labels, and the cheap model's accuracy."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tunewright.data.curve.learning_curve import NORMAL_90, LearningCurve, is_classification, learning_curve
from tunewright.data.splits.folds import group_of
from tunewright.data.text import normal
from tunewright.tasks import Example
from tunewright.tasks.measures import wilson_limits

SUSPECTS_WRONG = 0.55
"""Share of suspected labels that are wrong: the precision `bench/label_noise.py` measures."""
_DRAWN = 1.25
"""Chance may bring up to this many times the macro-F1 of labels drawn evenly."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Lengths:
    """Words of requests or answers over all rows."""

    median: float
    p95: float


@dataclass(frozen=True)
class JobFacts:
    rows: int
    answers: int
    """Number of different answers; for a classification, of labels."""
    classification: bool
    groups: int
    grouped: bool
    """Whether the rows name their groups; without that, equal texts are a group."""
    median_a_label: float
    """Median number of groups of a label."""
    majority: float
    """Share of the most frequent answer."""
    test_rows: int
    request: Lengths
    answer: Lengths
    copied: float
    """Share of the answers' words that are in the request or in half of all answers."""
    contradicting: float
    """Share of rows whose text has another, more frequent answer elsewhere."""
    suspects: float | None
    """Share of rows whose label is probably wrong; None where it can't be judged."""
    curve: LearningCurve | None
    """The cheap model's learning curve; None where there are no labels."""

    @property
    def no_signal(self) -> bool:
        """Whether the cheap model finds nothing: it is not shown to be better than the most frequent label, and its
        macro-F1 is about that of random labels."""
        if not self.curve or not self.curve.now:
            return False
        return self.curve.now.low <= self.majority and (self.curve.macro_f1 or 0) <= _DRAWN / self.answers

    @property
    def ceiling(self) -> float:
        """The best accuracy that anyone can show on labels which contradict each other, up to an error of 5 %.

        It is Wilson's limit, with each group counted once.
        """
        least, _ = wilson_limits(self.contradicting, self.groups, NORMAL_90)
        return 1 - float(least)

    @property
    def likely_ceiling(self) -> float:
        """The best accuracy if the share `SUSPECTS_WRONG` of the suspected labels is wrong."""
        return min(self.ceiling, 1 - SUSPECTS_WRONG * (self.suspects or 0.0))


def gather(examples: Sequence[Example], test_rows: int, seed: int) -> JobFacts:
    """Gather the facts for `forecast_fit`. This takes about a minute for 15,000 rows of 77 labels.

    Args:
        examples: at least one.
        test_rows: number of rows on which the result will be measured.
        seed: seed of folds and subsets.
    """
    members: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        members[example.answer].add(group_of(example))
    classification = len(members) >= 2 and is_classification(len(examples), len(members))
    curve = learning_curve(examples, seed) if classification else None
    return JobFacts(
        rows=len(examples),
        answers=len(members),
        classification=classification,
        groups=len({group_of(example) for example in examples}),
        grouped=any(example.meta.group for example in examples),
        median_a_label=median(len(groups) for groups in members.values()),
        majority=max(Counter(example.answer for example in examples).values()) / len(examples),
        test_rows=test_rows,
        request=_lengths([example.request for example in examples]),
        answer=_lengths([example.answer for example in examples]),
        copied=_copied(examples),
        contradicting=_contradicting(examples),
        suspects=_suspects(examples, seed) if curve and curve.now else None,
        curve=curve,
    )


def _lengths(texts: Sequence[str]) -> Lengths:
    words = sorted(len(text.split()) for text in texts)
    return Lengths(median(words), words[int(0.95 * (len(words) - 1))])


def _copied(examples: Sequence[Example]) -> float:
    answers = [_WORD.findall(example.answer.casefold()) for example in examples]
    spread = Counter(word for words in answers for word in set(words))
    usual = {word for word, count in spread.items() if count >= len(examples) / 2}
    total = copied = 0
    for example, words in zip(examples, answers, strict=True):
        request = set(_WORD.findall(example.request.casefold()))
        total += len(words)
        copied += sum(word in request or word in usual for word in words)
    return copied / max(total, 1)


def _contradicting(examples: Sequence[Example]) -> float:
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for example in examples:
        answers[normal(example.request)][example.answer] += 1
    return sum(counts.total() - max(counts.values()) for counts in answers.values()) / len(examples)


def _suspects(examples: Sequence[Example], seed: int) -> float | None:
    from tunewright.data.checks.label_noise import likely_mislabelled

    rows = sorted(examples, key=lambda example: (group_of(example), example.request, example.answer))
    suspects = likely_mislabelled(
        [row.request for row in rows], [row.answer for row in rows], [group_of(row) for row in rows], seed
    )
    return None if suspects is None else len(suspects) / len(rows)

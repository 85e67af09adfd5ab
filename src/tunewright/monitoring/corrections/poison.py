"""Find sources whose corrections pull an answer: a repeated mistake, or an attempt to poison the model.

A single wrong correction looks like a hard one. But the corrections of a bad source contradict the known data far more
often than those of other sources, and always for the same answer. Three witnesses must be against a row: the model,
which was sure of another answer; a classifier that learnt the data and earlier corrections, but none of the new ones;
and the absence of a second person who agrees, on this request or an alike one. The rows of the other sources show how
often honest rows have all witnesses against them. A source is rejected if its rows have them against them more often
than chance allows.
"""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunewright.data.checks.label_noise import CLEAR_MARGIN, doubts
from tunewright.data.checks.wrong_labels import CHARACTERS, LOOKED_AT
from tunewright.data.corrections import Correction
from tunewright.monitoring.corrections.known import ENOUGH, KnownRows, Sifted
from tunewright.tasks import Task
from tunewright.tasks.base import JsonRecord, ToolCall, labels_of
from tunewright.tasks.measures import is_in, leaves
from tunewright.tasks.tools import said

LEVEL = 0.002
"""The probability of rejecting a source by chance, over all sources and labels of one collection (Bonferroni). With
0.01, honest people who send only answers that the model got wrong are rejected in 8 of 100 collections
(`bench/poison.py`)."""
LEAST = 5
"""The least number of rows with all witnesses against them for which a source is rejected."""
SURE = 0.7
"""The confidence from which the model counts as sure."""
HONEST = 0.2
"""The prior share of an honest source's corrections that have all witnesses against them."""
WEIGHT = 20
"""The weight of HONEST, in rows, beside the rows of the other sources."""
SOURCES = ("reviewer", "key", "phrase", "value", "feedback")
"""Kinds of sources; a colon and a name follow."""
PHRASE = "phrase:"
ALIKE = 40
"""How similar honest sources are: their shares follow Beta(usual * ALIKE, (1 - usual) * ALIKE). With 20, half of the
rows that a single reviewer slips in go unseen; with 80, honest reviewers are rejected (`bench/poison.py`)."""
_WORDS = 3
"""The most words in a phrase."""
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+|[^\s@]{1,64}@[^\s@]+|\+?\d[\d /-]{4,30}\d")
"""A link, an e-mail address, or a number as long as a telephone's or an account's."""
_READ = 200
"""Words of a text whose phrases count."""


@dataclass(frozen=True)
class Pull:
    """A source that pulls an answer."""

    source: str
    """The source's name for `--include`: reviewer:NAME, key:NAME, phrase:WORDS or value:TEXT."""
    answer: str
    """The label, or the value in the answers."""
    rows: tuple[str, ...]
    """The captures that are rejected because of it, without those that they stand for."""
    against: int
    """How many of the rows have all witnesses against them."""
    usual: float = 0.0
    """The share of such rows among the other sources' rows."""
    p: float | None = None
    """The probability of so many by chance; None for a value."""

    def __str__(self) -> str:
        if self.p is None:
            return f"{self.against} answers contain '{self.answer}', which neither their requests nor the data contain"
        return (
            f"{self.source} pulls '{self.answer}': {self.against} of {len(self.rows)} contradict both the model and "
            f"the data; {100 * self.usual:.0f} % are usual (p = {self.p:.1g})"
        )


def pulls(
    known: KnownRows,
    sifted: Sifted,
    confidence: Mapping[str, float | None],
    include: Collection[str] = (),
) -> list[Pull]:
    """The sources that pull an answer.

    Args:
        confidence: the model's confidence by capture; None if unknown.
        include: sources to accept without a check.
    """
    alone = [each for each in sifted.accepted if sifted.people(each) < ENOUGH]
    if labels_of(known.task.constraint):  # a whole list of labels counts as one label
        suspects = pulling(alone, against(known, alone, confidence))
    else:
        suspects = carrying(known.task, known.train.answers, alone)
    return [pull for pull in suspects if pull.source not in include]


def against(known: KnownRows, corrections: Sequence[Correction], confidence: Mapping[str, float | None]) -> list[bool]:
    """For each correction, whether the model and the data are both sure of another answer."""
    rows = _sample(known)
    margins = doubts(
        [known.train.texts[row] for row in rows],
        [known.train.answers[row] for row in rows],
        [each.text for each in corrections],
        [each.answer for each in corrections],
    )
    return [
        bool(margin >= CLEAR_MARGIN) and each.said != each.answer and _sure(confidence.get(each.capture))
        for each, margin in zip(corrections, margins.tolist(), strict=True)
    ]


def pulling(corrections: Sequence[Correction], against: Sequence[bool]) -> list[Pull]:
    """The sources whose corrections to one label have all witnesses against them more often than chance allows.

    The clearest source is removed with its rows, and the rest is tested again, until no source stands out. An attack is
    thus reported by what its rows have in common, not by every phrase that they happen to contain.

    Args:
        against: for each correction, whether all witnesses are against it.
    """
    from scipy.stats import betabinom

    flags, left = np.array(against, bool), np.ones(len(against), bool)
    sources, looked_at = _sources(corrections, flags)
    found: list[Pull] = []
    while sources:
        rows = [members[left[members]] for _, _, members in sources]
        sizes, hits = np.array(list(map(len, rows))), np.array([flags[members].sum() for members in rows])
        usual = (flags[left].sum() - hits + HONEST * WEIGHT) / (left.sum() - sizes + WEIGHT)
        chance = betabinom.sf(hits - 1, sizes, usual * ALIKE, (1 - usual) * ALIKE)
        p = np.where(hits >= LEAST, chance, 1.0)
        best = int(p.argmin())
        if p[best] * looked_at > LEVEL:
            break
        source, label, _ = sources[best]
        captures = tuple(corrections[index].capture for index in rows[best])
        found.append(Pull(source, label, captures, int(hits[best]), float(usual[best]), float(p[best])))
        left[rows[best]] = False
    return found


def carrying(task: Task, known_answers: Sequence[str], corrections: Sequence[Correction]) -> list[Pull]:
    """Values that several answers contain, but neither their requests nor any answer of the data. In a record and in a
    tool call's arguments every value counts; in a text, links, addresses and long numbers, which an attacker would
    smuggle in."""
    carried: dict[str, list[str]] = defaultdict(list)
    for each in corrections:
        for value in sorted({value for value in _values(task, each.answer) if not is_in(value, each.text)}):
            carried[value].append(each.capture)
    often = {value: rows for value, rows in carried.items() if len(rows) >= LEAST}
    usual = {value for answer in known_answers for value in often if value in answer}
    return [
        Pull(f"value:{value}", value, tuple(rows), len(rows)) for value, rows in often.items() if value not in usual
    ]


def _values(task: Task, answer: str) -> Iterator[str]:
    match task.constraint:
        case ToolCall():
            call = said(answer)
            assert call, "the answer is in canonical form"
            yield from _in_record(call.content) if call.tool else _in_text(call.content)
        case JsonRecord():
            yield from _in_record(answer)
        case _:
            yield from _in_text(answer)


def _in_record(record: str) -> Iterator[str]:
    return (value for _, value in leaves(json.loads(record)))


def _in_text(text: str) -> Iterator[str]:
    return (found.group().rstrip(".,;:!?)") for found in _ADDRESS.finditer(text))


def _sure(confidence: float | None) -> bool:
    return confidence is None or confidence >= SURE


def _sample(known: KnownRows) -> list[int]:
    """The rows of the data for the classifier: at most as many as it learns in a minute."""
    rows = range(len(known.train.texts))
    characters = sum(map(len, known.train.texts))
    most = min(LOOKED_AT, len(rows) * CHARACTERS // max(characters, 1))
    return sorted(random.Random(0).sample(rows, most)) if len(rows) > most else list(rows)


def _sources(
    corrections: Sequence[Correction], flags: npt.NDArray[np.bool_]
) -> tuple[list[tuple[str, str, npt.NDArray[np.int64]]], int]:
    """(source, label and rows, if enough rows have all witnesses against them; the number of pairs of source and label
    with enough rows for a test)."""
    of_label: dict[str, list[int]] = defaultdict(list)
    for index, each in enumerate(corrections):
        of_label[each.answer].append(index)
    kept, looked_at = [], 0
    for label, members in of_label.items():
        if flags[members].sum() < LEAST:
            continue
        of_source: dict[str, list[int]] = defaultdict(list)
        for index in members:
            for source in sources_of(corrections[index]):
                of_source[source].append(index)
        for source, rows in of_source.items():
            looked_at += len(rows) >= LEAST
            if flags[rows].sum() >= LEAST:
                kept.append((source, label, np.array(rows, np.int64)))
    # Among sources that stand out equally, a person is more telling than a phrase, and a long phrase than a short one.
    return sorted(kept, key=lambda each: (each[0].startswith(PHRASE), -len(each[0]), each[:2])), looked_at


def sources_of(correction: Correction) -> Iterator[str]:
    """The sources of a correction: its reviewers, its client, and each phrase of its text."""
    for review in correction.reviews:
        yield f"{'feedback' if review.source == 'feedback' else 'reviewer'}:{review.reviewer}"
    if correction.by:
        yield f"key:{correction.by}"
    yield from (f"{PHRASE}{phrase}" for phrase in _phrases(correction.text))


def _phrases(text: str) -> list[str]:
    words = re.findall(r"\w+", text.casefold())[:_READ]
    return sorted({" ".join(words[i : i + n]) for n in range(1, _WORDS + 1) for i in range(len(words) - n + 1)})

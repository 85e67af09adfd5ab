"""Corrections from one source that pull an answer: a slip that repeats itself, or an attempt to poison the model.

A wrong correction alone can't be told from a hard one. What can be told is that those of one source contradict what is
known far more often than the others' do, and always for the same answer. Three witnesses must be against a row: the
model, which was sure of another answer; a classifier that learnt the data and earlier corrections, none of the new
ones; and that no second person says the same. How often honest rows have them all against them is estimated from the
other sources' rows; a source whose rows have them against them more often than chance allows is held back.
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
from tunewright.monitoring.corrections.choose import people
from tunewright.monitoring.corrections.known import ENOUGH, KnownRows
from tunewright.tasks import Task
from tunewright.tasks.base import JsonRecord, labels_of
from tunewright.tasks.measures import is_in, leaves

LEVEL = 0.002
"""Probability of holding back a source by chance, over all sources and labels of a growth together (Bonferroni). With
0.01 honest people who send only what the model got wrong are held back in 8 growths of 100 (`bench/poison.py`)."""
LEAST = 5
"""Rows with all witnesses against them, below which no source is held back."""
SURE = 0.7
"""Confidence from which the model counts as sure."""
HONEST = 0.2
"""Share of an honest source's corrections that have all witnesses against them, where nothing else tells."""
WEIGHT = 20
"""Rows that HONEST counts for beside the other sources' own."""
SOURCES = ("reviewer", "key", "phrase", "value", "feedback")
"""Kinds of sources; a name follows behind a colon."""
PHRASE = "phrase:"
ALIKE = 40
"""How alike honest sources are: their shares spread about the usual one as Beta(usual * ALIKE, (1 - usual) * ALIKE).
With 20 half of what a single reviewer slips in goes unseen, with 80 honest ones are held back (`bench/poison.py`)."""
_WORDS = 3
"""Words in a phrase, at most."""
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+|[^\s@]{1,64}@[^\s@]+|\+?\d[\d /-]{4,30}\d")
"""A link, an e-mail address, or a number as long as a telephone's or an account's."""
_READ = 200
"""Words of a text whose phrases are looked at."""


@dataclass(frozen=True)
class Pull:
    """A source that pulls an answer."""

    source: str
    """Under which name `--include` releases it: reviewer:NAME, key:NAME, phrase:WORDS or value:TEXT."""
    answer: str
    """The label, or the value that the answers carry."""
    rows: tuple[str, ...]
    """The captures that are held back for it."""
    against: int
    """How many of them speak against the source."""
    usual: float = 0.0
    """The share of other rows that have."""
    p: float | None = None
    """Probability of so many by chance; None of a value, which is no matter of chance."""

    def __str__(self) -> str:
        if self.p is None:
            return f"{self.against} answers carry '{self.answer}', which neither their requests nor the data have"
        return (
            f"{self.source} pulls '{self.answer}': {self.against} of {len(self.rows)} contradict both the model and "
            f"the data, where {100 * self.usual:.0f} % are usual (p = {self.p:.1g})"
        )


def pulls(
    known: KnownRows,
    corrections: Sequence[Correction],
    confidence: Mapping[str, float | None],
    include: Collection[str] = (),
) -> list[Pull]:
    """The sources that pull an answer.

    Args:
        confidence: of the model's answer to each capture; None where it has none.
        include: sources that are not looked at.
    """
    alone = [each for each in corrections if people(each) < ENOUGH]
    if labels_of(known.task.constraint):  # of several labels a row, the whole list counts as one
        found = pulling(alone, against(known, alone, confidence))
    else:
        found = carrying(known.task, known.train.answers, alone)
    return [pull for pull in found if pull.source not in include]


def against(known: KnownRows, corrections: Sequence[Correction], confidence: Mapping[str, float | None]) -> list[bool]:
    """Whether model and data are both sure of another answer, for each."""
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

    The clearest is set aside first, and the rest is looked at without its rows, until no source stands out: so an
    attack is told by what it has in common, not by all that its rows happen to have.

    Args:
        against: for each correction whether all witnesses are.
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
    """Values that several answers carry and neither their requests nor any answer of the data: of a record any value,
    of a text its links, addresses and long numbers, which are what somebody would smuggle in."""
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
    if isinstance(task.constraint, JsonRecord):
        yield from (value for _, value in leaves(json.loads(answer)))
    else:
        yield from (found.group().rstrip(".,;:!?)") for found in _ADDRESS.finditer(answer))


def _sure(confidence: float | None) -> bool:
    return confidence is None or confidence >= SURE


def _sample(known: KnownRows) -> list[int]:
    """The rows of the data that are learnt from: of many, as many as a classifier learns in a minute."""
    rows = range(len(known.train.texts))
    characters = sum(map(len, known.train.texts))
    most = min(LOOKED_AT, len(rows) * CHARACTERS // max(characters, 1))
    return sorted(random.Random(0).sample(rows, most)) if len(rows) > most else list(rows)


def _sources(
    corrections: Sequence[Correction], flags: npt.NDArray[np.bool_]
) -> tuple[list[tuple[str, str, npt.NDArray[np.int64]]], int]:
    """(sources with a label and their rows into it, where enough have all witnesses against them; how many sources and
    labels have rows enough to be looked at)."""
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
    # Of sources that stand out equally a person tells more than a phrase, and a long phrase more than a short one.
    return sorted(kept, key=lambda each: (each[0].startswith(PHRASE), -len(each[0]), each[:2])), looked_at


def sources_of(correction: Correction) -> Iterator[str]:
    """What a correction comes from: who reviewed it, who asked, and each phrase of its text."""
    for review in correction.reviews:
        yield f"{'feedback' if review.source == 'feedback' else 'reviewer'}:{review.reviewer}"
    if correction.by:
        yield f"key:{correction.by}"
    yield from (f"{PHRASE}{phrase}" for phrase in _phrases(correction.text))


def _phrases(text: str) -> list[str]:
    words = re.findall(r"\w+", text.casefold())[:_READ]
    return sorted({" ".join(words[i : i + n]) for n in range(1, _WORDS + 1) for i in range(len(words) - n + 1)})

"""Compare corrections with the data: some repeat it, contradict it, or stand in a test."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tunewright.config import Spec
from tunewright.data.checks.rows import row_checks
from tunewright.data.corrections import Correction
from tunewright.data.dedup.blocks import SEARCH
from tunewright.data.dedup.near import THRESHOLD, NearPair, near_copies, near_duplicates, near_groups
from tunewright.data.job import Job
from tunewright.data.readers import read_piece
from tunewright.data.readers.parts import Piece
from tunewright.data.shown import shown
from tunewright.data.splits.frozen import read_frozen
from tunewright.data.text import normal
from tunewright.monitoring.corrections.choose import people, supporters
from tunewright.monitoring.corrections.rejected import (
    CONTRADICTS,
    COPY,
    OUTVOTED,
    TESTED,
    TIED,
    UNUSABLE,
    RejectedCorrection,
    reject,
)
from tunewright.tasks import Example, Meta, Task
from tunewright.tasks.base import Unfit, labels_of

ENOUGH = 2
"""People who must agree on an answer that contradicts the data, because the data are a person's answer, too."""
_ALONE = ("D001", "D002", "D019", "D020")
"""Findings on single rows that stop a training."""
_SHOWN = 3
"""The most alike corrections that a reason names."""


@dataclass
class Rows:
    """Rows of the data: request, answer and source of each."""

    texts: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)

    def add(self, task: Task, example: Example) -> None:
        self.texts.append(example.request)
        self.answers.append(_canonical(task, example.answer))
        self.places.append(example.meta.source or example.meta.id)


@dataclass(frozen=True)
class Sifted:
    """Corrections after the comparison with the data and with each other."""

    accepted: list[Correction]
    rejected: list[RejectedCorrection]
    contradicted: list[RejectedCorrection]
    """Those of the accepted ones that the data contradict."""
    copies: dict[str, list[Correction]]
    """By the capture of an accepted one, the corrections with its answer to alike texts, which it stands for."""

    def people(self, accepted: Correction) -> int:
        """How many people agree on an accepted correction or on one that it stands for, without clients' feedback."""
        return len(set().union(*map(supporters, (accepted, *self.copies.get(accepted.capture, ())))))


@dataclass(frozen=True)
class KnownRows:
    """The training data with the corrections so far, and all tests."""

    job: Job
    task: Task
    train: Rows
    tests: Rows

    def sift(self, corrections: Sequence[Correction]) -> Sifted:
        """Sift the corrections.

        It rejects corrections that training can't use, that a test contains, that the data already contain, and that
        the data contradict unless two people agree. If answers are labels, near copies count as the same text; for
        other answers they do not, because similar texts then have different answers.
        """
        rejected: list[RejectedCorrection] = []
        contradicted: list[RejectedCorrection] = []
        left = self._usable(corrections, rejected)
        left = self._beside_tests(left, rejected)
        left = self._beside_train(left, rejected, contradicted)
        copies: dict[str, list[Correction]] = {}
        return Sifted(self._beside_each_other(left, rejected, copies), rejected, contradicted, copies)

    @property
    def _labels(self) -> bool:
        return bool(labels_of(self.task.constraint))

    def _usable(self, corrections: Sequence[Correction], rejected: list[RejectedCorrection]) -> list[Correction]:
        checks = {code: check for code, check in row_checks(self.job).items() if code in _ALONE}
        kept = []
        for each in corrections:
            example = Example.of(each.text, each.answer, Meta(id=each.capture))
            codes = [code for code, check in checks.items() if check(example)]
            if codes:
                rejected.append(reject(UNUSABLE, each, f"finding {', '.join(codes)}"))
            else:
                kept.append(each)
        return kept

    def _beside_tests(self, corrections: Sequence[Correction], rejected: list[RejectedCorrection]) -> list[Correction]:
        like = self._like(self.tests, corrections, near=True)
        for index, row in like.items():
            other = "" if self.tests.answers[row] == corrections[index].answer else ", which has another answer"
            detail = f"like {self.tests.places[row]}{other}: {shown(self.tests.answers[row])}"
            rejected.append(reject(TESTED, corrections[index], detail))
        return [each for index, each in enumerate(corrections) if index not in like]

    def _beside_train(
        self,
        corrections: Sequence[Correction],
        rejected: list[RejectedCorrection],
        contradicted: list[RejectedCorrection],
    ) -> list[Correction]:
        kept = []
        like = self._like(self.train, corrections, near=self._labels)
        agreed: defaultdict[tuple[int, str], set[str]] = defaultdict(set)
        for index, known in like.items():
            agreed[known, corrections[index].answer] |= supporters(corrections[index])
        for index, each in enumerate(corrections):
            row = like.get(index)
            if row is None:
                kept.append(each)
            elif self.train.answers[row] == each.answer:
                rejected.append(reject(COPY, each, self._says(row)))
            elif len(agreed[row, each.answer]) >= ENOUGH:
                kept.append(each)
                contradicted.append(reject(CONTRADICTS, each, self._says(row)))
            else:
                rejected.append(reject(CONTRADICTS, each, self._says(row)))
        return kept

    def _says(self, row: int) -> str:
        return f"{self.train.places[row]} says {shown(self.train.answers[row])}"

    def _beside_each_other(
        self,
        corrections: Sequence[Correction],
        rejected: list[RejectedCorrection],
        copies: dict[str, list[Correction]],
    ) -> list[Correction]:
        """One correction of each group of alike texts, with the answer that most people gave to any of them."""
        order = sorted(range(len(corrections)), key=lambda index: (-people(corrections[index]), index))
        texts = [corrections[index].text for index in order]
        pairs = near_duplicates(texts, THRESHOLD) if self._labels else _repeats(texts)
        gone: set[int] = set()
        for group in near_groups(pairs):
            members = [order[member] for member in group]
            leads, voters = dict[str, Correction](), dict[str, set[str]]()
            for each in (corrections[index] for index in members):
                leads.setdefault(each.answer, each)
                voters.setdefault(each.answer, set()).update(supporters(each))
            first, *others = sorted(leads.values(), key=lambda lead: -len(voters[lead.answer]))
            if others and len(voters[others[0].answer]) == len(voters[first.answer]):
                gone.update(members)
                rejected.extend(_tied(corrections[index], leads.values()) for index in members)
                continue
            for index in members:
                each = corrections[index]
                if each is first:
                    continue
                gone.add(index)
                if each.answer == first.answer:
                    copies.setdefault(first.capture, []).append(each)
                else:
                    rejected.append(reject(OUTVOTED, each, like(first)))
        return [each for index, each in enumerate(corrections) if index not in gone]

    def _like(self, rows: Rows, corrections: Sequence[Correction], *, near: bool) -> dict[int, int]:
        """The row that each correction resembles, by the correction's index. Among rows with the same text, one with
        the same answer comes first."""
        resembled: dict[int, int] = {}
        if near:
            pairs = near_copies(rows.texts, [each.text for each in corrections], SEARCH)
            resembled = {pair.second: pair.first for pair in pairs if pair.jaccard >= THRESHOLD}
        same_text: dict[str, list[int]] = {normal(each.text): [] for each in corrections}
        for row, text in enumerate(rows.texts):
            if (same := same_text.get(normal(text))) is not None:
                same.append(row)
        for index, each in enumerate(corrections):
            if same := same_text[normal(each.text)]:
                agrees = [row for row in same if rows.answers[row] == each.answer]
                resembled[index] = (agrees or same)[0]
        return resembled


def known_of(spec: Spec, job: Job, task: Task) -> KnownRows:
    """Read all data of a spec.

    Raises:
        UserError: a file is not there, or the frozen test or the corrections were edited.
    """
    read = {name: Rows() for name in ("train", "tests")}
    for name, files in job.files().items():
        for file in files:
            for item in read_piece(Piece(file), job.data.form, job.columns):
                if isinstance(item, Example) and item.importance:
                    item = job.input_form.of_example(item)
                    read["train" if name == "train" else "tests"].add(task, item)
    if spec.frozen_folder:
        for example in read_frozen(spec.frozen_folder).as_read(job.input_form).examples:
            read["tests"].add(task, example)
    return KnownRows(job, task, **read)


def like(lead: Correction) -> str:
    """The detail of a rejection because of an alike correction."""
    return f"like {shown(lead.text)}: {shown(lead.answer)}"


def _tied(correction: Correction, leads: Iterable[Correction]) -> RejectedCorrection:
    """A correction that alike ones contradict, as many people each.

    Args:
        leads: one of these for each answer.
    """
    others = [f"{shown(each.text)}: {shown(each.answer)}" for each in leads if each.answer != correction.answer]
    return reject(TIED, correction, f"alike, with another answer: {'; '.join(others[:_SHOWN])}")


def _repeats(texts: Sequence[str]) -> list[NearPair]:
    firsts: dict[str, int] = {}
    pairs = [NearPair(firsts.setdefault(normal(text), index), index, 1.0) for index, text in enumerate(texts)]
    return [pair for pair in pairs if pair.first != pair.second]


def _canonical(task: Task, answer: str) -> str:
    try:
        return task.canonical(answer)
    except Unfit:
        return answer

"""Growth: what people said becomes a new version of the data, as far as it can be relied on.

choose.py   from reviews to the answer that people agree on
known.py    what the data says already, contradicts, or asks in a test
poison.py   sources that pull an answer
record.py   what is noted on reviews, and which of it the corrections still say
held.py     why something is held back
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.core.processes import sole_writer
from tunewright.data.corrections import (
    Correction,
    Corrections,
    ReviewerAnswer,
    Settled,
    corrections_in,
    write_corrections,
)
from tunewright.data.job import job_of
from tunewright.data.label_sets import counted
from tunewright.monitoring.corrections.choose import choose, confidences
from tunewright.monitoring.corrections.known import known_of
from tunewright.monitoring.corrections.poison import SOURCES, Pull, pulls
from tunewright.monitoring.corrections.rejected import (
    COPY,
    NEW_LABEL,
    PULL,
    REMEDIES,
    SETTLED,
    RejectedCorrection,
    reconcile,
    reject,
    stamp,
    without_known,
)
from tunewright.monitoring.store import Store
from tunewright.tasks import Task, task_of
from tunewright.tasks.base import labels_of

__all__ = [
    "COPY",
    "NEW_LABEL",
    "PULL",
    "REMEDIES",
    "NewCorrections",
    "Pull",
    "RejectedCorrection",
    "collect_corrections",
]


@dataclass(frozen=True)
class NewCorrections:
    """What became of the reviews that were in no dataset yet."""

    folder: Path
    """Of the corrections."""
    number: int | None
    """The version that was written; None where there was nothing to add, or nothing was to be written."""
    sha256: str | None
    """Pins the last version and all before it; None where there is none."""
    rows: int
    """Rows that were added, or would be."""
    answers: dict[str, int]
    """How often each label was added; empty where answers are no labels."""
    rejected: list[RejectedCorrection]
    """What is not taken, and why."""
    contradicted: list[RejectedCorrection]
    """Of what is taken, that rows of the data contradict: these are to be mended."""
    pulls: list[Pull]
    """Sources that pull an answer, and whose rows are therefore held back."""
    retracted: int
    """Rows of earlier versions whose reviews were undone since."""
    recovered: int
    """Reviews that an interrupted growth had written down, and that are noted now."""
    wanted: dict[str, int] = field(default_factory=dict)
    """Labels that the spec does not have, and how many captures people gave them to."""

    @property
    def reasons(self) -> dict[str, int]:
        """How many captures are held back, by reason."""
        counts = Counter(each.reason for each in self.rejected)
        return {reason: counts[reason] for reason in REMEDIES if counts[reason]}

    @property
    def summary(self) -> str:
        """In a line."""
        rejected = ", ".join(f"{reason} ({count})" for reason, count in self.reasons.items())
        return f"{self.rows} rows added" + (f"; held back: {rejected}" if rejected else "")


def collect_corrections(
    spec: Spec, store: Store, *, include: Collection[str] = (), dry_run: bool = False
) -> NewCorrections:
    """Make data of the reviews that are in no dataset yet: `corrections/N` beside the spec, and reviews marked with N.

    The folder is the truth: reviews that it names are marked, even where an earlier growth ended between the two, and
    where it was moved away they count anew.

    Args:
        include: sources whose rows are taken although they were held back, as `RejectedCorrection.source` and
        `Pull.source` say. dry_run: write and mark nothing.

    Raises:
        UserError: a source has no such name, the corrections or the frozen test were edited, a data file is not there,
            or another growth is at work.
    """
    folder = spec.corrections_folder
    _require_sources(include)
    if dry_run:
        return _collected(spec, store, folder, include, dry_run=True)
    # What is locked is the folder around it, so that a growth that adds nothing leaves none.
    folder.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder.parent):
        return _collected(spec, store, folder, include, dry_run=False)


def _require_sources(include: Collection[str]) -> None:
    for each in include:
        kind, _, name = each.partition(":")
        if kind not in SOURCES or not name:
            listing = ", ".join(f"{kind}:…" for kind in SOURCES)
            raise UserError(f"'{each}' is no source.", where="--include", fix=f"Name it as it is told: {listing}")


def _collected(spec: Spec, store: Store, folder: Path, include: Collection[str], *, dry_run: bool) -> NewCorrections:
    task, before = task_of(spec.task), corrections_in(folder)
    with store.session() as session:
        recovered, retracted = reconcile(session, before, spec.name)
        choice = choose(session, task, spec.name, include)
        sure = confidences(session, [each.capture for each in choice.agreed])
        if dry_run:
            session.rollback()
    agreed, changed = without_known(before, choice.agreed)
    judged = _judged(spec, task, agreed, sure, include) if agreed else _Judged()
    rejected = [*choice.rejected, *changed, *judged.rejected]
    after = before
    if judged.taken and not dry_run:
        after = _written(folder, before, judged.taken, rejected, {each.capture: each for each in agreed})
        with store.session() as session:
            reconcile(session, after, spec.name)
    return NewCorrections(
        folder,
        after.number if after is not before else None,
        after.sha256,
        len(judged.taken),
        dict(Counter(label for each in judged.taken for label in counted(task, each.answer)).most_common())
        if labels_of(task.constraint)
        else {},
        rejected,
        judged.contradicted,
        judged.pulls,
        retracted,
        recovered,
        dict(Counter(each.answer for each in rejected if each.reason == NEW_LABEL).most_common()),
    )


@dataclass(frozen=True)
class _Judged:
    """What the data says of agreed answers."""

    taken: list[Correction] = field(default_factory=list)
    rejected: list[RejectedCorrection] = field(default_factory=list)
    contradicted: list[RejectedCorrection] = field(default_factory=list)
    pulls: list[Pull] = field(default_factory=list)


def _judged(
    spec: Spec, task: Task, agreed: Sequence[Correction], sure: Mapping[str, float | None], include: Collection[str]
) -> _Judged:
    known = known_of(spec, job_of(spec), task)
    new, rejected, contradicted = known.sift(agreed)
    found = pulls(known, new, sure, include)
    taken, pulling = _without(new, found)
    named = {each.capture for each in taken}
    return _Judged(taken, [*rejected, *pulling], [each for each in contradicted if each.capture in named], found)


def _written(
    folder: Path,
    before: Corrections,
    taken: Sequence[Correction],
    rejected: Sequence[RejectedCorrection],
    agreed: Mapping[str, Correction],
) -> Corrections:
    """The next version of the corrections; what need not be looked at again is written down beside its rows."""
    done = [each for each in rejected if each.reason in SETTLED]
    settled = [Settled(each.capture, each.reason, each.answer, _reviews(agreed[each.capture])) for each in done]
    counts = Counter(each.reason for each in rejected if each.reason not in SETTLED)
    return write_corrections(folder, before, taken, settled, counts, stamp(datetime.now(UTC)))


def _reviews(correction: Correction) -> list[ReviewerAnswer]:
    return [*correction.reviews, *correction.outvoted]


def _without(
    corrections: Sequence[Correction], found: Sequence[Pull]
) -> tuple[list[Correction], list[RejectedCorrection]]:
    """(the corrections that no source's pull is about, the others)."""
    pulled = {capture: pull for pull in reversed(found) for capture in pull.rows}
    rejected = [
        reject(PULL, each, source=pulled[each.capture].source) for each in corrections if each.capture in pulled
    ]
    return [each for each in corrections if each.capture not in pulled], rejected

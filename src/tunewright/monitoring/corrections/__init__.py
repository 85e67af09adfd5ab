"""Corrections: reliable reviews become a new version of the training data.

choose.py     the answer that reviewers agree on
known.py      corrections that repeat or contradict the data, or stand in a test
poison.py     sources that pull an answer
rejected.py   the reasons for rejecting a correction, and the marks on reviews
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
from tunewright.monitoring.corrections.known import Sifted, known_of, like
from tunewright.monitoring.corrections.poison import SOURCES, Pull, pulls
from tunewright.monitoring.corrections.rejected import (
    COPY,
    DISPUTED,
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
from tunewright.monitoring.queue import dispute, end_dispute
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
    """The result of `collect_corrections`."""

    folder: Path
    """The folder of the corrections."""
    number: int | None
    """The written version; None if there was nothing to add, or with `dry_run`."""
    sha256: str | None
    """Pins the last version and all before it; None if there is no version."""
    rows: int
    """Rows that were added, or would be added."""
    answers: dict[str, int]
    """How often each label was added; empty if answers are not labels."""
    rejected: list[RejectedCorrection]
    """The rejected corrections, with their reasons."""
    contradicted: list[RejectedCorrection]
    """The accepted corrections that older rows contradict; the user should fix those rows."""
    pulls: list[Pull]
    """Sources that pull an answer; their rows are rejected."""
    retracted: int
    """Rows of earlier versions whose reviews were undone since."""
    recovered: int
    """Reviews that an interrupted call had written but not marked, and that are marked now."""
    wanted: dict[str, int] = field(default_factory=dict)
    """Labels that the spec does not have, with the number of captures that reviewers gave them."""

    @property
    def reasons(self) -> dict[str, int]:
        """The number of rejected captures by reason."""
        counts = Counter(each.reason for each in self.rejected)
        return {reason: counts[reason] for reason in REMEDIES if counts[reason]}

    @property
    def summary(self) -> str:
        """The result in one line."""
        rejected = ", ".join(f"{reason} ({count})" for reason, count in self.reasons.items())
        return f"{self.rows} rows added" + (f"; rejected: {rejected}" if rejected else "")


def collect_corrections(
    spec: Spec, store: Store, *, include: Collection[str] = (), dry_run: bool = False
) -> NewCorrections:
    """Write the reviews that are in no dataset yet to `corrections/N` beside the spec, and mark these reviews with N.
    Captures that a person has to settle are put where reviewers find them.

    The folder decides: reviews that it names are marked, even if an earlier call was killed before it marked them. If
    the folder was moved away, its reviews count again.

    Args:
        include: sources whose rejected rows to accept, by `RejectedCorrection.source` or `Pull.source`.
        dry_run: write and mark nothing.

    Raises:
        UserError: a source is unknown, the corrections or the frozen test were edited, a data file is missing, or
            another process writes corrections.
    """
    folder = spec.corrections_folder
    _require_sources(include)
    if dry_run:
        return _collected(spec, store, folder, include, dry_run=True)
    # The lock is on the parent folder, so that a call that adds nothing does not create the folder.
    folder.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(folder.parent):
        return _collected(spec, store, folder, include, dry_run=False)


def _require_sources(include: Collection[str]) -> None:
    for each in include:
        kind, _, name = each.partition(":")
        if kind not in SOURCES or not name:
            listing = ", ".join(f"{kind}:…" for kind in SOURCES)
            raise UserError(f"'{each}' is not a source.", where="--include", fix=f"Name it as printed: {listing}")


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
    if not dry_run:
        with store.session() as session:
            dispute(session, [each.capture for each in rejected if each.reason in DISPUTED])
    after = before
    if judged.taken and not dry_run:
        after = _written(folder, before, judged.taken, rejected, {each.capture: each for each in agreed})
        done = [each.capture for each in judged.taken]
        done += [each.capture for each in rejected if each.reason in SETTLED]
        with store.session() as session:
            reconcile(session, after, spec.name)
            end_dispute(session, done)
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
    """Agreed answers after the comparison with the data."""

    taken: list[Correction] = field(default_factory=list)
    rejected: list[RejectedCorrection] = field(default_factory=list)
    contradicted: list[RejectedCorrection] = field(default_factory=list)
    pulls: list[Pull] = field(default_factory=list)


def _judged(
    spec: Spec, task: Task, agreed: Sequence[Correction], sure: Mapping[str, float | None], include: Collection[str]
) -> _Judged:
    known = known_of(spec, job_of(spec), task)
    sifted = known.sift(agreed)
    found = pulls(known, sifted, sure, include)
    taken, rejected = _without(sifted, found)
    named = {each.capture for each in taken}
    contradicted = [each for each in sifted.contradicted if each.capture in named]
    return _Judged(taken, [*sifted.rejected, *rejected], contradicted, found)


def _written(
    folder: Path,
    before: Corrections,
    taken: Sequence[Correction],
    rejected: Sequence[RejectedCorrection],
    agreed: Mapping[str, Correction],
) -> Corrections:
    """Write the next version of the corrections. Settled rejections are written beside its rows."""
    done = [each for each in rejected if each.reason in SETTLED]
    settled = [Settled(each.capture, each.reason, each.answer, _reviews(agreed[each.capture])) for each in done]
    counts = Counter(each.reason for each in rejected if each.reason not in SETTLED)
    return write_corrections(folder, before, taken, settled, counts, stamp(datetime.now(UTC)))


def _reviews(correction: Correction) -> list[ReviewerAnswer]:
    return [*correction.reviews, *correction.outvoted]


def _without(sifted: Sifted, found: Sequence[Pull]) -> tuple[list[Correction], list[RejectedCorrection]]:
    """(the accepted corrections without a pull, the rejected others).

    Those that a rejected one stood for are rejected for the same reason: without it, the data lack their answer.
    """
    pulled = {capture: pull for pull in reversed(found) for capture in pull.rows}
    taken, rejected = list[Correction](), list[RejectedCorrection]()
    for each in sifted.accepted:
        copies = sifted.copies.get(each.capture, [])
        if pull := pulled.get(each.capture):
            rejected += [reject(PULL, one, source=pull.source) for one in (each, *copies)]
        else:
            taken.append(each)
            rejected += [reject(COPY, one, like(each)) for one in copies]
    return taken, rejected

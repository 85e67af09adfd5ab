"""The files that labelling leaves: the training set, the test set, what waits for people, and the report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.config import Spec
from tunewright.core.artifacts import write_json, write_jsonl
from tunewright.core.errors import UserError
from tunewright.data.curve.learning_curve import LearningCurve, learning_curve
from tunewright.data.readers.forms import LOGGED
from tunewright.labelling.asking import Lessons
from tunewright.labelling.audit import TOGETHER, Audit, audit
from tunewright.labelling.people import PeoplesAnswer
from tunewright.labelling.requests import WEIGHT, Requests, Unlabelled
from tunewright.labelling.settling import Labelled, SettledLabels
from tunewright.tasks import Example, Meta, Task, task_of
from tunewright.tasks.base import JsonRecord, OneOf, SomeOf

LABELS = "labels"
TRAIN, TEST, SAMPLE, PEOPLE, DISPUTED, REPORT = (
    "train.jsonl",
    "test.jsonl",
    "sample.jsonl",
    "people.jsonl",
    "disputed.jsonl",
    "labels.json",
)


@dataclass(frozen=True)
class LabelReport:
    """What a run of the command leaves."""

    requests: int
    left_out: dict[str, int]
    """Rows of the file that are no requests, by the reason."""
    withheld: dict[str, int]
    """Requests that are neither asked about nor taught, because the sample has them, or nearly; by the reason."""
    asked: int
    """Requests that all teachers answered, those of the sample included."""
    pseudonymised: int
    """Of these, those in which teachers read stand-ins for personal data."""
    usd: float
    is_spent: bool
    """Whether the budget ended the asking."""
    training: int
    """Rows of `train.jsonl`."""
    by_people: int
    """Of these, those that people answered."""
    disputed: int
    """Requests that wait for people, because teachers disagree."""
    test: int
    """Rows of `test.jsonl`."""
    sample: int
    waiting: int
    """Requests of the sample that nobody has answered."""
    outdated: dict[str, int]
    """Requests to which people's answers are none of the task any more, by the reason. They count as unanswered."""
    unsettled: int
    """Requests on which people differ, and nobody has decided."""
    agreement: float
    """The mean agreement of the teachers' votes."""
    weights_by_people: bool
    """Whether the rows' weights rest on people's answers; else they are the agreement."""
    audit: Audit
    curve: LearningCurve | None
    """What more labels would bring; None: answers are no labels, or there are too few to tell."""


def write_labels(
    spec: Spec,
    folder: Path,
    requests: Requests,
    lessons: Lessons,
    settled: SettledLabels,
    people: dict[str, PeoplesAnswer],
    outdated: Mapping[str, str],
    sample: Sequence[str],
    withheld: Mapping[str, str],
    disputed: Sequence[Labelled],
) -> LabelReport:
    """Write them.

    Args:
        people: people's answers in the task's form, by the request's id.
        outdated: why people's other answers are none of the task any more, by the request's id.
        withheld: the reason by the id of each request that is not taught.
    """
    task, labels = task_of(spec.task), settled.labels
    own: dict[str, Mapping[str, str | None]] = {**settled.own}
    own[TOGETHER] = {key: labels[key].answer if key in labels else None for key in lessons.votes}
    sampled = requests.some(sample)
    untaught = {*sample, *withheld, *(each.row.id for each in disputed)}
    left = [row for row in requests.rows if row.id not in untaught]
    taught = list(_taught(left, settled, people))
    human = {row.id for row in left if row.id in people}
    answered = [(row, said.answer) for row in sampled if (said := people.get(row.id)) and said.answer is not None]
    named = " + ".join(settled.own)
    write_jsonl(
        folder / TRAIN,
        (
            _row(spec, task, each.row, each.answer)
            | ({} if each.row.id in human else _provenance(each, named, lessons.days.get(each.row.id, "")))
            for each in taught
        ),
    )
    write_jsonl(folder / TEST, (_row(spec, task, row, answer) for row, answer in answered))
    write_jsonl(
        folder / DISPUTED,
        (
            {spec.data.text: each.row.text, "votes": [vote.answer for vote in lessons.votes[each.row.id]]}
            for each in disputed
        ),
    )
    report = LabelReport(
        requests=len(requests.rows),
        left_out=requests.left_out,
        withheld=dict(Counter(withheld.values())),
        asked=len(lessons.votes),
        pseudonymised=lessons.pseudonymised,
        usd=lessons.usd,
        is_spent=lessons.is_spent,
        training=len(taught),
        by_people=sum(each.row.id in human for each in taught),
        disputed=len(disputed),
        test=len(answered),
        sample=len(sample),
        waiting=sum(key not in people for key in sample),
        outdated=dict(Counter(outdated.values()).most_common()),
        unsettled=sum(each.is_open for each in people.values()),
        agreement=float(np.mean([each.agreement for each in labels.values()])) if labels else 0.0,
        weights_by_people=settled.by_people,
        audit=audit(task, sampled, people, own),
        curve=_curve(task, taught, spec.seed),
    )
    write_json(folder / REPORT, asdict(report))
    return report


def _taught(
    rows: Sequence[Unlabelled], settled: SettledLabels, people: Mapping[str, PeoplesAnswer]
) -> Iterator[Labelled]:
    """The training rows: people's answer where there is one, else the teachers'."""
    for row in rows:
        said, voted = people.get(row.id), settled.labels.get(row.id)
        if said is not None:
            if said.answer is not None:
                yield Labelled(row, said.answer, 1.0, 1.0)
        elif voted is not None:
            yield replace(voted, weight=round(voted.weight, 4))


def _row(spec: Spec, task: Task, row: Unlabelled, answer: str) -> dict[str, Any]:
    """A row of training data, in the columns that `data` names."""
    column = spec.data.label
    value: Any = json.loads(answer) if isinstance(task.constraint, JsonRecord | SomeOf) else answer
    given = {column: value} if isinstance(column, str) else {name: value.get(key) for key, name in column.items()}
    return {spec.data.text: row.text, **given, **row.kept}


def _provenance(each: Labelled, teachers: str, day: str) -> dict[str, Any]:
    return {WEIGHT: each.weight, LOGGED: {"model": teachers, "time": day, "agreement": round(each.agreement, 4)}}


def _curve(task: Task, taught: Sequence[Labelled], seed: int) -> LearningCurve | None:
    if not isinstance(task.constraint, OneOf):
        return None
    examples = (Example.of(each.row.text, each.answer, Meta(id=each.row.id)) for each in taught)
    try:
        return learning_curve(list(examples), seed)
    except UserError:  # one label alone, or hardly any rows
        return None

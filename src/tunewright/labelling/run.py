"""`tunewright label`: teachers answer requests, people answer a sample, and both become a training and a test set.

Everything lies in the project's folder `labels`. The command may be typed again at any time: what was paid or answered
counts, nothing is asked twice, and the files are written anew.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tunewright.config import Spec
from tunewright.config.sections import LabelSpec
from tunewright.core.artifacts import read_jsonl, write_jsonl
from tunewright.core.errors import UserError
from tunewright.core.processes import sole_writer
from tunewright.evaluation.api.baseline import CostForecast
from tunewright.evaluation.api.paid import PAID, PaidAnswers
from tunewright.labelling.asked import ASKED, Asked
from tunewright.labelling.asking import Lessons, TeacherPanel, label_forecast, teachers_of
from tunewright.labelling.choosing import Cover, doubts_about
from tunewright.labelling.people import PeoplesAnswer, answers_of_people, ask_people, fitted, offer_again
from tunewright.labelling.requests import Requests, Unlabelled, draw_sample, personal_share, read_requests
from tunewright.labelling.settling import Labelled, SettledLabels, settle
from tunewright.labelling.stand_ins import StandIns, key_of
from tunewright.labelling.votes import Elected, elect
from tunewright.labelling.withheld import related
from tunewright.labelling.writing import LABELS, PEOPLE, SAMPLE, LabelReport, write_labels
from tunewright.monitoring.store import Store, open_store
from tunewright.project import Project
from tunewright.tasks import Task, task_of
from tunewright.tasks.base import OneOf, Unfit

_ROUNDS, _LEAST_ROUND = 4, 50
"""Into how many rounds the asking is divided where not every request is asked, and how many each has at least."""


def forecast(spec: Spec) -> tuple[list[CostForecast], float]:
    """(what asking all teachers would cost at most, the share of the requests with personal data); nothing is asked.

    Raises:
        UserError: as `label`.
    """
    settings, requests = _settings(spec), _requests(spec)
    wanted = len(requests.rows)
    if settings.rows is not None:
        wanted = min(wanted, settings.rows + settings.people)
    stand_ins, asked = _stand_ins(spec, make=False), Asked(spec.path(Path(LABELS)) / ASKED)
    with PaidAnswers.kept(Project(spec.folder).runs) as answers:
        costs = label_forecast(spec, teachers_of(spec, asked=False), requests.rows[:wanted], stand_ins, answers, asked)
    return costs, personal_share(requests.rows)


def label(spec: Spec) -> LabelReport:
    """Ask the teachers, ask people, and write the files.

    Raises:
        UserError: the spec has no `label`, the requests can't be read, a teacher refuses or can't be reached, or the
            store does not answer. What was paid is kept.
    """
    settings, requests = _settings(spec), _requests(spec)
    task, folder, runs = task_of(spec.task), spec.path(Path(LABELS)), Project(spec.folder).runs
    teachers = teachers_of(spec)
    folder.mkdir(exist_ok=True)
    runs.mkdir(exist_ok=True)
    with sole_writer(folder):
        sample = _sample(folder, requests.rows, settings, spec.seed)
        withheld = related(spec.data, requests.rows, sample)
        with PaidAnswers(runs / PAID) as paid:
            panel = TeacherPanel(spec, teachers, _stand_ins(spec, make=True), paid, Asked(folder / ASKED))
            lessons, asked = _ask(spec, task, panel, requests.rows, sample, withheld)
        with closing(open_store(spec)) as store:
            people, outdated = _people(spec, task, store, folder, requests.rows)
            settled = settle(task, asked, lessons.votes, people, sample)
            disputed = _disputed(settled, people, sample, settings)
            paired = _paired(sample, settings, spec.seed)
            ask_people(store, spec.name, requests.some(sample), paired, [each.row for each in disputed])
            offer_again(store, spec.name, outdated, (key for key, said in people.items() if not said.is_open))
        return write_labels(spec, folder, requests, lessons, settled, people, outdated, sample, withheld, disputed)


def _settings(spec: Spec) -> LabelSpec:
    if spec.label is None:
        raise UserError(
            "The spec does not say which requests to label.",
            where="label",
            fix="Write `label: {requests: requests.jsonl}`; docs/labels.md has an example.",
        )
    return spec.label


def _requests(spec: Spec) -> Requests:
    return read_requests(spec, spec.path(_settings(spec).requests))


def _stand_ins(spec: Spec, *, make: bool) -> StandIns:
    """What teachers read in place of personal data.

    Args:
        make: as of `key_of`.
    """
    return StandIns(key_of(spec.path(Path(LABELS)), make=make) if _settings(spec).pseudonymise else None)


def _sample(folder: Path, rows: Sequence[Unlabelled], settings: LabelSpec, seed: int) -> list[str]:
    """The random sample, which is drawn once. The file goes on holding requests that are in no file any more."""
    file = folder / SAMPLE
    before = {row["id"]: row for row in (read_jsonl(file) if file.exists() else ())}
    drawn = draw_sample(rows, settings.people, seed, list(before))
    texts = {row.id: row.text for row in rows}
    if not before.keys() >= set(drawn):
        write_jsonl(file, (before | {key: {"id": key, "text": texts[key]} for key in drawn}).values())
    return drawn


def _ask(
    spec: Spec,
    task: Task,
    panel: TeacherPanel,
    rows: Sequence[Unlabelled],
    sample: Sequence[str],
    withheld: Collection[str],
) -> tuple[Lessons, list[Unlabelled]]:
    """(the votes, the requests that have them). What was paid for comes first, so that it is not thrown away where the
    budget ends; then the sample, then what teaches most.

    Args:
        withheld: the ids of those that nobody is asked about.
    """
    settings, of_sample = _settings(spec), set(sample)
    panel.recall(rows)
    others = [row for row in rows if row.id not in of_sample and row.id not in withheld]
    known = sorted(filter(panel.paid_share, others), key=panel.paid_share, reverse=True)[: settings.rows]
    first = of_sample | {row.id for row in known}
    panel.ask(
        sorted(
            (row for row in rows if row.id in first and panel.paid_share(row)),
            key=lambda row: (panel.paid_share(row) < 1, row.id not in of_sample, -panel.paid_share(row)),
        )
    )
    panel.ask([row for row in rows if row.id in of_sample and not panel.paid_share(row)])
    if settings.rows is None or settings.rows >= len(others):
        panel.ask([row for row in others if row.id not in first])
    else:
        _ask_in_rounds(task, others, first, settings.rows, panel, spec.seed)
    return panel.lessons, [row for row in rows if row.id in panel.lessons.votes]


def _ask_in_rounds(
    task: Task, rows: Sequence[Unlabelled], known: Collection[str], most: int, panel: TeacherPanel, seed: int
) -> None:
    """Ask about the requests that teach most, in rounds, so that a cheap model's doubts choose the later ones.

    Args:
        known: the ids of those that were asked about already, which count in `most`.
    """
    texts, lessons = [row.text for row in rows], panel.lessons
    cover, free = Cover(texts, seed), np.array([row.id not in known for row in rows], bool)
    is_labels = isinstance(task.constraint, OneOf)
    size = max(_LEAST_ROUND, -(-most // _ROUNDS)) if is_labels else most
    taken = np.flatnonzero(~free).tolist()
    cover.add(taken)
    most -= len(taken)
    while most and not lessons.is_spent:
        doubts = None
        if is_labels:
            learnt = [(row.text, each.answer) for row in rows if (each := _elected(task, row, lessons))]
            doubts = doubts_about(texts, learnt)
        chosen = cover.choose(min(size, most), doubts, among=free)
        if not chosen:
            return
        panel.ask([rows[number] for number in chosen])
        free[chosen] = False
        most -= len(chosen)


def _elected(task: Task, row: Unlabelled, lessons: Lessons) -> Elected | None:
    return elect(task, row.text, lessons.votes[row.id]) if row.id in lessons.votes else None


def _people(
    spec: Spec, task: Task, store: Store, folder: Path, rows: Sequence[Unlabelled]
) -> tuple[dict[str, PeoplesAnswer], dict[str, str]]:
    """(people's answers to these requests: those of the store, and those that an earlier run has kept; why the others'
    are none of the task any more). The file goes on holding answers as they were given, and those to requests that are
    in no file any more."""
    file, texts = folder / PEOPLE, {row.id: row.text for row in rows}
    kept = {row["id"]: row for row in (read_jsonl(file) if file.exists() else ())}
    for key, said in answers_of_people(store, spec.name, rows).items():
        kept.pop(key, None)
        if said:
            kept[key] = {"id": key, "text": texts[key]} | asdict(said)
    write_jsonl(file, (kept[key] for key in sorted(kept)))
    people: dict[str, PeoplesAnswer] = {}
    outdated: dict[str, str] = {}
    for key, row in kept.items():
        if key not in texts:
            continue
        try:
            people[key] = fitted(task, PeoplesAnswer(row["answer"], tuple(row["first"]), row["is_settled"]))
        except Unfit as reason:
            outdated[key] = str(reason)
    return people, outdated


def _disputed(
    settled: SettledLabels, people: dict[str, PeoplesAnswer], sample: Sequence[str], settings: LabelSpec
) -> list[Labelled]:
    """What teachers disagree on, and people have not answered; the most disputed first."""
    of_sample = set(sample)
    open_ones = [
        each
        for key, each in settled.labels.items()
        if key not in of_sample and key not in people and each.agreement < settings.least_agreement
    ]
    return sorted(open_ones, key=lambda each: (each.agreement, each.row.id))


def _paired(sample: Sequence[str], settings: LabelSpec, seed: int) -> set[str]:
    """The ids of those requests of the sample that two people answer."""
    shuffled = sorted(sample)
    random.Random(seed).shuffle(shuffled)
    return set(shuffled[: round(settings.two_people * len(shuffled))])

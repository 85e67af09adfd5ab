"""Teachers: the spec's APIs, asked about requests that have no answer, within one budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tunewright.config import ApiSpec, Spec, TeacherSpec
from tunewright.core.errors import UserError
from tunewright.core.progress import say, track
from tunewright.economics import price_book
from tunewright.economics.cost import LETTERS_A_TOKEN
from tunewright.economics.prices import ApiPrice
from tunewright.evaluation.api.asking import address_of, answers_of, endpoint_of, unpaid
from tunewright.evaluation.api.baseline import CostForecast
from tunewright.evaluation.api.budget import Budget
from tunewright.evaluation.api.endpoint import BudgetSpent, Endpoint, Question, cache_key
from tunewright.evaluation.api.paid import Paid, PaidAnswers
from tunewright.evaluation.api.questions import asked_task, question, read
from tunewright.labelling.requests import Unlabelled
from tunewright.labelling.stand_ins import StandIns
from tunewright.labelling.votes import Vote
from tunewright.tasks import Task


@dataclass(frozen=True)
class Teacher:
    """An API that labels."""

    name: str
    task: Task
    """The job with the API's prompt."""
    price: ApiPrice
    settings: TeacherSpec
    endpoint: Endpoint | None
    """None: it is not asked, only counted."""


@dataclass
class Lessons:
    """The votes so far."""

    votes: dict[str, list[Vote]]
    """By the request's id, the teachers in the spec's order. A request that not all teachers answered has none."""
    days: dict[str, str]
    """By the request's id, the day on which its last vote was paid."""
    usd: float
    """What all of these answers cost, those included that were paid for earlier."""
    is_spent: bool = False
    """Whether the budget ended the asking."""
    pseudonymised: int = 0
    """Of the requests with votes, those in which teachers read stand-ins."""


def teachers_of(spec: Spec, *, asked: bool = True) -> list[Teacher]:
    """The spec's teachers; each key is checked before the first answer is paid.

    Args:
        asked: they will be asked, and not only counted.

    Raises:
        UserError: the spec has no API with an endpoint, a teacher is none of them, or a key is not set.
    """
    settings, apis = spec.label, spec.asked_apis
    assert settings
    if not apis:
        raise UserError(
            "No API can be asked.",
            where="api",
            why="Teachers are the spec's APIs that have an endpoint (`url`), and it has none.",
            fix="Write `api: {model: gpt-6-luna, url: openai}`, or several under `apis`.",
        )
    chosen = settings.teachers or tuple(TeacherSpec(api=name) for name in apis)
    if unknown := [each.api for each in chosen if each.api not in apis]:
        raise UserError(
            f"The teacher '{unknown[0]}' is no API of the spec with an endpoint.",
            where="label.teachers",
            fix=f"Name one of: {', '.join(apis)}.",
        )
    if twice := [each.api for each in chosen if [one.api for one in chosen].count(each.api) > 1]:
        raise UserError(
            f"The teacher '{twice[0]}' is named twice.",
            where="label.teachers",
            why="Votes are counted by the name of the API.",
            fix="Name it once and set `samples`, or give the second one an API of its own with another prompt.",
        )
    book = price_book(spec.price_file)
    return [
        Teacher(
            each.api,
            asked_task(spec, apis[each.api]),
            book.api(apis[each.api].model),
            each,
            endpoint_of(spec, each.api, apis[each.api]) if asked else None,
        )
        for each in chosen
    ]


def ask_teachers(
    spec: Spec,
    teachers: Sequence[Teacher],
    rows: Sequence[Unlabelled],
    stand_ins: StandIns,
    paid: PaidAnswers,
    usd: float,
) -> Lessons:
    """The votes of all teachers on some requests. Answers that were paid for before are not paid again.

    Args:
        stand_ins: what teachers read in place of personal data.
        usd: what may be spent.

    Raises:
        UserError: an endpoint refuses, or can't be reached. The answers so far are kept.
    """
    replies: dict[str, dict[str, list[Vote]]] = defaultdict(dict)
    days: dict[str, str] = {}
    spent, is_spent = 0.0, False
    for teacher in teachers:
        assert teacher.endpoint
        questions = questions_of(spec, teacher, rows, stand_ins)
        api, samples = spec.asked_apis[teacher.name], teacher.settings.samples
        budget = Budget(max(0.0, usd - spent), teacher.price, "label", "rows")
        try:
            with track(f"label, {teacher.name}", max(len(questions), 1), "answers") as tracker:
                answers = answers_of(teacher.endpoint, questions, paid, budget, tracker.update)
        except BudgetSpent as error:
            say(f"  {error.paragraph()}")
            is_spent = True
            answers = _kept(api, questions, paid)
        spent += budget.spent
        for number, row in enumerate(rows):
            mine = [answers.get(number * samples + sample) for sample in range(samples)]
            if whole := [each for each in mine if each is not None]:
                replies[row.id][teacher.name] = [_vote(teacher, row, each, stand_ins) for each in whole]
                key = cache_key(*address_of(api), questions[number * samples], api.protocol)
                days[row.id] = max(days.get(row.id, ""), paid.day(key))
        if is_spent:
            break
    votes = {
        key: [vote for teacher in teachers for vote in by_teacher[teacher.name]]
        for key, by_teacher in replies.items()
        if len(by_teacher) == len(teachers)
    }
    pseudonymised = sum(row.id in votes and bool(stand_ins.hidden(row).pairs) for row in rows)
    return Lessons(votes, days, spent, is_spent, pseudonymised)


def _kept(api: ApiSpec, questions: Sequence[Question], paid: PaidAnswers) -> dict[int, Paid]:
    """The answers that are paid, by the index of their question."""
    found: dict[int, Paid] = {}
    for index, each in enumerate(questions):
        for asked in (each, each.wider):
            if answer := paid.get(cache_key(*address_of(api), asked, api.protocol)):
                found[index] = answer
    return found


def _vote(teacher: Teacher, row: Unlabelled, reply: Paid, stand_ins: StandIns) -> Vote:
    answer = read(teacher.task, reply.text) if reply.ending == "whole" else None
    return Vote(teacher.name, None if answer is None else stand_ins.answer(teacher.task, row, answer))


def questions_of(spec: Spec, teacher: Teacher, rows: Sequence[Unlabelled], stand_ins: StandIns) -> list[Question]:
    """The questions to a teacher, as many in a row about each request as it gives samples."""
    settings, api = teacher.settings, spec.asked_apis[teacher.name]
    questions = []
    for row in rows:
        plain = question(teacher.task, stand_ins.hidden(row).text, (), api)
        if settings.samples > 1:
            plain = replace(plain, options={**plain.options, "temperature": settings.temperature})
        questions += [replace(plain, sample=sample) for sample in range(settings.samples)]
    return questions


def label_forecast(
    spec: Spec,
    teachers: Sequence[Teacher],
    rows: Sequence[Unlabelled],
    stand_ins: StandIns,
    paid: PaidAnswers | None,
) -> list[CostForecast]:
    """What `ask_teachers` would ask and pay, teacher by teacher. Answers are as long as the longest label, or as a
    tenth of their request."""
    forecasts = []
    for teacher in teachers:
        api, questions = spec.asked_apis[teacher.name], questions_of(spec, teacher, rows, stand_ins)
        unique, left = unpaid(api, questions, paid)
        sent = sum(questions[index].size for index in left) / LETTERS_A_TOKEN
        longest = max(map(len, teacher.task.answers), default=0)
        written = (
            sum(longest or len(rows[index // teacher.settings.samples].text) / 10 for index in left) / LETTERS_A_TOKEN
        )
        usd = teacher.price.usd(sent, written)
        forecasts.append(
            CostForecast(teacher.name, len(unique), len(unique) - len(left), int(sent), usd, teacher.price.reasons)
        )
    return forecasts

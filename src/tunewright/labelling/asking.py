"""Teachers: the spec's APIs, asked about requests that have no answer, within one budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

from tunewright.config import Spec, TeacherSpec
from tunewright.core.errors import UserError
from tunewright.core.progress import say, track
from tunewright.economics import price_book
from tunewright.economics.cost import LETTERS_A_TOKEN
from tunewright.economics.prices import ApiPrice
from tunewright.evaluation.api.asking import answers_of, endpoint_of, kept_answers, key_of, unpaid
from tunewright.evaluation.api.baseline import CostForecast
from tunewright.evaluation.api.budget import Budget
from tunewright.evaluation.api.endpoint import BudgetSpent, Endpoint, Question
from tunewright.evaluation.api.paid import Paid, PaidAnswers
from tunewright.evaluation.api.questions import asked_task, question, read
from tunewright.labelling.asked import Asked
from tunewright.labelling.requests import Unlabelled
from tunewright.labelling.stand_ins import StandIns
from tunewright.labelling.votes import Vote
from tunewright.tasks import Task

_BLOCK = 100
"""Requests that all teachers answer before the next ones are asked."""


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
    usd: float = 0.0
    """What the teachers' answers cost, those included that earlier runs have paid for."""
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


class TeacherPanel:
    """All teachers, asked within one budget. Answers that were paid for before are not paid again, but count in it; so
    `recall` comes before the first `ask`.

    Args:
        stand_ins: what teachers read in place of personal data.
        asked: what earlier runs asked about.
    """

    def __init__(self, spec: Spec, teachers: Sequence[Teacher], stand_ins: StandIns, paid: PaidAnswers, asked: Asked):
        assert spec.label
        self._spec, self._teachers, self._stand_ins, self._paid, self._asked = spec, teachers, stand_ins, paid, asked
        self._usd = spec.label.budget_usd
        self._budgets = {each.name: Budget(self._usd, each.price, "label", "rows") for each in teachers}
        self._shares: dict[str, float] = {}
        self.lessons = Lessons({}, {})

    def recall(self, rows: Sequence[Unlabelled]) -> None:
        """Count what earlier runs have paid for some requests: all of them, whatever is asked first now."""
        whole = sum(each.settings.samples for each in self._teachers)
        for row in rows:
            if row not in self._asked:
                continue
            answered = 0
            for teacher in self._teachers:
                for each in questions_of(self._spec, teacher, [row], self._stand_ins):
                    kept = self._kept(teacher, each)
                    for asked, answer in kept:
                        key = self._key(teacher, asked)
                        self._budgets[teacher.name].count_kept(key, asked.size, asked.most, answer)
                    answered += bool(kept)
            self._shares[row.id] = answered / whole

    def paid_share(self, row: Unlabelled) -> float:
        """The share of a request's answers that earlier runs have paid for."""
        return self._shares.get(row.id, 0.0)

    def ask(self, rows: Sequence[Unlabelled]) -> None:
        """Ask about some requests, and add the votes to `lessons`. Once the budget has ended the asking, only answers
        that earlier runs have paid are added.

        Raises:
            UserError: an endpoint refuses, or can't be reached. The answers so far are kept.
        """
        replies: dict[str, dict[str, list[Vote]]] = defaultdict(dict)
        done, total = 0, len(rows) * sum(each.settings.samples for each in self._teachers)
        with track("label", max(total, 1), "answers") as tracker:
            # Block by block, so that all teachers have answered the same requests where the budget ends the asking.
            for start, teacher in product(range(0, len(rows), _BLOCK), self._teachers):
                some, samples = rows[start : start + _BLOCK], teacher.settings.samples
                if self.lessons.is_spent:
                    some = [row for row in some if row in self._asked]
                else:
                    self._asked.note(some)
                questions = questions_of(self._spec, teacher, some, self._stand_ins)
                answers = self._answers(teacher, questions, partial(_shifted, tracker.update, done))
                done += len(questions)
                for number, row in enumerate(some):
                    mine = [answers.get(number * samples + sample) for sample in range(samples)]
                    if whole := [each for each in mine if each is not None]:
                        replies[row.id][teacher.name] = [_vote(teacher, row, each, self._stand_ins) for each in whole]
                        day = self._paid.day(self._key(teacher, questions[number * samples]))
                        self.lessons.days[row.id] = max(self.lessons.days.get(row.id, ""), day)
        for row in rows:
            if len(by_teacher := replies.get(row.id, {})) == len(self._teachers):
                self.lessons.votes[row.id] = [vote for each in self._teachers for vote in by_teacher[each.name]]
                self.lessons.pseudonymised += bool(self._stand_ins.hidden(row).stand_ins)
        self.lessons.usd = sum(each.spent for each in self._budgets.values())

    def _answers(
        self, teacher: Teacher, questions: Sequence[Question], update: Callable[[int], None]
    ) -> dict[int, Paid]:
        """The answers by the index of their question; after the budget's end, those that are paid already."""
        assert teacher.endpoint
        budget = self._budgets[teacher.name]
        if self.lessons.is_spent:
            return self._last_kept(teacher, questions)
        budget.limit = self._usd - sum(each.spent for each in self._budgets.values() if each is not budget)
        try:
            return answers_of(teacher.endpoint, questions, self._paid, budget, update)
        except BudgetSpent as error:
            say(f"  {error.paragraph()}")
            self.lessons.is_spent = True
            return self._last_kept(teacher, questions)

    def _last_kept(self, teacher: Teacher, questions: Sequence[Question]) -> dict[int, Paid]:
        """The answers that are paid, by the index of their question."""
        return {index: kept[-1][1] for index, each in enumerate(questions) if (kept := self._kept(teacher, each))}

    def _kept(self, teacher: Teacher, question: Question) -> list[tuple[Question, Paid]]:
        return kept_answers(self._spec.asked_apis[teacher.name], question, self._paid)

    def _key(self, teacher: Teacher, asked: Question) -> list[Any]:
        return key_of(self._spec.asked_apis[teacher.name], asked)


def _shifted(update: Callable[[int], None], before: int, count: int) -> None:
    update(before + count)


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
    asked: Asked,
) -> list[CostForecast]:
    """What `TeacherPanel.ask` would ask and pay, teacher by teacher. Answers are as long as the longest label, or as a
    tenth of their request."""
    forecasts = []
    rows = sorted(rows, key=asked.__contains__)
    new = sum(row not in asked for row in rows)
    for teacher in teachers:
        # What nobody asked about is as long with its personal data.
        questions = questions_of(spec, teacher, rows[:new], StandIns(None))
        questions += questions_of(spec, teacher, rows[new:], stand_ins)
        api = spec.asked_apis[teacher.name]
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

"""Asking an API about the test examples within a budget, or reading its recorded answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunewright.config import ApiSpec, Spec
from tunewright.core.errors import UserError
from tunewright.core.progress import track
from tunewright.data import Dataset, evenly
from tunewright.data.job import columns_in
from tunewright.data.readers import Fault, Note, read
from tunewright.economics.prices import ApiPrice
from tunewright.evaluation.api.budget import Budget
from tunewright.evaluation.api.endpoint import Endpoint, Question, alike, cache_key
from tunewright.evaluation.api.paid import Paid, PaidAnswers
from tunewright.evaluation.api.questions import asked_task, question
from tunewright.evaluation.evidence import LEAST_ANSWERED
from tunewright.evaluation.steps import tests_of
from tunewright.inference.predictors.prompted import shots_of
from tunewright.tasks import Example, task_of
from tunewright.tasks.base import ToolCall, labels_of
from tunewright.tasks.input_form import InputForm


def recorded_answers(spec: Spec, file: Path) -> Mapping[str, str]:
    """The recorded answers by request, whatever the white space; the last answer where a request occurs several times.

    Raises:
        UserError: the file does not exist, or one of its rows can't be read.
    """
    data = spec.data
    answers, task, form = {}, task_of(spec.task), InputForm.of(spec.task)
    for item in read(file, columns=replace(columns_in(spec), group=None, time=None)):
        if isinstance(item, Fault):
            raise UserError(
                item.reason,
                where=item.where,
                fix=f"Recorded answers are stored completions, or rows with '{data.text}' and the API's answer in "
                f"'{data.label}'.",
            )
        if not isinstance(item, Note):
            answers[key(form.of_example(item).request)] = task.answer_in(item.messages[-1])
    return answers


def key(text: str) -> str:
    """The text of a request with its white space normalised; equal keys mean equal requests."""
    return " ".join(text.split())


@dataclass(frozen=True)
class ApiQuestions:
    """The test examples that an API answers, each with its split, and the question about each."""

    examples: list[tuple[str, Example]]
    questions: list[Question]

    def some(self, count: int) -> ApiQuestions:
        """`count` of them, evenly spaced."""
        indices = list(evenly(range(len(self.questions)), count))
        return ApiQuestions([self.examples[n] for n in indices], [self.questions[n] for n in indices])


@dataclass(frozen=True)
class Reply:
    """An API's reply about an example."""

    split: str
    example: Example
    raw: Paid
    first: bool = False
    """Whether it is the first of those with the same question, which is paid for once."""


def questions_for(spec: Spec, settings: ApiSpec, dataset: Dataset) -> ApiQuestions:
    """The questions for one API, about the same examples as for every other."""
    task = asked_task(spec, settings)
    if settings.shots and settings.structured and isinstance(task.constraint, ToolCall):
        raise UserError(
            f"{settings.model} can't be shown solved examples of tool calls.",
            where="shots",
            why="In a request with tools, each call shown must have its tool's result, which the data does not have.",
            fix="Leave `shots` away, or write `structured: false` beside it: the prompt then describes the tools.",
        )
    shots = shots_of(dataset.train, labels_of(task.constraint), settings.shots, str.encode) if settings.shots else []
    examples = list(_sampled(spec, dataset))
    return ApiQuestions(examples, [question(task, example.request, shots, settings) for _, example in examples])


def _sampled(spec: Spec, dataset: Dataset) -> Iterator[tuple[str, Example]]:
    for split, examples in tests_of(spec, dataset).items():
        for example in evenly(examples, spec.baseline.sample or max(len(examples), 1)):
            yield split, example


def endpoint_of(spec: Spec, name: str, settings: ApiSpec) -> Endpoint:
    """The endpoint of one of the spec's APIs.

    Raises:
        UserError: its key is not set.
    """
    url, model = address_of(settings)
    return Endpoint(url, model, settings.key, spec.section_of_api(name), settings.protocol)


def address_of(settings: ApiSpec) -> tuple[str, str]:
    """(the endpoint, the model's name there)."""
    assert settings.url
    return settings.url, settings.deployment or settings.model


def unpaid(settings: ApiSpec, questions: Sequence[Question], paid: PaidAnswers | None) -> tuple[list[int], list[int]]:
    """(the first index of each different question, those of them that were not paid for before).

    Args:
        paid: None: nothing was.
    """
    unique = [same[0] for same in alike(questions)]
    if paid is None:
        return unique, unique
    return unique, [index for index in unique if not paid.get(key_of(settings, questions[index]))]


def key_of(settings: ApiSpec, asked: Question) -> list[Any]:
    """The key under which an API's answer to a question is kept."""
    return cache_key(*address_of(settings), asked, settings.protocol)


def kept_answers(settings: ApiSpec, asked: Question, paid: PaidAnswers) -> list[tuple[Question, Paid]]:
    """What is paid of a question: its answer, and where that was cut perhaps the one with more room, each with the
    question as it was asked."""
    found: list[tuple[Question, Paid]] = []
    for each in (asked, asked.wider):
        if not (answer := paid.get(key_of(settings, each))):
            break
        found.append((each, answer))
        if answer.ending != "cut":
            break
    return found


def collect_replies(endpoint: Endpoint, asked: ApiQuestions, paid: PaidAnswers, budget: Budget) -> list[Reply]:
    """The reply about every example. A reply that its token limit cut is asked for once more with a higher limit, and
    both are paid.

    Raises:
        UserError: the endpoint refuses, or can't be reached, or the budget is reached. The answers so far are kept.
    """
    with track("baseline", max(len(asked.questions), 1), "answers") as tracker:
        answers = answers_of(endpoint, asked.questions, paid, budget, tracker.update)
    first = {same[0] for same in alike(asked.questions)}
    return [Reply(*asked.examples[index], answers[index], index in first) for index in sorted(answers)]


def answers_of(
    endpoint: Endpoint,
    questions: Sequence[Question],
    paid: PaidAnswers,
    budget: Budget,
    update: Callable[[int], None],
) -> dict[int, Paid]:
    """The answer to every question, by its index. One that its token limit cut is asked for once more with a higher
    limit, and both are paid.

    Args:
        update: called with the number of answers so far.

    Raises:
        UserError: as for `collect_replies`.
    """
    answers: dict[int, Paid] = {}
    for index, answer in endpoint.ask_all(questions, paid, budget):
        answers[index] = answer
        update(len(answers))
    if cut := [index for index, answer in answers.items() if answer.ending == "cut"]:
        wider = dict(endpoint.ask_all([questions[index].wider for index in cut], paid, budget))
        # Where the model allows no higher limit, its first reply stands.
        answers |= {cut[n]: answer for n, answer in wider.items() if answer.text or answer.ending != "cut"}
    return answers


def kept_replies(settings: ApiSpec, asked: ApiQuestions, paid: PaidAnswers) -> list[Reply]:
    """The replies that were paid for before. Nothing is asked."""
    first, replies = {same[0] for same in alike(asked.questions)}, []
    for index, (split, example) in enumerate(asked.examples):
        if kept := [answer for _, answer in kept_answers(settings, asked.questions[index], paid)]:
            # As in `answers_of`: a second try that gave nothing leaves the first reply.
            answer = kept[-1] if kept[-1].text or kept[-1].ending != "cut" else kept[0]
            replies.append(Reply(split, example, answer, index in first))
    return replies


@dataclass(frozen=True)
class Gap:
    """A test split of which too few examples have an answer."""

    split: str
    answered: int
    count: int


def gap_in(replies: Sequence[Reply], examples: Sequence[tuple[str, Example]]) -> Gap | None:
    """The first test split of which fewer than `LEAST_ANSWERED` of the examples have a reply; None if there is none."""
    answered = Counter(reply.split for reply in replies)
    counts = Counter(split for split, _ in examples)
    gaps = (Gap(split, answered[split], count) for split, count in counts.items())
    return next((gap for gap in gaps if gap.answered < LEAST_ANSWERED * gap.count), None)


def recorded_replies(spec: Spec, file: Path, dataset: Dataset) -> list[Reply]:
    """An API's recorded replies about the test examples.

    Raises:
        UserError: too few examples of a test split have an answer.
    """
    answers, sampled = recorded_answers(spec, file), list(_sampled(spec, dataset))
    replies = [
        Reply(split, example, Paid(answers[key(example.request)]))
        for split, example in sampled
        if key(example.request) in answers
    ]
    if gap := gap_in(replies, sampled):
        raise UserError(
            f"This file answers {gap.answered:,} of the {gap.count:,} texts of the test split {gap.split}.",
            where=file,
            why=f"It holds {len(answers):,} answers, which are matched by the text of the request. The missing ones "
            f"may be the hard ones, so at least {LEAST_ANSWERED:.0%} must be there.",
            fix="Check that it is about these test examples, and that its columns are those that `data` names; or have "
            "the API asked (`url` in place of `recorded`).",
        )
    return replies


def estimate(asked: ApiQuestions, indices: Sequence[int], price: ApiPrice, letters: float) -> tuple[int, float]:
    """(tokens of some questions, USD for them with answers as long as the data's), estimated from their bytes.

    Args:
        letters: bytes per token.
    """
    sent = sum(asked.questions[index].size for index in indices) // letters
    written = sum(len(asked.examples[index][1].answer.encode()) for index in indices) // letters
    return int(sent), price.usd(sent, written)

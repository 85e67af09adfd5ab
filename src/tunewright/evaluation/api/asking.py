"""Asking an API the test examples within a budget, or reading what it answered before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunewright.config import ApiSpec, Spec
from tunewright.core.errors import UserError
from tunewright.core.progress import track
from tunewright.data import Dataset, evenly
from tunewright.data.readers import Columns, Fault, Note, read
from tunewright.economics.prices import ApiPrice
from tunewright.evaluation.api.budget import Budget
from tunewright.evaluation.api.endpoint import Endpoint, Question, alike
from tunewright.evaluation.api.paid import Paid, PaidAnswers
from tunewright.evaluation.api.questions import asked_task, question
from tunewright.evaluation.steps import tests_of
from tunewright.inference.predictors.language_model import shots_of
from tunewright.tasks import Example
from tunewright.tasks.base import labels_of


def recorded_answers(spec: Spec, file: Path) -> Mapping[str, str]:
    """What was answered, by the text that was asked; white space does not count. Of a text that was asked several times
    it is the last answer.

    Raises:
        UserError: the file is not there, or a row of it can't be read.
    """
    data = spec.data
    columns = Columns(data.text, data.label, None, None, data.document, data.separator, spec.documents_root)
    found = {}
    for item in read(file, columns=columns):
        if isinstance(item, Fault):
            raise UserError(
                item.reason,
                where=item.where,
                fix=f"Recorded answers are stored completions, or rows with '{data.text}' and what the API answered in "
                f"'{data.label}'.",
            )
        if not isinstance(item, Note):
            found[key(item.request)] = item.answer
    return found


def key(text: str) -> str:
    """What makes two requests the same."""
    return " ".join(text.split())


LEAST_RECORDED = 0.9
"""Share of a test split that recorded answers must be there for: what is missing may be what was hard."""


@dataclass(frozen=True)
class AskedApi:
    """The test examples that an API answers, by split, and the question about each."""

    examples: list[tuple[str, Example]]
    questions: list[Question]

    def some(self, count: int) -> AskedApi:
        """So many of them, evenly spaced."""
        places = list(evenly(range(len(self.questions)), count))
        return AskedApi([self.examples[n] for n in places], [self.questions[n] for n in places])


@dataclass(frozen=True)
class Reply:
    """How an API answered an example."""

    split: str
    example: Example
    came: Paid
    first: bool = False
    """Whether it is the first of those that ask the same, which is paid for once."""


def asked_of_api(spec: Spec, settings: ApiSpec, dataset: Dataset) -> AskedApi:
    """What one API is asked; the same examples as every other."""
    task = asked_task(spec, settings)
    shots = shots_of(dataset.train, labels_of(task.constraint), settings.shots, str.encode) if settings.shots else []
    examples = list(_sampled(spec, dataset))
    return AskedApi(examples, [question(task, example.request, shots, settings) for _, example in examples])


def _sampled(spec: Spec, dataset: Dataset) -> Iterator[tuple[str, Example]]:
    for split, examples in tests_of(spec, dataset).items():
        for example in evenly(examples, spec.baseline.sample or max(len(examples), 1)):
            yield split, example


def endpoint_of(spec: Spec, name: str, settings: ApiSpec) -> Endpoint:
    """Raises:
    UserError: its key is not there.
    """
    url, model = place_of(settings)
    return Endpoint(url, model, settings.key, spec.section_of_api(name), settings.protocol)


def place_of(settings: ApiSpec) -> tuple[str, str]:
    """(the endpoint, the model's name there)."""
    assert settings.url
    return settings.url, settings.deployment or settings.model


def replies_of(endpoint: Endpoint, asked: AskedApi, paid: PaidAnswers, budget: Budget) -> list[Reply]:
    """The reply to every example. One that its room cut is asked for once more with more room, and both are paid.

    Raises:
        UserError: the endpoint refuses, or can't be reached, or the budget is reached. What came in is kept.
    """
    found = _answers(endpoint, asked.questions, paid, budget)
    cut = [place for place, came in found.items() if came.ending == "cut"]
    if cut:
        wider = _answers(endpoint, [asked.questions[place].wider for place in cut], paid, budget)
        # Where the model has no more room than it had, its first reply stands.
        found |= {cut[n]: came for n, came in wider.items() if came.text or came.ending != "cut"}
    first = {same[0] for same in alike(asked.questions)}
    return [Reply(*asked.examples[place], found[place], place in first) for place in sorted(found)]


def _answers(endpoint: Endpoint, questions: Sequence[Question], paid: PaidAnswers, budget: Budget) -> dict[int, Paid]:
    found: dict[int, Paid] = {}
    with track("baseline", max(len(questions), 1), "answers") as tracker:
        for place, reply in endpoint.ask_all(questions, paid, budget):
            found[place] = reply
            tracker.update(len(found))
    return found


def recorded_replies(spec: Spec, file: Path, dataset: Dataset) -> list[Reply]:
    """What an API answered before.

    Raises:
        UserError: a test split is not answered well enough to tell anything.
    """
    answers, sampled = recorded_answers(spec, file), list(_sampled(spec, dataset))
    found = [
        Reply(split, example, Paid(answers[key(example.request)]))
        for split, example in sampled
        if key(example.request) in answers
    ]
    answered = Counter(reply.split for reply in found)
    for split, asked in Counter(split for split, _ in sampled).items():
        if answered[split] < LEAST_RECORDED * asked:
            raise UserError(
                f"This file answers {answered[split]:,} of the {asked:,} texts of the test split {split}.",
                where=file,
                why=f"It holds {len(answers):,} answers, which are found by the text that was asked. Those that are "
                f"missing may be the hard ones, so at least {LEAST_RECORDED:.0%} must be there.",
                fix="Check that it is about these test examples, and that its columns are those that `data` names; or "
                "have the API asked (`url` in place of `recorded`).",
            )
    return found


def estimate(asked: AskedApi, places: Sequence[int], price: ApiPrice, letters: float) -> tuple[int, float]:
    """(tokens of these questions, USD for them with answers as long as the data's), by their bytes.

    Args:
        letters: bytes that make a token.
    """
    sent = sum(asked.questions[place].size for place in places) // letters
    written = sum(len(asked.examples[place][1].answer.encode()) for place in places) // letters
    return int(sent), price.usd(sent, written)

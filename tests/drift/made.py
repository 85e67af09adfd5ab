"""Requests that are drawn from a small grammar: real enough to have words, topics and lengths, and as many as are asked
for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tests.conftest import LABELS
from tunewright.drift.known import KnownTexts
from tunewright.drift.reference import Reference
from tunewright.drift.traits import Traits, traits_of
from tunewright.tasks import ClassifyTask

_ABOUT = {
    "billing": ["the invoice", "my bill", "the amount", "a charge", "the payment", "the receipt", "the price"],
    "defect": ["the screen", "my printer", "the battery", "the cable", "a button", "the speaker", "the lamp"],
    "refund": ["my money", "the refund", "my order", "the return", "the parcel", "the deposit", "a voucher"],
}
_BEGINNINGS = ["hello,", "please help,", "good morning,", "I have a question,", "hi there,", "urgent,", "again,"]
_SAID = ["is wrong", "does not work", "never came", "was late", "is missing", "was shown twice", "looks strange"]
_ENDINGS = ["since monday", "today", "for a week now", "as I told you on the phone", "", "thank you", "what can I do?"]
TASK = ClassifyTask("Route the ticket.", dict.fromkeys(LABELS, ""))


@dataclass(frozen=True)
class Asked:
    """Requests with their answers."""

    texts: list[str]
    answers: list[str]
    confidences: list[float | None]

    def traits(self, known: KnownTexts) -> Traits:
        return traits_of(self.texts, self.answers, self.confidences, TASK, known)

    def __add__(self, other: Asked) -> Asked:
        return Asked(self.texts + other.texts, self.answers + other.answers, self.confidences + other.confidences)

    def saying(self, texts: Sequence[str]) -> Asked:
        """The same answers to other texts."""
        return replace(self, texts=list(texts))


def asked(count: int, seed: int, mix: Sequence[float] = (0.5, 0.3, 0.2)) -> Asked:
    """Requests about billing, defects and refunds in a mix."""
    random = np.random.default_rng(seed)
    answers = random.choice(LABELS, size=count, p=mix).tolist()
    texts = [
        " ".join(str(random.choice(words)) for words in (_BEGINNINGS, _ABOUT[answer], _SAID, _ENDINGS)).strip()
        for answer in answers
    ]
    return Asked(texts, answers, random.beta(8, 1, count).tolist())


def customers(count: int, rows: int, seed: int) -> tuple[Asked, list[str]]:
    """(requests, whose each is): a customer's are of one label, nine in ten of them alike but for one phrase."""
    random = np.random.default_rng(seed)
    one_by_one = asked(count * rows, seed + 1)
    texts, answers, confidences = [], [], []
    for number in range(count):
        label = str(random.choice(LABELS, p=(0.5, 0.3, 0.2)))
        parts = (_BEGINNINGS, _ABOUT[label], _SAID, _ENDINGS)
        usual, sure = [str(random.choice(part)) for part in parts], float(random.beta(8, 1))
        for row in range(number * rows, (number + 1) * rows):
            alike = random.random() < 0.9
            said, place = list(usual), int(random.integers(4))
            said[place] = str(random.choice(parts[place]))
            texts.append(" ".join(said).strip() if alike else one_by_one.texts[row])
            answers.append(label if alike else one_by_one.answers[row])
            confidences.append(sure if alike else one_by_one.confidences[row])
    return Asked(texts, answers, confidences), [str(row // rows) for row in range(count * rows)]


def reference(rows: int = 600, seed: int = 1) -> Reference:
    taught, judged = asked(800, seed + 1000), asked(rows, seed)
    return Reference.of(taught.texts, judged.texts, judged.answers, judged.confidences, TASK)

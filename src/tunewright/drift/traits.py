"""Traits: the monitored properties of a text and its answer, as columns of numbers and of kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json import JSONDecodeError, loads

import numpy as np
import numpy.typing as npt

from tunewright.data.language import language_of
from tunewright.drift.known import KnownTexts, Numbers
from tunewright.tasks import Task
from tunewright.tasks.base import FreeText, JsonRecord, OneOf, SomeOf, ToolCall
from tunewright.tasks.measures import leaves
from tunewright.tasks.tools import NO_CALL, said

UNKNOWN = "?"
"""The language of a text that is too short to identify it."""


@dataclass(frozen=True)
class Trait:
    """A monitored property.

    Args:
        title: its name in a table.
        worse: 1: only an increase is drift; -1: only a decrease; 0: both.
    """

    title: str
    worse: int = 0


KINDS = {
    "answer": Trait("mix of answers"),
    "fields": Trait("fields that are filled"),
    "arguments": Trait("arguments that are filled"),
    "language": Trait("languages"),
    "topic": Trait("mix of topics"),
}
"""Traits for which each text has one kind."""
NUMBERS = {
    "confidence": Trait("confidence", worse=-1),
    "length": Trait("length of requests"),
    "answer_length": Trait("length of answers"),
    "unseen": Trait("unknown words", worse=1),
    "novelty": Trait("novelty", worse=1),
}
"""Traits for which each text has a number. More known words and more similarity to the training texts do no harm: live
traffic repeats questions of the training, while the test part was made not to."""
TRAITS = KINDS | NUMBERS


@dataclass(frozen=True)
class Traits:
    """The traits of n texts.

    Args:
        kinds: by trait, the kind of each text.
        numbers: by trait, the number of each text; NaN where it has none.
    """

    kinds: Mapping[str, npt.NDArray[np.str_]]
    numbers: Mapping[str, Numbers]

    def __len__(self) -> int:
        return len(next(iter(self.kinds.values())))

    def __getitem__(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_] | slice) -> Traits:
        return Traits(
            {name: column[rows] for name, column in self.kinds.items()},
            {name: column[rows] for name, column in self.numbers.items()},
        )


def traits_of(
    texts: Sequence[str], answers: Sequence[str], confidences: Sequence[float | None], task: Task, known: KnownTexts
) -> Traits:
    """The traits of texts and their answers.

    Args:
        confidences: the confidence of each answer; None where the model gives none.
    """
    distance, topic, unseen = known.place(texts)
    kinds = {
        "language": [language_of(text) or UNKNOWN for text in texts],
        "topic": [f"topic {number}" for number in topic],
    }
    numbers = {
        "confidence": np.array([np.nan if each is None else each for each in confidences], np.float32),
        "length": np.array([len(text) for text in texts], np.float32),
        "unseen": unseen,
        "novelty": distance,
    }
    match task.constraint:
        case OneOf() | SomeOf():
            kinds["answer"] = list(answers)
        case ToolCall():
            calls = [said(answer) for answer in answers]
            kinds["answer"] = [(call.tool or NO_CALL) if call else UNKNOWN for call in calls]
            kinds["arguments"] = [(_filled(call.content) if call.tool else "") if call else UNKNOWN for call in calls]
            numbers["answer_length"] = np.array([len(answer) for answer in answers], np.float32)
        case JsonRecord():
            kinds["fields"] = [_filled(answer) for answer in answers]
            numbers["answer_length"] = np.array([len(answer) for answer in answers], np.float32)
        case FreeText():
            numbers["answer_length"] = np.array([len(answer) for answer in answers], np.float32)
    return Traits({name: np.array(column, np.str_) for name, column in kinds.items()}, numbers)


def _filled(answer: str) -> str:
    """The top-level fields of a record that are not empty."""
    try:
        record = loads(answer)
    except (JSONDecodeError, RecursionError):
        return UNKNOWN
    return " ".join(sorted({path.split(".")[0].removesuffix("[]") for path, _ in leaves(record)}))

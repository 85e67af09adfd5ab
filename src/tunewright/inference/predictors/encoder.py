"""An encoder or a linear model that answers: one pass to the logits of all labels; the same for torch, OpenVINO, ONNX
Runtime and numpy."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from tunewright.inference.calibration import UNCALIBRATED, Calibration, Floats
from tunewright.inference.predictors.base import Answer, Token
from tunewright.inference.thresholds import even, expected_f1
from tunewright.tasks import MultiLabelTask, Task

Logits = Callable[[Sequence[Sequence[int]]], Sequence[Any]]
"""Token ids of some texts -> the logits [labels] of each, or [tokens, labels]."""


class TextReader(Protocol):
    """What turns a text into what a model reads: `tunewright.models.tokenizer.TextTokenizer`, or the n-grams of a
    linear model."""

    def encode_framed(self, text: str) -> list[int]: ...


class EncoderPredictor(ABC):
    """What answers as a `tunewright.inference.predictors.LanguageModel` does, and writes nothing: its prompt is the
    text alone.

    Args:
        logits: of what the task decides, in its order.
    """

    longest_answer = 0

    def __init__(self, logits: Logits, tokenizer: TextReader, calibration: Calibration = UNCALIBRATED):
        self._logits, self._tokenizer, self._calibration = logits, tokenizer, calibration

    def prompts(self, request: str) -> list[list[int]]:
        return [self._tokenizer.encode_framed(request)]

    def answer(self, request: str) -> Answer:
        return self.answer_prompts(self.prompts(request))

    def answer_prompts(self, prompts: Sequence[Sequence[int]]) -> Answer:
        return self.answers_of([prompts])[0]

    def answers(self, requests: Sequence[str]) -> list[Answer]:
        return self.answers_of([self.prompts(request) for request in requests])

    @abstractmethod
    def answers_of(self, prompts: Sequence[Sequence[Sequence[int]]]) -> list[Answer]:
        """The answer to each of several requests, of which these are the `prompts`, found together."""


class ReadWhole(EncoderPredictor):
    """What reads each text as a whole, in one pass."""

    def answers_of(self, prompts: Sequence[Sequence[Sequence[int]]]) -> list[Answer]:
        alone = [prompt for (prompt,) in prompts]
        return [self._answer(prompt, row) for prompt, row in zip(alone, self._logits(alone), strict=True)]

    @abstractmethod
    def _answer(self, prompt: Sequence[int], logits: Any) -> Answer: ...


class LabelClassifier(ReadWhole):
    """Of a task with one label a text.

    Args:
        logits: of the labels in the order of the task's.
    """

    def __init__(self, logits: Logits, task: Task, tokenizer: TextReader, calibration: Calibration = UNCALIBRATED):
        super().__init__(logits, tokenizer, calibration)
        self._labels = task.answers

    def log_probabilities(self, prompt: Sequence[int]) -> Floats:
        """log P(label | text) of every label before calibration, in the order of the labels."""
        return _log_softmax(self._logits([prompt])[0])

    def with_probabilities(self, prompt: Sequence[int]) -> tuple[Answer, dict[str, float]]:
        """The answer, and P(label | text) of every label."""
        scores = self.log_probabilities(prompt)
        found = self._calibration.of_labels(scores)
        return self._of_scores(prompt, scores), dict(zip(self._labels, found.tolist(), strict=True))

    def _answer(self, prompt: Sequence[int], logits: Any) -> Answer:
        return self._of_scores(prompt, _log_softmax(logits))

    def _of_scores(self, prompt: Sequence[int], scores: Floats) -> Answer:
        best = int(np.argmax(scores))
        confidence = float(self._calibration.of_labels(scores)[best])
        return Answer(
            self._labels[best],
            confidence,
            len(prompt),
            0,
            uncalibrated=math.exp(scores[best]),
            tokens=(Token(self._labels[best], math.log(confidence)),),
        )


class LabelSetClassifier(ReadWhole):
    """Of a task with several labels a text. Its confidence is the F1 that the answer is expected to have, calibrated to
    what answers to the validation part were worth.

    Args:
        logits: of the labels in the order of the task's.
    """

    def __init__(
        self, logits: Logits, task: MultiLabelTask, tokenizer: TextReader, calibration: Calibration = UNCALIBRATED
    ):
        super().__init__(logits, tokenizer, calibration)
        self._task, self._labels = task, list(task.labels)
        self._decisions = calibration.decisions or even(len(self._labels))

    def logits(self, requests: Sequence[str]) -> Floats:
        """Those of all labels, [requests, labels]."""
        return np.array(self._logits([self.prompts(request)[0] for request in requests]), np.float64)

    def with_probabilities(self, prompt: Sequence[int]) -> tuple[Answer, dict[str, float]]:
        """The answer, and P(label | text) of every label."""
        logits = self._logits([prompt])[0]
        found = self._decisions.probabilities(logits)
        return self._answer(prompt, logits), dict(zip(self._labels, found.tolist(), strict=True))

    def _answer(self, prompt: Sequence[int], logits: Any) -> Answer:
        found = self._decisions.probabilities(logits)
        given = self._decisions.given(found)
        labels = [label for label, held in zip(self._labels, given.tolist(), strict=True) if held]
        likely = expected_f1(found, given)
        return Answer(
            self._task.written_out(labels),
            self._calibration.of_answer(likely),
            len(prompt),
            0,
            uncalibrated=likely,
            labels=dict(zip(labels, found[given].tolist(), strict=True)),
        )


def _log_softmax(logits: Any) -> Floats:
    scores = np.asarray(logits, np.float64)
    return np.asarray(scores - np.logaddexp.reduce(scores))

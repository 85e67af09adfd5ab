"""Predictors of an encoder or a linear model: one forward pass gives the logits of all labels. The same code serves
torch, OpenVINO, ONNX Runtime and numpy."""

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
"""Token ids of some texts -> the logits of each, [labels] or [tokens, labels]."""


class TextReader(Protocol):
    """Turns a text into a model's input: `tunewright.models.tokenizer.TextTokenizer`, or the n-grams of a linear
    model."""

    def encode_framed(self, text: str) -> list[int]: ...


class EncoderPredictor(ABC):
    """A predictor with the interface of `tunewright.inference.predictors.LanguageModel` that writes nothing. Its prompt
    is the text alone.

    Args:
        logits: the function for the task's logits, in the task's order.
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
        """The answers to several requests with these `prompts`, from common passes."""


class WholeTextPredictor(EncoderPredictor):
    """A predictor that reads each text as a whole, in one pass."""

    def answers_of(self, prompts: Sequence[Sequence[Sequence[int]]]) -> list[Answer]:
        alone = [prompt for (prompt,) in prompts]
        return [self._answer(prompt, row) for prompt, row in zip(alone, self._logits(alone), strict=True)]

    @abstractmethod
    def _answer(self, prompt: Sequence[int], logits: Any) -> Answer: ...


class LabelClassifier(WholeTextPredictor):
    """The predictor of a task with one label a text.

    Args:
        logits: the function for the labels' logits, in the task's order.
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
        probabilities = self._calibration.of_labels(scores)
        return self._of_scores(prompt, scores), dict(zip(self._labels, probabilities.tolist(), strict=True))

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


class LabelSetClassifier(WholeTextPredictor):
    """The predictor of a task with several labels a text. Its confidence is the expected F1 of the answer, calibrated
    to the scores of the answers in the validation part.

    Args:
        logits: the function for the labels' logits, in the task's order.
    """

    def __init__(
        self, logits: Logits, task: MultiLabelTask, tokenizer: TextReader, calibration: Calibration = UNCALIBRATED
    ):
        super().__init__(logits, tokenizer, calibration)
        self._task, self._labels = task, list(task.labels)
        self._decisions = calibration.decisions or even(len(self._labels))

    def logits(self, requests: Sequence[str]) -> Floats:
        """The logits of all labels, [requests, labels]."""
        return np.array(self._logits([self.prompts(request)[0] for request in requests]), np.float64)

    def with_probabilities(self, prompt: Sequence[int]) -> tuple[Answer, dict[str, float]]:
        """The answer, and P(label | text) of every label."""
        logits = self._logits([prompt])[0]
        probabilities = self._decisions.probabilities(logits)
        return self._answer(prompt, logits), dict(zip(self._labels, probabilities.tolist(), strict=True))

    def _answer(self, prompt: Sequence[int], logits: Any) -> Answer:
        probabilities = self._decisions.probabilities(logits)
        given = self._decisions.given(probabilities)
        labels = [label for label, is_given in zip(self._labels, given.tolist(), strict=True) if is_given]
        expected = expected_f1(probabilities, given)
        return Answer(
            self._task.written_out(labels),
            self._calibration.of_answer(expected),
            len(prompt),
            0,
            uncalibrated=expected,
            labels=dict(zip(labels, probabilities[given].tolist(), strict=True)),
        )


def _log_softmax(logits: Any) -> Floats:
    scores = np.asarray(logits, np.float64)
    return np.asarray(scores - np.logaddexp.reduce(scores))

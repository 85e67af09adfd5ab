"""What all predictors of a language model share: the prompt with its shots, and answers one by one or in batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from tunewright.inference.calibration import Calibration, Floats
from tunewright.inference.decoding.protocols import AnyModel, DecodingRules, Written
from tunewright.inference.predictors.base import Answer
from tunewright.models.chat import ChatTemplate, Tokenizer, token_counter
from tunewright.models.tokenizer import TextPrompt
from tunewright.tasks import Example, LabelTrie, Task
from tunewright.tasks.multi_label import labels_in

_SHOT_TOKENS = 2048
"""Tokens of all shots together. More would make the prefill too slow."""


@runtime_checkable
class LanguageModel(Protocol):
    """A predictor that shows its prompts before it answers, so that their length is known."""

    longest_answer: int
    """Tokens that an answer may have."""

    def prompts(self, request: str) -> Sequence[list[int]]: ...

    def answer_prompts(self, prompts: Sequence[Sequence[int]]) -> Answer: ...

    def answer(self, request: str) -> Answer: ...

    def answers(self, requests: Sequence[str], batcher: PromptBatcher) -> list[Answer]:
        """The same answers as `answer` gives, found in batches.

        Args:
            batcher: it must hold the predictor's own model.
        """
        ...


class PromptBatcher(Protocol):
    """A model that takes many prompts in a batch."""

    def scores(self, trie: LabelTrie, prompts: Sequence[list[int]], temperature: float | None) -> list[Floats]:
        """`tunewright.tasks.score_labels` of each prompt."""
        ...

    def generate(self, rules: DecodingRules, prompts: Sequence[list[int]], max_tokens: int) -> Sequence[Written]:
        """`tunewright.inference.decoding.writing.generate` of each prompt."""
        ...


class PromptedModel(ABC):
    """A language model with its task's prompts.

    Args:
        shots: solved examples to show before each request (few-shot); none for a tuned model.
    """

    def __init__(
        self,
        model: AnyModel,
        task: Task,
        template: ChatTemplate,
        tokenizer: Tokenizer,
        shots: Sequence[Example],
        calibration: Calibration,
    ):
        self._model, self._task, self._template, self._tokenizer = model, task, template, tokenizer
        self._shots, self._calibration = shots, calibration

    def prompts(self, request: str) -> list[TextPrompt]:
        """The prompt for each chunk of a request, as token ids. Most tasks have one chunk."""
        chunks = self._task.chunks(request, token_counter(self._tokenizer))
        return [
            TextPrompt(self._template.encode_prompt(self._task.prompt(chunk, self._shots), self._tokenizer), chunk)
            for chunk in chunks
        ]

    def answer(self, request: str) -> Answer:
        return self.answer_prompts(self.prompts(request))

    def answers(self, requests: Sequence[str], batcher: PromptBatcher) -> list[Answer]:
        return self._answers([self.prompts(request) for request in requests], batcher)

    @abstractmethod
    def answer_prompts(self, prompts: Sequence[Sequence[int]]) -> Answer:
        """The answer to a request with these `prompts`."""

    @abstractmethod
    def _answers(self, prompts: Sequence[Sequence[list[int]]], batcher: PromptBatcher) -> list[Answer]:
        """`answer_prompts` of several requests, in batches."""

    def _calibrated(self, answer: Answer) -> Answer:
        """A written answer with its calibrated confidence."""
        sure = answer.confidence or 0.0
        return replace(answer, confidence=self._calibration.of_answer(sure), uncalibrated=sure)


def shots_of(
    train: Sequence[Example], answers: Sequence[str], count: int, encode: Callable[[str], Sequence[int]]
) -> list[Example]:
    """Choose at most `count` training examples as shots.

    If answers are a fixed set, the labels take turns, and the shortest text of each label comes first. Otherwise the
    shortest examples are taken, as long as they fit in a limit of tokens.

    Args:
        answers: all possible answers, or all labels if an answer is a list of them; empty if neither is fixed.
        encode: text -> its token ids.
    """
    if not answers:
        return _shortest(train, count, encode)
    by_answer: dict[str, list[Example]] = {answer: [] for answer in answers}
    for example in sorted(train, key=lambda e: (len(e.request), e.meta.id)):
        for answer in by_answer.keys() & {example.answer, *labels_in(example.answer)}:
            by_answer[answer].append(example)
    rounds = max((len(examples) for examples in by_answer.values()), default=0)
    in_turn = [by_answer[a][turn] for turn in range(rounds) for a in answers if turn < len(by_answer[a])]
    return list({example.meta.id: example for example in in_turn}.values())[:count]


def _shortest(train: Sequence[Example], count: int, encode: Callable[[str], Sequence[int]]) -> list[Example]:
    chosen, left = [], _SHOT_TOKENS
    for example in sorted(train, key=lambda e: (len(e.request) + len(e.answer), e.meta.id))[:count]:
        left -= len(encode(example.request)) + len(encode(example.answer))
        if left < 0:
            break
        chosen.append(example)
    return chosen

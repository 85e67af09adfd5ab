"""A language model as a predictor: it scores labels, or writes. The same code serves torch and all runtimes, tuned and
untuned models."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tunewright.inference.calibration import UNCALIBRATED, Calibration, Floats
from tunewright.inference.decoding.free_text import TextRules
from tunewright.inference.decoding.grammar import RecordGrammar
from tunewright.inference.decoding.protocols import AnyModel
from tunewright.inference.decoding.writing import max_answer_tokens, rules_of
from tunewright.inference.predictors.base import Answer, Token
from tunewright.inference.predictors.prompted import LanguageModel, PromptBatcher, PromptedModel
from tunewright.inference.predictors.writers import RecordReader, TextGenerator
from tunewright.models.chat import ChatTemplate, Tokenizer, answer_tokens, end_token
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, LabelTrie, Task, score_labels
from tunewright.tasks.base import FreeText, JsonRecord, OneOf, SomeOf


def language_model(
    model: AnyModel,
    task: Task,
    template: ChatTemplate,
    tokenizer: TextTokenizer,
    longest: int,
    shots: Sequence[Example] = (),
    calibration: Calibration = UNCALIBRATED,
) -> LanguageModel:
    """A predictor for the task.

    Args:
        longest: tokens of the longest answer in the training data.
        shots: solved examples to show before each request (few-shot); none for a tuned model.
    """
    match task.constraint:
        case OneOf():
            return LabelScorer(model, task, template, tokenizer, shots, calibration)
        case SomeOf():
            raise TypeError("models that write are refused earlier: see tunewright.models.encoders.unable")
        case JsonRecord() | FreeText() as constraint:
            end, max_tokens = end_token(task, template, tokenizer), max_answer_tokens(constraint, longest)
            rules = rules_of(constraint, tokenizer, end)
            if isinstance(rules, TextRules):
                return TextGenerator(model, task, template, tokenizer, rules, max_tokens, shots, calibration)
            whole = rules
            if isinstance(constraint, JsonRecord) and constraint.chunk != constraint.schema:
                whole = RecordGrammar(tokenizer, constraint.schema, end, literal=True)
            return RecordReader(model, task, template, tokenizer, rules, whole, max_tokens, shots, calibration)


class LabelScorer(PromptedModel):
    """Scores every label after the prompt, and answers with the likeliest one."""

    def __init__(
        self,
        model: AnyModel,
        task: Task,
        template: ChatTemplate,
        tokenizer: Tokenizer,
        shots: Sequence[Example] = (),
        calibration: Calibration = UNCALIBRATED,
    ):
        super().__init__(model, task, template, tokenizer, shots, calibration)
        self._labels = task.answers
        sequences = answer_tokens(task, template, tokenizer)
        self._trie = LabelTrie(list(sequences.values()))
        self._token_counts = {label: len(ids) for label, ids in sequences.items()}
        self.longest_answer = max(self._token_counts.values())

    def log_probabilities(self, prompt: Sequence[int]) -> Floats:
        """log P(label | prompt) of every label before calibration, in the order of the labels."""
        return score_labels(self._trie, self._model, prompt)

    def probabilities(self, prompt: Sequence[int]) -> dict[str, float]:
        """P(label | prompt) of every label; they sum to one."""
        return self.with_probabilities(prompt)[1]

    def with_probabilities(self, prompt: Sequence[int]) -> tuple[Answer, dict[str, float]]:
        """The answer, and P(label | prompt) of every label. This scores every branch of the label trie."""
        scores = self.log_probabilities(prompt)
        probabilities = self._calibration.of_labels(scores)
        return self._answer(prompt, scores), dict(zip(self._labels, probabilities.tolist(), strict=True))

    def answer_prompts(self, prompts: Sequence[Sequence[int]]) -> Answer:
        (prompt,) = prompts
        return self._answer(prompt, score_labels(self._trie, self._model, prompt, self._calibration.temperature))

    def _answers(self, prompts: Sequence[Sequence[list[int]]], batcher: PromptBatcher) -> list[Answer]:
        alone = [prompt for (prompt,) in prompts]
        return list(map(self._answer, alone, batcher.scores(self._trie, alone, self._calibration.temperature)))

    def _answer(self, prompt: Sequence[int], scores: Floats) -> Answer:
        best = int(np.argmax(scores))
        label, confidence = self._labels[best], float(self._calibration.of_labels(scores)[best])
        return Answer(
            label,
            confidence,
            len(prompt),
            self._token_counts[label],
            uncalibrated=math.exp(scores[best]),
            tokens=(Token(label, math.log(confidence)),),
        )

"""The engine: a bundle's model behind one queue, answering by scoring the labels."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from tunewright.errors import UserError
from tunewright.evaluate.predictors import LabelScorer
from tunewright.export.bundle import Bundle
from tunewright.models.ort_model import OrtNextToken


class TooLong(UserError):
    """A request has more tokens than the bundle's context."""


@dataclass(frozen=True)
class Classification:
    label: str
    confidence: float
    probabilities: dict[str, float]
    prompt_tokens: int
    answer_tokens: int


class ClassifyEngine:
    """Thread-safe: requests are answered one after the other, each on the cached system prompt."""

    def __init__(self, bundle: Bundle, threads: int | None = None):
        self.bundle = bundle
        model = OrtNextToken(bundle.onnx, context=bundle.info.context, threads=threads)
        self._scorer = LabelScorer(model, bundle.task, bundle.template, bundle.tokenizer)
        self._answer_tokens = max(self._scorer.token_counts.values())
        self._lock = threading.Lock()
        self.classify("warm-up: fills the cache with the system prompt")

    def classify(self, text: str) -> Classification:
        """The label of one text, with the probability of every label.

        Raises:
            TooLong: the prompt and the longest label do not fit the bundle's context; nothing is ever cut silently.
        """
        prompt = self._scorer.prompt_ids(text)
        room = self.bundle.info.context - self._answer_tokens
        if len(prompt) > room:
            raise TooLong(f"The request has {len(prompt)} tokens, this model takes {room}.", fix="Shorten the text.")
        with self._lock:
            probabilities = self._scorer.probabilities(prompt)
        label = max(probabilities, key=probabilities.__getitem__)
        tokens = self._scorer.token_counts[label]
        return Classification(label, probabilities[label], probabilities, len(prompt), tokens)

"""The engine: a bundle's model, which answers as its task says, as many requests at once as its runtime takes."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

from tunewright.config.tool_list import TEXT
from tunewright.core.errors import UserError
from tunewright.core.limits import MOST_CHUNKS
from tunewright.inference.bundle import Bundle
from tunewright.inference.predictors import (
    Answer,
    EncoderPredictor,
    GenerationConfig,
    LabelClassifier,
    LabelScorer,
    LabelSetClassifier,
    Pieces,
    RecordReader,
    TextGenerator,
)
from tunewright.inference.runtimes.base import Runtime
from tunewright.serving.cancellation import cancellable, slot

_DEFAULT_CONFIG = GenerationConfig()
_ROUTES = {"multi_label": "classify", "tools": "call"}
"""The plain routes of tasks that have another name."""


def answer_fields(kind: str, answer: Answer) -> dict[str, Any]:
    """An answer's JSON fields in the replies of plain routes and in batches.

    Args:
        kind: of the model's task.
    """
    match kind:
        case "classify":
            return {"label": answer.text}
        case "multi_label":
            return {"labels": json.loads(answer.text), "probabilities": answer.labels}
        case "extract":
            return {"record": json.loads(answer.text), "fields": answer.fields}
        case "tools":
            return {"call": None, "text": None, **_call_or_text(answer.text), "fields": answer.fields}
        case _:
            return {"text": answer.text, "finish_reason": finish_reason(answer)}


def _call_or_text(answer: str) -> dict[str, Any]:
    whole = json.loads(answer)
    return {"text": whole[TEXT]} if TEXT in whole else {"call": whole}


def finish_reason(answer: Answer) -> str:
    """OpenAI's word for how an answer ended."""
    return "length" if answer.cut else "stop"


def whole_answer(pieces: Pieces) -> Answer:
    """The answer at the end of its pieces."""
    *_, answer = pieces
    assert isinstance(answer, Answer)
    return answer


class TooLong(UserError):
    """A request has more tokens than the bundle's context."""


@dataclass(frozen=True)
class Classification:
    answer: Answer
    probabilities: dict[str, float]
    """Of every label."""


class Engine:
    """A bundle's model behind a queue. Thread-safe: requests beyond those that the runtime takes at once wait.

    Args:
        second: in a cascade, the engine of the second bundle. It answers where the first model's confidence is too low
            or the request is too long for it.
    """

    def __init__(self, bundle: Bundle, model: Runtime, second: Engine | None = None):
        self.bundle = bundle
        self.at_once: int = max(model.at_once, second.at_once if second else 0)
        """Requests that it answers at the same time."""
        self._second = second
        self._runtime = model
        self._model = bundle.predictor(cancellable(model))
        self._slots = threading.BoundedSemaphore(model.at_once)

    @classmethod
    def load(cls, bundle: Bundle, threads: int | None = None, streams: int = 1, runtime: Runtime | None = None) -> Self:
        """The engine of a bundle that has weights, warmed up with one request: the system prompt is prefilled.

        Args:
            threads, streams: as in `tunewright.inference.runtimes.base.load_runtime`.
            runtime: its loaded weights, if they are there already.
        """
        second = cls.load(bundle.second, threads, streams) if bundle.second else None
        engine = cls(bundle, runtime or bundle.load(threads, streams), second)
        engine.answer("warm-up")
        return engine

    @property
    def ended(self) -> bool:
        """Whether a model's process has ended. The engine then answers no further request."""
        return self._runtime.ended or (self._second is not None and self._second.ended)

    @property
    def together(self) -> bool:
        """Whether `answers` reads several texts in one pass, as an encoder or a linear model does."""
        return isinstance(self._model, EncoderPredictor)

    @property
    def kind(self) -> str:
        """The model's task: classify, multi_label, extract, generate or tools."""
        return self.bundle.task.kind

    @property
    def route(self) -> str:
        """The name of the model's plain route: classify, extract, generate or call."""
        return _ROUTES.get(self.kind, self.kind)

    def answer(self, text: str, narrowed: Mapping[str, Any] | None = None) -> Answer:
        """The answer to one text.

        Args:
            narrowed: as in `GenerationConfig`, for a model that writes records.

        Raises:
            TooLong: the prompt and the longest answer do not fit the bundle's context; nothing is ever cut silently.
        """
        if self._second:
            first = self._answer_or_refuse(text, narrowed)
            if isinstance(first, TooLong) or self._unsure(first):
                return self._second.answer(text, narrowed)
            return first
        return self._answer(text, narrowed)

    def _answer(self, text: str, narrowed: Mapping[str, Any] | None = None) -> Answer:
        """As the public method, by the first model alone."""
        prompts = self._prompts(text)
        with slot(self._slots):
            return self._confined(prompts, narrowed)

    def _confined(self, prompts: Sequence[list[int]], narrowed: Mapping[str, Any] | None) -> Answer:
        if narrowed is None:
            return self._model.answer_prompts(prompts)
        assert isinstance(self._model, RecordReader)
        (prompt,) = prompts
        return self._model.answer_confined(prompt, narrowed)

    def _unsure(self, answer: Answer) -> bool:
        """Whether the second model must answer instead."""
        return (answer.confidence or 0.0) < (self.bundle.info.second_below or 0.0)

    def answers(self, texts: Sequence[str]) -> list[Answer | TooLong]:
        """The answers to several texts, or why there is none.

        An encoder or a linear model answers all of them together. Any other model is called from as many threads as it
        takes requests at once.
        """
        answers = self._answers(texts)
        if self._second is None:
            return answers
        left = [index for index, each in enumerate(answers) if isinstance(each, TooLong) or self._unsure(each)]
        for index, answer in zip(left, self._second.answers([texts[index] for index in left]), strict=True):
            answers[index] = answer
        return answers

    def _answers(self, texts: Sequence[str]) -> list[Answer | TooLong]:
        """As the public method, by the first model alone."""
        if not self.together:
            with ThreadPoolExecutor(self.at_once) as clients:
                return list(clients.map(self._answer_or_refuse, texts))
        assert isinstance(self._model, EncoderPredictor)
        prompts: list[Sequence[list[int]] | TooLong] = []
        for text in texts:
            try:
                prompts.append(self._prompts(text))
            except TooLong as error:
                prompts.append(error)
        with slot(self._slots):
            answers = iter(self._model.answers_of([each for each in prompts if not isinstance(each, TooLong)]))
        return [each if isinstance(each, TooLong) else next(answers) for each in prompts]

    def _answer_or_refuse(self, text: str, narrowed: Mapping[str, Any] | None = None) -> Answer | TooLong:
        try:
            return self._answer(text, narrowed)
        except TooLong as error:
            return error

    def classify(self, text: str) -> Classification:
        """The label or labels of one text, with the probability of every label.

        Only a model that classifies has this. With a language model it takes longer than `answer`.

        Raises:
            TooLong: as in `answer`.
        """
        assert isinstance(self._model, (LabelScorer, LabelClassifier, LabelSetClassifier))
        try:
            (prompt,) = self._prompts(text)
        except TooLong:
            if self._second is None:
                raise
            return self._second.classify(text)
        with slot(self._slots):
            first = Classification(*self._model.with_probabilities(prompt))
        return self._second.classify(text) if self._second and self._unsure(first.answer) else first

    def stream(self, text: str, generation_config: GenerationConfig = _DEFAULT_CONFIG) -> Pieces:
        """The answer to one text piece by piece, and then as a whole.

        Only generated text comes in more than one piece. Close the generator when nobody listens any more: other
        requests wait for its end.

        Args:
            generation_config: for generated text; labels and records are always whole, and records may be narrowed.

        Raises:
            TooLong: as in `answer`, at the call.
            GrammarError: the schema can't be followed; at the call.
        """
        if self._second:  # a cascade knows which model answers only when the answer is whole
            return self._whole(self.answer(text, generation_config.narrowed))
        return self._pieces(self._prompts(text), generation_config)

    def _pieces(self, prompts: Sequence[list[int]], generation_config: GenerationConfig) -> Pieces:
        if isinstance(self._model, TextGenerator):
            return self._in_slot(self._model.stream(prompts[0], generation_config))
        return self._in_one_piece(prompts, generation_config.narrowed)

    def _in_slot(self, pieces: Pieces) -> Pieces:
        with slot(self._slots):
            yield from pieces

    def _in_one_piece(self, prompts: Sequence[list[int]], narrowed: Mapping[str, Any] | None) -> Pieces:
        with slot(self._slots):
            answer = self._confined(prompts, narrowed)
        yield from self._whole(answer)

    @staticmethod
    def _whole(answer: Answer) -> Pieces:
        yield answer.text
        yield answer

    def _prompts(self, text: str) -> Sequence[list[int]]:
        self._require_letters(text)
        return self._fitting(self._model.prompts(text))

    @property
    def _most_tokens(self) -> int:
        """Tokens that a prompt may have."""
        return self.bundle.info.context - self._model.longest_answer

    def _require_letters(self, *texts: str) -> None:
        """Refuse a request that has too many letters to fit, before it is tokenized: that takes a second a million.

        Raises:
            TooLong: it can't fit.
        """
        windows = MOST_CHUNKS if self.kind == "extract" else 1
        letters, most = sum(map(len, texts)), windows * self.bundle.reader.most_letters(self._most_tokens)
        if letters > most:
            raise TooLong(f"The request has {letters:,} letters, this model takes {most:,}.", fix="Shorten the text.")

    def _fitting(self, prompts: Sequence[list[int]]) -> Sequence[list[int]]:
        """The prompts, if the bundle's context holds them and an answer.

        Raises:
            TooLong: it does not.
        """
        if (longest := max(map(len, prompts))) > self._most_tokens:
            raise TooLong(
                f"The request has {longest} tokens, this model takes {self._most_tokens}.", fix="Shorten the text."
            )
        if len(prompts) > MOST_CHUNKS:
            raise TooLong(
                f"The document would be read in {len(prompts)} windows, this server reads {MOST_CHUNKS}.",
                fix="Send the pages that matter.",
            )
        return prompts

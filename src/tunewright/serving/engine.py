"""The engine: a bundle's model, answering as its task asks for, as many requests at once as its runtime takes."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

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
    TextGenerator,
)
from tunewright.inference.runtimes.base import Runtime
from tunewright.serving.attended import attended, turn

NO_TERMS = GenerationConfig()


def told(kind: str, answer: Answer) -> dict[str, Any]:
    """An answer as the plain routes and batches tell it.

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
        case _:
            return {"text": answer.text, "finish_reason": finish_reason(answer)}


def finish_reason(answer: Answer) -> str:
    """OpenAI's word for how an answer ended."""
    return "length" if answer.cut else "stop"


class TooLong(UserError):
    """A request has more tokens than the bundle's context."""


@dataclass(frozen=True)
class Classification:
    answer: Answer
    probabilities: dict[str, float]
    """Of every label."""


class Engine:
    """Thread-safe: requests beyond those that the runtime takes at once wait for their turn.

    Args:
        second: of a cascade, the engine of the bundle's second one: it answers what the first is not sure enough of, or
            can't read because it is too long.
    """

    def __init__(self, bundle: Bundle, model: Runtime, second: Engine | None = None):
        self.bundle = bundle
        self.at_once: int = max(model.at_once, second.at_once if second else 0)
        """Requests that are answered at the same time."""
        self._second = second
        self._runtime = model
        self._model = bundle.predictor(attended(model))
        self._turn = threading.BoundedSemaphore(model.at_once)

    @classmethod
    def load(cls, bundle: Bundle, threads: int | None = None, streams: int = 1) -> Self:
        """The engine of a bundle that has weights, its system prompt read.

        Args:
            threads, streams: as of `tunewright.inference.runtimes.base.load_runtime`.
        """
        second = cls.load(bundle.second, threads, streams) if bundle.second else None
        engine = cls(bundle, bundle.load(threads, streams), second)
        engine.answer("warm-up")
        return engine

    @property
    def ended(self) -> bool:
        """Whether a model has gone, and no request will be answered any more."""
        return self._runtime.ended or (self._second is not None and self._second.ended)

    @property
    def kind(self) -> str:
        """Of the model's task: classify, multi_label, extract or generate."""
        return self.bundle.task.kind

    @property
    def route(self) -> str:
        """The name of its plain route: classify, extract or generate."""
        return "classify" if self.kind == "multi_label" else self.kind

    def answer(self, text: str) -> Answer:
        """The answer to one text.

        Raises:
            TooLong: the prompt and the longest answer do not fit the bundle's context; nothing is ever cut silently.
        """
        if self._second:
            first = self._answer_or_refuse(text)
            return self._second.answer(text) if isinstance(first, TooLong) or self._unsure(first) else first
        return self._answer(text)

    def _answer(self, text: str) -> Answer:
        """The first model's."""
        prompts = self._prompts(text)
        with turn(self._turn):
            return self._model.answer_prompts(prompts)

    def _unsure(self, answer: Answer) -> bool:
        """Whether the second model is to answer in the first one's place."""
        return (answer.confidence or 0.0) < (self.bundle.info.second_below or 0.0)

    def answers(self, texts: Sequence[str]) -> list[Answer | TooLong]:
        """The answers to several texts, or why there is none, found together where a model is an encoder or linear; any
        other is asked by as many threads as it answers at once."""
        found = self._answers(texts)
        if self._second is None:
            return found
        left = [place for place, each in enumerate(found) if isinstance(each, TooLong) or self._unsure(each)]
        for place, answer in zip(left, self._second.answers([texts[place] for place in left]), strict=True):
            found[place] = answer
        return found

    def _answers(self, texts: Sequence[str]) -> list[Answer | TooLong]:
        """The first model's."""
        if not isinstance(self._model, EncoderPredictor):
            with ThreadPoolExecutor(self.at_once) as clients:
                return list(clients.map(self._answer_or_refuse, texts))
        prompts: list[list[list[int]] | TooLong] = []
        for text in texts:
            try:
                prompts.append(self._prompts(text))
            except TooLong as error:
                prompts.append(error)
        with turn(self._turn):
            found = iter(self._model.answers_of([each for each in prompts if not isinstance(each, TooLong)]))
        return [each if isinstance(each, TooLong) else next(found) for each in prompts]

    def _answer_or_refuse(self, text: str) -> Answer | TooLong:
        try:
            return self._answer(text)
        except TooLong as error:
            return error

    def classify(self, text: str) -> Classification:
        """The label of one text, or its labels, with the probability of every label, which of a language model takes
        longer than its answer alone; only of a model that classifies.

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
        with turn(self._turn):
            found = Classification(*self._model.with_probabilities(prompt))
        return self._second.classify(text) if self._second and self._unsure(found.answer) else found

    def stream(self, text: str, terms: GenerationConfig = NO_TERMS) -> Pieces:
        """The answer to one text piece by piece, and then as a whole.

        Only what a model generates comes in more than one piece. Close the generator where nobody listens any more:
        other requests wait for its end.

        Args:
            terms: of what a model generates; labels and records are always whole.

        Raises:
            TooLong: as in `answer`, at once.
            GrammarError: the schema can't be followed; at once.
        """
        if self._second:  # of a cascade, nothing is written piece by piece
            return self._whole(self.answer(text))
        return self._pieces(self._prompts(text), terms)

    def _pieces(self, prompts: list[list[int]], terms: GenerationConfig) -> Pieces:
        if isinstance(self._model, TextGenerator):
            return self._in_turn(self._model.stream(prompts[0], terms))
        return self._in_turn(self._in_one_piece(prompts))

    def _in_turn(self, pieces: Pieces) -> Pieces:
        with turn(self._turn):
            yield from pieces

    def _in_one_piece(self, prompts: list[list[int]]) -> Pieces:
        yield from self._whole(self._model.answer_prompts(prompts))

    @staticmethod
    def _whole(answer: Answer) -> Pieces:
        yield answer.text
        yield answer

    def _prompts(self, text: str) -> list[list[int]]:
        self._require_room(text)
        return self._fitting(self._model.prompts(text))

    @property
    def _room(self) -> int:
        """Tokens that a prompt may have."""
        return self.bundle.info.context - self._model.longest_answer

    def _require_room(self, *texts: str) -> None:
        """Refuse what can't fit by its letters, before anybody reads it: reading takes a second for each million.

        Raises:
            TooLong: it can't.
        """
        windows = MOST_CHUNKS if self.kind == "extract" else 1
        letters, most = sum(map(len, texts)), windows * self.bundle.reader.most_letters(self._room)
        if letters > most:
            raise TooLong(f"The request has {letters:,} letters, this model takes {most:,}.", fix="Shorten the text.")

    def _fitting(self, prompts: list[list[int]]) -> list[list[int]]:
        """The prompts, if the bundle's context has room for them and for an answer."""
        if (longest := max(map(len, prompts))) > self._room:
            raise TooLong(f"The request has {longest} tokens, this model takes {self._room}.", fix="Shorten the text.")
        if len(prompts) > MOST_CHUNKS:
            raise TooLong(
                f"The document would be read in {len(prompts)} windows, this server reads {MOST_CHUNKS}.",
                fix="Send the pages that matter.",
            )
        return prompts

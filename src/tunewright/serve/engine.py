"""The engine: a bundle's model, answering as its task asks for, as many requests at once as its runtime takes."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

from tunewright.errors import UserError
from tunewright.evaluate.predictors import (
    Answer,
    EncoderPredictor,
    LabelClassifier,
    LabelScorer,
    Pieces,
    Terms,
    TextGenerator,
)
from tunewright.export.bundle import Bundle
from tunewright.models.runtime import Runtime
from tunewright.serve.call import attended, turn

NO_TERMS = Terms()
MOST_PORTIONS = 64
"""Windows of one document that a request may have: nobody waits for more."""


def told(kind: str, answer: Answer) -> dict[str, Any]:
    """An answer as the plain routes and batches tell it.

    Args:
        kind: what the model does: classify, extract or generate.
    """
    match kind:
        case "classify":
            return {"label": answer.text}
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
    """Thread-safe: requests beyond those that the runtime takes at once wait for their turn."""

    def __init__(self, bundle: Bundle, model: Runtime):
        self.bundle = bundle
        self.at_once = model.at_once
        """Requests that are answered at the same time."""
        self._runtime = model
        self._model = bundle.predictor(attended(model))
        self._turn = threading.BoundedSemaphore(model.at_once)

    @classmethod
    def load(cls, bundle: Bundle, threads: int | None = None, streams: int = 1) -> Self:
        """The engine of a bundle that has weights, its system prompt read.

        Args:
            threads, streams: as of `tunewright.models.runtime.load_runtime`.
        """
        engine = cls(bundle, bundle.load(threads, streams))
        engine.answer("warm-up")
        return engine

    @property
    def ended(self) -> bool:
        """Whether the model has gone, and no request will be answered any more."""
        return self._runtime.ended

    @property
    def kind(self) -> str:
        """What the model does: classify, extract or generate."""
        return self.bundle.task.kind

    def answer(self, text: str) -> Answer:
        """The answer to one text.

        Raises:
            TooLong: the prompt and the longest answer do not fit the bundle's context; nothing is ever cut silently.
        """
        prompts = self._prompts(text)
        with turn(self._turn):
            return self._model.answer_prompts(prompts)

    def answers(self, texts: Sequence[str]) -> list[Answer | TooLong]:
        """The answers to several texts, or why there is none, found together where the model is an encoder; any other
        is asked by as many threads as it answers at once."""
        if not isinstance(self._model, EncoderPredictor):
            with ThreadPoolExecutor(self.at_once) as askers:
                return list(askers.map(self._answer_or_refuse, texts))
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
            return self.answer(text)
        except TooLong as error:
            return error

    def classify(self, text: str) -> Classification:
        """The label of one text, with the probability of every label, which takes longer than its answer alone; only of
        a model that classifies.

        Raises:
            TooLong: as in `answer`.
        """
        assert isinstance(self._model, (LabelScorer, LabelClassifier))
        (prompt,) = self._prompts(text)
        with turn(self._turn):
            return Classification(*self._model.with_probabilities(prompt))

    def stream(self, text: str, terms: Terms = NO_TERMS) -> Pieces:
        """The answer to one text piece by piece, and then as a whole.

        Only what a model generates comes in more than one piece. Close the generator where nobody listens any more:
        other requests wait for its end.

        Args:
            terms: of what a model generates; labels and records are always whole.

        Raises:
            TooLong: as in `answer`, at once.
            GrammarError: the schema can't be followed; at once.
        """
        return self._pieces(self._prompts(text), terms)

    def _pieces(self, prompts: list[list[int]], terms: Terms) -> Pieces:
        if isinstance(self._model, TextGenerator):
            return self._in_turn(self._model.stream(prompts[0], terms))
        return self._in_turn(self._in_one_piece(prompts))

    def _in_turn(self, pieces: Pieces) -> Pieces:
        with turn(self._turn):
            yield from pieces

    def _in_one_piece(self, prompts: list[list[int]]) -> Pieces:
        answer = self._model.answer_prompts(prompts)
        yield answer.text
        yield answer

    def _prompts(self, text: str) -> list[list[int]]:
        return self._fitting(self._model.prompts(text))

    def _fitting(self, prompts: list[list[int]]) -> list[list[int]]:
        """The prompts, if the bundle's context has room for them and for an answer."""
        room, longest = self.bundle.info.context - self._model.longest_answer, max(map(len, prompts))
        if longest > room:
            raise TooLong(f"The request has {longest} tokens, this model takes {room}.", fix="Shorten the text.")
        if len(prompts) > MOST_PORTIONS:
            raise TooLong(
                f"The document would be read in {len(prompts)} windows, this server reads {MOST_PORTIONS}.",
                fix="Send the pages that matter.",
            )
        return prompts

"""What is noted of each answer: numbers for Prometheus, and where it is asked for, question and answer."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from tunewright.inference.predictors import Answer
from tunewright.serving.captures import CaptureRecord, Feedback, RequestLog, now
from tunewright.serving.engine import Engine
from tunewright.serving.errors import ApiError
from tunewright.serving.metrics import Metrics
from tunewright.serving.requests import FeedbackRequest
from tunewright.tasks.base import Unfit, labels_of


@dataclass(frozen=True)
class RecordedQuestion:
    """A request to a model."""

    engine: Engine
    model: str
    """The name it is asked by."""
    by: str | None
    """The key that asks."""
    text: str | None
    """None: a conversation with a base, which is nobody's task."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    begun: float = field(default_factory=time.perf_counter)

    @property
    def said(self) -> str:
        """What a tuned model is asked."""
        return self.text or ""


class Recorder:
    """Args:
    journal: where questions and answers are kept; None: nowhere.
    """

    def __init__(self, metrics: Metrics, request_log: RequestLog | None):
        self._metrics, self._request_log = metrics, request_log

    def note(self, question: RecordedQuestion, answer: Answer) -> dict[str, Any]:
        """Note an answer. Returns what it says beside itself."""
        flags = question.engine.bundle.flags(answer.confidence)
        version = question.engine.bundle.info.version
        self._metrics.answered(question.model, version, flags, answer.prompt_tokens, answer.answer_tokens)
        if self._request_log is None or question.text is None:
            return flags
        if not self._request_log.takes(question.id):
            return {**flags, "captured": False}
        kept = self._request_log.keep(
            CaptureRecord(
                id=question.id,
                time=now(),
                model=question.model,
                version=version,
                by=question.by,
                request=question.text,
                answer=answer.text,
                share=self._request_log.share,
                prompt_tokens=answer.prompt_tokens,
                answer_tokens=answer.answer_tokens,
                seconds=time.perf_counter() - question.begun,
                **flags,
            ),
            chosen=_is_chosen(question.engine),
        )
        self._metrics.captured(kept=kept)
        return {**flags, "captured": kept}

    def feedback(self, engine: Engine, model: str, by: str | None, said: FeedbackRequest) -> None:
        """Keep what somebody said to an answer.

        Raises:
            ApiError: there is nowhere to keep it, or what it calls the right answer is none.
        """
        if self._request_log is None:
            raise ApiError(404, "This server keeps nothing; start it with --captures FOLDER.", "not_kept")
        answer = said.answer
        if answer is not None:
            try:
                written = answer if isinstance(answer, str) else json.dumps(answer)
                answer = engine.bundle.task.canonical(written)
            except Unfit as error:
                raise ApiError(400, f"The model can't give this answer: {error}.", "invalid_value", "answer") from None
        kept = self._request_log.keep(
            Feedback(id=said.id, time=now(), model=model, by=by, right=said.right, answer=answer, comment=said.comment),
            chosen=_is_chosen(engine),
        )
        self._metrics.captured(kept=kept)
        if not kept:
            raise ApiError(507, "It can't be kept: the disk is full, or gone.", "not_kept")


def _is_chosen(engine: Engine) -> bool:
    """Whether an answer is one of a fixed set, or some of it."""
    return bool(labels_of(engine.bundle.task.constraint))

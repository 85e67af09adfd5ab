"""Recording each answer: figures for Prometheus and, where the server has a request log, question and answer."""

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
    """A request to a model, with what the request log keeps of it."""

    engine: Engine
    model: str
    """The model's name in the request."""
    by: str | None
    """The name of the client's key."""
    text: str | None
    """None: a conversation with a base, which belongs to no task."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    begun: float = field(default_factory=time.perf_counter)

    @property
    def prompt(self) -> str:
        """The text for a tuned model; empty for a conversation."""
        return self.text or ""


class Recorder:
    """Counts answers and writes them to the request log.

    Args:
        request_log: None: answers are only counted.
    """

    def __init__(self, metrics: Metrics, request_log: RequestLog | None):
        self._metrics, self._request_log = metrics, request_log

    def note(self, question: RecordedQuestion, answer: Answer) -> dict[str, Any]:
        """Count an answer and keep it. Returns its flags for the reply: confidence, escalate, in_scope, captured."""
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
            from_fixed_set=_from_fixed_set(question.engine),
        )
        self._metrics.captured(kept=kept)
        return {**flags, "captured": kept}

    def feedback(self, engine: Engine, model: str, by: str | None, request: FeedbackRequest) -> None:
        """Keep a client's feedback to an answer.

        Raises:
            ApiError: the server has no request log or can't write to it, or the model can't give the corrected answer.
        """
        if self._request_log is None:
            raise ApiError(404, "This server keeps no feedback; start it with --captures FOLDER.", "not_kept")
        answer = request.answer
        if answer is not None:
            try:
                written = answer if isinstance(answer, str) else json.dumps(answer)
                answer = engine.bundle.task.canonical(written)
            except Unfit as error:
                raise ApiError(400, f"The model can't give this answer: {error}.", "invalid_value", "answer") from None
        kept = self._request_log.keep(
            Feedback(
                id=request.id,
                time=now(),
                model=model,
                by=by,
                right=request.right,
                answer=answer,
                comment=request.comment,
            ),
            from_fixed_set=_from_fixed_set(engine),
        )
        self._metrics.captured(kept=kept)
        if not kept:
            raise ApiError(507, "The feedback can't be kept: the disk is full, or gone.", "not_kept")


def _from_fixed_set(engine: Engine) -> bool:
    """Whether an answer is one or several labels of a fixed set."""
    return bool(labels_of(engine.bundle.task.constraint))

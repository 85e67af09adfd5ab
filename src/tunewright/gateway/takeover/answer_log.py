"""What own models answer, written to the request log of the job's project as a server would: review, drift and
retraining find it there."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tunewright.gateway.config import CaptureSpec
from tunewright.gateway.observation import Observation
from tunewright.gateway.takeover.models import OwnAnswer
from tunewright.serving.captures import CaptureRecord, RequestLog, SecondAnswer, now

_API = "api"
"""Whose second answer it is, as in the store of `tunewright monitor`."""


class AnswerLog:
    """The answers of a job's own models in this process, and the API's answers to the same requests. A model at a
    server has that server's request log.

    Args:
        folder: of the request log, by default the project's captures.
        from_fixed_set: answers are labels, which need no redaction.

    Raises:
        UserError: the folder can't be written to.
    """

    def __init__(self, spec: CaptureSpec, folder: Path, *, from_fixed_set: bool):
        self._log = RequestLog(folder, spec.share)
        self._redacts, self._from_fixed_set = spec.redact, from_fixed_set

    async def keep(self, seen: Observation, text: str, own: OwnAnswer) -> None:
        """Keep an own answer.

        Args:
            text: the request's input.
        """
        if own.model is None or not self._takes(seen):
            return
        entry = CaptureRecord(
            id=seen.id,
            time=now(),
            model=own.model,
            version=own.version,
            by=seen.client,
            request=text,
            answer=own.text,
            confidence=own.confidence,
            escalate=own.escalate,
            in_scope=own.in_scope,
            share=self._log.share,
            prompt_tokens=own.prompt_tokens,
            answer_tokens=own.answer_tokens,
            seconds=own.seconds,
        )
        await self._write(entry, text)

    async def keep_second(self, seen: Observation, text: str, own: OwnAnswer, answer: str) -> None:
        """Keep the API's answer to a request whose own answer was kept."""
        if own.model is None or not self._takes(seen):
            return
        await self._write(SecondAnswer(id=seen.id, time=now(), model=own.model, by=_API, answer=answer), text)

    def close(self) -> None:
        self._log.close()

    def _takes(self, seen: Observation) -> bool:
        return seen.is_wanted and self._log.takes(seen.id)

    async def _write(self, entry: CaptureRecord | SecondAnswer, text: str) -> None:
        """Write an entry. On a full disk there is none, and answers go on."""
        if self._redacts:
            entry = await asyncio.to_thread(self._redacted, entry, text)
        self._log.keep(entry)

    def _redacted(self, entry: CaptureRecord | SecondAnswer, text: str) -> CaptureRecord | SecondAnswer:
        # Imported only for this option: its lists of names take time and memory.
        from tunewright.serving.redaction import Redaction

        redaction = Redaction([text], [] if self._from_fixed_set else [entry.answer])
        answer = entry.answer if self._from_fixed_set else redaction.answer(entry.answer)
        if isinstance(entry, SecondAnswer):
            return entry.model_copy(update={"answer": answer})
        return entry.model_copy(update={"request": redaction.plain(text), "answer": answer})

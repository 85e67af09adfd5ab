"""Asks a bundle's own server through its OpenAI-compatible API, so that the measured model is the served one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tunewright.core.errors import UserError
from tunewright.core.limits import ANSWER_SECONDS
from tunewright.evaluation.evidence import Record, collect, load_records
from tunewright.inference.bundle import read_info
from tunewright.inference.predictors import Answer
from tunewright.serving.child import running_server
from tunewright.tasks import Example, Message, Task, task_of
from tunewright.tasks.base import Unfit

_SECONDS = ANSWER_SECONDS + 10
"""The server itself gives up first, and says so."""


class Refused(UserError):
    """The server doesn't take a request."""


class ServedModel:
    """A predictor: a server's only model.

    Args:
        task: of the model; its replies are read as answers of this task.
        refused: the answer to count for a request that the server refuses; None: a refusal is an error.
        start_seconds: time until the server was ready.
    """

    def __init__(
        self, client: httpx.Client, model: str, task: Task, refused: Answer | None = None, start_seconds: float = 0.0
    ):
        self._client, self._model, self._task = client, model, task
        self._refused, self.start_seconds = refused, start_seconds

    def answer(self, request: str) -> Answer:
        """The server's answer.

        Raises:
            Refused: the server doesn't take the request.
            UserError: the answer takes longer than the server allows.
        """
        body = {"model": self._model, "messages": [{"role": "user", "content": request}]}
        try:
            response = self._client.post("/v1/chat/completions", json=body)
        except httpx.TimeoutException:
            raise _too_slow(request) from None
        if response.status_code == httpx.codes.GATEWAY_TIMEOUT:
            raise _too_slow(request)
        if response.status_code == 400 and self._refused:
            return self._refused
        if response.status_code == 400:
            raise Refused(
                f"The server refuses an example: {response.json()['error']['message']}",
                where=beginning(request),
                fix="Take it out of the data, or train with a larger train.max_length.",
            )
        reply: dict[str, Any] = response.raise_for_status().json()
        replied, usage = reply["choices"][0]["message"], reply["usage"]
        message = Message(
            role="assistant", content=replied["content"] or "", tool_calls=replied.get("tool_calls") or None
        )
        text = self._task.answer_in(message)
        try:
            text = self._task.canonical(text)
        except Unfit:  # a record that the canonical form refuses is served with the parts that fit
            text = self._task.fitting_part(text)
        return Answer(text, reply["confidence"], usage["prompt_tokens"], usage["completion_tokens"])


@contextmanager
def served_model(bundle: Path, refused: Answer | None = None) -> Iterator[ServedModel]:
    """A bundle's model behind its own server.

    Args:
        refused: as in `ServedModel`.

    Raises:
        UserError: the server does not become ready.
    """
    began = time.perf_counter()
    with running_server(bundle) as address, httpx.Client(base_url=address, timeout=_SECONDS) as client:
        info = read_info(bundle)
        yield ServedModel(client, info.name, task_of(info.task), refused, time.perf_counter() - began)


def collect_served(
    name: str,
    bundle: Path,
    task: Task,
    splits: Mapping[str, Sequence[Example]],
    answers: Path,
    refused: Answer | None = None,
) -> list[Record]:
    """Ask a bundle's server everything, one request at a time, unless the answers are on disk.

    Args:
        name: name of the file of answers.
        task: the task that measures the answers.
        refused: as in `ServedModel`.
    """
    if (file := answers / f"{name}.jsonl").exists():
        return load_records(file)
    with served_model(bundle, refused) as model:
        return collect(name, model, task, splits, answers)


def _too_slow(request: str) -> UserError:
    return UserError(
        f"The model took more than {ANSWER_SECONDS:.0f} s for one answer, and its server gives up then.",
        where=beginning(request),
        fix="Choose a smaller base model, let it write less, or take a machine with more cores or a GPU.",
    )


def beginning(request: str) -> str:
    """The beginning of a request, for a line of the log."""
    return " ".join(request.split())[:70]

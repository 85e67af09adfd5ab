"""Asking a bundle's own server, in OpenAI's form, as a user would: what is measured so is what is served."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tunewright.core.errors import UserError
from tunewright.evaluation.evidence import Record, collect, load_records
from tunewright.inference.bundle import read_info
from tunewright.inference.predictors import Answer
from tunewright.serving.server import running_server
from tunewright.tasks import Example, Task

_SECONDS = 60


class Refused(UserError):
    """The server doesn't take a request."""


class ServedModel:
    """A predictor: a server's only model.

    Args:
        refused: what stands for its answer to a request that it doesn't take; None: that is an error.
        start_seconds: that the server took until it was ready.
    """

    def __init__(self, client: httpx.Client, model: str, refused: Answer | None = None, start_seconds: float = 0.0):
        self._client, self._model, self._refused, self.start_seconds = client, model, refused, start_seconds

    def answer(self, request: str) -> Answer:
        """Its answer.

        Raises:
            Refused: it doesn't take the request.
        """
        body = {"model": self._model, "messages": [{"role": "user", "content": request}]}
        said = self._client.post("/v1/chat/completions", json=body)
        if said.status_code == 400 and self._refused:
            return self._refused
        if said.status_code == 400:
            raise Refused(
                f"The server refuses an example: {said.json()['error']['message']}",
                where=beginning(request),
                fix="Take it out of the data, or train with a larger train.max_length.",
            )
        reply: dict[str, Any] = said.raise_for_status().json()
        text, usage = str(reply["choices"][0]["message"]["content"]), reply["usage"]
        return Answer(text, reply["confidence"], usage["prompt_tokens"], usage["completion_tokens"])


@contextmanager
def served_model(bundle: Path, refused: Answer | None = None) -> Iterator[ServedModel]:
    """A bundle's model behind a server of its own.

    Args:
        refused: as of `ServedModel`.

    Raises:
        UserError: the server does not become ready.
    """
    began = time.perf_counter()
    with running_server(bundle) as address, httpx.Client(base_url=address, timeout=_SECONDS) as client:
        yield ServedModel(client, read_info(bundle).name, refused, time.perf_counter() - began)


def collect_served(
    name: str,
    bundle: Path,
    task: Task,
    splits: Mapping[str, Sequence[Example]],
    answers: Path,
    refused: Answer | None = None,
) -> list[Record]:
    """Ask a bundle's server everything, one request at a time; where the answers are on disk, nothing is asked.

    Args:
        name: of the file of answers.
        task: what the answers are measured by.
        refused: as of `ServedModel`.
    """
    if (file := answers / f"{name}.jsonl").exists():
        return load_records(file)
    with served_model(bundle, refused) as model:
        return collect(name, model, task, splits, answers)


def beginning(request: str) -> str:
    """Of a request, for a line of the log."""
    return " ".join(request.split())[:70]

"""A deployment on trial: does it answer as the bundle did when it was judged, and fast enough under its peak?"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tunewright.artifacts import read_jsonl
from tunewright.assess.cost import SECONDS_A_MONTH
from tunewright.data.dataset import load_examples
from tunewright.errors import UserError
from tunewright.progress import say, track
from tunewright.spec import Spec

_SAMPLE = 40
"""Examples whose answers are compared."""
_LOAD_SECONDS = 20.0
_FEWEST, _MOST = 40, 600
"""Requests of the load test."""
_AT_ONCE = 64
_WAKE_SECONDS = 600.0
"""For the first answer: an image is pulled, a model loaded."""
_TRY_SECONDS = 2.0
_SECONDS = 60.0
_SHOWN = 3


@dataclass(frozen=True)
class Door:
    """Where and how a deployment is asked.

    `headers` gives those of a request; tokens in it are renewed by whoever makes it.
    """

    url: str
    """Of the OpenAI-compatible API, up to and with /v1."""
    headers: Callable[[], Mapping[str, str]]


@dataclass(frozen=True)
class Question:
    messages: list[dict[str, Any]]
    answer: str
    """What the bundle answered when it was judged, as it is served."""


@dataclass(frozen=True)
class Trial:
    """What was found."""

    woke_seconds: float
    """Until the first answer."""
    agreement: float
    """The share of answers that are those of the parity step."""
    requests: int
    """Of the load test."""
    rate: float
    """That were sent a second."""
    failed: int
    p50_ms: float
    p95_ms: float
    """From when a request was due to its answer, network and all."""
    differing: tuple[str, ...]
    """Some answers that were others: asked, expected, given."""

    def failures(self, spec: Spec) -> list[str]:
        """Which of the gates it does not keep."""
        told = []
        least = 1 - spec.export.max_disagreement
        pace = f"at {self.rate:.1f} requests a second"
        if self.agreement < least:
            found = f"{100 * self.agreement:.1f} % of the answers are those that were judged"
            told.append(f"{found}, {100 * least:.1f} % are needed ({'; '.join(self.differing)})")
        if self.failed:
            told.append(f"{self.failed} of {self.requests} requests failed {pace}")
        if self.p95_ms > spec.goal.p95_ms:
            told.append(f"P95 is {self.p95_ms:.0f} ms {pace}, the goal is {spec.goal.p95_ms:.0f} ms")
        return told

    @property
    def sentence(self) -> str:
        """All of it, for people."""
        return (
            f"first answer after {self.woke_seconds:.1f} s; {100 * self.agreement:.1f} % of the answers as judged; "
            f"{self.requests} requests at {self.rate:.1f} a second: P50 {self.p50_ms:.0f} ms, "
            f"P95 {self.p95_ms:.0f} ms, {self.failed} failed"
        )


def questions_of(split: Path, parity: Path) -> list[Question]:
    """Test examples with the answers that the served bundle gave then, spread evenly over the tests."""
    given = {(row["split"], row["id"]): row["answer"] for row in read_jsonl(parity / "answers" / "served.jsonl")}
    made = []
    for file in sorted((split / "test").glob("*.jsonl")):
        for example in load_examples(file):
            answer = given.get((file.stem, example.meta.id))
            if answer is not None:
                asked = example.row()["messages"][:-1]
                made.append(Question(asked, answer))
    step = max(1, len(made) // _SAMPLE)
    return made[::step][:_SAMPLE]


def peak_rate(spec: Spec) -> float:
    """Requests a second in the busiest minute."""
    return spec.traffic.requests_per_month / SECONDS_A_MONTH * spec.traffic.peak_to_average


def trial(spec: Spec, door: Door, questions: Sequence[Question]) -> Trial:
    """Wake a deployment, compare its answers, then ask as often as its busiest minute will.

    Requests are sent when they are due, at random times (Poisson), not when the last one came back: a slow server then
    shows in the latencies (coordinated omission, Tene 2013).
    """
    with httpx.Client(timeout=_SECONDS) as client:
        ask = _Asker(client, door, spec.name)
        woke = _wake(ask, questions[0])
        answers = [ask(question) for question in questions]
        same = [_is_same(answer, question) for answer, question in zip(answers, questions, strict=True)]
        rate = max(peak_rate(spec), _FEWEST / _LOAD_SECONDS)
        count = int(min(max(rate * _LOAD_SECONDS, _FEWEST), _MOST))
        say(f"  load test: {count} requests at {rate:.1f} a second")
        latencies, failed = _load(ask, questions, rate, count, spec.seed)
    latencies.sort()
    differing = tuple(
        f"{question.messages[-1]['content'][:60]!r}: {question.answer[:40]!r}, not {str(answer)[:40]!r}"
        for answer, question, fine in zip(answers, questions, same, strict=True) if not fine
    )  # fmt: skip
    return Trial(
        woke, sum(same) / len(same), count, rate, failed, _quantile(latencies, 0.5), _quantile(latencies, 0.95),
        differing[:_SHOWN],
    )  # fmt: skip


class _Asker:
    """Asks one question at a time; `fault` is why the last one that had no answer had none."""

    def __init__(self, client: httpx.Client, door: Door, model: str):
        self._client, self._door, self._model = client, door, model
        self.fault = ""

    def __call__(self, question: Question) -> str | None:
        body = {"model": self._model, "messages": question.messages, "temperature": 0}
        try:
            reply = self._client.post(
                f"{self._door.url}/chat/completions", json=body, headers=dict(self._door.headers())
            )
            if reply.is_error:
                self.fault = f"{reply.status_code}: {reply.text[:200]}"
                return None
            return str(reply.json()["choices"][0]["message"]["content"])
        except (httpx.HTTPError, ValueError, KeyError, IndexError) as error:
            self.fault = f"{type(error).__name__}: {error}"
            return None


def _wake(ask: _Asker, question: Question) -> float:
    """Seconds until the first answer.

    Raises:
        UserError: there is none for too long, or the deployment refuses whoever asks.
    """
    began = time.monotonic()
    while ask(question) is None:
        refused = ask.fault[:3] in ("401", "403")
        if refused or time.monotonic() - began > _WAKE_SECONDS:
            raise UserError(
                f"The new version answered nothing in {time.monotonic() - began:.0f} s.", why=f"It said {ask.fault}.",
                fix="Give yourself a role that may ask it, then type the same command again." if refused
                else "See its log in the Azure portal, then type the same command again.",
            )  # fmt: skip
        time.sleep(_TRY_SECONDS)
    return time.monotonic() - began


def _is_same(answer: str | None, question: Question) -> bool:
    return answer is not None and answer.strip() == question.answer.strip()


def _load(ask: Callable[[Question], str | None], questions: Sequence[Question], rate: float, count: int,
          seed: int) -> tuple[list[float], int]:  # fmt: skip
    """(milliseconds of each answer, how many failed)."""
    random_ = random.Random(seed)
    latencies: list[float] = []
    failed = 0
    lock = threading.Lock()
    due = time.monotonic()

    def one(question: Question, when: float) -> None:
        nonlocal failed
        answer = ask(question)
        with lock:
            if answer is None:
                failed += 1
            else:
                latencies.append(1000 * (time.monotonic() - when))

    with ThreadPoolExecutor(_AT_ONCE) as pool, track("load test", count, "requests") as tracker:
        for number in range(count):
            due += random_.expovariate(rate)
            time.sleep(max(0.0, due - time.monotonic()))
            pool.submit(one, questions[number % len(questions)], due)
            tracker.update(number + 1)
    return latencies, failed


def _quantile(values: Sequence[float], share: float) -> float:
    return values[min(int(share * len(values)), len(values) - 1)] if values else float("inf")

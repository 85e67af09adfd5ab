"""A deployment on trial: does it answer as the bundle did when it was judged, and fast enough under its peak?

Where a deployment can't be reached from outside, the trial runs beside it: `python -m` this module reads an exam from
standard input, asks the server on this machine, and prints what it found, which `report` reads.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from tunewright.backends.azure.answers import without_secrets
from tunewright.backends.azure.waiting import Wait
from tunewright.core.errors import UserError
from tunewright.core.progress import say, track

_AT_ONCE = 64
_TRY_SECONDS = 2.0
_SECONDS = 60.0
_SHOWN = 3
_LONGEST_SAID = 200
"""How many signs of what a deployment says a message has."""


class NoAnswer(UserError):
    """A deployment answers nothing, though it lets in whoever asks."""


@dataclass(frozen=True)
class Door:
    """Where and how a deployment is asked.

    `headers` gives those of a request; tokens in it are renewed by whoever makes it.
    """

    url: str
    """Of the OpenAI-compatible API, up to and with /v1."""
    headers: Callable[[], Mapping[str, str]]


@dataclass(frozen=True)
class TrialQuestion:
    messages: list[dict[str, Any]]
    answer: str
    """What the bundle answered when it was judged, as it is served."""


@dataclass(frozen=True)
class Exam:
    """What a deployment is asked."""

    model: str
    questions: list[TrialQuestion]
    rate: float
    """Requests a second of the load test."""
    count: int
    """Of them."""
    seed: int
    wake_seconds: float
    """How long the first answer may take: an image is pulled, a model loaded."""

    def json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def read(cls, text: str) -> Exam:
        data = json.loads(text)
        return cls(**(data | {"questions": [TrialQuestion(**each) for each in data["questions"]]}))


@dataclass(frozen=True)
class DeploymentTrial:
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
    cold_ms: float | None = None
    """Until the first answer of one that had scaled to zero; None where it doesn't, or was not seen asleep."""

    @property
    def sentence(self) -> str:
        """All of it, for people."""
        return (
            f"first answer after {self.woke_seconds:.1f} s; {100 * self.agreement:.1f} % of the answers as judged; "
            f"{self.requests} requests at {self.rate:.1f} a second: P50 {self.p50_ms:.0f} ms, "
            f"P95 {self.p95_ms:.0f} ms, {self.failed} failed"
            + (f"; asleep it answers after {self.cold_ms:,.0f} ms" if self.cold_ms is not None else "")
        )


def trial(door: Door, exam: Exam, costs: str = "") -> DeploymentTrial:
    """Wake a deployment, compare its answers, then ask as often as its busiest minute will.

    Requests are sent when they are due, at random times (Poisson), not when the last one came back: a slow server then
    shows in the latencies (coordinated omission, Tene 2013).

    Args:
        costs: of the deployment, as of `Wait.look`.

    Raises:
        NoAnswer: it never answers.
        UserError: it refuses the caller.
    """
    questions = exam.questions
    with httpx.Client(timeout=_SECONDS) as client:
        ask = _Client(client, door, exam.model)
        woke = _wake(ask, exam, costs)
        answers = [ask(question) for question in questions]
        same = [_is_same(answer, question) for answer, question in zip(answers, questions, strict=True)]
        say(f"  load test: {exam.count} requests at {exam.rate:.1f} a second")
        latencies, failed = _load(ask, exam)
    latencies.sort()
    differing = tuple(
        f"{question.messages[-1]['content'][:60]!r}: {question.answer[:40]!r}, not {str(answer)[:40]!r}"
        for answer, question, fine in zip(answers, questions, same, strict=True)
        if not fine
    )
    p50, p95 = _quantile(latencies, 0.5), _quantile(latencies, 0.95)
    agreement = sum(same) / len(same)
    return DeploymentTrial(woke, agreement, exam.count, exam.rate, failed, p50, p95, differing[:_SHOWN])


def first_answer(door: Door, exam: Exam, costs: str = "") -> float:
    """Milliseconds until a deployment that sleeps has woken up and answered.

    Args:
        costs: as of `trial`.

    Raises:
        UserError: as of `trial`.
    """
    with httpx.Client(timeout=_SECONDS) as client:
        return 1000 * _wake(_Client(client, door, exam.model), exam, costs)


class _Client:
    """Asks one question at a time; `fault` is why the last one that had no answer had none."""

    def __init__(self, client: httpx.Client, door: Door, model: str):
        self._client, self._door, self._model = client, door, model
        self.fault = ""

    def __call__(self, question: TrialQuestion) -> str | None:
        url = f"{self._door.url}/chat/completions"
        body = {"model": self._model, "messages": question.messages, "temperature": 0}
        try:
            reply = self._client.post(url, json=body, headers=dict(self._door.headers()))
            if reply.is_error:
                self.fault = f"{reply.status_code}: {without_secrets(reply.text)[:_LONGEST_SAID]}"
                return None
            return str(reply.json()["choices"][0]["message"]["content"])
        except (httpx.HTTPError, ValueError, KeyError, IndexError) as error:
            self.fault = f"{type(error).__name__}: {without_secrets(str(error))[:_LONGEST_SAID]}"
            return None


def _wake(ask: _Client, exam: Exam, costs: str) -> float:
    """Seconds until the first answer.

    Raises:
        NoAnswer: there is none for too long.
        UserError: the deployment refuses the caller.
    """
    began, wait = time.monotonic(), Wait()
    while ask(exam.questions[0]) is None:
        refused = ask.fault[:3] in ("401", "403")
        over = wait.look("the new version's first answer", exam.wake_seconds, costs)
        if refused or over:
            raise (UserError if refused else NoAnswer)(
                f"The new version answered nothing in {time.monotonic() - began:.0f} s.",
                why=f"It said {ask.fault}.",
                fix="Give yourself a role that may ask it, then type the same command again."
                if refused
                else "See its log in the Azure portal, then type the same command again.",
            )
        time.sleep(_TRY_SECONDS)
    return time.monotonic() - began


def _is_same(answer: str | None, question: TrialQuestion) -> bool:
    return answer is not None and answer.strip() == question.answer.strip()


def _load(ask: _Client, exam: Exam) -> tuple[list[float], int]:
    """(milliseconds of each answer, how many failed)."""
    random_ = random.Random(exam.seed)
    latencies: list[float] = []
    failed = 0
    lock = threading.Lock()
    due = time.monotonic()

    def one(question: TrialQuestion, when: float) -> None:
        nonlocal failed
        answer = ask(question)
        with lock:
            if answer is None:
                failed += 1
            else:
                latencies.append(1000 * (time.monotonic() - when))

    with ThreadPoolExecutor(_AT_ONCE) as pool, track("load test", exam.count, "requests") as tracker:
        for number in range(exam.count):
            due += random_.expovariate(exam.rate)
            time.sleep(max(0.0, due - time.monotonic()))
            pool.submit(one, exam.questions[number % len(exam.questions)], due)
            tracker.update(number + 1)
    return latencies, failed


def _quantile(values: Sequence[float], share: float) -> float:
    return values[min(int(share * len(values)), len(values) - 1)] if values else float("inf")


def main() -> None:
    """The trial of the server that runs beside this process."""
    address = os.environ.get("TUNEWRIGHT_TRIED", "http://127.0.0.1:8080/v1")
    try:
        found = asdict(trial(Door(address, dict), Exam.read(sys.stdin.read())))
    except UserError as error:
        answers = not isinstance(error, NoAnswer)
        found = {"what": error.what, "why": error.why, "fix": error.fix, "answers": answers}
    print(json.dumps(found, ensure_ascii=False))


def report(output: str) -> DeploymentTrial:
    """What a trial found that ran beside a deployment.

    Args:
        output: all that its process printed.

    Raises:
        NoAnswer, UserError: as `trial` there.
    """
    found = json.loads(output.strip().splitlines()[-1])
    if "what" in found:
        kind = UserError if found.pop("answers") else NoAnswer
        raise kind(found.pop("what"), **found)
    return DeploymentTrial(**(found | {"differing": tuple(found["differing"])}))


if __name__ == "__main__":
    main()

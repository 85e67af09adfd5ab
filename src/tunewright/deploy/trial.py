"""The trial of a deployment: does it answer as the bundle did when it was judged, and fast enough at peak traffic?

If a deployment can't be reached from outside, the trial runs beside it: `python -m` this module reads an exam from
standard input, asks the server on this machine, and prints the result, which `report` reads.
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
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

from tunewright.backends.azure.answers import without_secrets
from tunewright.backends.azure.waiting import Wait
from tunewright.core.errors import UserError
from tunewright.core.progress import say, track
from tunewright.tasks.tools import replied

_AT_ONCE = 64
_TRY_SECONDS = 2.0
_SECONDS = 60.0
_SHOWN = 3
_MAX_CHARACTERS = 200
"""Characters of a deployment's answer that a message quotes."""


class NoAnswer(UserError):
    """A deployment answers nothing, although it does not refuse the caller."""


@dataclass(frozen=True)
class DeploymentAddress:
    """The address of a deployment, with the headers of a request to it."""

    url: str
    """The URL of the OpenAI-compatible API, up to and with /v1."""
    headers: Callable[[], Mapping[str, str]]
    """Makes the headers of one request, with a valid token."""


@dataclass(frozen=True)
class TrialQuestion:
    messages: list[dict[str, Any]]
    answer: str
    """The served bundle's answer when it was judged."""


@dataclass(frozen=True)
class Exam:
    """The questions to a deployment, and the load test."""

    model: str
    questions: list[TrialQuestion]
    rate: float
    """Requests a second of the load test."""
    count: int
    """Requests of the load test."""
    seed: int
    wake_seconds: float
    """How long the first answer may take: an image is pulled, and a model loaded."""
    key: str = field(default="", repr=False)
    """The key or token that the server takes, if the exam is sent from beside it; empty if it needs none."""

    def json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def read(cls, text: str) -> Exam:
        data = json.loads(text)
        return cls(**(data | {"questions": [TrialQuestion(**each) for each in data["questions"]]}))


@dataclass(frozen=True)
class DeploymentTrial:
    """The result of a trial."""

    woke_seconds: float
    """Time until the first answer."""
    agreement: float
    """The share of answers that equal those of the parity step."""
    requests: int
    """Requests of the load test."""
    rate: float
    """Requests that were sent a second."""
    failed: int
    p50_ms: float
    p95_ms: float
    """From the moment when a request was due to its answer, network included."""
    differing: tuple[str, ...]
    """Some answers that differ: the question, the expected and the given answer."""
    cold_ms: float | None = None
    """Time until the first answer after it had scaled to zero; None if it does not scale to zero, or did not do so in
    time."""

    @property
    def sentence(self) -> str:
        """The result, for people."""
        return (
            f"first answer after {self.woke_seconds:.1f} s; {100 * self.agreement:.1f} % of the answers as judged; "
            f"{self.requests} requests at {self.rate:.1f} a second: P50 {self.p50_ms:.0f} ms, "
            f"P95 {self.p95_ms:.0f} ms, {self.failed} failed"
            + (f"; asleep it answers after {self.cold_ms:,.0f} ms" if self.cold_ms is not None else "")
        )


def trial(address: DeploymentAddress, exam: Exam, costs: str = "") -> DeploymentTrial:
    """Wake a deployment, compare its answers, then send as many requests as its busiest minute will have.

    Requests are sent when they are due, at random times (Poisson), not when the last one came back, so that a slow
    server shows in the latencies (coordinated omission, Tene 2013).

    Args:
        costs: what the deployment costs, as in `Wait.look`.

    Raises:
        NoAnswer: it never answers.
        UserError: it refuses the caller.
    """
    questions = exam.questions
    with httpx.Client(timeout=_SECONDS) as client:
        ask = _Client(client, address, exam.model)
        woke = _wake(ask, exam, costs)
        answers = [ask(question) for question in questions]
        same = [_is_same(answer, question) for answer, question in zip(answers, questions, strict=True)]
        say(f"  load test: {exam.count} requests at {exam.rate:.1f} a second")
        latencies, failed = _load(ask, exam)
    latencies.sort()
    differing = tuple(
        f"{question.messages[-1]['content'][:60]!r}: {question.answer[:40]!r}, not {str(answer)[:40]!r}"
        for answer, question, is_same in zip(answers, questions, same, strict=True)
        if not is_same
    )
    p50, p95 = _quantile(latencies, 0.5), _quantile(latencies, 0.95)
    agreement = sum(same) / len(same)
    return DeploymentTrial(woke, agreement, exam.count, exam.rate, failed, p50, p95, differing[:_SHOWN])


def first_answer(address: DeploymentAddress, exam: Exam, costs: str = "") -> float:
    """Milliseconds until a deployment that is scaled to zero has started and answered.

    Args:
        costs: as in `trial`.

    Raises:
        UserError: as in `trial`.
    """
    with httpx.Client(timeout=_SECONDS) as client:
        return 1000 * _wake(_Client(client, address, exam.model), exam, costs)


class _Client:
    """Asks one question at a time. `fault` is the reason why the last unanswered one has no answer."""

    def __init__(self, client: httpx.Client, address: DeploymentAddress, model: str):
        self._client, self._address, self._model = client, address, model
        self.fault = ""

    def __call__(self, question: TrialQuestion) -> str | None:
        url = f"{self._address.url}/chat/completions"
        body = {"model": self._model, "messages": question.messages, "temperature": 0}
        try:
            reply = self._client.post(url, json=body, headers=dict(self._address.headers()))
            if reply.is_error:
                self.fault = f"{reply.status_code}: {without_secrets(reply.text)[:_MAX_CHARACTERS]}"
                return None
            return replied(reply.json()["choices"][0]["message"])
        except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
            self.fault = f"{type(error).__name__}: {without_secrets(str(error))[:_MAX_CHARACTERS]}"
            return None


def _wake(ask: _Client, exam: Exam, costs: str) -> float:
    """Seconds until the first answer.

    Raises:
        NoAnswer: none comes in time.
        UserError: the deployment refuses the caller.
    """
    start, wait = time.monotonic(), Wait()
    while ask(exam.questions[0]) is None:
        refused = ask.fault[:3] in ("401", "403")
        over = wait.look("the new version's first answer", exam.wake_seconds, costs)
        if refused or over:
            raise (UserError if refused else NoAnswer)(
                f"The new version answered nothing in {time.monotonic() - start:.0f} s.",
                why=f"The last failure: {ask.fault}.",
                fix="Give yourself a role that may call it, then type the same command again."
                if refused
                else "See its log in the Azure portal, then type the same command again.",
            )
        time.sleep(_TRY_SECONDS)
    return time.monotonic() - start


def _is_same(answer: str | None, question: TrialQuestion) -> bool:
    return answer is not None and answer.strip() == question.answer.strip()


def _load(ask: _Client, exam: Exam) -> tuple[list[float], int]:
    """(milliseconds of each answer, how many failed)."""
    random_ = random.Random(exam.seed)
    latencies: list[float] = []
    failed = 0
    lock = threading.Lock()
    due = time.monotonic()

    def send(question: TrialQuestion, due: float) -> None:
        nonlocal failed
        try:
            answer = ask(question)
        except Exception:  # noqa: BLE001 (whatever it is, this request has no answer)
            answer = None
        with lock:
            if answer is None:
                failed += 1
            else:
                latencies.append(1000 * (time.monotonic() - due))

    with ThreadPoolExecutor(_AT_ONCE) as pool, track("load test", exam.count, "requests") as tracker:
        for number in range(exam.count):
            due += random_.expovariate(exam.rate)
            time.sleep(max(0.0, due - time.monotonic()))
            pool.submit(send, exam.questions[number % len(exam.questions)], due)
            tracker.update(number + 1)
    return latencies, failed


def _quantile(values: Sequence[float], share: float) -> float:
    return values[min(int(share * len(values)), len(values) - 1)] if values else float("inf")


def main() -> None:
    """Try the server that runs beside this process, and print the result as JSON."""
    url = os.environ.get("TUNEWRIGHT_TRIED", "http://127.0.0.1:8080/v1")
    exam = Exam.read(sys.stdin.read())
    headers = {"Authorization": f"Bearer {exam.key}"} if exam.key else {}
    try:
        result = asdict(trial(DeploymentAddress(url, lambda: headers), exam))
    except UserError as error:
        answers = not isinstance(error, NoAnswer)
        result = {"what": error.what, "why": error.why, "fix": error.fix, "answers": answers}
    print(json.dumps(result, ensure_ascii=False))


def report(output: str) -> DeploymentTrial:
    """The result of a trial that ran beside a deployment.

    Args:
        output: everything that its process printed.

    Raises:
        NoAnswer, UserError: the trial raised it there.
    """
    result = json.loads(output.strip().splitlines()[-1])
    if "what" in result:
        kind = UserError if result.pop("answers") else NoAnswer
        raise kind(result.pop("what"), **result)
    return DeploymentTrial(**(result | {"differing": tuple(result["differing"])}))


if __name__ == "__main__":
    main()

"""A takeover in small: an application asks through the gateway, from the first request until own models answer, and
notices nothing. `bench/takeover.py` does the same with public data sets."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from faker import Faker
from openai import APIConnectionError, AsyncOpenAI, OpenAI

from tests.conftest import tunewright
from tests.crash.linear import bring_up_to_date
from tests.gateway.test_faults import FAR, until
from tests.gateway.test_server import GatewayProcess
from tests.gateway.tickets import SYSTEM, WORDS
from tests.gateway.upstream import Handler, Upstream, refused, upstream
from tests.traffic.test_grouping import chat
from tunewright.config import load_spec
from tunewright.core.processes import free_port
from tunewright.economics.prices import price_book
from tunewright.economics.usage import read_usage
from tunewright.gateway.exchanges import read_exchanges

MODEL = "gpt-4o"
LOST = (APIConnectionError, httpx.TransportError)
"""A connection that fails; the official client passes on the second where a stream breaks off."""
RIGHT = 0.94
"""The share of texts that the API answers rightly."""
MARGIN = 0.02
KINDS = {**WORDS, "staff": ("salary", "holiday", "contract", "training")}
"""The teams, of which nobody asks for the last one before the traffic changes."""
OLD, NEW = [*WORDS], [*KINDS]
FORM = {
    "type": "json_schema",
    "json_schema": {
        "name": "team",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"team": {"enum": NEW}},
            "required": ["team"],
            "additionalProperties": False,
        },
    },
}
JOBS: dict[str, dict[str, Any]] = {
    "tickets": {"system": SYSTEM},
    "letters": {"system": "Read this letter and say as JSON who has to see it.", "more": {"response_format": FORM}},
}
"""One is answered by a bare label, one by JSON in the client's schema."""
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Question:
    job: str
    text: str
    team: str
    """The truth."""

    @property
    def body(self) -> dict[str, Any]:
        messages = chat(("system", JOBS[self.job]["system"]), ("user", self.text))
        return {"model": MODEL, "temperature": 0, **messages, **JOBS[self.job].get("more", {})}


class Traffic:
    """Questions whose truth is known, other ones each time."""

    def __init__(self) -> None:
        self._chance, self._fake = random.Random(0), Faker()
        self._fake.seed_instance(0)

    def take(self, count: int, kinds: Sequence[str], jobs: Sequence[str] = tuple(JOBS)) -> list[Question]:
        return [self._one(self._chance.choice(jobs), self._chance.choice(kinds)) for _ in range(count)]

    def _one(self, job: str, team: str) -> Question:
        words = [self._chance.choice(KINDS[team]) for _ in range(2)]
        return Question(job, f"{self._fake.sentence()} {words[0]} {words[1]}", team)


def by_api(text: str) -> str:
    """What the API answers to a text, always the same: mostly the truth."""
    counts = {team: sum(text.lower().count(word) for word in words) for team, words in KINDS.items()}
    truth = max(counts, key=lambda team: counts[team])
    drawn = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    return truth if drawn / 2**64 < RIGHT else NEW[(NEW.index(truth) + 1) % len(NEW)]


@pytest.fixture
def paid() -> Iterator[Upstream]:
    """A paid API with a meter: 1 % of the requests get 429, 0.5 % get 500."""
    chance = random.Random(1)
    soon = {"retry-after-ms": "20"}

    def fault() -> Handler | None:
        drawn = chance.random()
        if drawn < 0.015:
            return refused(429, "rate_limit", **soon) if drawn < 0.01 else refused(500, "server_error", **soon)
        return None

    with upstream(by_api) as played:
        played.fault, played.seconds, plain = fault, 0.005, played.reply
        structured = JOBS["letters"]["more"]["response_format"]["json_schema"]["name"]

        def reply(text: str) -> str:
            asked = next(each.json for each in reversed(played.asked) if text in each.body.decode())
            return json.dumps({structured: plain(text)}) if "response_format" in asked else plain(text)

        played.reply = reply
        yield played


class Application:
    """Asks by synchronous and asynchronous clients, in streams and in whole answers. It asks again only where a
    connection fails."""

    def __init__(self, url: str):
        self._url = f"{url}/v1"
        self.answers: list[tuple[Question, str]] = []

    def run(self, questions: Sequence[Question]) -> list[tuple[Question, str]]:
        """Ask all of them; the answers.

        Raises:
            OpenAIError: a request failed.
        """
        before = len(self.answers)
        failed: list[BaseException] = []

        def synchronously() -> None:
            try:
                self._ask(questions[::2])
            except Exception as error:  # noqa: BLE001 (raised in the test's own thread)
                failed.append(error)

        thread = threading.Thread(target=synchronously)
        thread.start()
        asyncio.run(self._ask_at_once(questions[1::2]))
        thread.join()
        if failed:
            raise failed[0]
        return self.answers[before:]

    def _ask(self, questions: Sequence[Question]) -> None:
        client = OpenAI(base_url=self._url, api_key="sk-1", max_retries=0, timeout=FAR)
        for number, question in enumerate(questions):
            while True:
                try:
                    if number % 2:
                        text = client.chat.completions.create(**question.body).choices[0].message.content or ""
                    else:
                        options: Any = {"include_usage": True}
                        stream = client.chat.completions.create(**question.body, stream=True, stream_options=options)
                        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
                    break
                except LOST:
                    time.sleep(0.05)
            self._note(question, text)

    async def _ask_at_once(self, questions: Sequence[Question]) -> None:
        async with AsyncOpenAI(base_url=self._url, api_key="sk-1", max_retries=0, timeout=FAR) as client:

            async def some(part: Sequence[Question]) -> None:
                for question in part:
                    while True:
                        try:
                            reply = await client.chat.completions.create(**question.body)
                            break
                        except LOST:
                            await asyncio.sleep(0.05)
                    self._note(question, reply.choices[0].message.content or "")

            await asyncio.gather(*(some(questions[number::3]) for number in range(3)))

    def _note(self, question: Question, answer: str) -> None:
        self.answers.append((question, json.loads(answer)["team"] if question.job == "letters" else answer))


def loss(got: Sequence[tuple[Question, str]]) -> float:
    """By how much less often the clients' answers are right than the API's would be."""
    right = sum(answer == question.team for question, answer in got) / len(got)
    theirs = sum(by_api(question.text) == question.team for question, _ in got) / len(got)
    return theirs - right


class Place:
    """The folder in which somebody types commands, beside the gateway's process."""

    def __init__(self, folder: Path, paid: Upstream):
        self.folder, self._paid, self._port = folder, paid, free_port()
        self.projects: dict[str, str] = {}
        self.gateway = GatewayProcess(folder, self._settings(), self._port)

    def type(self, *words: str) -> str:
        done = tunewright(*words, cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def captured_jobs(self) -> list[dict[str, Any]]:
        return list(json.loads(self.type("traffic", "ls", "captures", "--json"))["jobs"])

    def train(self, job: str, listed: Sequence[dict[str, Any]], project: str) -> None:
        """Make a project of a job that was captured, and train it."""
        (name,) = (each["name"] for each in listed if JOBS[job]["system"][:20] in each["outline"])
        self.type("init", "captures", "--from-traffic", name, "--out", project)
        spec = self.folder / project / "tunewright.yaml"
        text, count = re.subn(
            r"(?m)^candidates: .*$", "model: linear\nevaluate: {max_examples: 20}", spec.read_text("utf-8")
        )
        assert count == 1
        spec.write_text(text, "utf-8")
        bring_up_to_date(load_spec(self.folder / project))
        self.projects[job] = project

    def reload(self) -> None:
        read = sum("were read again" in line for line in self.gateway.lines)
        self.gateway.settings.write_text(self._settings(), "utf-8")
        self.gateway.process.send_signal(signal.SIGHUP)
        until(lambda: sum("were read again" in line for line in self.gateway.lines) > read)

    def change(self, job: str, mode: str) -> None:
        """Change a job's mode by the command, and wait until the gateway follows."""
        before = len(self.gateway.lines)
        self.type("gateway", "mode", job, mode)
        until(lambda: any(line.startswith(f"{job}: {mode}") for line in self.gateway.lines[before:]))

    def kill(self) -> None:
        """Kill the gateway, and start it again as a supervisor would."""
        self.gateway.process.send_signal(signal.SIGKILL)
        self.gateway.process.wait()
        self.gateway = GatewayProcess(self.folder, self._settings(), self._port)

    def changes(self, job: str) -> list[dict[str, str]]:
        """The newest first."""
        return [each for each in json.loads(self.type("gateway", "changes", "--json")) if each["job"] == job]

    def ledger(self) -> dict[str, float]:
        return dict(json.loads(self.type("gateway", "ledger", "--json"))["total"])

    def _settings(self) -> str:
        jobs = "".join(f"  {job}: {{project: {project}, audit: 0.05}}\n" for job, project in self.projects.items())
        return f"upstreams: {{openai: {{url: '{self._paid.url}', retries: 4}}}}\ncapture: {{}}\n" + (
            f"jobs:\n{jobs}" if jobs else ""
        )


def test_an_application_notices_nothing_of_a_whole_takeover(paid: Upstream, tmp_path: Path) -> None:
    place = Place(tmp_path, paid)
    application, traffic = Application(place.gateway.url), Traffic()
    price = price_book(None).apis[MODEL]

    def metered() -> float:
        return sum(usage.usd(price) for block in paid.billed if (usage := read_usage(block)))

    try:
        assert loss(application.run(traffic.take(1000, OLD))) <= MARGIN
        observed = sum(each.usd or 0.0 for each in read_exchanges(tmp_path / "captures"))
        assert observed == pytest.approx(metered(), rel=0.01)

        listed = place.captured_jobs()
        assert len(listed) == len(JOBS)
        for job in JOBS:
            place.train(job, listed, job)
        place.reload()
        for job in JOBS:
            place.change(job, "shadow")
        assert loss(application.run(traffic.take(300, OLD))) <= MARGIN

        for job in JOBS:
            place.change(job, "cascade")
        before = len(paid.billed)
        got = application.run(traffic.take(400, OLD))
        assert loss(got) <= MARGIN
        assert len(paid.billed) - before < 0.5 * len(got), "own models answer most"

        got = application.run(traffic.take(300, [*OLD, "staff", "staff", "staff"], ["tickets"]))
        assert loss(got) <= MARGIN
        assert [each["by"] for each in place.changes("tickets")][:1] == ["the gateway"]
        place.train("tickets", place.captured_jobs(), "tickets-2")
        place.reload()
        place.change("tickets", "cascade")
        place.change("letters", "own")
        before = len(paid.billed)
        got = application.run([*traffic.take(200, NEW, ["tickets"]), *traffic.take(100, OLD, ["letters"])])
        assert loss(got) <= MARGIN
        assert len(paid.billed) - before < 0.5 * len(got)

        time.sleep(0.5)  # the last audits, and the counts
        total = place.ledger()
        assert observed + total["paid_usd"] + total["audit_usd"] == pytest.approx(metered(), rel=0.01)
        assert total["saved_usd"] > 0

        killer = threading.Timer(0.3, place.kill)
        killer.start()
        assert loss(application.run(traffic.take(300, OLD))) <= MARGIN
        killer.join()
    finally:
        place.gateway.process.kill()
        place.gateway.process.wait()

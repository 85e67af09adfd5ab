"""Requests are recognised as a job's by its signature, and none that is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.gateway.tickets import SYSTEM, Messages, captured, request
from tests.traffic.test_grouping import chat
from tests.traffic.test_jobs import Traffic
from tunewright.core.limits import JOB_LETTERS, JOB_MESSAGES
from tunewright.gateway.answers import AnswerChoice
from tunewright.gateway.jobs import signature as signature_module
from tunewright.gateway.jobs import words
from tunewright.gateway.jobs.signature import Recogniser, read_signature, write_signature
from tunewright.traffic.jobs import find_jobs

PREAMBLE = "You work for Contoso, a shop for garden tools. Be brief, never promise anything, and write plain English. "


def add(traffic: Traffic, body: dict[str, Any], answer: str) -> None:
    traffic.add(lambda *_: body, 1, AnswerChoice(answer))


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    folder = tmp_path_factory.mktemp("captured")
    (job,) = find_jobs(captured(folder / "captures")).jobs
    write_signature(folder, job.signature)
    return Recogniser({"tickets": read_signature(folder)})


def text_of(recogniser: Recogniser, body: dict[str, Any], kind: Any = "chat") -> str | None:
    found = recogniser.recognise(kind, body)
    return found.text if found else None


def test_a_request_of_the_job_gives_its_input(recogniser: Recogniser) -> None:
    messages = Messages(7)
    for _ in range(50):
        text = messages.clear()
        assert text_of(recogniser, request(text)) == text
    parts = [{"type": "text", "text": "my parcel is late"}]
    assert text_of(recogniser, chat(("system", SYSTEM), ("user", parts))) == "my parcel is late"


def test_prompts_that_the_api_keeps_are_jobs_of_their_own(tmp_path: Path) -> None:
    """Their requests have the users' texts alone."""

    def body(text: str, prompt: str, **more: Any) -> dict[str, Any]:
        return {"input": text, "prompt": {"id": prompt, "version": "2", **more}}

    traffic, messages = Traffic(tmp_path / "captures"), Messages(3)
    for number in range(60):
        sent = body(messages.clear(), "pmpt_sort" if number % 3 else "pmpt_translate")
        answer = AnswerChoice("delivery" if number % 3 else f"Traduit : {sent['input']}")
        traffic.add(lambda *_, sent=sent: sent, 1, answer, kind="responses")
    traffic.close()
    jobs = find_jobs(tmp_path / "captures").jobs
    assert sorted(job.requests for job in jobs) == [20, 40]
    sorting = max(jobs, key=lambda job: job.requests)
    write_signature(tmp_path, sorting.signature)
    found = Recogniser({"sorting": read_signature(tmp_path)})
    assert text_of(found, body("my parcel is late", "pmpt_sort"), "responses") == "my parcel is late"
    assert text_of(found, body("my parcel is late", "pmpt_translate"), "responses") is None
    assert text_of(found, {"input": "my parcel is late"}, "responses") is None
    filled = body("my parcel is late", "pmpt_sort", variables={"shop": "Berlin"})
    assert text_of(found, filled, "responses") is None


@pytest.mark.parametrize(
    "body",
    [
        chat(("system", "Translate to French."), ("user", "my parcel is late")),
        chat(("user", "my parcel is late")),
        chat(("system", f"{SYSTEM} Always answer in capitals."), ("user", "my parcel is late")),
        chat(("system", f"Today is Monday. {SYSTEM}"), ("user", "my parcel is late")),
        chat(("system", SYSTEM), ("user", "my parcel is late"), ("assistant", "delivery"), ("user", "sure?")),
        chat(("system", SYSTEM), ("user", [{"type": "image_url", "image_url": {"url": "https://x"}}])),
        chat(("system", SYSTEM), ("user", "my parcel"), response_format={"type": "json_object"}),
        chat(("system", SYSTEM), ("user", "my parcel"), tools=[{"type": "function", "function": {"name": "x"}}]),
        chat(("system", SYSTEM), ("user", "")),
        {"messages": "nonsense"},
        {},
    ],
)
def test_anything_else_does_not(body: dict[str, Any], recogniser: Recogniser) -> None:
    assert text_of(recogniser, body) is None


def test_other_routes_are_other_jobs(recogniser: Recogniser) -> None:
    assert text_of(recogniser, {"instructions": SYSTEM, "input": "my parcel is late"}, "responses") is None


def test_a_request_far_larger_than_the_jobs_is_not_looked_at(recogniser: Recogniser) -> None:
    left = JOB_LETTERS - len(SYSTEM)
    longest = f"my {'parcel ' * left}"[: left - 1] + "."
    assert text_of(recogniser, request(longest)) == longest
    assert recogniser.recognise("chat", request(f"{longest}!")) is None
    most = [("user", "late")] * (JOB_MESSAGES - 1)
    assert recogniser.recognise("chat", chat(("system", SYSTEM), *most)) is not None
    assert recogniser.recognise("chat", chat(("system", SYSTEM), *most, most[0])) is None


def test_long_words_take_no_memory(recogniser: Recogniser) -> None:
    for text in ("parcel", "x" * 10_000):
        assert text_of(recogniser, request(text)) == text
    assert "parcel" in words._hashes
    assert "x" * 10_000 not in words._hashes


def test_numbers_and_all_that_varies_belong_to_the_input(tmp_path: Path) -> None:
    """An amount in the middle of a template, and a customer's line in the system prompt."""
    traffic, messages = Traffic(tmp_path / "captures"), Messages(3)

    def body(number: int, tier: str, text: str) -> dict[str, Any]:
        system = f"{PREAMBLE}The customer has the tier {tier} and pays in euros. Say refund or reject."
        return chat(("system", system), ("user", f"Order total: {number} EUR. The message: {text}"))

    for number in range(200):
        tier = ("gold", "silver", "bronze")[number % 3]
        text = messages.clear()
        add(traffic, body(number, tier, text), "refund" if number % 2 else "reject")
    traffic.close()
    (job,) = find_jobs(tmp_path / "captures").jobs
    found = text_of(Recogniser({"refunds": job.signature}), body(987, "gold", "the rake broke"))
    assert found is not None
    assert all(word in found for word in ("987", "gold", "the rake broke"))
    assert "garden tools" not in found


def test_a_form_that_came_late_is_of_the_job_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody adds a sentence to the system prompt after more requests than are looked at."""
    monkeypatch.setattr(signature_module, "_LOOKED_AT", 60)
    traffic, messages = Traffic(tmp_path / "captures"), Messages(3)

    def body(told: str, text: str) -> dict[str, Any]:
        return chat(("system", f"{PREAMBLE}Say refund or reject.{told}"), ("user", text))

    late = " If in doubt, say reject."
    for number in range(200):
        add(traffic, body(late if number >= 100 else "", messages.clear()), "refund" if number % 2 else "reject")
    traffic.close()
    (job,) = find_jobs(tmp_path / "captures").jobs
    known = Recogniser({"refunds": job.signature})
    assert (text_of(known, body("", "the rake broke")) or "").endswith("the rake broke")
    assert (text_of(known, body(late, "the rake broke")) or "").endswith("the rake broke")


def test_a_rival_with_the_same_preamble_is_not_the_job(tmp_path: Path) -> None:
    traffic, messages = Traffic(tmp_path / "captures"), Messages(4)
    first = f"{PREAMBLE}Which department handles this message? Answer sales, repairs or accounts."
    second = f"{PREAMBLE}Is the writer of this message angry? Answer with yes or no and nothing else."
    for number in range(150):
        for system, labels in ((first, ("sales", "repairs", "accounts")), (second, ("yes", "no"))):
            text = messages.unclear()
            add(traffic, chat(("system", system), ("user", text)), labels[number % len(labels)])
    traffic.close()
    jobs = find_jobs(tmp_path / "captures").jobs
    assert len(jobs) == 2
    signature = next(job.signature for job in jobs if len(job.form.names) == 3)
    recogniser = Recogniser({"departments": signature})
    assert text_of(recogniser, chat(("system", first), ("user", "hello there"))) == "hello there"
    assert recogniser.recognise("chat", chat(("system", second), ("user", "hello there"))) is None

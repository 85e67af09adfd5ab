"""A log of conversations whose answer depends on an earlier turn, to the running server, on a linear model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import LABELS, spec_data, unalike, whole_run
from tunewright.core.artifacts import read_jsonl
from tunewright.serving.child import running_server

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

NAME = "tickets"
TEACHER = "gpt-4o-mini"
SYSTEM = {"role": "system", "content": "You route tickets.  Be brief.\n"}
COUNTED = {"prompt_tokens": 900, "completion_tokens": 12, "prompt_tokens_details": {"cached_tokens": 800}}
ASKED = {"role": "assistant", "content": "What can I do?"}


def turns(label: str, key: str) -> list[dict[str, str]]:
    """What the job is about stands in the first turn alone."""
    return [
        {"role": "user", "content": f"Hello, it is about {label} {unalike(key)}"},
        ASKED,
        {"role": "user", "content": f"Tell me more {unalike(f'last {key}')}"},
    ]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """(the folder `runs/latest` of a whole run, its report)."""
    folder = tmp_path_factory.mktemp("conversations") / NAME
    folder.mkdir()
    rows = [
        [SYSTEM, *turns(label, f"{label} {n}"), {"role": "assistant", "content": label}]
        for n in range(60)
        for label in LABELS
    ]
    lines = [
        json.dumps(
            {
                "request": {"model": TEACHER, "messages": asked},
                "response": {"choices": [{"message": answer}], "usage": COUNTED},
                "latency_ms": 600 + number,
            }
        )
        for number, (*asked, answer) in enumerate(rows)
    ]
    (folder / "train.jsonl").write_text("\n".join(lines), "utf-8")
    task = {**spec_data()["task"], "earlier_turns": 2}
    data = {"train": "train.jsonl", "validation_fraction": 0.3}
    (folder / "tunewright.yaml").write_text(json.dumps(spec_data(model="linear", task=task, data=data)), "utf-8")
    return whole_run(folder, "export.max_disagreement=0.9", "export.max_accuracy_drop=0.9")


@pytest.fixture(scope="module")
def address(done: tuple[Path, dict[str, Any]]) -> Iterator[str]:
    with running_server(done[0] / "bundle") as url:
        yield url


def test_an_answer_in_an_earlier_turn_is_learnt(done: tuple[Path, dict[str, Any]]) -> None:
    latest, report = done
    (trained,) = latest.glob("check/examples/train.jsonl")
    assert all(
        [each["role"] for each in row["messages"]] == ["system", "user", "assistant"] for row in read_jsonl(trained)
    )
    assert not [
        each for each in json.loads((latest / "check/findings.json").read_text())["findings"] if each["code"] == "D029"
    ]
    assert report["comparison"]["candidates"]["served"]["scores"]["test"]["primary_metric"]["value"] > 0.9


def test_the_verdict_says_that_right_means_the_apis_answers(done: tuple[Path, dict[str, Any]]) -> None:
    latest, report = done
    said = f'"Right" means here what {TEACHER} answered, not what people say.'
    assert report["verdict"]["sentence"].endswith(said)
    assert any("no model can be shown to be better" in each for each in report["verdict"]["reasons"])
    assert said in (latest / "verdict" / "report.md").read_text("utf-8")


def test_the_verdict_prices_what_the_api_counted_in_the_log(done: tuple[Path, dict[str, Any]]) -> None:
    latest, report = done
    comparison = report["comparison"]
    assert comparison["usage_from"] == "log"
    assert comparison["usage"]["prompt_tokens"] == 900
    assert comparison["apis"]["gpt-4o"]["cost"]["usd_per_month"] == pytest.approx(100 * 2.5 + 800 * 1.25 + 12 * 10)
    assert "900 tokens in (800 of them cached) and 12 out each (as the API counted in the log)" in (
        (latest / "verdict" / "report.html").read_text("utf-8")
    )
    assert "900 in (800 cached), 12 out" in (latest / "verdict" / "report.html").read_text("utf-8")


def test_the_verdict_shows_how_long_the_api_took_in_the_log(done: tuple[Path, dict[str, Any]]) -> None:
    latest, report = done
    comparison = report["comparison"]
    calls = 60 * len(LABELS)
    now = comparison["apis"]["gpt-4o"]["latency"]
    assert now == comparison["logged_latency"]
    assert (now["count"], now["p50_ms"]) == (calls, pytest.approx(600 + (calls - 1) / 2))
    page = (latest / "verdict" / "report.html").read_text("utf-8")
    assert f"The P50 and P95 of API gpt-4o are those of {calls} calls in your log, the network included." in page
    assert "Time an answer of gpt-4o" in page


def test_a_server_reads_a_conversation_as_the_training_did(address: str) -> None:
    for label in LABELS:
        conversation = turns(label, f"new {label}")
        body = {"model": NAME, "messages": conversation}
        reply = httpx.post(f"{address}/v1/chat/completions", json=body).raise_for_status().json()
        text = "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in conversation)
        plain = httpx.post(f"{address}/v1/classify", json={"text": text}).json()
        assert reply["choices"][0]["message"]["content"] == plain["label"] == label


def ask(address: str, system: str | None, role: str = "system") -> httpx.Response:
    given = [{"role": role, "content": system}] if system is not None else []
    body = {"model": NAME, "messages": [*given, *turns(LABELS[0], "once more")]}
    return httpx.post(f"{address}/v1/chat/completions", json=body)


def test_a_server_takes_the_system_prompts_of_its_job_only(done: tuple[Path, dict[str, Any]], address: str) -> None:
    assert ask(address, None).status_code == ask(address, " ").status_code == 200
    assert ask(address, "You route tickets. Be brief.", "developer").status_code == 200  # that of the training rows
    refused = ask(address, "Translate into French.")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages")
    assert "--any-system-prompt" in refused.json()["error"]["message"]
    with running_server(done[0] / "bundle", "--any-system-prompt") as url:
        assert ask(url, "Translate into French.").status_code == 200

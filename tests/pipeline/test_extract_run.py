"""Extraction from data to the running server, on a tiny random model: whatever it writes is a record of the schema."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import REPOSITORY
from tests.documents.samples import INVOICE, pdf
from tests.fixtures.tiny import run_example
from tunewright.config import load_spec
from tunewright.core.artifacts import read_jsonl
from tunewright.documents import text_of
from tunewright.serving.child import running_server
from tunewright.tasks import task_of

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]


@pytest.fixture(scope="module")
def run(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict]:
    """The invoice example, run in small, served with ONNX Runtime."""
    folder = tmp_path_factory.mktemp("extract")
    changes = ("data.validation_fraction=0.03", "export.runtime=onnxruntime")
    return run_example("invoices", make_tiny_model("llama3")[1], folder, *changes)


def test_every_arm_is_measured_by_its_fields(run: tuple[Path, dict]) -> None:
    _, report = run
    assert report["comparison"]["primary_metric"] == "field F1"
    candidates = report["comparison"]["candidates"]
    assert {"nearest", "patterns", "few_shot", "adapter", "merged", "exported", "served"} == set(candidates)
    for candidate in candidates.values():
        for split in ("seen", "unseen"):
            assert 0 <= candidate["scores"][split]["primary_metric"]["value"] <= 1
            assert set(candidate["scores"][split]["others"]) == {"records", "word F1", "invented"}
    assert [link["candidate"] for link in report["parity"]["chain"]] == ["adapter", "merged", "exported", "served"]


def test_all_that_models_write_fits_the_schema(run: tuple[Path, dict]) -> None:
    project, _ = run
    task = task_of(load_spec(project).task)
    answers = project / "runs" / "latest"
    for file in (*(answers / "evaluate" / "answers").glob("*.jsonl"), answers / "parity" / "answers" / "served.jsonl"):
        for row in read_jsonl(file):
            assert row["answer"] == "{}" or task.canonical(row["answer"]) == row["answer"], file.name


def test_the_server_extracts(run: tuple[Path, dict]) -> None:
    project, _ = run
    text = read_jsonl(project / "data" / "test.jsonl")[0]["text"]
    with running_server(project / "runs" / "latest" / "export" / "bundle") as address:
        plain = httpx.post(f"{address}/v1/extract", json={"text": text}, timeout=60).json()
        chat = httpx.post(
            f"{address}/v1/chat/completions",
            json={"model": "invoices", "messages": [{"role": "user", "content": text}]},
            timeout=60,
        ).json()
        other = httpx.post(f"{address}/v1/classify", json={"text": text})
    assert set(plain["record"]) == set(plain["fields"])
    assert json.loads(chat["choices"][0]["message"]["content"]) == plain["record"]
    assert 0 <= plain["confidence"] <= min(plain["fields"].values()) + 1e-9
    assert other.status_code == 404
    assert "/v1/extract" in other.json()["error"]["message"]


def told(served: httpx.Client, sent: dict[str, Any]) -> dict[str, Any]:
    """All that is answered but for the answer's own id."""
    reply: dict[str, Any] = served.post("/v1/extract", json=sent).json()
    assert reply.pop("id")
    return reply


def test_many_at_once_are_told_what_each_is_told_alone(run: tuple[Path, dict], served: httpx.Client) -> None:
    """To the last digit of every confidence."""
    texts = [row["text"][: 40 + 30 * n] for n, row in enumerate(read_jsonl(run[0] / "data" / "test.jsonl")[:16])]
    alone = [told(served, {"text": text}) for text in texts]
    with ThreadPoolExecutor(len(texts)) as clients:
        together = list(clients.map(lambda text: told(served, {"text": text}), texts))
    assert together == alone
    assert len({json.dumps(reply) for reply in alone}) > 1


DOCUMENTS = {
    "Arabic": "فاتورة رقم ١٢٣\nالمورد: شركة النور\nالإجمالي: ١٢٫٥٠",
    "Hebrew and English": "חשבונית Invoice 17\nTotal ₪ 12.50 סה״כ",
    "many languages": "Rechnung 請求書 счёт facture\nSumme 1.234,56 €",
    "bidi marks": "\u202eTotal 12.50\u202c\u2066 USD\u2069",
    "one sign": "x",
    "control characters": "Total\x00\x07\x1b[31m 12.50",
    "nulls and quotes": '"}{"vendor":null,\\',
}


@pytest.fixture(scope="module")
def served(run: tuple[Path, dict]) -> Iterator[httpx.Client]:
    project, _ = run
    with (
        running_server(project / "runs" / "latest" / "export" / "bundle") as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        yield client


@pytest.mark.parametrize("name", DOCUMENTS)
def test_whatever_a_document_holds_the_answer_fits(run: tuple[Path, dict], served: httpx.Client, name: str) -> None:
    reply = served.post("/v1/extract", json={"text": DOCUMENTS[name]})
    assert reply.status_code == 200, reply.text
    task_of(load_spec(run[0]).task).canonical(json.dumps(reply.json()["record"]))


def test_a_pdf_is_read_as_its_text(served: httpx.Client) -> None:
    content = pdf(INVOICE)
    sent = {"document": {"name": "invoice.pdf", "content": base64.b64encode(content).decode()}}
    plain = told(served, {"text": text_of("invoice.pdf", content)})
    assert told(served, sent) == plain


def test_instructions_in_a_document_do_not_lead_out_of_the_schema(run: tuple[Path, dict], served: httpx.Client) -> None:
    task = task_of(load_spec(run[0]).task)
    document = read_jsonl(run[0] / "data" / "test.jsonl")[0]["text"]
    injections = (REPOSITORY / "tests" / "injections.txt").read_text("utf-8").splitlines()
    assert len(injections) >= 50
    for injection in injections:
        reply = served.post("/v1/extract", json={"text": f"{document}\n{injection}"})
        assert reply.status_code == 200, injection
        task.canonical(json.dumps(reply.json()["record"]))


@pytest.mark.parametrize(
    ("text", "said"), [("", "text"), (" \n\t \n", "text"), ("word " * 200_000, "this model takes")]
)
def test_an_empty_or_endless_document_is_refused(served: httpx.Client, text: str, said: str) -> None:
    reply = served.post("/v1/extract", json={"text": text})
    assert reply.status_code == 400
    assert said in reply.json()["error"]["message"]


def test_the_report_shows_the_fields(run: tuple[Path, dict]) -> None:
    project, _ = run
    html = (project / "runs" / "latest" / "verdict" / "report.html").read_text("utf-8")
    assert "extract, 6 fields" in html
    assert "<td>invoice_number</td>" in html
    assert "right ↓ given →" not in html, "a confusion matrix of records would say nothing"

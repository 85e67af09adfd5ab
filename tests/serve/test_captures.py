"""Questions, answers and feedback: what is said to be kept is kept, and nothing else is read."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.conftest import python
from tests.serve.test_app import Echo
from tunewright.errors import UserError
from tunewright.serve.app import build_app
from tunewright.serve.captures import Capture, CaptureJournal, Feedback, now, read_captures
from tunewright.serve.hosts import OneModel
from tunewright.serve.keys import KeyRing, add_key
from tunewright.tasks.classify import ClassifyTask


class Labels(Echo):
    bundle = SimpleNamespace(**vars(Echo.bundle), task=ClassifyTask("Which?", {"a": "", "b": ""}))

    def __init__(self) -> None:
        super().__init__("classify")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    journal = CaptureJournal(tmp_path / "kept")
    with TestClient(build_app(OneModel(Labels()), journal=journal)) as client:  # type: ignore[arg-type]
        yield client


def kept(tmp_path: Path) -> list[Capture | Feedback]:
    return list(read_captures(tmp_path / "kept"))


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": text}], **more}


def test_questions_and_answers_are_kept(client: TestClient, tmp_path: Path) -> None:
    plain = client.post("/v1/classify", json={"text": "ä\n"}).json()
    said = client.post("/v1/chat/completions", json=chat("b")).json()
    *_, last, _ = client.post("/v1/chat/completions", json=chat("c", stream=True)).text.strip().split("\n\n")
    streamed = json.loads(last.removeprefix("data: "))
    found = kept(tmp_path)
    assert [each.id for each in found] == [plain["id"], said["id"], streamed["id"]]
    assert plain["captured"] and said["captured"] and streamed["captured"]
    first = found[0]
    assert isinstance(first, Capture)
    assert (first.request, first.answer, first.model, first.by, first.escalate) == ("ä\n", "ä\n", "echo", None, True)


def test_what_was_kept_is_its_owners_to_read(client: TestClient, tmp_path: Path) -> None:
    assert client.post("/v1/classify", json={"text": "a"}).is_success
    (file,) = (tmp_path / "kept").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_refused_request_is_not_kept(client: TestClient, tmp_path: Path) -> None:
    assert client.post("/v1/classify", json={"text": ""}).status_code == 400
    assert kept(tmp_path) == []


def test_feedback_is_kept_if_the_model_could_give_that_answer(client: TestClient, tmp_path: Path) -> None:
    asked = client.post("/v1/classify", json={"text": "a"}).json()["id"]
    for body in ({"right": True}, {"right": False, "answer": "b", "comment": "no"}, {"right": False}):
        answer = client.post("/v1/feedback", json={"id": asked, **body})
        assert answer.json() == {"id": asked, "captured": True}
    _, *said = kept(tmp_path)
    assert [(each.right, each.answer) for each in said if isinstance(each, Feedback)] == [
        (True, None), (False, "b"), (False, None),
    ]  # fmt: skip
    for wrong in ({"right": True, "answer": "b"}, {"right": False, "answer": "z"}, {}, {"right": True, "model": "no"}):
        assert client.post("/v1/feedback", json={"id": asked, **wrong}).status_code in (400, 404)
    assert len(kept(tmp_path)) == 4
    assert 'tunewright_captures_total{kept="true"} 4.0' in client.get("/metrics").text


def test_a_key_leaves_its_name(tmp_path: Path) -> None:
    token = add_key(tmp_path / "keys.json", "shop")
    journal = CaptureJournal(tmp_path / "kept")
    with TestClient(build_app(OneModel(Labels()), KeyRing(tmp_path / "keys.json"), journal=journal)) as client:  # type: ignore[arg-type]
        assert client.post("/v1/classify", json={"text": "a"}).status_code == 401
        assert client.post("/v1/classify", json={"text": "a"}, headers={"Authorization": f"Bearer {token}"}).is_success
    (only,) = kept(tmp_path)
    assert only.by == "shop"


def test_without_a_folder_nothing_is_kept() -> None:
    with TestClient(build_app(OneModel(Labels()))) as client:  # type: ignore[arg-type]
        answer = client.post("/v1/classify", json={"text": "a"}).json()
        assert "captured" not in answer
        said = client.post("/v1/feedback", json={"id": answer["id"], "right": True})
        assert (said.status_code, said.json()["error"]["code"]) == (404, "not_kept")


def test_a_line_that_was_cut_short_is_passed_over(tmp_path: Path) -> None:
    entry = Feedback(id="1", time=now(), model="m", by=None, right=True, answer=None, comment="")
    assert CaptureJournal(tmp_path).keep(entry)
    assert CaptureJournal(tmp_path).keep(entry)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes() + b'{"kind": "feed')
    assert list(read_captures(tmp_path)) == [entry, entry]


FULL = """
import resource, signal, sys
from pathlib import Path
from tunewright.serve.captures import CaptureJournal, Feedback, read_captures
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
journal = CaptureJournal(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
made = [Feedback(id=str(number), time="", model="m", by=None, right=True, answer=None, comment="long" * (number % 5))
        for number in range(20)]
kept = [each for each in made if journal.keep(each)]
assert 0 < len(kept) < 20
assert list(read_captures(Path(sys.argv[1]))) == kept
print(len(kept))
"""


def test_where_the_disk_is_full_nothing_is_said_to_be_kept(tmp_path: Path) -> None:
    """A limit on the size of a file ends a write as a full disk does: in its middle, and then with an error."""
    assert int(python("-c", FULL, str(tmp_path)).stdout) > 0


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't be written"):
        CaptureJournal(tmp_path / "file")

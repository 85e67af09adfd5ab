"""The request log: every entry that is reported as kept is kept, and readers skip everything else."""

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
from tests.serving.test_app import Echo
from tunewright.auth.keys import KeyRing, add_key
from tunewright.core.errors import UserError
from tunewright.inference.predictors import Answer
from tunewright.serving import line_log
from tunewright.serving.app import build_app
from tunewright.serving.captures import CaptureRecord, Feedback, RequestLog, now, read_captures
from tunewright.serving.hosts import OneModel
from tunewright.serving.redaction import redact
from tunewright.serving.server import Limits
from tunewright.tasks.classify import ClassifyTask
from tunewright.tasks.extract import ExtractTask


class Labels(Echo):
    bundle = SimpleNamespace(**{**vars(Echo.bundle), "task": ClassifyTask("Which?", {"a": "", "b": ""})})

    def __init__(self) -> None:
        super().__init__("classify")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    request_log = RequestLog(tmp_path / "kept")
    with TestClient(build_app(OneModel(Labels()), request_log=request_log)) as client:
        yield client


def kept(tmp_path: Path) -> list[CaptureRecord | Feedback]:
    return list(read_captures(tmp_path / "kept"))


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": text}], **more}


def test_questions_and_answers_are_kept(client: TestClient, tmp_path: Path) -> None:
    plain = client.post("/v1/classify", json={"text": "ä\n"}).json()
    whole = client.post("/v1/chat/completions", json=chat("b")).json()
    *_, last, _ = client.post("/v1/chat/completions", json=chat("c", stream=True)).text.strip().split("\n\n")
    streamed = json.loads(last.removeprefix("data: "))
    found = kept(tmp_path)
    assert [each.id for each in found] == [plain["id"], whole["id"], streamed["id"]]
    assert plain["captured"] and whole["captured"] and streamed["captured"]
    first = found[0]
    assert isinstance(first, CaptureRecord)
    assert (first.request, first.answer, first.model, first.by, first.escalate) == ("ä\n", "ä\n", "echo", None, True)
    assert (first.prompt_tokens, first.answer_tokens, first.share) == (1, 1, 1)
    assert 0 < first.seconds < 10


@pytest.mark.slow
def test_each_answer_says_whether_it_belongs_to_the_share_that_is_kept(tmp_path: Path) -> None:
    request_log = RequestLog(tmp_path / "kept", share=0.25)
    with TestClient(build_app(OneModel(Labels()), request_log=request_log)) as client:
        answers = [client.post("/v1/classify", json={"text": "a"}).json() for _ in range(200)]
        # Feedback is kept, whether the answer was kept or not.
        left = next(each for each in answers if not each["captured"])
        assert client.post("/v1/feedback", json={"id": left["id"], "right": True}).json()["captured"]
        metrics = client.get("/metrics").text
    *found, feedback = kept(tmp_path)
    assert {each.id for each in found} == {each["id"] for each in answers if each["captured"]}
    assert 20 < len(found) < 85, "a quarter of 200, give or take five standard deviations"
    assert all(isinstance(each, CaptureRecord) and each.share == 0.25 for each in found)
    assert feedback.id == left["id"]
    assert f'tunewright_captures_total{{kept="true"}} {len(found) + 1}.0' in metrics
    assert 'kept="false"' not in metrics, "nothing failed"


def test_the_id_alone_decides_which_requests_are_kept(tmp_path: Path) -> None:
    ids = [f"{number:032x}" for number in range(1000)]
    small, same, large = (RequestLog(tmp_path / name, share) for name, share in [("a", 0.1), ("b", 0.1), ("c", 0.5)])
    taken = {each for each in ids if small.takes(each)}
    assert taken == {each for each in ids if same.takes(each)}
    assert taken < {each for each in ids if large.takes(each)}
    assert 60 < len(taken) < 140


NAMED = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


class Records(Echo):
    bundle = SimpleNamespace(**{**vars(Echo.bundle), "task": ExtractTask("Who?", NAMED)})

    def __init__(self) -> None:
        super().__init__("extract")

    def answer(self, text: str) -> Answer:
        name = text.split(",")[0].removeprefix("Mrs. ")
        record = {
            "name": name,
            "mail of ada@example.org": "ada@example.org",
            "order": 4711,
            "note": 'a "b" \\ \u00e4: ',
        }
        return Answer(json.dumps(record, ensure_ascii=False, separators=(",", ":")), 1.0, 1, 1)


def redacting(tmp_path: Path, engine: Echo) -> TestClient:
    request_log = RequestLog(tmp_path / "kept", redact=redact)
    return TestClient(build_app(OneModel(engine), request_log=request_log))


def test_personal_data_is_redacted_before_an_entry_is_written(tmp_path: Path) -> None:
    with redacting(tmp_path, Records()) as client:
        request = "Mrs. Ada Lovelace, ada@example.org, wants her money on DE89 3704 0044 0532 0130 00."
        answer = client.post("/v1/extract", json={"text": request}).json()
        assert answer["record"]["name"] == "Ada Lovelace", "the client gets the whole answer"
        body = {"id": answer["id"], "right": False, "answer": {"name": "Ada"}, "comment": "write to ada@example.org"}
        assert client.post("/v1/feedback", json=body).json()["captured"]
    (file,) = (tmp_path / "kept").iterdir()
    written = file.read_text("utf-8")
    for secret in ("Lovelace", "3704", '"ada@'):
        assert secret not in written
    capture, feedback = kept(tmp_path)
    assert isinstance(capture, CaptureRecord) and isinstance(feedback, Feedback)
    assert capture.request == "Mrs. [PERSON], [EMAIL], wants her money on [IBAN]."
    assert json.loads(capture.answer) == {
        "name": "[PERSON]",
        "mail of ada@example.org": "[EMAIL]",
        "order": 4711,
        "note": 'a "b" \\ ä: ',
    }
    assert feedback.comment == "write to [EMAIL]"


def test_a_label_is_not_redacted(tmp_path: Path) -> None:
    class Names(Labels):
        def answer(self, text: str) -> Answer:  # noqa: ARG002
            return Answer("ada@example.org", 1.0, 1, 1)

    with redacting(tmp_path, Names()) as client:
        client.post("/v1/classify", json={"text": "ada@example.org"})
    (only,) = kept(tmp_path)
    assert isinstance(only, CaptureRecord)
    assert (only.request, only.answer) == ("[EMAIL]", "ada@example.org")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ', "x" * 1_000_000, '["\\ud800"]', "\0", '"', '["a", "b":]'])
def test_any_answer_can_be_redacted(text: str) -> None:
    entry = CaptureRecord(
        id="1",
        time=now(),
        model="m",
        by=None,
        version="v",
        request=text,
        answer=text,
        confidence=None,
        escalate=None,
        in_scope=None,
    )
    found = redact(entry, from_fixed_set=False)
    assert isinstance(found, CaptureRecord)
    assert (found.request, found.answer) == (text, text)


def test_capture_options_need_a_folder() -> None:
    for options in ({"capture_share": 0.5}, {"redact": True}):
        with pytest.raises(UserError, match="--captures"):
            Limits(**options)


@pytest.mark.slow
def test_a_server_loads_name_lists_only_for_redaction() -> None:
    code = "import sys, tunewright.serving.server, tunewright.serving.app; print('tunewright.pii' in sys.modules)"
    assert python("-c", code).stdout.strip() == "False"


def test_a_new_file_is_begun_each_day_and_beyond_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request_log = RequestLog(tmp_path)
    entries = [
        Feedback(id=str(number), time=now(), model="m", by=None, right=True, answer=None, comment="")
        for number in range(4)
    ]
    assert request_log.keep(entries[0])
    monkeypatch.setattr(line_log, "MOST_BYTES", 1)
    assert request_log.keep(entries[1])
    monkeypatch.undo()
    assert request_log.keep(entries[2])
    monkeypatch.setattr(line_log, "MOST_SECONDS", 0)
    assert request_log.keep(entries[3])
    assert len(list(tmp_path.iterdir())) == 3
    assert sorted(each.id for each in read_captures(tmp_path)) == ["0", "1", "2", "3"]


def test_half_a_letter_is_refused_and_a_nul_is_kept(client: TestClient, tmp_path: Path) -> None:
    half = b'"\\ud800"'
    headers = {"Content-Type": "application/json"}
    for route, body in [
        ("/v1/classify", b'{"text": ' + half + b"}"),
        ("/v1/chat/completions", b'{"model": "echo", "messages": [{"role": "user", "content": ' + half + b"}]}"),
        ("/v1/feedback", b'{"id": "1", "right": true, "comment": ' + half + b"}"),
        ("/v1/feedback", b'{"id": "1", "right": false, "answer": {"a": ' + half + b"}}"),
        ("/v1/feedback", b'{"id": ' + half + b', "right": true}'),
    ]:
        assert client.post(route, content=body, headers=headers).status_code == 400
    assert client.post("/v1/classify", json={"text": "a\0b"}).json()["captured"]
    (only,) = kept(tmp_path)
    assert isinstance(only, CaptureRecord) and only.request == "a\0b"


def test_captures_are_readable_for_their_owner_only(client: TestClient, tmp_path: Path) -> None:
    assert client.post("/v1/classify", json={"text": "a"}).is_success
    (file,) = (tmp_path / "kept").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_refused_request_is_not_kept(client: TestClient, tmp_path: Path) -> None:
    assert client.post("/v1/classify", json={"text": ""}).status_code == 400
    assert kept(tmp_path) == []


def test_feedback_is_kept_if_the_model_could_give_that_answer(client: TestClient, tmp_path: Path) -> None:
    answer_id = client.post("/v1/classify", json={"text": "a"}).json()["id"]
    for body in ({"right": True}, {"right": False, "answer": "b", "comment": "no"}, {"right": False}):
        answer = client.post("/v1/feedback", json={"id": answer_id, **body})
        assert answer.json() == {"id": answer_id, "captured": True}
    _, *feedback = kept(tmp_path)
    assert [(each.right, each.answer) for each in feedback if isinstance(each, Feedback)] == [
        (True, None),
        (False, "b"),
        (False, None),
    ]
    for wrong in ({"right": True, "answer": "b"}, {"right": False, "answer": "z"}, {}, {"right": True, "model": "no"}):
        assert client.post("/v1/feedback", json={"id": answer_id, **wrong}).status_code in (400, 404)
    assert len(kept(tmp_path)) == 4
    assert 'tunewright_captures_total{kept="true"} 4.0' in client.get("/metrics").text


def test_captures_have_the_name_of_the_key(tmp_path: Path) -> None:
    token = add_key(tmp_path / "keys.json", "shop")
    request_log = RequestLog(tmp_path / "kept")
    with TestClient(build_app(OneModel(Labels()), KeyRing(tmp_path / "keys.json"), request_log=request_log)) as client:
        assert client.post("/v1/classify", json={"text": "a"}).status_code == 401
        assert client.post("/v1/classify", json={"text": "a"}, headers={"Authorization": f"Bearer {token}"}).is_success
    (only,) = kept(tmp_path)
    assert only.by == "shop"


def test_without_a_folder_nothing_is_kept() -> None:
    with TestClient(build_app(OneModel(Labels()))) as client:
        answer = client.post("/v1/classify", json={"text": "a"}).json()
        assert "captured" not in answer
        refused = client.post("/v1/feedback", json={"id": answer["id"], "right": True})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_kept")


def test_a_line_that_was_cut_short_is_skipped(tmp_path: Path) -> None:
    entry = Feedback(id="1", time=now(), model="m", by=None, right=True, answer=None, comment="")
    assert RequestLog(tmp_path).keep(entry)
    assert RequestLog(tmp_path).keep(entry)
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes() + b'{"kind": "feed')
    assert list(read_captures(tmp_path)) == [entry, entry]


FULL = """
import resource, signal, sys
from pathlib import Path
from tunewright.serving.captures import RequestLog, Feedback, read_captures
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
request_log = RequestLog(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
entries = [Feedback(id=str(number), time="", model="m", by=None, right=True, answer=None, comment="long" * (number % 5))
        for number in range(20)]
kept = [each for each in entries if request_log.keep(each)]
assert 0 < len(kept) < 20
assert list(read_captures(Path(sys.argv[1]))) == kept
print(len(kept))
"""


@pytest.mark.slow
def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    """A limit on the size of a file ends a write as a full disk does: within the line, and then with an error."""
    assert int(python("-c", FULL, str(tmp_path)).stdout) > 0


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't be written"):
        RequestLog(tmp_path / "file")

"""Answering files. The engine is a fake that echoes the request; tests marked `model` use a real one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.serving.test_app import CONVERSATION, Echo
from tunewright.core.call import check_call
from tunewright.core.errors import UserError
from tunewright.core.limits import BATCH_LINE_BYTES
from tunewright.core.workers import Workers
from tunewright.inference.predictors import Answer
from tunewright.serving import batch
from tunewright.serving.batch import Batch, answer_file, answer_lines
from tunewright.serving.engine import Engine, TooLong
from tunewright.tasks.system_prompts import hash_of


class Counting(Echo):
    """Keeps the texts of its requests, and fails at some text as a killed process does."""

    at_once = 3

    def __init__(self, kind: str = "classify", dies_at: str = "", together: bool = False):
        super().__init__(kind)
        self.broken = False
        self.together = together
        self.texts: list[str] = []
        self._dies_at = dies_at

    def answer(self, text: str, narrowed: None = None) -> Answer:  # noqa: ARG002 (the engine's own)
        if text == self._dies_at:
            raise KeyboardInterrupt
        if self.broken or text == "breaks the model":
            raise ValueError("broken")
        if text.startswith("long"):
            raise TooLong("The request has 9 tokens, this model takes 5.")
        self.texts.append(text)
        return super().answer(text)

    def answers(self, texts: Sequence[str]) -> list[Answer | TooLong]:
        return [self._answer_or_refuse(text) for text in texts]

    _answer = answer
    _answer_or_refuse = Engine._answer_or_refuse


def here(function: Callable[..., Any], parts: Sequence[tuple[Any, ...]], **_: object) -> Iterator[Any]:
    return (function(*part) for part in parts)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Counting]:
    """Replaces the bundle's engine by a fake, in this process."""

    def make(**settings: Any) -> Counting:
        counting = Counting(**settings)
        monkeypatch.setattr(batch, "_engine", lambda *_: counting)
        return counting

    bundle = SimpleNamespace(info=SimpleNamespace(runtime="onnxruntime"), weight_bytes=1)
    monkeypatch.setattr(batch, "load_bundle", lambda _: bundle)
    monkeypatch.setattr(batch, "each", here)
    return make


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "weights").write_text("w")
    return tmp_path / "bundle"


def written(folder: Path, count: int) -> Path:
    file = folder / "in.jsonl"
    file.write_text("".join(json.dumps({"text": f"text {n}"}) + "\n" for n in range(count)))
    return file


def labels(file: Path) -> list[str]:
    return [json.loads(line)["label"] for line in file.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_every_line_is_answered_once_and_in_order(
    count: int, together: bool, engine: Any, bundle: Path, tmp_path: Path
) -> None:
    counting = engine(together=together)
    found = answer_file(bundle, written(tmp_path, count), tmp_path / "out.jsonl", chunk=3)
    assert (found.lines, found.refused, found.kept) == (count, 0, 0)
    assert labels(tmp_path / "out.jsonl") == sorted(counting.texts) == [f"text {n}" for n in range(count)]
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.parametrize("name", ["0000000.jsonl", "0000001.jsonl", ".joined"])
def test_the_output_may_be_called_as_a_part_is(name: str, engine: Any, bundle: Path, tmp_path: Path) -> None:
    engine()
    answer_file(bundle, written(tmp_path, 7), tmp_path / name, chunk=3)
    assert labels(tmp_path / name) == [f"text {n}" for n in range(7)]


def test_after_a_kill_only_missing_chunks_are_answered(engine: Any, bundle: Path, tmp_path: Path) -> None:
    source, target = written(tmp_path, 8), tmp_path / "out.jsonl"
    engine(dies_at="text 4")
    with pytest.raises(KeyboardInterrupt):
        answer_file(bundle, source, target, chunk=3)
    assert not target.exists()
    counting = engine()
    found = answer_file(bundle, source, target, chunk=3)
    assert (found.lines, found.kept) == (8, 3)
    assert sorted(counting.texts) == [f"text {n}" for n in range(3, 8)], "the chunk that was cut off starts again"
    assert labels(target) == [f"text {n}" for n in range(8)]


@pytest.mark.parametrize("changed", ["input", "bundle"])
def test_parts_of_another_job_are_not_mixed_in(changed: str, engine: Any, bundle: Path, tmp_path: Path) -> None:
    source, target = written(tmp_path, 8), tmp_path / "out.jsonl"
    engine(dies_at="text 4")
    with pytest.raises(KeyboardInterrupt):
        answer_file(bundle, source, target, chunk=3)
    if changed == "input":
        source.write_text(source.read_text() + '{"text": "more"}\n')
    else:
        (bundle / "weights").write_text("v")
    engine()
    with pytest.raises(UserError, match="belongs to another input or bundle"):
        answer_file(bundle, source, target, chunk=3)
    assert not target.exists()


def test_an_existing_output_is_not_overwritten(engine: Any, bundle: Path, tmp_path: Path) -> None:
    engine()
    (tmp_path / "out.jsonl").write_text("mine")
    with pytest.raises(UserError, match="there already"):
        answer_file(bundle, written(tmp_path, 1), tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text() == "mine"
    with pytest.raises(UserError, match="no such file"):
        answer_file(bundle, tmp_path / "absent.jsonl", tmp_path / "new.jsonl")


@pytest.mark.parametrize(
    ("line", "name", "code"),
    [
        (b"{", {"line": 7}, "invalid_json"),
        (b"", {"line": 7}, "invalid_json"),
        (b"[1]", {"line": 7}, "invalid_json"),
        (b"\xff", {"line": 7}, "invalid_json"),
        (b'{"id": "\\ud800", "text": "a"}', {"line": 7}, "invalid_json"),
        (b'{"id": "a", "text": "\\ud800"}', {"line": 7}, "invalid_json"),
        (b"[" * 100_000, {"line": 7}, "invalid_json"),
        (b'{"id": ' + b"[" * 500 + b"]" * 500 + b', "text": "a"}', {"line": 7}, "invalid_json"),
        (b'{"id": NaN, "text": "a"}', {"line": 7}, "invalid_json"),
        (b'{"id": 1e999, "text": "a"}', {"line": 7}, "invalid_json"),
        (b'{"id": ' + b"9" * 5000 + b', "text": "a"}', {"line": 7}, "invalid_json"),
        (b'{"text": "' + b"a" * BATCH_LINE_BYTES + b'"}', {"line": 7}, "invalid_json"),
        (b'{"id": "a"}', {"id": "a"}, "invalid_value"),
        (b'{"id": "a", "text": " "}', {"id": "a"}, "invalid_value"),
        (b'{"id": "a", "text": 5}', {"id": "a"}, "invalid_value"),
        (b'{"text": "long text"}', {"line": 7}, "context_length_exceeded"),
        (b'{"custom_id": "c", "body": {"messages": []}}', {"custom_id": "c"}, "invalid_value"),
        (b'{"custom_id": "c", "body": 5}', {"custom_id": "c"}, "invalid_value"),
        (b'{"id": "d", "document": {"name": "a.pdf", "content": "JVBERi0="}}', {"id": "d"}, "invalid_document"),
    ],
)
def test_a_line_without_an_answer_gets_an_error(line: bytes, name: dict, code: str) -> None:
    (found,) = answer_lines(Counting(), [(7, line)])
    assert found.pop("error")["code"] == code
    assert found == name


def test_refused_lines_are_counted_and_other_lines_answered(engine: Any, bundle: Path, tmp_path: Path) -> None:
    engine()
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a"}\n{\n{"text": "the word \\"error\\""}\n{"text": "b"}')
    found = answer_file(bundle, source, tmp_path / "out.jsonl")
    assert (found.lines, found.refused) == (4, 1)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [row.get("label") for row in rows] == ["a", None, 'the word "error"', "b"]
    assert rows[1]["error"]["code"] == "invalid_json"


HOSTILE = [
    b'{"id": "a\\ud800", "text": "x"}',
    b"[" * 100_000,
    b'{"id": NaN, "text": "x"}',
    b'{"id": ' + b"9" * 5000 + b"}",
    b"\xff\xfe",
    b"\0",
    b'{"text": "breaks the model"}',
    b"x" * 300,
]


@pytest.mark.parametrize("together", [False, True])
def test_no_line_aborts_a_batch_or_its_next_run(
    together: bool, engine: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "BATCH_LINE_BYTES", 250)
    good = '{"id": "a\u2028b\x85", "text": "an \\"error\\"\u2028"}'.encode()
    lines = [each for bad in HOSTILE for each in (good, bad)]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(b"\n".join([*lines, b'{"text": "stop"}', good]))
    engine(dies_at="stop", together=together)
    with pytest.raises(KeyboardInterrupt):
        answer_file(bundle, source, target, chunk=3)
    engine(together=together)
    found = answer_file(bundle, source, target, chunk=3)
    assert (found.lines, found.refused, found.kept) == (18, 8, 15)
    rows = [json.loads(line) for line in target.read_bytes().split(b"\n") if line]
    assert ["error" in row for row in rows] == [False, True] * 8 + [False] * 2
    assert {row["id"] for row in rows if "label" in row and "id" in row} == {"a\u2028b\x85"}
    assert rows[13]["error"]["code"] == "internal_error"


@pytest.mark.parametrize("together", [False, True])
def test_a_dead_model_ends_the_batch(together: bool, engine: Any, bundle: Path, tmp_path: Path) -> None:
    engine(together=together).broken = True
    with pytest.raises(ValueError, match="broken"):
        answer_file(bundle, written(tmp_path, 2), tmp_path / "out.jsonl")


def on_one_worker(engine: Callable[[str], Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    """Answer by a function, two texts at once, in one worker that has the whole machine."""
    made = Counting()
    made.at_once, made.answer = 2, engine
    monkeypatch.setattr(batch, "_engine", lambda *_: made)
    monkeypatch.setattr(batch, "_workers", lambda _: Workers(1, 2))


def test_the_next_chunk_begins_before_the_last_line_of_one_is_answered(
    engine: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine()
    begun = threading.Event()

    def answer(text: str) -> Answer:
        if text == "text 2":
            assert begun.wait(10), "the core of text 3 waits"
        if text == "text 3":
            begun.set()
        return Answer(text, 1.0)

    on_one_worker(answer, monkeypatch)
    answer_file(bundle, written(tmp_path, 7), tmp_path / "out.jsonl", chunk=3)
    assert labels(tmp_path / "out.jsonl") == [f"text {n}" for n in range(7)]


def test_answers_that_are_being_written_stop_when_the_batch_ends(
    engine: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After Ctrl-C nobody waits for a long text."""
    engine()
    writing, asked = threading.Event(), []

    def answer(text: str) -> Answer:
        asked.append(text)
        if text == "text 0":
            writing.wait(10)
            raise KeyboardInterrupt
        writing.set()
        until = time.monotonic() + 10
        while time.monotonic() < until:
            check_call()
        return Answer(text, 1.0)

    on_one_worker(answer, monkeypatch)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        answer_file(bundle, written(tmp_path, 7), tmp_path / "out.jsonl", chunk=3)
    assert time.monotonic() - began < 5
    assert len(asked) < 5, "what has not begun does not begin"


def test_chunks_have_a_size_limit(engine: Any, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "BATCH_CHUNK_BYTES", 100)
    engine()
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"text": "a" * size}) + "\n" for size in (30, 30, 200, 10, 10)))
    chunks, lines = batch._chunks(source, 500)
    assert lines == 5
    assert [(each.first, each.lines) for each in chunks] == [(1, 2), (3, 1), (4, 2)]
    assert answer_file(bundle, source, tmp_path / "out.jsonl").refused == 0


def test_openais_batch_format_is_read() -> None:
    body = {"model": "x", "messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "hello"}]}
    line = json.dumps({"custom_id": "c-1", "method": "POST", "url": "/v1/chat/completions", "body": body}).encode()
    flags = {"confidence": 1.0, "escalate": True, "in_scope": None}
    expected = {"custom_id": "c-1", "label": "hello", **flags}
    assert answer_lines(Counting(), [(1, line)]) == [expected]


def test_a_system_prompt_of_another_job_is_refused() -> None:
    knowing = Counting()
    knowing.bundle = SimpleNamespace(
        info=SimpleNamespace(**{**vars(Echo.bundle.info), "system_prompts": [hash_of("Route it.")]}),
        flags=Echo.bundle.flags,
        task=Echo.bundle.task,
    )
    lines = [
        json.dumps({"body": {"messages": [{"role": "system", "content": told}, {"role": "user", "content": "hi"}]}})
        for told in ("Route it.", "Translate it.")
    ]
    known, other = answer_lines(knowing, [(n, line.encode()) for n, line in enumerate(lines, 1)])
    assert known["label"] == "hi"
    assert other["error"]["code"] == "invalid_value"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"tools": [{"type": "function", "function": {"name": "a"}}]}, "calls no tools"),
        ({"stop": ["."]}, "leave stop and response_format away"),
        ({"response_format": {"type": "json_object"}}, "leave stop and response_format away"),
        ({"max_tokens": 1}, "The answer has 2 tokens, the line allows 1"),
        ({"n": 2}, "n: Input should be 1"),
        ({"max_tokens": 2, "temperature": 0}, None),
    ],
)
def test_a_line_in_openais_format_gets_what_it_asks_for_or_an_error(more: dict[str, Any], told: str | None) -> None:
    class Writing(Counting):
        def answer(self, text: str, narrowed: None = None) -> Answer:
            return replace(super().answer(text, narrowed), answer_tokens=2)

        _answer = answer

    writing = Writing()
    writing.kind = "generate"
    line = json.dumps({"custom_id": "c", "body": {"messages": [{"role": "user", "content": "hi"}], **more}}).encode()
    (found,) = answer_lines(writing, [(1, line)])
    assert told in found["error"]["message"] if told else "hi" in found["text"]


def test_a_conversation_in_openais_format_is_refused_or_read_as_the_server_reads_it() -> None:
    line = json.dumps({"custom_id": "c", "body": {"messages": CONVERSATION}}).encode()
    alone, taught = Counting(), Counting()
    taught.bundle = SimpleNamespace(
        info=SimpleNamespace(
            **{**vars(Echo.bundle.info), "task": SimpleNamespace(earlier_turns=1, input_template=None)}
        ),
        flags=Echo.bundle.flags,
        task=Echo.bundle.task,
    )
    (refused,) = answer_lines(alone, [(1, line)])
    assert "exactly one user message" in refused["error"]["message"]
    (answered,) = answer_lines(taught, [(1, line)])
    assert answered["label"] == "assistant: What about it?\n\nuser: It is gone."


@pytest.mark.parametrize(
    ("kind", "key", "more"), [("extract", "record", {"fields": {}}), ("generate", "text", {"finish_reason": "stop"})]
)
def test_records_and_texts_are_answered_too(kind: str, key: str, more: dict[str, Any]) -> None:
    (found,) = answer_lines(Counting(kind), [(1, b'{"id": 5, "text": "hello"}')])
    assert found["id"] == 5
    assert found[key]
    assert more.items() <= found.items()


def test_the_speed_counts_only_lines_of_this_run() -> None:
    assert Batch(lines=100, refused=0, kept=40, seconds=3.0).per_second == 20
    assert Batch(lines=0, refused=0, kept=0, seconds=0.0).per_second == 0

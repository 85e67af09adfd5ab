"""Written examples read back unchanged, and random input never ends in an exception."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.readers.helpers import lines, read_all, talk, user, write
from tunewright.data.readers import Columns, write_chat
from tunewright.tasks import Example, Message, Meta

quick = settings(
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
answer = text.filter(str.strip)
leaf = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | text
)
value = st.recursive(
    leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=6
)
weight = st.none() | st.just(1.0) | st.floats(0.125, 2)
calls = st.lists(
    st.builds(
        lambda name, arguments: {"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}},
        text,
        text,
    ),
    min_size=1,
    max_size=2,
)
message_extra = st.dictionaries(st.sampled_from(["audio", "note"]), value.filter(lambda v: v is not None and v != []))
taken = {"messages", "tools", "weight", "group", "time", "choices", "request"}
extra = st.dictionaries(text.filter(lambda key: key not in taken), value, max_size=3)


@st.composite
def messages(draw: st.DrawFn) -> list[Message]:
    result = [Message(role="system", content=draw(text))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        result.append(Message(role="user", content=draw(text), name=draw(st.none() | text)))
        if draw(st.booleans()):
            content = draw(text.filter(bool) | st.just(""))
            result.append(Message(role="assistant", content=content, tool_calls=draw(calls)))
            result.append(Message(role="tool", content=draw(text), tool_call_id="c"))
        result.append(Message(role="assistant", content=draw(answer), weight=draw(weight), extra=draw(message_extra)))
    return result


examples = st.builds(
    Example,
    messages=messages(),
    meta=st.builds(Meta, id=st.just("x"), group=st.just("g"), time=st.just("t"), extra=extra),
    weight=st.floats(0, 100),
    tools=st.none() | st.lists(st.dictionaries(text, value, max_size=2), min_size=1, max_size=2),
)


@pytest.mark.slow
@quick
@given(written=st.lists(examples, min_size=1, max_size=4))
def test_written_examples_read_back_the_same(written: list[Example], tmp_path: Path) -> None:
    write_chat(tmp_path / "d.jsonl", written, Columns("text", "label", "group", "time"))
    found = read_all(tmp_path / "d.jsonl", "chat", Columns(group="group", time="time"))
    assert not found.faults
    for number, example in enumerate(written, 1):
        example.meta.id = example.meta.source = f"d.jsonl:{number}"
    assert found.examples == written


@pytest.mark.slow
@quick
@given(examples)
def test_a_dataset_row_holds_the_whole_example(example: Example) -> None:
    assert Example.model_validate(json.loads(json.dumps(example.row(), ensure_ascii=False))) == example


def test_written_rows_are_in_openais_format(tmp_path: Path) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [
        user("q"),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "3", "tool_call_id": "c"},
        {"role": "assistant", "content": "a", "weight": 1},
    ]
    row = {"messages": turns, "tools": [{"type": "function"}], "parallel_tool_calls": False}
    write_chat(tmp_path / "out.jsonl", read_all(write(tmp_path / "in.jsonl", lines([row]))).examples, Columns())
    content = (tmp_path / "out.jsonl").read_text("utf-8")
    assert json.loads(content) == row
    assert '"weight": 1}' in content


@pytest.mark.parametrize("name", ["d.jsonl", "d.csv", "d.json", "d.parquet", "d.tsv"])
@quick
@given(content=st.binary(max_size=200) | text.map(str.encode), packed=st.booleans())
def test_random_bytes_never_raise(name: str, content: bytes, packed: bool, tmp_path: Path) -> None:
    found = read_all(write(tmp_path / name, gzip.compress(content) if packed else content))
    assert found.faults or found.examples or content.strip(b'", \t\r\n;|')


@pytest.mark.slow
@quick
@given(rows=st.lists(st.dictionaries(st.sampled_from(["messages", "tools", "weight", "choices"]), value), max_size=4))
def test_random_objects_never_raise_and_none_is_lost(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    found = read_all(write(tmp_path / "d.jsonl", lines([talk(), *rows])), "chat")
    assert len(found.examples) + len(found.faults) == len(rows) + 1


@quick
@given(changes=st.dictionaries(st.sampled_from(["role", "content", "tool_calls", "weight", "name"]), value))
def test_random_messages_never_raise(changes: dict[str, Any], tmp_path: Path) -> None:
    broken = {"role": "assistant", "content": "x"} | changes
    found = read_all(write(tmp_path / "d.jsonl", lines([{"messages": [user("q"), broken]}])))
    assert len(found.examples) + len(found.faults) == 1

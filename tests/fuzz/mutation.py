"""Inputs made of seeds: bytes that are cut, doubled, spliced and strewn with what breaks parsers, and JSON whose values
are others than they should be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests.fuzz.running import Input

SEEDS = Path(__file__).parent / "seeds"
MOST_BYTES = 64 << 10
"""Of an example; what grows faster than its input shows before that."""
NASTY = (
    # JSON and numbers
    rb"\ud800",
    rb"\udfff\ud800",
    rb"\u0000",
    rb"\u2028",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-1e-999",
    b"-0",
    b"1e400",
    b"9" * 5000,
    b"0." + b"9" * 5000,
    b"1" + b"0" * 400,
    b"9223372036854775808",
    b"[" * 1200,
    b'{"a":' * 1200,
    b"[" * 60 + b"]" * 60,
    b'{"a":1,"a":2}',
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b'"',
    b"'",
    b"\\",
    b",",
    b":",
    # Text
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xfe\xff",
    b"\xff\xfe\0\0",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"\xf4\x90\x80\x80",
    b"\x80",
    b"\xe9",
    "\u2028\u2029\x85\x0b\x0c\x1c".encode(),
    "\u202e\u200f\u2066".encode(),
    "a\u0301".encode(),
    ("a" + "\u0301" * 1000).encode(),
    "\U0001f468\u200d\U0001f469".encode(),
    "\ufdfa\u1e9e\u0130".encode(),
    b"\r",
    b"\n",
    b"\r\n",
    b"\n\n",
    b"\t",
    b" " * 3000,
    b"a" * 3000,
    b"\x1b[31m",
    b"\x7f",
    # Markup
    b'<!DOCTYPE a [<!ENTITY b "c"><!ENTITY d "&b;&b;&b;">]>',
    b'<!ENTITY % x SYSTEM "file:///etc/passwd">',
    b"&d;",
    b"&#0;",
    b"&#xd800;",
    b"&#99999999999;",
    b"<a>" * 2000,
    b"<table><tr><td>" * 300,
    b"<![CDATA[",
    b"<!--",
    b"<script>",
    b'<?xml version="1.0" encoding="utf-7"?>',
    b"bbox 0 0 nan 1e999",
    b"</",
    b"/>",
    # PDF
    b"%PDF-1.7\n",
    b"stream\n",
    b"endobj\n",
    b"1 0 obj\n",
    b"/Length 99999999999 ",
    b"/Kids [1 0 R 1 0 R] ",
    b"xref\n0 1\n",
    b"startxref\n0\n%%EOF",
    b"/Filter [/FlateDecode /FlateDecode] ",
    b"<<" * 500,
    b"BT /F1 1e30 Tf (a) Tj ET\n",
    # YAML
    b"!!python/object/apply:os.system [id]",
    b"!!python/name:os.system ",
    b"&a [*a]",
    b"&a {<<: *a}",
    b"*a",
    b"<<: ",
    b"!!binary ",
    b"!!timestamp ",
    b"2001-13-32",
    b"0o17",
    b"190:20:30",
    b".inf",
    b"~",
    b"? ",
    b"- ",
    b"---\n",
    b"%YAML 9.9\n",
    b"!",
    b"|\n",
    b">9\n",
    b"a: " * 50,
    b"\n  ",
    b"#",
    # Mail and HTTP
    b"\nContent-Type: multipart/mixed; boundary=a\n",
    b"\n--a\n",
    b"\n--a--\n",
    b"Content-Transfer-Encoding: base64\n",
    b"charset=utf-7",
    b"charset=nonesuch",
    b"=?utf-8?b?////?=",
    b"=?utf-8?q?=FF?=" * 100,
    b"; a*0*=utf-8''%FF",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"5;a=b\r\n",
    b"%00",
    b"%2e%2e%2f",
    b"%ff",
    b"%",
    b"HTTP/9.9",
    b"Host: \r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"../../",
    # Gzip, Parquet, zip
    b"\x1f\x8b\x08\0\0\0\0\0",
    b"PAR1",
    b"PK\x03\x04",
    # Templates and schemas
    b"{{",
    b"}}",
    b"{% for i in range(9) %}",
    b"{%",
    b"{#",
    b"__class__",
    b"$ref",
    b"#/$defs/a",
    b"(a+)+$",
    b"[z-a]",
    b"{9999}",
)
WORDS = ("a", "type", "kind", "name", "", "__proto__", "\ud800", "\0", "$ref", "a.b", "a" * 300)
"""Keys that no object of ours should have."""
_TOKEN = re.compile(rb'"(?:[^"\\\n]|\\.){0,80}"|-?\d+(?:\.\d+)?|[A-Za-z_][\w-]*')
_DEEP = [json.loads("[" * depth + "]" * depth) for depth in (60, 200, 600)]
_SCALARS: SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        -1,
        1,
        2**31,
        2**63,
        -(2**64),
        10**400,
        0.5,
        -0.0,
        1e308,
        5e-324,
        float("nan"),
        float("inf"),
        "",
        " ",
        "a",
        "0",
        "null",
        "\0",
        "\ud800",
        "\udfff\ud800",
        "\u2028",
        "\u202e",
        "a" + "\u0301" * 1000,
        "a" * 5000,
        "../../x",
        "/",
        ".",
        "~",
        "http://[",
        "a:b",
        "%s{}{0}",
        "${x}",
        "{{ x }}",
        "(a+)+$",
        "[z-a]",
        "*",
        "9" * 5000,
        "2026-02-30",
        "9999-12-31T23:59:59-14:00",
        "\n",
        "\U0001f468\u200d\U0001f469",
        "é",
        "None",
        "1e999",
        *_DEEP,
    ]
)
ANYTHING: SearchStrategy[Any] = st.recursive(
    _SCALARS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=5,
)
"""JSON values that are rarely the wanted ones."""


def seeds(target: str) -> list[Input]:
    """The kept inputs of a target: (name, bytes)."""
    files = sorted(path for path in (SEEDS / target).iterdir())
    return [(path.name.rpartition("~")[2], path.read_bytes()) for path in files]


def names(target: str) -> list[str]:
    """What the seeds are called, in the same order."""
    return sorted(path.name for path in (SEEDS / target).iterdir())


@st.composite
def mutated(draw: DrawFn, target: str, also: tuple[Input, ...] = ()) -> Input:
    """A seed, changed in up to six places.

    Args:
        also: seeds that the test has made.
    """
    known = [*seeds(target), *also]
    name, content = draw(st.sampled_from(known))
    for _ in range(draw(st.integers(1, 6))):
        content = _changed(draw, content, known)[:MOST_BYTES]
    return name, content


def _changed(draw: DrawFn, content: bytes, known: list[Input]) -> bytes:
    how = draw(st.sampled_from(["replace", "insert", "flip", "delete", "repeat", "splice", "cut"]))
    if how == "replace" and (spans := [found.span() for found in _TOKEN.finditer(content)]):
        start, end = draw(st.sampled_from(spans))
        return content[:start] + draw(st.sampled_from(NASTY)) + content[end:]
    at = draw(st.integers(0, len(content)))
    before, after = content[:at], content[at:]
    size = draw(st.integers(1, 40))
    match how:
        case "flip":
            return before + bytes([draw(st.integers(0, 255))]) + after[1:]
        case "delete":
            return before + after[size:]
        case "repeat":
            return before + after[:size] * draw(st.sampled_from([2, 3, 100, 1000])) + after[size:]
        case "splice":
            other = draw(st.sampled_from(known))[1]
            return before + other[draw(st.integers(0, len(other))) :]
        case "cut":
            return before
        case _:
            return before + draw(st.sampled_from(NASTY)) + after


@st.composite
def rewritten(draw: DrawFn, known: list[Any], keys: tuple[str, ...] = ()) -> Any:
    """A JSON value of those known, some of whose values are others, doubled or gone.

    Args:
        keys: that may be added to its objects.
    """
    value = draw(st.sampled_from(known))
    for _ in range(draw(st.integers(1, 4))):
        value = _elsewhere(draw, value, known, (*keys, *WORDS))
    return value


def _elsewhere(draw: DrawFn, value: Any, known: list[Any], keys: tuple[str, ...]) -> Any:
    """A value with a change somewhere in it; nothing of it is written to."""
    within = sorted(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    if not within or draw(st.integers(0, 3)) == 0:
        how = draw(st.sampled_from(["other", "other", "list", "add", "graft"]))
        if how == "list":
            return [value] * draw(st.sampled_from([1, 2, 50]))
        if how == "add" and isinstance(value, dict):
            return value | {draw(st.sampled_from(keys)): draw(ANYTHING)}
        if how == "graft":
            return _part(draw, draw(st.sampled_from(known)))
        return draw(ANYTHING)
    key = draw(st.sampled_from(list(within)))
    if draw(st.integers(0, 9)) == 0:
        if isinstance(value, dict):
            return {name: each for name, each in value.items() if name != key}
        return value[:key] + value[key + 1 :]
    fresh = _elsewhere(draw, value[key], known, keys)
    return value | {key: fresh} if isinstance(value, dict) else [*value[:key], fresh, *value[key + 1 :]]


def _part(draw: DrawFn, value: Any) -> Any:
    while isinstance(value, (dict, list)) and value and draw(st.booleans()):
        value = draw(st.sampled_from(list(value.values()) if isinstance(value, dict) else value))
    return value


def as_json(value: Any) -> bytes:
    """Half letters and infinities as Python writes them, and as deep as it does."""
    try:
        return json.dumps(value).encode()
    except RecursionError:
        return b"[" * 1200 + b"]" * 1200


def json_of(known: list[Any], name: str, keys: tuple[str, ...] = ()) -> SearchStrategy[Input]:
    """`rewritten` values as files of a name."""
    return rewritten(known, keys).map(lambda value: (name, as_json(value)))

"""Read an upstream's answer while it passes: its texts and tool calls, streams put together, and its usage block.

The reader gets the bytes that the client gets. Whatever it can't read it gives up: an answer passes in any case.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tunewright.economics.usage import TokenUsage, read_usage
from tunewright.gateway.routes import Kind

ENCODINGS = ("gzip", "deflate")
"""The encodings of a body that the reader decodes."""
_TAIL = 4 << 10
"""Bytes at the end of a large answer in which its usage block lies."""
_TIER = re.compile(r'"service_tier"\s*:\s*"(\w+)"')
"""The service tier in JSON. A text can't look so, because its quotes are escaped."""
_COUNTED = 64 << 10
"""Bytes of an answer in one piece whose letters are counted even if its texts are not kept."""
_UNPACKED = 16 << 20
"""Bytes that the reader unpacks of an answer whose texts are not kept, for the usage block at its end."""
_LONGEST_EVENT = 8 << 20
"""Bytes of an event that the reader holds. Parts of pictures come in megabytes."""
_MOST_PARTS = 1000
"""Alternatives and calls of a stream that are put together. OpenAI gives at most 128 alternatives."""
_LONGEST_REASON = 100
"""Letters of a finish reason in a stream. OpenAI's have 14 at most."""
_FINISHED = ("stop", "tool_calls", "function_call", "completed")
"""How an answer ends that the API has finished: not cut, filtered or failed."""
_ENDS = ("response.completed", "response.incomplete", "response.failed")
"""The last event of a stream of the Responses API. Source of this and of its other events:
developers.openai.com/api/reference (2026-11-28)."""


@dataclass
class AnswerChoice:
    """One of the alternatives of an answer; nearly always there is one."""

    text: str = ""
    refusal: str = ""
    tool_calls: list[dict[str, str]] = field(default_factory=list)
    """Each with `name` and `arguments`, a JSON text."""
    finish_reason: str | None = None

    @property
    def letters(self) -> int:
        """Of all that the model wrote."""
        called = sum(len(part) for call in self.tool_calls for part in call.values())
        return len(self.text) + len(self.refusal) + called


@dataclass
class ReadAnswer:
    """What is known of an answer."""

    model: str | None = None
    """The model that answered, by the upstream's name, which often has a date."""
    choices: list[AnswerChoice] = field(default_factory=list)
    usage: TokenUsage | None = None
    is_whole: bool = True
    """False: the answer is not all in `choices`, because it is too large, can't be read, or broke off with an error."""
    letters: int | None = None
    """Of all choices, also of those that are too large for `choices`; None: not known."""
    service_tier: str | None = None
    """The tier that the API bills, which may be another than the request asks for; None: the answer names none."""

    @property
    def finished(self) -> AnswerChoice | None:
        """The first choice, if the API has finished it; None: it is cut, filtered, refused or failed, so it does not
        show what the API would have answered."""
        first = self.choices[0] if self.is_whole and self.choices else None
        return first if first and first.finish_reason in _FINISHED and not first.refusal else None


def reader_of(kind: Kind, headers: Mapping[str, str], largest: int) -> AnswerReader:
    """The reader of an answer with these headers; see `AnswerReader`."""
    encoding = headers.get("content-encoding", "").strip().lower()
    return AnswerReader(kind, headers.get("content-type", ""), encoding, largest)


class AnswerReader:
    """Reads one answer.

    Args:
        content_type: of the answer, as sent.
        encoding: the Content-Encoding; empty for none.
        largest: bytes of texts above which the reader keeps none of them.
    """

    def __init__(self, kind: Kind, content_type: str, encoding: str, largest: int):
        self._decode = _decoder(encoding, largest)
        is_stream = content_type.partition(";")[0].strip().lower() == "text/event-stream"
        self._body: _Stream | _Whole = _Stream(kind, largest) if is_stream else _Whole(kind, largest)

    def feed(self, piece: bytes) -> bool:
        """Read further bytes. Returns whether the answer has ended by its own words, before the connection says so."""
        if self._decode is None:
            return False
        try:
            return self._body.feed(self._decode(piece))
        except _Unreadable:
            self._decode = None
            return False

    def result(self) -> ReadAnswer:
        """What was read."""
        return ReadAnswer(is_whole=False) if self._decode is None else self._body.result()


class _Unreadable(Exception):
    """The bytes are not what they claim to be."""


def _decoder(encoding: str, largest: int) -> Callable[[bytes], bytes] | None:
    """A function that decodes pieces; None for an encoding that the reader does not know."""
    if encoding in ("", "identity"):
        return bytes
    if encoding not in ENCODINGS:
        return None
    inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip's or zlib's head
    left = max(64 * largest, _UNPACKED)

    def decode(piece: bytes) -> bytes:
        nonlocal left
        try:
            decoded = inflate.decompress(piece, left)
        except zlib.error:
            raise _Unreadable from None
        left -= len(decoded)
        if left <= 0:  # a few kilobytes can become gigabytes
            raise _Unreadable
        return decoded

    return decode


class _Whole:
    """An answer that is one JSON object."""

    def __init__(self, kind: Kind, largest: int):
        # Vectors are many and are not kept, but the usage block behind them is.
        has_texts = kind != "embeddings"
        self._kind, self._kept = kind, max(largest if has_texts else 0, 2 * _TAIL)
        self._most = max(self._kept, _COUNTED if has_texts else 0)
        """Bytes above which only the answer's end is read."""
        self._bytes = bytearray()
        self._is_cut = False

    def feed(self, piece: bytes) -> bool:
        self._bytes += piece
        if len(self._bytes) > self._most:
            self._is_cut = True
            del self._bytes[:-_TAIL]
        return False

    def result(self) -> ReadAnswer:
        if self._is_cut:
            end = bytes(self._bytes).decode("utf-8", "replace")
            is_whole = self._kind == "embeddings"
            return ReadAnswer(usage=_usage_in(end), is_whole=is_whole, service_tier=_tier_in(end))
        try:
            reply = json.loads(self._bytes)
        except (ValueError, RecursionError):
            return ReadAnswer(is_whole=False)
        answer = _read_reply(self._kind, reply) if isinstance(reply, dict) else ReadAnswer()
        if len(self._bytes) > self._kept:
            answer.choices, answer.is_whole = [], False
        return answer


class _Parts:
    """The parts of a choice of a stream."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.refusals: list[str] = []
        self.calls: dict[int, tuple[list[str], list[str]]] = {}
        """(names, arguments) by the call's index."""
        self.finish_reason: str | None = None

    def joined(self) -> AnswerChoice:
        calls = [
            {"name": "".join(names), "arguments": "".join(arguments)}
            for _, (names, arguments) in sorted(self.calls.items())
        ]
        return AnswerChoice("".join(self.texts), "".join(self.refusals), calls, self.finish_reason)


class _Stream:
    """An answer in server-sent events."""

    def __init__(self, kind: Kind, largest: int):
        self._kind, self._largest = kind, largest
        self._line: list[bytes] = []
        """The pieces of the line that has not ended."""
        self._line_bytes = 0
        self._letters = 0
        """Of the parts, also of those that are not kept."""
        self._is_readable = True
        """Whether all events could be read so far."""
        self._answer = ReadAnswer()
        self._choices: dict[int, _Parts] = {}
        self._made = 0
        """Alternatives, and calls in them."""
        self._is_kept = True
        """False: there are too many letters or parts, so that only the letters are counted."""

    def feed(self, piece: bytes) -> bool:
        first, *others = piece.split(b"\n")
        self._line.append(first)
        self._line_bytes += len(first)
        if self._line_bytes > _LONGEST_EVENT:
            raise _Unreadable
        if not others:
            return False
        *lines, last = others
        ended = False
        for line in (b"".join(self._line), *lines):
            ended |= self._read(line)
        self._line, self._line_bytes = [last], len(last)
        return ended

    def result(self) -> ReadAnswer:
        self._read(b"".join(self._line))
        if not self._answer.choices:
            self._answer.choices = [parts.joined() for _, parts in sorted(self._choices.items())]
            self._answer.letters = self._letters if self._is_readable else None
        return self._answer

    def _read(self, line: bytes) -> bool:
        """Read a line. Returns whether it is the last event."""
        if not line.startswith(b"data:"):
            return False
        data = line[5:].strip()
        if data == b"[DONE]":
            return True
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            self._answer.is_whole = self._is_readable = False
            return False
        if not isinstance(event, dict):
            return False
        if event.get("error") or event.get("type") == "error":
            self._answer.is_whole = False
        if self._kind == "responses":
            return self._read_event(event)
        self._answer.model = _text(event.get("model")) or self._answer.model
        self._answer.usage = read_usage(event.get("usage")) or self._answer.usage
        self._answer.service_tier = _text(event.get("service_tier")) or self._answer.service_tier
        for choice in _objects(event.get("choices")):
            self._add(choice)
        return False

    def _read_event(self, event: Mapping[str, Any]) -> bool:
        """Read an event of the Responses API. Returns whether it is the last one, which holds the whole answer again;
        a client may leave before it comes."""
        kind, response = event.get("type"), _object(event.get("response"))
        if kind in _ENDS and response:
            is_whole = self._answer.is_whole
            self._answer = _read_reply(self._kind, response)
            self._answer.is_whole = is_whole
            if not self._is_kept:
                self._answer.choices = []
            return True
        self._answer.model = _text(response.get("model")) or self._answer.model
        self._answer.service_tier = _text(response.get("service_tier")) or self._answer.service_tier
        item = _object(event.get("item"))
        if kind == "response.output_text.delta":
            self._keep(self._parts().texts, event.get("delta"))
        elif kind == "response.refusal.delta":
            self._keep(self._parts().refusals, event.get("delta"))
        elif kind == "response.output_item.added" and item.get("type") == "function_call":
            self._keep(self._call(self._parts(), _index(event, "output_index"))[0], item.get("name"))
        elif kind == "response.function_call_arguments.delta":
            self._keep(self._call(self._parts(), _index(event, "output_index"))[1], event.get("delta"))
        return False

    def _parts(self, index: int = 0) -> _Parts:
        """The parts of a choice, which may be new. What is too much goes into parts that nobody keeps."""
        if index not in self._choices and self._has_room():
            self._choices[index] = _Parts()
        return self._choices.get(index) or _Parts()

    def _call(self, parts: _Parts, index: int) -> tuple[list[str], list[str]]:
        """(names, arguments) of a call, which may be new; see `_parts`."""
        if index not in parts.calls and self._has_room():
            parts.calls[index] = [], []
        return parts.calls.get(index) or ([], [])

    def _has_room(self) -> bool:
        """Whether one more choice or call may be kept."""
        self._made += 1
        if self._made > _MOST_PARTS:
            self._drop()
        return self._is_kept

    def _drop(self) -> None:
        """Keep nothing of the answer but its counts."""
        self._answer.is_whole = self._is_kept = False
        self._choices.clear()

    def _add(self, choice: Mapping[str, Any]) -> None:
        """Add a part of a choice to those before it."""
        parts = self._parts(_index(choice))
        parts.finish_reason = (_text(choice.get("finish_reason")) or "")[:_LONGEST_REASON] or parts.finish_reason
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            self._keep(parts.texts, choice.get("text"))
            return
        self._keep(parts.texts, _content(delta.get("content")))
        self._keep(parts.refusals, delta.get("refusal"))
        for call in _objects(delta.get("tool_calls")):
            self._keep_call(self._call(parts, _index(call)), _function(call))
        if isinstance(old := delta.get("function_call"), dict):
            self._keep_call(self._call(parts, 0), old)

    def _keep_call(self, call: tuple[list[str], list[str]], function: Mapping[str, Any]) -> None:
        for parts, name in zip(call, ("name", "arguments"), strict=True):
            self._keep(parts, function.get(name))

    def _keep(self, parts: list[str], part: Any) -> None:
        if not isinstance(part, str) or not part:
            return
        self._letters += len(part)
        if self._letters > self._largest:
            self._drop()
        elif self._is_kept:
            parts.append(part)


def _read_reply(kind: Kind, reply: Mapping[str, Any]) -> ReadAnswer:
    """The answer in the object of a whole reply."""
    usage, tier = read_usage(reply.get("usage")), _text(reply.get("service_tier"))
    answer = ReadAnswer(_text(reply.get("model")), usage=usage, service_tier=tier)
    if kind == "responses":
        answer.choices = [_response(reply)]
    elif kind in ("chat", "completions"):
        answer.choices = [_choice(choice) for choice in _objects(reply.get("choices"))]
    answer.letters = sum(choice.letters for choice in answer.choices)
    return answer


def _choice(choice: Mapping[str, Any]) -> AnswerChoice:
    finish = _text(choice.get("finish_reason"))
    message = choice.get("message")
    if not isinstance(message, dict):
        return AnswerChoice(_text(choice.get("text")) or "", finish_reason=finish)
    calls = [_call(_function(call)) for call in _objects(message.get("tool_calls"))]
    if isinstance(old := message.get("function_call"), dict):  # the name of OpenAI's API before there were tools
        calls.append(_call(old))
    return AnswerChoice(_content(message.get("content")), _text(message.get("refusal")) or "", calls, finish)


def _response(reply: Mapping[str, Any]) -> AnswerChoice:
    choice = AnswerChoice(finish_reason=_text(reply.get("status")))
    for item in _objects(reply.get("output")):
        if item.get("type") == "function_call":
            choice.tool_calls.append(_call(item))
        for part in _objects(item.get("content")):
            if part.get("type") == "output_text":
                choice.text += _text(part.get("text")) or ""
            elif part.get("type") == "refusal":
                choice.refusal += _text(part.get("refusal")) or ""
    return choice


def _call(function: Mapping[str, Any]) -> dict[str, str]:
    return {name: _text(function.get(name)) or "" for name in ("name", "arguments")}


def _function(call: Mapping[str, Any]) -> Mapping[str, Any]:
    return _object(call.get("function"))


def _content(content: Any) -> str:
    """The text of a message, which Mistral's thinking models send in parts."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) or "" for part in _objects(content) if part.get("type") == "text")
    return _text(content) or ""


def _index(part: Mapping[str, Any], key: str = "index") -> int:
    index = part.get(key)
    return index if isinstance(index, int) else 0


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _tier_in(end: str) -> str | None:
    """The service tier near the end of a large answer."""
    found: list[str] = _TIER.findall(end)
    return found[-1] if found else None


def _usage_in(end: str) -> TokenUsage | None:
    """The usage block near the end of a large answer."""
    start = end.rfind('"usage"')
    brace = end.find("{", start) if start >= 0 else -1
    if brace < 0:
        return None
    try:
        block, _ = json.JSONDecoder().raw_decode(end, brace)
    except (ValueError, RecursionError):
        return None
    return read_usage(block)

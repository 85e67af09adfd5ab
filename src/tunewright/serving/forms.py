"""Answers in the forms of OpenAI's routes, in one piece and as server-sent events.

Source of the forms: developers.openai.com/api/reference (2026-11-30).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from tunewright.inference.predictors import Answer
from tunewright.tasks.tools import said


class Form(Protocol):
    """The form of one answer. As a stream it is `begin`, any number of `piece`, and `end`."""

    def whole(self, text: str, finish: str, usage: tuple[int, int]) -> dict[str, Any]:
        """The body of the reply.

        Args:
            finish: OpenAI's finish_reason: stop or length.
            usage: tokens of the prompt and of the answer.
        """
        ...

    def begin(self) -> Iterator[str]: ...

    def piece(self, text: str) -> str: ...

    def end(self, finish: str, usage: tuple[int, int], more: Mapping[str, Any]) -> Iterator[str]:
        """
        Args:
            more: further fields of the event that ends the answer.
        """
        ...


class ChatForm:
    """Of /v1/chat/completions.

    Args:
        model: as the client named it.
        with_usage: whether a stream ends with the token counts.
        tool: the tool that the answer calls, with its text as the arguments; None: the answer is text.
    """

    def __init__(self, identity: str, model: str, *, with_usage: bool = False, tool: str | None = None):
        self._head = {"id": identity, "created": int(time.time()), "model": model}
        self._with_usage, self._tool = with_usage, tool
        self._call = {"id": f"call_{identity[-24:]}", "type": "function"}

    def whole(self, text: str, finish: str, usage: tuple[int, int]) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": None if self._tool else text, "refusal": None}
        if self._tool:
            message["tool_calls"] = [{**self._call, "function": {"name": self._tool, "arguments": text}}]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish(finish)}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": usage_block(*usage)}

    def begin(self) -> Iterator[str]:
        if self._tool:
            call = {"index": 0, **self._call, "function": {"name": self._tool, "arguments": ""}}
            yield self._chunk({"role": "assistant", "content": None, "tool_calls": [call]})
        else:
            yield self._chunk({"role": "assistant", "content": ""})

    def piece(self, text: str) -> str:
        if self._tool:
            return self._chunk({"tool_calls": [{"index": 0, "function": {"arguments": text}}]})
        return self._chunk({"content": text})

    def end(self, finish: str, usage: tuple[int, int], more: Mapping[str, Any]) -> Iterator[str]:
        yield self._chunk({}, self._finish(finish), more)
        if self._with_usage:
            yield event({**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage_block(*usage)})
        yield "data: [DONE]\n\n"

    def _finish(self, finish: str) -> str:
        return "tool_calls" if self._tool and finish == "stop" else finish

    def _chunk(self, delta: dict[str, Any], finish: str | None = None, more: Mapping[str, Any] | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**self._head, "object": "chat.completion.chunk", "choices": [choice], **(more or {})})


class CompletionForm:
    """Of /v1/completions. Arguments as of `ChatForm`."""

    def __init__(self, identity: str, model: str, *, with_usage: bool = False):
        self._head = {"id": identity, "object": "text_completion", "created": int(time.time()), "model": model}
        self._with_usage = with_usage

    def whole(self, text: str, finish: str, usage: tuple[int, int]) -> dict[str, Any]:
        return {**self._head, "choices": [self._choice(text, finish)], "usage": usage_block(*usage)}

    def begin(self) -> Iterator[str]:
        return iter(())

    def piece(self, text: str) -> str:
        return event({**self._head, "choices": [self._choice(text, None)]})

    def end(self, finish: str, usage: tuple[int, int], more: Mapping[str, Any]) -> Iterator[str]:
        yield event({**self._head, "choices": [self._choice("", finish)], **more})
        if self._with_usage:
            yield event({**self._head, "choices": [], "usage": usage_block(*usage)})
        yield "data: [DONE]\n\n"

    @staticmethod
    def _choice(text: str, finish: str | None) -> dict[str, Any]:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}


class ResponseForm:
    """Of /v1/responses.

    Args:
        identity: without its prefix.
        model: as the client named it.
        request: the request's body, whose settings the reply repeats.
        tool: as of `ChatForm`.
    """

    def __init__(self, identity: str, model: str, request: Mapping[str, Any], tool: str | None = None):
        self._identity, self._tool = identity, tool
        self._item_id = f"{'fc' if tool else 'msg'}_{identity}"
        self._number = 0
        self._texts: list[str] = []
        self._reply: dict[str, Any] = {
            "id": f"resp_{identity}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "instructions": request.get("instructions"),
            "max_output_tokens": request.get("max_output_tokens"),
            "model": model,
            "output": [],
            "parallel_tool_calls": request.get("parallel_tool_calls", True),
            "previous_response_id": None,
            "store": False,
            "temperature": request.get("temperature", 1.0),
            "text": request.get("text") or {"format": {"type": "text"}},
            "tool_choice": request.get("tool_choice", "auto"),
            "tools": request.get("tools") or [],
            "top_p": request.get("top_p", 1.0),
            "metadata": request.get("metadata") or {},
            "usage": None,
        }

    def whole(self, text: str, finish: str, usage: tuple[int, int]) -> dict[str, Any]:
        prompt, answer = usage
        return {
            **self._reply,
            "status": "incomplete" if finish == "length" else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if finish == "length" else None,
            "output": [self._item(text, "completed")],
            "usage": {
                "input_tokens": prompt,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": answer,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": prompt + answer,
            },
        }

    def begin(self) -> Iterator[str]:
        yield self._event("response.created", response=self._reply)
        yield self._event("response.in_progress", response=self._reply)
        begun = self._item("", "in_progress") | ({} if self._tool else {"content": []})
        yield self._event("response.output_item.added", output_index=0, item=begun)
        if not self._tool:
            yield self._event("response.content_part.added", **self._place(), part=_part(""))

    def piece(self, text: str) -> str:
        self._texts.append(text)
        if self._tool:
            return self._event("response.function_call_arguments.delta", **self._place(), delta=text)
        return self._event("response.output_text.delta", **self._place(), delta=text, logprobs=[])

    def end(self, finish: str, usage: tuple[int, int], more: Mapping[str, Any]) -> Iterator[str]:
        text = "".join(self._texts)
        if self._tool:
            done = {"arguments": text, "name": self._tool}
            yield self._event("response.function_call_arguments.done", **self._place(), **done)
        else:
            yield self._event("response.output_text.done", **self._place(), text=text, logprobs=[])
            yield self._event("response.content_part.done", **self._place(), part=_part(text))
        yield self._event("response.output_item.done", output_index=0, item=self._item(text, "completed"))
        kind = "response.incomplete" if finish == "length" else "response.completed"
        yield self._event(kind, response={**self.whole(text, finish, usage), **more})

    def _item(self, text: str, status: str) -> dict[str, Any]:
        item = {"id": self._item_id, "status": status}
        if self._tool:
            call = f"call_{self._identity[-24:]}"
            return {**item, "type": "function_call", "call_id": call, "name": self._tool, "arguments": text}
        return {**item, "type": "message", "role": "assistant", "content": [_part(text)]}

    def _place(self) -> dict[str, Any]:
        place = {"item_id": self._item_id, "output_index": 0}
        return place if self._tool else {**place, "content_index": 0}

    def _event(self, kind: str, **fields: Any) -> str:
        self._number += 1
        return f"event: {kind}\n{event({'type': kind, 'sequence_number': self._number - 1, **fields})}"


class CallForm:
    """Of a model that calls tools: which form an answer takes shows only in the answer, which comes in one piece.

    Args:
        form_of: the form of an answer that calls a tool; of None: of a text.
    """

    def __init__(self, form_of: Callable[[str | None], Form]):
        self._form_of = form_of
        self._form = form_of(None)

    def whole(self, text: str, finish: str, usage: tuple[int, int]) -> dict[str, Any]:
        content = self._content(text)
        return self._form.whole(content, finish, usage)

    def begin(self) -> Iterator[str]:
        return iter(())

    def piece(self, text: str) -> str:
        content = self._content(text)
        return "".join((*self._form.begin(), self._form.piece(content)))

    def end(self, finish: str, usage: tuple[int, int], more: Mapping[str, Any]) -> Iterator[str]:
        return self._form.end(finish, usage, more)

    def _content(self, answer: str) -> str:
        """The arguments of the call in an answer, or its text; afterwards the form is theirs."""
        call = said(answer)
        assert call, "the model's answers are in canonical form"
        self._form = self._form_of(call.tool)
        return call.content


def usage_block(prompt_tokens: int, answer_tokens: int) -> dict[str, int]:
    """A usage block of chat and completions."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": answer_tokens,
        "total_tokens": prompt_tokens + answer_tokens,
    }


def tokens_of(answer: Answer) -> tuple[int, int]:
    """The tokens of the prompt and of the answer."""
    return answer.prompt_tokens, answer.answer_tokens


def event(content: Mapping[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(content)}\n\n"


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}

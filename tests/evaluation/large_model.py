"""A real HTTP server on this machine that plays the large model behind an endpoint, with its faults."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

SECRET = "sk-very-secret-1234567890"


@dataclass
class LargeModel:
    """What the server does; tests change it."""

    reply: Callable[[str], str | dict[str, Any]]
    """From the last message to the text of the answer, or to keys of its choice: a refusal, or a message that calls
    tools."""
    failures: list[Response] = field(default_factory=list)
    """What it answers instead, one after the other."""
    always: Response | None = None
    usage: dict[str, Any] = field(default_factory=lambda: {"prompt_tokens": 50, "completion_tokens": 1})
    thinks: Callable[[dict[str, Any]], int] | None = None
    """From a request to the tokens it is thought about, which count as written."""
    room: int = 0
    """Tokens that the model gives an answer at most; 0: what is asked for. More is refused."""
    refuses: Callable[[dict[str, Any]], Response | None] = lambda _: None
    """From a request to the refusal that it gets."""
    old_names: bool = False
    """Whether it knows max_tokens only, and refuses other names, as Mistral's API does."""
    seconds: float = 0.0
    """That an answer takes."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    most_at_once: int = 0
    url: str = ""


@contextmanager
def large_model(reply: Callable[[str], str | dict[str, Any]]) -> Iterator[LargeModel]:
    large, app, under_way = LargeModel(reply), FastAPI(), 0

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        nonlocal under_way
        under_way += 1
        large.most_at_once = max(large.most_at_once, under_way)
        try:
            body = await request.json()
            large.asked.append(body)
            large.keys.add(request.headers.get("authorization", ""))
            await asyncio.sleep(large.seconds)
            if large.always or large.failures:
                return large.always or large.failures.pop(0)
            return large.refuses(body) or _refusal(large, body) or JSONResponse(_completion(large, body))
        finally:
            under_way -= 1

    @app.post("/v1/responses")
    async def respond(request: Request) -> Response:
        body = await request.json()
        large.asked.append(body)
        if large.always or large.failures:
            return large.always or large.failures.pop(0)
        return JSONResponse(_response(large, body))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        large.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield large
        server.should_exit = True
        thread.join()


def _refusal(large: LargeModel, body: dict[str, Any]) -> Response | None:
    if large.old_names and "max_completion_tokens" in body:
        fault = {"type": "extra_forbidden", "loc": ["body", "max_completion_tokens"], "msg": "Extra inputs are not"}
        return JSONResponse({"object": "error", "message": {"detail": [fault]}, "param": None, "code": None}, 422)
    if large.room and body.get("max_completion_tokens", 0) > large.room:
        detail = {"message": f"max_tokens is too large: {large.room} at most", "param": "max_completion_tokens"}
        return JSONResponse({"error": detail | {"code": "invalid_value"}}, 400)
    return None


def _completion(large: LargeModel, body: dict[str, Any]) -> dict[str, Any]:
    replied = large.reply(body["messages"][-1]["content"])
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": None}}
    choice |= replied if isinstance(replied, dict) else {"message": {"role": "assistant", "content": replied}}
    usage = dict(large.usage)
    if large.thinks:
        thought, room = large.thinks(body), body.get("max_completion_tokens", 1_000_000)
        if thought >= room:  # all of its room went into thinking
            thought = room
            choice |= {"finish_reason": "length", "message": {"role": "assistant", "content": ""}}
        usage["completion_tokens"] = thought + large.usage["completion_tokens"]
        usage["completion_tokens_details"] = {"reasoning_tokens": thought}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [choice],
        "usage": usage | {"total_tokens": 0},
    }


def _response(large: LargeModel, body: dict[str, Any]) -> dict[str, Any]:
    """As the Responses API answers: thinking and message are items, a cut answer is incomplete."""
    replied = large.reply(body["input"][-1]["content"])
    thought = large.thinks(body) if large.thinks else 0
    cut = thought >= body["max_output_tokens"]
    detail: dict[str, Any] = {"type": "output_text", "text": replied, "annotations": []}
    if isinstance(replied, dict) and "refusal" in replied:
        detail = {"type": "refusal", "refusal": replied["refusal"]}
    message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [detail]}
    if isinstance(replied, dict) and "refusal" not in replied:
        calls = [call["function"] for call in replied["message"]["tool_calls"]]
        message = {"type": "function_call", "id": "f", "call_id": "c", "status": "completed", **calls[0]}
    thinking = {"type": "reasoning", "id": "r", "summary": []}
    written = min(thought, body["max_output_tokens"])
    return {
        "id": "1",
        "object": "response",
        "created_at": 1,
        "model": body["model"],
        "error": None,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [thinking] if cut else [thinking, message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": large.usage["prompt_tokens"],
            "output_tokens": written + large.usage["completion_tokens"],
            "input_tokens_details": large.usage.get("prompt_tokens_details", {"cached_tokens": 0}),
            "output_tokens_details": {"reasoning_tokens": written},
            "total_tokens": 0,
        },
    }

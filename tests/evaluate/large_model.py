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
    """From the last message to the text of the answer, or to keys of its choice."""
    failures: list[Response] = field(default_factory=list)
    """What it answers instead, one after the other."""
    always: Response | None = None
    usage: dict[str, Any] = field(default_factory=lambda: {"prompt_tokens": 50, "completion_tokens": 1})
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
            return JSONResponse(_completion(large, body))
        finally:
            under_way -= 1

    with socket.create_server(("127.0.0.1", 0)) as listener:
        large.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield large
        server.should_exit = True
        thread.join()


def _completion(large: LargeModel, body: dict[str, Any]) -> dict[str, Any]:
    replied = large.reply(body["messages"][-1]["content"])
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": None}}
    choice |= replied if isinstance(replied, dict) else {"message": {"role": "assistant", "content": replied}}
    return {
        "id": "1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice],
        "usage": large.usage | {"total_tokens": 0},
    }  # fmt: skip

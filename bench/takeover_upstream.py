"""The paid API that `bench/takeover.py` plays: right to a known degree, slow, faulty, and with a meter of its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from aiohttp import web

PRICES = {"gpt-4o": (2.5, 1.25, 10.0)}
"""USD for a million tokens: in, cached in, out. As in the price book (openai.com/api/pricing, 2026-11-27)."""
RIGHT = 0.94
"""The share of texts that the API answers rightly; the same text is always answered alike."""
BUSY, BROKEN, SLOW = 0.01, 0.005, 0.02
"""The shares of requests that get 429, 500, or an answer after a second."""
SECONDS = 0.06
LETTERS = 4
"""Letters a token."""


@dataclass
class Meter:
    """What the API bills, and what it would have billed for requests that it never saw."""

    answers: int = 0
    usd: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0
    faults: int = 0


class PaidApi:
    """Answers by the truth, but for some texts."""

    def __init__(self, truth: dict[str, str]):
        self._truth, self._labels = truth, sorted(set(truth.values()))
        self._chance = random.Random(0)
        self.meter = Meter()

    def answer(self, text: str) -> str:
        """What the API says to a text: its label, or for some texts always the same wrong one."""
        label = self._truth.get(text, self._labels[0])
        drawn = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
        return label if drawn / 2**64 < RIGHT else self._labels[drawn % len(self._labels)]

    def bill(self, messages: list[dict[str, str]], answer: str) -> dict[str, Any]:
        """The usage block: the system prompt is cached from the second request on."""
        system = -(-sum(len(each["content"]) for each in messages if each["role"] == "system") // LETTERS)
        prompt = system + -(-sum(len(each["content"]) for each in messages if each["role"] != "system") // LETTERS) + 8
        cached = system // 128 * 128
        counted = {"prompt": prompt, "cached": cached, "answer": -(-len(answer) // LETTERS)}
        return {
            "prompt_tokens": counted["prompt"],
            "completion_tokens": counted["answer"],
            "total_tokens": counted["prompt"] + counted["answer"],
            "prompt_tokens_details": {"cached_tokens": cached},
        }

    @staticmethod
    def usd(usage: dict[str, Any], model: str) -> float:
        fresh, cached, out = PRICES[model]
        read = usage["prompt_tokens_details"]["cached_tokens"]
        return ((usage["prompt_tokens"] - read) * fresh + read * cached + usage["completion_tokens"] * out) / 1e6

    def spoken(self, asked: dict[str, Any]) -> str:
        """The answer in the form that a request asks for."""
        said = self.answer(asked["messages"][-1]["content"])
        return json.dumps({"intent": said}) if "response_format" in asked else said

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/meter":
            return web.json_response(asdict(self.meter))
        asked = await request.json()
        drawn = self._chance.random()
        if drawn < BUSY + BROKEN:
            self.meter.faults += 1
            status = 429 if drawn < BUSY else 500
            head = {"retry-after": "0.05"} if status == 429 else {}
            return web.json_response({"error": {"message": "no", "code": "fault"}}, status=status, headers=head)
        await asyncio.sleep(1.0 if drawn < BUSY + BROKEN + SLOW else SECONDS * self._chance.uniform(0.7, 1.5))
        text = self.spoken(asked)
        usage = self.bill(asked["messages"], text)
        meter = self.meter
        meter.answers += 1
        meter.usd += self.usd(usage, asked["model"])
        meter.prompt_tokens += usage["prompt_tokens"]
        meter.cached_tokens += usage["prompt_tokens_details"]["cached_tokens"]
        meter.answer_tokens += usage["completion_tokens"]
        head = {"id": "chatcmpl-1", "created": 1, "model": f"{asked['model']}-2024-08-06"}
        if not asked.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            return web.json_response({**head, "object": "chat.completion", "choices": [choice], "usage": usage})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        with suppress(ConnectionResetError):  # a gateway that was killed
            await response.prepare(request)
            async for event in _events(head, text, usage):
                await response.write(f"data: {event}\n\n".encode())
        return response


async def _events(head: dict[str, Any], text: str, usage: dict[str, Any]) -> AsyncIterator[str]:
    for delta, finish in (({"role": "assistant"}, None), ({"content": text}, None), ({}, "stop")):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        yield json.dumps({**head, "object": "chat.completion.chunk", "choices": [choice]})
    yield json.dumps({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    yield "[DONE]"


def serve(truth: dict[str, str], port: int) -> None:
    """Answer until killed."""
    api = PaidApi(truth)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api)
    web.run_app(app, host="127.0.0.1", port=port, print=None)

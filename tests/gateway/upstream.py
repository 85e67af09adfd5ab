"""An upstream that behaves as OpenAI does: its routes, streams, usage blocks, headers, and its faults on demand."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request], Any]


@dataclass
class Asked:
    """A request as it arrived."""

    method: str
    target: str
    """Path and query, still encoded."""
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Upstream:
    """What the upstream does; tests change it."""

    reply: Callable[[str], str]
    """From the last message to the text of the answer."""
    seconds: float = 0.0
    """Before an answer's first byte."""
    between: float = 0.0
    """Seconds between the events of a stream."""
    faults: list[Handler] = field(default_factory=list)
    """What it does instead, one after the other."""
    fault: Callable[[], Handler | None] = lambda: None
    """Draws what it does instead of an answer; None: it answers."""
    billed: list[dict[str, Any]] = field(default_factory=list)
    """The usage blocks of its answers to chat requests: its meter."""
    asked: list[Asked] = field(default_factory=list)
    left: int = 0
    """Requests whose client left before the answer's end."""
    connections: set[Any] = field(default_factory=set)
    url: str = ""

    def words(self, text: str) -> list[str]:
        """The parts that a stream sends a text in."""
        return [f"{word} " for word in text.split(" ")[:-1]] + text.split(" ")[-1:]

    def usage(self, prompt: str, answer: str) -> dict[str, Any]:
        counts = len(prompt.split()) + 1, len(answer.split())
        return {
            "prompt_tokens": counts[0],
            "completion_tokens": counts[1],
            "total_tokens": sum(counts),
            "prompt_tokens_details": {"cached_tokens": counts[0] // 2},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }


HEADERS = {
    "x-request-id": "req_1f8e",
    "openai-processing-ms": "12",
    "x-ratelimit-limit-requests": "500",
    "x-ratelimit-remaining-requests": "499",
    "Set-Cookie": "__cf_bm=secret; path=/",
}


@contextmanager
def upstream(reply: Callable[[str], str], tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[Upstream]:
    """Run an upstream in a thread."""
    played = Upstream(reply)
    app = web.Application(client_max_size=1 << 30)

    async def answer(request: web.Request) -> web.StreamResponse:
        return await _answer(played, request)

    app.router.add_route("*", "/{path:.*}", answer)
    ready, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def run() -> None:
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls)
        await site.start()
        scheme = "https" if tls else "http"
        played.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}/v1"
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    ready.wait()
    yield played
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


async def _answer(played: Upstream, request: web.Request) -> web.StreamResponse:
    try:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        played.asked.append(Asked(request.method, request.raw_path, headers, body))
        played.connections.add(id(request.transport))
        if fault := played.faults.pop(0) if played.faults else played.fault():
            answer: web.StreamResponse = await fault(request)
            return answer
        await asyncio.sleep(played.seconds)
        if request.headers.get("upgrade", "").lower() == "websocket":
            return await _websocket(played, request)
        return await _routed(played, request, body)
    except asyncio.CancelledError:
        played.left += 1
        raise


async def _routed(played: Upstream, request: web.Request, body: bytes) -> web.StreamResponse:
    path = request.path
    if request.method == "GET" and path.endswith("/models"):
        listed = [{"id": "gpt-6-luna", "object": "model", "created": 1, "owned_by": "openai"}]
        return web.json_response({"object": "list", "data": listed}, headers=HEADERS)
    asked = json.loads(body) if body.startswith(b"{") else {}
    if path.endswith("/chat/completions"):
        return await _chat(played, request, asked)
    if path.endswith("/responses"):
        return await _responses(played, request, asked)
    if path.endswith("/completions"):
        text = played.reply(asked["prompt"])
        choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
        return web.json_response(
            {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": asked["model"], "choices": [choice]}
            | {"usage": played.usage(asked["prompt"], text)},
            headers=HEADERS,
        )
    if path.endswith("/embeddings"):
        vector = [{"object": "embedding", "index": 0, "embedding": [0.1] * 8}]
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        return web.json_response(
            {"object": "list", "data": vector, "model": asked["model"], "usage": usage}, headers=HEADERS
        )
    return web.Response(status=418, body=body or b"unknown", headers={"x-odd": "yes", "content-type": "text/x-odd"})


async def _chat(played: Upstream, request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
    last = asked["messages"][-1]["content"]
    text = played.reply(last if isinstance(last, str) else last[0]["text"])
    usage = played.usage(json.dumps(asked["messages"]), text)
    played.billed.append(usage)
    head = {"id": "chatcmpl-1", "created": 1, "model": f"{asked['model']}-2026-09-01"}
    if "service_tier" in asked:
        head["service_tier"] = asked["service_tier"]
    call = _call(asked, text)
    if not asked.get("stream"):
        message: dict[str, Any] = {"role": "assistant", "content": None if call else text, "refusal": None}
        if call:
            message["tool_calls"] = [call]
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if call else "stop"}
        return web.json_response(
            {**head, "object": "chat.completion", "choices": [choice], "usage": usage}, headers=HEADERS
        )
    wants_usage = (asked.get("stream_options") or {}).get("include_usage")

    def event(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        whole = {**head, "object": "chat.completion.chunk"}
        whole["choices"] = [{"index": 0, "delta": delta, "finish_reason": finish}]
        return whole | ({"usage": None} if wants_usage else {})

    async def events() -> AsyncIterator[str]:
        yield json.dumps(event({"role": "assistant", "content": "" if not call else None}))
        if call:
            begun = {"index": 0, "id": call["id"], "type": "function"}
            yield json.dumps(
                event({"tool_calls": [begun | {"function": {"name": call["function"]["name"], "arguments": ""}}]})
            )
            for part in played.words(call["function"]["arguments"]):
                yield json.dumps(event({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}))
        else:
            for part in played.words(text):
                yield json.dumps(event({"content": part}))
        yield json.dumps(event({}, "tool_calls" if call else "stop"))
        if wants_usage:
            yield json.dumps({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        yield "[DONE]"

    return await _stream(played, request, (f"data: {each}\n\n" async for each in events()))


async def _responses(played: Upstream, request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
    given = asked["input"]
    text = played.reply(given if isinstance(given, str) else given[-1]["content"])
    counts = played.usage(json.dumps(given), text)
    usage = {
        "input_tokens": counts["prompt_tokens"],
        "input_tokens_details": counts["prompt_tokens_details"],
        "output_tokens": counts["completion_tokens"],
        "output_tokens_details": counts["completion_tokens_details"],
        "total_tokens": counts["total_tokens"],
    }
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    whole: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": f"{asked['model']}-2026-09-01",
        "output": [item],
        "usage": usage,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
    if not asked.get("stream"):
        return web.json_response(whole, headers=HEADERS)

    async def events() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "response.created", "response": whole | {"status": "in_progress", "output": [], "usage": None}}
        begun = item | {"status": "in_progress", "content": []}
        where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        yield {"type": "response.output_item.added", "output_index": 0, "item": begun}
        yield {"type": "response.content_part.added", **where, "part": part | {"text": ""}}
        for word in played.words(text):
            yield {"type": "response.output_text.delta", **where, "delta": word, "logprobs": []}
        yield {"type": "response.output_text.done", **where, "text": text, "logprobs": []}
        yield {"type": "response.content_part.done", **where, "part": part}
        yield {"type": "response.output_item.done", "output_index": 0, "item": item}
        yield {"type": "response.completed", "response": whole}

    async def numbered() -> AsyncIterator[str]:
        number = 0
        async for event in events():
            number += 1
            yield f"event: {event['type']}\ndata: {json.dumps(event | {'sequence_number': number})}\n\n"

    return await _stream(played, request, numbered())


async def _websocket(played: Upstream, request: web.Request) -> web.StreamResponse:
    """Answers each event by two: a word, and the end of the answer. Its own close is the answer to `bye`."""
    socket = web.WebSocketResponse(protocols=("realtime",), max_msg_size=0)
    socket.headers.update(HEADERS)
    await socket.prepare(request)
    async for message in socket:
        if message.data == "bye":
            await socket.close(code=4001, message=b"as asked")
        elif isinstance(message.data, bytes):
            await socket.send_bytes(message.data[::-1])
        else:
            asked = json.loads(message.data)
            await socket.send_json({"type": "response.output_text.delta", "delta": played.reply(asked["input"])})
            await socket.send_json({"type": "response.completed", "stream_id": asked.get("stream_id")})
    return socket


async def _stream(played: Upstream, request: web.Request, events: AsyncIterator[str]) -> web.StreamResponse:
    response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    async for event in events:
        await response.write(event.encode())
        await asyncio.sleep(played.between)
    await response.write_eof()
    return response


def _call(asked: dict[str, Any], text: str) -> dict[str, Any] | None:
    """The call of the first tool, if there is one."""
    if not asked.get("tools"):
        return None
    function = {"name": asked["tools"][0]["function"]["name"], "arguments": json.dumps({"text": text})}
    return {"id": "call_1", "type": "function", "function": function}


def refused(status: int, code: str, **headers: str) -> Handler:
    """A fault: an error in OpenAI's form."""

    async def handler(_request: web.Request) -> web.Response:
        body = {"error": {"message": f"It is {code}.", "type": code, "param": None, "code": code}}
        return web.json_response(body, status=status, headers={**HEADERS, **headers})

    return handler


async def hang_up(request: web.Request) -> web.Response:
    """A fault: the connection ends without an answer."""
    assert request.transport
    request.transport.close()
    return web.Response()


async def half_an_event(request: web.Request) -> web.StreamResponse:
    """A fault: a stream ends within an event, and without its end."""
    response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b'data: {"choices":[{"index":0,"delta":{"content":"half"}}]}\n\ndata: {"choi')
    await asyncio.sleep(0.05)
    assert request.transport
    request.transport.close()
    return response

"""Requests that are lost because the server closes an idle connection while its client sends one.

    python bench/keep_alive.py [SECONDS]

200 clients with httpx, as OpenAI's client uses it, ask 12 times each and pause for about 5 seconds, the time for which
httpx keeps an idle connection. SECONDS is how long the server keeps one (by default, and at most, as long as
`tunewright serve` and the gateway do).
"""

from __future__ import annotations

import asyncio
import random
import socket
import sys
import threading
from typing import Any

import httpx

from tunewright.core.limits import KEEP_ALIVE_SECONDS
from tunewright.core.processes import listener
from tunewright.serving.connections import HttpServer

CLIENTS, REQUESTS = 200, 12
PAUSES = 4.985, 5.002
"""Seconds, drawn evenly."""


async def answering(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


async def client(number: int, port: int) -> int:
    """The requests that a client lost."""
    chance, lost = random.Random(number), 0
    async with httpx.AsyncClient(timeout=20) as http:
        for _ in range(REQUESTS):
            try:
                await http.post(f"http://127.0.0.1:{port}/", content=b"x")
            except httpx.TransportError:
                lost += 1
            await asyncio.sleep(chance.uniform(*PAUSES))
    return lost


async def lost_by_all(port: int) -> int:
    return sum(await asyncio.gather(*(client(number, port) for number in range(CLIENTS))))


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else KEEP_ALIVE_SECONDS
    bound = listener("127.0.0.1", 0)
    bound.listen(socket.SOMAXCONN)
    server = HttpServer(answering)
    server.config.timeout_keep_alive = seconds
    serving = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    serving.start()
    lost = asyncio.run(lost_by_all(bound.getsockname()[1]))
    print(f"connections kept for {seconds} s: {lost} of {CLIENTS * REQUESTS:,} requests lost")
    server.should_exit = server.force_exit = True
    serving.join()


if __name__ == "__main__":
    main()

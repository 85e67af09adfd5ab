"""WebSockets: once the upstream has taken the switch of protocols, bytes go both ways as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager

import aiohttp

from tunewright.gateway.headers import to_client
from tunewright.serving.connections import Write

Switch = Callable[[list[tuple[bytes, bytes]]], AbstractContextManager[tuple[asyncio.StreamReader, Write]]]
_PIECE = 64 << 10
"""Bytes that are read at a time."""


class _Received:
    """Takes bytes from aiohttp's connection, in the place of its reader of WebSocket frames."""

    def __init__(self, reader: asyncio.StreamReader):
        self._reader = reader

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._reader.feed_data(data)
        return False, b""

    def feed_eof(self) -> None:
        self._reader.feed_eof()


async def tunnel(switch: Switch, response: aiohttp.ClientResponse, received: Callable[[int], None]) -> None:
    """Pass bytes on until one side ends its connection, which ends the other's.

    Args:
        switch: of the client's connection.
        response: the upstream's answer, with the status `SWITCHING`.
        received: is told how many bytes have come from the upstream.
    """
    connection = response.connection
    assert connection is not None
    protocol, transport = connection.protocol, connection.transport
    assert protocol is not None
    assert transport is not None
    answers = asyncio.StreamReader()
    answers.set_transport(transport)
    writer = asyncio.StreamWriter(transport, protocol, None, asyncio.get_running_loop())

    async def write_upstream(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    headers = [(b"connection", b"Upgrade"), (b"upgrade", b"websocket"), *to_client(response.raw_headers)]
    with switch(headers) as (requests, write_client):
        protocol.read_timeout = None  # it may rest for as long as both sides like
        protocol.set_parser(_Received(answers), None)

        async def answer(data: bytes) -> None:
            received(len(data))
            await write_client(data)

        both = [asyncio.create_task(_pump(requests, write_upstream)), asyncio.create_task(_pump(answers, answer))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in both:
                each.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            response.close()


async def _pump(reader: asyncio.StreamReader, write: Write) -> None:
    while data := await reader.read(_PIECE):
        await write(data)

"""The events of a streamed answer."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from tunewright.inference.predictors import Answer, Pieces
from tunewright.serving.forms import ChatForm
from tunewright.serving.replies import events


def test_a_streamed_answer_is_recorded_beside_the_event_loop() -> None:
    """Redaction takes a fifth of a second for a long text, in which the loop could serve no other request."""
    recorders: list[int] = []

    def pieces() -> Pieces:
        yield "hello"
        yield Answer("hello", 1.0, 1, 1)

    def flagged(_: Answer) -> dict[str, Any]:
        recorders.append(threading.get_ident())
        return {"captured": True}

    async def read() -> list[str]:
        return [each async for each in events(pieces(), ChatForm("1", "m"), flagged)]

    *_, last, done = asyncio.run(read())
    assert ('"captured": true' in last, done) == (True, "data: [DONE]\n\n")
    assert len(recorders) == 1
    assert recorders != [threading.get_ident()]

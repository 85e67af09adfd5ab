"""Replies in OpenAI's form: usage, log-probabilities, streamed events."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from tunewright.inference.predictors import Answer, Pieces, Token
from tunewright.serving.engine import finish_reason
from tunewright.serving.errors import error_of

Flagged = Callable[[Answer], dict[str, Any]]
"""Records an answer and returns its flags for the reply; `Recorder.note`."""
SMALLEST = 1e-300
"""Smaller probabilities count as this one, so that their logarithm is a number."""
_LOG = logging.getLogger(__name__)


def head(kind: str, identity: str, model: str) -> dict[str, Any]:
    return {"id": identity, "object": kind, "created": int(time.time()), "model": model}


def usage(answer: Answer) -> dict[str, int]:
    prompt, written = answer.prompt_tokens, answer.answer_tokens
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


def likeliest(probabilities: Mapping[str, float], count: int) -> list[Token]:
    ranked = sorted(probabilities, key=lambda label: -probabilities[label])[:count]
    return [Token(label, math.log(max(probabilities[label], SMALLEST))) for label in ranked]


def log_probabilities(tokens: Sequence[Token], others: Sequence[Token]) -> dict[str, Any]:
    """A reply's `logprobs`. An answer that was put together from several windows has no tokens, and so none.

    Args:
        others: the likeliest labels, given as alternatives of each token.
    """

    def one(token: Token) -> dict[str, Any]:
        return {"token": token.text, "logprob": token.log_probability, "bytes": list(token.text.encode())}

    content = [{**one(token), "top_logprobs": [one(other) for other in others]} for token in tokens]
    return {"content": content or None, "refusal": None}


async def events(
    pieces: Pieces, beginning: Mapping[str, Any], flagged: Flagged, *, with_usage: bool
) -> AsyncIterator[str]:
    """A streamed answer as server-sent events. An error on the way becomes the last event.

    Args:
        beginning: the fields that each event has; see `head`.
    """
    from starlette.concurrency import iterate_in_threadpool

    def event(delta: dict[str, str], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event({**beginning, "choices": [choice], **more})

    try:
        yield event({"role": "assistant", "content": ""})
        async for piece in iterate_in_threadpool(pieces):
            if isinstance(piece, str):
                yield event({"content": piece})
                continue
            yield event({}, finish_reason(piece), **flagged(piece))
            if with_usage:
                yield _event({**beginning, "choices": [], "usage": usage(piece)})
        yield "data: [DONE]\n\n"
    except Exception as error:  # noqa: BLE001 (whatever it is, the client must get it)
        failure = error_of(error)
        if failure.status == 500:
            _LOG.exception("A streamed answer failed.")
        yield _event(failure.body())
    finally:
        # If the client has disconnected, the next request must not wait for the rest of this answer.
        pieces.close()


def _event(content: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"

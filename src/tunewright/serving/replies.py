"""Answers in OpenAI's form."""

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
"""What an answer says beside itself."""
SMALLEST = 1e-300
"""The least probability whose logarithm is told."""
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
    """None of an answer that was put together from several.

    Args:
        others: the likeliest in a label's place.
    """

    def one(token: Token) -> dict[str, Any]:
        return {"token": token.text, "logprob": token.log_probability, "bytes": list(token.text.encode())}

    content = [{**one(token), "top_logprobs": [one(other) for other in others]} for token in tokens]
    return {"content": content or None, "refusal": None}


async def events(
    pieces: Pieces, beginning: Mapping[str, Any], flagged: Flagged, *, with_usage: bool
) -> AsyncIterator[str]:
    """A streamed answer, as server-sent events; what goes wrong on the way is the last of them.

    Args:
        beginning: of each event; see `head`.
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
    except Exception as error:  # noqa: BLE001 (whatever it is, whoever listens must hear of it)
        told = error_of(error)
        if told.status == 500:
            _LOG.exception("A streamed answer failed.")
        yield _event(told.body())
    finally:
        # Whoever asked may have gone: the next request must not wait for an answer to nobody.
        pieces.close()


def _event(content: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"

"""What replies have beside an answer's text: log-probabilities; and the events of a streamed answer."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from tunewright.inference.predictors import Answer, Pieces, Token
from tunewright.serving.engine import finish_reason
from tunewright.serving.errors import error_of
from tunewright.serving.forms import Form, event, tokens_of

Flagged = Callable[[Answer], dict[str, Any]]
"""Records an answer and returns its flags for the reply; `Recorder.note`."""
SMALLEST = 1e-300
"""Smaller probabilities count as this one, so that their logarithm is a number."""
_LOG = logging.getLogger(__name__)


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


async def events(pieces: Pieces, form: Form, flagged: Flagged) -> AsyncIterator[str]:
    """A streamed answer as server-sent events. An error on the way becomes the last event."""
    from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

    try:
        for each in form.begin():
            yield each
        async for piece in iterate_in_threadpool(pieces):
            if isinstance(piece, str):
                yield form.piece(piece)
                continue
            # Redacting a long text takes a while, and so may the disk.
            flags = await run_in_threadpool(flagged, piece)
            for each in form.end(finish_reason(piece), tokens_of(piece), flags):
                yield each
    except Exception as error:  # noqa: BLE001 (whatever it is, the client must get it)
        failure = error_of(error)
        if failure.status == 500:
            _LOG.exception("A streamed answer failed.")
        yield event(failure.body())
    finally:
        # If the client has disconnected, the next request must not wait for the rest of this answer.
        pieces.close()

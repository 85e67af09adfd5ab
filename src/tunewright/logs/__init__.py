"""Logs of language-model calls, in the forms in which others write them: from a row of a file to calls.

Each module reads the logs of one vendor or tool; `call.py` is what they all give. A row may hold several calls, or
none: a span that is no model's, for example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tunewright.logs import beside, gateway, helicone, langfuse, litellm, mlflow, openai, otlp
from tunewright.logs.beside import RequestsBeside
from tunewright.logs.call import LoggedAnswer, LoggedCall
from tunewright.logs.usage import TokenCounts

__all__ = [
    "LOG_FORMS",
    "REQUESTS_ALONE",
    "LogForm",
    "LoggedAnswer",
    "LoggedCall",
    "RequestsBeside",
    "TokenCounts",
    "log_form_of",
]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class LogForm:
    """One form of a log."""

    fits: Callable[[Row], bool]
    """Whether a row has it, by its keys."""
    calls: Callable[[Row, RequestsBeside], Iterator[LoggedCall]]
    """The calls in a row. The second argument has the requests that lie in other files."""
    is_plain: bool = False
    """Whether its keys are common, so that forms of training data come first."""


def _alone(read: Callable[[Row], Iterator[LoggedCall]]) -> Callable[[Row, RequestsBeside], Iterator[LoggedCall]]:
    return lambda row, _beside: read(row)


LOG_FORMS: dict[str, LogForm] = {
    "gateway": LogForm(gateway.is_exchange, _alone(gateway.exchange_calls)),
    "litellm": LogForm(litellm.is_litellm, _alone(litellm.litellm_calls)),
    "helicone": LogForm(helicone.is_helicone, _alone(helicone.helicone_calls)),
    "langfuse": LogForm(langfuse.is_langfuse, _alone(langfuse.langfuse_calls)),
    "mlflow": LogForm(mlflow.is_trace, _alone(mlflow.trace_calls)),
    "otlp": LogForm(otlp.is_otlp, _alone(otlp.otlp_calls)),
    "phoenix": LogForm(otlp.is_phoenix, _alone(otlp.phoenix_calls)),
    "openai-batch": LogForm(beside.is_batch_output, openai.batch_output_calls),
    "openai-batch-input": LogForm(beside.is_batch_input, _alone(openai.batch_input_calls)),
    "openai-response": LogForm(openai.is_response, _alone(openai.response_calls)),
    "openai-stream": LogForm(openai.is_stream_end, _alone(openai.stream_end_calls)),
    "openai-stored": LogForm(beside.is_stored_alone, openai.stored_calls),
    "openai-stored-messages": LogForm(beside.is_stored_message, _alone(openai.stored_message_calls)),
    "pairs": LogForm(openai.is_pair, _alone(openai.pair_calls), is_plain=True),
}
"""The forms by name, in the order in which they are tried on a row."""
REQUESTS_ALONE = ("openai-batch-input", "openai-stored-messages")
"""Forms of files that have requests whose answers are in another file."""


def log_form_of(row: Row, *, plain: bool) -> str | None:
    """The name of the form that a row has; None: it has none.

    Args:
        plain: whether to try forms with common keys, or those without.
    """
    return next((name for name, form in LOG_FORMS.items() if form.is_plain == plain and form.fits(row)), None)

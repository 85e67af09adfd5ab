"""Models, parameters, token counts and times of a span, under the names that the vocabularies have for them.

Sources: those of the modules of the vocabularies (2026-11-30).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright.logs.otlp_spans import TraceSpan
from tunewright.logs.usage import TokenCounts
from tunewright.logs.values import count, first, mapping, number, text

_MODEL = ("gen_ai.request.model", "llm.request.model_name", "llm.request.model")
_ANSWERED_MODEL = ("gen_ai.response.model", "llm.response.model_name", "llm.response.model", "llm.model_name")
_SERVICE_TIER = ("openai.response.service_tier", "gen_ai.openai.response.service_tier")
_STREAMED = ("gen_ai.request.stream", "gen_ai.is_streaming", "llm.is_streaming")
_SETTINGS = {
    f"gen_ai.request.{name}": {"stop_sequences": "stop"}.get(name, name)
    for name in (
        "temperature",
        "top_p",
        "max_tokens",
        "frequency_penalty",
        "presence_penalty",
        "seed",
        "stop_sequences",
    )
}
_FIRST_PIECE = (
    "First Token Stream Event",
    "gen_ai.content.completion.chunk",
    "llm.content.completion.chunk",
)
"""Events at a stream's first piece, of OpenInference and OpenLLMetry."""
_COUNTS = {
    "prompt_tokens": ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens"),
    "answer_tokens": ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens"),
    "cached_tokens": ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"),
    "cache_write_tokens": (
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
    ),
    "reasoning_tokens": (
        "gen_ai.usage.reasoning.output_tokens",
        "gen_ai.usage.reasoning_tokens",
        "llm.usage.reasoning_tokens",
    ),
}
_OPENINFERENCES_COUNTS = {
    "prompt_tokens": "prompt",
    "answer_tokens": "completion",
    "cached_tokens": "prompt_details.cache_read",
    "cache_write_tokens": "prompt_details.cache_write",
    "reasoning_tokens": "completion_details.reasoning",
}


def usage_in(attributes: Mapping[str, Any]) -> TokenCounts | None:
    found = {
        name: first(attributes, *names, f"llm.token_count.{_OPENINFERENCES_COUNTS[name]}")
        for name, names in _COUNTS.items()
    }
    if found["prompt_tokens"] is None and found["answer_tokens"] is None:
        return None
    return TokenCounts(**{name: count(value) for name, value in found.items()})


def settings_in(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of the request, in OpenAI's names."""
    found = {name: value for key, name in _SETTINGS.items() if (value := attributes.get(key)) is not None}
    return found | _answer_form(attributes)


def _answer_form(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The form that the answer was asked for. Of the conventions only OpenLLMetry's keeps a schema."""
    if schema := mapping(attributes.get("gen_ai.request.structured_output_schema")):
        return {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    older = attributes.get("gen_ai.openai.request.response_format")
    if attributes.get("gen_ai.output.type") == "json" or older in ("json_object", "json_schema"):
        return {"response_format": {"type": "json_object"}}
    return {}


def model_in(attributes: Mapping[str, Any]) -> str | None:
    """The model as the request names it."""
    return text(first(attributes, *_MODEL))


def answered_model_in(attributes: Mapping[str, Any]) -> str | None:
    return text(first(attributes, *_ANSWERED_MODEL))


def service_tier_in(attributes: Mapping[str, Any]) -> str | None:
    """The tier that the answer was billed at."""
    return text(first(attributes, *_SERVICE_TIER))


def is_streamed(attributes: Mapping[str, Any]) -> bool:
    return any(_is_true(attributes.get(name)) for name in _STREAMED)


def first_seconds_of(span: TraceSpan) -> float | None:
    """Seconds to the answer's first piece."""
    told = number(span.attributes.get("gen_ai.response.time_to_first_chunk"))
    return told if told is not None else span.until(*_FIRST_PIECE)


def _is_true(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.lower() == "true")

"""The token counts that an API bills, read from the usage block of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunewright.economics.prices import ApiPrice


@dataclass(frozen=True)
class TokenUsage:
    """The token counts of an answer."""

    prompt_tokens: int = 0
    """Of the whole prompt."""
    answer_tokens: int = 0
    """Of the answer, its thinking included."""
    cached_tokens: int = 0
    """Prompt tokens from the endpoint's cache."""
    cache_write_tokens: int = 0
    """Prompt tokens that the endpoint wrote to its cache."""
    reasoning_tokens: int = 0
    """Answer tokens of its thinking."""

    def usd(self, price: ApiPrice) -> float:
        return price.usd(self.prompt_tokens, self.answer_tokens, self.cached_tokens, self.cache_write_tokens)


def read_usage(block: Any) -> TokenUsage | None:
    """The counts of a usage block, a mapping or an object of the official client; None: it is none.

    The Chat Completions API counts prompt and completion tokens, the Responses API input and output tokens.
    Source: developers.openai.com/api/reference (2026-11-28).
    """
    for prompt, answer in (("prompt", "completion"), ("input", "output")):
        if _part(block, f"{prompt}_tokens") is not None:
            read, written = (_part(block, f"{part}_tokens_details") for part in (prompt, answer))
            return TokenUsage(
                _count(block, f"{prompt}_tokens"),
                _count(block, f"{answer}_tokens"),
                _count(read, "cached_tokens"),
                _count(read, "cache_write_tokens"),
                _count(written, "reasoning_tokens"),
            )
    return None


def _part(whole: Any, name: str) -> Any:
    return whole.get(name) if isinstance(whole, Mapping) else getattr(whole, name, None)


def _count(whole: Any, name: str) -> int:
    count = _part(whole, name)
    return count if isinstance(count, int) and count >= 0 else 0

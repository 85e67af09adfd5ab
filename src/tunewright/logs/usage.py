"""The token counts of an answer, read from the usage block of OpenAI's APIs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunewright.logs.values import count


@dataclass(frozen=True)
class TokenCounts:
    """The token counts of an answer."""

    prompt_tokens: int = 0
    """Of the whole prompt, what was cached included."""
    answer_tokens: int = 0
    """Of the answer, its thinking included."""
    cached_tokens: int = 0
    """Prompt tokens from the endpoint's cache."""
    cache_write_tokens: int = 0
    """Prompt tokens that the endpoint wrote to its cache."""
    reasoning_tokens: int = 0
    """Answer tokens of its thinking."""

    @property
    def row(self) -> dict[str, int]:
        """The counts that are not zero, as rows of data have them."""
        return {name: value for name, value in vars(self).items() if value}


def token_counts(block: Any) -> TokenCounts | None:
    """The counts of a usage block, a mapping or an object of the official client; None: it is none.

    The Chat Completions API counts prompt and completion tokens, the Responses API input and output tokens.
    Source: developers.openai.com/api/reference (2026-11-28).
    """
    for prompt, answer in (("prompt", "completion"), ("input", "output")):
        if _part(block, f"{prompt}_tokens") is not None:
            read, written = (_part(block, f"{part}_tokens_details") for part in (prompt, answer))
            return TokenCounts(
                count(_part(block, f"{prompt}_tokens")),
                count(_part(block, f"{answer}_tokens")),
                count(_part(read, "cached_tokens")),
                count(_part(read, "cache_write_tokens")),
                count(_part(written, "reasoning_tokens")),
            )
    return None


def _part(whole: Any, name: str) -> Any:
    return whole.get(name) if isinstance(whole, Mapping) else getattr(whole, name, None)

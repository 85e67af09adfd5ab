"""The token counts that an API bills, read from the usage block of its answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunewright.economics.prices import ApiPrice, PriceBook

_DATED = re.compile(r"(.+?)-(?:\d{4}-\d\d-\d\d|\d{8}|\d{4})")
"""A model's name with the date of its version, such as gpt-4o-2024-08-06."""


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


def usd_by_book(usage: TokenUsage, book: PriceBook, *models: str | None) -> float | None:
    """The price of an answer; None: the book has none of the models.

    Args:
        models: the model's names, as the request and as the answer have it. A date at the end may be missing in the
            book, and so may a provider's name before a slash.
    """
    for name in filter(None, models):
        for plain in (name, name.rpartition("/")[2]):
            dated = _DATED.fullmatch(plain)
            for model in (plain, dated[1] if dated else None):
                if model in book.apis:
                    return usage.usd(book.apis[model])
    return None


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

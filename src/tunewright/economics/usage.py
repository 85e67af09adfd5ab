"""The token counts that an API bills, read from the usage block of its answer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tunewright.economics.prices import ApiPrice, PriceBook
from tunewright.logs.usage import TokenCounts, token_counts

_DATED = re.compile(r"(.+?)-(?:\d{4}-\d\d-\d\d|\d{8}|\d{4})")
"""A model's name with the date of its version, such as gpt-4o-2024-08-06."""
_STANDARD = ("", "auto", "default", "standard", "on_demand", "scale")
"""Service tiers at the usual price, as an answer names them."""
_FAST = ("priority", "fast")
"""Service tiers at the price book's `fast`: genai-prices has the same price for both (0.2.3)."""
_BATCH = ("batch", "flex")
"""Service tiers at the rates of the batch API (developers.openai.com/api/docs/guides/flex-processing and
platform.claude.com/docs/en/api/service-tiers, 2026-12-01)."""


@dataclass(frozen=True)
class TokenUsage(TokenCounts):
    """The token counts of an answer, which have a price."""

    def usd(self, price: ApiPrice) -> float:
        return price.usd(self.prompt_tokens, self.answer_tokens, self.cached_tokens, self.cache_write_tokens)


def usd_by_book(
    usage: TokenUsage, book: PriceBook, asked: str | None, answered: str | None, tier: str | None = None
) -> float | None:
    """The price of an answer; None: the book has none of the models, or not the tier's price.

    Args:
        asked, answered: as of `name_in_book`.
        tier: the service tier that the answer was billed at, as it says; None: it says nothing.
    """
    name = name_in_book(book, asked, answered)
    factor = _factor(book, book.apis[name], (tier or "").lower()) if name else None
    return None if name is None or factor is None else factor * usage.usd(book.apis[name])


def name_in_book(book: PriceBook, asked: str | None, answered: str | None) -> str | None:
    """A model's name in the price book; None: it is not there.

    A date at the end may be missing in the book, and so may a provider's name before a slash.

    Args:
        asked, answered: the model's names, as the request and as the answer have it. The answer's counts, because a
            deployment may be called like a model that it no longer is. But a name that only a user's own book has is
            meant as it stands there.
    """
    first, second = (_found(book, name) for name in (asked, answered))
    is_own = first is not None and book.apis[first].provider is None
    return first if is_own else second or first


def _found(book: PriceBook, name: str | None) -> str | None:
    for plain in (name or "", (name or "").rpartition("/")[2]):
        dated = _DATED.fullmatch(plain)
        for model in (plain, dated[1] if dated else None):
            if model in book.apis:
                return model
    return None


def _factor(book: PriceBook, price: ApiPrice, tier: str) -> float | None:
    """What the usual price is multiplied with in a service tier; None: not known."""
    if tier in _STANDARD:
        return 1.0
    if tier in _FAST:
        return price.fast
    return book.batch_of(price) if tier in _BATCH else None


def read_usage(block: Any) -> TokenUsage | None:
    """The counts of a usage block, a mapping or an object of the official client; None: it is none."""
    counts = token_counts(block)
    return TokenUsage(**vars(counts)) if counts else None

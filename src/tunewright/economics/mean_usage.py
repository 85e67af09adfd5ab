"""Mean token counts of a request to an API, where they come from a log, and what another API would count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from statistics import fmean

from tunewright.config import ApiSpec
from tunewright.data.readers.forms import LOGGED
from tunewright.economics.cost import Cost, api_cost
from tunewright.economics.prices import ApiPrice
from tunewright.logs.values import count, mapping
from tunewright.tasks import Example


@dataclass(frozen=True)
class MeanUsage:
    """Mean tokens of one request to an API; the names are those of `TokenCounts`."""

    prompt_tokens: float
    answer_tokens: float
    cached_tokens: float = 0.0
    cache_write_tokens: float = 0.0
    reasoning_tokens: float = 0.0

    def without_thinking(self) -> MeanUsage:
        """What another API would count of such requests, as far as is known: nobody knows how much it would think."""
        answer = max(1.0, self.answer_tokens - self.reasoning_tokens)
        return replace(self, answer_tokens=answer, reasoning_tokens=0.0) if self.reasoning_tokens else self

    def cost(self, price: ApiPrice, requests: float) -> Cost:
        """What so many such requests a month cost at an API's price."""
        return api_cost(
            price,
            prompt_tokens=self.prompt_tokens,
            answer_tokens=self.answer_tokens,
            cached_tokens=self.cached_tokens,
            cache_write_tokens=self.cache_write_tokens,
            requests=requests,
        )


def uncounted(settings: ApiSpec, usage: MeanUsage) -> MeanUsage:
    """The tokens of an API that did not count them: the spec's figures, else those of `usage`.

    A prompt with a length of its own is another prompt, and nobody knows how much of it a cache would hold: many caches
    take no short prompt at all. All of it is therefore priced as new, so that no saving rests on a cache that nobody
    has seen.
    """
    if settings.prompt_tokens:
        usage = replace(usage, prompt_tokens=settings.prompt_tokens, cached_tokens=0.0, cache_write_tokens=0.0)
    if settings.completion_tokens:
        usage = replace(usage, answer_tokens=settings.completion_tokens, reasoning_tokens=0.0)
    return usage


def logged_usage(rows: Iterable[Example]) -> MeanUsage | None:
    """What an API counted of the calls in a log, each by its weight; None: the rows have no counts."""
    calls = ((row.importance, mapping(mapping(row.meta.extra.get(LOGGED)).get("usage"))) for row in rows)
    counted = [(weight, usage) for weight, usage in calls if weight and count(usage.get("prompt_tokens"))]
    if not counted:
        return None
    weights = [weight for weight, _ in counted]
    return MeanUsage(
        *(fmean([count(usage.get(each.name)) for _, usage in counted], weights) for each in fields(MeanUsage))
    )

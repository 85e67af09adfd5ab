"""How long an API will be available, and how old its price is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlsplit

from tunewright.economics.cost import api_cost, usd
from tunewright.economics.prices import ApiPrice, PriceBook

STALE_DAYS = 45
"""Tunewright warns about a price book that is older."""
SHOWN = 8
"""APIs of the built-in book to show beside the one paid for today; a table holds no more."""

_DAYS_A_MONTH = 365.25 / 12
_PLACES = {
    "openai": "OpenAI's API",
    "azure": "Azure",
    "anthropic": "Anthropic's API",
    "google": "the Gemini API",
    "mistral": "Mistral's API",
}


@dataclass(frozen=True)
class Lifetime:
    """How long an API will be available, as seen on one day."""

    end: str | None = None
    """The day of its shutdown, YYYY-MM-DD; None: none is announced."""
    ended: bool = False
    near: bool = False
    """Whether it ends within the horizon, or has ended."""
    summary: str = ""
    """A sentence about the end where it is near; else empty."""
    months_left: float | None = None
    """Months until the end where it is near, 0 where it has ended; else None."""


UNANNOUNCED = Lifetime()


def today() -> date:
    """Today's date, UTC."""
    return datetime.now(UTC).date()


def lifetime(name: str, price: ApiPrice, url: str | None, day: date, months: int) -> Lifetime:
    """When an API ends: on Azure where the endpoint is there, else at its provider.

    Args:
        url: the endpoint, or None.
        day: today.
        months: the horizon; an API that ends within it is `near`.
    """
    provider = price.provider or "openai"
    place = "azure" if provider == "openai" and _is_azure(url) else provider
    end = price.ends.get(place)
    if end is None:
        return Lifetime()
    ended, near = end <= day, end <= day + timedelta(days=round(_DAYS_A_MONTH * months))
    where = _PLACES.get(place, place)
    summary = f"{name} {'left' if ended else 'leaves'} {where} on {end}." if near else ""
    left = max(0, (end - day).days) / _DAYS_A_MONTH if near else None
    return Lifetime(end.isoformat(), ended, near, summary, left)


def _is_azure(url: str | None) -> bool:
    host = (urlsplit(url).hostname or "") if url else ""
    return host == "azure.com" or host.endswith(".azure.com")


def beside(
    book: PriceBook, name: str, url: str | None, day: date, months: int, cost: Callable[[ApiPrice], float]
) -> dict[str, tuple[ApiPrice, Lifetime]]:
    """The API paid for today, then the APIs that a table shows beside it, the cheapest first: those of the user's own
    price book, and the cheapest that will last.

    Args:
        name: the API paid for today.
        months: the horizon; no API of the built-in book that ends within it is shown.
        cost: the cost of the job on an API.

    Raises:
        UserError: the API paid for today has no price.
    """
    known = {each: (price, lifetime(each, price, url, day, months)) for each, price in book.apis_from(name).items()}
    now = known.pop(name)
    ordered = sorted(known, key=lambda each: cost(known[each][0]))
    own = {each for each in ordered if known[each][0].provider is None}
    lasting = [each for each in ordered if each not in own and not known[each][1].near]
    return {name: now} | {each: known[each] for each in ordered if each in own or each in lasting[:SHOWN]}


def thinking(name: str, price: ApiPrice, effort: str | None = None) -> str:
    """A sentence that an estimate from prompts and answers leaves out the API's thinking; empty where it does not
    think.

    Args:
        effort: the reasoning effort of the spec, or None.
    """
    if not price.reasons or effort == "none":
        return ""
    off = "; its reasoning effort none turns that off." if "none" in price.efforts else "."
    return f"{name} may think before it answers, which is billed as output and not in that figure{off}"


def uncached(name: str, price: ApiPrice, *, prompt_tokens: float, answer_tokens: float, requests: float) -> str:
    """A sentence that an estimate takes all of an API's prompt for new, with what a month costs if the cache holds none
    of it and if it holds all of it; empty where its cache costs no less.

    Args:
        name: the API's name in the sentence.
        prompt_tokens, answer_tokens: mean tokens in one prompt and in one answer.
        requests: in a month.
    """
    if price.usd_cached is None or price.usd_cached >= price.usd_in:
        return ""
    most, least = (
        api_cost(
            price, prompt_tokens=prompt_tokens, answer_tokens=answer_tokens, requests=requests, cached_tokens=cached
        ).usd_per_month
        for cached in (0.0, prompt_tokens)
    )
    return (
        f"All of {name}'s prompt is priced as new, because nobody counted what its cache holds. That would cost "
        f"${price.usd_cached:g} instead of ${price.usd_in:g} a million tokens: a month is {usd(most)} if it holds "
        f"nothing, and {usd(least)} if it holds every prompt whole."
    )


def stale(book: PriceBook, day: date) -> str:
    """A warning where the price book is too old to rely on; else empty."""
    age = book.age_days(day)
    if age <= STALE_DAYS:
        return ""
    return (
        f"The prices are {age} days old (machines {book.as_of}, APIs {book.apis_as_of}), and prices of APIs change "
        "within weeks. To read today's: tunewright models prices --refresh"
    )

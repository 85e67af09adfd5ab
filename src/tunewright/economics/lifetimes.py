"""How long an API will be there, and how old its price is: which may be recommended, and what must be said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from urllib.parse import urlsplit

from tunewright.economics.prices import ApiPrice, PriceBook

STALE_DAYS = 45
"""A price book that is older is said to be."""
SHOWN = 8
"""Of the built-in book's APIs, beside the one that is paid for today: more than a table holds."""

_PLACES = {
    "openai": "OpenAI's API",
    "azure": "Azure",
    "anthropic": "Anthropic's API",
    "google": "the Gemini API",
    "mistral": "Mistral's API",
}


@dataclass(frozen=True)
class Lifetime:
    """How long an API will be there, as seen on one day."""

    end: str | None = None
    """The day of its shutdown, YYYY-MM-DD; None: none is announced."""
    ended: bool = False
    near: bool = False
    """It ends within the horizon, or has ended."""
    summary: str = ""
    """A sentence, where it is near."""


UNANNOUNCED = Lifetime()


def today() -> date:
    """The day, UTC."""
    return datetime.now(UTC).date()


def lifetime(name: str, price: ApiPrice, url: str | None, day: date, months: int) -> Lifetime:
    """When an API ends: on Azure for what is asked there, else at its provider.

    Args:
        url: the endpoint that is asked, or None.
        day: today.
        months: the horizon; an API that ends within it is said to.
    """
    provider = price.provider or "openai"
    place = "azure" if provider == "openai" and _is_azure(url) else provider
    end = price.ends.get(place)
    if end is None:
        return Lifetime()
    ended, near = end <= day, end <= day + timedelta(days=round(365.25 / 12 * months))
    where = _PLACES.get(place, place)
    summary = f"{name} {'left' if ended else 'leaves'} {where} on {end}." if near else ""
    return Lifetime(end.isoformat(), ended, near, summary)


def _is_azure(url: str | None) -> bool:
    host = (urlsplit(url).hostname or "") if url else ""
    return host == "azure.com" or host.endswith(".azure.com")


def beside(
    book: PriceBook, name: str, url: str | None, day: date, months: int, cost: Callable[[ApiPrice], float]
) -> dict[str, tuple[ApiPrice, Lifetime]]:
    """The API paid for today, then what a table shows beside it: the user's own, and the cheapest that will last; the
    cheapest first.

    Args:
        name: of the API paid for today.
        months: the horizon within which none of the book's may end.
        cost: what the job costs on an API.

    Raises:
        UserError: it has no price.
    """
    known = {each: (price, lifetime(each, price, url, day, months)) for each, price in book.apis_from(name).items()}
    now = known.pop(name)
    ordered = sorted(known, key=lambda each: cost(known[each][0]))
    own = {each for each in ordered if known[each][0].provider is None}
    lasting = [each for each in ordered if each not in own and not known[each][1].near]
    return {name: now} | {each: known[each] for each in ordered if each in own or each in lasting[:SHOWN]}


def thinking(name: str, price: ApiPrice, effort: str | None = None) -> str:
    """What an estimate from tokens of prompts and answers leaves out, in a sentence; nothing where it only answers.

    Args:
        effort: the reasoning effort that is asked for, where one is.
    """
    if not price.reasons or effort == "none":
        return ""
    off = "; its reasoning effort none turns that off." if "none" in price.efforts else "."
    return f"{name} may think before it answers, which is billed as output and not in that figure{off}"


def stale(book: PriceBook, day: date) -> str:
    """A warning, where the price book is too old to be relied on; else nothing."""
    age = book.age_days(day)
    if age <= STALE_DAYS:
        return ""
    return (
        f"The prices are {age} days old (machines {book.as_of}, APIs {book.apis_as_of}), and prices of APIs change "
        "within weeks. To read today's: tunewright models prices --refresh"
    )

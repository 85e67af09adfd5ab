"""Both halves of a price book as they are priced now: machines and APIs."""

from __future__ import annotations

from typing import Any

from tunewright.economics import retail, snapshot
from tunewright.economics.lifetimes import today
from tunewright.economics.prices import PriceBook


def refreshed_book(
    book: PriceBook, region: str, machines_url: str = retail.URL, apis_url: str = snapshot.URL
) -> tuple[dict[str, Any], list[str]]:
    """(what to write into a price book of the user's own, what is left as built in, a sentence each).

    Args:
        region: Azure's name of it, such as eastus.

    Raises:
        UserError: one of the lists can't be reached, refuses, or has not what is asked of it.
    """
    made, unoffered = retail.refreshed(book, region, machines_url)
    apis, unlisted = snapshot.api_prices(snapshot.published(apis_url), today())
    made |= {"apis_as_of": today().isoformat(), "apis_source": "genai-prices", "apis": apis}
    left = []
    if unoffered:
        left.append(f"Not offered in {region}, so left as built in: {', '.join(unoffered)}")
    if unlisted:
        left.append(f"Not in genai-prices, so left as built in: {', '.join(unlisted)}")
    return made, left

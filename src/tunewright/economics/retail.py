"""Today's prices of virtual machines, from Azure's public price list, which needs no account."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx

from tunewright.core.errors import UserError
from tunewright.core.version import __version__
from tunewright.economics.prices import PriceBook

URL = "https://prices.azure.com/api/retail/prices"
_VERSION = "2023-01-01-preview"
_AT_ONCE = 10
"""Sizes in one query; the list refuses longer ones."""
_TRIES = 4
_OTHERS = ("windows", "spot", "low priority", "cloudservices")
"""Words in the names of rows for anything but a plain machine with Linux."""


def refreshed(book: PriceBook, region: str, url: str = URL) -> tuple[dict[str, Any], list[str]]:
    """(a price book of the machines with today's prices, the names that the list does not have). Other prices, of
    Container Apps and disks, are not asked for.

    Args:
        region: Azure's name of the region, such as eastus.

    Raises:
        UserError: the price list can't be reached, refuses, or has none of the machines in this region.
    """
    names = [name for name in book.machines if name.startswith("Standard_")]
    prices = machine_prices(names, region, url)
    if not prices:
        raise UserError(
            f"Azure's price list has none of these machines in '{region}'.",
            where=url,
            fix="Check the region's name: az account list-locations -o table",
        )
    machines = {name: {"usd_per_hour": prices[name]} for name in names if name in prices}
    today = datetime.now(UTC).date().isoformat()
    source = f"Azure Retail Prices API, {region}, {today}; Container Apps and disks: {book.as_of}, {book.source}"
    refreshed_prices = {"as_of": today, "source": source, "machines": machines}
    return refreshed_prices, [name for name in names if name not in prices]


def machine_prices(names: Sequence[str], region: str, url: str = URL) -> dict[str, float]:
    """USD an hour by size, for the machines that the list has in a region.

    Raises:
        UserError: the price list can't be reached, or refuses.
    """
    prices: dict[str, float] = {}
    with httpx.Client(headers={"User-Agent": f"tunewright/{__version__}"}, timeout=30) as client:
        for start in range(0, len(names), _AT_ONCE):
            for row in _rows(client, url, region, names[start : start + _AT_ONCE]):
                name, price = row["armSkuName"], float(row["retailPrice"])
                if _is_plain(row) and price > 0:
                    prices[name] = min(price, prices.get(name, price))
    return prices


def _is_plain(row: dict[str, Any]) -> bool:
    words = f"{row.get('productName', '')} {row.get('skuName', '')} {row.get('meterName', '')}".lower()
    return row.get("unitOfMeasure") == "1 Hour" and not any(other in words for other in _OTHERS)


def _rows(client: httpx.Client, url: str, region: str, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    sizes = " or ".join(f"armSkuName eq '{name}'" for name in names)
    plain = "serviceName eq 'Virtual Machines' and priceType eq 'Consumption'"
    query = f"{plain} and armRegionName eq '{region}' and ({sizes})"
    page = _page(client, url, {"api-version": _VERSION, "currencyCode": "USD", "$filter": query})
    while True:
        yield from page.get("Items", [])
        following = page.get("NextPageLink")
        if not following:
            return
        page = _page(client, following, None)


def _page(client: httpx.Client, url: str, parameters: dict[str, str] | None) -> dict[str, Any]:
    for attempt in range(_TRIES):
        try:
            reply = client.get(url, params=parameters)
        except httpx.HTTPError as error:
            raise UserError(
                "Azure's price list can't be reached.",
                where=url,
                why=f"{type(error).__name__}.",
                fix="Check the network. Without it the built-in prices hold.",
            ) from None
        if reply.status_code != 429 and reply.status_code < 500:
            break
        time.sleep(_wait(reply, attempt))
    try:
        page = dict(reply.raise_for_status().json())
    except (httpx.HTTPStatusError, ValueError, TypeError):
        raise UserError(
            f"Azure's price list answered with status {reply.status_code}, or with something other than prices.",
            where=url,
            fix="Try again later. Until then the built-in prices hold.",
        ) from None
    return page


def _wait(reply: httpx.Response, attempt: int) -> float:
    seconds = reply.headers.get("retry-after", "")
    return min(float(seconds), 60.0) if seconds.replace(".", "", 1).isdigit() else 0.5 * 2**attempt

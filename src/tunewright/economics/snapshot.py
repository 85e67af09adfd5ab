"""Prices of APIs from genai-prices: the part of its published file that matters here, as entries of a price book.

The built-in snapshot, `apis.json`, is written by `python -m tunewright.economics.snapshot SOURCE` from that file, or
from the one that SOURCE names. The package itself is no dependency: its module of prices is 1.6 MB, its client of HTTP
a second one beside ours, and of both a few hundred figures are needed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx

from tunewright.core.errors import UserError
from tunewright.economics import retail, snapshot
from tunewright.economics.lifetimes import today
from tunewright.economics.prices import PriceBook

URL = "https://raw.githubusercontent.com/pydantic/genai-prices/refs/heads/main/prices/new_data/v2/data.json"
"""Where genai-prices (MIT, github.com/pydantic/genai-prices) publishes its prices: the address that its own updater
asks (version 0.2.3, 2026-11-27)."""

MODELS: dict[str, tuple[str, ...]] = {
    "openai": (
        "gpt-6-luna",
        "gpt-6.1-terra",
        "gpt-6.1-sol",
        "gpt-6-sol",
        "gpt-6-astra",
        "gpt-5.6-luna",
        "gpt-5.6-terra",
        "gpt-5.6-sol",
        "gpt-5.4-nano",
        "gpt-5.4-mini",
        "gpt-5.4",
        "gpt-5.1",
        "gpt-5-nano",
        "gpt-5-mini",
        "gpt-5",
        "gpt-4o",
        "gpt-4o-mini",
        "gpt-4.1",
        "gpt-4.1-mini",
        "gpt-4.1-nano",
    ),
    "anthropic": ("claude-haiku-5-5", "claude-haiku-4-5", "claude-sonnet-5-5", "claude-opus-5-5"),
    "google": (
        "gemini-3.5-flash-lite",
        "gemini-3.1-flash-lite",
        "gemini-3.8-flash",
        "gemini-2.5-flash-lite",
        "gemini-2.5-flash",
        "gemini-2.5-pro",
    ),
    "mistral": (
        "ministral-3b-2512",
        "ministral-8b-2512",
        "ministral-14b-2512",
        "mistral-small-2603",
        "mistral-large-2512",
    ),
}
"""What a team is likely to pay today, and what it may turn to, by provider."""

_PRICES = {
    "usd_in": "input_mtok",
    "usd_cached": "cache_read_mtok",
    "usd_cache_write": "cache_write_mtok",
    "usd_out": "output_mtok",
}
_BATCH = ({"processing": "batch"},)
_FAST = ({"service_tier": "fast"}, {"speed": "fast"})


def published(url: str = URL) -> list[Any]:
    """All prices as genai-prices publishes them now.

    Raises:
        UserError: they can't be reached, or are something else than a list of providers.
    """
    fix = "Check the network, or try again later. Until then the built-in prices hold."
    try:
        reply = httpx.get(url, timeout=30, follow_redirects=True)
    except httpx.HTTPError as error:
        raise UserError(
            "The prices of APIs can't be reached.", where=url, why=f"{type(error).__name__}.", fix=fix
        ) from None
    try:
        providers = reply.raise_for_status().json()
    except (httpx.HTTPStatusError, ValueError):
        providers = None
    if not isinstance(providers, list):
        raise UserError(
            f"The list of API prices answered with status {reply.status_code}, or with something else than prices.",
            where=url,
            fix=fix,
        )
    return providers


def api_prices(providers: Sequence[Any], today: date) -> tuple[dict[str, Any], list[str]]:
    """(the entries of a price book for `MODELS` by name, the names that the list does not have).

    Args:
        providers: as genai-prices publishes them.
        today: whose prices are taken, where a list says from when on each holds.

    Prices of long prompts, which some models have from 100,000 tokens on, are left out: requests here are shorter.

    Raises:
        UserError: the list has another form than version 2 of it.
    """
    try:
        listed = {(provider["id"], model["id"]): model for provider in providers for model in provider["models"]}
        wanted = [(provider, name) for provider, names in MODELS.items() for name in names]
        found = {
            name: {"provider": provider, **_entry(listed[provider, name], today)}
            for provider, name in wanted
            if (provider, name) in listed
        }
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            "The list of API prices has another form than expected.",
            why=f"{type(error).__name__}: {error}",
            fix="Until Tunewright knows that form, the built-in prices hold.",
        ) from None
    return found, [name for _, name in wanted if name not in found]


def _entry(model: Mapping[str, Any], today: date) -> dict[str, Any]:
    usual = _prices_on(model["prices"], today)
    entry = {ours: usual[theirs] for ours, theirs in _PRICES.items() if theirs in usual}
    for name, tiers in (("batch", _BATCH), ("fast", _FAST)):
        factor = _factor(model, usual, tiers, today)
        if factor is not None:
            entry[name] = factor
    return entry


def _prices_on(prices: Any, today: date) -> dict[str, float]:
    """Those that hold: the last whose day has come. What only holds at some hours is no price to plan with."""
    if isinstance(prices, list):
        begun = [each["prices"] for each in prices if _has_begun(each.get("constraint"), today)]
        prices = begun[-1]
    return {name: float(price["base"] if isinstance(price, dict) else price) for name, price in prices.items()}


def _has_begun(constraint: Mapping[str, Any] | None, today: date) -> bool:
    if constraint is None:
        return True
    return "start_date" in constraint and date.fromisoformat(constraint["start_date"]) <= today


def _factor(
    model: Mapping[str, Any], usual: Mapping[str, float], tiers: Sequence[Mapping[str, str]], today: date
) -> float | None:
    """What such a way of asking costs, as a share of the usual price; the larger where in and out differ."""
    for variant in model.get("price_variants") or ():
        if variant["when"] in tiers and _has_begun(variant.get("constraint"), today):
            other = _prices_on(variant["prices"], today)
            shares = [other[name] / usual[name] for name in ("input_mtok", "output_mtok") if usual.get(name)]
            return round(max(shares), 4) if shares else None
    return None


def main(source: str, file: Path | None = None) -> None:
    """Write the built-in snapshot anew, from `file`, or from what is published."""
    today = datetime.now(UTC).date()
    providers = json.loads(file.read_text("utf-8")) if file else published()
    found, missing = api_prices(providers, today)
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in found.items())
    text = f'{{"apis_as_of": "{today}", "apis_source": {json.dumps(source)}, "apis": {{\n{lines}\n}}}}\n'
    (Path(__file__).parent / "apis.json").write_text(text, "utf-8")
    if missing:
        sys.stderr.write(f"Not in the list: {', '.join(missing)}\n")


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:3]))


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

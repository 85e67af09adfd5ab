"""Prices of APIs from genai-prices: the part of its published file that Tunewright needs, as entries of a price book.

`python -m tunewright.economics.snapshot SOURCE [FILE]` writes the built-in snapshot, `apis.json`, from the published
file, or from FILE; SOURCE is the name that the snapshot gives its source. The package itself is no dependency: its
module of prices has 1.6 MB, its HTTP client would be a second one beside ours, and only a few hundred figures are
needed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import httpx

from tunewright.core.errors import UserError
from tunewright.economics import retail
from tunewright.economics.lifetimes import today
from tunewright.economics.prices import PriceBook

URL = "https://raw.githubusercontent.com/pydantic/genai-prices/refs/heads/main/prices/new_data/v2/data.json"
"""Where genai-prices (MIT, github.com/pydantic/genai-prices) publishes its prices; its own updater reads this address
(version 0.2.3, 2026-11-27)."""

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
"""The models that a team is likely to pay for today or may move to, by provider."""

_PRICES = {
    "usd_in": "input_mtok",
    "usd_cached": "cache_read_mtok",
    "usd_cache_write": "cache_write_mtok",
    "usd_out": "output_mtok",
}
_BATCH = ({"processing": "batch"},)
_FAST = ({"service_tier": "fast"}, {"speed": "fast"})


def published(url: str = URL) -> list[Any]:
    """All prices that genai-prices publishes now.

    Raises:
        UserError: they can't be reached, or are something other than a list of providers.
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
            f"The list of API prices answered with status {reply.status_code}, or with something other than prices.",
            where=url,
            fix=fix,
        )
    return providers


def api_prices(providers: Sequence[Any], today: date) -> tuple[dict[str, Any], list[str]]:
    """(the entries of a price book for `MODELS` by name, the names that the list does not have).

    Args:
        providers: the list that genai-prices publishes.
        today: the day whose prices are used, where a list dates its prices.

    Prices of long prompts, which some models have from 100,000 tokens on, are left out: requests here are shorter.

    Raises:
        UserError: the list does not have the form of version 2.
    """
    try:
        listed = {(provider["id"], model["id"]): model for provider in providers for model in provider["models"]}
        models = [(provider, name) for provider, names in MODELS.items() for name in names]
        entries = {
            name: {"provider": provider, **_entry(listed[provider, name], today)}
            for provider, name in models
            if (provider, name) in listed
        }
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            "The list of API prices has another form than expected.",
            why=f"{type(error).__name__}: {error}",
            fix="Until Tunewright knows that form, the built-in prices hold.",
        ) from None
    return entries, [name for _, name in models if name not in entries]


def _entry(model: Mapping[str, Any], today: date) -> dict[str, Any]:
    usual = _prices_on(model["prices"], today)
    entry = {ours: usual[theirs] for ours, theirs in _PRICES.items() if theirs in usual}
    for name, tiers in (("batch", _BATCH), ("fast", _FAST)):
        factor = _factor(model, usual, tiers, today)
        if factor is not None:
            entry[name] = factor
    return entry


def _prices_on(prices: Any, today: date) -> dict[str, float]:
    """The prices that hold: the last whose day has come. A price that holds only at some hours is left out."""
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
    """The price in one of these tiers, as a share of the usual price; the larger share where in and out differ."""
    for variant in model.get("price_variants") or ():
        if variant["when"] in tiers and _has_begun(variant.get("constraint"), today):
            other = _prices_on(variant["prices"], today)
            shares = [other[name] / usual[name] for name in ("input_mtok", "output_mtok") if usual.get(name)]
            return round(max(shares), 4) if shares else None
    return None


def refreshed_book(
    book: PriceBook, region: str, machines_url: str = retail.URL, apis_url: str = URL
) -> tuple[dict[str, Any], list[str]]:
    """(the content of a user's own price book with today's prices, a sentence for each price left as built in).

    Args:
        region: Azure's name of the region, such as eastus.

    Raises:
        UserError: one of the lists can't be reached, refuses, or lacks what is needed.
    """
    refreshed, unoffered = retail.refreshed(book, region, machines_url)
    apis, unlisted = api_prices(published(apis_url), today())
    others = [name for name in book.machines if name not in refreshed["machines"] and name not in unoffered]
    refreshed |= {"apis_as_of": today().isoformat(), "apis_source": "genai-prices", "apis": apis}
    refreshed["unread"] = [*unoffered, *others, *unlisted]
    left = [f"In neither list, so left as built in: {', '.join([*others, 'disks'])}"]
    if unoffered:
        left.append(f"Not offered in {region}, so left as built in: {', '.join(unoffered)}")
    if unlisted:
        left.append(f"Not in genai-prices, so left as built in: {', '.join(unlisted)}")
    return refreshed, left


def main(source: str, file: Path | None = None) -> None:
    """Write the built-in snapshot anew, from `file`, or from the published prices."""
    day = today()
    providers = json.loads(file.read_text("utf-8")) if file else published()
    entries, missing = api_prices(providers, day)
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
    text = f'{{"apis_as_of": "{day}", "apis_source": {json.dumps(source)}, "apis": {{\n{lines}\n}}}}\n'
    (Path(__file__).parent / "apis.json").write_text(text, "utf-8")
    if missing:
        sys.stderr.write(f"Not in the list: {', '.join(missing)}\n")


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:3]))

"""The price book: dated prices of machines and APIs.

It overlays three files: `apis.json` with the prices of APIs (`snapshot.py` writes it, from genai-prices); `prices.yaml`
with machines and further facts about APIs, each with its source; and the user's own, if the spec names one.
"""

from __future__ import annotations

import calendar
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from tunewright.config import overlay
from tunewright.config.sections import OWN_CANDIDATES
from tunewright.config.yaml_text import read_yaml
from tunewright.core.errors import UserError, did_you_mean
from tunewright.core.limits import SPEC_BYTES
from tunewright.core.regular import read_bytes

_BOOKS = 16
"""Books that are kept."""

Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


def _day(value: object) -> object:
    """A day or a month as text. YAML reads 2026-11-27 as a date, and 2026-11 as text."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        try:
            date.fromisoformat(value if len(value) > 7 else f"{value}-01")
        except ValueError:
            raise ValueError(f"'{value}' is neither a day, such as 2026-11-27, nor a month, such as 2026-11") from None
    return value


Day = Annotated[str, BeforeValidator(_day)]
"""A day (2026-11-27) or a month (2026-11)."""


class Card(BaseModel):
    """The properties of a GPU card."""

    model_config = ConfigDict(extra="forbid")

    gib: Amount
    """Memory of a whole card, GiB, as sold."""
    free_gib: Amount | None = None
    """Memory that CUDA reports, less than `gib` because of the driver and error correction. None: not known, so all of
    it."""
    tflops: Amount
    """Sustained dense products in 16 bits with large matrices, TFLOP/s; a program reaches a share of it."""
    tflops32: Amount
    """Dense products in float32, TFLOP/s, peak."""
    gb_per_second: Amount
    """Memory bandwidth, GB/s, peak."""
    bfloat16: bool = True
    """Whether it computes in bfloat16; otherwise it trains in float16."""


class Gpu(BaseModel):
    """The GPUs of a machine."""

    model_config = ConfigDict(extra="forbid")

    card: str
    gib: Amount
    """Memory of each, GiB; less than the card's where the machine has a share of one."""
    count: Count = 1


class MachinePrice(BaseModel):
    model_config = ConfigDict(extra="forbid")

    usd_per_hour: Price
    cores: Count
    memory_gib: Amount | None = None
    """Main memory; None: not known, so nothing is refused for lack of it."""
    gpu: Gpu | None = None
    scales_to_zero: bool = False
    """Whether it is paid only while it runs: from the first request until some minutes after the last."""
    clusters: bool = True
    """Whether Azure ML has clusters of it, which `azure.gpu` and `azure.cpu` name."""
    proposed: bool = True
    """Whether Tunewright proposes it and estimates answers on it; otherwise it is priced only where a spec names it."""


class ApiPrice(BaseModel):
    """The prices of an API in USD for a million tokens, and how long it will be available.

    Prompts are assumed to be shorter than those for which some models cost more (100,000 tokens or more).
    """

    model_config = ConfigDict(extra="forbid")

    provider: str | None = None
    """openai, anthropic, google or mistral; None for an API that only the user's own book has."""
    usd_in: Price
    """Prompt tokens."""
    usd_cached: Price | None = None
    """Prompt tokens from the endpoint's cache; None: the price of any other."""
    usd_cache_write: Price | None = None
    """Prompt tokens that the endpoint writes to its cache; None: the price of any other."""
    usd_out: Price
    """Answer tokens; thinking is billed as these."""
    batch: Price | None = None
    """The price of answers within a day, as a share of the usual price; None: the book's `batch`."""
    fast: Price | None = None
    """The price of the provider's fast tier, as a multiple of the usual price; None: not known."""
    ends: dict[str, date] = {}
    """The day of its shutdown, by host: its provider's name, or azure. A host without an announced end is left out."""
    reasons: bool = False
    """Whether it can think before it answers."""
    efforts: list[str] = []
    """The reasoning efforts that it takes, the lowest first; empty: none, or not known."""

    def times(self, factor: float) -> ApiPrice:
        """The same API with all prices multiplied."""
        prices = {
            name: None if (price := getattr(self, name)) is None else price * factor
            for name in ("usd_in", "usd_cached", "usd_cache_write", "usd_out")
        }
        return self.model_copy(update=prices)

    def usd(
        self, prompt_tokens: float, answer_tokens: float, cached_tokens: float = 0, cache_write_tokens: float = 0
    ) -> float:
        """The price of an answer.

        Args:
            answer_tokens: tokens of the answer, its thinking included.
            cached_tokens: prompt tokens from the cache.
            cache_write_tokens: prompt tokens written to the cache; none of them is also in `cached_tokens`.
        """
        cached = self.usd_in if self.usd_cached is None else self.usd_cached
        written = self.usd_in if self.usd_cache_write is None else self.usd_cache_write
        fresh = prompt_tokens - cached_tokens - cache_write_tokens
        prompt = fresh * self.usd_in + cached_tokens * cached + cache_write_tokens * written
        return (prompt + answer_tokens * self.usd_out) / 1e6


Priced = TypeVar("Priced", MachinePrice, ApiPrice)


class PriceBook(BaseModel):
    model_config = ConfigDict(extra="forbid")

    as_of: Day
    """When the prices of machines were read; in a user's own book, all its prices. Such a book makes the date newer
    only where it prices everything, because the others are as old as they were."""
    source: str
    apis_as_of: Day
    """When the prices of APIs were read."""
    apis_source: str
    machines: dict[str, MachinePrice]
    cards: dict[str, Card]
    apis: dict[str, ApiPrice]
    disk_usd_per_gib: Price
    """The price of a GiB on a disk for a month."""
    batch: Price
    """The price of a batch API, which answers within a day, as a share of the usual price; for APIs without their
    own."""
    unread: list[str] = []
    """Machines and APIs that the price lists of a refresh don't have; they don't make its date older."""

    @model_validator(mode="after")
    def _cards_are_known(self) -> PriceBook:
        for name, machine in self.machines.items():
            if machine.gpu and machine.gpu.card not in self.cards:
                raise ValueError(f"the machine {name} has the card {machine.gpu.card}, which is not among the cards")
        return self

    @model_validator(mode="after")
    def _apis_have_names_of_their_own(self) -> PriceBook:
        if taken := next((name for name in self.apis if name in OWN_CANDIDATES), None):
            raise ValueError(f"an API can't be called '{taken}', as a candidate of the verdict is")
        return self

    def machine(self, name: str, key: str = "traffic.machine") -> MachinePrice:
        """A machine.

        Args:
            key: of the spec, that names it.

        Raises:
            UserError: it has no price.
        """
        return _find(name, self.machines, key, f"Known: {', '.join(self.machines)}.")

    def api(self, name: str, key: str = "api.model") -> ApiPrice:
        """An API; as `machine`."""
        otherwise = "See: tunewright models prices. To price any other, write your own book: docs/economics.md"
        return _find(name, self.apis, key, otherwise)

    def batch_of(self, price: ApiPrice) -> float:
        """The price of an API's answers within a day, as a share of its usual price."""
        return self.batch if price.batch is None else price.batch

    def apis_from(self, name: str) -> dict[str, ApiPrice]:
        """All APIs, the named one first.

        Raises:
            UserError: the named one has no price.
        """
        return {name: self.api(name)} | self.apis

    def age_days(self, today: date) -> int:
        """Days since the older of its dates; a month counts as its last day."""
        return max(0, max((today - _last_day(day)).days for day in (self.as_of, self.apis_as_of)))


def _first_day(day: str) -> date:
    return date.fromisoformat(day if len(day) > 7 else f"{day}-01")


def _last_day(day: str) -> date:
    first = _first_day(day)
    return first if len(day) > 7 else first.replace(day=calendar.monthrange(first.year, first.month)[1])


def _find(name: str, prices: dict[str, Priced], key: str, otherwise: str) -> Priced:
    if name not in prices:
        raise UserError(f"The price book has no '{name}' ({key}).", fix=did_you_mean(name, prices, otherwise))
    return prices[name]


def price_book(over: Path | None = None) -> PriceBook:
    """The built-in price book, overlaid by the user's own as it is now.

    Raises:
        UserError: the user's book does not exist, is not YAML, has other keys or values than a price book, or is dated
            in the future.
    """
    return _price_book(over, _stamp_of(over) if over else None)


def _stamp_of(file: Path) -> tuple[int, int, int] | None:
    """What differs once a file has changed; None: it can't be looked at, and reading it will say why."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


@lru_cache(_BOOKS)
def _price_book(over: Path | None, _stamp: tuple[int, int, int] | None) -> PriceBook:
    data = _built_in()
    built_in = PriceBook.model_validate(data)
    if over is None:
        return built_in
    own = _own(over)
    overlay(data, own)
    if "source" not in own:
        data["source"] = f"{data['source']}; over it {over.name}"
    if "apis" in own:
        data["apis_as_of"] = own.get("apis_as_of", own.get("as_of", data["apis_as_of"]))
    try:
        book = PriceBook.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the book"
        raise UserError(f"{key}: {first['msg'].removeprefix('Value error, ')}.", where=over, fix=_KEYS) from None
    today = datetime.now(UTC).date()
    for key, day in (("as_of", book.as_of), ("apis_as_of", book.apis_as_of)):
        if key in own and _first_day(day) > today:
            raise UserError(
                f"This price book is dated {day}, which is in the future: today is {today}.",
                where=over,
                why="Its prices would count as new for longer than they are.",
                fix=f"Set `{key}` to the day on which they were read; or set this machine's clock.",
            )
    machines = _priced(book, own.get("machines"), "usd_per_hour")
    apis = _priced(book, own.get("apis"), "usd_in", "usd_out")
    as_of = _day_of_all(book.as_of, built_in.as_of, built_in.machines.keys() <= machines)
    apis_as_of = _day_of_all(book.apis_as_of, built_in.apis_as_of, built_in.apis.keys() <= apis)
    return book.model_copy(update={"as_of": as_of, "apis_as_of": apis_as_of})


def _priced(book: PriceBook, own: Mapping[str, Mapping[str, object]] | None, *prices: str) -> set[str]:
    """The names for which a user's own book has all these prices, or of which it says that nobody can read them."""
    return {name for name, entry in (own or {}).items() if all(price in entry for price in prices)} | {*book.unread}


def _day_of_all(own: str, built_in: str, replaced: bool) -> str:
    """The day of a user's own prices where they replace all built-in ones; else the older of both days."""
    return own if replaced else min(own, built_in, key=_last_day)


_KEYS = (
    "A price book has as_of, source, machines, cards, apis, apis_as_of, apis_source, disk_usd_per_gib, batch and "
    "unread: "
    "tunewright models prices --json"
)


def _built_in() -> dict[str, Any]:
    from ruamel.yaml import YAML

    folder = resources.files("tunewright.economics")
    data: dict[str, Any] = json.loads((folder / "apis.json").read_text("utf-8"))
    overlay(data, YAML(typ="safe").load((folder / "prices.yaml").read_text("utf-8")))
    return data


def _own(file: Path) -> dict[str, Any]:
    try:
        own = read_yaml(read_bytes(file, SPEC_BYTES, _KEYS).decode(), str(file), _KEYS)
    except FileNotFoundError:
        raise UserError("This price book does not exist.", where=file, fix="Check `prices` in the spec.") from None
    except UnicodeDecodeError:
        raise UserError("This price book is not YAML.", where=file, fix=_KEYS) from None
    if not isinstance(own, dict):
        raise UserError("This price book is no mapping.", where=file, fix=_KEYS)
    return own

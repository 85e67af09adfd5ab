"""The price book: dated prices of machines and APIs."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tunewright.errors import UserError, did_you_mean
from tunewright.spec import overlay

Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Card(BaseModel):
    """What a GPU can do."""

    model_config = ConfigDict(extra="forbid")

    gib: float
    """Memory of a whole card, GiB, as it is sold."""
    free_gib: float | None = None
    """What CUDA reports of it: less, for the driver and error correction. None: not known, so all of it."""
    tflops: float
    """Dense products in 16 bits that large matrices reach for long, TFLOP/s; a program reaches a share of it."""
    tflops32: float
    """Dense products in float32, TFLOP/s, peak."""
    gb_per_second: float
    """Memory bandwidth, GB/s, peak."""
    bfloat16: bool = True
    """Whether it computes in bfloat16; otherwise it trains in float16."""


class Gpu(BaseModel):
    """What of GPUs a machine has."""

    model_config = ConfigDict(extra="forbid")

    card: str
    gib: float
    """Memory of each, GiB; less than the card's where the machine has a share of one."""
    count: int = 1


class MachinePrice(BaseModel):
    model_config = ConfigDict(extra="forbid")

    usd_per_hour: Price
    cores: int
    memory_gib: float | None = None
    """Main memory; None: not known, and then nothing is refused for want of it."""
    gpu: Gpu | None = None
    scales_to_zero: bool = False
    """Paid only while it runs, which it does from the first request until some minutes after the last."""


class ApiPrice(BaseModel):
    model_config = ConfigDict(extra="forbid")

    usd_in: Price
    """USD for a million prompt tokens."""
    usd_cached: Price | None = None
    """USD for a million prompt tokens that the endpoint has read before; None: as much as any other."""
    usd_out: Price
    """USD for a million answer tokens."""

    def times(self, factor: float) -> ApiPrice:
        """All of its prices, multiplied."""
        cached = None if self.usd_cached is None else self.usd_cached * factor
        return ApiPrice(usd_in=self.usd_in * factor, usd_cached=cached, usd_out=self.usd_out * factor)

    def usd(self, prompt_tokens: float, answer_tokens: float, cached_tokens: float = 0) -> float:
        """The price of an answer. `cached_tokens`: those of the prompt that were read before."""
        cached = self.usd_in if self.usd_cached is None else self.usd_cached
        fresh = (prompt_tokens - cached_tokens) * self.usd_in + cached_tokens * cached
        return (fresh + answer_tokens * self.usd_out) / 1e6


Priced = TypeVar("Priced", MachinePrice, ApiPrice)


class PriceBook(BaseModel):
    model_config = ConfigDict(extra="forbid")

    as_of: str
    source: str
    machines: dict[str, MachinePrice]
    cards: dict[str, Card]
    apis: dict[str, ApiPrice]
    batch: Price
    """What the batch API, which answers within a day, asks of the usual price."""

    @model_validator(mode="after")
    def _cards_are_known(self) -> PriceBook:
        for name, machine in self.machines.items():
            if machine.gpu and machine.gpu.card not in self.cards:
                raise ValueError(f"the machine {name} has the card {machine.gpu.card}, which is not among the cards")
        return self

    def machine(self, name: str) -> MachinePrice:
        return _find(name, self.machines, "traffic.machine")

    def api(self, name: str) -> ApiPrice:
        return _find(name, self.apis, "api.model")

    def apis_from(self, name: str) -> dict[str, ApiPrice]:
        """All of them, the named one first.

        Raises:
            UserError: it has no price.
        """
        return {name: self.api(name)} | self.apis


def _find(name: str, prices: dict[str, Priced], key: str) -> Priced:
    if name not in prices:
        hint = did_you_mean(name, prices, f"Known: {', '.join(prices)}.")
        raise UserError(f"The price book has no '{name}' ({key}).", fix=hint)
    return prices[name]


@cache
def price_book(over: Path | None = None) -> PriceBook:
    """The built-in price book, with a user's own laid over it.

    Raises:
        UserError: the user's is not there, is not YAML, or has other keys or values than a price book has.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    data = YAML(typ="safe").load((resources.files("tunewright.assess") / "prices.yaml").read_text("utf-8"))
    if over is None:
        return PriceBook.model_validate(data)
    fix = "A price book has as_of, source, machines, cards, apis and batch: tunewright models prices --json"
    try:
        own = YAML(typ="safe").load(over.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError("This price book is not there.", where=over, fix="Check `prices` in the spec.") from None
    except (YAMLError, UnicodeDecodeError):
        raise UserError("This price book is not YAML.", where=over, fix=fix) from None
    if not isinstance(own, dict):
        raise UserError("This price book is no mapping.", where=over, fix=fix)
    overlay(data, own)
    if "source" not in own:
        data["source"] = f"{data['source']}; over it {over.name}"
    try:
        return PriceBook.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the book"
        raise UserError(f"{place}: {first['msg'].removeprefix('Value error, ')}.", where=over, fix=fix) from None

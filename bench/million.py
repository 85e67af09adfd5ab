"""What a million answers cost, from measured speeds: each model of the scoreboard beside the cheapest APIs.

    python bench/million.py          # prints the tables of docs/economics.md, and draws docs/million.svg

Speeds are those of bench/scoreboard.json: a model's P50 and P95 over HTTP, one request at a time, say how long a server
of two cores is busy with an answer; the rate of a batch is that of all cores. Nobody measured the larger machines:
Standard_F8s_v2 counts as four such servers, and a T4 by the plan's estimate. A machine is busy for as much of its time
as keeps the goal at four times the average traffic, and a second one stands by. Machines alone count; people who review
are shown beside them: they cost the same with every model.

An API reads the same request, by letters. Its whole instruction counts as cached, which is its best case: OpenAI caches
prompts from 1,024 tokens on (openai-cookbook, Prompt_Caching_201, read 2026-11-30), and most of these are shorter.
Thinking is not counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import fmean
from typing import Any

from data_sets import DATA
from economics_plot import Axes, Line, drawn
from scoreboard_sets import MODELS, find_set, parts_of

from economics import BOOK, PER_DECADE, REVIEWS, count, pays_from
from tunewright.economics import host_cost
from tunewright.economics.cost import LETTERS_A_TOKEN, Service
from tunewright.economics.hosting import service_of
from tunewright.economics.lifetimes import beside
from tunewright.economics.prices import ApiPrice
from tunewright.models.catalogue import catalogue

ROOT = Path(__file__).parents[1]
SERVED = {"banking77/smollm2-135m/0": {"p50_ms": 41, "p95_ms": 47, "answers_per_second": 112.7}}
"""Rows whose times the scoreboard lacks, by bench/serve.py and bench/batch.py (docs/serving.md), on another machine."""
SCOREBOARD = json.loads((ROOT / "bench" / "scoreboard.json").read_text("utf-8"))
ROWS: dict[str, dict[str, Any]] = SERVED | {key: row for key, row in SCOREBOARD.items() if row.get("quiet")}
MACHINE, LARGE, GPU = "Standard_D2s_v5", "Standard_F8s_v2", "Standard_NC4as_T4_v3"
TODAY = "gpt-6-luna"
JOBS = ("banking77", "clinc150", "snips_slots", "sroie")
"""A routing job with a short instruction and one with a long one, slots of short texts, fields of whole receipts."""
SHOWN_JOB = "banking77"
TARGET = 0.5
"""The allowed 95th percentile, seconds."""
PEAK, STANDBY, TIMES = 4.0, 2, 10
"""The busiest minute over the average, the least number of machines, and how many times cheaper is asked for."""
JOBS_TOGETHER = 10
"""Jobs that share the machines, in one folder of heads or adapters."""
SHOWN = (1e4, 1e5, 1e6, 1e7, 1e8)
VOLUMES = [10 ** (4 + n / PER_DECADE) for n in range(4 * PER_DECADE + 1)]
"""Requests a month that are looked at."""

PerMillion = Callable[[float], float | None]
"""Dollars for a million answers at so many requests a month; None: too slow."""


@dataclass(frozen=True)
class Job:
    """What a request of a set is."""

    name: str
    prompt_tokens: float
    """With the API's instruction."""
    text_tokens: float
    answer_tokens: float

    @classmethod
    def of(cls, name: str) -> Job:
        """A set of the scoreboard, by its rows and its texts."""
        api = next(row["api"] for row in map(ROWS.get, _keys(name)) if row and "api" in row)
        test = next(part for key, part in parts_of(find_set(name), DATA).items() if key != "train")
        text = fmean(len(row["text"]) for row in test) / LETTERS_A_TOKEN
        return cls(name, api["prompt_tokens"], text, api["answer_tokens"])

    def usd(self, price: ApiPrice, *, cached: bool) -> float:
        """Of a million answers."""
        kept = self.prompt_tokens - self.text_tokens if cached else 0.0
        return 1e6 * price.usd(self.prompt_tokens, self.answer_tokens, kept)

    def apis(self) -> dict[str, float]:
        """Dollars for a million answers."""
        luna = BOOK.api(TODAY)
        day = date.fromisoformat(BOOK.apis_as_of)
        known = beside(BOOK, TODAY, None, day, 12, lambda price: self.usd(price, cached=True))
        name, (cheapest, _) = min(known.items(), key=lambda each: self.usd(each[1][0], cached=True))
        return {
            TODAY: self.usd(luna, cached=False),
            f"{TODAY}, cached": self.usd(luna, cached=True),
            f"{name}, cached, the cheapest": self.usd(cheapest, cached=True),
            f"{TODAY}, batch": BOOK.batch_of(luna) * self.usd(luna, cached=False),
        }

    @property
    def cheapest_api(self) -> float:
        """Of those that answer at once."""
        return min(usd for name, usd in self.apis().items() if not name.endswith("batch"))

    def models(self) -> Iterator[tuple[str, str, PerMillion]]:
        """(model, where it runs, its dollars), of those that the scoreboard has timed."""
        for model, key in zip(MODELS, _keys(self.name), strict=True):
            row = ROWS.get(key, {})
            if not row.get("p50_ms") or not row.get("answers_per_second"):
                continue
            busy, slowest = row["p50_ms"] / 1000, row["p95_ms"] / 1000
            small = _served(MACHINE, Service(busy, slowest, TARGET))
            yield model, "two D2s_v5 and more", small
            yield model, f"the same, with {JOBS_TOGETHER} such jobs on them", _shared(small)
            yield model, "two F8s_v2 and more", _served(LARGE, Service(busy / 4, slowest, TARGET))
            entry, machine = catalogue().get(model), BOOK.machine(GPU)
            if entry and entry.kind == "decoder" and machine.gpu:
                card = BOOK.cards[machine.gpu.card]
                service = service_of(entry, machine, card, self.prompt_tokens, self.answer_tokens, TARGET)
                if service:
                    yield model, "two T4 and more, estimated", _served(GPU, service)
            batch = BOOK.machine(MACHINE).usd_per_hour / (3600 * row["answers_per_second"]) * 1e6
            yield model, "a batch, D2s_v5", lambda _, usd=batch: usd


def _keys(name: str) -> list[str]:
    return [f"{name}/{model}/0" for model in MODELS]


def _served(name: str, service: Service) -> PerMillion:
    def usd(requests: float) -> float | None:
        if service.slowest > service.target:
            return None
        cost = host_cost(BOOK.machine(name), service, requests=requests, peak_to_average=PEAK, redundancy=STANDBY)
        return cost.usd_per_month / requests * 1e6

    return usd


def _shared(usd: PerMillion) -> PerMillion:
    return lambda requests: usd(JOBS_TOGETHER * requests)


def table(job: Job) -> Iterator[str]:
    yield f"| {job.name} | where | {' | '.join(count(volume) for volume in SHOWN)} | cheaper | {TIMES} x cheaper |"
    yield f"|---|---|{'---|' * len(SHOWN)}---|---|"
    for model, where, usd in job.models():
        cells = ["too slow" if (each := usd(volume)) is None else _usd(each) for volume in SHOWN]
        api = job.apis()[f"{TODAY}, batch"] if where.startswith("a batch") else job.cheapest_api
        ends = [_from(usd, api), _from(usd, api / TIMES)]
        yield f"| {model} | {where} | {' | '.join([*cells, *ends])} |"
    for name, each in job.apis().items():
        yield f"| {name} | | {' | '.join([_usd(each)] * len(SHOWN))} | | |"


def _from(usd: PerMillion, limit: float) -> str:
    """From how many requests a month on the price is within a limit, without reviews and with them."""
    months = [None if (each := usd(volume)) is None else each * volume / 1e6 for volume in VOLUMES]
    without, reviewed = (
        pays_from(months, lambda volume: limit * volume / 1e6, extra, VOLUMES) for extra in (0.0, REVIEWS)
    )
    return f"{without} ({reviewed})"


def _usd(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 10 else f"{amount:.2g}"


def lines(job: Job) -> list[Line]:
    colours = {"linear": "#74b816", "all-minilm": "#1098ad", "smollm2-135m": "#1c7ed6"}
    shown = [
        Line(f"{model}{', batch' if is_batch else ''}", colours[model], _points(usd), dashed=is_batch)
        for model, where, usd in job.models()
        if (is_batch := where.startswith("a batch")) or where.startswith("two D2s")
    ]
    grey = ("#c2255c", "#e8590c", "#868e96", "#343a40")
    apis = [("cheapest API, cached" if "cheapest" in name else name, usd) for name, usd in job.apis().items()]
    return shown + [
        Line(name, colour, [(volume, usd) for volume in VOLUMES], dashed=True)
        for (name, usd), colour in zip(apis, grey, strict=True)
    ]


def _points(usd: PerMillion) -> Sequence[tuple[float, float]]:
    return [(volume, each) for volume in VOLUMES if (each := usd(volume)) is not None]


def main() -> None:
    print(f"APIs of {BOOK.apis_as_of}, machines of {BOOK.as_of}; in brackets with reviews, ${REVIEWS:,.0f} a month.\n")
    jobs = [Job.of(name) for name in JOBS]
    for job in jobs:
        print(
            f"{job.name}: {job.prompt_tokens:.0f} tokens, {job.text_tokens:.0f} of them the text, and "
            f"{job.answer_tokens:g} in the answer"
        )
        print("\n".join(table(job)), end="\n\n")
    axes = Axes("Dollars for a million answers over requests a month", "requests", lowest=0.001, decades=8)
    shown = next(job for job in jobs if job.name == SHOWN_JOB)
    (ROOT / "docs" / "million.svg").write_text(drawn(axes, lines(shown)), "utf-8")


if __name__ == "__main__":
    main()

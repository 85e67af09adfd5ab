"""The article's table again: which of its claims hold at which volume, busy share and size of model.

    python bench/economics.py        # prints the tables of docs/economics.md, and draws docs/article.svg

The case is `examples/article`: 480 tokens in, 20 out, an answer within 800 ms. APIs are priced by the built-in book, on
the day on which it was read, and by `examples/article/prices_2023.yaml`; thinking is not counted. Own models run on
whichever machine of the book costs least at each volume; their speed is estimated as `tunewright assess` does it, good
to a factor of two. A month of theirs is machines and storage; what reviewers cost ($60 an hour, assumed) is added in
brackets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from economics_plot import Axes, Line, drawn

from tunewright.config import load_money
from tunewright.economics import host_cost, price_book
from tunewright.economics.cost import MAX_UTILISATION, Service, api_cost
from tunewright.economics.hosting import cheapest_hosting, service_of
from tunewright.economics.lifetimes import beside
from tunewright.economics.prices import ApiPrice
from tunewright.economics.upkeep import letters_of, upkeep_of
from tunewright.models.catalogue import catalogue

ROOT = Path(__file__).parents[1]
SPEC = load_money(ROOT / "examples" / "article")
PROMPT, ANSWER = float(SPEC.api.prompt_tokens or 0), float(SPEC.api.completion_tokens or 0)
BOOK, BOOK_2023 = price_book(), price_book(ROOT / "examples" / "article" / "prices_2023.yaml")
SIZES = {"smollm2-135m": "0.14 B", "llama-3.2-1b": "1.2 B", "phi-3-mini": "3.8 B", "mistral-7b": "7.2 B"}
SVM = Service(0.001, 0.001, SPEC.goal.p95_ms / 1000)
HOURLY_USD = 60.0
REST = upkeep_of(SPEC, BOOK, letters=letters_of(PROMPT, ANSWER))
REVIEWS = upkeep_of(
    SPEC.model_copy(update={"costs": SPEC.costs.model_copy(update={"hourly_usd": HOURLY_USD})}), BOOK, letters=0
).usd
ARTICLE_API, ARTICLE_OWN, ARTICLE_VOLUME, ARTICLE_MS = 50_000, 4_500, 10_000_000, 150
SHOWN = (1e5, 1e6, 1e7, 1e8)
BATCH_SECONDS = 3600.0
"""Within which each answer of a batch may come, so that a GPU has as many at once as it holds."""
PER_DECADE = 40
"""Volumes that are looked at between one power of ten and the next."""
VOLUMES = [10 ** (3 + n / PER_DECADE) for n in range(6 * PER_DECADE + 1)]
AXES = Axes("Dollars a month over tickets a month", "tickets", lowest=10, decades=5)


@dataclass(frozen=True)
class Traffic:
    name: str
    peak: float
    """Over the average; 0: a batch, for which machines are rented by the hour."""

    @property
    def busy(self) -> float:
        """The share of its time for which a machine can be busy with the average traffic."""
        return MAX_UTILISATION / self.peak if self.peak else 1.0


TRAFFIC = (Traffic("a batch, any time", 0), Traffic("steady", 1), Traffic("peak 4 x", 4), Traffic("peak 10 x", 10))
USUAL = TRAFFIC[2]


def api_month(price: ApiPrice, requests: float) -> float:
    return api_cost(price, prompt_tokens=PROMPT, answer_tokens=ANSWER, requests=requests).usd_per_month


def apis(traffic: Traffic) -> dict[str, Callable[[float], float]]:
    """A month of each API by the number of requests, at its batch price where the traffic is a batch."""
    day = date.fromisoformat(BOOK.apis_as_of)
    lasting = beside(BOOK, SPEC.api.model, None, day, SPEC.costs.horizon_months, lambda price: api_month(price, 1))
    cheapest = next(name for name in lasting if name != SPEC.api.model)
    named = {
        "gpt-4-turbo, 11/2023": BOOK_2023.api("gpt-4-turbo"),
        "gpt-4o, 5/2024": BOOK_2023.api("gpt-4o"),
        "gpt-4o": BOOK.api("gpt-4o"),
        "gpt-6-luna": BOOK.api("gpt-6-luna"),
        cheapest: BOOK.api(cheapest),
    }
    factor = {name: 1.0 if traffic.peak else BOOK.batch_of(price) for name, price in named.items()}
    return {name: _api_line(price, factor[name]) for name, price in named.items()}


def _api_line(price: ApiPrice, factor: float) -> Callable[[float], float]:
    return lambda requests: factor * api_month(price, requests)


def own_month(
    model: str, requests: float, traffic: Traffic, *, p95_ms: float = SPEC.goal.p95_ms, slower: float = 1
) -> float | None:
    """Machines and storage; None where no machine answers in time.

    Args:
        slower: than estimated, by this factor: as if requests and answers were longer by as much.
    """
    kept = REST.request_usd * requests
    entry = catalogue()[model]
    if not traffic.peak:
        hours = []
        for machine in BOOK.machines.values():
            card = BOOK.cards[machine.gpu.card] if machine.gpu else None
            service = service_of(entry, machine, card, PROMPT, ANSWER, target=BATCH_SECONDS)
            if service and not machine.scales_to_zero:
                hours.append(requests * service.seconds / 3600 * machine.usd_per_hour)
        return min(hours) + kept
    found = cheapest_hosting(
        model,
        entry,
        BOOK,
        prompt_tokens=slower * PROMPT,
        answer_tokens=slower * ANSWER,
        target=p95_ms / 1000,
        requests=requests,
        peak_to_average=traffic.peak,
        redundancy=SPEC.traffic.redundancy,
    )
    return found.cost.usd_per_month + kept if found and found.in_time else None


def svm_month(requests: float) -> float:
    cost = host_cost(BOOK.machine(SPEC.traffic.machine), SVM, requests=requests, peak_to_average=USUAL.peak)
    return cost.usd_per_month + REST.request_usd * requests


def pays_from(
    own: list[float | None],
    theirs: Callable[[float], float],
    extra: float = 0.0,
    volumes: Sequence[float] = VOLUMES,
) -> str:
    """From how many requests a month on, of those that are looked at, an own model costs less at any number above."""
    first = None
    for volume, month in reversed(list(zip(volumes, own, strict=True))):
        if month is None or month + extra >= theirs(volume):
            break
        first = volume
    return "never" if first is None else "always" if first == volumes[0] else count(first)


def count(requests: float) -> str:
    rounded = float(f"{requests:.2g}")
    return f"{rounded / 1e6:g} M" if rounded >= 1e6 else f"{rounded / 1e3:g} k"


def thresholds() -> Iterator[str]:
    names = list(apis(USUAL))
    yield f"| model | traffic | busy at most | {' | '.join(names)} |"
    yield f"|---|---|---|{'---|' * len(names)}"
    for model, size in SIZES.items():
        for traffic in TRAFFIC:
            own = [own_month(model, volume, traffic) for volume in VOLUMES]
            cells = [f"{pays_from(own, month)} ({pays_from(own, month, REVIEWS)})" for month in apis(traffic).values()]
            yield f"| {size} | {traffic.name} | {traffic.busy:.0%} | {' | '.join(cells)} |"


def months() -> Iterator[str]:
    *_, last, luna, cheap = apis(USUAL)
    heads = ["tickets a month", "traffic", *SIZES.values(), cheap, luna, last, "cheapest, and by how much"]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for volume in SHOWN:
        for traffic in TRAFFIC:
            own = {size: own_month(model, volume, traffic) for model, size in SIZES.items()}
            theirs = {name: month(volume) for name, month in apis(traffic).items()}
            cells = ["too slow" if usd is None else _usd(usd) for usd in own.values()]
            cells += [_usd(theirs[name]) for name in (cheap, luna, last)]
            ours = min(usd for usd in own.values() if usd is not None)
            size = next(each for each, usd in own.items() if usd == ours)
            first = size if ours < theirs[cheap] else cheap
            factor = max(ours, theirs[cheap]) / min(ours, theirs[cheap])
            yield f"| {count(volume)} | {traffic.name} | {' | '.join(cells)} | {first}, {_times(factor)} |"


def largest() -> Iterator[str]:
    """Up to which size a decoder of the catalogue costs less than an API."""
    heads = ["against", "tickets a month", *(f"{each.name}, busy at most {each.busy:.0%}" for each in TRAFFIC)]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for name in ("gpt-4o", "gpt-6-luna"):
        for volume in SHOWN:
            cells = [name, count(volume)]
            for traffic in TRAFFIC:
                month = apis(traffic)[name](volume)
                priced = {
                    entry.parameters: own_month(model, volume, traffic)
                    for model, entry in catalogue().items()
                    if entry.kind == "decoder"
                }
                able = [size for size, usd in priced.items() if usd is not None and usd < month]
                cells.append("none" if not able else "all" if max(able) == max(priced) else f"{max(able):.2g} B")
            yield f"| {' | '.join(cells)} |"


def claims() -> Iterator[str]:
    """The article's sum, with a model of each size."""
    first, _, last, luna, _ = (month(ARTICLE_VOLUME) for month in apis(USUAL).values())
    heads = [
        "model",
        "$ a month",
        "at half the speed",
        "gpt-4-turbo in 2023 costs",
        "gpt-4o",
        "gpt-6-luna",
        "with answers in 150 ms, $ a month",
    ]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for model, size in SIZES.items():
        month = own_month(model, ARTICLE_VOLUME, USUAL)
        assert month
        slow = own_month(model, ARTICLE_VOLUME, USUAL, slower=2)
        quick = own_month(model, ARTICLE_VOLUME, USUAL, p95_ms=ARTICLE_MS)
        cells = [_usd(month), _or_late(slow), *(_times(usd / month) for usd in (first, last, luna)), _or_late(quick)]
        yield f"| {size} | {' | '.join(cells)} |"


def _or_late(usd: float | None) -> str:
    return "on no machine" if usd is None else _usd(usd)


def _times(factor: float) -> str:
    return f"{float(f'{factor:.2g}'):g} x"


def _usd(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 10 else f"{amount:.2f}"


def lines() -> list[Line]:
    """The picture's, at the usual traffic."""
    colours = ("#868e96", "", "#343a40", "#c2255c", "#e8590c")
    shown = [
        Line(name, colour, [(volume, month(volume)) for volume in VOLUMES], dashed=True)
        for (name, month), colour in zip(apis(USUAL).items(), colours, strict=True)
        if colour
    ]
    for (model, size), colour in zip(SIZES.items(), ("#2f9e44", "#1098ad", "#1c7ed6", "#5f3dc4"), strict=True):
        own = [(volume, own_month(model, volume, USUAL)) for volume in VOLUMES]
        shown.append(Line(f"{size} model", colour, [(volume, usd) for volume, usd in own if usd is not None]))
    return [*shown, Line("linear SVM", "#74b816", [(volume, svm_month(volume)) for volume in VOLUMES])]


def main() -> None:
    thought = api_cost(BOOK.api("gpt-6-luna"), prompt_tokens=0, answer_tokens=100, requests=ARTICLE_VOLUME)
    print(
        f"APIs of {BOOK.apis_as_of}, machines of {BOOK.as_of}. Reviewers cost ${REVIEWS:,.0f} a month; 100 tokens of "
        f"thinking to each answer of gpt-6-luna ${thought.usd_per_month:,.0f}.\n"
    )
    for table in (claims, largest, thresholds, months):
        print("\n".join(table()), end="\n\n")
    marks = [
        (ARTICLE_VOLUME, ARTICLE_API, f"the article's API, ${ARTICLE_API:,}"),
        (ARTICLE_VOLUME, ARTICLE_OWN, f"the article's own model, ${ARTICLE_OWN:,}"),
    ]
    (ROOT / "docs" / "article.svg").write_text(drawn(AXES, lines(), marks), "utf-8")


if __name__ == "__main__":
    main()

"""All arms side by side: accuracy on every test split, latency, and what a month of the declared traffic costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tunewright.assess import Cost, PriceBook, api_cost, host_cost
from tunewright.assess.cost import Service
from tunewright.assess.economics import Money, Scenario, money
from tunewright.assess.lifetimes import UNANNOUNCED, Lifetime, beside, stale, thinking, today
from tunewright.assess.prices import ApiPrice, MachinePrice
from tunewright.assess.upkeep import items_of, letters_of, upkeep
from tunewright.evaluate.evidence import Latency, Record, Score, by_test, latency, score
from tunewright.spec import Spec
from tunewright.tasks import task_of

SERVED = "served"
ADAPTER = "adapter"
EXPORTED = "exported"
API = "api"
"""The API that is paid for today, where it was asked or its answers are recorded."""

CONTROLS = {
    "svm": "the linear SVM",
    "nearest": "the nearest example's answer",
    "patterns": "patterns read off the examples",
}
"""Arms that cost next to nothing: where one does the job, no language model is needed."""

ARM_LABELS = {
    "majority": "always the commonest label",
    "svm": "TF-IDF + linear SVM",
    "nearest": "nearest example, its answer",
    "patterns": "patterns and dictionaries",
    "few_shot": "base model, few-shot",
    ADAPTER: "tuned: adapter (torch)",
    "merged": "tuned: merged (torch)",
    EXPORTED: "tuned: exported",
    SERVED: "tuned: served bundle",
}
"""Every measured arm in the order of the tables."""


@dataclass(frozen=True)
class Arm:
    """One way of answering. An API that nobody has measured has a price but no scores."""

    key: str
    label: str
    scores: dict[str, Score]
    latency: Latency | None
    cost: Cost
    lifetime: Lifetime = UNANNOUNCED
    """Of an API: until when it can be asked."""
    thinking: str = ""
    """Of an API that nobody has measured: that its thinking is not in `cost`, in a sentence."""


@dataclass(frozen=True)
class Usage:
    """Mean tokens of one request to the API."""

    prompt_tokens: float
    answer_tokens: float
    cached_tokens: float = 0.0
    """Those of the prompt that the API had read before."""
    cache_write_tokens: float = 0.0
    """Those of the prompt that the API kept for the next request."""


@dataclass(frozen=True)
class Comparison:
    arms: dict[str, Arm]
    """Measured arms by key."""
    apis: dict[str, Arm]
    """API arms by model name, the incumbent first; of the others the cheapest that will last, and the user's own."""
    splits: tuple[str, ...]
    headline: str
    """The name of the task's measure."""
    usage: Usage
    batch: Arm
    """The batch API of the one paid for today, which answers within a day."""
    money: Money
    """The served model against the API paid for today."""
    usage_from: str
    """Where `usage` is from: "api" (counted by it), "spec" or "model" (counted with the tuned model's own prompt)."""
    stale: str = ""
    """That the prices are old, in a sentence; empty where they are not."""

    @property
    def control(self) -> Arm:
        """The best of the control arms, on the split where it does worst."""
        return max(
            (arm for key, arm in self.arms.items() if key in CONTROLS),
            key=lambda arm: min(score.headline.value for score in arm.scores.values()),
        )


def compare(spec: Spec, evidence: Mapping[str, Sequence[Record]], prices: PriceBook,
            counted: Usage | None = None, training_hours: float | None = None) -> Comparison:  # fmt: skip
    """Score and price every arm.

    Args:
        counted: tokens as the API counted them. Without it they are the spec's; where that does not say them, those of
            the tuned model's own prompt and tokenizer: a low estimate, as an API needs a longer prompt to do as well.
        training_hours: what the run took, from the raw files to the served answers; None: not known.
    """
    machine, served = prices.machine(spec.traffic.machine), _tests(evidence[SERVED])
    usage_from = "api" if counted else "spec" if spec.api.prompt_tokens or spec.api.answer_tokens else "model"
    usage = counted or Usage(
        spec.api.prompt_tokens or sum(record.prompt_tokens for record in served) / len(served),
        spec.api.answer_tokens or sum(record.answer_tokens for record in served) / len(served),
    )
    trained = None if training_hours is None else (training_hours, _training_machine(spec))
    rest = upkeep(spec, prices, letters=letters_of(usage.prompt_tokens, usage.answer_tokens), trained=trained)
    month = rest.at(spec.traffic.requests_per_month)
    arms = {}
    for key in (k for k in ARM_LABELS if k in evidence):
        speed = latency(_tests(evidence[key]))
        cost = _own_cost(spec, machine, speed, month)
        arms[key] = Arm(key, _label(key, spec), _scores(spec, evidence[key]), speed, cost)
    apis = _apis(spec, prices, usage, evidence.get(API, ()))
    now = apis[spec.api.model]
    price = prices.api(spec.api.model)
    batch = Arm("batch", f"{now.label}, batch", {}, None, now.cost.times(prices.batch_of(price)), now.lifetime)
    scenario = Scenario(
        spec.traffic.requests_per_month, usage.prompt_tokens, usage.answer_tokens, usage.cached_tokens,
        price, machine, _service(latency(served), spec), spec.traffic.peak_to_average,
        spec.traffic.redundancy, rest.usd, spec.costs.engineering_usd, usage.cache_write_tokens, rest.request_usd,
    )  # fmt: skip
    found = money(scenario, items_of(scenario, spec.traffic.machine, rest, prices))
    return Comparison(
        arms, apis, tuple(arms[SERVED].scores), task_of(spec.task).headline, usage, batch, found, usage_from,
        stale(prices, today()),
    )  # fmt: skip


def _service(speed: Latency, spec: Spec) -> Service:
    """How a machine answers, from what one request at a time was measured to take."""
    return Service(speed.mean_ms / 1000, speed.p95_ms / 1000, spec.goal.p95_ms / 1000)


def _training_machine(spec: Spec) -> str:
    """That a retraining is priced as."""
    return spec.azure.gpu or spec.azure.cpu or spec.traffic.machine


def _own_cost(spec: Spec, machine: MachinePrice, speed: Latency, upkeep_usd: float) -> Cost:
    """Machines and upkeep, which is the same for every arm of one's own."""
    return host_cost(
        machine, _service(speed, spec), requests=spec.traffic.requests_per_month,
        peak_to_average=spec.traffic.peak_to_average, redundancy=spec.traffic.redundancy,
        upkeep_usd=upkeep_usd,
    )  # fmt: skip


def _apis(spec: Spec, prices: PriceBook, usage: Usage, answered: Sequence[Record]) -> dict[str, Arm]:
    """The APIs of the price book; of the one paid for today also how it `answered`, where that is known."""

    def cost(price: ApiPrice) -> Cost:
        return api_cost(
            price, prompt_tokens=usage.prompt_tokens, answer_tokens=usage.answer_tokens,
            cached_tokens=usage.cached_tokens, cache_write_tokens=usage.cache_write_tokens,
            requests=spec.traffic.requests_per_month,
        )  # fmt: skip

    def arm(name: str, price: ApiPrice, span: Lifetime) -> Arm:
        label = f"API {name} (ended)" if span.ended else f"API {name}"
        return Arm(name, label, {}, None, cost(price), span, thinking(name, price))

    months = spec.costs.horizon_months
    shown = beside(prices, spec.api.model, spec.api.url, today(), months, lambda price: cost(price).usd_per_month)
    arms = {name: arm(name, price, span) for name, (price, span) in shown.items()}
    if answered:
        now = arms[spec.api.model]
        timed = [record for record in answered if record.latency_ms]
        arms[spec.api.model] = replace(now, scores=_scores(spec, answered), latency=latency(timed) if timed else None)
    return arms


def _tests(records: Sequence[Record]) -> list[Record]:
    return [record for part in by_test(records).values() for record in part]


def _scores(spec: Spec, records: Sequence[Record]) -> dict[str, Score]:
    return {split: score(part, spec.seed) for split, part in by_test(records).items()}


def _label(key: str, spec: Spec) -> str:
    return ARM_LABELS[key] + (f" {spec.export.weights}" if key in (EXPORTED, SERVED) else "")

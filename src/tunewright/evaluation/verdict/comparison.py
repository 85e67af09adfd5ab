"""All candidates side by side: accuracy on every test split, latency, and what a month of the declared traffic
costs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from tunewright.config import Spec
from tunewright.economics import Cost, PriceBook, api_cost, host_cost
from tunewright.economics.cost import LATE, Service, cold_share
from tunewright.economics.economics import Money, Scenario, money
from tunewright.economics.lifetimes import UNANNOUNCED, Lifetime, beside, lifetime, stale, thinking, today
from tunewright.economics.prices import ApiPrice, MachinePrice
from tunewright.economics.upkeep import items_of, letters_of, upkeep
from tunewright.evaluation.evidence import Latency, Record, Score, by_test, latency, score
from tunewright.models.linear_model import LINEAR
from tunewright.models.resolve import Kind
from tunewright.tasks import task_of

SERVED = "served"
ADAPTER = "adapter"
ENCODER = "encoder"
"""A tuned encoder as it was trained, in the place of an adapter."""
FITTED = "linear"
"""A linear model as it was fitted."""
EXPORTED = "exported"
API = "api"
"""The API that is paid for today, where it was asked or its answers are recorded."""


def evidence_key(spec: Spec, name: str) -> str:
    """Under which key the answers of one of the spec's APIs are among the evidence."""
    return API if name == spec.api.label else f"{API} {name}"


SVM = "svm"
CONTROLS = {
    SVM: "the linear SVM",
    "nearest": "the nearest example's answer",
    "patterns": "patterns read off the examples",
}
"""Arms that cost next to nothing: where one does the job, no language model is needed."""

CANDIDATE_LABELS = {
    "majority": "always the commonest label",
    "usual": "always the commonest labels",
    "svm": "TF-IDF + linear SVM",
    "nearest": "nearest example, its answer",
    "patterns": "patterns and dictionaries",
    "few_shot": "base model, few-shot",
    ADAPTER: "tuned: adapter (torch)",
    ENCODER: "tuned: encoder (torch)",
    FITTED: "linear: as fitted",
    "merged": "tuned: merged (torch)",
    EXPORTED: "tuned: exported",
    SERVED: "tuned: served bundle",
}
"""Every measured candidate in the order of the tables."""


def own_model(spec: Spec) -> str:
    """What sentences call the model that a run made."""
    return "the linear model" if spec.model == LINEAR else f"the tuned {spec.model_name}"


def kind_in(candidates: Collection[str]) -> Kind:
    """The kind of model that some candidates are forms of, by their keys."""
    return "linear" if FITTED in candidates else "encoder" if ENCODER in candidates else "decoder"


@dataclass(frozen=True)
class Candidate:
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
    model: str = ""
    """Of an API: its name in the price book."""
    provider: str | None = None
    """Of an API: who runs it, where the price book says so."""
    in_question: bool = True
    """Of an API: whether it may be recommended."""


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
class Measured:
    """The machine on which latency was measured."""

    cores: int
    processor: str
    start_seconds: float
    """From starting the server until it is ready."""


@dataclass(frozen=True)
class Comparison:
    candidates: dict[str, Candidate]
    """Measured candidates by key."""
    apis: dict[str, Candidate]
    """API candidates by name, the one paid for today first, then the spec's, then the price book's cheapest that will
    last, and the user's own."""
    splits: tuple[str, ...]
    primary_metric: str
    """The name of the task's measure."""
    usage: Usage
    batch: Candidate
    """The batch API of the one paid for today, which answers within a day."""
    money: Money
    """The served model against the API paid for today."""
    usage_from: str
    """Where `usage` is from: "api" (counted by it), "spec", "model" (counted with the tuned model's own prompt) or
    "letters" (of the task's prompt)."""
    stale: str = ""
    """That the prices are old, in a sentence; empty where they are not."""
    own: str = ""
    """What sentences call the model of one's own."""
    measured_on: str = ""
    """On what latency was measured, and how that is like the machine that is priced, in a sentence."""

    @property
    def control(self) -> Candidate:
        """The best of the baselines, on the split where it does worst."""
        return max(
            (candidate for key, candidate in self.candidates.items() if key in CONTROLS),
            key=lambda candidate: min(score.primary_metric.value for score in candidate.scores.values()),
        )


def compare(
    spec: Spec,
    evidence: Mapping[str, Sequence[Record]],
    prices: PriceBook,
    counted: Mapping[str, Usage] | None = None,
    measured: Measured | None = None,
    training_hours: float | None = None,
    written: Usage | None = None,
    cascade: str | None = None,
) -> Comparison:
    """Score and price every candidate.

    Args:
        counted: tokens as the APIs counted them, by their names. For those that did not, they are the spec's; where
            that does not say them, what the one paid for today counts; else those of the tuned model's own prompt and
            tokenizer: a low estimate, as an API needs a longer prompt to do as well.
        measured: on what latency was measured, where that is known.
        training_hours: what the run took, from the raw files to the served answers; None: not known.
        cascade: what sentences call the served model, where it is a cascade of two.
        written: what an API would read and write, told from the letters of the task's prompt; for a model that reads
            none.
    """
    machine, served, counted = prices.machine(spec.traffic.machine), _tests(evidence[SERVED]), counted or {}
    named = spec.api.prompt_tokens or spec.api.completion_tokens
    usage_from = "api" if spec.api.label in counted else "spec" if named else "letters" if written else "model"
    own = written or Usage(fmean(each.prompt_tokens for each in served), fmean(each.answer_tokens for each in served))
    usage = counted.get(spec.api.label) or Usage(
        spec.api.prompt_tokens or own.prompt_tokens, spec.api.completion_tokens or own.answer_tokens
    )
    trained = None if training_hours is None else (training_hours, _training_machine(spec))
    rest = upkeep(spec, prices, letters=letters_of(usage.prompt_tokens, usage.answer_tokens), trained=trained)
    month = rest.at(spec.traffic.requests_per_month)
    candidates = {}
    for key in (k for k in CANDIDATE_LABELS if k in evidence):
        speed = _with_start(latency(_tests(evidence[key])), spec, machine, measured)
        cost = _own_cost(spec, machine, speed, month)
        label = "cascade: served bundle" if cascade and key == SERVED else _label(key, spec)
        candidates[key] = Candidate(key, label, _scores(spec, evidence[key]), speed, cost)
    apis = _apis(spec, prices, usage, counted, evidence)
    now, price = apis[spec.api.label], prices.api(spec.api.model)
    batch = Candidate("batch", f"{now.label}, batch", {}, None, now.cost.times(prices.batch_of(price)), now.lifetime)
    scenario = Scenario(
        spec.traffic.requests_per_month,
        usage.prompt_tokens,
        usage.answer_tokens,
        usage.cached_tokens,
        price,
        machine,
        _service(latency(served), spec),
        spec.traffic.peak_to_average,
        spec.traffic.redundancy,
        rest.usd,
        spec.costs.engineering_usd,
        usage.cache_write_tokens,
        rest.request_usd,
    )
    found = money(scenario, items_of(scenario, spec.traffic.machine, rest, prices))
    return Comparison(
        candidates,
        apis,
        tuple(candidates[SERVED].scores),
        task_of(spec.task).primary_metric,
        usage,
        batch,
        found,
        usage_from,
        stale(prices, today()),
        cascade or own_model(spec),
        _on_what(spec, machine, measured) if measured else "",
    )


def _with_start(speed: Latency, spec: Spec, machine: MachinePrice, measured: Measured | None) -> Latency:
    """With the start of a machine that scales to zero, where more than one answer in twenty waits for it."""
    if not machine.scales_to_zero or measured is None or cold_share(spec.traffic.requests_per_month) <= LATE:
        return speed
    return replace(speed, start_ms=1000 * measured.start_seconds)


def _on_what(spec: Spec, machine: MachinePrice, measured: Measured) -> str:
    here, name = f"{measured.cores} cores of {measured.processor}", spec.traffic.machine
    if measured.cores == machine.cores:
        return (
            f"Latency was measured on {here}; {name}, which is priced, has as many, and they may be slower or faster."
        )
    return (
        f"Latency was measured on a machine unlike the one that is priced: {here}, where {name} has {machine.cores}. "
        "Its replicas and its P95 are estimates until it is measured there."
    )


def _service(speed: Latency, spec: Spec) -> Service:
    """How a machine answers, from what one request at a time was measured to take."""
    return Service(speed.mean_ms / 1000, speed.p95_ms / 1000, spec.goal.p95_ms / 1000)


def _training_machine(spec: Spec) -> str:
    """That a retraining is priced as."""
    return spec.azure.gpu or spec.azure.cpu or spec.traffic.machine


def _own_cost(spec: Spec, machine: MachinePrice, speed: Latency, upkeep_usd: float) -> Cost:
    """Machines and upkeep, which is the same for every candidate of one's own."""
    return host_cost(
        machine,
        _service(speed, spec),
        requests=spec.traffic.requests_per_month,
        peak_to_average=spec.traffic.peak_to_average,
        redundancy=spec.traffic.redundancy,
        upkeep_usd=upkeep_usd,
    )


def _apis(
    spec: Spec, prices: PriceBook, usage: Usage, counted: Mapping[str, Usage], evidence: Mapping[str, Sequence[Record]]
) -> dict[str, Candidate]:
    """The spec's APIs with how they answered, as far as that is known, and those of the price book beside them.

    Args:
        usage: of the one paid for today, which stands in for those that did not count their tokens.
    """
    day, months = today(), spec.costs.horizon_months

    def cost(price: ApiPrice, tokens: Usage) -> Cost:
        return api_cost(
            price,
            prompt_tokens=tokens.prompt_tokens,
            answer_tokens=tokens.answer_tokens,
            cached_tokens=tokens.cached_tokens,
            cache_write_tokens=tokens.cache_write_tokens,
            requests=spec.traffic.requests_per_month,
        )

    def label(name: str, span: Lifetime) -> str:
        return f"API {name} (ended)" if span.ended else f"API {name}"

    candidates = {}
    for name, settings in spec.candidate_apis.items():
        tokens = counted.get(name) or replace(
            usage,
            prompt_tokens=settings.prompt_tokens or usage.prompt_tokens,
            answer_tokens=settings.completion_tokens or usage.answer_tokens,
        )
        price = prices.api(settings.model)
        span = lifetime(settings.model, price, settings.url, day, months)
        answered = evidence.get(evidence_key(spec, name), ())
        timed = [record for record in answered if record.latency_ms]
        unseen = "" if name in counted else thinking(name, price, settings.reasoning_effort)
        candidates[name] = Candidate(
            name,
            label(name, span),
            _scores(spec, answered),
            latency(timed) if timed else None,
            cost(price, tokens),
            span,
            unseen,
            settings.model,
            price.provider,
        )
    listed = {settings.model for settings in spec.candidate_apis.values()}
    shown = beside(prices, spec.api.model, spec.api.url, day, months, lambda price: cost(price, usage).usd_per_month)
    for model, (price, span) in shown.items():
        if model not in listed and model not in candidates:
            candidates[model] = Candidate(
                model,
                label(model, span),
                {},
                None,
                cost(price, usage),
                span,
                thinking(model, price),
                model,
                price.provider,
                in_question=not spec.apis,
            )
    return candidates


def _tests(records: Sequence[Record]) -> list[Record]:
    return [record for part in by_test(records).values() for record in part]


def _scores(spec: Spec, records: Sequence[Record]) -> dict[str, Score]:
    return {split: score(part, spec.seed) for split, part in by_test(records).items()}


def _label(key: str, spec: Spec) -> str:
    if key not in (EXPORTED, SERVED):
        return CANDIDATE_LABELS[key]
    if spec.model == LINEAR:
        return CANDIDATE_LABELS[key].replace("tuned", LINEAR)
    return f"{CANDIDATE_LABELS[key]} {spec.export.weights}"

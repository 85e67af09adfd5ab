"""All candidates side by side: accuracy on every test split, latency, and what a month of the declared traffic
costs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from tunewright.config import Spec
from tunewright.economics import Cost, PriceBook, host_cost
from tunewright.economics.cost import LATE, Service, cold_share
from tunewright.economics.lifetimes import UNANNOUNCED, Lifetime, beside, lifetime, stale, thinking, today, uncached
from tunewright.economics.mean_usage import MeanUsage, uncounted
from tunewright.economics.prices import ApiPrice, MachinePrice
from tunewright.economics.scenario import Money, Scenario, money_of
from tunewright.economics.upkeep import items_of, letters_of, upkeep_of
from tunewright.evaluation.evidence import CutReplies, Latency, Record, Score, by_test, cut_short, latency, score
from tunewright.models.linear_model import LINEAR
from tunewright.models.naming import Kind
from tunewright.tasks import task_of

SERVED = "served"
ADAPTER = "adapter"
ENCODER = "encoder"
"""A tuned encoder as trained; it takes the place of an adapter."""
FITTED = "linear"
"""A linear model as fitted."""
EXPORTED = "exported"
API = "api"
"""The API paid for today, where it was asked or its answers were recorded."""


def evidence_key(spec: Spec, name: str) -> str:
    """The key in the evidence of the answers of one of the spec's APIs."""
    return API if name == spec.api.label else f"{API} {name}"


BATCH = "batch"
"""The key of the batch API of the model paid for today."""
SVM = "svm"
CONTROLS = {
    SVM: "the linear SVM",
    "nearest": "the nearest example's answer",
    "patterns": "patterns read off the examples",
}
"""Baselines that cost next to nothing: where one does the job, no language model is needed."""

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
"""Every measured candidate in the order of the tables. No API may have one of these names: `OWN_CANDIDATES`."""


def own_model(spec: Spec) -> str:
    """What sentences call the model that a run made."""
    return "the linear model" if spec.model == LINEAR else f"the tuned {spec.model_name}"


def kind_in(candidates: Collection[str]) -> Kind:
    """The kind of model that was tuned, going by the candidates' keys."""
    return "linear" if FITTED in candidates else "encoder" if ENCODER in candidates else "decoder"


@dataclass(frozen=True)
class Candidate:
    """One way of answering. An API that nobody has measured has a price but no scores."""

    key: str
    label: str
    scores: dict[str, Score]
    """By test split; without those of `cut_short`."""
    latency: Latency | None
    cost: Cost
    lifetime: Lifetime = UNANNOUNCED
    """For an API: until when it can be asked."""
    thinking: str = ""
    """For an API that nobody has measured: a sentence that `cost` leaves out its thinking."""
    model: str = ""
    """For an API: its name in the price book."""
    provider: str | None = None
    """For an API: the provider, where the price book names it."""
    in_question: bool = True
    """For an API: whether it may be recommended."""
    cut_short: dict[str, CutReplies] = field(default_factory=dict)
    """For an API: the test splits on which too many of its replies were cut to say how good it is."""

    @property
    def is_measured(self) -> bool:
        """Whether it has answered test examples, even if too many replies were cut."""
        return bool(self.scores or self.cut_short)


@dataclass(frozen=True)
class Measured:
    """The machine on which latency was measured."""

    cores: int
    processor: str
    start_seconds: float
    """Time from starting the server until it is ready."""


@dataclass(frozen=True)
class Comparison:
    candidates: dict[str, Candidate]
    """Measured candidates by key."""
    apis: dict[str, Candidate]
    """API candidates by name: the one paid for today first, then the spec's, then the cheapest of the price book that
    will last, and those of the user's own price book."""
    splits: tuple[str, ...]
    primary_metric: str
    """The name of the task's primary metric."""
    usage: MeanUsage
    batch: Candidate
    """The batch API of the model paid for today, which answers within a day."""
    money: Money
    """The served model against the API paid for today."""
    usage_from: str
    """Source of `usage`: "api" (the API counted), "spec", "log" (the API counted, in the log that the data are),
    "letters" (estimated from those of the task's prompt) or "model" (counted with the tuned model's own prompt)."""
    stale: str = ""
    """A sentence that the prices are old; empty where they are not."""
    own: str = ""
    """What sentences call your own model."""
    uncached: str = ""
    """A sentence that the prompt cache of the API paid for today is not counted; empty where it is or costs no less."""
    measured_on: str = ""
    """A sentence that names the machine on which latency was measured and compares it with the priced one."""
    logged_latency: Latency | None = None
    """How long the API paid for today took in the log that the data are; None where it was timed here or in no log."""

    @property
    def timed_in_log(self) -> str:
        """A sentence that the times of the API paid for today are the log's; empty where they are not."""
        if self.logged_latency is None:
            return ""
        now = next(iter(self.apis.values()))
        count = self.logged_latency.count
        return f"The P50 and P95 of {now.label} are those of {count:,} calls in your log, the network included."

    @property
    def control(self) -> Candidate:
        """The best baseline, judged on the split where it does worst."""
        return max(
            (candidate for key, candidate in self.candidates.items() if key in CONTROLS),
            key=lambda candidate: min(score.primary_metric.value for score in candidate.scores.values()),
        )


def compare(
    spec: Spec,
    evidence: Mapping[str, Sequence[Record]],
    prices: PriceBook,
    counted: Mapping[str, MeanUsage] | None = None,
    measured: Measured | None = None,
    training_hours: float | None = None,
    written: MeanUsage | None = None,
    cascade: str | None = None,
    logged: MeanUsage | None = None,
    logged_latency: Latency | None = None,
) -> Comparison:
    """Score and price every candidate.

    Args:
        counted: tokens as the APIs counted them, by name. For an API that did not count, the spec's figures hold; where
            the spec has none, the count of the API paid for today, without its thinking; where that has not counted
            either, `logged`, else `written`, else the count of the tuned model's own prompt and tokenizer. That is a
            low estimate, because an API needs a longer prompt to do as well.
        measured: the machine on which latency was measured, where it is known.
        training_hours: time of the run, from the raw files to the served answers; None: not known.
        cascade: what sentences call the served model, where it is a cascade of two.
        written: the tokens that an API would read and write, estimated from the letters of the task's prompt; for a
            model that reads no prompt, or a shorter one.
        logged: what the API paid for today counted, where the data are a log of its calls.
        logged_latency: how long it took for them. It holds where nobody has timed that API here.
    """
    machine, served, counted = prices.machine(spec.traffic.machine), _tests(evidence[SERVED]), counted or {}
    usage, usage_from = counted.get(spec.api.label), "api"
    if usage is None:
        named = spec.api.prompt_tokens or spec.api.completion_tokens
        usage_from = "spec" if named else "log" if logged else "letters" if written else "model"
        usage = uncounted(spec.api, logged or written or _own_usage(served))
    if usage_from == "log":
        counted = {**counted, spec.api.label: usage}
    trained = None if training_hours is None else (training_hours, _training_machine(spec))
    rest = upkeep_of(spec, prices, letters=letters_of(usage.prompt_tokens, usage.answer_tokens), trained=trained)
    month = rest.at(spec.traffic.requests_per_month)
    candidates = {}
    for key in (k for k in CANDIDATE_LABELS if k in evidence):
        speed = _with_start(latency(_tests(evidence[key])), spec, machine, measured)
        cost = _own_cost(spec, machine, speed, month)
        label = "cascade: served bundle" if cascade and key == SERVED else _label(key, spec)
        candidates[key] = Candidate(key, label, _scores(spec, evidence[key]), speed, cost)
    apis = _apis(spec, prices, usage, counted, evidence)
    now, price = apis[spec.api.label], prices.api(spec.api.model)
    logged_latency = None if now.latency else logged_latency
    now = apis[spec.api.label] = replace(now, latency=now.latency or logged_latency)
    batch = Candidate(BATCH, f"{now.label}, batch", {}, None, now.cost.times(prices.batch_of(price)), now.lifetime)
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
        usage.cache_write_tokens,
        rest.request_usd,
    )
    served_money = money_of(scenario, items_of(scenario, spec.traffic.machine, rest, prices))
    return Comparison(
        candidates,
        apis,
        tuple(candidates[SERVED].scores),
        task_of(spec.task).primary_metric,
        usage,
        batch,
        served_money,
        usage_from,
        stale(prices, today()),
        cascade or own_model(spec),
        ""
        if spec.api.label in counted or usage.cached_tokens
        else uncached(
            now.label,
            price,
            prompt_tokens=usage.prompt_tokens,
            answer_tokens=usage.answer_tokens,
            requests=spec.traffic.requests_per_month,
        ),
        _measured_on(spec, machine, measured) if measured else "",
        logged_latency,
    )


def _with_start(speed: Latency, spec: Spec, machine: MachinePrice, measured: Measured | None) -> Latency:
    """A latency that includes the start of a machine that scales to zero, where more than one answer in twenty waits
    for it."""
    if not machine.scales_to_zero or measured is None or cold_share(spec.traffic.requests_per_month) <= LATE:
        return speed
    return replace(speed, start_ms=1000 * measured.start_seconds)


def _measured_on(spec: Spec, machine: MachinePrice, measured: Measured) -> str:
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
    """How fast a machine answers, from the latency measured with one request at a time."""
    return Service(speed.mean_ms / 1000, speed.p95_ms / 1000, spec.goal.p95_ms / 1000)


def _own_usage(served: Sequence[Record]) -> MeanUsage:
    """The served model's own mean tokens, each example by its weight."""
    weights = [each.weight for each in served]
    read, written = ([each.prompt_tokens for each in served], [each.answer_tokens for each in served])
    return MeanUsage(fmean(read, weights), fmean(written, weights))


def _training_machine(spec: Spec) -> str:
    """The machine at whose price a retraining is counted."""
    return spec.azure.gpu or spec.azure.cpu or spec.traffic.machine


def _own_cost(spec: Spec, machine: MachinePrice, speed: Latency, upkeep_usd: float) -> Cost:
    """The cost of machines and of upkeep; upkeep is the same for every candidate of your own."""
    return host_cost(
        machine,
        _service(speed, spec),
        requests=spec.traffic.requests_per_month,
        peak_to_average=spec.traffic.peak_to_average,
        redundancy=spec.traffic.redundancy,
        upkeep_usd=upkeep_usd,
    )


def _apis(
    spec: Spec,
    prices: PriceBook,
    usage: MeanUsage,
    counted: Mapping[str, MeanUsage],
    evidence: Mapping[str, Sequence[Record]],
) -> dict[str, Candidate]:
    """The spec's APIs with their scores, where they were measured, and other APIs of the price book.

    Args:
        usage: the tokens of the API paid for today. Without its thinking they hold for those that did not count theirs.
    """
    day, months = today(), spec.costs.horizon_months
    alike = usage.without_thinking()

    def cost(price: ApiPrice, tokens: MeanUsage) -> Cost:
        return tokens.cost(price, spec.traffic.requests_per_month)

    def label(name: str, span: Lifetime) -> str:
        return f"API {name} (ended)" if span.ended else f"API {name}"

    candidates = {}
    for name, settings in spec.candidate_apis.items():
        tokens = counted.get(name) or (usage if name == spec.api.label else uncounted(settings, alike))
        price = prices.api(settings.model)
        span = lifetime(settings.model, price, settings.url, day, months)
        answered = evidence.get(evidence_key(spec, name), ())
        timed, short = [record for record in answered if record.latency_ms], cut_short(answered)
        unseen = "" if name in counted else thinking(name, price, settings.reasoning_effort)
        candidates[name] = Candidate(
            name,
            label(name, span),
            _scores(spec, [record for record in answered if record.split not in short]),
            latency(timed) if timed else None,
            cost(price, tokens),
            span,
            unseen,
            settings.model,
            price.provider,
            cut_short=short,
        )
    listed = {settings.model for settings in spec.candidate_apis.values()}
    shown = beside(prices, spec.api.model, spec.api.url, day, months, lambda price: cost(price, alike).usd_per_month)
    for model, (price, span) in shown.items():
        if model not in listed and model not in candidates:
            candidates[model] = Candidate(
                model,
                label(model, span),
                {},
                None,
                cost(price, alike),
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

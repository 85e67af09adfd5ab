"""`tunewright assess`: whether your own model is worth trying, going by prices and traffic alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice

from pydantic import ValidationError

from tunewright.config import ApiSpec, MoneySpec
from tunewright.core.errors import UserError
from tunewright.data.job import columns_in
from tunewright.data.readers import read
from tunewright.economics.candidates import check_apis
from tunewright.economics.cost import Cost, Service, host_cost, tokens_by_letters, usd
from tunewright.economics.hosting import Hosting, hosting_of
from tunewright.economics.lifetimes import UNANNOUNCED, Lifetime, beside, lifetime, stale, thinking, today, uncached
from tunewright.economics.mean_usage import MeanUsage, logged_usage, uncounted
from tunewright.economics.prices import ApiPrice, PriceBook
from tunewright.economics.saving import ApiBill, Saving, aim, bills_of
from tunewright.economics.scenario import Money, Scenario, money_of
from tunewright.economics.upkeep import items_of, letters_of, unpriced, upkeep_of
from tunewright.models.catalogue import CatalogueEntry, catalogue
from tunewright.models.encoders import unable
from tunewright.models.linear_model import LINEAR, unable_linear
from tunewright.models.naming import published_name, require_known
from tunewright.models.sizes import entry_of
from tunewright.tasks import Example, task_of
from tunewright.tasks.input_form import InputForm

_SIZES = ("smollm2-135m", "llama-3.2-1b", "phi-3-mini", "mistral-7b", "llama-3-8b")
"""The models to assess where the spec names none: one of each size."""
_ENCODERS = ("all-minilm",)
"""The same for tasks that only encoders do."""
_ROWS = 1000
"""Rows of the data from which tokens are estimated."""
_SVM_SECONDS = 0.001
"""Time of a linear SVM's answer; every run measures it."""


@dataclass(frozen=True)
class Way:
    """One way of answering."""

    label: str
    cost: Cost
    p95: float | None = None
    """Estimated seconds; None for an API, which nobody measured."""
    note: str = ""
    lifetime: Lifetime = UNANNOUNCED
    """For an API: until when it can be asked."""
    thinking: str = ""
    """For an API: a sentence that `cost` leaves out its thinking."""


@dataclass(frozen=True)
class Assessment:
    ways: list[Way]
    """The API paid for today first."""
    own: Hosting | None
    """The cheapest of your own models that answers in time."""
    money: Money | None
    """That model against the API."""
    saving: Saving | None
    """What that model saves within the horizon."""
    sentence: str
    as_of: str
    """Date of the prices."""
    prompt_tokens: float
    answer_tokens: float
    stale: str = ""
    """A sentence that the prices are old; empty where they are not."""
    left_out: str = ""
    """Why models that the spec names are not assessed; empty where all are."""
    uncached: str = ""
    """A sentence that the prompt cache of the API paid for today is not counted; empty where it is or costs no less."""
    cached_tokens: float = 0.0
    """Those of `prompt_tokens` that came from its cache, where the data are a log in which the API counted them."""


def assess(spec: MoneySpec, book: PriceBook) -> Assessment:
    """Compare the ways of answering by their cost.

    Raises:
        UserError: tokens, API, machine or model are not known, or the model can't do the task.
    """
    check_apis(spec, book, today())
    price = book.api(spec.api.model)
    usage, is_counted = _usage(spec)
    prompt, billed, requests = usage.prompt_tokens, usage.answer_tokens, spec.traffic.requests_per_month
    answer = usage.without_thinking().answer_tokens
    own, left_out = _own(spec, book, prompt, answer)
    best = min((each for each in own if each.in_time), key=lambda each: each.cost.usd_per_month, default=None)
    rest = upkeep_of(spec, book, letters=letters_of(prompt, answer))
    now, *others = _apis(spec, book, usage, is_counted=is_counted)
    cheap = min((way for way in others if not way.lifetime.near), key=lambda way: way.cost.usd_per_month, default=None)
    money = scenario = saving = None
    if best:
        scenario = Scenario(
            requests,
            prompt,
            billed,
            usage.cached_tokens,
            price,
            book.machine(best.machine),
            best.service,
            spec.traffic.peak_to_average,
            spec.traffic.redundancy,
            rest.usd,
            usage.cache_write_tokens,
            rest.request_usd,
        )
        money = money_of(scenario, items_of(scenario, best.machine, rest, book))
        bills = bills_of(_bill(spec.api.model, now), _bill(cheap.label, cheap) if cheap else None)
        saving = Saving(scenario.own_month.usd_per_month, bills, spec.costs.horizon_months)
    batch = Way(f"{now.label}, batch", now.cost.times(book.batch_of(price)), note="answers within a day")
    month = rest.at(requests)
    classical = _way(_linear(spec, book), month, requests, "TF-IDF + linear SVM")
    ways = [now, batch, *others, classical, *(_way(each, month, requests) for each in own)]
    sentence = _sentence(spec, now, cheap, best, scenario, saving, month)
    return Assessment(
        ways,
        best,
        money,
        saving,
        sentence,
        book.as_of,
        prompt,
        billed,
        stale(book, today()),
        left_out,
        "" if is_counted else uncached(now.label, price, prompt_tokens=prompt, answer_tokens=answer, requests=requests),
        usage.cached_tokens,
    )


def _apis(spec: MoneySpec, book: PriceBook, usage: MeanUsage, *, is_counted: bool) -> list[Way]:
    """The API paid for today, then those to compare with it: the spec's, else the book's.

    Args:
        usage: of a request to the API paid for today.
        is_counted: whether that API counted the tokens.
    """
    url, day, months = spec.api.url, today(), spec.costs.horizon_months

    def cost(price: ApiPrice, settings: ApiSpec) -> Cost:
        tokens = usage if settings is spec.api else uncounted(settings, usage.without_thinking())
        return tokens.cost(price, spec.traffic.requests_per_month)

    def way(name: str, settings: ApiSpec, price: ApiPrice, span: Lifetime) -> Way:
        label = f"API {name}"
        ends = f"{'ended' if span.ended else 'ends'} {span.end}" if span.near else ""
        is_known = is_counted and settings is spec.api and settings.completion_tokens is None
        unseen = "" if is_known else thinking(label, price, settings.reasoning_effort)
        note = "; ".join(filter(None, (ends, "thinking not counted" if unseen else "")))
        return Way(label, cost(price, settings), note=note, lifetime=span, thinking=unseen)

    ways = []
    for name, settings in spec.candidate_apis.items():
        price = book.api(settings.model)
        span = lifetime(settings.model, price, settings.url, day, months)
        ways.append(way(name, settings, price, span))
    if not spec.apis:
        usual = ApiSpec(url=url)
        _, *others = beside(
            book, spec.api.model, url, day, months, lambda price: cost(price, usual).usd_per_month
        ).items()
        ways += [way(name, usual, price, span) for name, (price, span) in others]
    return ways


def _usage(spec: MoneySpec) -> tuple[MeanUsage, bool]:
    """(the tokens of a request to the API paid for today, whether that API counted them): those that the spec names;
    else those that the API counted, where the data are a log that has them; else an estimate from the letters of the
    data's first rows."""
    prompt, answer = spec.api.prompt_tokens, spec.api.completion_tokens
    if prompt is not None and answer is not None:
        return MeanUsage(prompt, answer), False
    if spec.task is None or spec.data is None:
        raise UserError(
            "How many tokens does a request have?",
            where="api",
            why="Money is counted in tokens: of the prompt that you send, with the text in it, and of an answer.",
            fix="Add to the command: api.prompt_tokens=480 api.completion_tokens=20  (four letters make about one)",
        )
    try:
        whole = spec.job()
    except ValidationError:
        raise UserError("The spec's task and data can't be used.", fix="Type: tunewright doctor YOUR_PROJECT") from None
    task, data = task_of(whole.task).untaught(), whole.data
    columns = replace(columns_in(whole), group=None, time=None)
    items = read(whole.path(data.train), form=data.form, columns=columns)
    rows = list(islice((item for item in items if isinstance(item, Example) and item.importance), _ROWS))
    if not rows:
        where, fix = whole.path(data.train), "Type: tunewright data check …"
        raise UserError("No row of the data can be read.", where=where, fix=fix)
    form = InputForm.of(whole.task)
    logged = logged_usage(rows)
    usage = logged or MeanUsage(*tokens_by_letters(task, [form.of_example(row) for row in rows]))
    return uncounted(spec.api, usage), logged is not None and prompt is None


def _linear(spec: MoneySpec, book: PriceBook) -> Hosting:
    """The estimate for a linear model, on the machine that the spec names."""
    service = Service(_SVM_SECONDS, _SVM_SECONDS, spec.goal.p95_ms / 1000)
    cost = host_cost(
        book.machine(spec.traffic.machine),
        service,
        requests=spec.traffic.requests_per_month,
        peak_to_average=spec.traffic.peak_to_average,
        redundancy=spec.traffic.redundancy,
    )
    return Hosting(LINEAR, spec.traffic.machine, service, cost)


def _own(spec: MoneySpec, book: PriceBook, prompt: float, answer: float) -> tuple[list[Hosting], str]:
    """(the estimates for the models that the spec names, or for some of each size where it names none; why some that it
    names have none).

    Raises:
        UserError: none of the named models can be assessed.
    """
    kind = spec.task.get("kind") if isinstance(spec.task, dict) else None
    named = dict.fromkeys(filter(None, (spec.model, *spec.candidates)))
    for model in named:
        require_known(model, spec.folder)
    entries = {model: entry_of(model, spec.folder) for model in named}
    if not named:
        entries = {model: catalogue()[model] for model in _SIZES}
        if all(_unable(kind, model, entry) for model, entry in entries.items()):
            entries = {model: catalogue()[model] for model in _ENCODERS}
    refused = {model: error for model, entry in entries.items() if (error := _unable(kind, model, entry))}
    able = {model: entry for model, entry in entries.items() if model not in refused}
    if not able:
        raise next(iter(refused.values()))
    left_out = f"Not assessed: {' '.join(each.what for each in refused.values())}" if named and refused else ""
    if [*able] == [LINEAR]:  # beside other models the table's linear SVM stands for it
        return [_linear(spec, book)], left_out
    hostings = (
        hosting_of(spec, _name(model, spec), entry, book, prompt, answer) for model, entry in able.items() if entry
    )
    return [each for each in hostings if each], left_out


def _unable(kind: str | None, model: str, entry: CatalogueEntry | None) -> UserError | None:
    """Why a model can't be assessed for a kind of task; None where it can.

    Args:
        kind: None: it is not known.
        entry: the model's; None: nothing is known of its size.
    """
    if model == LINEAR:
        return unable_linear(kind) if kind else None
    if entry is None:
        return UserError(
            f"Nothing here says how large {model} is, so it has no estimate.",
            where="model",
            fix="Name a model of about its size: tunewright models ls. Or name a folder with its config.json.",
        )
    return unable(kind, model, encoder=entry.kind == "encoder") if kind else None


def _name(model: str, spec: MoneySpec) -> str:
    """A model's name in tables: the catalogue's, or the last part of a path."""
    return model if model in catalogue() else published_name(model, spec.folder)


def _way(hosting: Hosting, upkeep_usd: float, requests: float, label: str = "") -> Way:
    late = "" if hosting.in_time else "; too slow"
    note = "; chooses labels only" if hosting.model == LINEAR else f", estimated{late}"
    month = hosting.cost.usd_per_month + upkeep_usd
    cost = Cost(month, month / requests * 1000, hosting.cost.replicas)
    return Way(label or hosting.label, cost, hosting.service.slowest, f"{hosting.machine}{note}")


def _bill(name: str, way: Way) -> ApiBill:
    return ApiBill(name, way.cost.usd_per_month, way.lifetime.months_left)


def _sentence(
    spec: MoneySpec,
    paid: Way,
    cheap: Way | None,
    own: Hosting | None,
    scenario: Scenario | None,
    saving: Saving | None,
    upkeep_usd: float,
) -> str:
    """The advice.

    Args:
        paid: the API paid for today.
        cheap: the cheapest other API that lasts.
        saving: of the own model, within the horizon.
    """
    now, requests = paid.cost.usd_per_month, spec.traffic.requests_per_month
    cheaper = ""
    if cheap and cheap.cost.usd_per_month < now:
        cheaper = f" {cheap.label} would cost {usd(cheap.cost.usd_per_month)}: measure that first."
        cheaper += f" {cheap.thinking}" if cheap.thinking else ""
    near = paid.lifetime.near
    end = f"{f' {paid.lifetime.summary}' if near else ''}{cheaper}"
    if paid.lifetime.ended:
        return f"{paid.lifetime.summary} {_in_its_place(spec, cheap, own, upkeep_usd)}"
    if not own or not scenario or not saving:
        return (
            f"Keep {spec.api.model}: none of these models answers within {spec.goal.p95_ms:,.0f} ms on a machine of "
            f"the price book.{end}"
        )
    volume = f"{_volume(scenario)}{f' as long as {spec.api.model} lasts' if near else ''}"
    costs, payback = spec.costs, ""
    left = saving.usd - costs.engineering_usd
    pays = saving.pays(costs.engineering_usd)
    if not pays and scenario.saving <= 0:
        return (
            f"Don't: at {requests:,} requests {spec.api.model} costs ${now:,.0f} a month, the cheapest model of your "
            f"own about ${scenario.own_month.usd_per_month:,.0f}; it pays {volume}.{end}"
        )
    counted = f" {saving.counted()}".rstrip()
    if not pays:
        return (
            f"Don't: at {requests:,} requests the cheapest model of your own would save "
            f"${scenario.saving:,.0f} a month against {spec.api.model}, which does not "
            f"{aim(costs.engineering_usd, costs.horizon_months)}.{counted}{end}"
        )
    if months := saving.payback_months(costs.engineering_usd):
        payback = f", and has paid for its engineering after {months:,.1f} months"
    work = [*unpriced(spec), *(["retraining"] if costs.retraining_usd is None else [])]
    if work:
        payback += f", and leaves ${left:,.0f} for {', '.join(work)} within {costs.horizon_months} months"
    return (
        f"Worth a try: {_called(own)} on {own.cost.replicas} x {own.machine} would cost about "
        f"${scenario.own_month.usd_per_month:,.0f} a month against ${now:,.0f} for {spec.api.model}, if it is as good, "
        f"which only a training shows; it pays {volume}{payback}.{counted}{end}"
    )


def _called(own: Hosting) -> str:
    """What sentences call a model of your own."""
    return "a linear model" if own.model == LINEAR else f"a tuned {own.model}"


def _volume(scenario: Scenario) -> str:
    """From which volume an own model pays. Machines come one by one, so it may pay at today's volume and not at some
    larger ones."""
    even = scenario.break_even_requests
    if even is None:
        return "at no volume"
    if scenario.saving > 0 and scenario.requests < even:
        return f"at today's volume and at any above about {even:,.0f} requests a month, but not at every one between"
    return f"from about {even:,.0f} requests a month"


def _in_its_place(spec: MoneySpec, cheap: Way | None, own: Hosting | None, upkeep_usd: float) -> str:
    """The alternatives where the API paid for today has been shut down."""
    theirs = f"{cheap.label} would cost ${cheap.cost.usd_per_month:,.0f} a month" if cheap else "no API here will last"
    unseen = f" {cheap.thinking}" if cheap and cheap.thinking else ""
    if not own:
        return f"In its place {theirs}; none of these models answers within {spec.goal.p95_ms:,.0f} ms.{unseen}"
    ours = own.cost.usd_per_month + upkeep_usd
    return (
        f"In its place {theirs}, and {_called(own)} on {own.cost.replicas} x {own.machine} about ${ours:,.0f}: "
        f"measure which of them does the job.{unseen}"
    )

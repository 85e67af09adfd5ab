"""The page for the person who pays.

At most ten lines say what a month costs now and after, what the change takes, when it pays back, how good it is and
what could go wrong. Beside them stand the assumptions, each figure with its source.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from tunewright.config import Spec
from tunewright.economics import PriceBook
from tunewright.economics.cost import Item, usd
from tunewright.economics.prices import ApiPrice
from tunewright.economics.saving import Saving
from tunewright.economics.upkeep import unpriced
from tunewright.evaluation.evidence import Latency
from tunewright.evaluation.verdict.comparison import CONTROLS, SERVED, Candidate, Comparison
from tunewright.evaluation.verdict.decision import Verdict
from tunewright.evaluation.verdict.reasons import pct, points
from tunewright.evaluation.verdict.rules import would_change
from tunewright.tasks import task_of

MOST_LINES = 10
_OWN = ("switch", "cascade", "classical")
"""Decisions after which your own model or baseline answers."""
_STEP_USD = 10_000
"""The amount of engineering that the page counts in where the spec does not say what it costs."""


@dataclass(frozen=True)
class Line:
    name: str
    text: str


@dataclass(frozen=True)
class Assumption:
    name: str
    value: str
    source: str
    """Where it is from: "yours" or Tunewright's "default" with the spec's key, a price book with its date, or
    measured."""


@dataclass(frozen=True)
class Page:
    lines: list[Line]
    """At most `MOST_LINES`."""
    assumptions: list[Assumption]


def page(spec: Spec, comparison: Comparison, verdict: Verdict, book: PriceBook) -> Page:
    """Write the page for the person who pays."""
    now = next(iter(comparison.apis.values()))
    after = (comparison.candidates if verdict.decision in _OWN else comparison.apis)[verdict.answers]
    paid = f"{usd(verdict.usd_per_month_now)} for {spec.traffic.requests_per_month:,} requests to {now.key}"
    ended = now.lifetime.ended
    lines = [
        Line("A month before" if ended else "A month now", f"{paid}, which has ended." if ended else f"{paid}."),
        Line("A month after", _after(spec, comparison, verdict, now, after)),
        Line("What it takes", _takes(spec, comparison, verdict, after)),
        Line("When it pays back", _pays_back(spec, verdict, after)),
        Line("How good it is", _quality(spec, comparison.own, verdict, after)),
    ]
    risks = _risks(spec, comparison, verdict, now, after)
    lines += [Line("What could go wrong" if risk is risks[0] else "", risk) for risk in risks]
    return Page(lines[:MOST_LINES], _assumptions(spec, comparison, verdict, book, now, after))


def _after(spec: Spec, comparison: Comparison, verdict: Verdict, now: Candidate, after: Candidate) -> str:
    cost, saving = verdict.usd_per_month, verdict.usd_per_month_now - verdict.usd_per_month
    if verdict.decision == "keep-api":
        own = f"A model of your own would cost {usd(comparison.candidates[SERVED].cost.usd_per_month)}."
        kept = (
            f"The same {usd(cost)}." if not now.lifetime.ended else f"Not known: nothing takes {now.key}'s place yet."
        )
        return f"{kept} {own}"
    less = f"{usd(abs(saving))} {'less' if saving >= 0 else 'more'}"
    share = f" ({pct(abs(saving) / verdict.usd_per_month_now)})" if verdict.usd_per_month_now else ""
    if verdict.decision == "cheaper-api":
        how = f"for {after.key}" if after.scores else f"if {after.key} is good enough, which nobody has measured"
        return f"{usd(cost)}, {how}: {less}{share}."
    spent, other = _spent(spec, comparison, after), _reference(comparison, verdict)
    if verdict.decision == "cascade":
        spent += f", {other.key} for the rest {usd(cost - after.cost.usd_per_month)}"
    alone = f", and {usd(other.cost.usd_per_month - cost)} less than {other.key} alone" if other is not now else ""
    return f"{usd(cost)} ({spent}). That is {less}{share}{alone}."


def _reference(comparison: Comparison, verdict: Verdict) -> Candidate:
    """The API that a saving is counted against: the cheapest that passes, or today's where none does."""
    return comparison.apis[verdict.reference or next(iter(comparison.apis))]


def _spent(spec: Spec, comparison: Comparison, own: Candidate) -> str:
    """What a month of your own candidate is spent on."""
    items = _beside_machines(comparison)
    counted = sum(item.usd_per_month or 0.0 for item in items)
    spent = [(_machines(own, spec), own.cost.usd_per_month - counted)]
    spent += [(item.name, item.usd_per_month) for item in items if item.usd_per_month]
    return ", ".join(f"{name} {usd(amount)}" for name, amount in spent)


def _beside_machines(comparison: Comparison) -> list[Item]:
    """The monthly costs of every candidate of your own, apart from its machines."""
    return [item for item in comparison.money.items if item.name not in ("machines", "standby")]


def _machines(candidate: Candidate, spec: Spec) -> str:
    return f"{candidate.cost.replicas or 1} x {spec.traffic.machine}"


def _takes(spec: Spec, comparison: Comparison, verdict: Verdict, after: Candidate) -> str:
    engineering = spec.costs.engineering_usd
    if verdict.decision == "keep-api":
        return "Nothing now."
    if verdict.decision == "cheaper-api" and after.scores:
        return "Its address, its name and its prompt in place of today's; it was measured with them."
    if verdict.decision == "cheaper-api":
        examples = sum(score.count for score in comparison.candidates[SERVED].scores.values())
        price = usd(after.cost.usd_per_1000 * examples / 1000)
        how = f" ({verdict.measure})" if verdict.measure else ""
        return f"Asking {after.key} the {examples:,} test examples, for about {price}{how}."
    once = [f"{usd(engineering)} of engineering, once"] if engineering else []
    months, work = spec.costs.horizon_months, " and ".join(unpriced(spec))
    if work:
        once.append(f"{work}, which the spec does not price")
    needs = "; ".join(once) or "Nothing that has to pay back"
    left = verdict.saving.usd - engineering if verdict.saving else 0.0
    pays = f"; up to {usd(left)} for that pays back within {months} months" if work and left > 0 else ""
    return f"{needs[0].upper()}{needs[1:]}{pays}."


def _pays_back(spec: Spec, verdict: Verdict, after: Candidate) -> str:
    if verdict.decision == "keep-api":
        return "Nothing is spent, so nothing has to pay back."
    if verdict.decision == "cheaper-api":
        return "At once." if after.scores else f"At once, if {after.key} is good enough."
    assert verdict.saving, "a model of your own answers"
    counted = verdict.saving.counted()
    return f"{_earned_back(verdict.saving, spec)}{' ' if counted else ''}{counted}"


def _earned_back(saving: Saving, spec: Spec) -> str:
    engineering = spec.costs.engineering_usd
    months = saving.payback_months(engineering or _STEP_USD)
    if months is None and (engineering or saving.usd <= 0):
        return "Not by what is known here: it is recommended because today's API can't be kept."
    if months is None:
        return f"It saves less than {usd(_STEP_USD)} in all."
    if engineering:
        return f"After {months:,.1f} months; you allow {spec.costs.horizon_months}."
    return f"The first {usd(_STEP_USD)} that it takes are earned back after {_months(months)}."


def _months(count: float) -> str:
    return f"{count * 365.25 / 12:,.0f} days" if count < 2 else f"{count:,.0f} months"


def _quality(spec: Spec, own: str, verdict: Verdict, after: Candidate) -> str:
    claim, needed = task_of(spec.task).claim, f"you need {pct(spec.goal.accuracy)}"
    if verdict.decision == "cascade":
        split, part = min(
            ((name, part) for name, part in verdict.cascade.items() if part.primary_metric),
            key=lambda each: each[1].primary_metric.value if each[1].primary_metric else 0.0,
        )
        assert part.primary_metric
        return (
            f"It answers {pct(part.coverage)} of {split} itself and {claim(pct(part.primary_metric.value))} of that, "
            f"{pct(part.primary_metric.low)} at the least; {needed}."
        )
    if not after.scores:
        return f"{after.key} was not measured on your examples; {needed}."
    split = min(after.scores, key=lambda name: after.scores[name].primary_metric.value)
    worst = after.scores[split]
    answers = after.key
    if verdict.decision in _OWN:
        name = CONTROLS.get(after.key, own)
        answers = f"{name[0].upper()}{name[1:]}"
    return (
        f"{answers} {claim(pct(worst.primary_metric.value))} of {worst.count:,} examples ({split}), "
        f"{pct(worst.primary_metric.low)} at the least; {needed}."
    )


def _risks(spec: Spec, comparison: Comparison, verdict: Verdict, now: Candidate, after: Candidate) -> list[str]:
    """The risks in sentences, the gravest first."""
    own = verdict.decision in _OWN
    risks = [_end(verdict, now)]
    if own:
        risks.append(_could_be_worse(spec, verdict, after))
    risks += [_cheaper(spec, comparison, verdict, after), comparison.stale]
    if own:
        risks += [_beside_the_api(verdict, now, after), _untimed(comparison, verdict), _threshold(verdict)]
        if verdict.decision == "switch":
            risks += [_swing(comparison), _volume(verdict, now)]
        risks.append(comparison.measured_on)
        last = "Requests may change, and accuracy falls unseen unless somebody looks: tunewright monitor drift."
    else:
        risks.append(after.thinking)
        last = f"{after.key}'s provider sets its price and its end."
    most = MOST_LINES - 5
    return [*[risk for risk in risks if risk][: most - 1], last]


def _end(verdict: Verdict, now: Candidate) -> str:
    if not now.lifetime.near:
        return ""
    if verdict.decision == "cascade" and verdict.reference == now.key:
        then = "what the model leaves to it needs another API"
    elif verdict.decision == "keep-api":
        then = "nothing here takes its place" if now.lifetime.ended else "this must be decided anew before that day"
    else:
        then = "the move can't wait" if now.lifetime.ended else "the move must be made before that day"
    return f"{now.lifetime.summary.rstrip('.')}: {then}."


def _could_be_worse(spec: Spec, verdict: Verdict, after: Candidate) -> str:
    """The risk that the accuracy is lower than on the test; for a cascade, the accuracy of what it answers itself."""
    tested = {split: (score.count, score.primary_metric) for split, score in after.scores.items()}
    if verdict.decision == "cascade":
        tested = {
            split: (part.accepted, part.primary_metric)
            for split, part in verdict.cascade.items()
            if part.primary_metric
        }
    for split, (_, primary_metric) in tested.items():
        if primary_metric.doubt:
            return f"Its accuracy on {split} is not proven: there are {primary_metric.doubt}."
    split, (count, primary_metric) = min(tested.items(), key=lambda each: each[1][1].low)
    if primary_metric.low >= spec.goal.accuracy:
        return ""
    return f"With {count:,} test examples its accuracy on {split} could be {pct(primary_metric.low)}."


def _cheaper(spec: Spec, comparison: Comparison, verdict: Verdict, after: Candidate) -> str:
    """The risk that an API which nobody measured would cost less, or leave a model of your own too little to save."""
    lasting = [
        candidate
        for candidate in comparison.apis.values()
        if not candidate.is_measured and not candidate.lifetime.near and candidate is not after
    ]
    cheaper = [each for each in lasting if would_change(each, verdict.usd_per_month, verdict.saving, spec)]
    if not cheaper:
        return ""
    least = min(cheaper, key=lambda candidate: candidate.cost.usd_per_month)
    more = f", the cheapest of {len(cheaper)} such" if len(cheaper) > 1 else ""
    then = "" if least.cost.usd_per_month < verdict.usd_per_month else ": against it, your own model does not pay"
    return f"{least.key} would cost {usd(least.cost.usd_per_month)} a month and was not measured{more}{then}."


def _beside_the_api(verdict: Verdict, now: Candidate, after: Candidate) -> str:
    if not now.scores:
        return f"{now.key} was not measured: whether your users get worse answers than today is not known."
    if verdict.decision == "cascade":
        name, pairs = "the whole cascade", verdict.cascade_against_api
    else:
        name, pairs = "it", verdict.against_api if after.key == SERVED else {}
    worst = min(pairs.items(), key=lambda each: each[1].difference.low, default=None)
    if worst is None or worst[1].difference.low >= 0:
        return ""
    gap = worst[1].difference
    return f"Against {now.key} {name} is {points(gap.value)} points on {worst[0]}, and could be {points(gap.low)}."


def _untimed(comparison: Comparison, verdict: Verdict) -> str:
    if verdict.decision != "cascade" or verdict.cascade_latency:
        return ""
    return f"How long requests take that go on to {_reference(comparison, verdict).key} was not measured."


def _threshold(verdict: Verdict) -> str:
    if verdict.decision != "cascade" or verdict.threshold is None or verdict.threshold.guaranteed:
        return ""
    return f"The threshold from which on it is sure enough is not guaranteed: {verdict.threshold.doubt}."


def _swing(comparison: Comparison) -> str:
    """The input that turns the saving into the largest loss; empty where none does."""
    ends = [
        (saving, f"{swing.name}: {value}")
        for swing in comparison.money.swings
        for saving, value in ((swing.saving_low, swing.low), (swing.saving_high, swing.high))
    ]
    saving, change = min(ends)
    return (
        f"With another input ({change}) it would cost {usd(-saving)} a month more than the API." if saving < 0 else ""
    )


def _volume(verdict: Verdict, now: Candidate) -> str:
    even = verdict.break_even_requests
    return f"Below {even:,.0f} requests a month {now.key} may cost less." if even else ""


def _assumptions(
    spec: Spec, comparison: Comparison, verdict: Verdict, book: PriceBook, now: Candidate, after: Candidate
) -> list[Assumption]:
    usage, own = comparison.usage, after if verdict.decision in _OWN else comparison.candidates[SERVED]
    engineering = spec.costs.engineering_usd
    cached = f" ({usage.cached_tokens:,.0f} cached)" if usage.cached_tokens else ""
    counted = {
        "api": f"counted by {now.key}",
        "log": f"counted by {now.key}, in your log",
        "spec": "yours: api.prompt_tokens, api.completion_tokens",
        "letters": "the task's prompt, four letters a token; yours: api.prompt_tokens",
        "model": "the tuned model's prompt, short for an API; yours: api.prompt_tokens",
    }[comparison.usage_from]
    apis, machine = {now.key: now, after.key: after} if after.key in comparison.apis else {now.key: now}, spec.traffic
    tested = ", ".join(f"{score.count:,} of {split}" for split, score in own.scores.items())
    tokens = f"{usage.prompt_tokens:,.0f} in{cached}, {usage.answer_tokens:,.0f} out"
    assumptions = [
        Assumption(
            "Requests a month",
            f"{spec.traffic.requests_per_month:,}",
            _key(spec.traffic, "traffic", "requests_per_month"),
        ),
        Assumption(f"Tokens to {now.key}", tokens, counted),
        *(
            Assumption(f"{name}, a million tokens", _price(book.api(candidate.model)), _book(spec, book.apis_as_of))
            for name, candidate in apis.items()
        ),
        *(
            Assumption(f"{name} ends", candidate.lifetime.end, _book(spec, book.apis_as_of))
            for name, candidate in apis.items()
            if candidate.lifetime.end
        ),
        Assumption("Machine", _machines(own, spec), _key(machine, "traffic", "machine")),
        Assumption("An hour of it", f"${book.machine(machine.machine).usd_per_hour:,.3f}", _book(spec, book.as_of)),
        Assumption(
            "Busiest minute",
            f"{machine.peak_to_average:g} times the average",
            _key(machine, "traffic", "peak_to_average"),
        ),
    ]
    if own.latency:
        assumptions.append(Assumption("Time an answer", _speed(own.latency), "measured on the machine of this run"))
    if logged := comparison.logged_latency:
        source = f"{logged.count:,} calls in your log"
        assumptions.append(Assumption(f"Time an answer of {now.key}", _speed(logged), source))
    return [
        *assumptions,
        Assumption("Examples of the test", tested, "your data"),
        Assumption("Accuracy needed", pct(spec.goal.accuracy), _key(spec.goal, "goal", "accuracy")),
        Assumption(
            "Engineering, once",
            usd(engineering) if engineering else "not counted",
            _key(spec.costs, "costs", "engineering_usd"),
        ),
        *(
            Assumption(f"{item.name[0].upper()}{item.name[1:]} a month", _amount(item), f"{item.source}; {item.basis}")
            for item in _beside_machines(comparison)
        ),
        Assumption(
            "Has to pay back in", f"{spec.costs.horizon_months} months", _key(spec.costs, "costs", "horizon_months")
        ),
    ]


def _speed(latency: Latency) -> str:
    return f"{latency.mean_ms:,.0f} ms, P95 {latency.p95_ms:,.0f} ms"


def _key(section: BaseModel, name: str, key: str) -> str:
    """Whether a value of the spec is yours or a default. The steps read the spec with its defaults filled in, so only
    the value itself can show it."""
    is_default = getattr(section, key) == type(section).model_fields[key].default
    return f"{'default' if is_default else 'yours'}: {name}.{key}"


def _amount(item: Item) -> str:
    return "not counted" if item.usd_per_month is None else usd(item.usd_per_month)


def _book(spec: Spec, day: str) -> str:
    own = f"your book ({spec.prices}) over the " if spec.prices else ""
    return f"{own}price book of {day}"


def _price(price: ApiPrice) -> str:
    cached = "" if price.usd_cached is None else f", ${price.usd_cached:g} cached"
    return f"${price.usd_in:g} in{cached}, ${price.usd_out:g} out"

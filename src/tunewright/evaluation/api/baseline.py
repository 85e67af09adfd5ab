"""The step `baseline`: how the APIs that come into question answer the test examples.

Each is asked (`url`), its answers kept so that nothing is paid twice, or its earlier answers are read (`recorded`). One
budget holds for all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from tunewright.config import ApiSpec, Spec
from tunewright.core.artifacts import Output, write_json, write_jsonl
from tunewright.core.progress import say
from tunewright.data import Dataset, load_dataset
from tunewright.economics import price_book
from tunewright.economics.candidates import check_apis, next_lower
from tunewright.economics.cost import LETTERS_A_TOKEN
from tunewright.economics.lifetimes import today
from tunewright.economics.prices import ApiPrice, PriceBook
from tunewright.evaluation.api.asking import (
    AskedApi,
    Reply,
    asked_of_api,
    endpoint_of,
    estimate,
    place_of,
    recorded_replies,
    replies_of,
)
from tunewright.evaluation.api.budget import Budget
from tunewright.evaluation.api.endpoint import WIDE_ROOM, Endpoint, alike, asked_of
from tunewright.evaluation.api.paid import PAID, PaidAnswers
from tunewright.evaluation.api.questions import asked_task, read
from tunewright.evaluation.evidence import Record, by_test, record_of, score
from tunewright.evaluation.steps import ANSWERS, BASELINE, tests_of
from tunewright.inference.predictors import Answer
from tunewright.tasks import Task, task_of

TOKENS = ("prompt_tokens", "answer_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
_THOUGHT = 0.5
"""Share of what an answer costs from which on thinking is dear, and the next lower effort is tried."""
_TRIED = 50
"""Examples of all test splits that are asked at the lower effort."""
_ODD = 0.2
"""Share of replies that are no answer of the task, from which on the form is to blame."""


@dataclass(frozen=True)
class CostForecast:
    """What asking one API would take."""

    api: str
    questions: int
    kept: int
    """Those among them that were paid for before."""
    prompt_tokens: int
    """Of those that are left; roughly, by their bytes."""
    usd: float
    """At the prices of the price book, with answers as long as the data's; thinking is not in it."""
    reasons: bool
    """Whether it may think before it answers."""


@dataclass(frozen=True)
class Lower:
    """What an API gives at the next lower reasoning effort, on some of the same examples."""

    effort: str
    count: int
    primary_metric: float
    primary_metric_here: float
    """At the effort that was asked for, on these."""
    usd_per_1000: float

    def told(self, name: str, settings: ApiSpec, usd_per_1000: float) -> str:
        here = f"at {settings.reasoning_effort}" if settings.reasoning_effort else "unasked"
        return (
            f"Most of what {name} costs is its thinking. At the reasoning effort {self.effort}, {self.count:,} of the "
            f"same examples come to {self.primary_metric:.1%}, where they come to {self.primary_metric_here:.1%} "
            f"{here}, and 1,000 answers to ${self.usd_per_1000:,.4f} in place of ${usd_per_1000:,.4f}."
        )


def run_baseline(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    """Dataset -> `answers/NAME.jsonl` and `replies/NAME.jsonl` of every API, with its answers and its replies as they
    came, and `baseline.json`."""
    dataset, book = load_dataset(inputs["split"]), price_book(spec.price_file)
    check_apis(spec, book, today())
    (output.path / ANSWERS).mkdir()
    (output.path / "replies").mkdir()
    # All keys are looked for before the first answer is paid.
    endpoints = {name: endpoint_of(spec, name, each) for name, each in spec.asked_apis.items()}
    found: dict[str, dict[str, Any]] = {}
    left = spec.baseline.budget_usd
    with PaidAnswers(output.path.parent / PAID) as paid:
        for name, settings in spec.measured_apis.items():
            task, budget, lower = asked_task(spec, settings), Budget(left, book.api(settings.model)), None
            if settings.recorded:
                rows, records = _read(task, recorded_replies(spec, spec.path(settings.recorded), dataset))
            else:
                asked = asked_of_api(spec, settings, dataset)
                say(f"  {len(asked.questions):,} questions to {name} at {settings.url}, for ${left:,.2f} at most")
                replies = replies_of(endpoints[name], asked, paid, budget)
                rows, records = _read(task, replies)
                lower = _at_lower_effort(spec, name, endpoints[name], asked, replies, records, paid, budget)
            left -= budget.spent
            found[name] = _summary(spec, name, dataset, records, rows, book, lower) | {"usd": budget.spent}
            write_jsonl(output.path / ANSWERS / f"{name}.jsonl", (asdict(record) for record in records))
            write_jsonl(output.path / "replies" / f"{name}.jsonl", rows)
    told = [sentence for each in found.values() for sentence in each["told"]]
    write_json(output.path / BASELINE, {"apis": found, "usd": spec.baseline.budget_usd - left, "told": told})
    for sentence in told:
        say(f"  {sentence}")
    output.result = {
        **{
            f"{name} {split}": figure
            for name, each in found.items()
            for split, figure in each["primary_metric"].items()
        },
        "usd": round(spec.baseline.budget_usd - left, 4),
    }


def forecast(spec: Spec, split: Path, runs: Path) -> list[CostForecast]:
    """What `run_baseline` would ask and pay, API by API.

    Args:
        runs: the folder of all outputs, where paid answers are kept.
    """
    dataset, book, made = load_dataset(split), price_book(spec.price_file), []
    check_apis(spec, book, today())
    with PaidAnswers(runs / PAID) if (runs / PAID).exists() else nullcontext() as paid:
        for name, settings in spec.asked_apis.items():
            asked, price = asked_of_api(spec, settings, dataset), book.api(settings.model)
            unlike = [same[0] for same in alike(asked.questions)]
            left = unlike
            if paid:
                keys = {n: asked_of(*place_of(settings), asked.questions[n], settings.protocol) for n in unlike}
                left = [place for place in unlike if not paid.get(keys[place])]
            tokens, usd = estimate(asked, left, price, LETTERS_A_TOKEN)
            made.append(CostForecast(name, len(unlike), len(unlike) - len(left), tokens, usd, price.reasons))
    return made


def _read(task: Task, replies: Sequence[Reply]) -> tuple[list[dict[str, Any]], list[Record]]:
    """(the replies as they came, what they come to); those that were cut are neither right nor wrong."""
    rows, records = [], []
    for reply in replies:
        came = reply.came
        answer = read(task, came.text) if came.ending != "refused" else None
        rows.append(
            {
                "id": reply.example.meta.id,
                "split": reply.split,
                "readable": answer is not None,
                "paid": reply.first,
                **asdict(came),
            }
        )
        if came.ending != "cut":
            given = Answer(came.text if answer is None else answer, None, came.prompt_tokens, came.answer_tokens)
            records.append(record_of(reply.split, reply.example, given, came.latency_ms, task))
    return rows, records


def _summary(
    spec: Spec,
    name: str,
    dataset: Dataset,
    records: Sequence[Record],
    rows: Sequence[Mapping[str, Any]],
    book: PriceBook,
    lower: Lower | None,
) -> dict[str, Any]:
    """What `baseline.json` holds of an API."""
    settings = spec.candidate_apis[name]
    price, of = book.api(settings.model), {split: len(each) for split, each in tests_of(spec, dataset).items()}
    endings = Counter(row["ending"] for row in rows)
    unread = sum(not row["readable"] and row["ending"] == "whole" for row in rows)
    counted = [row for row in rows if row["prompt_tokens"]]
    means = {part: fmean(row[part] for row in counted) for part in TOKENS} if counted else {}
    primary_metric, told = {}, []
    for split, part in by_test(records).items():
        found = score(part, spec.seed).primary_metric
        primary_metric[split] = round(found.value, 4)
        told.append(
            f"{name} {task_of(spec.task).claim(f'{found.value:.1%}')} ({found.low:.1%} to {found.high:.1%}) "
            f"of {split}; {len(part):,} of its {of[split]:,} examples are answered."
        )
    if flaws := [
        f"{count:,} {what}"
        for count, what in (
            (endings["refused"], "refused"),
            (unread, "no answer of the task"),
        )
        if count
    ]:
        told.append(f"Of its replies, {', '.join(flaws)}; all of these count as they are, mostly as wrong.")
    if settings.structured and settings.url and unread > _ODD * max(len(rows), 1):
        told.append(f"{name} may not know response_format: `structured: false` asks for the form in words.")
    if endings["cut"]:
        told.append(
            f"{endings['cut']:,} of its {len(rows):,} replies were cut, at {WIDE_ROOM:,} tokens or what the endpoint "
            "gives at most. They are left out: neither right nor wrong."
        )
    thought = means.get("reasoning_tokens", 0.0)
    per_1000 = None
    if counted:
        per_1000 = 1000 * price.usd(*(means[part] for part in TOKENS[:4]))
        share = means["cached_tokens"] / means["prompt_tokens"]
        thinking = f", {thought:,.0f} of them thought," if thought else ""
        told.append(
            f"{name} costs ${per_1000:,.4f} for 1,000 answers: {means['prompt_tokens']:,.0f} tokens in ({share:.0%} of "
            f"them cached) and {means['answer_tokens']:,.1f} out{thinking} a request, at the prices of "
            f"{book.apis_as_of}."
        )
    elif settings.url:
        told.append("The endpoint does not say how many tokens it took, so what that cost is not known.")
    if lower:
        told.append(lower.told(name, settings, per_1000 or 0.0))
    return {
        "model": settings.model,
        "effort": settings.reasoning_effort,
        "source": "recorded" if settings.recorded else "asked",
        "primary_metric": primary_metric,
        "refused": endings["refused"],
        "cut": endings["cut"],
        "unread": unread,
        **dict.fromkeys(TOKENS),
        **means,
        "usd_per_1000": per_1000,
        "lower": asdict(lower) if lower else None,
        "told": told,
    }


def _at_lower_effort(
    spec: Spec,
    name: str,
    endpoint: Endpoint,
    asked: AskedApi,
    replies: Sequence[Reply],
    records: Sequence[Record],
    paid: PaidAnswers,
    budget: Budget,
) -> Lower | None:
    """Ask some of the questions at the next lower effort, where thinking is most of what an answer costs, the budget
    leaves room, and nobody asks at that effort anyway."""
    settings, book = spec.candidate_apis[name], price_book(spec.price_file)
    price, task = book.api(settings.model), asked_task(spec, settings)
    effort, cost = next_lower(settings, price), _usd_per_1000(price, replies)
    thought = 1000 * price.usd(0, fmean(reply.came.reasoning_tokens for reply in replies))
    others = (each for each in spec.asked_apis.values() if each.model == settings.model)
    if effort is None or thought < _THOUGHT * cost or not thought or effort in {e.reasoning_effort for e in others}:
        return None
    some = asked.some(_TRIED)
    some = AskedApi(some.examples, [each.at_effort(effort) for each in some.questions])
    dearest = max(some.questions, key=lambda each: each.size)
    if not budget.allows(len(some.questions) * cost / 1000, dearest.size, dearest.most):
        return None
    say(f"  {len(some.questions):,} of them at the effort {effort}, because {name} thinks for most of its price")
    lesser = replies_of(endpoint, some, paid, budget)
    these = {reply.example.meta.id for reply in lesser}
    there, here = (
        score(each, spec.seed).primary_metric.value
        for each in (_read(task, lesser)[1], [record for record in records if record.id in these])
    )
    return Lower(effort, len(lesser), there, here, _usd_per_1000(price, lesser))


def _usd_per_1000(price: ApiPrice, replies: Sequence[Reply]) -> float:
    return 1000 * price.usd(*(fmean(getattr(reply.came, part) for reply in replies) for part in TOKENS[:4]))

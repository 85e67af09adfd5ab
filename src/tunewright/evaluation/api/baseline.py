"""The step `baseline`: how the candidate APIs answer the test examples.

The step asks each API (`url`) and keeps its answers, so that nothing is paid twice, or reads its recorded answers
(`recorded`). One budget holds for all of them, and for what earlier runs have paid for the same questions. An API that
has been shut down is not asked: it stands by the answers that were kept.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from tunewright.config import ApiSpec, Spec
from tunewright.core.artifacts import Output, write_json, write_jsonl
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.data import Dataset, load_dataset
from tunewright.economics import price_book
from tunewright.economics.candidates import check_apis, ended_apis, next_lower
from tunewright.economics.cost import LETTERS_A_TOKEN
from tunewright.economics.lifetimes import Lifetime, today
from tunewright.economics.prices import ApiPrice, PriceBook
from tunewright.evaluation.api.asking import (
    ApiQuestions,
    Gap,
    Reply,
    collect_replies,
    endpoint_of,
    estimate,
    gap_in,
    kept_answers,
    kept_replies,
    key_of,
    questions_for,
    recorded_replies,
    unpaid,
)
from tunewright.evaluation.api.budget import Budget
from tunewright.evaluation.api.endpoint import WIDE_MAX_TOKENS, Endpoint
from tunewright.evaluation.api.paid import PAID, PaidAnswers
from tunewright.evaluation.api.questions import asked_task, read
from tunewright.evaluation.evidence import Record, by_test, cut_short, record_of, score
from tunewright.evaluation.steps import ANSWERS, BASELINE, tests_of
from tunewright.inference.predictors import Answer
from tunewright.tasks import Task, task_of

TOKENS = ("prompt_tokens", "answer_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
_THOUGHT = 0.5
"""Where thinking is at least this share of an answer's cost, the step tries the next lower effort."""
_TRIED = 50
"""Examples of all test splits that are asked at the lower effort."""
_ODD = 0.2
"""Where more than this share of the replies is no answer of the task, the response format is to blame."""


@dataclass(frozen=True)
class CostForecast:
    """What asking one API would cost."""

    api: str
    questions: int
    kept: int
    """Questions that were paid for before."""
    prompt_tokens: int
    """Prompt tokens of the questions left, estimated from their bytes."""
    usd: float
    """Cost at the prices of the price book, with answers as long as the data's and without thinking."""
    reasons: bool
    """Whether the model may think before it answers."""


@dataclass(frozen=True)
class BaselineForecast:
    """What asking all APIs would cost."""

    apis: list[CostForecast]
    spent: float
    """What earlier runs have spent of the budget, in USD."""


@dataclass(frozen=True)
class Lower:
    """An API's result at the next lower reasoning effort, on some of the same examples."""

    effort: str
    count: int
    primary_metric: float
    primary_metric_here: float
    """The primary metric on these examples at the effort of the spec."""
    usd_per_1000: float

    def sentence(self, name: str, settings: ApiSpec, usd_per_1000: float) -> str:
        here = f"at {settings.reasoning_effort}" if settings.reasoning_effort else "at its own default"
        return (
            f"Most of what {name} costs is its thinking. At the reasoning effort {self.effort}, {self.count:,} of the "
            f"same examples come to {self.primary_metric:.1%}, where they come to {self.primary_metric_here:.1%} "
            f"{here}, and 1,000 answers to ${self.usd_per_1000:,.4f} in place of ${usd_per_1000:,.4f}."
        )


@dataclass(frozen=True)
class _Measured:
    """What one API has answered."""

    rows: list[dict[str, Any]]
    """Its raw replies."""
    records: list[Record]
    asked: ApiQuestions | None = None
    """The questions; None: it was not asked."""
    replies: Sequence[Reply] = ()


def run_baseline(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    """Dataset -> `baseline.json`, and for every API `answers/NAME.jsonl` and its raw replies, `replies/NAME.jsonl`."""
    dataset, book = load_dataset(inputs["split"]), price_book(spec.price_file)
    check_apis(spec, book, today())
    ended = ended_apis(spec, book, today())
    (output.path / ANSWERS).mkdir()
    (output.path / "replies").mkdir()
    # Every key is checked before the first answer is paid.
    endpoints = {name: endpoint_of(spec, name, each) for name, each in spec.asked_apis.items() if name not in ended}
    measured: dict[str, _Measured] = {}
    summaries: dict[str, dict[str, Any]] = {}
    left_out: dict[str, str] = {}
    with PaidAnswers(output.path.parent / PAID) as paid:
        budgets = _budgets(spec, dataset, book, paid)
        for name, settings in spec.measured_apis.items():
            task = asked_task(spec, settings)
            if settings.recorded:
                measured[name] = _Measured(*_read(task, recorded_replies(spec, spec.path(settings.recorded), dataset)))
                continue
            asked = questions_for(spec, settings, dataset)
            if name in ended:
                kept = kept_replies(settings, asked, paid)
                if gap := gap_in(kept, asked.examples):
                    left_out[name] = _left_out(spec, name, gap, ended[name], output.path.parent)
                else:
                    measured[name] = _Measured(*_read(task, kept))
                continue
            limit = _set_limit(spec, name, budgets)
            say(f"  {len(asked.questions):,} questions to {name} at {settings.url}, for ${limit:,.2f} at most")
            replies = collect_replies(endpoints[name], asked, paid, budgets[name])
            measured[name] = _Measured(*_read(task, replies), asked, replies)
        # Lower efforts come last, so that they take nothing that an API of the list needs.
        for name, each in measured.items():
            lower = None
            if each.asked:
                _set_limit(spec, name, budgets)
                lower = _try_lower_effort(spec, name, endpoints[name], each, paid, budgets[name])
            usd = budgets[name].spent if name in budgets else 0.0
            summaries[name] = _summary(spec, name, dataset, each.records, each.rows, book, lower) | {"usd": usd}
            write_jsonl(output.path / ANSWERS / f"{name}.jsonl", (asdict(record) for record in each.records))
            write_jsonl(output.path / "replies" / f"{name}.jsonl", each.rows)
    sentences = [*left_out.values(), *(sentence for each in summaries.values() for sentence in each["told"])]
    total = sum(each.spent for each in budgets.values())
    content = {"apis": summaries, "left_out": list(left_out), "usd": total, "told": sentences}
    write_json(output.path / BASELINE, content)
    for sentence in sentences:
        say(f"  {sentence}")
    output.result = {
        **{
            f"{name} {split}": figure
            for name, each in summaries.items()
            for split, figure in each["primary_metric"].items()
        },
        "usd": round(total, 4),
    }


def _left_out(spec: Spec, name: str, gap: Gap, span: Lifetime, runs: Path) -> str:
    """A sentence that an API is left out, because it has been shut down and its kept answers cover too little of the
    test. A project that has measured the API goes on without it, so that its retraining does not end with the API.

    Raises:
        UserError: no run of this folder has measured it.
    """
    if not _was_measured(name, runs):
        is_todays = name == spec.api.label
        leave = "Take its `url` away: the verdict then goes by the goal" if is_todays else "Take it out of `apis`"
        raise UserError(
            f"{span.summary.removesuffix('.')}: it can't be asked any more, and no run here has measured it.",
            where=spec.section_of_api(name),
            why="An API that has been shut down stands by the answers that were paid for before: here are "
            f"{gap.answered:,} for the {gap.count:,} examples of {gap.split}.",
            fix=f"{leave}. Or name a file of answers that it gave (`recorded`) in place of `url`.",
        )
    return (
        f"{span.summary.removesuffix('.')}: it can't be asked any more, and {gap.answered:,} of the {gap.count:,} "
        f"examples of {gap.split} have an answer from before. It is left out."
    )


def _was_measured(name: str, runs: Path) -> bool:
    """Whether an earlier output of this step has an API."""
    earlier = (json.loads(file.read_text("utf-8")) for file in runs.glob(f"baseline-*/{BASELINE}"))
    return any(name in (*each.get("apis", ()), *each.get("left_out", ())) for each in earlier)


def _set_limit(spec: Spec, name: str, budgets: Mapping[str, Budget]) -> float:
    """Let an API cost all that the others have not spent. Returns that, in USD."""
    others = sum(each.spent for other, each in budgets.items() if other != name)
    budgets[name].limit = max(spec.baseline.budget_usd - others, 0.0)
    return budgets[name].limit


def _budgets(spec: Spec, dataset: Dataset, book: PriceBook, paid: PaidAnswers) -> dict[str, Budget]:
    """The budget of each API that is asked. What earlier runs have paid for its answers is spent already, so that no
    API takes what one behind it in the list has cost."""
    budgets: dict[str, Budget] = {}
    for name, settings in spec.asked_apis.items():
        price, asked = book.api(settings.model), questions_for(spec, settings, dataset)
        budgets[name] = budget = Budget(spec.baseline.budget_usd, price)
        effort = _lower_effort(spec, settings, price)
        lower = _at_effort(asked, effort).questions if effort else []
        for each in (*asked.questions, *lower):
            for question, answer in kept_answers(settings, each, paid):
                budget.count_kept(key_of(settings, question), question.size, question.most, answer)
    return budgets


def forecast(spec: Spec, split: Path, runs: Path) -> BaselineForecast:
    """What `run_baseline` would ask and pay. It asks nothing of an API that has been shut down.

    Args:
        runs: the folder of all outputs, where paid answers are kept.
    """
    dataset, book, forecasts = load_dataset(split), price_book(spec.price_file), []
    check_apis(spec, book, today())
    ended = ended_apis(spec, book, today())
    with PaidAnswers.kept(runs) as paid:
        for name, settings in spec.asked_apis.items():
            asked, price = questions_for(spec, settings, dataset), book.api(settings.model)
            unique, left = unpaid(settings, asked.questions, paid)
            if name in ended:
                unique, left = [index for index in unique if index not in left], []
            tokens, usd = estimate(asked, left, price, LETTERS_A_TOKEN)
            forecasts.append(CostForecast(name, len(unique), len(unique) - len(left), tokens, usd, price.reasons))
        budgets = _budgets(spec, dataset, book, paid) if paid else {}
    return BaselineForecast(forecasts, sum(each.spent for each in budgets.values()))


def _read(task: Task, replies: Sequence[Reply]) -> tuple[list[dict[str, Any]], list[Record]]:
    """(the raw replies, their records). A reply that was cut counts as an empty answer, whatever it holds."""
    rows, records = [], []
    for reply in replies:
        raw = reply.raw
        answer = read(task, raw.text) if raw.ending == "whole" else None
        rows.append(
            {
                "id": reply.example.meta.id,
                "split": reply.split,
                "weight": reply.example.importance,
                "readable": answer is not None,
                "paid": reply.first,
                **asdict(raw),
            }
        )
        text = "" if raw.ending == "cut" else raw.text if answer is None else answer
        given = Answer(text, None, raw.prompt_tokens, raw.answer_tokens)
        record = record_of(reply.split, reply.example, given, raw.latency_ms, task)
        records.append(replace(record, cut=raw.ending == "cut"))
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
    """The entry of an API in `baseline.json`."""
    settings = spec.candidate_apis[name]
    price, sizes = book.api(settings.model), {split: len(each) for split, each in tests_of(spec, dataset).items()}
    endings = Counter(row["ending"] for row in rows)
    unread = sum(not row["readable"] and row["ending"] == "whole" for row in rows)
    counted = [row for row in rows if row["prompt_tokens"]]
    weights = [row["weight"] for row in counted]
    means = {part: fmean((row[part] for row in counted), weights) for part in TOKENS} if counted else {}
    primary_metric, sentences, short = {}, [], cut_short(records)
    for split, part in by_test(records).items():
        if split in short:
            continue
        interval, whole = score(part, spec.seed).primary_metric, sum(not record.cut for record in part)
        primary_metric[split] = round(interval.value, 4)
        sentences.append(
            f"{name} {task_of(spec.task).claim(f'{interval.value:.1%}')} ({interval.low:.1%} to {interval.high:.1%}) "
            f"of {split}; {whole:,} of its {sizes[split]:,} examples are answered."
        )
    if flaws := [
        f"{count:,} {flaw}"
        for count, flaw in (
            (endings["refused"], "refused"),
            (unread, "no answer of the task"),
        )
        if count
    ]:
        sentences.append(f"Among its replies: {', '.join(flaws)}; all of these count as they are, mostly as wrong.")
    if settings.structured and settings.url and unread > _ODD * max(len(rows), 1):
        sentences.append(
            f"{name} may not know response_format or tools: `structured: false` asks for the form in words."
        )
    if endings["cut"]:
        sentences.append(
            f"{endings['cut']:,} of its {len(rows):,} replies were cut, at {WIDE_MAX_TOKENS:,} tokens or the "
            "endpoint's own limit. They count as its wrong answers, and no other candidate is compared with it there."
        )
    for split, each in short.items():
        sentences.append(
            f"On {split}, {each.cut:,} of its {each.count:,} replies were cut. That is too many to say how good it is, "
            "because the whole ones may be the easy ones: there it counts as not measured."
        )
    thought = means.get("reasoning_tokens", 0.0)
    per_1000 = None
    if counted:
        per_1000 = 1000 * price.usd(*(means[part] for part in TOKENS[:4]))
        share = means["cached_tokens"] / means["prompt_tokens"]
        thinking = f", {thought:,.0f} of them thought," if thought else ""
        sentences.append(
            f"{name} costs ${per_1000:,.4f} for 1,000 answers: {means['prompt_tokens']:,.0f} tokens in ({share:.0%} of "
            f"them cached) and {means['answer_tokens']:,.1f} out{thinking} a request, at the prices of "
            f"{book.apis_as_of}."
        )
    elif settings.url:
        sentences.append("The endpoint does not say how many tokens it took, so what that cost is not known.")
    if lower:
        sentences.append(lower.sentence(name, settings, per_1000 or 0.0))
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
        "told": sentences,
    }


def _try_lower_effort(
    spec: Spec,
    name: str,
    endpoint: Endpoint,
    measured: _Measured,
    paid: PaidAnswers,
    budget: Budget,
) -> Lower | None:
    """Ask some of the questions at the next lower effort, where thinking is most of an answer's cost, the budget allows
    it, and the spec does not ask at that effort anyway. Where they can't be answered, what was paid before stands."""
    settings, book = spec.candidate_apis[name], price_book(spec.price_file)
    price, task = book.api(settings.model), asked_task(spec, settings)
    effort, cost = _lower_effort(spec, settings, price), _usd_per_1000(price, measured.replies)
    thought = 1000 * price.usd(0, _mean_tokens(measured.replies, "reasoning_tokens"))
    if measured.asked is None or effort is None or thought < _THOUGHT * cost or not thought:
        return None
    some = _at_effort(measured.asked, effort)
    _, left = unpaid(settings, some.questions, paid)
    dearest = max(some.questions, key=lambda each: each.size)
    if left and not budget.allows(len(left) * cost / 1000, dearest.size, dearest.most):
        return None
    say(f"  {len(some.questions):,} of them at the effort {effort}, because {name} thinks for most of its price")
    try:
        lesser = collect_replies(endpoint, some, paid, budget)
    except UserError as error:
        say(f"  the effort {effort} is left out: {error.what}")
        return None
    both_records = _read(task, lesser)[1], measured.records
    whole = [{record.id: record for record in side if not record.cut} for side in both_records]
    both = [example_id for example_id in whole[0] if example_id in whole[1]]
    if not both:
        say(f"  the effort {effort} is left out: every reply to compare was cut")
        return None
    there, here = (score([side[each] for each in both], spec.seed).primary_metric.value for side in whole)
    return Lower(effort, len(both), there, here, _usd_per_1000(price, lesser))


def _lower_effort(spec: Spec, settings: ApiSpec, price: ApiPrice) -> str | None:
    """The next lower effort of an API; None: there is none, or the spec asks the model at that effort anyway."""
    effort = next_lower(settings, price)
    listed = {each.reasoning_effort for each in spec.asked_apis.values() if each.model == settings.model}
    return None if effort in listed else effort


def _at_effort(asked: ApiQuestions, effort: str) -> ApiQuestions:
    """Some of the questions at another effort."""
    some = asked.some(_TRIED)
    return ApiQuestions(some.examples, [each.at_effort(effort) for each in some.questions])


def _usd_per_1000(price: ApiPrice, replies: Sequence[Reply]) -> float:
    return 1000 * price.usd(*(_mean_tokens(replies, part) for part in TOKENS[:4]))


def _mean_tokens(replies: Sequence[Reply], part: str) -> float:
    """The mean of one of TOKENS, each example by its weight."""
    return fmean((getattr(reply.raw, part) for reply in replies), [reply.example.importance for reply in replies])

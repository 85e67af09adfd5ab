"""The step `baseline`: how the API that is paid for today answers the test examples.

It is asked (`api.url`), each answer kept so that nothing is paid twice, or its earlier answers are read
(`api.recorded`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from tunewright.artifacts import Output, write_json, write_jsonl
from tunewright.assess import price_book
from tunewright.assess.cost import LETTERS_A_TOKEN
from tunewright.data import Dataset, evenly, load_dataset
from tunewright.errors import UserError
from tunewright.evaluate.budget import Budget
from tunewright.evaluate.comparison import API
from tunewright.evaluate.endpoint import Endpoint, Question, alike, asked_of
from tunewright.evaluate.evidence import Record, by_test, record_of, score
from tunewright.evaluate.paid import PAID, Paid, PaidAnswers
from tunewright.evaluate.predictors import Answer
from tunewright.evaluate.predictors.language_model import shots_of
from tunewright.evaluate.questions import MOST_TOKENS, asked_task, question, read
from tunewright.evaluate.recorded import key, recorded_answers
from tunewright.evaluate.steps import ANSWERS, BASELINE, tests_of
from tunewright.progress import say, track
from tunewright.spec import Spec
from tunewright.tasks import Example, task_of


@dataclass(frozen=True)
class Forecast:
    """What asking would take."""

    questions: int
    kept: int
    """Those among them that were paid for before."""
    prompt_tokens: int
    """Of those that are left; roughly, by their bytes."""
    usd: float
    """At the prices of the price book, with answers as long as the data's."""


@dataclass(frozen=True)
class _Asked:
    """The test examples that the API answers, by split, and the question about each."""

    examples: list[tuple[str, Example]]
    questions: list[Question]


@dataclass(frozen=True)
class _Reply:
    """How the API answered an example."""

    split: str
    example: Example
    came: Paid
    paid: bool
    """Whether it was paid for: not for a recorded one, and once where several examples ask the same."""


def run_baseline(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    """Dataset -> `answers/api.jsonl`, `replies.jsonl` with the replies as they came, and `baseline.json`."""
    dataset = load_dataset(inputs["split"])
    replies = _recorded(spec, dataset) if spec.api.recorded else _asked_now(spec, dataset, output.path.parent / PAID)
    records, rows = [], []
    task = asked_task(spec)
    for reply in replies:
        example, came = reply.example, reply.came
        answer = read(task, came.text) if came.ending != "refused" else None
        text = came.text if answer is None else answer
        given = Answer(text, None, came.prompt_tokens, came.answer_tokens)
        records.append(record_of(reply.split, example, given, came.latency_ms, task))
        rows.append({"id": example.meta.id, "split": reply.split, "readable": answer is not None,
                     "paid": reply.paid, **asdict(came)})  # fmt: skip
    (output.path / ANSWERS).mkdir()
    write_jsonl(output.path / ANSWERS / f"{API}.jsonl", (asdict(record) for record in records))
    write_jsonl(output.path / "replies.jsonl", rows)
    result = _summary(spec, dataset, records, rows)
    write_json(output.path / BASELINE, result)
    for sentence in result["told"]:
        say(f"  {sentence}")
    output.result = {
        **{f"{split} {task.headline}": round(score(part, spec.seed).headline.value, 4)
           for split, part in by_test(records).items()},
        "usd": round(result["usd"], 4),
    }  # fmt: skip


def forecast(spec: Spec, split: Path, runs: Path) -> Forecast:
    """What `run_baseline` would ask and pay.

    Args:
        runs: the folder of all outputs, where paid answers are kept.
    """
    asked = _asked(spec, load_dataset(split))
    left = [same[0] for same in alike(asked.questions)]
    count = len(left)
    if (runs / PAID).exists():
        url, model = _place(spec)
        with PaidAnswers(runs / PAID) as paid:
            left = [place for place in left if not paid.get(asked_of(url, model, asked.questions[place]))]
    sent = sum(asked.questions[place].size for place in left) // LETTERS_A_TOKEN
    written = sum(len(asked.examples[place][1].answer.encode()) for place in left) // LETTERS_A_TOKEN
    usd = price_book(spec.price_file).api(spec.api.model).usd(sent, written)
    return Forecast(count, count - len(left), sent, usd)


def _asked(spec: Spec, dataset: Dataset) -> _Asked:
    task = asked_task(spec)
    shots = shots_of(dataset.train, task.answers, spec.api.shots, str.encode) if spec.api.shots else []
    examples = list(_sampled(spec, dataset))
    return _Asked(examples, [question(task, example.request, shots, spec.api) for _, example in examples])


def _sampled(spec: Spec, dataset: Dataset) -> Iterator[tuple[str, Example]]:
    for split, examples in tests_of(spec, dataset).items():
        for example in evenly(examples, spec.api.sample or max(len(examples), 1)):
            yield split, example


def _place(spec: Spec) -> tuple[str, str]:
    """(the endpoint, the model's name there)."""
    assert spec.api.url
    return spec.api.url, spec.api.deployment or spec.api.model


def _asked_now(spec: Spec, dataset: Dataset, file: Path) -> list[_Reply]:
    asked, endpoint = _asked(spec, dataset), Endpoint(*_place(spec), spec.api.key, "api")
    budget = Budget(spec.api.budget_usd, price_book(spec.price_file).api(spec.api.model))
    say(f"  {len(asked.questions):,} questions to {spec.api.model} at {spec.api.url}, for ${spec.api.budget_usd:,.2f} "
        "at most")  # fmt: skip
    replies: dict[int, Paid] = {}
    with PaidAnswers(file) as paid, track("baseline", max(len(asked.questions), 1), "answers") as tracker:
        for place, reply in endpoint.ask_all(asked.questions, paid, budget):
            replies[place] = reply
            tracker.update(len(replies))
    first = {same[0] for same in alike(asked.questions)}
    return [_Reply(*asked.examples[place], replies[place], place in first) for place in sorted(replies)]


def _recorded(spec: Spec, dataset: Dataset) -> list[_Reply]:
    assert spec.api.recorded
    file = spec.path(spec.api.recorded)
    answers = recorded_answers(spec, file)
    found = [
        _Reply(split, example, Paid(answers[key(example.request)]), False)
        for split, example in _sampled(spec, dataset)
        if key(example.request) in answers
    ]
    missing = [split for split in dataset.test if split not in {reply.split for reply in found}]
    if missing:
        raise UserError(
            f"This file answers no text of the test split {', '.join(missing)}.",
            where=file,
            why=f"It holds {len(answers):,} answers; they are found by the text that was asked.",
            fix="Check that it is about these test examples, and that its columns are those that `data` names.",
        )
    return found


def _summary(spec: Spec, dataset: Dataset, records: Sequence[Record],
             replies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:  # fmt: skip
    """What `baseline.json` holds."""
    endings = Counter(reply["ending"] for reply in replies)
    unread = sum(not reply["readable"] and reply["ending"] == "whole" for reply in replies)
    book = price_book(spec.price_file)
    price = book.api(spec.api.model)
    counted = [reply for reply in replies if reply["prompt_tokens"]]
    parts = ("prompt_tokens", "answer_tokens", "cached_tokens", "cache_write_tokens")
    usd = sum(price.usd(*(reply[part] for part in parts)) for reply in counted if reply["paid"])
    means = {name: fmean(reply[name] for reply in counted) if counted else None for name in parts}
    of = {split: len(examples) for split, examples in tests_of(spec, dataset).items()}
    told = []
    for split, part in by_test(records).items():
        found = score(part, spec.seed).headline
        told.append(
            f"{spec.api.model} {task_of(spec.task).claim(f'{found.value:.1%}')} ({found.low:.1%} to {found.high:.1%}) "
            f"of {split}; {len(part):,} of its {of[split]:,} examples are answered."
        )
    if flaws := [f"{count:,} {name}" for count, name in (
        (endings["refused"], "refused"), (endings["cut"], f"cut at {MOST_TOKENS:,} tokens"),
        (unread, "no answer of the task"),
    ) if count]:  # fmt: skip
        told.append(f"Of its replies, {', '.join(flaws)}; all of these count as they are, mostly as wrong.")
    if counted:
        share = sum(r["cached_tokens"] for r in counted) / max(sum(r["prompt_tokens"] for r in counted), 1)
        told.append(
            f"That cost ${usd:,.4f}: {means['prompt_tokens']:,.0f} tokens in ({share:.0%} of them cached) and "
            f"{means['answer_tokens']:,.1f} out a request, at the prices of {book.apis_as_of}."
        )
    elif not spec.api.recorded:
        told.append("The endpoint does not say how many tokens it took, so what that cost is not known.")
    return {
        "model": spec.api.model, "source": "recorded" if spec.api.recorded else "asked", "usd": usd,
        "refused": endings["refused"], "cut": endings["cut"], "unread": unread, **means, "told": told,
    }  # fmt: skip

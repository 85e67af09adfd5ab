"""The jobs in a folder of captured exchanges, with what each costs, takes and answers."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import Any

from tunewright.core.errors import UserError, did_you_mean
from tunewright.data.guess.paid import usual_prompt
from tunewright.gateway.answers import AnswerChoice
from tunewright.gateway.exchanges import Exchange
from tunewright.gateway.jobs.prompts import Prompt, read_prompt
from tunewright.gateway.jobs.signature import JobSignature, OwnAnswerKind, fixed_in, signature_of
from tunewright.gateway.jobs.slots import outline, parts_of, variable_text
from tunewright.gateway.jobs.words import Triples
from tunewright.logs.span import DAYS_OF_MONTH, Outliers, TimeSpan
from tunewright.logs.usage import TokenCounts
from tunewright.traffic.answers import AnswerKind, AnswerShape, answer_shape
from tunewright.traffic.grouping import FoundJob, JobFinder
from tunewright.traffic.reservoir import Reservoir, Room
from tunewright.traffic.sources import ReadExchange, Unreadable, has_time, nothing_in, read_traffic

DRAWN = 2000
"""Answered requests of each job that are looked at more closely, drawn at random."""
_ROOM = 1 << 29
"""Letters of the drawn requests and answers of all jobs together. Where they are longer, fewer are drawn."""
ANSWERS: dict[AnswerKind, OwnAnswerKind] = {
    "labels": "label",
    "record": "record",
    "short text": "text",
    "long text": "text",
}
"""What an owned model answers, by the form of the API's answers. Tool calls are `TrafficJob.answer`'s affair; other
forms are no kind of task yet."""
_OUTLIERS = 0.05
"""The share of texts up to which the answers of a job are the arguments of its one tool."""
_NAME_WORDS = 5
"""Words of a template that name its job."""
_NAMES = re.compile(r"[A-Za-z][A-Za-z'-]+")
_DULL = ("a", "an", "and", "are", "as", "for", "from", "in", "is", "it", "of", "on", "or", "the", "to", "with", "you")
"""Words that say nothing of a job in its name."""


@dataclass(frozen=True)
class Drawn:
    """An exchange of a job."""

    input: str
    """What varies in the prompt."""
    choice: AnswerChoice
    model: str | None
    time: str | None
    usage: TokenCounts | None
    """What the API counted; None: it did not, or the gateway estimated it."""
    seconds: float
    """Until the answer was whole; 0: not known."""


@dataclass
class TrafficJob:
    """A job that was found in traffic. Counts stand for all requests, also where a share was captured."""

    name: str
    requests: float
    days: float
    """From the first to the last exchange of the whole traffic."""
    failed: float
    """Requests that got no answer."""
    left_out: dict[str, int]
    """Captured requests whose answer can't be learnt from, by the code of why; see `ReadExchange.fault`."""
    usd: float
    """Of the requests with a price."""
    unpriced: float
    """Answers without token counts or without a price."""
    counted: float
    """Answers with token counts, over which the next three are summed."""
    prompt_tokens: float
    cached_tokens: float
    answer_tokens: float
    models: dict[str, float]
    """Requests by the model that they name."""
    answered: dict[str, str]
    """By that name, the model that gave the last answer that says which."""
    seconds: list[float]
    """Of the answers whose prompts were drawn, sorted."""
    form: AnswerShape
    system: str
    """The system prompt; empty where it varies or there is none."""
    outline: str
    """The prompt with `{…}` in place of what varies."""
    drawn: list[Drawn] = field(repr=False)
    prompts: list[Prompt] = field(repr=False)
    """Of the drawn answers; of others where no answer can be learnt from."""
    template: Triples = field(repr=False)
    fixed: Triples = field(repr=False)
    """By these its prompts are cut; see `fixed_in`."""
    rivals: list[Triples] = field(repr=False)
    """The templates of the other jobs of the same form."""
    tools: list[Any] = field(default_factory=list, repr=False)
    """The tools of the newest request that has some and whose answer can be learnt from."""

    @property
    def answer(self) -> OwnAnswerKind | None:
        """What an owned model answers; None: its answers are no kind of task."""
        if self.form.kind != "tool calls":
            return ANSWERS.get(self.form.kind)
        texts = sum(not each.choice.tool_calls for each in self.drawn)
        is_one_tool = len(self.form.names) == 1 and texts <= _OUTLIERS * len(self.drawn)
        return "record" if is_one_tool else "call"

    @property
    def signature(self) -> JobSignature:
        """By what the gateway recognises its requests."""
        tool = self.form.names[0] if self.form.kind == "tool calls" and self.answer == "record" else None
        answer = self.answer
        assert answer, "a project can be made of it"
        return signature_of(
            self.name, self.prompts, self.template, self.fixed, self.rivals, answer, tool, self.form.key
        )

    @property
    def usd_per_month(self) -> float | None:
        """The price of a month like this one; None: no answer has a price."""
        priced = self.requests - self.failed - self.unpriced
        if priced <= 0:
            return None
        return self.usd / priced * (self.requests - self.failed) * self.months

    @property
    def months(self) -> float:
        """What a count is multiplied with for a month of 30.44 days."""
        return DAYS_OF_MONTH / self.days

    def quantile(self, share: float) -> float | None:
        """Seconds that a share of the answers takes at most; None: no answer's are known."""
        return self.seconds[min(len(self.seconds) - 1, int(share * len(self.seconds)))] if self.seconds else None


@dataclass
class TrafficReport:
    """What was found in a folder of captures."""

    jobs: list[TrafficJob]
    """The dearest first."""
    others: float
    """Requests that belong to no job."""
    requests: float
    days: float | None
    """From the first to the last exchange; None: the log has no times, and counts as a month."""
    first: str | None
    """The time of the first exchange, in UTC."""
    last: str | None
    outliers: Outliers | None
    """The few exchanges that make up most of the days; None: there are none."""
    unreadable: Unreadable

    def job(self, name: str, captures: Path) -> TrafficJob:
        """The job of a name.

        Args:
            captures: as the user named them, for errors.

        Raises:
            UserError: there is no such job.
        """
        jobs = {job.name: job for job in self.jobs}
        if name not in jobs:
            otherwise = f"See: tunewright traffic ls {quote(str(captures))}"
            raise UserError(f"There is no job '{name}'.", where=captures, fix=did_you_mean(name, jobs, otherwise))
        return jobs[name]


def find_jobs(source: Path) -> TrafficReport:
    """The jobs in traffic.

    Args:
        source: as of `read_traffic`.

    Raises:
        UserError: there are no requests in it, or none can be read.
    """
    return _search(source).report


def find_job(source: Path, name: str, drawn: int) -> TrafficJob:
    """A job, with more of its requests than `find_jobs` keeps of each. For these the traffic is read once more, because
    so many of every job may not fit in memory.

    Args:
        source: as of `read_traffic`.
        name: as in `find_jobs`.
        drawn: the most answered requests to keep, drawn at random. Very long ones are fewer.

    Raises:
        UserError: there is no such job.
    """
    found = _search(source)
    job = found.report.job(name, source)
    if name not in found.sampled:
        return job
    tally = _Tally(drawn, Room(_ROOM))
    for read in read_traffic(source, lambda _: None):
        if read.exchange.request is not None:
            prompt = _prompt(read.exchange)
            if found.finder.job_of(prompt) == found.numbers[name]:
                tally.add(read, prompt)
    return replace(tally.job(found.finder, found.numbers[name], job.days, Counter()), name=name)


@dataclass
class _Search:
    report: TrafficReport
    finder: JobFinder
    numbers: dict[str, int]
    """The finder's numbers of the jobs, by name."""
    sampled: set[str]
    """The jobs that have more answers to learn from than were drawn."""


def _search(source: Path) -> _Search:
    finder = JobFinder()
    unreadable = Unreadable()
    exchanges = (read.exchange for read in read_traffic(source, unreadable.add))
    finder.add(_prompt(exchange) for exchange in exchanges if exchange.request is not None)
    finder.find()
    room = Room(_ROOM)
    tallies: dict[int | None, _Tally] = defaultdict(lambda: _Tally(DRAWN, room))
    span = TimeSpan()
    for read in read_traffic(source, lambda _: None):
        exchange = read.exchange
        if exchange.request is None:
            continue
        if has_time(exchange):
            span.add(exchange.time)
        prompt = _prompt(exchange)
        tallies[finder.job_of(prompt)].add(read, prompt)
    if not tallies:
        raise nothing_in(source, unreadable)
    days = span.days
    others = tallies.pop(None, _Tally(0, room))
    names: Counter[str] = Counter()
    found = [
        (tally.job(finder, number, days or DAYS_OF_MONTH, names), number, tally.is_sampled)
        for number in range(len(finder.jobs))
        if (tally := tallies.get(number))
    ]
    jobs = sorted((job for job, _, _ in found), key=lambda job: -(job.usd or job.requests * 1e-12))
    requests = others.requests + sum(job.requests for job in jobs)
    report = TrafficReport(jobs, others.requests, requests, days, span.first, span.last, span.outliers, unreadable)
    numbers = {job.name: number for job, number, _ in found}
    return _Search(report, finder, numbers, {job.name for job, _, is_sampled in found if is_sampled})


def _prompt(exchange: Exchange) -> Prompt:
    return read_prompt(exchange.kind, exchange.request or {})


@dataclass(frozen=True)
class _Kept:
    """What is kept of a drawn exchange."""

    prompt: Prompt
    choice: AnswerChoice
    model: str | None
    time: str | None
    usage: TokenCounts | None
    seconds: float

    @property
    def letters(self) -> int:
        asked = len(self.prompt.form) + sum(len(text) for _, text in self.prompt.messages)
        return asked + self.choice.letters


class _Tally:
    """Adds up the exchanges of a job.

    Args:
        most: answered requests to draw.
        room: is shared with other jobs.
    """

    def __init__(self, most: int, room: Room) -> None:
        self.requests = self._failed = self._usd = self._unpriced = 0.0
        self._counted = self._prompt_tokens = self._cached_tokens = self._answer_tokens = 0.0
        self._kind: str = ""
        self._models: dict[str, float] = defaultdict(float)
        self._answered: dict[str, str] = {}
        self._left_out: Counter[str] = Counter()
        self._sample = Reservoir[_Kept](most, random.Random(0), room, lambda kept: kept.letters)
        """Of exchanges whose answers can be learnt from."""
        self._others = Reservoir[_Kept](min(most, DRAWN), random.Random(0), room, lambda kept: kept.letters)
        """Of an API's other answers: they show what the job's prompts are, where nothing can be learnt from any."""
        self._tools: tuple[str, list[Any]] = "", []
        """The time of the newest request with tools, and these."""

    @property
    def is_sampled(self) -> bool:
        """Whether there are more answers to learn from than were drawn."""
        return not self._sample.is_whole

    def add(self, read: ReadExchange, prompt: Prompt) -> None:
        exchange = read.exchange
        stands_for = 0.0 if exchange.is_audit else 1 / exchange.share
        self._kind = exchange.kind
        self.requests += stands_for
        self._models[exchange.model or ""] += stands_for
        if exchange.answered_model and exchange.answered_by == "upstream":
            self._answered[exchange.model or ""] = exchange.answered_model
        if read.fault:
            self._left_out[read.fault] += 1
        if exchange.status >= 400 or exchange.ending != "whole":
            self._failed += stands_for
            return
        if usage := exchange.usage:
            self._counted += stands_for
            self._prompt_tokens += stands_for * usage.prompt_tokens
            self._cached_tokens += stands_for * usage.cached_tokens
            self._answer_tokens += stands_for * usage.answer_tokens
        if exchange.usd is None:
            self._unpriced += stands_for
        else:
            self._usd += stands_for * exchange.usd
        if read.fault is None:
            self._sample.offer(lambda: _kept(exchange, prompt))
            self._note_tools(exchange)
        elif exchange.answered_by == "upstream":
            self._others.offer(lambda: _kept(exchange, prompt))

    def _note_tools(self, exchange: Exchange) -> None:
        tools = (exchange.request or {}).get("tools")
        if isinstance(tools, list) and tools and exchange.time > self._tools[0]:
            self._tools = exchange.time, tools

    def job(self, finder: JobFinder, number: int, days: float, names: Counter[str]) -> TrafficJob:
        """The job of a number, that these exchanges are of."""
        found = finder.jobs[number]
        rivals = [each.template.triples for each in finder.jobs if each.form == found.form and each is not found]
        learnt, drawn = self._sample.items, self._sample.items or self._others.items
        prompts = [each.prompt for each in drawn]
        fixed = fixed_in(prompts)
        cut = [parts_of(prompt, fixed) for prompt in prompts]
        shown = outline(min(cut, key=lambda parts: sum(len(part.text) for part in parts))) if cut else ""
        inputs = [variable_text(parts) for parts in cut]
        return TrafficJob(
            name=_name(shown, self._kind, found, names),
            requests=self.requests,
            days=days,
            failed=self._failed,
            left_out=dict(self._left_out.most_common()),
            usd=self._usd,
            unpriced=self._unpriced,
            counted=self._counted,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
            answer_tokens=self._answer_tokens,
            models=dict(sorted(self._models.items(), key=lambda each: -each[1])),
            answered=self._answered,
            seconds=sorted(each.seconds for each in drawn if each.seconds),
            form=answer_shape(self._kind, [each.choice for each in learnt]),
            system=usual_prompt([each.system for each in prompts]),
            outline=shown,
            drawn=[
                Drawn(text, each.choice, each.model, each.time, each.usage, each.seconds)
                for text, each in zip(inputs, learnt, strict=False)
            ],
            prompts=prompts,
            template=found.template.triples,
            fixed=fixed,
            rivals=rivals,
            tools=self._tools[1],
        )


def _kept(exchange: Exchange, prompt: Prompt) -> _Kept:
    choice = exchange.choices[0] if exchange.choices else AnswerChoice()
    time = exchange.time if has_time(exchange) else None
    usage = None if exchange.usage_is_estimated else exchange.usage
    return _Kept(prompt, choice, exchange.model, time, usage, exchange.seconds)


def _name(shown: str, kind: str, found: FoundJob, taken: Counter[str]) -> str:
    """A name of a few words of the template, or of the form's names where there is no template."""
    named = _NAMES.findall(shown.replace("{…}", " ")) or _NAMES.findall(found.form[1].replace("null", " ")) or [kind]
    words = [word.lower() for word in named if word.lower() not in _DULL] or named
    name = "-".join(re.sub("[^a-z0-9]", "", word.lower()) for word in words[:_NAME_WORDS])
    taken[name] += 1
    return name if taken[name] == 1 else f"{name}-{taken[name]}"

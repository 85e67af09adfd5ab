"""One job that own models may take over: how it is answered now, and what is known of its own model."""

from __future__ import annotations

import asyncio
import json
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tunewright.config import Spec, load_spec
from tunewright.config.tool_list import TEXT
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.gateway.answers import AnswerChoice
from tunewright.gateway.config import CaptureSpec, JobSpec
from tunewright.gateway.jobs.outcomes import label_in
from tunewright.gateway.jobs.signature import JobSignature
from tunewright.gateway.metrics import GatewayMetrics
from tunewright.gateway.observation import Observation
from tunewright.gateway.takeover.answer_log import AnswerLog
from tunewright.gateway.takeover.evidence import ChangeDetector, interval
from tunewright.gateway.takeover.models import CantTake, ModelChain, OwnAnswer, OwnModelFailed
from tunewright.gateway.takeover.store import OWN_FIRST, Setting, of_file
from tunewright.gateway.takeover.tallies import Tallies
from tunewright.serving.captures import is_drawn
from tunewright.tasks.base import Unfit, labels_of
from tunewright.tasks.registry import task_of
from tunewright.tasks.tools import as_answer

_OWN = ".own"
"""The folder among the gateway's captures for own answers whose project can't be written to, one folder in it a job. It
is hidden, so that the folder of captures stays readable as data: readers of data skip hidden folders."""
LONGEST = 60.0
"""Seconds after which an own answer is given up in any case."""
_LATENCIES = 1000
"""The last latencies, whose 99th percentile is the own model's patience."""
_LEAST_LATENCIES = 100
"""Latencies from which that is known; before, the goal's 95th percentile is the patience."""
_LEAST_PATIENCE = 0.02
"""Seconds."""
_LATE, _FAILED = 0.05, 0.01
"""The shares of own answers that may be slower than the goal's 95th percentile, and that may fail."""

_KNOWN = 300
"""Own answers after which it is known how many of its answers a model is sure of."""
_SLACK = 0.05
"""How much more often than before it may be unsure, beyond chance."""
_HOPELESS = 0.9
"""The share of unsure answers from which a rise says nothing."""

_REFUSED = 400
"""The status from which an answer is a refusal, of the API or of the gateway, whose time says nothing of the API's."""

TakeBack = Callable[[str, str], None]
"""Takes a job back from its own model: the job's name, and why."""


@dataclass(frozen=True)
class AnswerPlan:
    """How a request is answered."""

    own_first: bool
    """Whether the own model is asked before the API."""
    any_confidence: bool
    """Whether its answer is given even if it is not sure."""
    compares: bool
    """Whether both are asked, and compared."""


class Overloaded(OwnModelFailed):
    """The own model has as many requests under way as it may have."""


class OwnedJob:
    """A job.

    Args:
        take_back: is called once when something is proven against the own model.
        capture: how the own model's answers are captured for review; None: they are not.

    Raises:
        UserError: the project's spec can't be read.
    """

    _met: str
    """The version of the own model of which the following is known."""
    _unsure: ChangeDetector | None
    """None: too little is known of the model yet."""
    _latencies: deque[float]
    _sorted: list[float]
    """The same, the shortest first: sorting them anew for each answer would take the event loop's time."""

    def __init__(
        self,
        name: str,
        spec: JobSpec,
        signature: JobSignature,
        model: ModelChain,
        tallies: Tallies,
        metrics: GatewayMetrics,
        take_back: TakeBack,
        capture: CaptureSpec | None,
    ):
        self.name, self.spec, self.signature = name, spec, signature
        self.setting: Setting = of_file(spec)
        self._model, self._tallies, self._metrics, self._take_back = model, tallies, metrics, take_back
        project = load_spec(spec.project)
        self._task = task_of(project.task)
        self._answers = _answer_log(name, capture, project)
        goal = project.goal
        self.least_agreement = spec.least_agreement or max(0.01, goal.accuracy - goal.margin)
        self.p95_seconds = (spec.p95_ms or goal.p95_ms) / 1000
        self._under_way = 0
        self._meet(model.version)

    @property
    def version(self) -> str:
        """Of the own model."""
        return self._model.version

    def recall(self, asked: float, sure: float) -> None:
        """What was known of this version before: its answers, and those of them that it was sure of."""
        self._asked, self._sure = asked, sure

    def change(self, setting: Setting) -> None:
        """Answer by another setting from now on. What was proven against the own model before no longer counts."""
        if setting != self.setting:
            self.setting = setting
            self._begin_again()
            say(f"{self.name}: {setting}.")
        if setting.mode == "cascade" and not self._model.has_threshold:
            say(f"{self.name}: the own model has no threshold, so it is never sure, and the API answers everything.")

    def plan(self, identity: str, text: str) -> AnswerPlan:
        """How a request is answered now.

        Args:
            identity: of the request.
            text: its input, which decides whether it falls in the share.
        """
        setting = self.setting
        is_in = is_drawn(f"{self.name}\n{text}", setting.share)
        own_first = is_in and setting.mode in OWN_FIRST
        audited = own_first and is_drawn(identity, setting.audit)
        return AnswerPlan(own_first, setting.mode == "own", audited or (is_in and setting.mode == "shadow"))

    @property
    def patience(self) -> float:
        """Seconds that the own model has before the API is asked too: its 99th percentile."""
        return self._patience

    async def own_answer(self, text: str, *, in_background: bool = False) -> OwnAnswer:
        """The own model's answer.

        Raises:
            OwnModelFailed: it gave none; `Overloaded`: it was not asked; `CantTake`: the request is none for it.
        """
        if self._under_way >= self.spec.limit_concurrency:
            raise Overloaded("it has too many requests under way")
        self._under_way += 1
        begun = time.perf_counter()
        try:
            answer = await self._model.answer(text, LONGEST, in_background=in_background)
        except CantTake:
            self._metrics.unfit(self.name)
            raise
        except OwnModelFailed:
            self._tell(failed=True, late=False, in_background=in_background)
            raise
        except asyncio.CancelledError:  # the API answered first, or the client has left
            late = time.perf_counter() - begun > self.p95_seconds
            self._tell(failed=False, late=late, in_background=in_background)
            raise
        finally:
            self._under_way -= 1
            if (version := self._model.version) != self._met:
                self._meet(version)
        self._add(own_seconds=answer.seconds, asked=1, sure=float(answer.is_sure))
        self._watch_requests(answer)
        self._metrics.own_answered(self.name, answer.seconds)
        if not in_background:
            self._learn_patience(answer.seconds)
        self._tell(failed=False, late=answer.seconds > self.p95_seconds, in_background=in_background)
        return answer

    async def keep(self, seen: Observation, text: str, own: OwnAnswer) -> None:
        """Capture an own answer for review, if answers are captured."""
        if self._answers:
            await self._answers.keep(seen, text, own)

    async def keep_second(self, seen: Observation, text: str, own: OwnAnswer, api: AnswerChoice) -> None:
        """Capture the API's answer beside an own one."""
        if self._answers:
            said = self._said(api)
            with suppress(Unfit):
                said = self._task.canonical(said)
            await self._answers.keep_second(seen, text, own, said)

    def given(self, seen: Observation, *, is_fallback: bool) -> None:
        """Count an own answer that a client gets."""
        self._add(seen.model, own=1, own_bytes=seen.body.size, fallbacks=float(is_fallback))

    def unsure(self) -> None:
        """Count an own answer that is not given because the model is not sure."""
        self._add(unsure=1)

    def noted(self, seen: Observation, usd: float | None, seconds: float) -> None:
        """Count a request whose answer has ended."""
        assert seen.job
        self._metrics.job_answered(self.name, seen.job.mode, seen.job.answered_by)
        if seen.job.answered_by == "own":
            self._add(requests=1)
            return
        took = {"api_seconds": seconds} if seen.status < _REFUSED else {}
        self._add(seen.model, requests=1, paid_usd=usd or 0.0, **took, **_tokens(seen, usd))

    def audited(self, seen: Observation, usd: float | None, _seconds: float) -> None:
        """Count an answer of the API that no client gets."""
        self._add(seen.model, audits=1, audit_usd=usd or 0.0, **_tokens(seen, usd))

    def compare(self, text: str, own: OwnAnswer, api: AnswerChoice, *, was_given: bool) -> None:
        """Count the agreement of an own answer with the API's, 0 to 1.

        Args:
            was_given: whether the client got the own answer, so that a disagreement speaks against that.
        """
        agreement = self._agreement(text, own.text, api)
        self._add(compared=1, agreed=agreement)
        if own.is_sure:
            self._add(compared_sure=1, agreed_sure=agreement)
        self._metrics.compared(self.name, agreement)
        if was_given and self._disagreements.add(1 - agreement):
            self._against(f"it agrees with the API less often than {self.least_agreement:.1%}")

    async def close(self) -> None:
        await self._model.close()
        if self._answers:
            self._answers.close()

    def _said(self, api: AnswerChoice) -> str:
        """The API's answer, in the form that own models answer in."""
        if self.signature.answer == "call":
            calls = [(call["name"], call["arguments"]) for call in api.tool_calls]
            return as_answer(calls) if calls else json.dumps({TEXT: api.text})
        text = api.tool_calls[0]["arguments"] if self.signature.tool and api.tool_calls else api.text
        if self.signature.key:
            text = label_in(text, self.signature.key) or ""
        return text.strip()

    def _agreement(self, text: str, own: str, api: AnswerChoice) -> float:
        try:
            gold, given = self._task.canonical(self._said(api)), self._task.canonical(own)
        except Unfit:
            return 0.0
        return self._task.measures(text, gold, given)[self._task.primary_metric].score

    def _tell(self, *, failed: bool, late: bool, in_background: bool) -> None:
        """Count how the own model did, which may speak against it where clients wait for it."""
        self._add(failed=float(failed), late=float(late))
        if in_background:
            return
        if self._failures.add(float(failed)):
            self._against(f"it fails on more than {_FAILED:.0%} of the requests")
        if self._slow.add(float(late)):
            self._against(f"more than {_LATE:.0%} of its answers take longer than {1000 * self.p95_seconds:,.0f} ms")

    def _learn_patience(self, seconds: float) -> None:
        if len(self._latencies) == _LATENCIES:
            del self._sorted[bisect_left(self._sorted, self._latencies.popleft())]
        self._latencies.append(seconds)
        insort(self._sorted, seconds)
        if len(self._sorted) >= _LEAST_LATENCIES:
            self._patience = max(_LEAST_PATIENCE, self._sorted[int(0.99 * len(self._sorted))])

    def _watch_requests(self, answer: OwnAnswer) -> None:
        """Find out whether the requests have changed: then a model is sure of fewer of them. That shows long before
        audits do, because every answer tells."""
        if self._unsure is None:
            self._asked, self._sure = self._asked + 1, self._sure + answer.is_sure
            if self._asked >= _KNOWN:
                usual = interval(self._asked - self._sure, self._asked)[1] + _SLACK
                self._unsure = ChangeDetector(min(usual, _HOPELESS))
        elif self._unsure.add(float(not answer.is_sure)):
            share = f"{self._sure / self._asked:.0%} of the first {self._asked:,.0f}"
            self._against(f"the requests have changed: it was sure of {share}, and is of clearly fewer")

    def _against(self, why: str) -> None:
        if self.setting.mode in OWN_FIRST:
            self._take_back(self.name, why)

    def _meet(self, version: str) -> None:
        """Begin to know a version of the own model. What is known of the one before it says nothing of this one."""
        self._met = version
        self._asked = self._sure = 0.0
        self._unsure = None
        self._latencies, self._sorted = deque(), []
        self._patience = self.p95_seconds
        self._begin_again()

    def _begin_again(self) -> None:
        self._disagreements = ChangeDetector(1 - self.least_agreement)
        self._failures, self._slow = ChangeDetector(_FAILED), ChangeDetector(_LATE)
        if self._unsure:
            self._unsure = ChangeDetector(self._unsure.allowed)

    def _add(self, model: str | None = None, **amounts: float) -> None:
        self._tallies.add(self.name, self.setting.mode, self._model.version, model, **amounts)


def _answer_log(name: str, capture: CaptureSpec | None, project: Spec) -> AnswerLog | None:
    """Where the answers of a job's own models are captured: in the project, or where that is read-only, as in a pod,
    beside the gateway's own captures. A folder that can't be written to costs no answer."""
    if capture is None:
        return None
    from_fixed_set = bool(labels_of(task_of(project.task).constraint))
    in_project, beside = project.path(project.monitor.captures), capture.folder / _OWN / name
    with suppress(UserError):
        return AnswerLog(capture, in_project, from_fixed_set=from_fixed_set)
    try:
        log = AnswerLog(capture, beside, from_fixed_set=from_fixed_set)
    except UserError as error:
        say(f"{name}: the own model's answers are not captured for review. {error.paragraph()}")
        return None
    say(
        f"{name}: {in_project} can't be written to, so the own model's answers are captured for review in {beside}. "
        "Where you review them, set the project's monitor.captures to that folder."
    )
    return log


def _tokens(seen: Observation, usd: float | None) -> dict[str, float]:
    """The amounts of an API's answer; none of one without token counts and a price."""
    usage = seen.answer.usage
    if usage is None or usd is None:
        return {}
    return {
        "priced": 1,
        "bytes": seen.body.size,
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "answer_tokens": usage.answer_tokens,
    }

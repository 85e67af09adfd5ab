"""The search: try candidates from the cheapest on until one does the job, and forecast what the dearer ones would
cost."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.evaluation.verdict.rules import SAME_COST
from tunewright.ladder.cascades import Cascade, CascadePart, weigh
from tunewright.ladder.forecast import CandidateForecast, forecast_candidate
from tunewright.ladder.tried import Outcome, Tried, summarise
from tunewright.models.naming import known_kind
from tunewright.tasks import task_of
from tunewright.training.capabilities import require_able

_Run = TypeVar("_Run", bound=Outcome)
_MINUTES = 60.0
_OF_LENGTHS = {"D019", "D020"}
"""Codes of findings that depend on how much a candidate reads."""
_SHARED = {"split", "baseline"}
"""Steps whose outputs all candidates share."""


@dataclass(frozen=True)
class Steps(Generic[_Run]):
    """The functions that a search calls."""

    run: Callable[[Spec], _Run]
    """Runs the whole job of one candidate."""
    make: Callable[[Cascade], _Run]
    """Makes a cascade a candidate; see `tunewright.ladder.cascades.make`."""
    ready: Callable[[Spec], bool] = lambda spec: False  # noqa: ARG005
    """Whether all outputs of a candidate exist, so that trying it costs nothing."""
    forecast: Callable[[Spec, Outcome, list[Tried]], CandidateForecast] = forecast_candidate
    rented: bool = False
    """Whether the steps run on machines that are paid for."""


@dataclass(frozen=True)
class Ladder:
    """How a search chose among the candidates."""

    tried: list[Tried]
    """The candidates in the order they were tried; a cascade that was made comes after its second part."""
    best: str
    """The candidate whose verdict stands."""
    sentence: str
    """Its verdict, and why the candidate below it was not chosen."""
    dearer: list[CandidateForecast]
    """The candidates that were not tried, with their cost."""
    cascades: list[str] = field(default_factory=list)
    """The outcome of each cascade of two candidates, or why there is none, a sentence each."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Candidates that can't do the job at all, each with the reason; they are not tried."""
    stopped: str = ""
    """Why the search ended before a candidate did the job; empty where it did not."""

    @property
    def summary(self) -> list[str]:
        """The course of the search, a sentence each."""
        sentences = [f"{name} is left out: {why}" for name, why in self.left_out.items()]
        sentences += [each.summary for each in self.tried if each.summary]
        sentences += self.cascades
        sentences += [self.stopped] if self.stopped else []
        return sentences + [each.summary for each in self.dearer]


def climb(spec: Spec, steps: Steps[_Run], *, every: bool = False) -> tuple[_Run, Ladder]:
    """Try one candidate after the other, and stop at the first that does the job.

    Args:
        every: try all candidates all the same.

    Returns: the run whose verdict stands, and how the search came to it.

    Raises:
        UserError: no candidate can do the job.
    """
    able, left_out = _able(spec)
    search, stopped, failed = _Search(spec, steps), "", None
    for index, each in enumerate(able):
        if search.done and not every:
            break
        if search.parts and not steps.ready(each):
            ahead = search.ahead(each)
            stopped = search.beyond(ahead) or ("" if every else search.cheaper_with_api(ahead))
            if stopped:
                break
        try:
            search.attempt(each)
        except UserError as error:
            again = failed is not None and _without_hashes(failed) == _without_hashes(error)
            if again or _of_all(error) or (not search.parts and index == len(able) - 1):
                raise  # two candidates with the same error are not to blame; the disk is, perhaps
            failed, left_out[each.model_name] = error, error.paragraph()
            say(f"{each.model_name} is left out: {left_out[each.model_name]}")
    return search.ended([each for each in able if each.model_name not in left_out], left_out, stopped)


def _able(spec: Spec) -> tuple[list[Spec], dict[str, str]]:
    """(the candidates that can do the job, why the others can't)."""
    able, left_out = [], {}
    for each in spec.each_candidate:
        try:
            require_able(each)
        except UserError as error:
            left_out[each.model_name] = error.what
            last = error
        else:
            able.append(each)
    if not able:
        raise last
    return able, left_out


def _of_all(error: UserError) -> bool:
    """Whether an error is no fault of the candidate: it reports findings that depend on the data alone, which are all
    but those about lengths; or a step failed whose output all candidates share."""
    codes = set(re.findall(r"\bD0\d\d\b", error.what))
    return bool(codes - _OF_LENGTHS) if codes else error.step in _SHARED


def _without_hashes(error: UserError) -> str:
    """An error's message without the hashes of output folders, which differ by candidate."""
    return re.sub(r"-[0-9a-f]{12}\b", "", error.what)


class _Search(Generic[_Run]):
    """The state of a search."""

    def __init__(self, spec: Spec, steps: Steps[_Run]):
        self._spec, self._steps = spec, steps
        self._began, self._usd = time.monotonic(), 0.0
        self.parts: list[CascadePart] = []
        self._outcomes: dict[str, _Run] = {}
        self._tried: list[Tried] = []
        self._cascades: list[str] = []
        self._made: dict[str, Cascade] = {}
        self._ahead: dict[str, CandidateForecast] = {}

    @property
    def done(self) -> bool:
        """Whether the last attempt did the job, or no dearer one could."""
        return any(each.good or each.ends for each in self._latest)

    @property
    def _latest(self) -> list[Tried]:
        """The last candidate, and the cascade that was made after it."""
        return self._tried[self._tried.index(self.parts[-1].tried) :] if self.parts else []

    def attempt(self, spec: Spec) -> None:
        """Try a candidate, and its cascades with those before it."""
        name = spec.model_name
        if len(self._spec.candidates) > 1:
            say(f"Candidate {name}")
        is_paid = self._steps.rented and bool(self._spec.search.usd) and not self._steps.ready(spec)
        outcome = self._steps.run(spec)
        candidate = summarise(name, known_kind(spec.model, spec.folder), outcome)
        self._outcomes[name] = outcome
        if is_paid and (usd := self._forecast(spec, outcome).usd):
            self._usd += usd.middle
        earlier, part = tuple(self.parts), CascadePart(candidate, spec, outcome)
        self._tried.append(candidate)
        self.parts.append(part)
        if candidate.summary:
            say(candidate.summary)
        try:
            self._try_cascade(earlier, part)
        except UserError as error:  # the candidate itself was tried, so it is not left out
            self._cascades.append(f"No cascade with {name} was made: {error.paragraph()}")
            say(self._cascades[-1])

    def _try_cascade(self, earlier: Sequence[CascadePart], part: CascadePart) -> None:
        """Make the cascade of a candidate with an earlier one that is worth it, if there is one."""
        if cascade := self._worthwhile(earlier, part):
            outcome = self._steps.make(cascade)
            tried = summarise(cascade.name, "cascade", outcome, (cascade.first.outcome, cascade.second.outcome))
            self._made[cascade.name], self._outcomes[cascade.name] = cascade, outcome
            self._tried.append(tried)

    def _worthwhile(self, earlier: Sequence[CascadePart], second: CascadePart) -> Cascade | None:
        """The cheapest cascade of a candidate with an earlier one that does the job; None where there is none, or where
        the candidate alone does the job for no more money."""
        good: list[Cascade] = []
        for first in earlier:
            cascade = weigh(first, second)
            if isinstance(cascade, str):
                self._cascades.append(f"No cascade {first.tried.name} → {second.tried.name}: {cascade}.")
                continue
            self._cascades.append(cascade.summary)
            if cascade.good:
                good.append(cascade)
        best = min(good, key=lambda each: each.usd_per_month, default=None)
        if best and second.tried.good and best.usd_per_month * (1 + SAME_COST) >= second.tried.served_usd:
            return None
        return best

    def ahead(self, spec: Spec) -> CandidateForecast:
        """Forecast the cost of the next candidate, and print it."""
        forecast = self._forecast(spec, self._last)
        say(f"Next: {forecast.summary}")
        return forecast

    @property
    def _last(self) -> _Run:
        return self._outcomes[self.parts[-1].tried.name]

    def _forecast(self, spec: Spec, last: _Run) -> CandidateForecast:
        name = spec.model_name
        if name not in self._ahead:
            self._ahead[name] = self._steps.forecast(spec, last, self._tried)
        return self._ahead[name]

    def beyond(self, ahead: CandidateForecast) -> str:
        """Why a candidate is beyond the limits of the search; empty where it is not. A candidate whose cost is not
        known is tried as long as the search may go on at all."""
        search, minutes = self._spec.search, (time.monotonic() - self._began) / _MINUTES
        hours = ahead.rented if self._steps.rented else ahead.hours
        most = _MINUTES * hours.high if hours else 0.0
        if search.minutes and minutes + most >= search.minutes:
            may = f"it may take {most:.0f} min, and " if hours else ""
            return f"{ahead.name} was not tried: {may}{minutes:.0f} of search.minutes = {search.minutes:g} are over."
        most = ahead.usd.high if ahead.usd else 0.0
        if search.usd and self._steps.rented and self._usd + most >= search.usd:
            may = f"it may cost ${most:,.2f}, and " if ahead.usd else ""
            return f"{ahead.name} was not tried: {may}about ${self._usd:,.2f} of search.usd = {search.usd:g} are spent."
        return ""

    def cheaper_with_api(self, ahead: CandidateForecast) -> str:
        """Why a cascade with an API makes the next candidate unnecessary; empty where it does not."""
        able = [each for each in self._latest if each.decision == "cascade"]
        best = min(able, key=lambda each: each.usd_per_month, default=None)
        if best is None or ahead.serving_usd is None or ahead.serving_usd < best.usd_per_month:
            return ""
        return (
            f"{best.name} with the API behind it does the job for ${best.usd_per_month:,.0f} a month; serving "
            f"{ahead.name} alone would cost about ${ahead.serving_usd:,.0f}."
        )

    def ended(self, able: list[Spec], left_out: dict[str, str], stopped: str = "") -> tuple[_Run, Ladder]:
        """The run whose verdict stands, which is now the latest, and how the search came to it."""
        best = self._best()
        if best is self._tried[-1]:
            outcome = self._outcomes[best.name]
        elif best.name in self._made:
            outcome = self._steps.make(self._made[best.name])
        else:
            outcome = self._steps.run(next(part.spec for part in self.parts if part.tried is best))
        dearer = [self._forecast(each, self._last) for each in able[len(self.parts) :]]
        if not stopped and not dearer and not any(each.good for each in self._tried):
            stopped = f"No candidate is left to try; the verdict on {best.name} stands."
        return outcome, Ladder(
            self._tried, best.name, self._sentence(best, left_out), dearer, self._cascades, left_out, stopped
        )

    def _best(self) -> Tried:
        """The cheapest candidate that does the job, alone or with the API behind it. Among those that cost the same,
        the best one if it is better by more than the margin, else the first. Where none does the job, the one whose
        verdict costs least; among equals the dearest to try."""
        good = [each for each in self._tried if each.good or each.decision == "cascade"]
        if not good:
            return min(reversed(self._tried), key=lambda each: each.usd_per_month)
        least = min(each.usd_per_month for each in good)
        first, *others = (each for each in good if each.usd_per_month <= least * (1 + SAME_COST))
        better = [each for each in others if each.worst.value > first.worst.value + self._spec.goal.margin]
        return max(better, key=lambda each: each.worst.value, default=first)

    def _sentence(self, best: Tried, left_out: Collection[str]) -> str:
        """The verdict of the best candidate, and why the candidate below it was not chosen."""
        names = [each.model_name for each in self._spec.each_candidate]
        at = names.index(best.name) if best.name in names else 0
        if at and (below := names[at - 1]) in left_out:
            return f"{best.sentence} {below}, the candidate below it, is left out; the report says why."
        before = [each for each in self._tried[: self._tried.index(best)] if each.kind != "cascade"]
        return f"{best.sentence} {self._why_not(before[-1], best)}" if before else best.sentence

    def _why_not(self, below: Tried, best: Tried) -> str:
        claim = task_of(self._spec.task).claim(f"{100 * below.worst.value:.1f} %")
        subject = f"{below.name}, the candidate below it,"
        if below.missed:
            return f"{subject} misses {' and '.join(below.missed)}: on the hardest split it {claim}."
        meets = f"{subject} meets every target{'' if best.missed else ' too'}"
        if below.usd_per_month > best.usd_per_month * (1 + SAME_COST):
            return f"{meets}, and costs ${below.usd_per_month:,.0f} a month."
        return f"{meets}, but is worse by more than goal.margin: on the hardest split it {claim}."

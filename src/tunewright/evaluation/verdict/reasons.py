"""The reasons beside a verdict: what was checked and how it came out, a sentence each."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor

from tunewright.config import Spec
from tunewright.economics.cost import usd
from tunewright.economics.upkeep import NOT_COUNTED
from tunewright.evaluation.candidates.cascade import DELTA, MIN_ACCEPTED, Threshold
from tunewright.evaluation.statistics.pairs import Paired, pairs_needed
from tunewright.evaluation.verdict.comparison import Candidate, Comparison
from tunewright.evaluation.verdict.targets import speed_of
from tunewright.tasks import task_of


def goal_reason(candidate: Candidate, spec: Spec, *, met: bool) -> str:
    """Whether a candidate meets the goal, with its figures."""
    figures = ", ".join(
        f"{split} {pct(s.primary_metric.value)} ({pct(s.primary_metric.low)}–{pct(s.primary_metric.high)})"
        for split, s in candidate.scores.items()
    )
    outcome = "meets" if met else "does not meet"
    return (
        f"{candidate.label} {outcome} the goal of {pct(spec.goal.accuracy)} on every split: {figures}; "
        f"P95 {speed_of(candidate)}."
    )


def doubt_reasons(candidate: Candidate, primary_metric: str) -> list[str]:
    """The figures of a candidate that prove nothing, and why."""
    reasons = []
    for split, score in candidate.scores.items():
        if score.primary_metric.doubt:
            advice = "Collect test examples from more groups."
            reasons.append(f"On {split}, {primary_metric} proves nothing: {score.primary_metric.doubt}. {advice}")
        reasons += [
            f"On {split}, {name} says little: {measure.doubt}."
            for name, measure in score.others.items()
            if measure.doubt and measure.doubt != score.primary_metric.doubt
        ]
    return reasons


def api_reasons(now: Candidate, against: Mapping[str, Paired], spec: Spec) -> list[str]:
    """What is known of the API's accuracy, and how the served model compares with it."""
    cut = [f"{now.key} is no yardstick: {each}" for each in _cut_reasons(now)]
    goal = f"the goal of {pct(spec.goal.accuracy)} is the spec's."
    if not against and cut:
        return [*cut, f"Without a yardstick, {goal}"]
    if not against:
        if now.lifetime.ended and now.key in spec.asked_apis:
            return [
                f"{now.key} can't be asked any more, and this run has no answers from before that cover its test; "
                f"{goal}"
            ]
        if now.key in spec.measured_apis:
            return [
                f"{now.key} was not measured in this run: it went without `baseline`, which needs a key that the run's "
                f"machine lacks; {goal} A run where that key is measures it."
            ]
        return [
            f"The accuracy of {now.key} on these examples has not been measured; {goal} To measure it: `url` or "
            "`recorded` under it in the spec."
        ]
    reasons = cut
    for split, pair in against.items():
        score, gap = now.scores[split], pair.difference
        same = "the same" if pair.count >= score.count else f"the {pair.count:,} that it answered whole"
        outcome = "shown to be within" if pair.not_inferior(spec.goal.margin) else "not shown to be within"
        reasons.append(
            f"On {split}, {now.key} {task_of(spec.task).claim(pct(score.primary_metric.value))} "
            f"({pct(score.primary_metric.low)}–{pct(score.primary_metric.high)}) of {score.count:,} examples; on "
            f"{same}, the served model is {points(gap.value)} points ({points(gap.low)} to {points(gap.high)}) and, up "
            f"to an error of 5 %, not below {points(pair.at_least)}: {outcome} the {100 * spec.goal.margin:.1f} "
            f"points that it may be worse.{_examples_needed(pair, spec)}"
        )
    return reasons


def other_api_reason(candidate: Candidate, against: Mapping[str, Paired], spec: Spec, *, passed: bool) -> str:
    """The result of another API that was measured."""
    if cut := _cut_reasons(candidate):
        return f"{candidate.key} does not pass: {' '.join(cut)}"
    figures = ", ".join(f"{split} {pct(score.primary_metric.value)}" for split, score in candidate.scores.items())
    if against and not spec.goal.accept_worse:
        gaps = ", ".join(f"{points(pair.difference.value)} points on {split}" for split, pair in against.items())
        outcome = f"it is {gaps} against {spec.api.label}, {'' if passed else 'not '}shown to be within the "
        outcome += f"{100 * spec.goal.margin:.1f} that it may be worse"
    else:
        outcome = f"it {'meets' if passed else 'does not meet'} the goal of {pct(spec.goal.accuracy)} on every split"
    return f"{candidate.key} was measured ({figures}; {usd(candidate.cost.usd_per_month)} a month): {outcome}."


def _cut_reasons(candidate: Candidate) -> list[str]:
    """The test splits on which too many of an API's replies were cut, and what would measure it."""
    return [
        f"of its replies on {split}, {each.cut:,} of {each.count:,} were cut at its output limit, and the whole ones "
        "may be the easy ones. To measure it: have it think or write less (`reasoning_effort`, `prompt`), or ask an "
        "endpoint that allows longer answers (`url`, `deployment`)."
        for split, each in candidate.cut_short.items()
    ]


def _examples_needed(pair: Paired, spec: Spec) -> str:
    """How many examples would show that two are equally good, where there are too few groups or examples to tell."""
    margin = spec.goal.margin
    if pair.difference.doubt:
        return f" There are {pair.difference.doubt}: collect test examples from more groups."
    if pair.not_inferior(margin) or pair.difference.high < -margin or not pair.variance or not margin:
        return ""
    needed = pairs_needed(margin, pair.variance)
    sentence = f" If the two are equally good, about {needed:,} independent examples would show it."
    return sentence if needed > pair.count else ""


def money_reason(comparison: Comparison, spec: Spec, payback_months: float | None) -> str:
    """What the served model would save, and what that figure leaves out.

    Args:
        payback_months: after which it has paid for its engineering; None: never.
    """
    money = comparison.money
    if money.saving <= 0:
        sentence = f"By itself the served model would cost {usd(-money.saving)} a month more than {spec.api.label}"
    else:
        sentence = f"By itself the served model would save {usd(money.saving)} a month against {spec.api.label}"
    if payback_months:
        and_ = "and" if money.saving > 0 else "but"
        sentence += f", {and_} has paid for its engineering after {payback_months:,.1f} months"
    left_out = [] if spec.costs.engineering_usd else ["engineering (costs.engineering_usd)"]
    left_out += [
        f"{item.name}: {item.basis} ({item.source.removeprefix(NOT_COUNTED)})"
        for item in money.items
        if item.usd_per_month is None
    ]
    return f"{sentence}. Not counted: {'; '.join(left_out)}." if left_out else f"{sentence}."


def threshold_reason(threshold: Threshold | None, spec: Spec) -> str:
    """What the threshold promises, or why it promises nothing."""
    goal = pct(spec.goal.accuracy)
    if threshold is None:
        return f"There is no confidence from which {MIN_ACCEPTED} or more validation answers reach {goal}."
    sure = sureness(threshold.value)
    if threshold.guaranteed:
        return (
            f"Where it is at least {sure} sure, the served model {task_of(spec.task).claim(f'at least {goal}')}, on "
            f"average over requests like the validation part's: the chance that this does not hold is at most "
            f"{100 * DELTA:.0f} % (Learn-then-Test on {threshold.examples:,} answers)."
        )
    return (
        f"The validation part suggests that where it is at least {sure} sure, the served model "
        f"{task_of(spec.task).claim(f'at least {goal}')}, without a guarantee: {threshold.doubt}."
    )


def sureness(confidence: float) -> str:
    """A confidence in percent, rounded down."""
    return f"{floor(1e4 * confidence) / 100:g} %"


def pct(share: float) -> str:
    return f"{100 * share:.1f} %"


def points(share: float) -> str:
    """A difference of shares in points."""
    return f"{100 * share:+.1f}"

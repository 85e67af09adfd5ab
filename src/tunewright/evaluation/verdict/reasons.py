"""What was checked and how it came out, a sentence each: what stands beside a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from math import floor

from tunewright.config import Spec
from tunewright.economics.upkeep import NOT_COUNTED
from tunewright.evaluation.candidates.cascade import DELTA, MIN_ACCEPTED, Threshold
from tunewright.evaluation.statistics.pairs import Paired, pairs_needed
from tunewright.evaluation.verdict.comparison import Candidate, Comparison
from tunewright.evaluation.verdict.targets import speed_of
from tunewright.tasks import task_of


def goal_reason(candidate: Candidate, spec: Spec, *, met: bool) -> str:
    """How a candidate stands to the goal."""
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
    """Which of a candidate's figures prove nothing, and why."""
    told = []
    for split, score in candidate.scores.items():
        if score.primary_metric.doubt:
            advice = "Collect test examples from more groups."
            told.append(f"On {split}, {primary_metric} proves nothing: {score.primary_metric.doubt}. {advice}")
        told += [
            f"On {split}, {name} says little: {measure.doubt}."
            for name, measure in score.others.items()
            if measure.doubt and measure.doubt != score.primary_metric.doubt
        ]
    return told


def api_reasons(now: Candidate, against: Mapping[str, Paired], spec: Spec) -> list[str]:
    """What is known of the API's accuracy, and how the served model stands to it."""
    if not against:
        return [
            f"The accuracy of {now.key} on these examples has not been measured; the goal of "
            f"{pct(spec.goal.accuracy)} is the spec's. To measure it: `url` or `recorded` under it in the spec."
        ]
    reasons = []
    for split, found in against.items():
        score, gap = now.scores[split], found.difference
        outcome = "shown to be within" if found.not_inferior(spec.goal.margin) else "not shown to be within"
        reasons.append(
            f"On {split}, {now.key} {task_of(spec.task).claim(pct(score.primary_metric.value))} "
            f"({pct(score.primary_metric.low)}–{pct(score.primary_metric.high)}) of {score.count:,} examples; on the "
            f"same, the served model is {points(gap.value)} points ({points(gap.low)} to {points(gap.high)}) and, up "
            f"to an error of 5 %, not below {points(found.at_least)}: {outcome} the {100 * spec.goal.margin:.1f} "
            f"points that it may be worse.{_to_settle(found, spec)}"
        )
    return reasons


def tier_reason(candidate: Candidate, against: Mapping[str, Paired], spec: Spec, *, passed: bool) -> str:
    """How another API that was measured came out."""
    figures = ", ".join(f"{split} {pct(score.primary_metric.value)}" for split, score in candidate.scores.items())
    if against and not spec.goal.accept_worse:
        gaps = ", ".join(f"{points(pair.difference.value)} points on {split}" for split, pair in against.items())
        what = f"it is {gaps} against {spec.api.label}, {'' if passed else 'not '}shown to be within the "
        what += f"{100 * spec.goal.margin:.1f} that it may be worse"
    else:
        what = f"it {'meets' if passed else 'does not meet'} the goal of {pct(spec.goal.accuracy)} on every split"
    return f"{candidate.key} was measured ({figures}; {usd(candidate.cost.usd_per_month)} a month): {what}."


def _to_settle(found: Paired, spec: Spec) -> str:
    """What would show that two are as good as each other, where too few groups or examples are there to tell."""
    margin = spec.goal.margin
    if found.difference.doubt:
        return f" There are {found.difference.doubt}: collect test examples from more groups."
    if found.not_inferior(margin) or found.difference.high < -margin or not found.variance or not margin:
        return ""
    needed = pairs_needed(margin, found.variance)
    told = f" If the two are equally good, about {needed:,} independent examples would show it."
    return told if needed > found.count else ""


def money_reason(comparison: Comparison, spec: Spec) -> str:
    """What the served model would save, and what is not in that figure."""
    found = comparison.money
    if found.saving <= 0:
        told = f"By itself the served model would cost {usd(-found.saving)} a month more than {spec.api.label}"
    else:
        told = f"By itself the served model would save {usd(found.saving)} a month against {spec.api.label}"
    if found.payback_months:
        told += f", and has paid for its engineering after {found.payback_months:,.1f} months"
    left_out = [] if spec.costs.engineering_usd else ["engineering (costs.engineering_usd)"]
    left_out += [
        f"{item.name}: {item.basis} ({item.source.removeprefix(NOT_COUNTED)})"
        for item in found.items
        if item.usd_per_month is None
    ]
    return f"{told}. Not counted: {'; '.join(left_out)}." if left_out else f"{told}."


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
    """A confidence in percent, never rounded up."""
    return f"{floor(1e4 * confidence) / 100:g} %"


def pct(share: float) -> str:
    return f"{100 * share:.1f} %"


def usd(amount: float) -> str:
    return f"${amount:,.0f}" if amount >= 10 else f"${amount:,.2f}"


def points(share: float) -> str:
    """A difference of shares in points."""
    return f"{100 * share:+.1f}"

"""What a run of `tunewright label` says to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tunewright.config import Spec
from tunewright.data.splits.withholding import GROUP, NEAR_COPY, REPEAT
from tunewright.evaluation.statistics.intervals import Interval
from tunewright.labelling.audit import TOGETHER, Audit, answers_needed
from tunewright.labelling.stand_ins import KEY
from tunewright.labelling.trust import LEAST_ANSWERED, LEAST_OF_EACH
from tunewright.labelling.writing import DISPUTED, LABELS, TEST, TRAIN, LabelReport

_RELATIONS = {
    REPEAT: "differ from one of it in capitals alone",
    NEAR_COPY: "nearly repeat one of it",
    GROUP: "share a group with one of it (data.group)",
}
"""What the reasons mean for which requests outside the sample are withheld."""
_WORST = 3
"""The most labels, or reasons, that are named."""
_FAR = 0.1
"""How far below the teachers' overall accuracy a label's upper end must lie to be named."""


def summary(spec: Spec, report: LabelReport) -> Iterator[str]:
    """The lines, the most important first."""
    yield (
        f"{LABELS}/{TRAIN} has {report.training:,} rows ({report.by_people:,} of them by people), {LABELS}/{TEST} "
        f"{report.test:,}. Teachers answered {report.asked:,} of {report.requests:,} requests for ${report.usd:,.4f}."
    )
    if report.pseudonymised:
        yield (
            f"In {report.pseudonymised:,} of them teachers read stand-ins for the personal data that were found, and "
            f"the answers have the values back. {LABELS}/{KEY} repeats the stand-ins: keep it secret."
        )
    if report.left_out:
        reasons = "; ".join(f"{count:,}: {why}" for why, count in report.left_out.items())
        yield f"Rows of the file that are no requests to label: {reasons}."
    if withheld := [f"{report.withheld[why]:,} {what}" for why, what in _RELATIONS.items() if why in report.withheld]:
        yield (
            f"Of the requests outside the sample, {', '.join(withheld)}. The sample is the test, so these are neither "
            "asked about nor taught."
        )
    if report.outdated:
        yield _of_outdated(spec, report.outdated)
    if report.is_spent:
        yield "The budget ended the asking: allow more with label.budget_usd=… and type the same command again."
    yield from _of_people(spec, report)
    if report.disputed:
        yield (
            f"Teachers agree less than label.least_agreement on {report.disputed:,} of the requests. These are left "
            f"out ({LABELS}/{DISPUTED}) and wait for people: {_review(spec)}"
        )
    yield _of_weights(report)
    if report.curve:
        yield f"More labels: {report.curve.sentence}"
    if spec.path(spec.data.train) != spec.folder / LABELS / TRAIN:
        yield (
            f"To train on these rows, write into the spec: data: {{train: {LABELS}/{TRAIN}, "
            f"test: {{people: {LABELS}/{TEST}}}}}"
        )


def _of_outdated(spec: Spec, outdated: Mapping[str, int]) -> str:
    reasons = "; ".join(f"{count:,}: {why}" for why, count in list(outdated.items())[:_WORST])
    return (
        f"People's answers to {sum(outdated.values()):,} of the requests do not fit the task any more ({reasons}). "
        f"They count as unanswered: answer these again on the page Agreement ({_review(spec)}), or give the task its "
        "old form back."
    )


def _review(spec: Spec) -> str:
    return f"tunewright review {spec.project_argument} --labels"


def _of_people(spec: Spec, report: LabelReport) -> Iterator[str]:
    found = report.audit
    if not found.answered:
        yield (
            f"Nobody knows yet how good these labels are: {report.sample:,} random requests wait for people, who don't "
            f"see what the teachers say. Type: {_review(spec)}  (then this command again)"
        )
        return
    for name, each in found.teachers.items():
        if name != TOGETHER or len(found.teachers) > 2:
            who = "All together" if name == TOGETHER else name
            yield f"{who}: right on {_shown(each)} of {found.compared[name]:,} requests that people answered."
    if report.waiting:
        waiting = f"{report.waiting:,} requests of the sample still wait for people"
        yield f"{waiting}: {_review(spec)}"
    if report.unsettled:
        yield f"People differ on {report.unsettled:,} of the requests: decide on the page Agreement of the same app."
    if together := found.together:
        margin, half = spec.goal.margin, (together.high - together.low) / 2
        needed = answers_needed(together.value, margin)
        if needed > found.answered:
            yield (
                f"So the labels' accuracy is known to within {100 * half:.1f} points. To know it to within "
                f"{100 * margin:g} (goal.margin), let people answer about {needed:,} requests: label.people={needed}"
            )
    yield from _of_agreement(found)


def _of_agreement(found: Audit) -> Iterator[str]:
    if found.people_agree:
        ceiling = f", so no model can show more than about {found.ceiling.value:.1%}" if found.ceiling else ""
        yield f"Two people agree on {_shown(found.people_agree)} of {found.pairs:,} requests{ceiling}."
    together = found.together
    for each in found.labels[:_WORST]:
        for interval, what, count in (
            (each.recall, "people call so, the teachers find", each.by_people),
            (each.precision, "the teachers call so, people agree on", each.by_teachers),
        ):
            if together and interval and interval.high < together.value - _FAR:
                yield f"'{each.label}': of the {count:,} requests that {what} {_shown(interval)}."


def _of_weights(report: LabelReport) -> str:
    if report.weights_by_people:
        return "Each row's weight is the probability that its label is right, learnt from people's answers."
    return (
        f"Each row's weight is the teachers' agreement. From {LEAST_ANSWERED} answers of people on, with at least "
        f"{LEAST_OF_EACH} labels right and {LEAST_OF_EACH} wrong among them, it is learnt from these."
    )


def _shown(interval: Interval) -> str:
    return f"{interval.value:.1%} ({interval.low:.1%} to {interval.high:.1%})"

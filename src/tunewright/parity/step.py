"""The step `parity`: the same test examples through every form of the model, up to the running server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tunewright.config import Spec
from tunewright.core.artifacts import Output, write_json
from tunewright.core.processes import processor
from tunewright.core.progress import say
from tunewright.core.threads import threads
from tunewright.data import load_dataset
from tunewright.evaluation.candidates.in_torch import MERGED
from tunewright.evaluation.evidence import VALIDATION, Record, collect, groups_of, load_records
from tunewright.evaluation.statistics.intervals import Interval, ratio
from tunewright.evaluation.statistics.pairs import paired
from tunewright.evaluation.steps import ANSWERS, deployed_splits
from tunewright.evaluation.verdict.comparison import ADAPTER, ENCODER, EXPORTED, FITTED, SERVED, Measured
from tunewright.inference.bundle import load_bundle
from tunewright.parity.engines import elsewhere
from tunewright.parity.served import beginning, served_model
from tunewright.tasks import Task
from tunewright.tasks.measures import Ratio


@dataclass(frozen=True)
class Link:
    """One form of the model, compared with the trained one on the test examples that both answered."""

    candidate: str
    agreement: float
    """The primary metric with the trained model's answers taken as the right ones; for labels, the share that is
    equal."""
    primary_metric: float
    """The primary metric over these examples."""
    lost: Interval
    """The primary metric lost against the trained model, paired by example, with its 95 % interval over whole
    groups."""
    max_confidence_gap: float
    """Largest difference of confidence on one example where the answers agree."""
    examples: int
    """Number of examples that both answered."""


def run_parity(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    """Start the bundle's server, ask it everything, and compare it with the earlier forms of the model.

    Writes `answers/served.jsonl` and `parity.json`. A failed gate raises no error: the verdict reports it.
    """
    folder = inputs["export"] / "bundle"
    bundle = load_bundle(folder)
    splits = deployed_splits(spec, load_dataset(inputs["split"]))
    with served_model(folder) as model:
        measured = Measured(threads(), processor(), round(model.start_seconds, 2))
        served = collect(SERVED, model, bundle.task, splits, output.path / ANSWERS)
    request, reply = next(example for part in splits.values() for example in part).request, served[0].answer
    say(f"  asked the server: {beginning(request)} → {reply}")
    files = {
        name: inputs["evaluate"] / ANSWERS / f"{name}.jsonl" for name in (ADAPTER, ENCODER, FITTED, MERGED, EXPORTED)
    }
    records = {name: load_records(file) for name, file in files.items() if file.exists()}
    trained = next(iter(records.values()))
    chain = [link(name, each, trained, bundle.task) for name, each in (records | {SERVED: served}).items()]
    others = []
    if not bundle.is_classifier:  # no other engine has its classification head
        others = elsewhere(bundle, inputs["export"] / "merged", splits, served, output.path)
    failures = gate_failures(spec, chain)
    for failure in failures:
        say(f"  ✗ gate: {failure}")
    write_json(
        output.path / "parity.json",
        {
            "passed": not failures,
            "failures": failures,
            "chain": [asdict(link) for link in chain],
            "elsewhere": [asdict(each) | {"told": each.summary} for each in others],
            "request": request,
            "reply": reply,
            "template_sha256": bundle.info.template_sha256,
            "measured_on": asdict(measured),
        },
    )
    output.result = {
        "passed": not failures,
        "agreement": chain[-1].agreement,
        "primary_metric": chain[-1].primary_metric,
    }


def gate_failures(spec: Spec, chain: Sequence[Link]) -> list[str]:
    """The spec's parity gates that the served bundle fails, in words.

    Quantising changes a few answers either way, so a small test part shows a loss or a gain by chance. The gate on
    accuracy fails where the loss is both larger than allowed and more than chance (its interval is above zero). The
    gate on disagreement holds whatever the number of examples.
    """
    last = chain[-1]
    failures = []
    if 1 - last.agreement > spec.export.max_disagreement:
        failures.append(
            f"the served bundle disagrees with the trained model on {1 - last.agreement:.1%} of the answers, more than "
            f"export.max_disagreement = {spec.export.max_disagreement:.1%}"
        )
    if last.lost.value > spec.export.max_accuracy_drop and last.lost.low > 0:
        failures.append(
            f"the served bundle is {last.lost.value:.1%} ({last.lost.low:.1%} to {last.lost.high:.1%}) less accurate "
            f"than the trained model, more than export.max_accuracy_drop = {spec.export.max_accuracy_drop:.1%}"
        )
    return failures


def link(candidate: str, records: Sequence[Record], trained: Sequence[Record], task: Task) -> Link:
    """One form of the model against another, on the test examples that both answered."""
    tests = {record.id: record for record in records if record.split != VALIDATION}
    pairs = [(record, tests[record.id]) for record in trained if record.id in tests]
    same = [(first, second) for first, second in pairs if first.answer == second.answer]

    def agreement(first: Record, second: Record) -> Ratio:
        part, whole = task.measures("", first.answer, second.answer)[task.primary_metric]
        return Ratio(part * second.weight, whole * second.weight)

    gap = max((abs((first.confidence or 0) - (second.confidence or 0)) for first, second in same), default=0.0)
    return Link(
        candidate,
        agreement=ratio([agreement(first, second) for first, second in pairs], None).value,
        primary_metric=ratio([second.primary_metric for _, second in pairs], None).value,
        lost=paired(
            [first.primary_metric for first, _ in pairs],
            [second.primary_metric for _, second in pairs],
            groups_of([first for first, _ in pairs]),
        ).difference,
        max_confidence_gap=round(gap, 4),
        examples=len(pairs),
    )

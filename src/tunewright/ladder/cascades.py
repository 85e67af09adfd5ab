"""Cascades of two candidates: the cheaper one answers what it is sure of, the dearer one the rest.

The answers of both show whether a cascade is worth making. Only a cascade that would win is made. It is then a
candidate like any other: a bundle whose server answers every test, with its own verdict and report.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tunewright.config import Spec, spec_sha256
from tunewright.core.artifacts import Output, atomic_folder, link_file, read_manifest, sha256_json, write_json
from tunewright.core.processes import processor
from tunewright.core.progress import say
from tunewright.core.threads import threads
from tunewright.data import load_dataset
from tunewright.data.dedup.blocks import blocks_of
from tunewright.evaluation.candidates.cascade import Threshold, apply_threshold, choose_threshold
from tunewright.evaluation.evidence import VALIDATION, Record, by_test, collect, load_records
from tunewright.evaluation.statistics.pairs import paired_records
from tunewright.evaluation.steps import ANSWERS, compared, deployed_splits, drawing_of, evidence_of, run_verdict
from tunewright.evaluation.verdict.comparison import API, SERVED, Candidate, Measured, own_model
from tunewright.evaluation.verdict.rules import is_good, worst
from tunewright.exporters.steps import run_bundle
from tunewright.inference.bundle import CASCADE, read_info, write_info
from tunewright.inference.calibration import load_calibration, save_calibration, scope
from tunewright.inference.checksums import CHECKSUMS, SECOND, is_beside_weights, read_checksums, seal
from tunewright.ladder.tried import Outcome, Tried
from tunewright.parity.served import beginning, served_model
from tunewright.parity.step import gate_failures, link
from tunewright.pipeline.fingerprint import code_version, fingerprint
from tunewright.pipeline.runner import PipelineResult, StepOutcome, point_latest
from tunewright.pipeline.steps import STEPS
from tunewright.tasks import task_of
from tunewright.tasks.base import FreeText

_DIGITS = 12
_VERSION = 12


@dataclass(frozen=True)
class CascadePart:
    """One of the two candidates of a cascade."""

    tried: Tried
    spec: Spec
    outcome: Outcome


@dataclass(frozen=True)
class Cascade:
    """Two candidates as one, estimated from their answers."""

    first: CascadePart
    second: CascadePart
    threshold: Threshold
    """The first candidate answers by itself from this confidence on."""
    coverage: dict[str, float]
    """By test split, the share that the first candidate answers."""
    records: list[Record]
    """The answers of the cascade."""
    candidate: Candidate
    """The cascade as a verdict compares it."""
    good: bool
    """Whether it meets the goal or is as good as the API, by the rule for every candidate."""

    @property
    def name(self) -> str:
        return CASCADE.join((self.first.tried.name, self.second.tried.name))

    @property
    def own(self) -> str:
        """What sentences call the cascade."""
        return _own(self.first.spec, self.second.spec)

    @property
    def usd_per_month(self) -> float:
        return self.candidate.cost.usd_per_month

    @property
    def summary(self) -> str:
        """The outcome in a sentence."""
        least = min(self.coverage.values())
        outcome = "would do the job" if self.good else "would not do it either"
        return (
            f"A cascade {self.name}, whose first answers {100 * least:.0f} % of the requests by itself, {outcome}: "
            f"{100 * worst(self.candidate).value:.1f} % on the hardest split for ${self.usd_per_month:,.0f} a month."
        )


def weigh(first: CascadePart, second: CascadePart) -> Cascade | str:
    """Two candidates as a cascade, or why they can't be one. This asks no model."""
    if isinstance(task_of(second.spec.task).constraint, FreeText):
        return "a cascade does not hand on free text"
    one, other = (_served(part) for part in (first, second))
    answers = {(record.split, record.id): record for record in other}
    if answers.keys() != {(record.split, record.id) for record in one}:
        return "they were not asked the same examples"
    validation = [record for record in one if record.split == VALIDATION]
    inputs, dataset = second.outcome.folders, load_dataset(second.outcome.folders["split"])
    drawing = drawing_of(first.spec, dataset.validation, first.outcome.folders["train"])
    threshold = choose_threshold(validation, first.spec.goal.accuracy, drawing)
    if threshold is None:
        return f"{first.tried.name} is not sure enough of anything"
    mixed = [_mixed(record, answers[record.split, record.id], threshold) for record in one]
    coverage = {split: apply_threshold(part, threshold).coverage for split, part in by_test(one).items()}
    evidence, baseline, parity = evidence_of(second.spec, inputs)
    named = parity | {"own": _own(first.spec, second.spec)}
    parts = (first.outcome.folders, second.outcome.folders)
    comparison = compared(second.spec, inputs, {SERVED: mixed}, baseline, named, dataset, parts)
    candidate = comparison.candidates[SERVED]
    against = paired_records(mixed, evidence[API]) if API in evidence else {}
    return Cascade(first, second, threshold, coverage, mixed, candidate, is_good(candidate, against, second.spec))


def _own(first: Spec, second: Spec) -> str:
    """What sentences call a cascade."""
    return f"the cascade of {own_model(first)} and {own_model(second)}"


def _served(part: CascadePart) -> list[Record]:
    return load_records(part.outcome.folders["parity"] / ANSWERS / f"{SERVED}.jsonl")


def _mixed(first: Record, second: Record, threshold: Threshold) -> Record:
    """The cascade's answer to a request. The second model is asked after the first, so their latencies add up."""
    if threshold.accepts(first):
        return first
    return replace(second, latency_ms=round(first.latency_ms + second.latency_ms, 3))


def make(cascade: Cascade, runs: Path) -> PipelineResult:
    """Make a cascade a candidate: write outputs of `export`, `parity`, `verdict` and `bundle` beside those of its
    parts. Existing outputs are kept.

    Args:
        runs: the folder of all outputs.
    """
    first, second = cascade.first.outcome.folders, cascade.second.outcome.folders
    folders = dict(second)
    result = PipelineResult(runs)

    def step(name: str, inputs: Mapping[str, Path], write: Any) -> None:
        contents = {key: _content(folder) for key, folder in inputs.items()}
        spec = cascade.second.spec
        code, hashed = code_version("parity"), spec_sha256(spec)
        # The step's own fingerprint covers what the hash of the spec leaves out, such as the price book.
        known = fingerprint(spec, STEPS[name], contents)["fingerprint"]
        whole = sha256_json([known, cascade.threshold.value, hashed, code])
        target = runs / f"{name}-{whole[:_DIGITS]}"
        if not read_manifest(target):
            with atomic_folder(
                target,
                kind=name,
                fingerprint=whole,
                spec_sha256=hashed,
                inputs=contents,
                seed=spec.seed,
                code_version=code,
            ) as output:
                write(output)
        folders[name] = target
        manifest = read_manifest(target)
        assert manifest
        result.steps[name] = StepOutcome(name, target, False, manifest)
        point_latest(runs, name, target)

    say(f"  making the cascade {cascade.name}")
    parts = {"split": second["split"], "train": second["train"], "first": first["export"], "second": second["export"]}
    step("export", parts, lambda output: _join(cascade, output.path / "bundle"))
    tested = {
        "split": second["split"],
        "export": folders["export"],
        "evaluate": second["evaluate"],
        "first": first["parity"],
        "second": second["parity"],
    }
    step("parity", tested, lambda output: _ask(cascade, folders["export"] / "bundle", output))
    judged = {name: folder for name, folder in folders.items() if name not in ("judge", "verdict", "bundle")}
    step("verdict", judged, lambda output: run_verdict(cascade.second.spec, judged, output, (first, second)))
    served = {name: folders[name] for name in ("split", "export", "parity", "verdict")}
    step("bundle", served, lambda output: run_bundle(cascade.second.spec, served, output))
    for name, folder in folders.items():
        if name not in result.steps and (manifest := read_manifest(folder)):
            result.steps[name] = StepOutcome(name, folder, True, manifest)
    return result


def _content(folder: Path) -> str:
    manifest = read_manifest(folder)
    assert manifest, f"{folder} was whole when its candidate was tried"
    return manifest.content


def _join(cascade: Cascade, bundle: Path) -> None:
    """Join two exported bundles: the second becomes a folder in a copy of the first. Weights are links."""
    first, second = (part.outcome.folders["export"] / "bundle" for part in (cascade.first, cascade.second))
    shutil.copytree(first, bundle, copy_function=_copy_small)
    shutil.copytree(second, bundle / SECOND, copy_function=_copy_small)
    one, other = read_info(first), read_info(second)
    version = sha256_json([one.version, other.version, cascade.threshold.value])[:_VERSION]
    info = one.model_copy(
        update={
            "base_model": CASCADE.join((one.base_model, other.base_model)),
            "version": version,
            "second_below": cascade.threshold.value,
        }
    )
    write_info(bundle, info)
    validation = load_dataset(cascade.second.outcome.folders["split"]).validation
    confidence = {record.id: record.confidence or 0.0 for record in cascade.records if record.split == VALIDATION}
    in_scope = scope([confidence[block[0].meta.id] for block in blocks_of(validation)])
    save_calibration(load_calibration(first).model_copy(update={"in_scope": in_scope}), bundle)
    if not (bundle / SECOND / CHECKSUMS).exists():
        seal(bundle / SECOND)
    known = read_checksums(first)
    seal(bundle, {name: each for name, each in known.files.items() if not is_beside_weights(name)} if known else None)


def _copy_small(source: str, target: str) -> None:
    """Copy JSON, templates and cards, which people and `_join` change; link everything else."""
    if Path(source).suffix in (".json", ".jinja", ".md"):
        shutil.copy2(source, target)
    else:
        link_file(source, target)


def _ask(cascade: Cascade, bundle: Path, output: Output) -> None:
    """Ask the cascade's server everything, and compare its answers with those of its parts."""
    spec = cascade.second.spec
    task = task_of(spec.task)
    splits = deployed_splits(spec, load_dataset(cascade.second.outcome.folders["split"]))
    with served_model(bundle) as model:
        measured = Measured(threads(), processor(), round(model.start_seconds, 2))
        served = collect(SERVED, model, task, splits, output.path / ANSWERS)
    request, reply = next(example for part in splits.values() for example in part).request, served[0].answer
    say(f"  asked the server: {beginning(request)} → {reply}")
    chain = [link("parts", cascade.records, cascade.records, task), link(SERVED, served, cascade.records, task)]
    failures = gate_failures(spec, chain)
    parity = {
        "passed": not failures,
        "failures": failures,
        "chain": [asdict(each) for each in chain],
        "elsewhere": [],
        "request": request,
        "reply": reply,
        "template_sha256": read_info(bundle).template_sha256,
        "measured_on": asdict(measured),
        "own": cascade.own,
    }
    write_json(output.path / "parity.json", parity)
    output.result = {
        "passed": not failures,
        "agreement": chain[-1].agreement,
        "primary_metric": chain[-1].primary_metric,
    }

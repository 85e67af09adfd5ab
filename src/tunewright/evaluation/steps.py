"""The steps `evaluate` and `verdict`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from tunewright.config import Spec
from tunewright.core.artifacts import MANIFEST, Output, write_json
from tunewright.core.progress import say
from tunewright.data import Dataset, evenly, load_dataset
from tunewright.data.dedup.blocks import blocks_of
from tunewright.economics import price_book
from tunewright.economics.cost import tokens_by_letters
from tunewright.economics.mean_usage import MeanUsage, logged_usage
from tunewright.evaluation.candidates.cascade import Drawing
from tunewright.evaluation.candidates.classifiers import ask_encoder, ask_linear
from tunewright.evaluation.candidates.in_torch import ask_in_torch, sample_for
from tunewright.evaluation.candidates.records import controls
from tunewright.evaluation.evidence import VALIDATION, Record, by_test, collect, load_records, logged_latency, score
from tunewright.evaluation.report.model_card import write_card
from tunewright.evaluation.report.page import verdict_data, write_report
from tunewright.evaluation.verdict.comparison import (
    EXPORTED,
    SERVED,
    Comparison,
    Measured,
    compare,
    evidence_key,
    kind_in,
)
from tunewright.evaluation.verdict.decision import decide
from tunewright.evaluation.verdict.details import gather_details
from tunewright.evaluation.verdict.truth import caveat
from tunewright.inference.calibration import load_calibration
from tunewright.inference.decoding.writing import max_answer_tokens
from tunewright.inference.predictors import language_model
from tunewright.models.chat import token_counter
from tunewright.models.resolve import LocalModel, kind_of, resolve
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, Task, task_of
from tunewright.tasks.base import SomeOf
from tunewright.training.diagnosis.history import kept_early, linear_beside, longest_answer

ANSWERS = "answers"
BASELINE = "baseline.json"
RETRAINED = ("check", "split", "train", "export", "evaluate", "parity")
"""The steps that a retraining repeats; it keeps the answers of APIs and of the judge."""


def run_evaluate(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    """Dataset, adapter and export -> `answers/<candidate>.jsonl` of every candidate. Candidates that an interrupted try
    finished are kept."""
    dataset = load_dataset(inputs["split"])
    tests = tests_of(spec, dataset)
    answers = output.path / ANSWERS
    task = task_of(spec.task)
    # The baselines choose nothing on the validation part, so they learn from it as well, which makes them strongest.
    candidates = controls(task, [*dataset.train, *dataset.validation])
    evidence = {name: collect(name, predictor, task, tests, answers) for name, predictor in candidates.items()}
    match kind_of(spec.model, spec.folder):
        case "linear":
            ask_linear(inputs, task, tests, answers)
        case "encoder":
            ask_encoder(spec, inputs, tests, answers)
        case "decoder":
            ask_in_torch(spec, inputs, tests, answers)
            _exported(spec, inputs, tests, answers)
    files = sorted(answers.glob("*.jsonl"))
    evidence |= {file.stem: load_records(file) for file in files if file.stem not in evidence}
    output.result = {
        f"{candidate} {split}": round(score(part, spec.seed).primary_metric.value, 4)
        for candidate, records in evidence.items()
        for split, part in by_test(records).items()
    }


def deployed_splits(spec: Spec, dataset: Dataset) -> dict[str, Sequence[Example]]:
    """The examples that the deployed model answers: the validation part, for the threshold, and the test splits."""
    return {VALIDATION: dataset.validation, **tests_of(spec, dataset)}


def tests_of(spec: Spec, dataset: Dataset) -> dict[str, Sequence[Example]]:
    """The test splits, each with at most `evaluate.max_examples` examples, evenly spaced, because a file may be sorted
    by label or by time."""
    most = spec.evaluate.max_examples
    return {name: evenly(examples, most) if most else examples for name, examples in dataset.test.items()}


def left_out(spec: Spec, dataset: Dataset) -> list[str]:
    """A sentence for each test split of which `evaluate.max_examples` leaves out examples."""
    return [
        f"Only {len(asked):,} of the {len(dataset.test[name]):,} examples of {name} were asked (evaluate.max_examples)."
        for name, asked in tests_of(spec, dataset).items()
        if len(asked) < len(dataset.test[name])
    ]


def _exported(spec: Spec, inputs: Mapping[str, Path], tests: Mapping[str, Sequence[Example]], answers: Path) -> None:
    """Collect the answers of the bundle's weights in their runtime, without its server."""
    from tunewright.inference.runtimes.base import ClassifyingRuntime, load_runtime, runtime_in

    base, bundle = resolve(spec.model, spec.folder), inputs["export"] / "bundle"
    tokenizer = TextTokenizer(base.folder)
    task, longest = task_of(spec.task).fitted(tokenizer.encode_verbatim), longest_answer(inputs["train"])
    context = _context(task, spec.train.max_length, base, tokenizer, tests, longest)
    runtime = runtime_in(bundle)
    model = load_runtime(runtime, bundle, context=context)
    assert not isinstance(model, ClassifyingRuntime)
    predictor = language_model(model, task, base.template, tokenizer, longest, calibration=load_calibration(bundle))
    sample = sample_for(EXPORTED, base.folder, tests, spec.seed, on_gpu=runtime.startswith("vllm"))
    collect(EXPORTED, predictor, task, sample, answers)


def _context(
    task: Task,
    least: int,
    base: LocalModel,
    tokenizer: TextTokenizer,
    tests: Mapping[str, Sequence[Example]],
    longest: int,
) -> int:
    """Tokens that the cache must hold so that no test prompt is cut; at least `least`."""
    prompts = (
        base.template.encode_prompt(task.prompt(chunk), tokenizer)
        for examples in tests.values()
        for example in examples
        for chunk in task.chunks(example.request, token_counter(tokenizer))
    )
    return max(least, max(map(len, prompts)) + max_answer_tokens(task.constraint, longest))


def run_verdict(
    spec: Spec, inputs: Mapping[str, Path], output: Output, parts: Sequence[Mapping[str, Path]] = ()
) -> None:
    """Evidence and parity -> `verdict.json`, `report.html`, `report.md` and `model_card.md`.

    Args:
        parts: for a cascade, the outputs of each of its models.
    """
    evidence, baseline, parity = evidence_of(spec, inputs)
    dataset = load_dataset(inputs["split"])
    comparison = compared(spec, inputs, evidence, baseline, parity, dataset, parts)
    drawing = drawing_of(spec, dataset.validation, inputs["train"], is_cascade=bool(parity.get("own")))
    verdict = decide(spec, comparison, evidence, parity_passed=parity["passed"], drawing=drawing)
    examples = {example.meta.id: example for example in dataset.test_examples}
    details = gather_details(spec, inputs["check"], examples, evidence)
    sentence = " ".join(filter(None, [verdict.sentence, caveat(details.truths)]))
    reasons = [*verdict.reasons, *left_out(spec, dataset), *details.reasons(comparison.primary_metric)]
    verdict = replace(verdict, sentence=sentence, reasons=reasons)
    data = verdict_data(spec, comparison, verdict, parity) | {"details": asdict(details)}
    if baseline:
        data["baseline"] = baseline
    if judge := inputs.get("judge"):
        data["judge"] = json.loads((judge / "judge.json").read_text("utf-8"))
    write_json(output.path / "verdict.json", data)
    write_report(spec, data, comparison, evidence, examples, inputs, output.path)
    write_card(spec, data, inputs, output.path / "model_card.md")
    say(f"  {verdict.decision}: {verdict.sentence}")
    output.result = {"decision": verdict.decision, "sentence": verdict.sentence}


def evidence_of(
    spec: Spec, inputs: Mapping[str, Path]
) -> tuple[dict[str, list[Record]], dict[str, Any], dict[str, Any]]:
    """(the records of every candidate and API; the content of `baseline.json`, empty where no API was measured; the
    content of `parity.json`)."""
    evidence = read_evidence(inputs["evaluate"], inputs["parity"])
    baseline: dict[str, Any] = {}
    if folder := inputs.get("baseline"):
        baseline = json.loads((folder / BASELINE).read_text("utf-8"))
        for name in baseline["apis"]:
            evidence[evidence_key(spec, name)] = load_records(folder / ANSWERS / f"{name}.jsonl")
    return evidence, baseline, json.loads((inputs["parity"] / "parity.json").read_text("utf-8"))


def compared(
    spec: Spec,
    inputs: Mapping[str, Path],
    evidence: Mapping[str, Sequence[Record]],
    baseline: Mapping[str, Any],
    parity: Mapping[str, Any],
    dataset: Dataset,
    parts: Sequence[Mapping[str, Path]] = (),
) -> Comparison:
    """All candidates side by side, from the outputs of the steps before the verdict.

    Args:
        evidence, baseline, parity: as `evidence_of` returns them. The served model is a cascade where `parity` has a
            name for it under "own".
        parts: for a cascade, the outputs of each of its models.
    """
    cascade, rows = parity.get("own"), (*dataset.train, *dataset.validation, *dataset.test_examples)
    # A classifier, a cascade with one, and a model with a pruned prompt read other tokens than an API would.
    differs = cascade or spec.task.is_pruned or kind_in(evidence) != "decoder"
    written = written_usage(task_of(spec.task).untaught(), dataset) if differs else None
    return compare(
        spec,
        evidence,
        price_book(spec.price_file),
        usages_of(baseline),
        Measured(**parity["measured_on"]),
        training_hours(inputs, parts),
        written,
        cascade,
        logged_usage(rows),
        logged_latency(rows),
    )


def written_usage(task: Task, dataset: Dataset) -> MeanUsage:
    """The tokens that a model with this task's prompt would read and write for a test example, estimated from its
    letters."""
    return MeanUsage(*tokens_by_letters(task, dataset.test_examples))


def training_hours(inputs: Mapping[str, Path], parts: Sequence[Mapping[str, Path]] = ()) -> float:
    """Hours of the steps that a retraining repeats. For a cascade these are its own and those of its parts; an output
    that they share counts once."""
    folders = sorted({each[step] for each in (inputs, *parts) for step in RETRAINED})
    manifests = [json.loads((folder / MANIFEST).read_text("utf-8")) for folder in folders]
    return sum(float(manifest["wall_seconds"]) for manifest in manifests) / 3600


def drawing_of(spec: Spec, validation: Sequence[Example], train: Path, *, is_cascade: bool = False) -> Drawing:
    """How the validation part was drawn: copies, near copies and groups were drawn as one.

    Args:
        train: the output of the step `train`; in a cascade of two, the second model's.
    """
    doubt = ""
    if spec.data.time:
        doubt = "future requests are newer than the validation part"
    elif is_cascade:
        doubt = "the threshold between its two models was chosen on the same validation part"
    elif spec.train.init_adapter:
        doubt = "the training began with an adapter that may have learnt the validation part"
    elif kept_early(train):
        doubt = "the model to keep was chosen on the same validation part"
    elif linear_beside(train):
        doubt = "the weight of the linear model beside the encoder was chosen on the same validation part"
    elif isinstance(task_of(spec.task).constraint, SomeOf):
        doubt = "the thresholds of its labels were chosen on the same validation part"
    unit = {example.meta.id: number for number, block in enumerate(blocks_of(validation)) for example in block}
    return Drawing(unit, doubt)


def usages_of(baseline: Mapping[str, Any]) -> dict[str, MeanUsage]:
    """The token counts of the APIs by name, without those that did not count.

    Args:
        baseline: the content of `baseline.json`.
    """
    return {
        name: MeanUsage(*(each[part.name] for part in fields(MeanUsage)))
        for name, each in baseline.get("apis", {}).items()
        if each["prompt_tokens"]
    }


def read_evidence(evaluate: Path, parity: Path) -> dict[str, list[Record]]:
    """The records of every candidate, with those of the served bundle."""
    files = [*sorted((evaluate / ANSWERS).glob("*.jsonl")), parity / ANSWERS / f"{SERVED}.jsonl"]
    return {file.stem: load_records(file) for file in files}

"""The search for the shortest prompt: train, serve and ask with one prompt after the other, until one loses."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tunewright.config import Spec, spec_sha256
from tunewright.core.artifacts import Output, atomic_folder, output_folder, read_manifest, sha256_json, write_json
from tunewright.core.progress import say
from tunewright.data import evenly, load_dataset
from tunewright.data.boilerplate import find_template, sample_of
from tunewright.data.examine import EXAMPLES
from tunewright.evaluation.evidence import VALIDATION
from tunewright.inference.bundle import load_bundle
from tunewright.parity.served import collect_served
from tunewright.pipeline.fingerprint import code_version, lineage_hashes
from tunewright.pruning.trial import MOST, PromptTrial, require_provable, trial_of
from tunewright.pruning.variants import PromptVariant, require_prompt, variants_of
from tunewright.tasks import Example, task_of
from tunewright.tasks.input_template import InputTemplate

REPORT = "prune.json"
_ANSWERS = "answers"

RunTo = Callable[[Spec, str], Mapping[str, Path]]
"""Brings a spec's outputs up to date to a step; returns the folder of each."""


@dataclass(frozen=True)
class Pruning:
    """What was found; the content of `prune.json`."""

    metric: str
    rows: int
    """Validation rows that each model answered."""
    margin: float
    """The share of the primary metric that may be lost."""
    trials: list[PromptTrial]
    """The whole prompt first, then ever shorter ones, to the first that is not shown to lose nothing."""
    untried: list[str]
    """Shorter prompts that were not tried after that."""
    report: Path
    """The file that holds this."""

    @property
    def whole(self) -> PromptTrial:
        return self.trials[0]

    @property
    def shortest(self) -> PromptTrial:
        """The shortest prompt that is shown to lose nothing; the whole one where there is none."""
        return [each for each in self.trials if each.outcome in ("whole", "no loss")][-1]


def search(spec: Spec, run: RunTo) -> Pruning:
    """Find the shortest prompt without a loss.

    The prompts are compared with the whole one from the longest to the shortest, and the first that is not shown to
    lose nothing ends the search. So the chance of recommending a prompt that loses more than the margin is 5 % for all
    of them together.

    Source: Maurer, Hothorn & Lehmacher 1995, tests in a fixed order.

    Raises:
        UserError: there is nothing to leave out, or too little validation data to show anything.
    """
    require_prompt(spec)
    variants = variants_of(spec, _fixed_text(run(spec, "check")["check"]))
    split = run(variants[0].spec, "split")["split"]
    dataset = load_dataset(split)
    examples = evenly(dataset.validation, MOST)
    weights = [example.importance for example in examples]
    rows = len(dataset.train) + len(dataset.validation)
    require_provable(weights, _groups(examples), spec.goal.margin, rows)
    lineage = {each.name: lineage_hashes(each.spec, "export")["export"] for each in variants}
    code, hashed = code_version("parity"), spec_sha256(spec)
    found = sha256_json([lineage, spec.goal.margin, code])
    target = output_folder(split.parent, "prune", found)
    if not read_manifest(target):
        with atomic_folder(
            target,
            kind="prune",
            fingerprint=found,
            spec_sha256=hashed,
            inputs=lineage,
            seed=spec.seed,
            code_version=code,
            keep=(_ANSWERS,),
        ) as output:
            _search(spec, variants, examples, run, output)
    return read_pruning(target / REPORT)


def _fixed_text(check: Path) -> InputTemplate | None:
    """The fixed text around the checked inputs."""
    with (check / EXAMPLES / "train.jsonl").open(encoding="utf-8") as lines:
        return find_template(sample_of(Example.model_validate_json(line).request for line in lines))


def read_pruning(file: Path) -> Pruning:
    """What `search` found."""
    data = json.loads(file.read_text("utf-8"))
    return Pruning(**data | {"trials": [PromptTrial(**each) for each in data["trials"]], "report": file})


def _search(spec: Spec, variants: list[PromptVariant], examples: list[Example], run: RunTo, output: Output) -> None:
    trials: list[PromptTrial] = []
    whole = None
    for number, variant in enumerate(variants, 1):
        say(f"Prompt {number} of {len(variants)}: {variant.name if number == 1 else f'without {variant.name}'}")
        bundle = run(variant.spec, "export")["export"] / "bundle"
        task = load_bundle(bundle).task
        records = collect_served(variant.name, bundle, task, {VALIDATION: examples}, output.path / _ANSWERS)
        whole = whole or records
        trials.append(trial_of(variant.name, variant.keys, records, whole, spec.goal.margin))
        if trials[-1].outcome not in ("whole", "no loss"):
            break
    found = {
        "metric": task_of(spec.task).primary_metric,
        "rows": len(examples),
        "margin": spec.goal.margin,
        "trials": [asdict(each) for each in trials],
        "untried": [each.name for each in variants[len(trials) :]],
    }
    write_json(output.path / REPORT, found)
    output.result = {each.name: round(each.primary_metric, 4) for each in trials}


def _groups(examples: list[Example]) -> list[str] | None:
    """As `groups_of`, of examples that nobody has answered yet."""
    if all(example.meta.group is None for example in examples):
        return None
    return [example.meta.group or f"alone {example.meta.id}" for example in examples]

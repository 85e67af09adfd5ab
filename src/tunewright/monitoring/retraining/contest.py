"""The contest: the champion answers the challenger's tests on its own server, and the gate decides."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tunewright.config import Spec
from tunewright.core.artifacts import read_manifest, sha256_json
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.data import load_dataset
from tunewright.data.splits.frozen import trace
from tunewright.data.splits.withholding import FOR_THE_GATE, load_withheld
from tunewright.evaluation.evidence import load_records
from tunewright.evaluation.steps import ANSWERS, tests_of
from tunewright.evaluation.verdict.comparison import SERVED
from tunewright.inference.bundle import load_bundle, read_info
from tunewright.inference.predictors import Answer
from tunewright.monitoring.retraining.gate import CORRECTIONS, Decision, decide
from tunewright.parity.served import collect_served
from tunewright.pipeline.steps import STEPS
from tunewright.tasks import Example
from tunewright.tasks.input_form import InputForm


def made_of(bundle: Path) -> dict[str, Path]:
    """The outputs from which a bundle was built, directly or not, by step. Deleted outputs are left out.

    Args:
        bundle: the output of the step `bundle`, or the bare bundle in an export.
    """
    bundle = bundle.resolve()
    top = bundle if read_manifest(bundle) else bundle.parent
    outputs: dict[str, Path] = {}
    left = [top]
    while left:
        folder = left.pop()
        manifest = read_manifest(folder)
        if manifest is None:
            continue
        outputs.setdefault(manifest.kind, folder)
        for step, content in manifest.inputs.items():
            if step in STEPS and step not in outputs:
                left += [each for each in top.parent.glob(f"{step}-*") if _content(each) == content][:1]
    return outputs


def _content(folder: Path) -> str | None:
    manifest = read_manifest(folder)
    return manifest.content if manifest else None


def escalations_count(bundle: Path) -> bool:
    """Whether anybody acts on the flag `escalate` of a bundle's answers. Under the verdict `switch` nobody does, though
    the bundle carries a threshold."""
    verdict = made_of(bundle).get("verdict")
    if verdict is None:
        return True
    shown: str = json.loads((verdict / "verdict.json").read_text("utf-8"))["verdict"]["shown"]
    return shown != "switch"


class _Taught:
    """The requests that the champion has learnt, whichever of the two models' input forms they were read by."""

    def __init__(self, *forms: InputForm):
        self._forms, self._traces = forms, set[str]()

    def add(self, examples: Iterable[Example]) -> None:
        for example in examples:
            self._traces |= self._of(example)

    def has(self, example: Example) -> bool:
        return not self._traces.isdisjoint(self._of(example))

    def _of(self, example: Example) -> set[str]:
        return {trace(form.of_example(example)) for form in self._forms}


_CHAMPION, _CHALLENGER = "champion", "challenger"
_NOTHING = Answer("", 0.0)
"""The answer to a request that is too long for the model."""


def contest(spec: Spec, runs: Path, champion: Path, challenger: Path, failures: list[str]) -> Decision:
    """Let both models answer the challenger's tests. If the tests are named files, they also answer the corrections
    that the challenger's data held out. The answers are kept in `runs/contest-…`.

    Test examples from the champion's training or validation rows are left out, because it has learnt them. If no test
    is frozen, the comparison thus uses only examples that neither model has seen.

    Args:
        failures: the parity gates that the challenger failed.

    Raises:
        UserError: the outputs from which the bundles were built are gone.
    """
    new, old = made_of(challenger), made_of(champion)
    if missing := [step for step in ("split", "parity") if step not in new]:
        raise UserError(
            f"The challenger's {' and '.join(missing)} are gone.", where=runs, fix="Type the same command again."
        )
    tests = dict(tests_of(spec, load_dataset(new["split"])))
    held = [row.example for row in load_withheld(new["split"]) if row.reason == FOR_THE_GATE]
    task = load_bundle(challenger).task
    split = read_manifest(new["split"])
    assert split  # made_of returns whole outputs
    asked = [read_info(champion).version, split.content, spec.evaluate.max_examples]
    folder = runs / f"contest-{sha256_json(asked)[:12]}"
    answered = load_records(new["parity"] / ANSWERS / f"{SERVED}.jsonl")
    if held:
        name = f"{_CHALLENGER}-{read_info(challenger).version[:12]}"
        answered += collect_served(name, challenger, task, {CORRECTIONS: held}, folder / ANSWERS, _NOTHING)
        tests[CORRECTIONS] = held
    of_champion = collect_served(_CHAMPION, champion, task, tests, folder / ANSWERS, _NOTHING)
    taught = _Taught(InputForm.of(read_info(champion).task), InputForm.of(spec.task))
    if "split" in old:
        dataset = load_dataset(old["split"])
        taught.add([*dataset.train, *dataset.validation])
    else:
        say("  the champion's training data are gone; tests that are not frozen may favour it")
    examples = {example.meta.id: example for part in tests.values() for example in part}
    return decide(
        answered,
        of_champion,
        examples,
        margin=spec.goal.margin,
        p95_ms=spec.goal.p95_ms,
        by_label=bool(task.answers),
        taught=taught.has,
        failures=failures,
    )

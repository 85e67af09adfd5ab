"""The step `train`, of a linear model: it is fitted in seconds, by one core, from nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tunewright.config import Spec
from tunewright.core.artifacts import Output, write_json, write_jsonl
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.data import load_dataset
from tunewright.data.curve.classical import fit_linear, fit_linear_sets
from tunewright.data.label_sets import counted, held
from tunewright.models.linear_model import LINEAR, LinearModel
from tunewright.tasks import Example, MultiLabelTask, Task, task_of
from tunewright.training.diagnosis.history import CURVE, DIAGNOSIS

_SHOWN = 5
"""N-grams of a label that are shown."""


def refusal(spec: Spec) -> UserError | None:
    """Why a linear model can't do what a spec asks for; None where it can."""
    if spec.task.kind not in ("classify", "multi_label"):
        return UserError(
            f"A linear model can't do this task: it is {spec.task.kind}, and a linear model chooses a label.",
            where="model",
            fix="Choose a model that writes: tunewright models ls",
        )
    if spec.train.init_adapter is not None:
        return UserError(
            "The fitting of a linear model begins with nothing, and not with an adapter.",
            where="train.init_adapter",
            fix="Type: tunewright … train.init_adapter=null",
        )
    return None


def train_linear(spec: Spec, split: Path, output: Output) -> None:
    """Dataset -> `linear/`, `curve.jsonl` without a line, `diagnosis.json` without a finding, and `audit.txt`.

    Raises:
        UserError: the spec asks for what a linear model can't do.
    """
    if error := refusal(spec):
        raise error
    dataset, task = load_dataset(split), task_of(spec.task)
    texts = [example.request for example in dataset.train]
    if isinstance(task, MultiLabelTask):
        model = fit_linear_sets(texts, held(task, dataset.train), list(task.labels))
    else:
        model = fit_linear(texts, [example.answer for example in dataset.train], task.answers)
    model.save(output.path / LINEAR)
    lines = audit(model, [label for example in dataset.train for label in counted(task, example.answer)])
    for line in lines:
        say(f"  {line}")
    (output.path / "audit.txt").write_text("\n".join(lines) + "\n", "utf-8")
    write_jsonl(output.path / CURVE, [])
    write_json(output.path / DIAGNOSIS, {"settings": {}, "diagnoses": []})
    output.result = {
        "validation_primary_metric": _reached(model, task, dataset.validation),
        "trained_parameters": int(model.weight.size + model.bias.size),
        "precision": "float32",
        "processes": 1,
        "diagnosis": [],
        "longest_answer": 0,
    }


def audit(model: LinearModel, answers: Sequence[str]) -> list[str]:
    """What speaks most for the commonest label, and how many n-grams there are.

    Args:
        answers: the labels of all training rows.
    """
    count = Counter(answers)
    common, rarest = max(count, key=lambda label: count[label]), min(count, key=lambda label: count[label])
    words = len(model.ngrams.words)
    speaking = model.frequency[:words] * model.weight[:words, model.labels.index(common)]
    strongest = [model.ngrams.words[number] for number in np.argsort(-speaking)[:_SHOWN]]
    return [
        f"{words:,} words and pairs of words, {len(model.ngrams.parts):,} parts of words",
        f"what speaks most for {common}: {', '.join(strongest)}",
        f"the rarest label, {rarest}, has {count[rarest]}",
    ]


def _reached(model: LinearModel, task: Task, validation: Sequence[Example]) -> float | None:
    """The primary metric on some examples; None of none."""
    if not validation:
        return None
    found = model.of_texts(example.request for example in validation)
    if isinstance(task, MultiLabelTask):
        named = np.array(model.labels)
        answers = [task.written_out(named[logits >= 0].tolist()) for logits in found]
    else:
        answers = [model.labels[int(logits.argmax())] for logits in found]
    measured = [
        task.measures(example.request, example.answer, answer)[task.primary_metric]
        for example, answer in zip(validation, answers, strict=True)
    ]
    return sum(each.part for each in measured) / max(sum(each.whole for each in measured), 1)

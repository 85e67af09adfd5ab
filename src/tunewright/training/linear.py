"""The step `train` for a linear model, which one core fits in seconds, without a base model."""

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
from tunewright.models.linear_model import LINEAR, LinearModel, unable_linear
from tunewright.tasks import Example, MultiLabelTask, Task, task_of
from tunewright.training.diagnosis.history import CURVE, DIAGNOSIS
from tunewright.training.loop.encode import weight_of, weights_of

_AUDITED_NGRAMS = 5
"""N-grams of a label that the audit shows."""


def refusal(spec: Spec) -> UserError | None:
    """Why a linear model can't do what a spec asks for; None if it can."""
    if error := unable_linear(spec.task.kind):
        return error
    if spec.train.init_adapter is not None:
        return UserError(
            "A linear model can't start from an adapter.",
            where="train.init_adapter",
            fix="Type: tunewright … train.init_adapter=null",
        )
    return None


def train_linear(spec: Spec, split: Path, output: Output) -> None:
    """Fit a linear model on a dataset: write `linear/`, `audit.txt`, an empty `curve.jsonl` and a `diagnosis.json`
    without findings.

    Raises:
        UserError: a linear model can't do what the spec asks for.
    """
    if error := refusal(spec):
        raise error
    dataset, task = load_dataset(split), task_of(spec.task)
    texts = [example.request for example in dataset.train]
    weights = weights_of([weight_of(example) for example in dataset.train])
    if isinstance(task, MultiLabelTask):
        model = fit_linear_sets(texts, held(task, dataset.train), list(task.labels), weights)
    else:
        model = fit_linear(texts, [example.answer for example in dataset.train], task.answers, weights)
    model.save(output.path / LINEAR)
    lines = audit(model, [label for example in dataset.train for label in counted(task, example.answer)])
    for line in lines:
        say(f"  {line}")
    (output.path / "audit.txt").write_text("\n".join(lines) + "\n", "utf-8")
    write_jsonl(output.path / CURVE, [])
    write_json(output.path / DIAGNOSIS, {"settings": {}, "diagnoses": []})
    output.result = {
        "validation_primary_metric": _validation_score(model, task, dataset.validation),
        "trained_parameters": int(model.weight.size + model.bias.size),
        "precision": "float32",
        "processes": 1,
        "diagnosis": [],
        "longest_answer": 0,
    }


def audit(model: LinearModel, answers: Sequence[str]) -> list[str]:
    """The n-grams that count most for the commonest label, and how many n-grams there are.

    Args:
        answers: the labels of all training rows.
    """
    count = Counter(answers)
    common, rarest = max(count, key=lambda label: count[label]), min(count, key=lambda label: count[label])
    words = len(model.ngrams.words)
    evidence = model.frequency[:words] * model.weight[:words, model.labels.index(common)]
    strongest = [model.ngrams.words[number] for number in np.argsort(-evidence)[:_AUDITED_NGRAMS]]
    return [
        f"{words:,} words and pairs of words, {len(model.ngrams.parts):,} parts of words",
        f"the n-grams that count most for {common}: {', '.join(strongest)}",
        f"the rarest label, {rarest}, has {count[rarest]}",
    ]


def _validation_score(model: LinearModel, task: Task, validation: Sequence[Example]) -> float | None:
    """The primary metric on some examples; None if there are none."""
    if not validation:
        return None
    logits_of_texts = model.of_texts(example.request for example in validation)
    if isinstance(task, MultiLabelTask):
        named = np.array(model.labels)
        answers = [task.written_out(named[logits >= 0].tolist()) for logits in logits_of_texts]
    else:
        answers = [model.labels[int(logits.argmax())] for logits in logits_of_texts]
    measured = [
        task.measures(example.request, example.answer, answer)[task.primary_metric]
        for example, answer in zip(validation, answers, strict=True)
    ]
    return sum(each.part for each in measured) / max(sum(each.whole for each in measured), 1)

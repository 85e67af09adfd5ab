"""What a bundle's confidence is worth, from its own answers to the validation part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tunewright.data import evenly
from tunewright.data.blocks import blocks_of
from tunewright.evaluate.calibration import Calibration, fit_answers, fit_labels, scope
from tunewright.evaluate.predictors import LabelScorer, LanguageModel, language_model
from tunewright.export.bundle import Bundle
from tunewright.models.ort_model import OrtNextToken
from tunewright.progress import track
from tunewright.tasks import Example, Task

MOST_EXAMPLES = 500
"""Validation examples that are asked: one or two numbers need no more."""


def calibrate(bundle: Bundle, validation: Sequence[Example]) -> Calibration:
    """Ask a bundle's model, quantised as it is, and fit its calibration."""
    model = OrtNextToken(bundle.onnx, context=bundle.info.context)
    asked = language_model(
        model, bundle.task, bundle.template, bundle.tokenizer, bundle.folder, bundle.info.longest_answer
    )
    examples = evenly(validation, MOST_EXAMPLES)
    if isinstance(asked, LabelScorer):
        return _of_labels(asked, bundle.task, examples)
    return _of_answers(asked, bundle.task, examples)


def _of_labels(asked: LabelScorer, task: Task, examples: Sequence[Example]) -> Calibration:
    numbers = {label: number for number, label in enumerate(task.answers)}
    scores = [asked.log_probabilities(*asked.prompts(example.request)) for example in _tracked(examples)]
    found = fit_labels(np.array(scores), [numbers[example.answer] for example in examples], _weights(examples))
    return _with_scope(found, examples, [float(found.of_labels(each).max()) for each in scores])


def _of_answers(asked: LanguageModel, task: Task, examples: Sequence[Example]) -> Calibration:
    answers = [asked.answer(example.request) for example in _tracked(examples)]
    raw = [answer.confidence or 0.0 for answer in answers]
    worth = [
        task.measures(example.request, example.answer, answer.text)[task.headline].worth
        for example, answer in zip(examples, answers, strict=True)
    ]
    found = fit_answers(raw, worth, _weights(examples))
    return _with_scope(found, examples, [found.of_answer(each) for each in raw])


def _weights(examples: Sequence[Example]) -> list[float]:
    """Copies, near copies and rows of one group count as one."""
    share = {example.meta.id: 1 / len(block) for block in blocks_of(examples) for example in block}
    return [share[example.meta.id] for example in examples]


def _with_scope(found: Calibration, examples: Sequence[Example], sure: Sequence[float]) -> Calibration:
    of_example = dict(zip((example.meta.id for example in examples), sure, strict=True))
    one_of_each = [of_example[block[0].meta.id] for block in blocks_of(examples)]
    return found.model_copy(update={"in_scope": scope(one_of_each)})


def _tracked(examples: Sequence[Example]) -> Iterator[Example]:
    with track("calibrating", len(examples), "answers") as tracker:
        for number, example in enumerate(examples):
            tracker.update(number)
            yield example

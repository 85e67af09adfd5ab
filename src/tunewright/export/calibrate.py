"""What a bundle's confidence is worth, from its own answers to the validation part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tunewright.data import evenly
from tunewright.evaluate.calibration import Calibration, fit_answers, fit_labels
from tunewright.evaluate.evidence import worth_of
from tunewright.evaluate.predictors import LabelScorer, language_model
from tunewright.export.bundle import Bundle
from tunewright.models.ort_model import OrtNextToken
from tunewright.progress import track
from tunewright.tasks import Example

MOST = 500
"""Validation examples that are asked: one or two numbers need no more."""


def calibrate(bundle: Bundle, validation: Sequence[Example]) -> Calibration:
    """Ask a bundle's model, quantised as it is, and fit its calibration."""
    model = OrtNextToken(bundle.onnx, context=bundle.info.context)
    asked = language_model(
        model, bundle.task, bundle.template, bundle.tokenizer, bundle.folder, bundle.info.longest_answer
    )
    room = bundle.info.context - asked.longest_answer
    examples = [
        example
        for example in evenly(validation, MOST)
        if max(map(len, asked.prompts(example.request))) <= room  # the server refuses the others
    ]
    if isinstance(asked, LabelScorer):
        scores = np.array([asked.log_probabilities(*asked.prompts(each.request)) for each in _tracked(examples)])
        numbers = {label: number for number, label in enumerate(bundle.task.answers)}
        return fit_labels(scores, [numbers[example.answer] for example in examples])
    answers = [asked.answer(example.request) for example in _tracked(examples)]
    worth = [
        worth_of(bundle.task.measures(example.request, example.answer, answer.text)[bundle.task.headline])
        for example, answer in zip(examples, answers, strict=True)
    ]
    return fit_answers([answer.confidence or 0.0 for answer in answers], worth)


def _tracked(examples: Sequence[Example]) -> Iterator[Example]:
    with track("calibrating", len(examples), "answers") as tracker:
        for number, example in enumerate(examples):
            tracker.update(number)
            yield example

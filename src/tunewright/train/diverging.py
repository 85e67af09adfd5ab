"""The rules for trainings that go wrong altogether: a loss that is no number, and one that no ignorance explains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean

from tunewright.spec.schema import TrainSpec
from tunewright.train.diagnosis import Diagnosis
from tunewright.train.history import History

USUAL_LR: float = TrainSpec.model_fields["lr"].default
_DEAD = 5
"""Steps without a gradient after which none will come back."""


def no_number(history: History) -> Diagnosis | None:
    """A loss or gradient that is no number. What went before tells the causes apart.

    float16 ends at 65,504: activations or gradients beyond it become infinite at any learning rate, while the loss
    before is as good as ever (Micikevicius et al. 2018, "Mixed Precision Training"). A learning rate that is too high
    needs updates to do its work, and other types have the range to show the loss rising first. Before the first update
    only the base model itself can be at fault.
    """
    place = next((n for n, row in enumerate(history.steps) if not is_number(row)), None)
    if place is None:
        return None
    row, before = history.steps[place], history.losses[:place]
    what = "loss" if not math.isfinite(row["loss"]) else "gradient"
    evidence = f"The {what} was no number at step {row['step']}, computed in {history.precision}"
    evidence += f"; the loss before: {', '.join(f'{loss:.2f}' for loss in before[-4:])}." if before else ", the first."
    half = history.precision == "float16"
    if half and not _skipped_in_vain(history, place) and what == "gradient":
        return None
    if half and (not before or max(before) < _hopeless(history)):
        return Diagnosis(
            "T008",
            "float16 overflow",
            "This model's activations or gradients are larger than float16 can hold (65,504).",
            f"{evidence} No loss before was high, so it is not the learning rate.",
            "Type: tunewright train … train.precision=bfloat16  (float32 where the GPU has no bfloat16)",
        )
    if not before:
        return Diagnosis(
            "T009",
            "the base model gives no number",
            "Nothing was learnt yet: the base model's weights are damaged, or it can't be computed in this type.",
            evidence,
            "Type: tunewright train … train.precision=float32  and if that does not help, fetch the base model again.",
        )
    return _too_high(history, evidence)


def lr_too_high(history: History) -> Diagnosis | None:
    """The loss goes to a level that a model which knows nothing would beat, or the gradient dies.

    Guessing by the labels' shares, and the untouched base model, are both known. A loss over the last steps of twice
    what either has is not noise of a batch: updates have overshot (Goodfellow et al. 2016, section 8.3.1). A step that
    goes far enough ends where everything is saturated: no gradient is left, and every text gets the same answer.
    """
    norms, began, guess = history.norms, history.start, history.facts.guessing
    known = f"the base model began with {began:.1f}, guessing gives {guess:.1f}. Largest gradient: {max(norms):.3g}."
    dead = norms[-_DEAD:] if len(norms) > 2 * _DEAD else []
    if dead and max(dead) < 1e-3 * norms[0] and history.end() > 0.5 * guess:
        return _too_high(
            history, f"The gradient died, with a loss of {history.end():.1f} nats left; {known} Last: {max(dead):.3g}."
        )
    window = history.window
    means = [fmean(history.losses[end - window : end]) for end in range(window, len(history.losses) + 1)]
    worst = max(means, default=0.0)
    if worst <= _hopeless(history):
        return None
    step = history.steps[means.index(worst) + window - 1]["step"]
    return _too_high(
        history, f"At step {step} the loss of an answer was {worst:.1f} nats, mean of {window} steps; {known}"
    )


def _too_high(history: History, evidence: str) -> Diagnosis:
    lr = history.settings.lr
    lower = USUAL_LR if lr > 10 * USUAL_LR else lr / 4
    return Diagnosis(
        "T001",
        "learning rate too high",
        "Each step overshoots, and the next one makes it worse.",
        f"{evidence} The peak of the learning rate was {lr:g}.",
        f"Type: tunewright train … train.lr={lower:g}",
    )


def is_number(row: Mapping[str, float]) -> bool:
    """Whether a step's loss and gradient are."""
    return math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"])


def _skipped_in_vain(history: History, place: int) -> bool:
    """Whether float16's loss scale has been lowered again and again, and steps are still left out.

    A scaled loss begins far too large on purpose; each infinite gradient halves the scale and skips one step.
    """
    skipped = [math.isfinite(row["loss"]) and not is_number(row) for row in history.steps[place:]]
    return sum(skipped) > 10 and all(skipped[-3:])


def _hopeless(history: History) -> float:
    """A loss that a model which knows nothing would beat by far."""
    return 2 * max(history.start, history.facts.guessing)

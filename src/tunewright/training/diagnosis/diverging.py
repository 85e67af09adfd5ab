"""Rules for trainings that diverge: a loss that is not a number, and one that is worse than guessing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from tunewright.training.diagnosis.diagnosis import Diagnosis
from tunewright.training.diagnosis.history import History

_DEAD = 5
"""Steps without a gradient after which none will return."""
_HALVINGS = 16
"""torch's loss scale for float16 begins at 2 to this power."""
_FIGURES = {"loss": "loss", "grad_norm": "gradient", "validation_loss": "validation loss"}


def no_number(history: History) -> Diagnosis | None:
    """A loss or gradient that is not a number. The losses before it tell the causes apart.

    float16 ends at 65,504: activations or gradients beyond it become infinite at any learning rate, while the loss
    before was as good as ever (Micikevicius et al. 2018, "Mixed Precision Training"). A learning rate that is too high
    takes effect through updates, and in other types the range is wide enough to show the loss rising first. Before the
    first update only the base model can be at fault.
    """
    half = history.precision == "float16"
    row = next((row for row in history.rows if not is_number(row, half)), None) or _skipped_in_vain(history)
    if row is None:
        return None
    before = [loss for loss, step in zip(history.losses, history.steps, strict=True) if step["step"] < row["step"]]
    (figure,) = [name for name in _FIGURES if not math.isfinite(row.get(name, 0.0))][:1]
    evidence = f"The {_FIGURES[figure]} was not a number at step {row['step']}, computed in {history.precision}"
    evidence += f"; the loss before: {', '.join(f'{loss:.2f}' for loss in before[-4:])}." if before else ", the first."
    if half and (not before or max(before) < _diverged_level(history)):
        return Diagnosis(
            "T008",
            "float16 overflow",
            "This model's activations or gradients are larger than float16's largest number (65,504).",
            f"{evidence} The loss was never high before, so the learning rate is not the cause.",
            "Type: tunewright train … train.precision=bfloat16  (float32 where the GPU has no bfloat16)",
        )
    if not before:
        return Diagnosis(
            "T009",
            "the base model gives no number",
            "No step was taken yet: the base model's weights are damaged, or this type can't hold its numbers.",
            evidence,
            "Type: tunewright train … train.precision=float32  (if it is float32 already, fetch the base model again)",
        )
    return _too_high(history, evidence)


def lr_too_high(history: History) -> Diagnosis | None:
    """The loss rises far above guessing, or the gradient dies.

    The loss of guessing by the labels' shares and that of the untouched base model are both known. If the loss over the
    last steps is twice the larger of them, that is not noise of a batch: updates have overshot (Goodfellow et al. 2016,
    section 8.3.1). After a step that is far too large everything is saturated: no gradient is left, and every text gets
    the same answer.
    """
    norms, guess = history.norms, history.facts.guessing
    reference = f"the base model began with {history.start:.1f}, guessing gives {guess:.1f}. Largest gradient norm: "
    reference += f"{max(norms, default=0.0):.3g}."
    dead = norms[-_DEAD:] if len(norms) > 2 * _DEAD else []
    if dead and max(dead) < 1e-3 * norms[0] and history.end() > 0.5 * guess:
        return _too_high(
            history,
            f"The gradient died, with a loss of {history.end():.1f} nats left; {reference} Last: {max(dead):.3g}.",
        )
    window = history.window
    means = [fmean(history.losses[end - window : end]) for end in range(window, len(history.losses) + 1)]
    worst = max(means, default=0.0)
    if worst <= _diverged_level(history):
        return None
    step = history.steps[means.index(worst) + window - 1]["step"]
    return _too_high(
        history, f"At step {step} the loss of an answer was {worst:.1f} nats, mean of {window} steps; {reference}"
    )


def _too_high(history: History, evidence: str) -> Diagnosis:
    lr, usual = history.settings.lr, history.usual_lr
    lower = usual if lr > 10 * usual else lr / 4
    return Diagnosis(
        "T001",
        "learning rate too high",
        "Each step overshoots, and the next one makes it worse.",
        f"{evidence} The peak of the learning rate was {lr:g}.",
        f"Type: tunewright train … {history.section}.lr={lower:g}",
    )


def is_number(row: Mapping[str, Any], half: bool) -> bool:
    """Whether the figures that were logged for a step or a measurement are numbers.

    Args:
        half: they were computed in float16, whose scaled gradients may be infinite: such a step is skipped.
    """
    return all(math.isfinite(row.get(name, 0.0)) for name in _FIGURES if not (half and name == "grad_norm"))


def _skipped_in_vain(history: History) -> dict[str, Any] | None:
    """The last step, if float16's loss scale has been halved down to 1 and the step was still skipped.

    The loss scale begins far too large on purpose; each infinite gradient halves it and skips one step.
    """
    last = history.steps[-_HALVINGS - 1 :]
    skipped = [row for row in last if not math.isfinite(row["grad_norm"])]
    return skipped[-1] if len(skipped) > _HALVINGS else None


def _diverged_level(history: History) -> float:
    """A loss far above that of a model which knows nothing.

    The loss at the start of a warm start says nothing about that, and for free answers no other level is known. There
    the level is based on a nat a token, which an untuned model hardly reaches.
    """
    unknown = history.facts.answer if history.warm and not history.facts.labels else 0.0
    return 2 * max(history.start, history.facts.guessing, unknown)

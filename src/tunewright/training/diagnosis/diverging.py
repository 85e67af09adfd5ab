"""The rules for trainings that go wrong altogether: a loss that is no number, and one that no ignorance explains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from tunewright.training.diagnosis.diagnosis import Diagnosis
from tunewright.training.diagnosis.history import History

_DEAD = 5
"""Steps without a gradient after which none will come back."""
_HALVINGS = 16
"""torch's loss scale for float16 begins at 2 to the power of this."""
_FIGURES = {"loss": "loss", "grad_norm": "gradient", "validation_loss": "validation loss"}


def no_number(history: History) -> Diagnosis | None:
    """A loss or gradient that is no number. What went before tells the causes apart.

    float16 ends at 65,504: activations or gradients beyond it become infinite at any learning rate, while the loss
    before is as good as ever (Micikevicius et al. 2018, "Mixed Precision Training"). A learning rate that is too high
    needs updates to do its work, and other types have the range to show the loss rising first. Before the first update
    only the base model itself can be at fault.
    """
    half = history.precision == "float16"
    row = next((row for row in history.rows if not is_number(row, half)), None) or _skipped_in_vain(history)
    if row is None:
        return None
    before = [loss for loss, step in zip(history.losses, history.steps, strict=True) if step["step"] < row["step"]]
    (figure,) = [name for name in _FIGURES if not math.isfinite(row.get(name, 0.0))][:1]
    evidence = f"The {_FIGURES[figure]} was no number at step {row['step']}, computed in {history.precision}"
    evidence += f"; the loss before: {', '.join(f'{loss:.2f}' for loss in before[-4:])}." if before else ", the first."
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
            "Type: tunewright train … train.precision=float32  (if it is that already, fetch the base model again)",
        )
    return _too_high(history, evidence)


def lr_too_high(history: History) -> Diagnosis | None:
    """The loss goes to a level that a model which knows nothing would beat, or the gradient dies.

    Guessing by the labels' shares, and the untouched base model, are both known. A loss over the last steps of twice
    what either has is not noise of a batch: updates have overshot (Goodfellow et al. 2016, section 8.3.1). A step that
    goes far enough ends where everything is saturated: no gradient is left, and every text gets the same answer.
    """
    norms, guess = history.norms, history.facts.guessing
    known = f"the base model began with {history.start:.1f}, guessing gives {guess:.1f}. Largest gradient norm: "
    known += f"{max(norms, default=0.0):.3g}."
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
    """Whether what was logged of a step or a measurement is one.

    Args:
        half: it was computed in float16, whose scaled gradients may be infinite: such a step is left out.
    """
    return all(math.isfinite(row.get(name, 0.0)) for name in _FIGURES if not (half and name == "grad_norm"))


def _skipped_in_vain(history: History) -> dict[str, Any] | None:
    """The last step, where float16's loss scale was halved so often that 1 is left of it, and it was still left out.

    A scaled loss begins far too large on purpose; each infinite gradient halves the scale and skips one step.
    """
    last = history.steps[-_HALVINGS - 1 :]
    skipped = [row for row in last if not math.isfinite(row["grad_norm"])]
    return skipped[-1] if len(skipped) > _HALVINGS else None


def _hopeless(history: History) -> float:
    """A loss that a model which knows nothing would beat by far.

    What a warm start begins with says nothing of that, and of free answers nothing else is known: there it is a nat a
    token, which an untuned model hardly has.
    """
    unknown = history.facts.answer if history.warm and not history.facts.labels else 0.0
    return 2 * max(history.start, history.facts.guessing, unknown)

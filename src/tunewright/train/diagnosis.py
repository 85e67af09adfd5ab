"""What is wrong with a training, told from its curve: the cause, the evidence for it, and what to change.

One function a cause, each a rule that can be followed by eye. Where one cause explains the whole curve, the others have
nothing left to explain: the first that fits is told. docs/diagnosis.md shows each on a real training, and how often the
rules were right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from tunewright.errors import UserError
from tunewright.spec.schema import TrainSpec
from tunewright.train.history import History

USUAL_LR: float = TrainSpec.model_fields["lr"].default
_DEAD = 5
"""Steps without a gradient after which none will come back."""
_ENOUGH_STEPS = 20
"""Fewer say nothing about the learning rate or the data."""


@dataclass(frozen=True)
class Diagnosis:
    code: str
    """T001 and so on; a code never changes its meaning."""
    title: str
    cause: str
    evidence: str
    """The figures that show it."""
    change: str
    """What to type or to do next."""

    def lines(self) -> list[str]:
        """For a terminal."""
        return [f"{self.code} {self.title}: {self.cause}", f"  {self.evidence}", f"  {self.change}"]


class Diverged(UserError):
    """A training that can't go on, and why."""

    def __init__(self, diagnosis: Diagnosis):
        self.diagnosis = diagnosis
        super().__init__(
            f"The training was ended. {diagnosis.code}: {diagnosis.title}.",
            why=f"{diagnosis.cause} {diagnosis.evidence}",
            fix=diagnosis.change,
        )


Rule = Callable[[History], Diagnosis | None]


def diagnose(history: History) -> list[Diagnosis]:
    """What can be said for certain by now; the rest of a training does not take it back."""
    found = masked_targets(history)
    if not history.steps:
        return [found] if found else []
    first = next((diagnosis for rule in CURVE_RULES if (diagnosis := rule(history))), None)
    return [diagnosis for diagnosis in (found, first) if diagnosis]


def joint(found: Sequence[Sequence[Diagnosis]]) -> list[Diagnosis]:
    """The diagnoses of several adapters of one training, each code once, with the evidence of the first that has it."""
    codes: dict[str, Diagnosis] = {}
    for diagnosis in (each for one in found for each in one):
        codes.setdefault(diagnosis.code, diagnosis)
    return [codes[code] for code in sorted(codes)]


def summary(found: Sequence[Diagnosis]) -> list[str]:
    """For the end of a training, on a terminal."""
    if not found:
        return ["diagnosis: nothing found in the curve"]
    return ["diagnosis:", *(f"  {line}" for diagnosis in found for line in diagnosis.lines())]


def masked_targets(history: History) -> Diagnosis | None:
    """Answers that are not learnt from: no token of theirs carries a label, or fewer than the answer has.

    Known before the first step. The encoder refuses such examples; a collator or a template of somebody's own may not.
    """
    facts = history.facts
    unlearnt, share = facts.learnt.count(0), fmean(facts.learnt) / facts.answer
    if not unlearnt and share > 0.99:
        return None
    return Diagnosis(
        "T006",
        "masked targets",
        "The loss leaves out tokens of the answers, so they are not learnt.",
        f"{unlearnt:,} of {len(facts.learnt):,} examples have no token that is learnt; in all {100 * share:.0f} % of "
        f"the answers' tokens are. Examples have up to {max(facts.lengths):,} tokens, train.max_length is "
        f"{history.settings.max_length:,}.",
        "Look at audit.txt: ⟦ ⟧ must enclose each answer. Put {% generation %} … {% endgeneration %} around the "
        "assistant's content in the chat template, and keep weights of 0 out of the data.",
    )


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
    if half and (not before or max(before) < _diverged(history)):
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
    norms, began, guess = _norms(history), _start(history), history.facts.guessing
    known = f"the base model began with {began:.1f}, guessing gives {guess:.1f}. Largest gradient: {max(norms):.3g}."
    dead = norms[-_DEAD:] if len(norms) > 2 * _DEAD else []
    if dead and max(dead) < 1e-3 * norms[0] and _end(history) > 0.5 * guess:
        return _too_high(
            history, f"The gradient died, with a loss of {_end(history):.1f} nats left; {known} Last: {max(dead):.3g}."
        )
    window = _window(history)
    means = [fmean(history.losses[end - window : end]) for end in range(window, len(history.losses) + 1)]
    worst = max(means, default=0.0)
    if worst <= _diverged(history):
        return None
    step = history.steps[means.index(worst) + window - 1]["step"]
    return _too_high(
        history, f"At step {step} the loss of an answer was {worst:.1f} nats, mean of {window} steps; {known}"
    )


def lr_too_low(history: History) -> Diagnosis | None:
    """Enough steps, and the loss has hardly moved from where the base model was.

    The validation loss, which has no noise from batch to batch, shows it: it stays where it was, though a model that
    merely learns how often each label occurs would move.
    """
    if not history.ended or history.planned < _ENOUGH_STEPS:
        return None
    start, end = _start(history), _end(history)
    still = _moved(history.validation) < 0.05 if len(history.validation) > 1 else start - end < 0.1 * start
    if not still or end < 0.5 * start:
        return None
    said = f", on the validation part {_listed(history.validation)}" if history.validation else ""
    return Diagnosis(
        "T002",
        "learning rate too low",
        "The weights hardly move.",
        f"In {history.planned} steps the loss of an answer went from {start:.2f} to {end:.2f} nats{said}; the peak "
        f"of the learning rate was {history.settings.lr:g}.",
        f"Type: tunewright train … train.lr={_higher(history.settings.lr):g}",
    )


def no_signal(history: History) -> Diagnosis | None:
    """The model has learnt how often each label occurs, and nothing from the texts.

    That knowledge has a known loss, the entropy of the labels, and a known accuracy, the majority's share. A model that
    moved, and whose answers to unseen texts are not better than both, has found nothing that carries over (Zhang et al.
    2017: networks fit random labels, and then know nothing about unseen ones).
    """
    measured = history.measured
    if not history.ended or not measured or history.planned < _ENOUGH_STEPS:
        return None
    count, guess = sum(history.facts.held.values()), history.facts.majority
    best = max(row["accuracy"] for row in measured)
    beyond_chance = guess + 1.645 * math.sqrt(guess * (1 - guess) / count)
    if best > beyond_chance + 0.02 or min(history.validation) < 0.9 * history.facts.guessing:
        return None
    return Diagnosis(
        "T004",
        "data that carries no signal",
        "The labels do not follow from the texts: they are shuffled against them, wrong, or decided by something that "
        "the texts do not say.",
        f"On {count} validation examples at best {100 * best:.1f} % are right; always the most frequent label: "
        f"{100 * guess:.1f} %. Loss of an answer at best {min(history.validation):.2f} nats; guessing by the labels' "
        f"shares: {history.facts.guessing:.2f}.",
        "Read ten rows: could you label them? Type: tunewright data check …  (D006 and D024 find contradicting labels)",
    )


def too_few_steps(history: History) -> Diagnosis | None:
    """It was still learning when it ended, and had much left to learn."""
    if not history.ended:
        return None
    end, left = _end(history), 0.2 * history.facts.guessing
    values = history.validation
    falling = values[-1] < 0.85 * values[-2] if len(values) > 1 else history.planned < _ENOUGH_STEPS
    if end < left or not (falling or history.planned < _ENOUGH_STEPS):
        return None
    settings = history.settings
    longer = f"train.epochs={3 * settings.epochs:g}"
    shown = f"; the validation loss, still falling: {_listed(values)}" if values else ""
    return Diagnosis(
        "T003",
        "too few steps",
        "The training ended while it was still learning.",
        f"{history.planned} steps, loss of an answer {_start(history):.2f} nats at first, {end:.2f} at the end{shown}.",
        f"Type: tunewright train … {'train.max_steps=null' if settings.max_steps else longer}",
    )


def overfitting(history: History) -> Diagnosis | None:
    """The loss on unseen examples rises while that on the training's own falls.

    A rise is told from noise by its size: a tenth, and a tenth of a nat, at the last two measurements.
    """
    values = history.validation
    if len(values) < 3:
        return None
    least = min(values[:-2])
    if min(values[-2:]) < 1.1 * least + 0.1:
        return None
    measured = history.measured[values.index(least)]
    early = _end(history, measured["step"])
    late = _end(history)
    if late > early:
        return None
    settings = history.settings
    epochs = settings.epochs * measured["step"] / history.planned
    return Diagnosis(
        "T005",
        "overfitting",
        "The model learns its training examples by heart.",
        f"From step {measured['step']} on the validation loss of an answer rose from {least:.2f} to {values[-1]:.2f} "
        f"nats while that of the training fell from {early:.2f} to {late:.2f}; accuracy "
        f"{100 * measured['accuracy']:.1f} % then, {100 * history.measured[-1]['accuracy']:.1f} % last.",
        f"Type: tunewright train … train.epochs={float(f'{epochs:.2g}'):g}  More examples help more.",
    )


def imbalance(history: History) -> Diagnosis | None:
    """Labels with few examples are answered far worse than the others.

    Few: less than a quarter of the mean. Their validation examples are taken together, because each has few of those
    too, and Fisher's exact test says whether the difference could be chance.
    """
    facts = history.facts
    limit = sum(facts.labels.values()) / len(facts.labels) / 4
    rare = [label for label, count in facts.labels.items() if count < limit]
    if not history.ended or not rare or not history.measured:
        return None
    from scipy.stats import fisher_exact

    right = history.measured[-1]["right"]
    table = [
        (sum(right.get(label, 0) for label in labels), sum(facts.held[label] for label in labels))
        for labels in ([label for label in facts.labels if label not in rare], rare)
    ]
    (often, of_often), (seldom, of_seldom) = table
    if not of_seldom or not of_often or often / of_often - seldom / of_seldom < 0.2:
        return None
    counts = [[often, of_often - often], [seldom, of_seldom - seldom]]
    if fisher_exact(counts, alternative="greater").pvalue > 0.01:
        return None
    named = ", ".join(f"{label} ({facts.labels[label]})" for label in rare[:6])
    return Diagnosis(
        "T007",
        "labels with too few examples",
        "The model has learnt to answer with the frequent labels.",
        f"{named} have less than a quarter of the mean of {4 * limit:.0f} training examples. Of their validation "
        f"examples {seldom} of {of_seldom} are answered right, of the others' {often} of {of_often}.",
        f"Add examples of these labels, at least {math.ceil(limit)} each, or join them with others in task.labels.",
    )


CURVE_RULES: tuple[Rule, ...] = (
    no_number, lr_too_high, lr_too_low, no_signal, too_few_steps, overfitting, imbalance,
)  # fmt: skip
"""The first that fits explains the curve; those behind it would only name its consequences."""


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


def _higher(lr: float) -> float:
    return USUAL_LR if lr < USUAL_LR / 10 else 4 * lr


def is_number(row: Mapping[str, float]) -> bool:
    """Whether a step's loss and gradient are."""
    return math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"])


def _norms(history: History) -> list[float]:
    return [row["grad_norm"] for row in history.steps]


def _skipped_in_vain(history: History, place: int) -> bool:
    """Whether float16's loss scale has been lowered again and again, and steps are still left out.

    A scaled loss begins far too large on purpose; each infinite gradient halves the scale and skips one step.
    """
    skipped = [math.isfinite(row["loss"]) and not is_number(row) for row in history.steps[place:]]
    return sum(skipped) > 10 and all(skipped[-3:])


def _diverged(history: History) -> float:
    return 2 * max(_start(history), history.facts.guessing)


def _window(history: History) -> int:
    return max(3, history.planned // 20)


def _start(history: History) -> float:
    """Mean loss of the first two steps, before the learning rate has risen: that of the base model."""
    return fmean(history.losses[:2])


def _end(history: History, step: int | None = None) -> float:
    """Mean loss of the last steps, or of those up to `step`."""
    losses = history.losses[:step]
    return fmean(losses[-_window(history) :])


def _moved(values: Sequence[float]) -> float:
    """How far apart the values lie, as a share of their mean."""
    return (max(values) - min(values)) / fmean(values)


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)

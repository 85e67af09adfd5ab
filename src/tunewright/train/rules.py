"""What is wrong with a training, told from its curve.

One function a cause, each a rule that can be followed by eye. Where one cause explains the whole curve, the others have
nothing left to explain: the first that fits is told. docs/diagnosis.md shows each on a real training, and how often the
rules were right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import fmean

from tunewright.train.diagnosis import Diagnosis
from tunewright.train.diverging import USUAL_LR, lr_too_high, no_number
from tunewright.train.history import ENOUGH_STEPS, History

Rule = Callable[[History], Diagnosis | None]


def diagnose(history: History) -> list[Diagnosis]:
    """What can be said for certain by now; the rest of a training does not take it back."""
    masked = masked_targets(history)
    # A loss that leaves tokens out says little about learning, but that it goes wrong altogether.
    rules = CURVE_RULES[:2] if masked else CURVE_RULES
    first = next((diagnosis for rule in rules if history.rows and (diagnosis := rule(history))), None)
    return [diagnosis for diagnosis in (masked, first) if diagnosis]


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
        f"{100 * share:.0f} % of the answers' tokens are learnt; {unlearnt:,} of {len(facts.learnt):,} examples have "
        f"none. Examples are up to {max(facts.lengths):,} tokens long, of {history.settings.max_length:,} allowed.",
        "Look at audit.txt: ⟦ ⟧ must enclose each answer. Put {% generation %} … {% endgeneration %} around the "
        "assistant's content in the chat template, and keep weights of 0 out of the data.",
    )


def lr_too_low(history: History) -> Diagnosis | None:
    """Enough steps, and the loss has hardly moved from where the base model was.

    The validation loss, which has no noise from batch to batch, shows it: it stays where it was, though a model that
    merely learns how often each label occurs would move.
    """
    if not history.far:
        return None
    start, end = history.start, history.end()
    still = _moved(history.validation) < 0.05 if len(history.validation) > 1 else start - end < 0.1 * start
    if not still or end < 0.5 * start:
        return None
    said = f", on the validation part {_listed(history.validation)}" if history.validation else ""
    return Diagnosis(
        "T002",
        "learning rate too low",
        "The weights hardly move.",
        f"In {len(history.steps)} steps the loss of an answer went from {start:.2f} to {end:.2f} nats{said}; the peak "
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
    if not history.far or not measured or not history.facts.labels:
        return None
    count, guess = sum(history.facts.held.values()), history.facts.majority
    best = max(row["headline"] for row in measured)
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
        "Read ten rows: could you label them? Type: tunewright data check …  (D006, D014: labels that contradict)",
    )


def too_few_steps(history: History) -> Diagnosis | None:
    """It was still learning when it ended, and had much left to learn."""
    if not history.ended:
        return None
    end, left = history.end(), 0.2 * history.facts.guessing if history.facts.labels else 0.1 * history.start
    values = history.validation
    falling = values[-1] < 0.85 * values[-2] if len(values) > 1 else history.planned < ENOUGH_STEPS
    if end < left or not (falling or history.planned < ENOUGH_STEPS):
        return None
    settings = history.settings
    longer = f"train.epochs={3 * settings.epochs:g}"
    shown = f"; the validation loss, still falling: {_listed(values)}" if values else ""
    return Diagnosis(
        "T003",
        "too few steps",
        "The training ended while it was still learning.",
        f"{len(history.steps)} steps, loss of an answer {history.start:.2f} nats at first, {end:.2f} last{shown}.",
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
    if min(values[-2:]) < max(1.1 * least, least + 0.1):
        return None
    measured = history.measured[values.index(least)]
    early = history.end(measured["step"])
    late = history.end()
    if late > early:
        return None
    settings = history.settings
    epochs = settings.epochs * measured["step"] / history.planned
    return Diagnosis(
        "T005",
        "overfitting",
        "The model learns its training examples by heart.",
        f"From step {measured['step']} on the validation loss of an answer rose from {least:.2f} to {values[-1]:.2f} "
        f"nats while that of the training fell from {early:.2f} to {late:.2f}; {history.facts.measure} "
        f"{100 * measured['headline']:.1f} % then, {100 * history.measured[-1]['headline']:.1f} % last.",
        f"Type: tunewright train … train.epochs={float(f'{epochs:.2g}'):g}  More examples help more.",
    )


def imbalance(history: History) -> Diagnosis | None:
    """Labels with few examples are answered far worse than the others.

    Few: less than a quarter of the mean. Their validation examples are taken together, because each has few of those
    too, and Fisher's exact test says whether the difference could be chance.
    """
    facts = history.facts
    if not facts.labels:
        return None
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


def _higher(lr: float) -> float:
    return USUAL_LR if lr < USUAL_LR / 10 else 4 * lr


def _moved(values: Sequence[float]) -> float:
    """How far apart the values lie, as a share of their mean."""
    return (max(values) - min(values)) / fmean(values)


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)

"""Diagnoses a training from its curve.

There is one function for each cause, and each is a rule that can be checked by eye. The first rule that fits is
reported: if one cause explains the whole curve, the others have nothing left to explain. docs/diagnosis.md shows each
on a real training, and how often the rules were right.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np

from tunewright.training.diagnosis.chance import highest_share
from tunewright.training.diagnosis.diagnosis import Diagnosis
from tunewright.training.diagnosis.diverging import lr_too_high, no_number
from tunewright.training.diagnosis.history import ENOUGH_STEPS, History

_LITTLE = 0.25
"""Share of the answers: a model that found something in the texts gets so many more right than one that guesses."""

Rule = Callable[[History], Diagnosis | None]


def diagnose(history: History) -> list[Diagnosis]:
    """The diagnoses that are certain by now; the rest of the training does not take them back."""
    masked = masked_targets(history)
    # A loss that masks tokens says little about learning, but still shows divergence.
    rules = CURVE_RULES[:2] if masked else CURVE_RULES
    first = next((diagnosis for rule in rules if history.rows and (diagnosis := rule(history))), None)
    return [diagnosis for diagnosis in (masked, first) if diagnosis]


def masked_targets(history: History) -> Diagnosis | None:
    """Answers that are not learnt: none of their tokens is labelled, or fewer than the answer has.

    Known before the first step. Tunewright's encoding refuses such examples; a user's own collator or template may not.
    """
    facts = history.facts
    unlearnt, share = facts.learnt.count(0), fmean(facts.learnt) / facts.answer
    if not unlearnt and share > 0.99:
        return None
    return Diagnosis(
        "T006",
        "masked targets",
        "The loss ignores tokens of the answers, so they are not learnt.",
        f"{100 * share:.0f} % of the answers' tokens are learnt; {unlearnt:,} of {len(facts.learnt):,} examples have "
        f"none. Examples are up to {max(facts.lengths):,} tokens long, of {history.settings.max_length:,} allowed.",
        "Look at audit.txt: ⟦ ⟧ must enclose each answer. Put {% generation %} … {% endgeneration %} around the "
        "assistant's content in the chat template, and keep weights of 0 out of the data.",
    )


def lr_too_low(history: History) -> Diagnosis | None:
    """After enough steps the loss has hardly moved from the base model's.

    The mean loss also stands still when a model has learnt what there is to learn, but then the losses of single
    validation examples keep moving up and down. Here nothing moves. A warm start that already knows more than guessing
    may have little left to move for.
    """
    if not history.far:
        return None
    start, end, guessing, values = history.start, history.end(), history.facts.guessing, history.validation
    level = values[-1] if values else end
    if end < 0.5 * start or level < 0.1 * guessing or (history.warm and (not guessing or level < 0.8 * guessing)):
        return None
    if not (_moved(history) < 0.05 if len(values) > 1 else _stands_still(history.losses)):
        return None
    validation = f", on the validation part {_listed(values)}" if values else ""
    return Diagnosis(
        "T002",
        "learning rate too low",
        "The weights hardly move.",
        f"In {len(history.steps)} steps the loss of an answer went from {start:.2f} to {end:.2f} nats{validation}; the "
        f"peak of the learning rate was {history.settings.lr:g}.",
        f"Type: tunewright train … {history.section}.lr={_higher(history):g}",
    )


def no_signal(history: History) -> Diagnosis | None:
    """The model has learnt how often each label occurs, and nothing from the texts.

    Knowing only the labels' shares has a known loss, the entropy of the labels, and a known accuracy, the majority's
    share. If a model has moved and its answers to unseen texts are no better than both, it has found nothing that
    generalises (Zhang et al. 2017: networks fit random labels, and then know nothing about unseen ones).
    """
    measured = history.measured
    if not history.far or not measured or not history.facts.labels:
        return None
    count, guess = sum(history.facts.held.values()), history.facts.majority
    best = max(fmean(row["scores"]) for row in measured)  # each example once, as in the majority's share
    beyond_chance = guess + 1.645 * math.sqrt(guess * (1 - guess) / count)
    if best > beyond_chance + 0.02 or min(history.validation) < 0.9 * history.facts.guessing:
        return None
    if highest_share(best, history.facts.groups) > guess + _LITTLE:
        return None  # too few examples to show that nothing was found
    return Diagnosis(
        "T004",
        "data that carries no signal",
        "The labels do not follow from the texts: they are shuffled against the texts, wrong, or decided by something "
        "that the texts do not say.",
        f"On {count} validation examples at best {100 * best:.1f} % are right; always giving the most frequent label: "
        f"{100 * guess:.1f} %. Loss of an answer at best {min(history.validation):.2f} nats; guessing by the labels' "
        f"shares: {history.facts.guessing:.2f}.",
        "Read ten rows: could you label them? Type: tunewright data check …  (D006, D014: labels that contradict)",
    )


def too_few_steps(history: History) -> Diagnosis | None:
    """The model was still learning when the training ended, and had much left to learn."""
    if not history.ended:
        return None
    values, guessing = history.validation, history.facts.guessing
    end, left = history.end(), 0.2 * guessing if guessing else 0.1 * history.start
    few = history.planned < ENOUGH_STEPS and not (history.warm and not guessing)
    if end < left or not (few or _still_learning(history)):
        return None
    settings = history.settings
    is_cut = settings.max_steps == history.planned
    longer = "train.max_steps=null" if is_cut else f"{history.section}.epochs={3 * settings.epochs:g}"
    shown = f"; the validation loss, still falling: {_listed(values)}" if values else ""
    return Diagnosis(
        "T003",
        "too few steps",
        "The training ended while it was still learning.",
        f"{len(history.steps)} steps, loss of an answer {history.start:.2f} nats at first, {end:.2f} last{shown}.",
        f"Type: tunewright train … {longer}",
    )


def overfitting(history: History) -> Diagnosis | None:
    """The loss on unseen examples rises while the training loss falls.

    The rule needs three things. The loss rose by a tenth, and by a tenth of a nat, beyond chance, at both of the last
    two measurements. The answers got no better beyond chance meanwhile, because probabilities may become too sure while
    the answers still improve. The examples were seen before: a model can't memorise what it sees for the first time,
    and a training of less than an epoch would leave examples out.
    """
    again = [row for row in history.measured if row["epoch"] > 1 - 1e-6]
    if len(again) < 3:
        return None
    values = [fmean(row["losses"]) for row in again]
    measured = again[values.index(min(values[:-2]))]
    least, rises = min(values[:-2]), [history.rise(measured, row) for row in again[-2:]]
    if min(rise.least for rise in rises) <= 0 or min(rise.mean for rise in rises) < max(0.1 * least, 0.1):
        return None
    early, late = history.end(measured["step"]), history.end()
    if late > early or history.rise(measured, again[-1], "scores").least > 0:
        return None
    epochs = measured["epoch"]
    return Diagnosis(
        "T005",
        "overfitting",
        "The model memorises its training examples.",
        f"From step {measured['step']} on the validation loss of an answer rose from {least:.2f} to {values[-1]:.2f} "
        f"nats while that of the training fell from {early:.2f} to {late:.2f}; {history.facts.measure} "
        f"{100 * measured['primary_metric']:.1f} % then, {100 * history.measured[-1]['primary_metric']:.1f} % last.",
        f"Type: tunewright train … {history.section}.epochs={max(1, round(epochs, 1)):g}  More examples help more.",
    )


def imbalance(history: History) -> Diagnosis | None:
    """Labels with few examples get far worse answers than the others.

    Few means less than a quarter of the mean. Each of these labels also has few validation examples, so they are
    pooled, and Fisher's exact test says whether the difference could be chance. The test counts examples of one group
    as one.
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
    (often, of_often), (seldom, of_seldom) = (
        (sum(right.get(label, 0) for label in labels), sum(facts.held[label] for label in labels))
        for labels in ([label for label in facts.labels if label not in rare], rare)
    )
    if not of_seldom or not of_often or often / of_often - seldom / of_seldom < 0.2:
        return None
    counts = [_of_groups(history, few=few, rare=rare) for few in (False, True)]
    if fisher_exact(counts, alternative="greater").pvalue > 0.01:
        return None
    named = ", ".join(f"{label} ({facts.labels[label]})" for label in rare[:6])
    return Diagnosis(
        "T007",
        "labels with too few examples",
        "The model has learnt to answer with the frequent labels.",
        f"{named} have less than a quarter of the mean of {4 * limit:.0f} training examples. {seldom} of "
        f"{of_seldom} validation examples with these labels are answered right, {often} of {of_often} of the others.",
        f"Add examples of these labels, at least {math.ceil(limit)} each, or merge them with others in task.labels.",
    )


CURVE_RULES: tuple[Rule, ...] = (
    no_number,
    lr_too_high,
    lr_too_low,
    no_signal,
    too_few_steps,
    overfitting,
    imbalance,
)
"""The first rule that fits explains the curve; later ones would only name its consequences."""


def _higher(history: History) -> float:
    lr, usual = history.settings.lr, history.usual_lr
    return usual if lr < usual / 10 else 4 * lr


def _moved(history: History) -> float:
    """How far the loss of a validation example has moved since the first measurement, as a share of the mean loss."""
    first, last = (history.measured[place]["losses"] for place in (0, -1))
    return fmean(abs(one - other) for one, other in zip(first, last, strict=True)) / fmean(first)


def _stands_still(losses: Sequence[float]) -> bool:
    """Whether the losses of batches fell by less than a tenth, and certainly by less than a fifth."""
    third = len(losses) // 3
    first, last = np.array(losses[:third]), np.array(losses[-third:])
    fall, error = first.mean() - last.mean(), math.sqrt((first.var(ddof=1) + last.var(ddof=1)) / third)
    return bool(fall < 0.1 * first.mean() and fall + 1.645 * error < 0.2 * first.mean())


def _still_learning(history: History) -> bool:
    """Whether the validation loss fell by 15 % or more, beyond chance, since the last measurement but one."""
    if len(history.measured) < 2:
        return False
    fall = history.rise(history.measured[-1], history.measured[-2])
    return fall.least > 0 and fall.mean > 0.15 * history.validation[-2]


def _of_groups(history: History, *, few: bool, rare: Sequence[str]) -> list[int]:
    """Number of groups of validation examples that are answered right, and of others, among the rare labels or the
    rest.

    Args:
        few: count the rare labels.
    """
    facts, marks = history.facts, defaultdict[tuple[str, str], list[float]](list)
    groups = facts.groups or list(map(str, range(len(facts.answers))))
    for group, answer, scores in zip(groups, facts.answers, history.measured[-1]["scores"], strict=True):
        if (answer in rare) == few:
            marks[answer, group].append(scores)
    right = round(sum(map(fmean, marks.values())))
    return [right, len(marks) - right]


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values)

"""The statistics of a validation part, and the rules' diagnoses on examples that fail together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import make_spec
from tunewright.training.diagnosis.chance import change, highest_share
from tunewright.training.diagnosis.history import History, TrainingFacts
from tunewright.training.diagnosis.rules import diagnose

DRAWS = 200
LABELS = [f"l{n}" for n in range(8)]


def grouped(groups: int, size: int) -> list[str]:
    return [f"g{n // size}" for n in range(groups * size)]


def values(
    draw: np.random.Generator, groups: int, size: int, mean: float, between: float, within: float
) -> list[float]:
    of_group = np.repeat(draw.normal(mean, between, groups), size)
    return list(of_group + draw.normal(0, within, groups * size))


@pytest.mark.slow
@pytest.mark.parametrize("groups", [8, 16, 64])
def test_a_change_is_beyond_chance_in_one_of_twenty_where_there_is_none(groups: int) -> None:
    """Both ends of the interval. If the rows of a group counted as independent, it would be three of ten."""
    draw, names = np.random.default_rng(0), grouped(groups, 8)
    intervals = [change([0.0] * len(names), values(draw, groups, 8, 0.0, 1.0, 0.5), names) for _ in range(2000)]
    for outside in (sum(one.least > 0 for one in intervals), sum(one.most < 0 for one in intervals)):
        assert 0.03 < outside / len(intervals) < 0.07


def test_one_group_shows_nothing() -> None:
    assert change([0.0, 0.0], [1.0, 1.0], ["a", "a"]).least == -np.inf
    assert highest_share(0.0, ["a", "a"]) == 1.0


def test_examples_without_groups_stand_by_themselves() -> None:
    after = [0.1, 0.3, 0.2, 0.5]
    assert change([0.0] * 4, after, []) == change([0.0] * 4, after, list("abcd"))


@pytest.mark.slow
@pytest.mark.parametrize("units", [8, 30, 100])
def test_a_share_lies_above_its_highest_in_one_of_twenty(units: int) -> None:
    draw, names = np.random.default_rng(1), [str(n) for n in range(units)]
    above = [highest_share(draw.binomial(units, 0.3) / units, names) < 0.3 for _ in range(4000)]
    assert np.mean(above) < 0.07


Measurement = tuple[float, list[float], list[float]]
"""Epochs seen, each example's loss and its answer's score."""


def history(
    measured: list[Measurement],
    groups: list[str],
    *,
    last: float = 0.1,
    first: float = 2.0,
    steps: int = 40,
    **settings: Any,
) -> History:
    """A training on eight labels whose loss falls from `first` to `last`."""
    answers = [LABELS[n % 8] for n in range(len(groups))]
    rows: list[dict[str, Any]] = []
    due = {round(steps * (place + 1) / len(measured)): each for place, each in enumerate(measured)}
    for step in range(1, steps + 1):
        loss = first + (last - first) * min(1.0, 1.5 * step / steps) if step > 2 else first
        rows.append({"step": step, "loss": loss, "lr": 1e-3, "grad_norm": 1.0})
        if step in due:
            epoch, losses, scores = due[step]
            right = dict.fromkeys(LABELS, 0)
            for answer, mark in zip(answers, scores, strict=True):
                right[answer] += mark == 1
            rows.append(
                {
                    "step": step,
                    "epoch": epoch,
                    "validation_loss": float(np.mean(losses)),
                    "right": right,
                    "primary_metric": float(np.mean(scores)),
                    "scores": scores,
                    "losses": losses,
                }
            )
    facts = TrainingFacts(
        dict.fromkeys(LABELS, 40),
        {label: answers.count(label) for label in LABELS},
        1.0,
        [1] * 320,
        [50] * 320,
        groups=groups,
        answers=answers,
    )
    spec = make_spec().train.model_copy(update={"epochs": 4.0, "lr": 1e-3, **settings})
    return History(spec, facts, "float32", steps, True, rows)


def codes(found: History) -> list[str]:
    return [diagnosis.code for diagnosis in diagnose(found)]


def reported(code: str, make: Callable[[np.random.Generator], History]) -> float:
    """The share of draws in which a code is reported."""
    draw = np.random.default_rng(0)
    return float(np.mean([code in codes(make(draw)) for _ in range(DRAWS)]))


def wandering(
    draw: np.random.Generator,
    rises: tuple[float, ...],
    groups: list[str],
    scores: float = 0.7,
    epochs: float = 4.0,
    **other: Any,
) -> History:
    """A training whose mean loss changes by `rises` between measurements, while each group also moves at random."""
    units, marks = len(set(groups)), []
    level = np.array(values(draw, units, len(groups) // units, 3.0, 0.3, 0.2))
    right = list(map(float, draw.random(len(groups)) < scores))
    for place, rise in enumerate(rises):
        level = level + np.repeat(draw.normal(rise, 0.6, units), len(groups) // units)
        marks.append((epochs * (place + 1) / len(rises), list(map(float, level)), right))
    return history(marks, groups, **other)


STEADY = (0.0, 0.0, 0.0, 0.0)
RISING = (0.0, 0.6, 0.6, 0.6)


@pytest.mark.slow
def test_few_groups_that_wander_are_no_overfitting() -> None:
    assert reported("T005", lambda draw: wandering(draw, STEADY, grouped(8, 8))) <= 0.05


@pytest.mark.slow
def test_a_rise_on_many_examples_is_overfitting() -> None:
    assert reported("T005", lambda draw: wandering(draw, RISING, grouped(64, 1))) >= 0.95


@pytest.mark.slow
def test_examples_that_were_seen_once_are_not_memorised() -> None:
    assert reported("T005", lambda draw: wandering(draw, RISING, grouped(64, 1), epochs=1.0)) == 0


@pytest.mark.slow
def test_answers_that_get_better_are_no_overfitting_though_probabilities_become_too_sure() -> None:
    def improving(draw: np.random.Generator) -> History:
        training = wandering(draw, RISING, grouped(64, 1))
        best = [row for row in training.rows if "losses" in row][-1]
        better = best | {"scores": [1.0] * 64, "primary_metric": 1.0}
        return replace(training, rows=[better if row is best else row for row in training.rows])

    assert reported("T005", improving) == 0


def test_a_shorter_training_is_never_advised_below_an_epoch() -> None:
    trainings = [wandering(np.random.default_rng(seed), RISING, grouped(64, 1)) for seed in range(20)]
    changes = [each.change for one in trainings for each in diagnose(one) if each.code == "T005"]
    advised = [float(change.split("train.epochs=")[1].split()[0]) for change in changes]
    assert advised
    assert min(advised) >= 1


@pytest.mark.slow
def test_a_fall_within_chance_is_no_reason_to_train_longer() -> None:
    few, many = ((lambda draw, at=at: wandering(draw, STEADY, at, last=1.0)) for at in (grouped(8, 8), grouped(64, 1)))
    assert reported("T003", few) <= 0.05
    assert reported("T003", many) <= 0.05
    falling = (-0.1, -0.1, -0.1, -0.6)
    assert reported("T003", lambda draw: wandering(draw, falling, grouped(128, 1), last=1.0)) >= 0.8


def still(level: float, moves: float, **settings: Any) -> History:
    """A training whose mean loss stands still; each example's loss moves by `moves`, up or down."""
    signs, groups = [1, -1] * 32, grouped(64, 1)
    marks = [(float(n), [level + sign * moves * n for sign in signs], [0.0] * 64) for n in (0, 1)]
    return history(marks, groups, first=level, last=level, **settings)


def test_a_warm_start_with_little_left_to_learn_needs_no_higher_rate(tmp_path: Path) -> None:
    warm = {"init_adapter": tmp_path}
    assert codes(still(0.5, 0.01)) == ["T002"], "a base model knows less"
    assert "T002" not in codes(still(0.5, 0.01, **warm))
    assert codes(still(2.05, 0.01, **warm)) == ["T002"], "a warm start that knows nothing has everything to learn"


def test_losses_that_move_both_ways_are_no_low_rate() -> None:
    assert "T002" not in codes(still(1.9, 0.4))
    assert codes(still(1.9, 0.02)) == ["T002"]


def test_a_model_that_has_learnt_everything_needs_no_higher_rate() -> None:
    assert "T002" not in codes(still(0.1, 0.001))


def test_a_handful_of_groups_does_not_show_that_data_carry_no_signal() -> None:
    def unlearnt(groups: list[str]) -> History:
        # An eighth is right, as if one label were always given.
        scores = [float(n % 8 == 0) for n in range(len(groups))]
        marks = [(epoch, [2.2 + 0.3 * (-1) ** n * epoch for n in range(len(groups))], scores) for epoch in (1.0, 2.0)]
        return history(marks, groups, last=2.0)

    assert "T004" not in codes(unlearnt(grouped(4, 8)))
    assert "T004" in codes(unlearnt(grouped(128, 1)))


def test_one_group_of_a_rare_label_is_one_example() -> None:
    """All eight examples of the rare label come from one customer, and fail."""
    groups = ["rare" if n % 8 == 0 else f"g{n}" for n in range(64)]
    alone = [f"g{n}" for n in range(64)]
    scores = [float(n % 8 != 0) for n in range(64)]
    for names, expected in ((groups, []), (alone, ["T007"])):
        training = history([(2.0, [0.3] * 64, scores), (4.0, [0.3] * 64, scores)], names)
        few = replace(training.facts, labels=training.facts.labels | {"l0": 2})
        assert codes(replace(training, facts=few)) == expected


def test_a_short_warm_start_on_texts_needs_no_longer_training(tmp_path: Path) -> None:
    training = history([(1.0, [0.3] * 16, [0.5] * 16)], grouped(16, 1), first=0.32, last=0.3, steps=10)
    texts = replace(training.facts, labels={}, held={}, answers=[])
    warm = training.settings.model_copy(update={"init_adapter": tmp_path})
    assert codes(replace(training, facts=texts)) == ["T003"]
    assert codes(replace(training, facts=texts, settings=warm)) == []


def test_a_warm_start_whose_batches_differ_does_not_diverge(tmp_path: Path) -> None:
    """Answers of twenty tokens: 0.3 nats at first, 1.2 in the hardest batches."""
    training = history([], [], first=0.3, last=1.2)
    texts = replace(training.facts, labels={}, held={}, answer=20.0, learnt=[20] * 320)
    scaled = [row | {"loss": row["loss"] / 20} for row in training.rows]
    cold = replace(training, facts=texts, rows=scaled)
    assert codes(cold) == ["T001"]
    assert codes(replace(cold, settings=training.settings.model_copy(update={"init_adapter": tmp_path}))) == []

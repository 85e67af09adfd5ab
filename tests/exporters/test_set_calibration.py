"""Several labels a text: what thresholds and confidence that were fitted on some examples are worth on others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tunewright.data.label_sets import held
from tunewright.exporters.set_calibration import calibrate_sets, folds_of
from tunewright.inference.calibration import UNCALIBRATED, Calibration, calibration_noise, expected_calibration_error
from tunewright.inference.predictors import LabelSetClassifier
from tunewright.inference.thresholds import LEAST_POSITIVE, Floats, expected_f1, sigmoid
from tunewright.tasks import Example, Meta, MultiLabelTask

LABELS = [f"label {number}" for number in range(12)]
TASK = MultiLabelTask("Which hold?", dict.fromkeys(LABELS, ""))
TOO_SURE = 2.5
"""By which the model's logits are too large."""


class Numbers:
    """A tokenizer that reads a number."""

    def encode_framed(self, text: str) -> list[int]:
        return [int(text)]


class World:
    """Examples whose labels hold with known probabilities, and a model that is too sure of them.

    The first labels are common, the last rare.
    """

    def __init__(self, count: int, seed: int = 0):
        draw = np.random.default_rng(seed)
        usual = np.geomspace(0.3, 0.001, len(LABELS))
        true = draw.normal(np.log(usual / (1 - usual)), 2.0, (count, len(LABELS)))
        self.logits = TOO_SURE * true
        gold = draw.random(true.shape) < sigmoid(true)
        self.examples = [
            Example.of(str(row), TASK.written_out(np.array(LABELS)[gold[row]].tolist()), Meta(id=str(row)))
            for row in range(count)
        ]

    def model(self, calibration: Calibration = UNCALIBRATED) -> LabelSetClassifier:
        def logits(prompts: Sequence[Sequence[int]]) -> list[Any]:
            return [self.logits[number] for (number,) in prompts]

        return LabelSetClassifier(logits, TASK, Numbers(), calibration)

    def calibrated(self, count: int) -> tuple[Calibration, list[float]]:
        """By its first examples."""
        some = self.examples[:count]
        return calibrate_sets(self.model(), TASK, some, [1.0] * count, [[example] for example in some])

    def score(self, calibration: Calibration, examples: Sequence[Example]) -> tuple[Floats, Floats, float]:
        """(confidence in each answer, what each is worth, the micro-F1 of all)."""
        answers = self.model(calibration).answers([example.request for example in examples])
        measured = [
            TASK.measures("", example.answer, answer.text)["micro-F1"]
            for example, answer in zip(examples, answers, strict=True)
        ]
        sure = np.array([answer.confidence for answer in answers])
        whole = sum(each.part for each in measured) / sum(each.whole for each in measured)
        return sure, np.array([each.score for each in measured]), whole


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_confidence_is_the_expected_score_of_unseen_answers(seed: int) -> None:
    world = World(5000, seed)
    result, _ = world.calibrated(1000)
    sure, score, _ = world.score(result, world.examples[1000:])
    noise = calibration_noise(sure.tolist())
    assert expected_calibration_error(sure.tolist(), score.tolist()) < 0.02 + noise
    assert sure.mean() == pytest.approx(score.mean(), abs=0.03)
    before, score, _ = world.score(Calibration(), world.examples[1000:])
    assert expected_calibration_error(before.tolist(), score.tolist()) > 0.05 + noise


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_thresholds_reach_more_on_unseen_texts_than_even_odds(seed: int) -> None:
    world = World(5000, seed)
    result, _ = world.calibrated(1000)
    assert world.score(result, world.examples[1000:])[2] > world.score(Calibration(), world.examples[1000:])[2] + 0.005


@pytest.mark.slow
def test_the_probability_of_a_label_is_how_often_it_holds() -> None:
    world = World(6000)
    result, _ = world.calibrated(1000)
    assert result.decisions
    assert result.decisions.temperature == pytest.approx(TOO_SURE, rel=0.15)
    probabilities = result.decisions.probabilities(world.logits[1000:])
    gold = held(TASK, world.examples[1000:])
    for low in np.arange(0, 1, 0.2):
        here = (probabilities >= low) & (probabilities < low + 0.2)
        assert gold[here].mean() == pytest.approx(probabilities[here].mean(), abs=0.04)


def test_an_answer_tells_its_labels_with_the_probability_of_each() -> None:
    world = World(1200)
    result, sure = world.calibrated(1000)
    model = world.model(result)
    answer, everything = model.with_probabilities([7])
    assert list(everything) == LABELS
    assert answer.labels == {label: everything[label] for label in answer.labels}
    assert answer.text == TASK.written_out(answer.labels)
    assert result.decisions
    given = [label in answer.labels for label in LABELS]
    assert [everything[label] >= at for label, at in zip(LABELS, result.decisions.thresholds, strict=True)] == given
    likely = expected_f1(np.array(list(everything.values())), np.array(given))
    assert answer.uncalibrated == pytest.approx(likely)
    assert answer.confidence == pytest.approx(result.of_answer(likely))
    assert sure[7] == pytest.approx(answer.confidence)


def test_rare_labels_share_one_threshold(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(1000)
    world.logits[:, ::2] += 6.0  # its probabilities are wrong for every other label
    result, _ = world.calibrated(400)
    assert result.decisions
    counts = held(TASK, world.examples[:400]).sum(0)
    assert list(result.decisions.pooled) == (counts < LEAST_POSITIVE).tolist()
    rare = [label for label, count in zip(LABELS, counts, strict=True) if count < LEAST_POSITIVE]
    assert 0 < len(rare) < len(LABELS)
    printed = "".join(capsys.readouterr())
    assert f"thresholds: {len(LABELS) - len(rare)} labels have their own" in printed
    assert f"{', '.join(rare)} share one" in printed


@pytest.mark.slow
def test_where_own_thresholds_show_no_gain_there_is_one_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    result, _ = World(1000, seed=2).calibrated(1000)
    assert result.decisions
    assert result.decisions.pooled == (True,) * len(LABELS)
    assert len(set(result.decisions.thresholds)) == 1
    assert "for every label: no label was seen to do better with its own" in "".join(capsys.readouterr())


def test_few_examples_choose_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(40)
    few = int(held(TASK, world.examples).sum(1).cumsum().searchsorted(20))
    result, sure = world.calibrated(few)
    assert result == Calibration()
    assert len(sure) == few
    assert world.calibrated(few + 1)[0].decisions, "twenty labels that hold are enough for one threshold"
    assert "50 % for every label" in "".join(capsys.readouterr())
    copies = world.examples[:40]
    result, _ = calibrate_sets(world.model(), TASK, copies, [0.1] * 40, [[example] for example in copies])
    assert result == Calibration(), "copies count as one"


def test_examples_of_one_block_are_in_one_fold() -> None:
    examples = World(9).examples
    folds = folds_of(examples, [examples[:4], examples[4:5], examples[5:]])
    assert folds.tolist() == [0, 0, 0, 0, 1, 2, 2, 2, 2]


def test_a_calibration_survives_its_file() -> None:
    result, _ = World(400).calibrated(400)
    assert Calibration.model_validate_json(result.model_dump_json()) == result

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tunewright.inference.calibration import (
    CALIBRATION,
    FALSE_ALARMS,
    MIN_EXAMPLES,
    UNCALIBRATED,
    Calibration,
    bins,
    calibration_noise,
    expected_calibration_error,
    fit_answers,
    fit_labels,
    load_calibration,
    save_calibration,
    scope,
)

COUNT = 4000


def drawn(temperature: float, seed: int = 0, count: int = COUNT) -> tuple[np.ndarray, list[int]]:
    """Log-probabilities over six labels of a model that is `temperature` times as sure as it should be, and the right
    labels."""
    random = np.random.default_rng(seed)
    true = random.normal(0, 2, (count, 6))
    true -= np.logaddexp.reduce(true, axis=1, keepdims=True)
    gold = [int(random.choice(6, p=np.exp(row))) for row in true]
    said = true * temperature
    return said - np.logaddexp.reduce(said, axis=1, keepdims=True), gold


def error_of(probabilities: np.ndarray, gold: list[int]) -> float:
    answers = probabilities.argmax(1)
    return expected_calibration_error(probabilities.max(1).tolist(), (answers == gold).astype(float).tolist())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
def test_the_temperature_is_found_again(temperature: float) -> None:
    scores, gold = drawn(temperature)
    assert fit_labels(scores, gold).temperature == pytest.approx(temperature, rel=0.05)


def test_calibration_on_some_examples_corrects_the_confidence_in_others() -> None:
    scores, gold = drawn(3.0)
    found = fit_labels(scores[: COUNT // 2], gold[: COUNT // 2])
    rest, right = scores[COUNT // 2 :], gold[COUNT // 2 :]
    assert error_of(np.exp(rest), right) > 0.15
    assert error_of(found.of_labels(rest), right) < 0.03


def test_calibrated_labels_sum_to_one_and_keep_their_order() -> None:
    scores, _ = drawn(1.0, count=50)
    found = Calibration(temperature=2.5).of_labels(scores)
    assert found.sum(1) == pytest.approx(np.ones(50))
    assert (found.argsort(1) == scores.argsort(1)).all()


def test_a_few_right_answers_do_not_make_a_model_sure_of_everything() -> None:
    scores = np.log(np.tile([0.9, 0.05, 0.05], (MIN_EXAMPLES, 1)))
    found = fit_labels(scores, [0] * MIN_EXAMPLES)
    assert 0.4 < found.temperature < 1
    sure = fit_answers([0.9] * MIN_EXAMPLES, [1.0] * MIN_EXAMPLES).of_answer(0.9)
    assert 0.9 < sure < 0.999


def test_too_few_examples_change_nothing() -> None:
    assert fit_labels(np.log([[0.9, 0.1]] * (MIN_EXAMPLES - 1)), [1] * (MIN_EXAMPLES - 1)) == UNCALIBRATED
    assert fit_answers([0.9] * (MIN_EXAMPLES - 1), [0.0] * (MIN_EXAMPLES - 1)) == UNCALIBRATED
    assert fit_labels(np.zeros((0, 0)), []) == UNCALIBRATED
    assert UNCALIBRATED.of_answer(0.123) == 0.123


def test_copies_count_as_one() -> None:
    scores, gold = drawn(3.0, count=200)
    tenfold = fit_labels(np.repeat(scores, 10, 0), np.repeat(gold, 10).tolist(), [0.1] * 2000)
    assert tenfold.temperature == pytest.approx(fit_labels(scores, gold).temperature, rel=1e-3)
    few = fit_labels(np.repeat(scores[:8], 10, 0), np.repeat(gold[:8], 10).tolist(), [0.1] * 80)
    assert few == UNCALIBRATED, "eighty rows of eight are eight"
    sure, score = [0.9, 0.2] * 100, [1.0, 0.5] * 100
    weighted = fit_answers(sure * 10, score * 10, [0.1] * 2000)
    plain = fit_answers(sure, score)
    assert (weighted.temperature, weighted.bias) == pytest.approx((plain.temperature, plain.bias), rel=1e-2)


def test_a_written_answers_probability_becomes_its_score() -> None:
    """The product of many tokens' probabilities is far below the chance that a record is right."""
    random = np.random.default_rng(0)
    odds = random.normal(-1, 2, COUNT)
    score = (random.random(COUNT) < 1 / (1 + np.exp(-(0.5 * odds + 1.5)))).astype(float)
    said = 1 / (1 + np.exp(-odds))
    found = fit_answers(said[: COUNT // 2].tolist(), score[: COUNT // 2].tolist())
    assert found.temperature == pytest.approx(2, rel=0.15)
    assert found.bias == pytest.approx(1.5, rel=0.1)
    sure = [found.of_answer(float(each)) for each in said[COUNT // 2 :]]
    rest = score[COUNT // 2 :].tolist()
    assert expected_calibration_error(said[COUNT // 2 :].tolist(), rest) > 0.2
    assert expected_calibration_error(sure, rest) < 0.04
    assert (np.argsort(sure, kind="stable") == np.argsort(said[COUNT // 2 :], kind="stable")).all()


@pytest.mark.parametrize("probability", [0.0, 1e-300, 1.0])
def test_the_ends_stay_probabilities(probability: float) -> None:
    assert 0 <= Calibration(temperature=0.1, bias=3).of_answer(probability) <= 1


def test_the_error_is_the_mean_distance_of_the_bins() -> None:
    # Two bins: 3 answers at 0.9 of which 2 are right, 1 at 0.1 that is wrong.
    sure, score = [0.9, 0.9, 0.9, 0.1], [1.0, 1.0, 0.0, 0.0]
    assert expected_calibration_error(sure, score) == pytest.approx(0.75 * abs(0.9 - 2 / 3) + 0.25 * 0.1)
    assert [(each.count, each.score) for each in bins(sure, score)] == [(1, 0.0), (3, pytest.approx(2 / 3))]
    assert expected_calibration_error([1.0, 0.0], [1.0, 0.0]) == 0


@pytest.mark.parametrize("count", [19, 60, 500])
def test_few_requests_in_scope_are_taken_for_others(count: int) -> None:
    """On average over validation parts; each false alarm is counted on requests that are drawn anew."""
    random, alarms = np.random.default_rng(0), []
    for _ in range(400):
        least = scope(random.beta(5, 1, count).tolist())
        assert least is not None
        alarms.append((random.beta(5, 1, 1000) < least).mean())
    assert np.mean(alarms) <= FALSE_ALARMS + 0.005
    assert np.mean(alarms) > FALSE_ALARMS - 0.02


def test_the_scope_of_too_few_requests_is_not_known() -> None:
    assert scope([0.5] * 18) is None
    assert scope([]) is None


def test_a_bundle_keeps_it(tmp_path: Path) -> None:
    assert load_calibration(tmp_path) == UNCALIBRATED
    kept = Calibration(temperature=1.7, bias=-0.2, in_scope=0.4)
    save_calibration(kept, tmp_path)
    assert load_calibration(tmp_path) == kept


@pytest.mark.parametrize("text", ["", "{}x", '{"temperature": 0}', '{"heat": 1}', '{"temperature": "warm"}'])
def test_a_broken_file_is_not_taken_for_none(text: str, tmp_path: Path) -> None:
    (tmp_path / CALIBRATION).write_text(text)
    with pytest.raises(ValidationError):
        load_calibration(tmp_path)


@pytest.mark.parametrize("count", [40, 400, 4000])
def test_the_calibration_noise_is_the_error_of_an_exact_confidence(count: int) -> None:
    random = np.random.default_rng(count)
    sure = random.beta(8, 1, count)
    shown = [expected_calibration_error(sure.tolist(), random.random(count) < sure) for _ in range(300)]
    assert calibration_noise(sure.tolist()) == pytest.approx(np.mean(shown), rel=0.05)


def test_certainty_makes_no_noise() -> None:
    assert calibration_noise([1.0] * 50) == 0
    assert calibration_noise([0.0] * 50) == 0


def test_a_weighted_answer_counts_as_so_many() -> None:
    sure, score, weights = [0.9, 0.9, 0.91, 0.1], [1.0, 0.0, 1.0, 0.0], [1.0, 3.0, 2.0, 4.0]
    copies = [(one, right) for one, right, times in zip(sure, score, weights, strict=True) for _ in range(int(times))]
    assert expected_calibration_error(sure, score, weights) == pytest.approx(
        expected_calibration_error(*zip(*copies, strict=True))
    )
    found = bins(sure, score, weights)
    assert [(each.count, each.weight, each.score) for each in found] == [(1, 4.0, 0.0), (3, 6.0, 0.5)]
    assert found[1].effective == pytest.approx(36 / 14)


def test_the_noise_of_equal_weights_is_that_of_none_and_unequal_ones_make_more() -> None:
    sure = [0.9] * 100
    noise = calibration_noise(sure)
    assert calibration_noise(sure, [3.0] * 100) == pytest.approx(noise)
    assert calibration_noise(sure, [1.0] * 50 + [9.0] * 50) > noise


def test_an_answer_of_which_only_parts_fit_stays_without_confidence_and_teaches_nothing() -> None:
    plain = fit_answers([0.9] * 40, [1.0, 0.0] * 20)
    assert fit_answers([0.9] * 40 + [0.0] * 10, [1.0, 0.0] * 20 + [1.0] * 10) == plain
    assert plain.of_answer(0.0) == 0

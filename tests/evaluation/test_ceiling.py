from __future__ import annotations

import numpy as np
import pytest

from tunewright.evaluation.statistics.ceiling import LEAST_TEXTS, UNSEEN, label_ceiling
from tunewright.evaluation.verdict.details import Details
from tunewright.tasks import Example, Meta


def labelled(rng: np.random.Generator, right: float, labels: int, texts: int, times: int = 2) -> list[Example]:
    """Texts labelled several times; a label is right with a probability, else another at random."""
    made = []
    for text in range(texts):
        truth = int(rng.integers(labels))
        for number in range(times):
            wrong = (truth + int(rng.integers(1, labels))) % labels
            label = truth if rng.random() < right else wrong
            made.append(Example.of(f"text {text}", f"L{label}", Meta(id=f"{text}-{number}")))
    return made


@pytest.mark.parametrize(("right", "labels"), [(0.95, 2), (0.9, 8), (0.8, 77)])
def test_the_ceiling_is_how_often_a_label_is_right(right: float, labels: int) -> None:
    rng, covered, values = np.random.default_rng(2), 0, []
    for _ in range(30):
        result = label_ceiling(labelled(rng, right, labels, 200), labels)
        assert result
        values.append(result.accuracy.value)
        covered += result.accuracy.low <= right <= result.accuracy.high
    assert np.mean(values) == pytest.approx(right, abs=0.015)
    assert covered >= 0.85 * 30


def test_texts_are_the_same_whatever_their_case_and_spaces() -> None:
    texts = [text for n in range(LEAST_TEXTS) for text in (f"Where is parcel {n}?", f"where  is parcel {n}? ")]
    result = label_ceiling([Example.of(text, "a", Meta(id=text)) for text in texts], 3)
    assert result
    assert (result.texts, result.agreement.value, result.accuracy.value) == (LEAST_TEXTS, 1.0, 1.0)
    assert result.accuracy.low < 0.96, "thirty texts without a contradiction are no proof that there is none"


def test_without_repeats_there_is_no_estimate() -> None:
    examples = [Example.of(f"text {n}", "a", Meta(id=str(n))) for n in range(500)]
    assert label_ceiling(examples, 3) is None


def test_a_text_that_stands_there_a_hundred_times_counts_once() -> None:
    often = [Example.of("hello", "a", Meta(id=f"o{n}")) for n in range(100)]
    rest = labelled(np.random.default_rng(0), 0.7, 4, 60)
    result, alone = label_ceiling([*often, *rest], 4), label_ceiling(rest, 4)
    assert result
    assert alone
    assert result.agreement.value == pytest.approx((60 * alone.agreement.value + 1) / 61)


def test_beside_the_ceiling_stands_what_it_can_not_see() -> None:
    result = label_ceiling(labelled(np.random.default_rng(1), 0.8, 4, 200), 4)
    (reason,) = Details({}, [], [], result, {}, []).reasons("accuracy")
    assert "200 texts that were labelled more than once" in reason
    assert reason.endswith(UNSEEN)

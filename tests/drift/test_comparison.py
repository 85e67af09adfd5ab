from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest

from tests.drift.made import Asked, asked, customers, reference
from tunewright.drift.comparison import DriftFinding, compare
from tunewright.drift.reference import Reference
from tunewright.drift.two_sample import CHECKS, DAYS, MONTH, alpha_of_a_test

REFERENCE = reference()
ALPHA = alpha_of_a_test()


def result(window: Asked, alpha: float = ALPHA) -> dict[str, DriftFinding]:
    return {finding.trait: finding for finding in compare(REFERENCE, window.traits(REFERENCE.known), alpha)}


def drifted(window: Asked) -> set[str]:
    return {trait for trait, finding in result(window).items() if finding.drifted}


def test_the_tests_of_a_month_together_have_the_monthly_false_alarm_rate() -> None:
    assert (len(DAYS) + 1) * CHECKS * ALPHA == pytest.approx(MONTH)


@pytest.mark.slow
def test_undrifted_windows_are_not_called_drift() -> None:
    for seed in range(20):
        assert drifted(asked(300, 100 + seed)) == set()


@pytest.mark.slow
def test_without_drift_p_values_of_every_trait_are_not_too_small() -> None:
    """New references and windows, cut from one lot of requests of which what was taught is no part."""
    lot, random = asked(6000, 7).traits(REFERENCE.known), np.random.default_rng(8)
    p: dict[str, list[float]] = {}
    for _ in range(300):
        order = random.permutation(len(lot))
        cut = Reference.from_traits(REFERENCE.known, lot[order[:500]])
        for finding in compare(cut, lot[order[500:800]], ALPHA):
            p.setdefault(finding.trait, []).append(finding.p)
    assert p.keys() == {"answer", "language", "topic", "confidence", "length", "unseen", "novelty"}
    for values in p.values():
        assert kstest(values, "uniform", alternative="greater").pvalue > 0.001


@pytest.mark.slow
def test_customers_with_five_requests_each_are_no_drift() -> None:
    """25 undrifted months of 40 requests a day, looked at every other day of their last four weeks; what is found today
    and what would be if rows counted one by one."""
    rows = 5
    what, whose = customers(6000, rows, 3)
    lot, random = what.traits(REFERENCE.known), np.random.default_rng(5)
    alarms = {"known": 0, "ignored": 0}
    for _ in range(25):
        order = (random.permutation(6000)[:, None] * rows + np.arange(rows)).reshape(-1)
        taken, live = order[:600], order[600 : 600 + 57 * 40]
        drawn = {
            "known": Reference.from_traits(REFERENCE.known, lot[taken], [whose[row] for row in taken]),
            "ignored": Reference.from_traits(REFERENCE.known, lot[taken]),
        }
        for name, one in drawn.items():
            windows = (live[(day - days) * 40 : day * 40] for day in range(28, 57, 2) for days in (7, 28))
            alarms[name] += any(finding.drifted for window in windows for finding in compare(one, lot[window], ALPHA))
    assert alarms["known"] <= 2
    assert alarms["ignored"] >= 20


@pytest.mark.slow
def test_a_season_is_found_though_customers_have_several_requests() -> None:
    what, whose = customers(200, 5, 6)
    one = Reference.from_traits(REFERENCE.known, what.traits(REFERENCE.known), whose)
    later = asked(1000, 7, mix=(0.2, 0.6, 0.2)).traits(REFERENCE.known)
    assert "answer" in {finding.trait for finding in compare(one, later, ALPHA) if finding.drifted}


def test_a_season_is_found_in_the_mix_of_answers() -> None:
    window = asked(700, 2, mix=(0.25, 0.5, 0.25))
    finding = result(window)["answer"]
    assert finding.drifted
    assert "defect" in finding.said
    assert {window.answers[row] for row in finding.examples} == {"defect"}


def test_a_new_intent_is_found_and_shown() -> None:
    new = [f"can I take {number} flying lessons with your pilots near the coast" for number in range(80)]
    window = asked(620, 3) + Asked(new, ["billing"] * 80, [0.4] * 80)
    finding = result(window)["novelty"]
    assert finding.drifted
    assert all(window.texts[row] in new for row in finding.examples)


def test_another_language_is_found() -> None:
    german = [f"Meine Rechnung Nummer {number} ist leider nicht richtig" for number in range(60)]
    assert "language" in drifted(asked(600, 4) + Asked(german, ["billing"] * 60, [0.9] * 60))


def test_typos_are_found_as_unknown_words() -> None:
    window, random = asked(700, 5), np.random.default_rng(5)
    typed = [_misspelt(text, random) if number % 3 == 0 else text for number, text in enumerate(window.texts)]
    assert "unseen" in drifted(window.saying(typed))


def test_longer_requests_are_found() -> None:
    window = asked(400, 6)
    assert "length" in drifted(window.saying([f"{text} thank you thank you" for text in window.texts]))


def test_less_confidence_is_drift_and_more_is_none() -> None:
    window = asked(400, 7)
    assert "confidence" in drifted(replace(window, confidences=[each * 0.9 for each in window.confidences if each]))
    assert drifted(replace(window, confidences=[0.999] * 400)) == set()


def test_without_confidences_the_other_traits_are_compared() -> None:
    window = replace(asked(400, 8), confidences=[None] * 400)
    assert result(window).keys() == {"answer", "language", "topic", "length", "unseen", "novelty"}


def test_one_text_again_and_again_is_drift() -> None:
    one = asked(1, 9)
    assert {"answer", "length"} <= drifted(Asked(one.texts * 300, one.answers * 300, one.confidences * 300))


def test_requests_without_a_word_are_drift_and_no_fault() -> None:
    assert "novelty" in drifted(asked(250, 10) + Asked(["", "\x00", "😀"] * 50, ["billing"] * 150, [0.9] * 150))


def test_the_more_traits_the_smaller_each_may_be() -> None:
    """Holm: what alone would count does not, where six others are tested beside it."""
    findings = compare(REFERENCE, asked(300, 11).traits(REFERENCE.known), 1e-9)
    smallest = findings[0].p
    assert not compare(REFERENCE, asked(300, 11).traits(REFERENCE.known), smallest * 6.9)[0].drifted
    assert [finding.p for finding in findings] == sorted(finding.p for finding in findings)


def _misspelt(text: str, random: np.random.Generator) -> str:
    signs = list(text)
    for place in random.integers(0, len(signs), 3):
        signs[place] = "qxzj"[place % 4]
    return "".join(signs)

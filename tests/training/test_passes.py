"""How a batch is divided into passes: few tokens in each, little computed twice, and an example for every process."""

import pytest

from tunewright.training.loop.passes import passes_of


@pytest.mark.parametrize(
    ("shared", "own", "expected"),
    [
        (15, 35.0, 1),  # short tickets fit
        (15, 250.0, 4),  # invoices
        (610, 60.0, 1),  # a long prompt would be computed once more for little
        (0, 3000.0, 16),  # one document a pass; there are no smaller ones
        (200, 900.0, 4),  # 8 would compute 1,400 of 14,600 tokens again
    ],
)
def test_long_batches_are_divided_and_long_prompts_are_not(shared: int, own: float, expected: int) -> None:
    assert passes_of(shared, own, 16, 1, 320) == expected


def test_every_process_has_an_example_of_the_last_pass() -> None:
    assert passes_of(0, 3000.0, 16, 2, 320) == 8
    assert passes_of(0, 3000.0, 16, 2, 321) == 1, "an odd number leaves one of two without"
    assert passes_of(0, 3000.0, 16, 2, 322) == 8
    assert passes_of(0, 3000.0, 16, 2, 327) == 4

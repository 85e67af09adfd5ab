"""The interval of a share."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from tunewright.tasks.measures import wilson_limits


@pytest.mark.parametrize(("hits", "rows"), [(0, 20), (20, 20), (81, 263), (1, 29)])
def test_the_limits_are_those_of_scipy(hits: int, rows: int) -> None:
    known = binomtest(hits, rows).proportion_ci(method="wilson")
    assert wilson_limits(hits / rows, rows, 1.959963984540054) == pytest.approx((known.low, known.high), abs=1e-12)


def test_arrays_have_arrays_of_limits() -> None:
    low, high = wilson_limits(np.array([0.0, 0.5]), np.array([10, 40]), 2.0)
    assert [(low[each], high[each]) for each in (0, 1)] == [wilson_limits(0.0, 10, 2.0), wilson_limits(0.5, 40, 2.0)]
    assert wilson_limits(0.3, 5, np.inf) == (0, 1)

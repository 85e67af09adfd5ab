"""How fast this machine is, whoever else works on it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tunewright.core.processes import threads
from tunewright.economics.speed import Range
from tunewright.models.meter import Work
from tunewright.training.planning import here
from tunewright.training.planning.here import CpuSpeed, cpu_speed, rate


def test_of_several_probes_the_best_counts_and_the_usual_one_tells_how_sure_that_is() -> None:
    quiet = [(10.0, 1.0), (10.0, 1.02), (10.0, 1.01)]
    assert rate(quiet).high == 10.0
    # Two probes that others disturbed change what is usual, not what the machine can do.
    disturbed = [*quiet, (10.0, 5.0), (10.0, 26.0)]
    assert rate(disturbed).high == 10.0
    assert rate(disturbed).low == pytest.approx(10 / 1.02)


def test_an_estimate_is_a_range_that_grows_with_the_spread_of_the_probes() -> None:
    work = Work(flops=2e11, moved=1e10, dequantised=5e9)
    sure = CpuSpeed(1e11, 1e10, 5e9)
    assert sure.seconds(work) == pytest.approx(2 + 1 + 1)
    found, unsure = sure.range(4.0), CpuSpeed(1e11, 1e10, 5e9, spread=2.0).range(4.0)
    assert found.low < 4.0 < found.high
    assert unsure == Range(found.low, 2 * found.high)


def test_more_threads_are_counted_as_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "rate", lambda _: Range(1e11, 1e11))
    monkeypatch.setattr(here, "_PROBES", 1)
    one = cpu_speed("float32").flops
    monkeypatch.setattr(here, "threads", lambda: 4 * threads())
    assert cpu_speed("float32").flops == pytest.approx(4 * one)


@pytest.mark.slow
def test_a_busy_machine_is_found_as_fast_as_a_quiet_one() -> None:
    """Two busy processes on each core: by the clock a third of the speed is left, or a hundredth where OpenMP waits."""
    quiet = cpu_speed("float32")
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * threads())]
    try:
        found = cpu_speed("float32")
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert 0.5 < found.flops / quiet.flops < 2
    assert 0.4 < found.bytes / quiet.bytes < 2.5

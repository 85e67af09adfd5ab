"""The measured speed of this machine, also while other processes use it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tunewright.core.threads import threads
from tunewright.economics.speed import Range
from tunewright.models.meter import Work
from tunewright.training.planning import cpu
from tunewright.training.planning.cpu import CpuSpeed, cpu_speed, rate


def test_the_best_probe_counts_and_the_median_shows_the_spread() -> None:
    quiet = [(10.0, 1.0), (10.0, 1.02), (10.0, 1.01)]
    assert rate(quiet).high == 10.0
    # Two disturbed probes change the median, not what the machine can do.
    disturbed = [*quiet, (10.0, 5.0), (10.0, 26.0)]
    assert rate(disturbed).high == 10.0
    assert rate(disturbed).low == pytest.approx(10 / 1.02)


def test_an_estimate_is_a_range_that_grows_with_the_spread_of_the_probes() -> None:
    work = Work(flops=2e11, moved=1e10, dequantised=5e9)
    sure = CpuSpeed(1e11, 1e10, 5e9)
    assert sure.seconds(work) == pytest.approx(2 + 1 + 1)
    narrow, wide = sure.range(4.0), CpuSpeed(1e11, 1e10, 5e9, spread=2.0).range(4.0)
    assert narrow.low < 4.0 < narrow.high
    assert wide == Range(narrow.low, 2 * narrow.high)


@pytest.mark.slow
def test_more_threads_are_counted_as_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "rate", lambda _: Range(1e11, 1e11))
    monkeypatch.setattr(cpu, "_PROBES", 1)
    one = cpu_speed("float32").flops
    monkeypatch.setattr(cpu, "threads", lambda: 4 * threads())
    assert cpu_speed("float32").flops == pytest.approx(4 * one)


@pytest.mark.slow
def test_a_busy_machine_measures_as_fast_as_a_quiet_one() -> None:
    """With two busy processes on each core, wall-clock time would show a third of the speed, or a hundredth where
    OpenMP waits."""
    quiet = cpu_speed("float32")
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * threads())]
    try:
        measured = cpu_speed("float32")
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert 0.5 < measured.flops / quiet.flops < 2
    assert 0.4 < measured.bytes / quiet.bytes < 2.5

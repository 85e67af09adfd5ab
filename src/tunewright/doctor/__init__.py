"""`tunewright doctor --gpu`: what only a machine with a GPU can show, in two minutes, as a table for an issue.

Random models of four layers, one of each architecture, take every way that a real one takes on the GPU; what comes out
is held against the same on the CPU, in float32.
"""

from tunewright.doctor.report import GpuReport, GpuRow
from tunewright.doctor.run import run_selftest

__all__ = ["GpuReport", "GpuRow", "run_selftest"]

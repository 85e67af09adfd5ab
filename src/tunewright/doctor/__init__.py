"""`tunewright doctor`: check this machine, or test its GPU in two minutes (`--gpu`), as a table for an issue.

The GPU test runs a random model of four layers of each architecture through every code path that a real model takes on
the GPU, and compares the results with those on the CPU in float32.
"""

from tunewright.doctor.report import GpuReport, GpuRow
from tunewright.doctor.run import run_selftest

__all__ = ["GpuReport", "GpuRow", "run_selftest"]

"""The gate of a CI pipeline: compares a project's verdict with its spec's targets in seconds, and reports the result
where the pipeline runs. It runs no step, and never loads torch."""

from tunewright.gate.judge import Gate, gate

__all__ = ["Gate", "gate"]

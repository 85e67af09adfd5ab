"""What a pipeline stops for: a project's verdict held against its spec's targets, in seconds, and told where the
pipeline runs. Nothing is run, and torch is never loaded."""

from tunewright.gate.judge import Gate, gate

__all__ = ["Gate", "gate"]

"""From the spec's `task` section to the task that serves it."""

from __future__ import annotations

from tunewright.spec.schema import ClassifySpec
from tunewright.tasks.base import Task
from tunewright.tasks.classify import ClassifyTask


def task_of(section: ClassifySpec, lead: str = "") -> Task:
    """The task, its answers written behind `lead`."""
    return ClassifyTask(section.instruction, section.labels, lead)

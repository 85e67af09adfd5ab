"""From the spec's `task` section to the task that serves it."""

from __future__ import annotations

from tunewright.spec.schema import ClassifySpec, ExtractSpec
from tunewright.tasks.base import Task
from tunewright.tasks.classify import ClassifyTask
from tunewright.tasks.extract import ExtractTask


def task_of(section: ClassifySpec | ExtractSpec, lead: str = "") -> Task:
    """The task, its answers written behind `lead`."""
    if isinstance(section, ExtractSpec):
        assert isinstance(section.record, dict), "a spec is anchored before it is used"
        return ExtractTask(section.instruction, section.record, lead)
    return ClassifyTask(section.instruction, section.labels, lead)

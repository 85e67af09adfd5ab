"""From the spec's `task` section to the task that serves it."""

from __future__ import annotations

from collections.abc import Mapping

from tunewright.config.sections import ExtractSpec, GenerateSpec, MultiLabelSpec, TaskSpec
from tunewright.tasks.base import Task
from tunewright.tasks.classify import ClassifyTask
from tunewright.tasks.example import WRITTEN_OUT
from tunewright.tasks.extract import ExtractTask
from tunewright.tasks.generate import GenerateTask
from tunewright.tasks.multi_label import MultiLabelTask


def task_of(section: TaskSpec, lead: str = "", label_tokens: Mapping[str, str] = WRITTEN_OUT) -> Task:
    """The task, its answers written behind `lead`, and by `label_tokens` where it has any."""
    if isinstance(section, ExtractSpec):
        assert isinstance(section.record, dict), "a spec is anchored before it is used"
        return ExtractTask(section.instruction, section.record, lead, section.window)
    if isinstance(section, GenerateSpec):
        return GenerateTask(section.instruction, section.max_tokens, section.stop, lead)
    if isinstance(section, MultiLabelSpec):
        return MultiLabelTask(section.instruction, section.labels)
    return ClassifyTask(
        section.instruction, section.labels, lead, label_tokens, single_token_labels=section.single_token_labels
    )

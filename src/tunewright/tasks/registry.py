"""Makes the task of a spec's `task` section."""

from __future__ import annotations

from collections.abc import Mapping

from tunewright.config.sections import ExtractSpec, GenerateSpec, MultiLabelSpec, TaskSpec, ToolsSpec
from tunewright.tasks.base import Task
from tunewright.tasks.classify import ClassifyTask
from tunewright.tasks.example import WRITTEN_OUT
from tunewright.tasks.extract import ExtractTask
from tunewright.tasks.generate import GenerateTask
from tunewright.tasks.multi_label import MultiLabelTask
from tunewright.tasks.tools import ToolsTask


def task_of(section: TaskSpec, lead: str = "", label_tokens: Mapping[str, str] = WRITTEN_OUT) -> Task:
    """The task of a section. `lead` comes before its answers, and `label_tokens` are its single-token labels if any."""
    if isinstance(section, ExtractSpec):
        assert isinstance(section.record, dict), "anchor a spec before using it"
        return ExtractTask(section.instruction, section.record, lead, section.window)
    if isinstance(section, GenerateSpec):
        return GenerateTask(section.instruction, section.max_tokens, section.stop, lead)
    if isinstance(section, ToolsSpec):
        assert isinstance(section.tools, list), "anchor a spec before using it"
        return ToolsTask(section.instruction, section.tools, lead)
    if isinstance(section, MultiLabelSpec):
        return MultiLabelTask(section.instruction, section.labels)
    return ClassifyTask(
        section.instruction, section.labels, lead, label_tokens, single_token_labels=section.single_token_labels
    )

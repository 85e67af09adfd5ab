"""Makes the task of a spec's `task` section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from tunewright.config.sections import ExtractSpec, GenerateSpec, LeaveOut, MultiLabelSpec, TaskSpec, ToolsSpec
from tunewright.tasks.base import Task
from tunewright.tasks.classify import ClassifyTask
from tunewright.tasks.example import WRITTEN_OUT
from tunewright.tasks.extract import ExtractTask
from tunewright.tasks.generate import GenerateTask
from tunewright.tasks.input_form import InputForm
from tunewright.tasks.multi_label import MultiLabelTask
from tunewright.tasks.tools import ToolsTask


def task_of(section: TaskSpec, lead: str = "", label_tokens: Mapping[str, str] = WRITTEN_OUT) -> Task:
    """The task of a section. `lead` comes before its answers, and `label_tokens` are its single-token labels if any."""
    task, template = _bare(section, lead, label_tokens), InputForm.of(section).template
    shown = isinstance(section, MultiLabelSpec) or section.leave_out == "nothing"
    return task.surrounded(template, shown=shown) if template else task


def _bare(
    section: TaskSpec, lead: str, label_tokens: Mapping[str, str]
) -> ClassifyTask | MultiLabelTask | ExtractTask | GenerateTask | ToolsTask:
    """The task without the fixed text around its input."""
    if isinstance(section, ExtractSpec):
        assert isinstance(section.record, dict), "anchor a spec before using it"
        return ExtractTask(section.instruction, section.record, lead, section.window, section.leave_out)
    if isinstance(section, GenerateSpec):
        return GenerateTask(section.instruction, section.max_tokens, section.stop, lead, section.leave_out)
    if isinstance(section, ToolsSpec):
        assert isinstance(section.tools, list), "anchor a spec before using it"
        return ToolsTask(section.instruction, section.tools, lead, section.leave_out)
    if isinstance(section, MultiLabelSpec):
        return MultiLabelTask(section.instruction, section.labels)
    return ClassifyTask(
        section.instruction,
        section.labels,
        lead,
        label_tokens,
        single_token_labels=section.single_token_labels,
        leave_out=section.leave_out,
    )


def shorter_prompts(section: TaskSpec) -> list[TaskSpec]:
    """The task with ever shorter prompts: each lacks more than the one before. Ways that would change nothing, because
    there is nothing to leave out, are not among them."""
    if isinstance(section, MultiLabelSpec):
        return []
    shorter: list[TaskSpec] = []
    ways = get_args(LeaveOut)
    shown = task_of(section).prompt("")
    for way in ways[ways.index(section.leave_out) + 1 :]:
        each = section.model_copy(update={"leave_out": way})
        if (prompt := task_of(each).prompt("")) != shown:
            shorter.append(each)
            shown = prompt
    return shorter

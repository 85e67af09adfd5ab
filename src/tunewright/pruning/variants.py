"""The prompts that a project can be trained with, each shorter than the one before."""

from __future__ import annotations

from dataclasses import dataclass

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.models.naming import known_kind
from tunewright.tasks.input_template import InputTemplate
from tunewright.tasks.registry import shorter_prompts

WHOLE = "whole"
"""The name of the prompt that the spec has now."""


@dataclass(frozen=True)
class PromptVariant:
    """A project with one of its prompts."""

    name: str
    """`WHOLE`, or what the prompt lacks; it names the file of its answers, too."""
    spec: Spec
    keys: dict[str, str]
    """The keys of the spec that give it this prompt; empty for `WHOLE`."""


def variants_of(spec: Spec, found: InputTemplate | None = None) -> list[PromptVariant]:
    """The whole prompt, then those that lack more and more of it.

    Args:
        found: the fixed text around the inputs of the data, if the spec names none. The first variant takes it off and
            reads it again, so that all have the same rows on the same sides of the split.

    Raises:
        UserError: there is nothing that the model could do without.
    """
    template = None if found is None or spec.task.input_template else str(found)
    start = {} if template is None else {"task.input_template": template}
    whole = spec.model_copy(update={"task": spec.task.model_copy(update={"input_template": template})} if start else {})
    variants = [PromptVariant(WHOLE, whole, {})]
    for task in shorter_prompts(whole.task):
        way = str(task.model_dump()["leave_out"])
        keys = {**start, "task.leave_out": way}
        variants.append(PromptVariant(way, whole.model_copy(update={"task": task}), keys))
    if len(variants) == 1:
        raise UserError("The prompt has nothing more that could be left out.", where="task")
    return variants


def require_prompt(spec: Spec) -> None:
    """Refuse a model that reads the input alone.

    Raises:
        UserError: it is an encoder or a linear model.
    """
    if known_kind(spec.model, spec.folder) == "decoder":
        return
    raise UserError(
        f"{spec.model_name} reads the text alone, so there is no prompt to prune.",
        where="model",
        fix="Name a language model: tunewright prune YOUR_PROJECT model=smollm2-135m. Fixed text around the inputs is "
        "taken off by task.input_template.",
    )

"""The prompts that a project can be trained with, each shorter than the one before."""

from __future__ import annotations

from dataclasses import dataclass

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.models.naming import known_kind
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


def variants_of(spec: Spec) -> list[PromptVariant]:
    """The prompt that the spec has, then those that lack more and more of it.

    Raises:
        UserError: the model reads no prompt, or there is nothing that it could do without.
    """
    if known_kind(spec.model, spec.folder) != "decoder":
        raise UserError(
            f"{spec.model_name} reads the text alone, so there is no prompt to prune.",
            where="model",
            fix="Prune the prompt of a language model: tunewright prune … model=smollm2-135m",
        )
    variants = [PromptVariant(WHOLE, spec, {})]
    for task in shorter_prompts(spec.task):
        way = str(task.model_dump()["leave_out"])
        variants.append(PromptVariant(way, spec.model_copy(update={"task": task}), {"task.leave_out": way}))
    if len(variants) == 1:
        raise UserError("The prompt has nothing more that could be left out.", where="task")
    return variants

"""`task`: what the model does, one class a kind of task."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from tunewright.config.sections.common import Section


def _labels_as_mapping(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    labels = [str(label) for label in value]
    repeated = [label for label, count in Counter(labels).items() if count > 1]
    if repeated:
        raise ValueError(f"the label '{repeated[0]}' is listed twice")
    return dict.fromkeys(labels, "")


def _at_least_two(labels: dict[str, str]) -> dict[str, str]:
    if len(labels) < 2:
        raise ValueError(f"a classifier needs at least two labels, this spec has {len(labels)}")
    if any(not label.strip() for label in labels):
        raise ValueError("a label is empty")
    return labels


Labels = Annotated[dict[str, str], BeforeValidator(_labels_as_mapping), AfterValidator(_at_least_two)]


LeaveOut = Literal["nothing", "template", "descriptions", "list", "instruction"]
INPUT = "{text}"
"""The place of the input in `task.input_template`."""


def _has_one_input(template: str | None) -> str | None:
    if template is not None and (template.count(INPUT) != 1 or template.strip() == INPUT):
        raise ValueError(f"the template has {INPUT} once, in the place of the input, and fixed text around it")
    return template


MAX_TURNS = 100
"""The most earlier turns that a task may include."""


class _TaskSection(Section):
    """What every kind of task may have."""

    earlier_turns: Annotated[int, Field(ge=0, le=MAX_TURNS)] = 0
    """Turns of a conversation before its last user message that belong to the input; of longer conversations the \
newest count. By default the model reads the last user message alone."""
    input_template: Annotated[str | None, AfterValidator(_has_one_input)] = None
    """The fixed text around the input in users' messages, with `{text}` in the place of the input. It is taken off \
before anything else looks at the input: the checks, the split, training, batches and the server. A message without it \
is the input as it is. Language models read it again around each input, unless `leave_out` leaves it out; encoders and \
linear models do not."""

    @property
    def is_pruned(self) -> bool:
        """Whether the own model reads less than a model that was not trained on the task."""
        return False


class _PromptedTask(_TaskSection):
    """What every task may have that is taught with a system prompt."""

    leave_out: LeaveOut = "nothing"
    """What the own model's prompt lacks. template: the fixed text around the input (`input_template`). descriptions: \
also those of the labels, fields or tools. list: also the whole list in the place of `{labels}`, `{fields}` or \
`{tools}`. instruction: \
all of it, so that the model reads the input alone. APIs are asked with all of it. `tunewright prune` finds out what \
can be left out."""

    @model_validator(mode="after")
    def _has_a_template_to_leave_out(self) -> Self:
        if self.leave_out == "template" and self.input_template is None:
            raise ValueError("leave_out is 'template', but there is no input_template to leave out")
        return self

    @property
    def is_pruned(self) -> bool:
        return self.leave_out != "nothing"


class ClassifySpec(_PromptedTask):
    kind: Literal["classify"]
    """The task: the model chooses one label of a fixed set."""
    instruction: str
    """The system prompt. The labels with their descriptions, one a line, replace `{labels}` in it."""
    labels: Labels
    """The labels: a list, or a mapping from each label to a description of one line."""
    single_token_labels: bool = False
    """Whether one token stands for each label, so that the model decides in one forward pass. The token is a word of \
the label where no other label has taken it, else one or two letters. The model learns these tokens, so set it \
in the spec that trains."""


class MultiLabelSpec(_TaskSection):
    kind: Literal["multi_label"]
    """The task: the model says which labels of a fixed set hold. Any number of them may hold, or none."""
    instruction: str
    """The system prompt for the APIs that the model is compared with; an encoder reads the text alone. The labels \
with their descriptions, one a line, replace `{labels}` in it."""
    labels: Labels
    """The labels: a list, or a mapping from each label to a description of one line."""


class ExtractSpec(_PromptedTask):
    model_config = ConfigDict(serialize_by_alias=True)

    kind: Literal["extract"]
    """The task: the model fills the fields of a record."""
    instruction: str
    """The system prompt. The fields with their descriptions, one a line, replace `{fields}` in it."""
    record: Annotated[dict[str, Any] | str, Field(alias="schema")]
    """The record's schema: a JSON Schema, a .json file that holds one, or, with --allow-code, a Pydantic model as \
`module:Model`."""
    window: Annotated[int, Field(ge=64)] | None = None
    """Tokens of a document that the model reads at once. A longer document is cut at line ends into overlapping \
windows, and the results of the windows are merged. By default the model reads whole documents, and documents \
that are too long are refused."""


class GenerateSpec(_PromptedTask):
    kind: Literal["generate"]
    """The task: the model writes free text."""
    instruction: str
    """The system prompt."""
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens after which an answer is cut. By default a little more than twice the length of the longest training \
answer."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end an answer and do not belong to it."""


class ToolsSpec(_PromptedTask):
    kind: Literal["tools"]
    """The task: the model calls one of some tools with its arguments, or answers with a text."""
    instruction: str
    """The system prompt. The tools with their descriptions, one a line, replace `{tools}` in it."""
    tools: list[dict[str, Any]] | str
    """The tools in the form of OpenAI's API, or a .json file that holds the list. Each has a name, a description and \
the JSON Schema of its arguments (`parameters`)."""


TaskSpec = Annotated[
    ClassifySpec | MultiLabelSpec | ExtractSpec | GenerateSpec | ToolsSpec, Field(discriminator="kind")
]

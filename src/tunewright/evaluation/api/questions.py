"""The question for a large model in the place of a tuned one, and how its reply is read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.config import ApiSpec, Spec
from tunewright.config.literal import LITERAL
from tunewright.evaluation.api.endpoint import MAX_TOKENS, Question
from tunewright.tasks import Example, Task, task_of
from tunewright.tasks.base import FreeText, JsonRecord, OneOf, SomeOf, ToolCall, Unfit, labels_of

_LABEL, _LABELS = "label", "labels"
"""The key of the label, or of several, in a structured reply."""
_TOOLS = "{tools}"
_LISTS = {
    "classify": ("{labels}", "The labels:"),
    "multi_label": ("{labels}", "The labels:"),
    "extract": ("{fields}", "The fields:"),
    "tools": (_TOOLS, "The tools:"),
}
_FORMS = {
    OneOf: "Reply with one of the labels, spelt as it stands there, and nothing else.",
    SomeOf: "Reply with a JSON list of the labels that hold, spelt as they stand there, and nothing else; [] where "
    "none does.",
    ToolCall: "Call the tool that does what is asked, or answer with a text where none does: reply with a JSON object "
    "of this JSON Schema, and nothing else.\n{schema}",
    JsonRecord: "Reply with a JSON object of this JSON Schema, and nothing else. What the text does not say is left "
    "out. Dates are written as YYYY-MM-DD where the schema asks for dates.\n{schema}",
}
_UNKNOWN_TO_STRICT = (
    *("minLength", "maxLength", "title", "default", "examples", "$schema", "$id", "uniqueItems"),
    LITERAL,
)
"""Keywords that OpenAI's strict mode refuses; the reply is checked against the whole schema anyway."""


def asked_task(spec: Spec, settings: ApiSpec) -> Task:
    """The spec's task with the prompt for a large model: today's prompt, or the instruction with a list of the possible
    answers."""
    task = spec.task
    instruction = settings.prompt or task.instruction
    placeholder, title = _LISTS.get(task.kind, ("", ""))
    sent_apart = placeholder == _TOOLS and settings.structured
    if placeholder and placeholder not in instruction and not settings.prompt and not sent_apart:
        instruction = f"{instruction.rstrip()}\n\n{title}\n{placeholder}"
    return task_of(task.model_copy(update={"instruction": instruction})).untaught()


def question(task: Task, request: str, shots: Sequence[Example], settings: ApiSpec) -> Question:
    """The question to the large model about a request."""
    messages = [{"role": each.role, "content": each.content} for each in task.prompt(request, shots)]
    constraint = task.constraint
    options: dict[str, Any] = {"max_completion_tokens": MAX_TOKENS, "temperature": 0}
    if settings.reasoning_effort:
        options["reasoning_effort"] = settings.reasoning_effort
    if not isinstance(constraint, FreeText):
        structured = settings.structured
        if structured:
            options |= _confining(constraint)
        if not structured or ("tools" not in options and isinstance(constraint, JsonRecord)):
            schema = json.dumps(getattr(constraint, "schema", None), ensure_ascii=False)
            form = _FORMS[type(constraint)].replace("{schema}", schema)
            messages[0] = {**messages[0], "content": f"{messages[0]['content']}\n\n{form}"}
    if shots and settings.structured and isinstance(constraint, (OneOf, SomeOf)):
        messages = [_structured(each, constraint) if each["role"] == "assistant" else each for each in messages]
    return Question(messages, options, MAX_TOKENS)


def _structured(message: dict[str, str], constraint: OneOf | SomeOf) -> dict[str, str]:
    content = message["content"]
    whole = {_LABEL: content} if isinstance(constraint, OneOf) else {_LABELS: json.loads(content)}
    return {**message, "content": json.dumps(whole, ensure_ascii=False)}


def read(task: Task, text: str) -> str | None:
    """The task's answer that a reply gives, in canonical form; None where it gives none.

    White space, a code fence or quotes may surround the answer, and labels may be in capitals.
    """
    plain = text.strip()
    if plain.startswith("```"):
        plain = plain.strip("`").removeprefix("json").strip()
    match task.constraint:
        case OneOf(answers):
            return _label(plain, answers)
        case SomeOf(labels):
            return _some(task, plain, labels)
        case ToolCall():
            return _canonical(task, plain if plain.startswith(("{", "[{")) else text)
        case JsonRecord():
            return _record(task, plain)
        case FreeText():
            return _canonical(task, text)


def _label(text: str, answers: Sequence[str]) -> str | None:
    """The label that a reply gives, spelt exactly, in other capitals, or in quotes."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, Mapping):
        value = value.get(_LABEL)
    given = (value if isinstance(value, str) else text).strip()
    if given in answers:
        return given
    alike = [answer for answer in answers if _bare(answer) == _bare(given)]
    return alike[0] if len(alike) == 1 else None


def _some(task: Task, text: str, labels: Sequence[str]) -> str | None:
    """The labels that a reply lists, as a list or under a key; None where one of them is no label."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, Mapping):
        value = value.get(_LABELS)
    if not isinstance(value, list):
        return None
    given = [_label(each, labels) if isinstance(each, str) else None for each in value]
    return None if None in given else task.canonical(json.dumps(given, ensure_ascii=False))


def _canonical(task: Task, text: str) -> str | None:
    try:
        return task.canonical(text)
    except Unfit:
        return None


def _bare(label: str) -> str:
    return label.casefold().strip().strip("\"'`.").strip()


def _record(task: Task, text: str) -> str | None:
    """The record that a reply gives, as it is or without keys whose value is null: in strict mode a model can leave a
    field out only by null."""
    try:
        value = json.loads(text)
        records = [json.dumps(each, ensure_ascii=False) for each in (value, _without_nulls(value))]
    except (ValueError, RecursionError):
        return None
    for record in records:
        try:
            return task.canonical(record)
        except Unfit:
            continue
    return None


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nulls(part) for name, part in value.items() if part is not None}
    return [_without_nulls(part) for part in value] if isinstance(value, list) else value


def _confining(constraint: OneOf | SomeOf | JsonRecord) -> dict[str, Any]:
    """The arguments of a request that confine its answer."""
    if isinstance(constraint, ToolCall):
        return {"tools": list(constraint.tools)}
    return {"response_format": _response_format(constraint)}


def _response_format(constraint: OneOf | SomeOf | JsonRecord) -> dict[str, Any]:
    if isinstance(constraint, (OneOf, SomeOf)):
        one: dict[str, Any] = {"type": "string", "enum": labels_of(constraint)}
        key, value = (_LABEL, one) if isinstance(constraint, OneOf) else (_LABELS, {"type": "array", "items": one})
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {key: value},
            "required": [key],
            "additionalProperties": False,
        }
        strict = True
    else:
        strict = not _open(constraint.schema)
        schema = _strict(constraint.schema) if strict else dict(constraint.schema)
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": strict, "schema": schema}}


def _open(schema: Any) -> bool:
    """Whether a schema has what strict mode can't express: an object with keys that it does not name, `allOf`, or a
    tuple."""
    if isinstance(schema, Mapping):
        kinds = schema.get("type")
        is_object = kinds == "object" or (isinstance(kinds, list) and "object" in kinds)
        free = is_object and "properties" not in schema and schema.get("additionalProperties") is not False
        others = any(schema.get(key) for key in ("additionalProperties", "patternProperties", "allOf", "prefixItems"))
        return free or others or any(map(_open, schema.values()))
    return isinstance(schema, list) and any(map(_open, schema))


def _strict(schema: Any) -> Any:
    """A schema in OpenAI's strict form: every key is required, an optional one may be null, `oneOf` becomes `anyOf`."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    strict = {key: value for key, value in schema.items() if key not in _UNKNOWN_TO_STRICT}
    if "oneOf" in strict:
        strict["anyOf"] = strict.pop("oneOf")
    for key in ("anyOf", "items"):
        if key in strict:
            strict[key] = _strict(strict[key])
    for key in ("properties", "$defs"):
        if key in strict:
            strict[key] = {name: _strict(part) for name, part in strict[key].items()}
    if "properties" in strict:
        required = schema.get("required", ())
        strict["properties"] = {
            name: part if name in required else {"anyOf": [part, {"type": "null"}]}
            for name, part in strict["properties"].items()
        }
        strict["required"], strict["additionalProperties"] = list(strict["properties"]), False
    return strict

"""`extract`: a record from a text, as a JSON object of a schema."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any, Self

from tunewright.config.sections import LeaveOut
from tunewright.tasks.base import JsonRecord
from tunewright.tasks.example import Conversation, Example
from tunewright.tasks.leaving_out import without
from tunewright.tasks.measures import FIELD, Ratio, at, f1, is_in, leaves, tokens
from tunewright.tasks.record_form import RecordForm, kinds_of
from tunewright.tasks.windows import divided, places


class ExtractTask(Conversation):
    """Fill the fields of a record.

    Args:
        instruction: the system prompt; `{fields}` in it stands for the list of fields with their descriptions.
        schema: a JSON Schema, draft 2020-12, of an object.
        lead: the text that the assistant writes before a record; see `fitted`.
        window: tokens of a chunk of the text; None: no chunks.
        leave_out: what of the instruction the model is not shown.
    """

    kind = "extract"
    primary_metric = "field F1"

    def __init__(
        self,
        instruction: str,
        schema: Mapping[str, Any],
        lead: str = "",
        window: int | None = None,
        leave_out: LeaveOut = "nothing",
    ):
        self.form, self._window = RecordForm(schema), window
        self._chunk = _of_chunks(schema) if window else self.form
        fields = schema.get("properties", {})
        listing = "\n".join(
            f"- {name}: {part['description']}" if isinstance(part, Mapping) and "description" in part else f"- {name}"
            for name, part in fields.items()
        )
        bare = "\n".join(f"- {name}" for name in fields)
        system = without(leave_out, instruction, "{fields}", listing, bare)
        super().__init__(system, lead, whole=instruction.replace("{fields}", listing))
        self._chosen = frozenset(_chosen(self.form, schema))

    def fitted(self, encode: Callable[[str], Sequence[int]]) -> ExtractTask:  # noqa: ARG002 (the protocol)
        """This task unchanged: a record begins with a brace, which no tokenizer joins with the text before it."""
        return self

    def within(self, tokens: int) -> Self:
        if self._window and self._window <= tokens:
            return self
        task = copy(self)
        task._window, task._chunk = tokens, _of_chunks(self.form.schema)
        return task

    @property
    def constraint(self) -> JsonRecord:
        return JsonRecord(self.form.schema, self._chunk.schema)

    @property
    def summary(self) -> str:
        return f"{len(self.form.schema['properties'])} fields"

    def claim(self, share: str) -> str:
        return f"reaches a field F1 of {share}"

    @property
    def answers(self) -> list[str]:
        return []

    def canonical(self, answer: str) -> str:
        """A record in canonical form.

        Raises:
            Unfit: the text is not a record of the schema.
        """
        return self.form.canonical(answer)

    def of_chunk(self, answer: str) -> str:
        return self._chunk.canonical(answer)

    def fitting_part(self, answer: str, *, is_chunk: bool = False) -> str:
        """A record of the fields that fit the schema. It may lack required ones."""
        return (self._chunk if is_chunk else self.form).fitting_part(answer)

    def chunks(self, request: str, count: Callable[[str], int]) -> list[str]:
        return [request[start:end] for start, end in self.places(request, count)]

    def places(self, request: str, count: Callable[[str], int]) -> list[tuple[int, int]]:
        """(begin, end) of each chunk."""
        return places(request, self._window, count) if self._window else [(0, len(request))]

    def training_examples(self, example: Example, count: Callable[[str], int]) -> list[Example]:
        """The example itself, or one for each window of a long text, with the part of the record that stands there."""
        windows = self.chunks(example.request, count)
        if len(windows) == 1:
            return [example]
        records = divided(json.loads(example.answer), windows, self.form.apart)
        return [
            Example.of(window, self._chunk.written(record), example.meta, example.importance)
            for window, record in zip(windows, records, strict=True)
        ]

    def measures(self, request: str, gold: str, answer: str) -> dict[str, Ratio]:
        """The scores of an answer: the F1 of its values, whether the whole record is right, the F1 of the values'
        words, the share of values that do not stand in the request, and the F1 of each field by its name.

        Args:
            gold: the right record, in canonical form.
            answer: a record in canonical form; any other text counts as an empty record that is wrong.
        """
        found = _value(answer)
        right, given = Counter(leaves(_value(gold))), Counter(leaves(found))
        copied = [(path, value) for path, value in given.elements() if path not in self._chosen]
        is_read = isinstance(found, Mapping)
        scores = {
            self.primary_metric: f1(right, given, is_read=is_read),
            "records": Ratio(float(gold == answer), 1),
            "word F1": f1(_words(right), _words(given), is_read=is_read),
            "invented": Ratio(sum(not is_in(value, request) for _, value in copied), len(copied)),
        }
        for path in dict.fromkeys(path for path, _ in (*right, *given)):
            scores[f"{FIELD}{path}"] = f1(at(path, right), at(path, given))
        return scores


_OF_ALL_FIELDS = ("minProperties", "anyOf", "oneOf", "allOf")
"""Keywords beside a record's fields, which say what fields it has as a whole."""


def _of_chunks(schema: Mapping[str, Any]) -> RecordForm:
    """The form of a chunk's record. It requires no field, no combination of fields and no number of items, because a
    required field need not stand in each chunk, and a list's items may stand in several. This holds within the objects
    of which each chunk has its own fields, too."""
    return RecordForm(_of_some_fields(RecordForm(schema), schema, ""))


def _of_some_fields(form: RecordForm, schema: Mapping[str, Any], above: str) -> dict[str, Any]:
    """The schema of a part of an object's fields.

    Args:
        above: the object's path with a point behind it; empty for the record.
    """
    fields = {
        name: _of_some_fields(form, form.resolved(part), f"{above}{name}.")
        if f"{above}{name}" in form.apart
        else _of_any_length(form, part)
        for name, part in schema["properties"].items()
    }
    kept = {key: value for key, value in schema.items() if key not in _OF_ALL_FIELDS}
    return {**kept, "properties": fields, "required": []}


def _of_any_length(form: RecordForm, schema: Any) -> Any:
    """The schema of a field without the least number of its items."""
    part = form.resolved(schema)
    if "minItems" in part:
        return {key: value for key, value in part.items() if key != "minItems"}
    branches = {key: [_of_any_length(form, each) for each in part[key]] for key in ("anyOf", "oneOf") if key in part}
    return {**part, **branches} if branches else schema


def _value(answer: str) -> Any:
    """The JSON value of an answer; None for any other text."""
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        return None


def _words(values: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    return Counter((path, word) for path, value in values.elements() for word in tokens(value).elements())


def _chosen(form: RecordForm, schema: Any, path: str = "") -> Iterator[str]:
    """The paths whose values the schema offers, so that they need not stand in the text."""
    schema = form.resolved(schema)
    if "enum" in schema or "const" in schema or kinds_of(schema) - {"null"} == {"boolean"}:
        yield path
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _chosen(form, branch, path)
    for name, part in schema.get("properties", {}).items():
        yield from _chosen(form, part, f"{path}.{name}" if path else name)
    if "items" in schema:
        yield from _chosen(form, schema["items"], f"{path}[]")

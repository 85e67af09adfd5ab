"""Guessing a spec from a data file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from tunewright.config.sections import MAX_TURNS
from tunewright.core.errors import UserError
from tunewright.data.guess_schema import described, guess_schema, with_literal_fields
from tunewright.data.guess_tools import guess_tools
from tunewright.data.label_sets import guess_labels
from tunewright.data.readers import detect, read, read_rows
from tunewright.documents import SUFFIXES, is_there
from tunewright.tasks import Example
from tunewright.tasks.turns import turns_left_out

MAX_LABELS = 300
_SAMPLE = 20
"""Rows from whose keys the form of the data is detected."""
_TEXT_NAMES = (
    "text",
    "message",
    "body",
    "ticket",
    "question",
    "query",
    "utterance",
    "content",
    "input",
    "prompt",
    "description",
)
_LABEL_NAMES = ("label", "intent", "category", "route", "queue", "class", "target", "answer", "topic", "department")
_RECORD_NAMES = ("record", "fields", "entities", "label", "answer", "output", "json", "target")
_PART = re.compile(
    r"(all|data|datasets?|dev|eval|examples?|labell?ed|raw|test|train|training|valid|validation)([-_.]?\d[\w-]*)?",
    re.IGNORECASE,
)
"""Names of files and folders that tell the part of the data (train, test …) rather than its subject."""
_REPLY_NAMES = ("reply", "response", "answer", "completion", "output", "summary", "target")


@dataclass(frozen=True)
class Guess:
    text: str
    """The spec, as commented YAML."""
    kind: str
    """classify, multi_label, extract, generate or tools."""
    what: str
    """Describes the answers in a few words."""
    rows: int
    text_column: str
    """The column of the text or of the document's path; like the next empty where the rows have a fixed form."""
    label_column: str


@dataclass(frozen=True)
class PaidToday:
    """What is measured of the API that does a job today."""

    model: str
    prompt_tokens: int | None
    completion_tokens: int | None
    """Of a mean request and its answer; None: nobody counted them."""
    prompt: str
    """Its system prompt; empty where that varies from request to request."""
    requests_per_month: int


def guess_spec(path: Path, folder: Path, paid: PaidToday | None = None) -> Guess:
    """Read a data file and write the spec that a user would start from.

    Answers that repeat few values are labels, objects are records, tool calls are calls of the tools that the rows
    name, and a column with a usual name for answers holds free answers. The text column is the one with the longest
    texts among the rest. Usual names win ties.

    Args:
        folder: the folder of the future spec; the spec's data path is relative to it.
        paid: the API whose answers the data are; None: not known.

    Raises:
        UserError: no column looks like an answer, or none like a text.
    """
    rows = [row for _, row in read_rows(path)]
    form = detect(rows[:_SAMPLE])
    text = label = key = ""
    turns, tools = 0, None
    if form in (None, "labelled"):
        columns = {name: [row.get(name) for row in rows] for name in rows[0]}
        label = _answer_column(columns, path)
        document = _document_column(columns, path.parent)
        key, text = ("document", document) if document else ("text", _text_column(columns, label, path))
        answers = columns[label]
    else:
        examples = [item for item in read(path) if isinstance(item, Example)]
        answers = [each.answer for each in examples]
        turns, tools = _usual_turns(examples), guess_tools(examples)
    kind: str
    details: Any
    kind, details = _task(answers) if tools is None else ("tools", tools)
    if kind == "extract" and key != "document":
        texts = columns[text] if text else [each.request for each in examples]
        records = [json.dumps(_record(answer), ensure_ascii=False) for answer in answers]
        details = with_literal_fields(details, [(str(each), one) for each, one in zip(texts, records, strict=True)])
    labelled = kind in ("classify", "multi_label")
    template = (resources.files("tunewright.data") / "templates" / "tunewright.yaml.jinja").read_text("utf-8")
    from jinja2 import Environment

    rendered = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True).from_string(template)
    content = rendered.render(
        name=_quoted(project_name(path)),
        kind=kind,
        labels=[_quoted(str(name)) for name in (details[0] if kind == "multi_label" else details)] if labelled else (),
        separator=json.dumps(details[1]) if kind == "multi_label" and details[1] else "",
        schema=_flow(details) if kind == "extract" else "",
        tools=[json.dumps(tool, ensure_ascii=False) for tool in details] if kind == "tools" else (),
        data=_quoted(os.path.relpath(path.resolve(), folder)),
        text=_quoted(text) if text else "",
        key=key,
        label=_quoted(label) if label else "",
        turns=turns,
        paid=paid and replace(paid, model=_quoted(paid.model), prompt=json.dumps(paid.prompt) if paid.prompt else ""),
    )
    return Guess(content, kind, _in_words(kind, details), len(answers), text, label)


def project_name(path: Path) -> str:
    """A name for the project of a data file: the file's name.

    Where that tells only the part of the data (train, test …), it is the name of the nearest folder that tells more.
    """
    folder = path.parent.resolve()
    stem = Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem
    names = (stem, folder.name, *(each.name for each in folder.parents))
    name = next(name for name in names if not _PART.fullmatch(name))
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:60] or "job"


def _usual_turns(examples: Sequence[Example]) -> int:
    """As many earlier turns as nineteen of twenty conversations have at most."""
    counts = sorted(turns_left_out(each, 0) for each in examples)
    return min(counts[int(0.95 * (len(counts) - 1))], MAX_TURNS) if counts else 0


def _task(answers: Sequence[Any]) -> tuple[str, Any]:
    """(the kind of task, its details: labels, labels with their separator where a row has several, or the schema)."""
    records = [_record(answer) for answer in answers]
    if all(record for record in records):
        return "extract", guess_schema([record for record in records if record])
    labels = sorted({str(answer) for answer in answers})
    if several := guess_labels(answers, MAX_LABELS):
        return "multi_label", several
    return ("classify", labels) if 2 <= len(labels) <= min(MAX_LABELS, len(answers) / 2) else ("generate", None)


def _flow(schema: Mapping[str, Any]) -> str:
    """A schema as JSON, which is YAML too, with one field a line."""
    fields = ",\n".join(
        f"  {json.dumps(name, ensure_ascii=False)}: {json.dumps(part, ensure_ascii=False)}"
        for name, part in schema["properties"].items()
    )
    rest = {name: value for name, value in schema.items() if name != "properties"}
    return json.dumps(rest, ensure_ascii=False)[:-1] + f', "properties": {{\n{fields}}}}}'


def _in_words(kind: str, details: Any) -> str:
    match kind:
        case "classify":
            return f"{len(details)} labels"
        case "multi_label":
            return f"any of {len(details[0])} labels"
        case "extract":
            return f"records of {', '.join(described(details))}"
        case "tools":
            return f"calls of {len(details)} tool{'s' * (len(details) > 1)}, or texts"
        case _:
            return "texts"


def _record(value: Any) -> dict[str, Any] | None:
    """An object, from a dict or from JSON; None where the value is neither."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _answer_column(columns: dict[str, list[Any]], path: Path) -> str:
    """The column of the answers.

    Usual names come first (of labels, then of records, then of free answers), then columns that repeat values or hold
    records.
    """

    def repeats(name: str) -> float | None:
        values = columns[name]
        if any(not isinstance(v, (str, int)) or isinstance(v, bool) or str(v).strip() == "" for v in values):
            return None
        different = len({str(v) for v in values})
        if different < 2 or different > MAX_LABELS or different > len(values) / 2:
            return None
        return -different / len(values)

    def is_text(name: str) -> bool:
        return all(isinstance(value, str) and value.strip() for value in columns[name])

    def score(name: str) -> float | None:
        usual, labels = name.lower(), repeats(name)
        if all(map(_record, columns[name])):
            return 5.0 if usual in _RECORD_NAMES else 1.0
        if labels is None and guess_labels(columns[name], MAX_LABELS):
            return 10.0 if usual.rstrip("s") in _LABEL_NAMES else 2.0
        if labels is not None:
            return labels + (10.0 if usual in _LABEL_NAMES else 2.0)
        return 4.0 if usual in _REPLY_NAMES and is_text(name) else None

    what = (
        "labels (two or more values that repeat, or lists of them), records (objects) or answers (a column named "
        "reply, answer, …)"
    )
    fix = f"{_ROWS} If nobody has answered these requests yet, APIs can: tunewright label  (docs/labels.md)"
    return _best(columns, score, path, what, fix)


def _text_column(columns: dict[str, list[Any]], label: str, path: Path) -> str:
    def score(name: str) -> float | None:
        values = [v for v in columns[name] if isinstance(v, str)]
        if name == label or not values:
            return None
        length = sum(map(len, values)) / len(columns[name])
        return length * (3 if name.lower() in _TEXT_NAMES else 1)

    return _best(columns, score, path, "text", _ROWS)


def _document_column(columns: dict[str, list[Any]], folder: Path) -> str:
    """The column whose first values are all paths of existing documents; empty where there is none."""

    def is_document(value: Any) -> bool:
        return isinstance(value, str) and Path(value).suffix.lower() in SUFFIXES and is_there(folder / value)

    return next((name for name in columns if all(map(is_document, columns[name][:_SAMPLE]))), "")


_ROWS = 'Rows look like {"text": …, "label": …}; compare the data in examples/.'


def _best(columns: dict[str, list[Any]], score: Any, path: Path, what: str, fix: str) -> str:
    scored = {name: value for name in columns if (value := score(name)) is not None}
    if not scored:
        raise UserError(
            f"No column looks like {what}.",
            where=path,
            why=f"The columns are: {', '.join(columns)}.",
            fix=fix,
        )
    return max(scored, key=lambda name: float(scored[name]))


def _quoted(value: str) -> str:
    """A YAML scalar: plain where YAML reads the same text back, in double quotes (as in JSON) otherwise."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if re.fullmatch(r"[\w./][\w ./-]*", value):
        try:
            if YAML(typ="safe").load(value) == value:
                return value
        except YAMLError:
            pass
    return json.dumps(value, ensure_ascii=False)

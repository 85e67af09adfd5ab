"""Guessing a spec from a data file."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from tunewright.data.readers import detect, read, read_rows
from tunewright.documents import SUFFIXES, is_there
from tunewright.errors import UserError
from tunewright.tasks import Example

MAX_LABELS = 300
_SAMPLE = 20
"""Rows whose keys show what form the data has."""
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


@dataclass(frozen=True)
class Guess:
    text: str
    """The spec, as commented YAML."""
    rows: int
    text_column: str
    """Empty, as the next, where the rows have a form that says where text and label are; or of the documents' paths."""
    label_column: str
    labels: list[str]


def guess_spec(path: Path, folder: Path) -> Guess:
    """Look at a data file and write the spec a user would start from.

    The label column repeats few values; the text column is the longest of the rest. Usual names win ties.

    Args:
        folder: where the spec will lie; its data path is written relative to it.

    Raises:
        UserError: no column looks like a label, or none like a text.
    """
    document = False
    rows = [row for _, row in read_rows(path)]
    form = detect(rows[:_SAMPLE])
    if form in (None, "labelled"):
        columns = {name: [row.get(name) for row in rows] for name in rows[0]}
        label = _label_column(columns, path)
        text = _document_column(columns, path.parent)
        document = bool(text)
        text = text or _text_column(columns, label, path)
        answers = [str(value) for value in columns[label]]
    else:
        text = label = ""
        answers = [item.answer for item in read(path) if isinstance(item, Example)]
        if not 2 <= len(set(answers)) <= min(MAX_LABELS, len(answers) / 2):
            raise UserError(
                f"The {len(answers)} answers of these {form} rows are {len(set(answers))} different ones.",
                where=path,
                why="Only jobs with a fixed set of labels can be trained so far, whose answers repeat.",
                fix="The data can be checked all the same: tunewright data check " + str(path),
            )
    labels = sorted(set(answers))
    template = (resources.files("tunewright.data") / "templates" / "tunewright.yaml.jinja").read_text("utf-8")
    from jinja2 import Environment

    rendered = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True).from_string(template)
    content = rendered.render(
        name=_quoted(re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).strip("-_")[:60] or "job"),
        labels=[_quoted(name) for name in labels],
        data=_quoted(os.path.relpath(path.resolve(), folder)),
        text=_quoted(text) if text else "",
        key="document" if document else "text",
        label=_quoted(label) if label else "",
    )
    return Guess(content, len(answers), text, label, labels)


def _label_column(columns: dict[str, list[Any]], path: Path) -> str:
    def score(name: str) -> float | None:
        values = columns[name]
        if any(not isinstance(v, (str, int)) or isinstance(v, bool) or str(v).strip() == "" for v in values):
            return None
        different = len({str(v) for v in values})
        if different < 2 or different > MAX_LABELS or different > len(values) / 2:
            return None
        return (10.0 if name.lower() in _LABEL_NAMES else 0.0) - different / len(values)

    return _best(columns, score, path, "labels (two or more values that repeat)")


def _text_column(columns: dict[str, list[Any]], label: str, path: Path) -> str:
    def score(name: str) -> float | None:
        values = [v for v in columns[name] if isinstance(v, str)]
        if name == label or not values:
            return None
        length = sum(map(len, values)) / len(columns[name])
        return length * (3 if name.lower() in _TEXT_NAMES else 1)

    return _best(columns, score, path, "text")


def _document_column(columns: dict[str, list[Any]], folder: Path) -> str:
    """The column whose first values are all paths of documents that are there; empty where there is none."""

    def is_document(value: Any) -> bool:
        return isinstance(value, str) and Path(value).suffix.lower() in SUFFIXES and is_there(folder / value)

    return next((name for name in columns if all(map(is_document, columns[name][:_SAMPLE]))), "")


def _best(columns: dict[str, list[Any]], score: Any, path: Path, what: str) -> str:
    scored = {name: value for name in columns if (value := score(name)) is not None}
    if not scored:
        raise UserError(
            f"No column looks like {what}.",
            where=path,
            why=f"The columns are: {', '.join(columns)}.",
            fix='A classifier needs rows such as {"text": …, "label": …}; compare examples/tickets/data.',
        )
    return max(scored, key=lambda name: float(scored[name]))


def _quoted(value: str) -> str:
    """A YAML scalar: plain where YAML would read the same text back, in double quotes (as in JSON) otherwise."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if re.fullmatch(r"[\w./][\w ./-]*", value):
        try:
            if YAML(typ="safe").load(value) == value:
                return value
        except YAMLError:
            pass
    return json.dumps(value, ensure_ascii=False)

"""Guessing a spec from a data file."""

from __future__ import annotations

import glob
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from shlex import quote
from typing import Any

from tunewright.config import SPEC_FILE
from tunewright.config.sections import MAX_TURNS
from tunewright.core.errors import UserError, first_of
from tunewright.core.progress import say
from tunewright.data.guess.answers import record_in, task_of
from tunewright.data.guess.columns import (
    answer_column,
    check_names,
    columns_of,
    document_column,
    others_of,
    say_absent_documents,
    text_column,
    usual_name,
    with_records,
)
from tunewright.data.guess.paid import NameInBook, PaidToday, paid_in
from tunewright.data.guess.schema import described, schema_of_marks, with_literal_fields
from tunewright.data.guess.tools import guess_tools
from tunewright.data.guess.values import filled, is_blank
from tunewright.data.guess.yaml_text import yaml_scalar, yaml_text
from tunewright.data.readers import Fault, Note, data_files, detect, read, read_rows
from tunewright.data.readers.forms import label_text, no_texts
from tunewright.data.readers.lines import unwrapping
from tunewright.data.readers.sources import files, suffix_of
from tunewright.data.text import system_prompt
from tunewright.logs import LOG_FORMS
from tunewright.tasks import Example
from tunewright.tasks.turns import turns_left_out

_OF_A_JOB = 0.05
"""The share of a log's calls that have the same system prompt, where they are a job."""
_NAMED = 3
"""Rows without an answer that a message names."""
_PART = re.compile(
    r"(all|data|datasets?|dev|eval|examples?|labell?ed|raw|test|train|training|valid|validation)([-_.]?\d[\w-]*)?",
    re.IGNORECASE,
)
"""Names of files and folders that tell the part of the data (train, test …) rather than its subject."""
_PLAIN_FORMS = ("pairs", "prompt", "alpaca")
"""Forms of rows whose texts are columns, so that another column may be the answer."""
_OF_PLAIN_FORMS = frozenset(
    (
        *("request", "response", "request body", "response body", "input", "output", "prompt", "completion"),
        *("instruction", "system", "messages", "tools", "tool choice", "text", "response format", "temperature"),
        *("max tokens", "stream", "model", "status", "status code", "id", "time", "timestamp", "usage", "weight"),
    )
)
"""Keys of such rows, and what logs have beside a call."""
_SAMPLE = 20
"""Rows from whose keys the form of the data is detected."""


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
    others: tuple[str, ...] = ()
    """Other columns that repeat values, with how many they have; one of them may be the answer."""
    alike: tuple[str, ...] = ()
    """Spellings that may be of one label, of which the spec has one; an example, if there are any."""
    paid: PaidToday | None = None
    """The API whose answers the data are; None: not known."""


def guess_spec(
    path: Path, folder: Path, paid: PaidToday | None = None, file: str = SPEC_FILE, book: NameInBook | None = None
) -> Guess:
    """Read a data file and write the spec that a user would start from.

    Answers that repeat few values are labels, objects are records, tool calls are calls of the tools that the rows
    name, and a column with a usual name for answers holds free answers. The text column is the one with the longest
    texts among the rest. Usual names win ties. A few blank or stray values do not change the job; a line on standard
    error tells how many rows have no answer, or can't be read.

    Args:
        folder: the folder of the future spec; the spec's data path is relative to it.
        paid: the API whose answers the data are; None: not known.
        file: the name of the future spec.
        book: how the price book names a log's model. With it, the API is what a log says of it.

    Raises:
        UserError: no column looks like an answer, or none like a text, or no row can be read; a table begins with a
            row in place of the columns' names; or one object has all rows in it.
    """
    numbered = read_rows(path)
    rows = [row for _, row in numbered]
    _check_has_texts(rows, path)
    form = detect(rows[:_SAMPLE])
    text = label = key = ""
    turns, tools, marked = 0, None, frozenset[str]()
    examples: list[Example] = []
    others, alike = tuple[str, ...](), tuple[str, ...]()
    if form in (None, "labelled"):
        _check_not_wrapped(rows, path)
        columns, marked = with_records(columns_of(rows), path)
        label = answer_column(columns, marked, path)
        folders = sorted({each.path.parent for each in data_files(path)})
        document = document_column(columns, folders)
        key, text = ("document", document) if document else ("text", text_column(columns, label, path))
        if not document:
            say_absent_documents(columns, text, folders, path)
        check_names(columns[label], label, text, path)
        others = tuple(others_of(columns, label, text))
        answers = columns[label]
        places = [f"line {number}" for number, _ in numbered] if path.is_file() else []
    else:
        examples = _examples(path)
        answers = [each.answer for each in examples]
        places = [str(each.meta.source) for each in examples]
        turns, tools = _usual_turns(examples), guess_tools(examples)
        if form in LOG_FORMS or form == "stored":
            _say_several_jobs(examples, path)
        if form in _PLAIN_FORMS:
            others = tuple(
                others_of({k: v for k, v in columns_of(rows).items() if usual_name(k) not in _OF_PLAIN_FORMS})
            )
    kind: str
    details: Any
    kind, details = task_of(answers) if tools is None else ("tools", tools)
    if kind != "tools":
        _say_unanswered(answers, places, has_empty_sets=kind == "multi_label" and details[1] is not None)
    if kind == "extract" and label in marked:
        details = schema_of_marks(details)
    elif kind == "extract" and key != "document":
        texts = columns[text] if text else [each.request for each in examples]
        records = [(str(each), record_in(answer)) for each, answer in zip(texts, answers, strict=True)]
        rows_of_records = [(each, json.dumps(one, ensure_ascii=False)) for each, one in records if one is not None]
        details = with_literal_fields(details, rows_of_records)
    if kind == "classify":
        details, alike = _one_of_each(details, Counter(label_text(each) or "" for each in filled(answers)))
    labels = details[0] if kind == "multi_label" else details if kind == "classify" else ()
    if book:
        paid = paid_in(examples, book)
    template = (resources.files("tunewright.data") / "templates" / "tunewright.yaml.jinja").read_text("utf-8")
    from jinja2 import Environment

    rendered = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True).from_string(template)
    content = rendered.render(
        run="." if file == SPEC_FILE else quote(file),
        name=yaml_scalar(project_name(path)),
        kind=kind,
        labels=[yaml_scalar(each) for each in labels],
        separator=json.dumps(details[1]) if kind == "multi_label" and details[1] else "",
        schema=_flow(details) if kind == "extract" else "",
        tools=[yaml_text(tool) for tool in details] if kind == "tools" else (),
        data=yaml_scalar(_data_path(path, folder)),
        text=yaml_scalar(text) if text else "",
        key=key,
        label=yaml_scalar(label) if label else "",
        turns=turns,
        paid=paid and paid.in_yaml,
    )
    return Guess(content, kind, _in_words(kind, details), len(answers), text, label, others, alike, paid)


def _data_path(path: Path, folder: Path) -> str:
    """The path of the data for a spec in a folder.

    Of data in that very folder it names the files, as far as one path can: the folder gets other files too.
    """
    if not path.is_dir() or path.resolve() != folder.resolve():
        return os.path.relpath(path.resolve(), folder)
    names = [file.name for file in data_files(path)]
    if within := os.path.commonpath(names):
        return within
    suffixes = {suffix_of(Path(name)) for name in names}
    pattern = f"*{suffixes.pop()}" if len(suffixes) == 1 else ""
    if not pattern or glob.has_magic(str(path.resolve())):
        return "."
    return pattern if [file.name for file in files(path / pattern)] == names else "."


def project_name(path: Path) -> str:
    """A name for the project of a data file: the file's name.

    Where that tells only the part of the data (train, test …), it is the name of the nearest folder that tells more.
    """
    folder = path.parent.resolve()
    stem = Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem
    names = (stem, folder.name, *(each.name for each in folder.parents))
    name = next((name for name in names if name and not _PART.fullmatch(name)), "")
    return re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:60] or "job"


def _examples(path: Path) -> list[Example]:
    """The examples of data in a fixed form. A line tells how many rows can't be read.

    Raises:
        UserError: no row can be read.
    """
    items = list(read(path))
    examples = [item for item in items if isinstance(item, Example)]
    faults = [item for item in items if isinstance(item, Fault)]
    if not examples:
        reasons: list[Fault | Note] = [*faults, *(item for item in items if isinstance(item, Note))]
        raise UserError(
            "No example can be made of these rows.",
            where=reasons[0].where if reasons else path,
            why=reasons[0].reason if reasons else None,
        )
    if faults:
        rows = "1 row" if len(faults) == 1 else f"{len(faults):,} rows"
        say(f"{rows} can't be read, and did not count for the spec. The first: {faults[0].where}: {faults[0].reason}")
    return examples


def _say_unanswered(answers: Sequence[Any], places: Sequence[str], *, has_empty_sets: bool) -> None:
    """Say which rows have no answer, if there are some.

    Args:
        places: the place of each answer; empty: not known.
        has_empty_sets: whether a blank text teaches that no label holds.
    """
    blank = [row for row, answer in enumerate(answers) if is_blank(answer)]
    taught = [row for row in blank if has_empty_sets and answers[row] is not None]
    refused = [row for row in blank if not has_empty_sets or answers[row] is None]
    for rows, effect in (
        (taught, "Such a row teaches that no label holds; where one does, add it."),
        (refused, "Add the answer or delete the row, because the check refuses it."),
    ):
        where = f" ({first_of([places[row] for row in rows], _NAMED)})" if places else ""
        verb = "has" if len(rows) == 1 else "have"
        if rows:
            say(f"{len(rows):,} of {len(answers):,} rows {verb} no answer{where}. {effect}")


def _say_several_jobs(examples: Sequence[Example], path: Path) -> None:
    """A line where the calls of a log have several system prompts that are not just one with changing values."""
    counts = Counter(re.sub(r"\d+", "0", system_prompt(each)) for each in examples)
    usual = [count for count in counts.values() if count >= max(2, _OF_A_JOB * len(examples))]
    if len(usual) > 1:
        say(
            f"The calls have {len(usual)} different system prompts, so they may be several jobs. "
            f"To find and part them: tunewright traffic ls {quote(str(path))}"
        )


def _usual_turns(examples: Sequence[Example]) -> int:
    """As many earlier turns as nineteen of twenty conversations have at most."""
    counts = sorted(turns_left_out(each, 0) for each in examples)
    return min(counts[int(0.95 * (len(counts) - 1))], MAX_TURNS) if counts else 0


def _flow(schema: Mapping[str, Any]) -> str:
    """A schema as JSON, which is YAML too, with one field a line."""
    fields = ",\n".join(f"  {yaml_text(name)}: {yaml_text(part)}" for name, part in schema["properties"].items())
    rest = {name: value for name, value in schema.items() if name != "properties"}
    return yaml_text(rest)[:-1] + f', "properties": {{\n{fields}}}}}'


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


def _one_of_each(labels: Sequence[str], counts: Mapping[str, int]) -> tuple[list[str], tuple[str, ...]]:
    """(the labels, of those that differ in case, blanks and hyphens only the most frequent; an example of such)."""
    spelled: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        plain = re.sub(r"[\s_-]+", "", label.casefold())
        spelled[plain if len(plain) > 1 else label].append(label)
    kept = sorted(max(names, key=lambda name: (counts[name], name)) for names in spelled.values())
    if len(kept) < 2 or len(kept) == len(labels):
        return list(labels), ()
    return kept, tuple(next(names for names in spelled.values() if len(names) > 1))


def _check_has_texts(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Raises:
    UserError: most rows are of a log that keeps no texts.
    """
    reasons = [reason for row in rows[:_SAMPLE] if (reason := no_texts(row))]
    if 2 * len(reasons) > len(rows[:_SAMPLE]):
        raise UserError("Nothing can be learnt from this log.", where=path, why=reasons[0])


def _check_not_wrapped(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Raises:
    UserError: the only object is no row, but holds a list of them.
    """
    if len(rows) != 1:
        return
    for key, value in rows[0].items():
        if isinstance(value, list) and len(value) > 1 and all(isinstance(each, dict) for each in value):
            raise UserError(
                "The rows are inside one object.",
                where=path,
                why=f"It has {len(value):,} objects under '{key}'.",
                fix=unwrapping(data_files(path)[0].path, key),
            )

"""Guessing a spec from a data file."""

from __future__ import annotations

import glob
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from shlex import quote
from typing import Any

from tunewright.config import SPEC_FILE
from tunewright.config.sections import MAX_TURNS
from tunewright.core.errors import UserError, first_of
from tunewright.core.progress import say
from tunewright.core.strict_json import JsonRefusal
from tunewright.data.guess_schema import described, guess_schema, schema_of_marks, with_literal_fields
from tunewright.data.guess_tools import guess_tools
from tunewright.data.guess_values import NEARLY_ALL, filled, is_blank, most
from tunewright.data.label_sets import guess_labels
from tunewright.data.readers import Fault, Note, data_files, detect, read, read_rows
from tunewright.data.readers.forms import label_text, no_texts
from tunewright.data.readers.lines import unwrapping
from tunewright.data.readers.marks import PARTED, TextMark, is_word, marks_in, record_of
from tunewright.data.readers.sources import files, suffix_of
from tunewright.data.text import system_prompt
from tunewright.documents import SUFFIXES, is_there
from tunewright.logs import LOG_FORMS
from tunewright.tasks import Example
from tunewright.tasks.turns import turns_left_out

MAX_LABELS = 300
_OF_A_JOB = 0.05
"""The share of a log's calls that have the same system prompt, where they are a job."""
_TABLES = (".csv", ".tsv")
_SENTENCE = 3
"""Words that a column's name hardly has."""
_SAMPLE = 20
"""Rows from whose keys the form of the data is detected."""
_NAMED = 3
"""Rows without an answer that a message names."""
_LEAST_FILLED = 0.5
"""The share of the rows that must have a value in a column with a usual name; elsewhere nearly all must."""
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
_TITLE_NAMES = ("subject", "title", "summary", "short description")
"""Usual names of texts that are often shorter than another text beside them."""
_LABEL_NAMES = frozenset(
    ["label", "intent", "category", "route", "queue", "class", "target", "answer", "topic", "department"]
)
_SURE = 10.0
"""How well one of these names fits."""
_DESK_NAMES = frozenset(
    ["component", "component/", "group", "team", "tag", "assigned group", "assignee group", "assignment group"]
)
"""Usual names of labels in issue trackers and help desks. Elsewhere they may be something else."""
_TRACKER_NAMES = frozenset(["issue key", "issue id", "issue type", "ticket id", "sys id", "status", "priority"])
_WORKFLOW_NAMES = (
    *("status", "state", "priority", "severity", "urgency", "channel", "source", "language", "locale", "country"),
    *("region", "resolution", "assignee", "reporter", "requester", "rating", "score", "active", "contact type"),
)
"""Columns that repeat values and say what became of a row, rather than what it is about."""
_RECORD_NAMES = ("record", "fields", "entities", "label", "answer", "output", "json", "target")
_MARK_NAMES = ("entities", "spans", "annotations", "label", "labels")
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
_WORDED = 1000
"""Values of a column that tell whether it holds words."""
_UNPRINTED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
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
    others: tuple[str, ...] = ()
    """Other columns that repeat values, with how many they have; one of them may be the answer."""
    alike: tuple[str, ...] = ()
    """Spellings that may be of one label, of which the spec has one; an example, if there are any."""


@dataclass(frozen=True)
class PaidToday:
    """What is measured of the API that does a job today."""

    model: str
    """Its name in the price book."""
    deployment: str
    """Its name at the endpoint; empty where that is the same."""
    prompt_tokens: int | None
    completion_tokens: int | None
    """Of a mean request and its answer; None: nobody counted them."""
    prompt: str
    """Its system prompt; empty where that varies from request to request."""
    requests_per_month: int


def guess_spec(path: Path, folder: Path, paid: PaidToday | None = None, file: str = SPEC_FILE) -> Guess:
    """Read a data file and write the spec that a user would start from.

    Answers that repeat few values are labels, objects are records, tool calls are calls of the tools that the rows
    name, and a column with a usual name for answers holds free answers. The text column is the one with the longest
    texts among the rest. Usual names win ties. A few blank or stray values do not change the job; a line on standard
    error tells how many rows have no answer, or can't be read.

    Args:
        folder: the folder of the future spec; the spec's data path is relative to it.
        paid: the API whose answers the data are; None: not known.
        file: the name of the future spec.

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
    others, alike = tuple[str, ...](), tuple[str, ...]()
    if form in (None, "labelled"):
        _check_not_wrapped(rows, path)
        columns, marked = _with_records(_columns(rows), path)
        label = _answer_column(columns, marked, path)
        folders = sorted({each.path.parent for each in data_files(path)})
        document = _document_column(columns, folders)
        key, text = ("document", document) if document else ("text", _text_column(columns, label, path))
        if not document:
            _tell_of_absent_documents(columns, text, folders, path)
        _check_names(columns[label], label, text, path)
        others = tuple(_others(columns, label, text))
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
            others = tuple(_others({k: v for k, v in _columns(rows).items() if _usual(k) not in _OF_PLAIN_FORMS}))
    kind: str
    details: Any
    kind, details = _task(answers) if tools is None else ("tools", tools)
    if kind != "tools":
        _say_unanswered(answers, places, has_empty_sets=kind == "multi_label" and details[1] is not None)
    if kind == "extract" and label in marked:
        details = schema_of_marks(details)
    elif kind == "extract" and key != "document":
        texts = columns[text] if text else [each.request for each in examples]
        records = [(str(each), _record(answer)) for each, answer in zip(texts, answers, strict=True)]
        rows_of_records = [(each, json.dumps(one, ensure_ascii=False)) for each, one in records if one is not None]
        details = with_literal_fields(details, rows_of_records)
    if kind == "classify":
        details, alike = _one_of_each(details, Counter(label_text(each) or "" for each in filled(answers)))
    labels = details[0] if kind == "multi_label" else details if kind == "classify" else ()
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
        tools=[_json(tool) for tool in details] if kind == "tools" else (),
        data=yaml_scalar(_data_path(path, folder)),
        text=yaml_scalar(text) if text else "",
        key=key,
        label=yaml_scalar(label) if label else "",
        turns=turns,
        paid=paid and _written(paid),
    )
    return Guess(content, kind, _in_words(kind, details), len(answers), text, label, others, alike)


def _written(paid: PaidToday) -> PaidToday:
    """The API's texts as the spec has them."""
    deployment = yaml_scalar(paid.deployment) if paid.deployment else ""
    prompt = _json(paid.prompt) if paid.prompt else ""
    return replace(paid, model=yaml_scalar(paid.model), deployment=deployment, prompt=prompt)


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


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The values of each column that at least half of the rows have."""
    counts = Counter(name for row in rows for name in row)
    usual = [name for name, count in counts.items() if count >= _LEAST_FILLED * len(rows)]
    return {name: [row.get(name) for row in rows] for name in usual}


def _with_records(columns: dict[str, list[Any]], path: Path) -> tuple[dict[str, list[Any]], frozenset[str]]:
    """(the columns, with records in the place of values that are marked in the text; the columns that had such)."""
    marked = set()
    for name, values in columns.items():
        found = [marks_in(value) for value in values]
        given = [(value, marks) for value, marks in zip(values, found, strict=True) if not is_blank(value)]
        if not any(marks for _, marks in most(lambda pair: pair[0] == [] or pair[1] is not None, given)):
            continue
        texts = columns[_text_column(columns, name, path)]
        places = [(mark, text) for marks, text in zip(found, texts, strict=True) for mark in marks or ()]
        if most(lambda place: is_word(*place), places):
            columns[name] = list(map(_marked, values, found, texts))
            marked.add(name)
    return columns, frozenset(marked)


def _marked(value: Any, marks: Sequence[TextMark] | None, text: Any) -> Any:
    """A value, or the record of its marks; None: one of them is not within the text."""
    if marks is None or not isinstance(text, str):
        return {} if value == [] else value
    try:
        return record_of(marks, text)
    except JsonRefusal:
        return None


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


def _task(answers: Sequence[Any]) -> tuple[str, Any]:
    """(the kind of task, its details: labels, labels with their separator where a row has several, or the schema)."""
    given = filled(answers)
    if records := _records(given):
        return "extract", guess_schema(records)
    if several := guess_labels(answers, MAX_LABELS):
        return "multi_label", several
    return ("classify", sorted(labels)) if (labels := _repeated(given)) else ("generate", None)


def _flow(schema: Mapping[str, Any]) -> str:
    """A schema as JSON, which is YAML too, with one field a line."""
    fields = ",\n".join(f"  {_json(name)}: {_json(part)}" for name, part in schema["properties"].items())
    rest = {name: value for name, value in schema.items() if name != "properties"}
    return _json(rest)[:-1] + f', "properties": {{\n{fields}}}}}'


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


def _records(values: Sequence[Any]) -> list[dict[str, Any]]:
    """The records, if nearly all values are some and not all are empty; else none."""
    found = [record for value in values if (record := _record(value)) is not None]
    return found if any(found) and len(found) >= NEARLY_ALL * len(values) else []


def _repeated(values: Sequence[Any]) -> set[str]:
    """The labels, if nearly all values can be some, and they are few enough and occur again; else none."""
    labels = most(lambda value: isinstance(value, (str, int, float)), values)
    different = {label_text(label) or "" for label in labels}
    return different if 2 <= len(different) <= min(MAX_LABELS, len(labels) / 2) else set()


def _answer_column(columns: dict[str, list[Any]], marked: Collection[str], path: Path) -> str:
    """The column of the answers.

    Usual names come first (of labels, then of records, then of free answers), then columns that repeat values or hold
    records.
    """

    of_tracker = not (_TRACKER_NAMES | _DESK_NAMES).isdisjoint(map(_usual, columns))

    def score(name: str) -> float | None:
        usual, values = _usual(name), columns[name]
        given = filled(values)
        share = len(given) / len(values)
        labels = _repeated(given)
        if name in marked:
            is_named = usual in _MARK_NAMES
            base = 3.0 if is_named else 1.5
        elif _records(given):
            is_named = usual in _RECORD_NAMES
            base = 5.0 if is_named else 1.0
        elif labels:
            is_named, base = _of_labels(usual)
            if any(isinstance(each, (bool, float)) for each in given) and not is_named:
                base = 0.5  # often a remark on a row whose answer is a record
            base -= len(labels) / len(given)
        elif guess_labels(values, MAX_LABELS):
            is_named, base = _of_labels(usual)
            share = 1 - values.count(None) / len(values)  # a blank text is an answer: no label holds
        elif usual in _REPLY_NAMES and most(lambda value: isinstance(value, str), given):
            # In an issue tracker's table the summary is a title.
            is_named, base = True, 1.6 if usual == "summary" and of_tracker else 4.0
        else:
            return None
        return base + share if share >= (_LEAST_FILLED if is_named else NEARLY_ALL) else None

    what = (
        "labels (two or more values that repeat, or lists of them), records (objects) or answers (a column named "
        "reply, answer, …)"
    )
    fix = f"{_ROWS} If nobody has answered these requests yet, APIs can: tunewright label  (docs/labels.md)"
    dropped = [why for name, values in columns.items() if score(name) is None and (why := _why_no_label(name, values))]
    label = _best(columns, score, path, what, fix, dropped)
    if dropped and _of_labels(_usual(label))[1] < _SURE:
        say(f"{'; '.join(dropped)}, so '{label}' was taken for the answer. If it is another one, set data.label.")
    return label


def _usual(name: str) -> str:
    """A column's name in the form of the lists of usual names: `shortDescription` is `short description`."""
    return " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])|[_-]", " ", name).lower().split())


def _why_no_label(name: str, values: Sequence[Any]) -> str:
    """Why a column with a usual name of labels is not taken for the answer; empty: it has another name, or values of
    another kind."""
    labels = most(lambda value: isinstance(value, (str, int, float)), filled(values))
    different = len({label_text(label) for label in labels})
    if different < 2 or not _of_labels(_usual(name))[0]:
        return ""
    if _repeated(labels):
        return f"'{name}' is empty in {len(values) - len(labels):,} of {len(values):,} rows"
    if different > MAX_LABELS:
        return f"'{name}' has {different:,} values, more than {MAX_LABELS}"
    return f"'{name}' has {different:,} values in {len(labels):,} rows, which hardly repeat"


def _of_labels(usual: str) -> tuple[bool, float]:
    """(whether a column of labels has a usual name, how well the name fits)."""
    names = {usual, usual.removesuffix("s")}
    if not _LABEL_NAMES.isdisjoint(names):
        return True, _SURE
    if not _DESK_NAMES.isdisjoint(names):
        return True, 6.0
    return False, 1.7 if usual in _WORKFLOW_NAMES else 2.0


def _others(columns: Mapping[str, Sequence[Any]], *used: str) -> Iterator[str]:
    """The other columns that repeat values, with how many."""
    for name, values in columns.items():
        given = filled(values)
        if name not in used and len(given) >= _LEAST_FILLED * len(values) and (found := _repeated(given)):
            yield f"{name} ({len(found)})"


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


def _check_names(answers: Sequence[Any], label: str, text: str, path: Path) -> None:
    """Raises:
    UserError: the columns' names are a sentence and one of the answers, as in a table without a line of names.
    """
    words = text.lower().split()
    is_sentence = len(words) >= _SENTENCE or (len(words) > 1 and any(each.isdecimal() for each in words))
    is_sentence = is_sentence or any(each > PARTED for each in text)
    is_name = not set(words).isdisjoint(_TEXT_NAMES)
    if path.suffix.lower() in _TABLES and is_sentence and not is_name and label in map(str, answers):
        raise UserError(
            "The first line looks like a row, and should name the columns.",
            where=f"{path}:1",
            why=f"'{label}' is there, and other rows have it as their answer.",
            fix="Put a line with the names above it, in a copy of the file, such as text,label; and separate them as "
            "the rows are.",
        )


def _text_column(columns: dict[str, list[Any]], label: str, path: Path) -> str:
    """The column of the texts: the one with the longest, if usual names count several times. Ids, addresses and times
    are none beside words."""
    worded = {name: _share_of_words(values) for name, values in columns.items() if name != label}
    have_words = max(worded.values(), default=0) >= _LEAST_FILLED

    def score(name: str) -> float | None:
        values, usual = [v for v in columns[name] if isinstance(v, str)], _usual(name)
        if name == label or not values:
            return None
        if have_words and worded[name] <= 1 - NEARLY_ALL and usual not in _TEXT_NAMES:
            return None
        length = sum(map(len, values)) / len(columns[name])
        return length * (3 if usual in _TEXT_NAMES else 1.5 if usual in _TITLE_NAMES else 1)

    return _best(columns, score, path, "text", _ROWS)


def _share_of_words(values: Sequence[Any]) -> float:
    """The share of a column's values that hold words: two at least, or text in a script without blanks."""
    texts = [value for value in filled(values)[:_WORDED] if isinstance(value, str)]
    return sum(map(_has_words, texts)) / max(len(texts), 1)


def _has_words(text: str) -> bool:
    words = [word for word in text.split() if any(map(str.isalpha, word))]
    return len(words) > 1 or any(sign >= PARTED and sign.isalpha() for word in words for sign in word)


def _document_column(columns: dict[str, list[Any]], folders: Sequence[Path]) -> str:
    """The column whose first values are nearly all paths of existing documents; empty where there is none."""
    named = (name for name, values in columns.items() if _names_documents(values))
    return next((name for name in named if most(lambda each: _is_in(each, folders), _first(columns[name]))), "")


def _names_documents(values: Sequence[Any]) -> bool:
    """Whether a column's first values are nearly all paths of documents, existing or not."""
    has_all = len(filled(values)) >= NEARLY_ALL * len(values)
    return has_all and bool(most(lambda each: Path(str(each)).suffix.lower() in SUFFIXES, _first(values)))


def _first(values: Sequence[Any]) -> list[Any]:
    return filled(values)[:_SAMPLE]


def _is_in(name: Any, folders: Sequence[Path]) -> bool:
    """Whether a document is there, seen from one of the folders of the rows."""
    return any(is_there(folder / str(name)) for folder in folders)


def _tell_of_absent_documents(columns: dict[str, list[Any]], text: str, folders: Sequence[Path], path: Path) -> None:
    """Say that a column names documents that are not there, if one does.

    Raises:
        UserError: it is the text's column: a path tells nothing of what the document says.
    """
    for name, values in columns.items():
        absent = [str(each) for each in _first(values) if not _is_in(each, folders)] if _names_documents(values) else []
        if not absent:
            continue
        what = f"The column '{name}' names documents that are not there."
        why = f"For example '{absent[0]}', which was looked for in {folders[0]}."
        fix = "Put them there, or write their paths as seen from the data file."
        if _is_in(absent[0].replace("\\", "/"), folders):
            fix = "Write / in place of \\ in the paths."
        if name == text:
            raise UserError(what, where=path, why=why, fix=fix)
        say(f"{what} {why} {fix}")


_ROWS = 'Rows look like {"text": …, "label": …}. To see some, type: tunewright init --example tickets  (a project).'


def _best(
    columns: dict[str, list[Any]], score: Any, path: Path, what: str, fix: str, dropped: Sequence[str] = ()
) -> str:
    """The column with the best score.

    Args:
        dropped: why columns that one would expect have no score, for the error.
    """
    scored = {name: value for name in columns if (value := score(name)) is not None}
    if not scored:
        listed = f"The columns are: {', '.join(columns)}." if columns else "No column is in half of the rows."
        why = " ".join([listed, *(f"{each}." for each in dropped)])
        raise UserError(f"No column looks like {what}.", where=path, why=why, fix=fix)
    return max(scored, key=lambda name: float(scored[name]))


def yaml_scalar(value: str) -> str:
    """A YAML scalar: plain where YAML reads the same text back, in double quotes (as in JSON) otherwise."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    if re.fullmatch(r"[\w./][\w ./-]*", value):
        try:
            if YAML(typ="safe").load(value) == value:
                return value
        except YAMLError:
            pass
    return _json(value)


def _json(value: Any) -> str:
    """A value as JSON that YAML reads back. YAML refuses some characters as they are, or takes them for line breaks."""
    text = json.dumps(value, ensure_ascii=False)
    return _UNPRINTED.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text)

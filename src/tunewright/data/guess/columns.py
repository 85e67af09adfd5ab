"""Which column of rows has the answers, the texts or the documents."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.core.strict_json import JsonRefusal
from tunewright.data.guess.answers import MAX_LABELS, guess_labels, records_in, repeated
from tunewright.data.guess.values import NEARLY_ALL, filled, is_blank, most
from tunewright.data.readers.forms import label_text
from tunewright.data.readers.marks import PARTED, TextMark, is_word, marks_in, record_of
from tunewright.documents import SUFFIXES, is_there

_TABLES = (".csv", ".tsv")
_SENTENCE = 3
"""Words that a column's name hardly has."""
_SAMPLE = 20
"""Values that tell whether a column names documents."""
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
_REPLY_NAMES = ("reply", "response", "answer", "completion", "output", "summary", "target")
_WORDED = 1000
"""Values of a column that tell whether it holds words."""
_ROWS = 'Rows look like {"text": …, "label": …}. To see some, type: tunewright init --example tickets  (a project).'


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The values of each column that at least half of the rows have."""
    counts = Counter(name for row in rows for name in row)
    usual = [name for name, count in counts.items() if count >= _LEAST_FILLED * len(rows)]
    return {name: [row.get(name) for row in rows] for name in usual}


def with_records(columns: dict[str, list[Any]], path: Path) -> tuple[dict[str, list[Any]], frozenset[str]]:
    """(the columns, with records in the place of values that are marked in the text; the columns that had such)."""
    marked = set()
    for name, values in columns.items():
        found = [marks_in(value) for value in values]
        given = [(value, marks) for value, marks in zip(values, found, strict=True) if not is_blank(value)]
        if not any(marks for _, marks in most(lambda pair: pair[0] == [] or pair[1] is not None, given)):
            continue
        texts = columns[text_column(columns, name, path)]
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


def answer_column(columns: dict[str, list[Any]], marked: Collection[str], path: Path) -> str:
    """The column of the answers.

    Usual names come first (of labels, then of records, then of free answers), then columns that repeat values or hold
    records.
    """

    of_tracker = not (_TRACKER_NAMES | _DESK_NAMES).isdisjoint(map(usual_name, columns))

    def score(name: str) -> float | None:
        usual, values = usual_name(name), columns[name]
        given = filled(values)
        share = len(given) / len(values)
        labels = repeated(given)
        if name in marked:
            is_named = usual in _MARK_NAMES
            base = 3.0 if is_named else 1.5
        elif records_in(given):
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
    if dropped and _of_labels(usual_name(label))[1] < _SURE:
        say(f"{'; '.join(dropped)}, so '{label}' was taken for the answer. If it is another one, set data.label.")
    return label


def usual_name(name: str) -> str:
    """A column's name in the form of the lists of usual names: `shortDescription` is `short description`."""
    return " ".join(re.sub(r"(?<=[a-z])(?=[A-Z])|[_-]", " ", name).lower().split())


def _why_no_label(name: str, values: Sequence[Any]) -> str:
    """Why a column with a usual name of labels is not taken for the answer; empty: it has another name, or values of
    another kind."""
    labels = most(lambda value: isinstance(value, (str, int, float)), filled(values))
    different = len({label_text(label) for label in labels})
    if different < 2 or not _of_labels(usual_name(name))[0]:
        return ""
    if repeated(labels):
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


def others_of(columns: Mapping[str, Sequence[Any]], *used: str) -> Iterator[str]:
    """The other columns that repeat values, with how many."""
    for name, values in columns.items():
        given = filled(values)
        if name not in used and len(given) >= _LEAST_FILLED * len(values) and (found := repeated(given)):
            yield f"{name} ({len(found)})"


def text_column(columns: dict[str, list[Any]], label: str, path: Path) -> str:
    """The column of the texts: the one with the longest, if usual names count several times. Ids, addresses and times
    are none beside words."""
    worded = {name: _share_of_words(values) for name, values in columns.items() if name != label}
    have_words = max(worded.values(), default=0) >= _LEAST_FILLED

    def score(name: str) -> float | None:
        values, usual = [v for v in columns[name] if isinstance(v, str)], usual_name(name)
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


def document_column(columns: dict[str, list[Any]], folders: Sequence[Path]) -> str:
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


def say_absent_documents(columns: dict[str, list[Any]], text: str, folders: Sequence[Path], path: Path) -> None:
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


def check_names(answers: Sequence[Any], label: str, text: str, path: Path) -> None:
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

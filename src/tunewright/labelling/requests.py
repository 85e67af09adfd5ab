"""The requests that have no answer yet, and the sample of them that people answer."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewright.config import DataSpec, Spec
from tunewright.core.errors import UserError
from tunewright.core.strict_json import JsonRefusal
from tunewright.data import evenly
from tunewright.data.checks.rows import personal_data
from tunewright.data.readers import read_rows
from tunewright.data.readers.chat import messages
from tunewright.data.readers.forms import LOGGED
from tunewright.tasks import Example, Message, Meta
from tunewright.tasks.input_form import InputForm

WEIGHT = "weight"
"""The key of a training row's weight."""
_LOOKED_AT = 500
"""Requests in which personal data are looked for; it takes milliseconds each."""


@dataclass(frozen=True)
class Unlabelled:
    """A request without an answer."""

    id: str
    """A hash of its text: equal texts are one request."""
    text: str
    kept: Mapping[str, Any] = field(default_factory=dict)
    """The columns of group and time, which its training row needs."""


@dataclass(frozen=True)
class Requests:
    """What a file of requests holds."""

    rows: list[Unlabelled]
    """In the file's order."""
    left_out: dict[str, int]
    """How many rows are none, by the reason."""

    def some(self, ids: Collection[str]) -> list[Unlabelled]:
        """Those with these ids, in the file's order."""
        wanted = set(ids)
        return [row for row in self.rows if row.id in wanted]


def read_requests(spec: Spec, source: Path) -> Requests:
    """The requests of a file: rows with the column `data.text`, or with `messages` whose last one is a user's.

    Raises:
        UserError: there is no such file, a line can't be read, no row is a request without an answer, or a column has
            the name of what labelled rows carry.
    """
    data = spec.data
    if data.document:
        raise UserError(
            "Documents can't be labelled by teachers yet, because APIs are asked with texts.",
            where="data.document",
            fix="Put the documents' texts into a column, and name that under `data.text`.",
        )
    _require_free_names(data)
    form = InputForm.of(spec.task)
    found: dict[str, Unlabelled] = {}
    left_out: Counter[str] = Counter()
    for _, row in read_rows(source):
        text = _text(row, data, form)
        if isinstance(text, _LeftOut):
            left_out[text.why] += 1
            continue
        identity = id_of(text)
        if identity in found:
            left_out["repeats an earlier one"] += 1
            continue
        kept = {column: row[column] for column in (data.group, data.time) if column and column in row}
        found[identity] = Unlabelled(identity, text, kept)
    if not found:
        reasons = "; ".join(f"{count:,} rows: {why}" for why, count in left_out.most_common())
        raise UserError(
            "No row is a request without an answer.",
            where=source,
            why=f"{reasons[:1].upper()}{reasons[1:]}.",
            fix=f"Name the column of the text under `data.text` (now '{data.text}'), or give rows with `messages`.",
        )
    return Requests(list(found.values()), dict(left_out))


def _require_free_names(data: DataSpec) -> None:
    """Refuse columns that the weight or the origin of a label would overwrite: all stand in one row."""
    answers = [data.label] if isinstance(data.label, str) else list(data.label.values())
    for key, columns in (("text", [data.text]), ("label", answers), ("group", [data.group]), ("time", [data.time])):
        for column in (WEIGHT, LOGGED):
            if column in columns:
                raise UserError(
                    f"The column '{column}' can't be used here: each labelled row carries a '{column}' of its own.",
                    where=f"data.{key}",
                    why=f"'{WEIGHT}' says how far a label is trusted, and '{LOGGED}' who gave it.",
                    fix="Name another column.",
                )


def id_of(text: str) -> str:
    """The id of a text, whatever its white space."""
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class _LeftOut:
    why: str


_ANSWERED = _LeftOut("has an answer already")
_EMPTY = _LeftOut("has no text")
_NO_ANSWER = "\N{OBJECT REPLACEMENT CHARACTER}"
"""Stands where the answer would, for the reader of conversations, which wants one."""


def _text(row: Mapping[str, Any], data: DataSpec, form: InputForm) -> str | _LeftOut:
    if "messages" in row:
        return _of_messages(row["messages"], form)
    columns = (data.label,) if isinstance(data.label, str) else tuple(data.label.values())
    if any(row.get(column) not in (None, "") for column in columns):
        return _ANSWERED
    given = row.get(data.text)
    text = form.of_text(given) if isinstance(given, str) else ""
    return text if text.strip() else _EMPTY


def _of_messages(given: Any, form: InputForm) -> str | _LeftOut:
    try:
        read = messages([*given, {"role": "assistant", "content": _NO_ANSWER}], [])
    except (JsonRefusal, TypeError):
        return _LeftOut("has messages that can't be read")
    *turns, last = [Message.model_validate(each) for each in read if each["role"] != "system"]
    if last.content != _NO_ANSWER or (turns and turns[-1].role != "user"):
        return _ANSWERED
    return form.of_turns(turns) if turns and turns[-1].content.strip() else _EMPTY


def personal_share(rows: Sequence[Unlabelled]) -> float:
    """The share of requests with personal data, among those looked at: evenly spaced ones, `_LOOKED_AT` at most."""
    some = list(evenly(rows, _LOOKED_AT))
    examples = (Example.of(row.text, "", Meta(id=row.id)) for row in some)
    return sum(bool(personal_data(each)) for each in examples) / len(some)


def draw_sample(rows: Sequence[Unlabelled], count: int, seed: int, before: Sequence[str] = ()) -> list[str]:
    """The ids of a random sample.

    Args:
        before: the ids of an earlier draw, which stay; a larger sample adds to them.
    """
    known = {row.id for row in rows}
    kept = [each for each in before if each in known]
    others = sorted(known - set(kept))
    random.Random(seed).shuffle(others)
    return [*kept, *others[: max(0, count - len(kept))]]

"""Answers that an API gave earlier, as a baseline that costs nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.data.readers import Columns, Fault, Note, read


def recorded_answers(spec: Spec, file: Path) -> Mapping[str, str]:
    """What was answered, by the text that was asked; white space does not count. Of a text that was asked several times
    it is the last answer.

    Raises:
        UserError: the file is not there, or a row of it can't be read.
    """
    data = spec.data
    columns = Columns(data.text, data.label, None, None, data.document, data.separator, spec.documents_root)
    found = {}
    for item in read(file, columns=columns):
        if isinstance(item, Fault):
            raise UserError(
                item.reason,
                where=item.where,
                fix=f"Recorded answers are stored completions, or rows with '{data.text}' and what the API answered in "
                f"'{data.label}'.",
            )
        if not isinstance(item, Note):
            found[key(item.request)] = item.answer
    return found


def key(text: str) -> str:
    """What makes two requests the same."""
    return " ".join(text.split())

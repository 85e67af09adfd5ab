"""Model calls in files of any form: what `tunewright traffic` reads of logs that others wrote."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from tunewright.core.strict_json import JsonRefusal
from tunewright.data.readers.base import Fault, fault
from tunewright.data.readers.forms import Columns, detect, example, is_failed, is_stored
from tunewright.data.readers.opening import left_out, reader_of, sampled, unpaged
from tunewright.data.readers.sources import SourceFile, files
from tunewright.logs import LOG_FORMS, REQUESTS_ALONE, LoggedCall
from tunewright.logs.beside import Neighbours
from tunewright.logs.call import answer_of_message
from tunewright.logs.openai import completion_call


def read_calls(source: str | Path) -> Iterator[LoggedCall | Fault]:
    """The calls in a file, a folder or a pattern, failed ones included. Of training data, an example is a call without
    a time, a model and a price. Memory is bounded.

    Raises:
        UserError: there is no such file.
    """
    neighbours = Neighbours()
    return chain.from_iterable(_calls(file, neighbours) for file in files(source))


def _calls(file: SourceFile, neighbours: Neighbours) -> Iterator[LoggedCall | Fault]:
    path = file.path
    reader = reader_of(path)
    if isinstance(reader, Fault):
        yield fault(path, 1, *left_out(path, reader)) if file.is_doubtful else reader
        return
    form = detect(sampled(unpaged(reader(path)), is_doubtful=file.is_doubtful))
    requests = neighbours.of(path)
    if file.is_doubtful and form is None:
        yield fault(path, 1, *left_out(path, reader))
        return
    if form in REQUESTS_ALONE and requests.have_answers(form):
        return
    for item in unpaged(reader(path)):
        if isinstance(item, Fault):
            yield item
        elif isinstance(item, tuple):
            number, row = item
            if form in LOG_FORMS and LOG_FORMS[form].fits(row):
                yield from LOG_FORMS[form].calls(row, requests)
                continue
            if form == "stored" and (is_stored(row) or is_failed(row)):
                yield completion_call(row)
                continue
            try:
                if form is None or form in LOG_FORMS:
                    raise JsonRefusal("form", "This row has another form than the others of its file, or none.")
                yield _of_example(row, form, f"{file.name}:{number}", file)
            except JsonRefusal as refusal:
                yield fault(path, number, refusal.code, refusal.reason)


def _of_example(row: dict[str, Any], form: str, source: str, file: SourceFile) -> LoggedCall:
    read = example(row, form, Columns(), source, file, [])
    messages = [message.model_dump(exclude_defaults=True) for message in read.messages]
    request: dict[str, Any] = {"messages": messages[:-1]}
    if read.tools:
        request["tools"] = read.tools
    return LoggedCall("chat", request, answer_of_message(messages[-1]))

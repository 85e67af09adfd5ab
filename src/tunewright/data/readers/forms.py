"""The forms of rows. For each, one function turns an object into the parts of the canonical example."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tunewright.core.errors import UserError
from tunewright.core.strict_json import JsonRefusal
from tunewright.data.readers import chat
from tunewright.data.readers.base import CALL
from tunewright.data.readers.chat import Remarks
from tunewright.data.readers.marks import marks_in, record_of
from tunewright.data.readers.sources import SourceFile
from tunewright.data.shown import shown
from tunewright.documents import read_document, require_within
from tunewright.logs import LoggedCall, log_form_of
from tunewright.logs.columns import failure_in
from tunewright.logs.openai import NO_ANSWER, completion_call
from tunewright.logs.values import items, parsed
from tunewright.tasks import Example

_SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
}


LOGGED = "call"
"""The key of `meta.extra` under which an example of a log has what the log knows of its call."""


@dataclass(frozen=True)
class Columns:
    """The keys (in a table: columns) of an example's text and label, and of its group and time if it has any."""

    text: str = "text"
    label: str | Mapping[str, str] = "label"
    """The column of the answer; for a record in several columns, the column of each field."""
    group: str | None = None
    time: str | None = None
    document: str | None = None
    """The column with the path of a document, whose text is the example's text; None: `text` holds the text."""
    separator: str | None = None
    """The separator of several labels in one text; None: a text is one answer."""
    documents_root: Path | None = None
    """The folder in which documents must lie; None: the folder of the data."""
    is_record: bool = False
    """Whether the answers are records, so that an empty list of marked values is one."""

    @property
    def request(self) -> str:
        """The column of the request."""
        return self.document or self.text


@dataclass
class _Parts:
    messages: Any
    """In the chat form, not yet checked."""
    used: tuple[str, ...]
    """The keys of the row that go into the example; all others go to `meta.extra`."""
    tools: Any = None
    extra: dict[str, Any] = field(default_factory=dict)
    """Further values for `meta.extra`, beside the unused keys."""


def example(
    row: dict[str, Any], form: str, columns: Columns, source: str, file: SourceFile, remarks: Remarks
) -> Example:
    """The canonical example of a row.

    Args:
        form: a name in FORMS.
        source: file and line, which is also the example's id.
        file: the file of the row; document paths are relative to its folder.
        remarks: receives the notes on the row.

    Raises:
        JsonRefusal: the row lacks a key of its form, or its document can't be read.
    """
    parts = FORMS[form].parts(row, columns, remarks)
    if columns.document and form == "labelled":
        parts.messages[0]["content"] = _document(file, parts.messages[0]["content"], columns)
    return _example(row, parts, columns, source, remarks)


def logged_example(row: dict[str, Any], call: LoggedCall, columns: Columns, source: str, remarks: Remarks) -> Example:
    """The canonical example of a call in a log. What the log knows of it is in `meta.extra`.

    Raises:
        JsonRefusal: nothing can be learnt from it.
    """
    message = call.answer_message
    fault = call.fault or (call.answer and call.answer.fault)
    if fault or message is None:
        code, reason = fault or ("no-answer", NO_ANSWER)
        raise JsonRefusal(f"{CALL}{code}", reason)
    tools = items(call.request.get("tools"))
    parts = _Parts([*call.messages, message], tuple(row), _chat_tools(tools), {LOGGED: call.meta})
    if columns.time and columns.time not in row and call.time:
        row, parts.used = {**row, columns.time: call.time.isoformat()}, (*parts.used, columns.time)
    return _example(row, parts, columns, source, remarks, from_log=True)


def _example(
    row: dict[str, Any], parts: _Parts, columns: Columns, source: str, remarks: Remarks, *, from_log: bool = False
) -> Example:
    meta: dict[str, Any] = {"id": source, "source": source}
    used = set(parts.used)
    for name, column in (("group", columns.group), ("time", columns.time)):
        if column:
            if column not in row:
                raise JsonRefusal("column", f"There is no {name} column {column!r}; this row has {_names(row)}.")
            meta[name] = label_text(row[column]) or _scalar(row, column)
            used.add(column)
    data: dict[str, Any] = {"messages": chat.messages(parts.messages, remarks), "meta": meta}
    if tools := chat.tools(parts.tools):
        data["tools"] = tools
    if not from_log and "weight" not in used and row.get("weight") not in (None, ""):
        data["weight"] = chat.weight(row["weight"], "the row")
    used.add("weight")
    if extra := {key: value for key, value in row.items() if key not in used} | parts.extra:
        meta["extra"] = extra
    if (extra := {key: value for key, value in extra.items() if key != LOGGED}) and not from_log:
        remarks.append(("extra-keys", f"Rows have other keys, which are kept: {', '.join(map(repr, sorted(extra)))}."))
    try:
        return Example.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise JsonRefusal("shape", f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from None


def detect(rows: Iterable[dict[str, Any]], columns: Columns | None = None) -> str | None:
    """The form of most of the rows, by their keys; None where no row has a known form.

    Args:
        columns: the columns that the user named; rows that have them are `labelled`, whatever other keys they have.
    """
    counts = Counter(form for row in rows if (form := form_of(row, columns)))
    return max(counts, key=lambda form: (counts[form], form == "chat")) if counts else None


def form_of(row: dict[str, Any], columns: Columns | None = None) -> str | None:
    """The form of a row, by its keys: a log's own, one of training data, or a log's that people write themselves."""
    if columns and columns.request in row and any(column in row for column in _answer_columns(columns)):
        return "labelled"
    if log := log_form_of(row, plain=False):
        return log
    if is_stored(row):
        return "stored"
    return log_form_of(row, plain=True) or next((name for name, form in FORMS.items() if form.fits(row)), None)


def _chat_tools(tools: list[Any]) -> list[Any]:
    """Tools in the form of chat completions; the Responses API has the function's fields in the tool itself."""
    return [
        {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}
        if isinstance(tool, dict) and tool.get("type") == "function" and "function" not in tool
        else tool
        for tool in tools
    ]


def _chat(row: dict[str, Any], _columns: Columns, _remarks: Remarks) -> _Parts:
    _need(row, "chat", "messages")
    return _Parts(_listed(row["messages"]), ("messages", "tools"), row.get("tools"))


def _prompt(row: dict[str, Any], _columns: Columns, _remarks: Remarks) -> _Parts:
    """The form of TRL: each of the two is a text, or messages."""
    _need(row, "prompt", "prompt", "completion")
    asked, answered = _messages_in(row["prompt"]), _messages_in(row["completion"])
    turns = _turns(row["prompt"], row["completion"] if (text := label_text(row["completion"])) is None else text)
    messages = [*(asked or turns[:1]), *(answered or turns[1:])]
    if asked is None:
        return _Parts(messages, ("prompt", "completion"))
    return _Parts(messages, ("prompt", "completion", "tools"), row.get("tools"))


def _messages_in(value: Any) -> list[Any] | None:
    """The messages in a list, or the one that is an object, as such or as JSON text; None: it is something else, such
    as a text or a record."""
    value = parsed(value)
    messages = value if isinstance(value, list) else [value]
    return messages if messages and all(map(_is_message, messages)) else None


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and "role" in value and ("content" in value or "tool_calls" in value)


def _listed(value: Any) -> Any:
    """A list that a table has as JSON text; any other value as it is."""
    listed = parsed(value)
    return listed if isinstance(listed, list) else value


def _labelled(row: dict[str, Any], columns: Columns, _remarks: Remarks) -> _Parts:
    used = (columns.request, *_answer_columns(columns))
    _need(row, "labelled", *used)
    return _Parts(_turns(_scalar(row, columns.request), _answer(row, columns)), used)


def _document(file: SourceFile, name: str, columns: Columns) -> str:
    path = file.path.parent / name
    try:
        require_within(columns.documents_root or file.folder, path)
        return read_document(path)
    except UserError as error:
        raise JsonRefusal("document", error.paragraph()) from None


def _answer_columns(columns: Columns) -> tuple[str, ...]:
    return (columns.label,) if isinstance(columns.label, str) else tuple(columns.label.values())


def _answer(row: dict[str, Any], columns: Columns) -> str:
    """The answer: a label; or a record or a list of labels as JSON. A record may come from several columns."""
    if not isinstance(columns.label, str):
        return json.dumps({name: row[column] for name, column in columns.label.items()}, ensure_ascii=False)
    value = row[columns.label]
    if isinstance(value, (dict, list)):
        return json.dumps(_with_values(value, row, columns), ensure_ascii=False)
    answer = label_text(value) or _scalar(row, columns.label)
    if columns.separator is None or answer.lstrip().startswith("["):
        return answer
    return json.dumps([part.strip() for part in answer.split(columns.separator) if part.strip()], ensure_ascii=False)


def label_text(value: Any) -> str | None:
    """A label as text; None: the value is something else. True and False are written as in a spec's labels and in
    tables of pandas, which makes decimals of whole numbers where a value is missing."""
    if isinstance(value, float):
        return str(int(value) if value.is_integer() else value)
    return str(value) if isinstance(value, (str, int)) else None


def _with_values(value: Any, row: dict[str, Any], columns: Columns) -> Any:
    """Marks in the row's text as the record of their values; another answer as it is."""
    if not columns.is_record or columns.document:
        return value
    if value == []:
        return {}
    marks = marks_in(value)
    return record_of(marks, _scalar(row, columns.text)) if marks else value


def _alpaca(row: dict[str, Any], _columns: Columns, _remarks: Remarks) -> _Parts:
    """The form of Alpaca. The input, if there is one, follows the instruction after a blank line."""
    _need(row, "alpaca", "instruction", "output")
    texts = [row["instruction"], *([row["input"]] if row.get("input") not in (None, "") else [])]
    for value in texts:
        if not isinstance(value, str):
            raise JsonRefusal("content-type", f"The instruction or input is a {type(value).__name__}, not text.")
    turns = _turns("\n\n".join(texts), row["output"])
    if row.get("system"):
        turns.insert(0, {"role": "system", "content": row["system"]})
    return _Parts(turns, ("instruction", "input", "output", "system"))


def _sharegpt(row: dict[str, Any], _columns: Columns, _remarks: Remarks) -> _Parts:
    _need(row, "sharegpt", "conversations")
    turns = _listed(row["conversations"])
    if not isinstance(turns, list):
        raise JsonRefusal("shape", "The conversations are not a list of turns with from and value.")
    messages: list[Any] = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, dict) or "value" not in turn or "from" not in turn:
            raise JsonRefusal("shape", f"Turn {number} is not an object with from and value.")
        speaker = turn["from"]
        role = _SHAREGPT_ROLES.get(speaker) if isinstance(speaker, str) else None
        if role is None:
            known = ", ".join(_SHAREGPT_ROLES)
            raise JsonRefusal("role", f"Turn {number} is from '{shown(speaker, 40)}'; write one of: {known}.")
        rest = {key: value for key, value in turn.items() if key not in ("from", "value")}
        messages.append({**rest, "role": role, "content": turn["value"]})
    return _Parts(messages, ("conversations", "system", "tools"), row.get("tools"))


def _stored(row: dict[str, Any], _columns: Columns, remarks: Remarks) -> _Parts:
    """A stored chat completion: the request's messages, in the object or under `request`, and the first choice."""
    request, response = (row[key] if isinstance(row.get(key), dict) else row for key in ("request", "response"))
    messages_key = next((key for key in ("messages", "input") if isinstance(request.get(key), list)), None)
    if messages_key is None:
        reason = "The stored completion lacks the request's messages; export it with them, as messages or input."
        raise JsonRefusal("shape", reason)
    of_log = CALL if request is not row else ""
    if fault := completion_call(row).fault if is_failed(row) else failure_in(row):
        raise JsonRefusal(f"{CALL}{fault[0]}", fault[1])
    choices = response.get("choices")
    choices = choices if isinstance(choices, list) else []
    choice = choices[0] if choices else None
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        raise JsonRefusal(f"{of_log}no-answer", "The stored completion has no choices[0].message; delete this row.")
    if choice.get("finish_reason") in ("length", "content_filter"):
        reason = f"The answer was cut off (finish_reason {choice['finish_reason']}) and would teach cut answers."
        raise JsonRefusal(f"{of_log}cut-answer", f"{reason} Delete this row.")
    if len(choices) > 1:
        remarks.append(("choices", f"The row has {len(choices)} choices; only the first was used."))
    used = (messages_key, "choices", "tools")
    nested = {
        key: {name: value for name, value in part.items() if name not in used}
        for key, part in (("request", request), ("response", response))
        if part is not row
    }
    turns = [*request[messages_key], choice["message"]]
    extra = {key: part for key, part in nested.items() if part}
    if meta := completion_call(row).meta:
        extra[LOGGED] = meta
    return _Parts(turns, (*used, *nested), request.get("tools"), extra)


def _has(*keys: str) -> Callable[[dict[str, Any]], bool]:
    return lambda row: all(key in row for key in keys)


def is_stored(row: dict[str, Any]) -> bool:
    """Whether a row is a chat completion, with or without the request's messages."""
    response = row.get("response") if "request" in row else row
    choices = response.get("choices") if isinstance(response, dict) else None
    return isinstance(choices, list) and all(isinstance(each, dict) and "message" in each for each in choices)


def is_failed(row: dict[str, Any]) -> bool:
    """Whether a row is a request with an error in the place of its completion."""
    response = row.get("response")
    return isinstance(row.get("request"), dict) and isinstance(response, dict) and bool(response.get("error"))


_AZURE_KEYS = frozenset(["resourceid", "operationname", "category"])
_AZURE_CATEGORIES = ("RequestResponse", "AzureOpenAIRequestUsage", "Audit", "Trace")
"""Those of Azure OpenAI. The log of API Management's gateway, of another category, keeps texts."""


def no_texts(row: Mapping[str, Any]) -> str | None:
    """Why a row, or the records that it holds, can have no texts: it is of Azure's diagnostic logs. None: it is not."""
    records = row.get("records")
    first = records[0] if isinstance(records, list) and records and isinstance(records[0], dict) else row
    values = {str(key).lower(): value for key, value in first.items()}
    if not values.keys() >= _AZURE_KEYS or values["category"] not in _AZURE_CATEGORIES:
        return None
    return (
        f"These are Azure's diagnostic logs ({values['category']}), which keep no texts of requests and answers. Put "
        "the gateway in front of the API (tunewright gateway), or export stored completions."
    )


@dataclass(frozen=True)
class _Form:
    parts: Callable[[dict[str, Any], Columns, Remarks], _Parts]
    fits: Callable[[dict[str, Any]], bool]
    """Whether a row has this form, by its keys."""


FORMS: dict[str, _Form] = {
    "stored": _Form(_stored, is_stored),
    "chat": _Form(_chat, _has("messages")),
    "sharegpt": _Form(_sharegpt, _has("conversations")),
    "alpaca": _Form(_alpaca, _has("instruction", "output")),
    "prompt": _Form(_prompt, _has("prompt", "completion")),
    "labelled": _Form(_labelled, _has("text", "label")),
}
"""The forms by name, in the order in which they are tried on a row."""


def _need(row: dict[str, Any], form: str, *keys: str) -> None:
    absent = [key for key in keys if key not in row]
    if absent:
        other = form_of(row)
        hint = (
            f" It looks like the form '{other}': name that form, or put such rows in a file of their own."
            if other
            else ""
        )
        raise JsonRefusal(
            "shape", f"This row has no key {absent[0]!r}, which the form '{form}' needs; it has {_names(row)}.{hint}"
        )


def _names(row: dict[str, Any]) -> str:
    return ", ".join(f"'{shown(key, 40)}'" for key in list(row)[:12]) or "none"


def _turns(request: Any, answer: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": request}, {"role": "assistant", "content": answer}]


def _scalar(row: dict[str, Any], column: str) -> str:
    """A column's value as text; a whole number may be a name."""
    value = row.get(column)
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value)
    what = "is missing" if value is None else f"holds '{shown(value, 40)}', not text"
    raise JsonRefusal("content-type", f"The column {column!r} {what}; fill it, or delete this row.")

"""`tools`: a tool call with its arguments, or a text where no call is due.

An answer is JSON: {"name": …, "arguments": {…}}, or {"text": …}.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tunewright.config.sections import LeaveOut
from tunewright.config.tool_list import ARGUMENTS, NAME, TEXT, call_schema, name_of, parameters_of
from tunewright.core.errors import shortened
from tunewright.tasks.base import ToolCall, Unfit
from tunewright.tasks.example import Conversation, Message
from tunewright.tasks.leaving_out import without
from tunewright.tasks.measures import FIELD, LABEL, Ratio, at, f1, leaves
from tunewright.tasks.record_form import RecordForm, json_value

NO_CALL = "no call"
"""What stands for a text among the tools, in figures."""


class SaidCall(NamedTuple):
    """What an answer in canonical form says."""

    tool: str | None
    """The tool that is called; None: the answer is a text."""
    content: str
    """The arguments as JSON, or the text."""


class ToolsTask(Conversation):
    """Call one of some tools, or answer with a text.

    Args:
        instruction: the system prompt; `{tools}` in it stands for the list of tools with their descriptions.
        tools: as `tunewright.config.tool_list.tool_list` gives them.
        lead: the text that the assistant writes before an answer; see `fitted`.
        leave_out: what of the instruction the model is not shown.
    """

    kind = "tools"
    primary_metric = "call accuracy"

    def __init__(
        self, instruction: str, tools: Sequence[Mapping[str, Any]], lead: str = "", leave_out: LeaveOut = "nothing"
    ):
        listing = "\n".join(_listed(tool) for tool in tools)
        bare = "\n".join(f"- {name_of(tool)}" for tool in tools)
        shown = without(leave_out, instruction, "{tools}", listing, bare)
        super().__init__(shown, lead, whole=instruction.replace("{tools}", listing))
        self._forms = {name_of(tool): RecordForm(parameters_of(tool)) for tool in tools}
        schema = call_schema(tools)
        self._constraint = ToolCall(schema, schema, tuple(tools))

    def fitted(self, encode: Callable[[str], Sequence[int]]) -> ToolsTask:  # noqa: ARG002 (the protocol)
        """This task unchanged: an answer begins with a brace, which no tokenizer joins with the text before it."""
        return self

    @property
    def constraint(self) -> ToolCall:
        return self._constraint

    @property
    def summary(self) -> str:
        return f"{len(self._forms)} tools"

    def claim(self, share: str) -> str:
        return f"makes the right call, or rightly none, on {share}"

    @property
    def answers(self) -> list[str]:
        return []

    def answer_in(self, message: Message) -> str:
        """The call of a message with tool calls (or the former `function_call`), or its text. A text that is an answer
        in JSON already stays as it is; several calls become a list, which is no answer."""
        calls = [call.get("function") for call in message.tool_calls or ()] or [message.extra.get("function_call")]
        if given := [call for call in calls if isinstance(call, Mapping)]:
            return as_answer([(call.get(NAME), call.get(ARGUMENTS)) for call in given])
        if not message.content.strip() or _is_answer(message.content):
            return message.content
        return json.dumps({TEXT: message.content}, ensure_ascii=False)

    def canonical(self, answer: str) -> str:
        """An answer in canonical form: of a call, the arguments as `RecordForm` writes them; of a text, without white
        space around it and with \\n as line ends. Anything that does not begin like JSON is a text.

        Raises:
            Unfit: the JSON is no call of a tool of this task, or its arguments do not fit the tool's schema.
        """
        if not answer.lstrip().startswith(("{", "[{")):
            return _written({TEXT: _plain(answer)})
        value = json_value(answer)
        if isinstance(value, list):
            raise Unfit(f"it has {len(value)} calls, this task takes one")
        if value.keys() == {TEXT} and isinstance(value[TEXT], str):
            return _written({TEXT: _plain(value[TEXT])})
        if value.keys() != {NAME, ARGUMENTS}:
            raise Unfit(f"its keys are not {NAME} and {ARGUMENTS}, or {TEXT} alone")
        form = self._forms.get(value[NAME]) if isinstance(value[NAME], str) else None
        if form is None:
            raise Unfit(f"there is no tool {shortened(repr(value[NAME]), 60)}")
        arguments = value[ARGUMENTS]
        if isinstance(arguments, str):  # as in OpenAI's API
            arguments = json_value(arguments) if arguments.strip() else {}
        arguments = {} if arguments is None else arguments
        if isinstance(arguments, Mapping):
            _require_known(arguments, form, value[NAME])
        try:
            written = form.written(arguments)
        except Unfit as error:
            raise Unfit(f"{value[NAME]}: {error}") from None
        return _call(value[NAME], written)

    def fitting_part(self, answer: str, *, is_chunk: bool = False) -> str:  # noqa: ARG002 (the protocol)
        """The call with the arguments that fit the tool's schema, or an empty text if there is no such tool."""
        try:
            value = json_value(answer)
        except Unfit:
            value = None
        name = value.get(NAME) if isinstance(value, Mapping) else None
        if not isinstance(name, str) or not (form := self._forms.get(name)):
            return _written({TEXT: ""})
        arguments = value.get(ARGUMENTS)
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        return _call(name, form.fitting_part(text))

    def measures(self, request: str, gold: str, answer: str) -> dict[str, Ratio]:  # noqa: ARG002 (the protocol)
        """The scores of an answer: whether it is the right call as a whole, or makes none where none is due; whether
        it is the right tool, or none; the F1 of the arguments' values where the tool is right; whether it makes no
        call where none is due; the F1 of each tool; and that of each argument where its tool is right.

        The words of a text are not compared. "Irrelevance detection" is the word of the Berkeley Function-Calling
        Leaderboard (gorilla.cs.berkeley.edu/leaderboard.html, 2026-11-30).

        Args:
            gold: the right answer, in canonical form.
            answer: an answer in canonical form; any other text counts as one that is wrong in every way.
        """
        right, given = said(gold), said(answer)
        assert right, "the right answer is in canonical form"
        same_tool = given is not None and given.tool == right.tool
        whole = same_tool and (right.tool is None or given == right)
        scores = {
            self.primary_metric: Ratio(float(whole), 1),
            "tool accuracy": Ratio(float(same_tool), 1),
            "argument F1": Ratio(0, 0),
            "irrelevance detection": Ratio(float(same_tool), 1) if right.tool is None else Ratio(0, 0),
        }
        if given and same_tool and right.tool is not None:
            due, found = Counter(leaves(json.loads(right.content))), Counter(leaves(json.loads(given.content)))
            scores["argument F1"] = f1(due, found)
            for path in dict.fromkeys(path for path, _ in (*due, *found)):
                scores[f"{FIELD}{right.tool}.{path}"] = f1(at(path, due), at(path, found))
        for name in dict.fromkeys((right.tool, *((given.tool,) if given else ()))):
            part = 2.0 * (same_tool and name == right.tool)
            scores[f"{LABEL}{name or NO_CALL}"] = Ratio(part, part or 1)
        return scores


def as_answer(calls: Sequence[tuple[Any, Any]]) -> str:
    """Some calls as the JSON of an answer, not yet in canonical form. Several are a list, which is no answer.

    Args:
        calls: (the tool's name, the arguments as JSON text or as values) of each, at least one.
    """
    given = [{NAME: name, ARGUMENTS: arguments} for name, arguments in calls]
    return json.dumps(given[0] if len(given) == 1 else given, ensure_ascii=False)


def replied(message: Mapping[str, Any]) -> str:
    """What the assistant's message in the reply of a chat says: its text, or its call as canonical answers have it.

    Raises:
        ValueError, KeyError: it is no such message.
    """
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    if not calls:
        return str(message["content"])
    return "".join(_written({NAME: call[NAME], ARGUMENTS: json.loads(call[ARGUMENTS])}) for call in calls)


def said(answer: str) -> SaidCall | None:
    """What an answer in canonical form says; None for any other text."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, Mapping):
        return None
    if isinstance(value.get(NAME), str) and isinstance(value.get(ARGUMENTS), Mapping):
        return SaidCall(value[NAME], _written(value[ARGUMENTS]))
    return SaidCall(None, value[TEXT]) if isinstance(value.get(TEXT), str) else None


def narrowed(constraint: ToolCall, names: Sequence[str], *, text: bool) -> ToolCall:
    """The constraint with some of its tools only.

    Args:
        text: whether an answer may be a text.
    """
    tools = tuple(tool for tool in constraint.tools if name_of(tool) in names)
    schema = call_schema(tools, text=text)
    return ToolCall(schema, schema, tools)


def _listed(tool: Mapping[str, Any]) -> str:
    described = tool["function"].get("description")
    return f"- {name_of(tool)}: {' '.join(described.split())}" if described else f"- {name_of(tool)}"


def _require_known(arguments: Mapping[str, Any], form: RecordForm, tool: str) -> None:
    """Refuse arguments that a tool does not have. A record's form leaves them out, which would hide that the answer is
    about another tool of that name.

    Raises:
        Unfit: the schema takes no such argument.
    """
    if (unknown := form.unknown(arguments)) is not None:
        raise Unfit(f"{tool}: it has no argument {shortened(repr(unknown), 60)}")


def _is_answer(text: str) -> bool:
    """Whether a text is an object with the keys of an answer."""
    try:
        value = json.loads(text) if text.lstrip().startswith("{") else None
    except (ValueError, RecursionError):
        return False
    return isinstance(value, Mapping) and (value.keys() >= {NAME, ARGUMENTS} or value.keys() == {TEXT})


def _plain(text: str) -> str:
    plain = re.sub(r"\r\n?", "\n", text).strip()
    try:
        plain.encode()
    except UnicodeEncodeError:
        raise Unfit("it contains a lone surrogate, which is not a character") from None
    return plain


def _call(name: str, arguments: str) -> str:
    """A call with its arguments, which are JSON in canonical form."""
    return f"{_written({NAME: name})[:-1]},{_written(ARGUMENTS)}:{arguments}}}"


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

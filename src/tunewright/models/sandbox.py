"""Where a chat template runs: Jinja's sandbox, with what transformers gives a template, and a budget.

A template comes with a downloaded model. The sandbox keeps it from Python's own objects. The budget keeps it from
hanging the server or filling its memory: each turn of a loop, each call and each character that is made costs
something, and a template that has spent its budget ends with an error. Operations that could make much out of little
in one step (`'x' * 10**10`, `|center`, `%`-formats) are priced before they run, or left out.

What a template may use beyond Jinja follows transformers 5.24, `utils/chat_template_utils.py` (read 2026-11-27).
"""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from jinja2 import Environment, Template, TemplateError, Undefined, UndefinedError, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

_SOURCE = 1 << 19
"""Characters of a template's source. The longest of known models have 30 thousand."""
_STEPS = 1 << 23
"""Characters, turns and calls of a rendering, together: a fraction of a second, some ten megabytes."""
_PER_CHARACTER = 64
"""Of the above, what each character of the messages allows for besides."""
_SECONDS = 20.0
_CALL = 8
"""What a call or a turn of a loop costs, in characters."""
_METHODS = frozenset({
    "strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "partition", "rpartition", "startswith", "endswith",
    "lower", "upper", "title", "capitalize", "removeprefix", "removesuffix", "find", "rfind", "index", "count",
    "replace", "join", "isdigit", "isalpha", "isspace", "isupper", "islower",
})  # fmt: skip
"""Of a string. The others pad it to any width, or read a format of any width."""
_FILTERS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "groupby", "int",
    "items", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "safe",
    "select", "selectattr", "sort", "string", "sum", "title", "trim", "unique", "upper",
)  # fmt: skip
"""Without those that pad or divide by any number."""
_WIDTHS = re.compile(r"%[-_0^#]?\d")
_FORMAT = 100
_EXPONENT = 64
_BITS = 1024


class Spent(TemplateError):
    """A template took more than its budget."""


class _Budget:
    def __init__(self, allowed: int):
        self.left, self.until = allowed, time.monotonic() + _SECONDS

    def spend(self, cost: int) -> None:
        self.left -= cost
        if self.left < 0:
            raise Spent("it does not end, or makes far more text than it is given")
        if time.monotonic() > self.until:
            raise Spent(f"it took longer than {_SECONDS:g} seconds")


_budget: ContextVar[_Budget | None] = ContextVar("budget", default=None)


def _spend(cost: int) -> None:
    if budget := _budget.get():
        budget.spend(cost)


def _spend_on(value: Any) -> Any:
    """Pay for a value: each character and each item, those of what it holds as often as they would be written."""
    if isinstance(value, str | bytes):
        _spend(len(value))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _spend_on(key)
            _spend_on(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            _spend_on(item)
    elif isinstance(value, int) and value.bit_length() > _BITS:
        raise SecurityError("a number of this size is unsafe")
    _spend(1)
    return value


class _Undefined(Undefined):
    """May be asked for, as in transformers, but not written: what is silently left out was most likely misspelt."""

    def __str__(self) -> str:
        self._fail_with_undefined_error()
        raise AssertionError


class _Namespace(Namespace):
    """Without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, attributes = args[0], dict(*args[1:], **kwargs)
        for name in attributes:
            _plain(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _plain(name)
        super().__setitem__(name, value)


def _plain(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"access to {name!r} is unsafe")


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    return dict(*args, **kwargs)


def _raise(message: Any) -> None:
    raise TemplateError(str(message)[:500])


def _now(form: str) -> str:
    if len(form) > _FORMAT or _WIDTHS.search(form):
        raise SecurityError("this format of a date is unsafe")
    return datetime.now().strftime(form)  # local time, as transformers' own


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None,
            sort_keys: bool = False) -> str:  # fmt: skip
    if isinstance(indent, int) and not 0 <= indent <= _EXPONENT:
        raise SecurityError("this indent is unsafe")
    _spend_on(value)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    whole, former, latter = str(text), str(old), str(new)
    times = whole.count(former) if count is None else min(count, whole.count(former))
    _spend(len(whole) + times * len(latter))
    return whole.replace(former, latter, times)


def _join(values: Iterable[Any], between: Any = "", attribute: str | None = None) -> str:
    comma, parts = str(between), []
    for value in values:
        parts.append(str(_spend_on(value if attribute is None else value[attribute])))
        _spend(len(comma))
    return comma.join(parts)


def _indent(text: Any, width: Any = 4, first: bool = False, blank: bool = False) -> str:
    """Jinja's filter, with a width that a person would write."""
    margin = width if isinstance(width, str) else " " * min(int(width), _EXPONENT)
    lines = str(text).split("\n")
    _spend(len(lines) * len(margin))
    whole = [line if not line and not blank else margin + line for line in lines]
    return "\n".join(whole if first else [lines[0], *whole[1:]])


@pass_context
def _written(context: Context, value: Any) -> Any:  # noqa: ARG001 (so that Jinja does not call it while it compiles)
    if not isinstance(value, Undefined):
        _spend_on(value)
    return value


def _paid(made: Callable[..., Any]) -> Callable[..., Any]:
    """The same filter, whose result is paid for where it is more than a number."""

    @functools.wraps(made)
    def paid(*args: Any, **kwargs: Any) -> Any:
        result = made(*args, **kwargs)
        _spend(len(result) if isinstance(result, str | list | dict) else 1)
        return result

    return paid


class _Priced(NodeTransformer):
    """Puts a price on what a template repeats, builds and compares."""

    def _repeated(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        """A turn pays for the text that stands in it too, which is made again each time."""
        self.generic_visit(node)
        text = sum(len(data.data) for part in node.body for data in part.find_all(nodes.TemplateData))
        pay = nodes.Call(nodes.EnvironmentAttribute("pay"), [nodes.Const(_CALL + text)], [], None, None)
        node.body.insert(0, nodes.ExprStmt(pay))
        return node

    visit_For = visit_Macro = visit_CallBlock = _repeated

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return nodes.Filter(nodes.List(node.nodes), "join", [], [], None, None, lineno=node.lineno)

    def _built(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        if getattr(node, "ctx", "load") != "load":  # names that a loop or a set gives values to
            return node
        return nodes.Filter(node, "_built", [], [], None, None, lineno=node.lineno)

    visit_List = visit_Tuple = visit_Dict = visit_Compare = _built

    def _refused(self, node: nodes.Node) -> nodes.Node:
        raise SecurityError(f"{type(node).__name__.lower()} is not for chat templates")

    visit_Include = visit_Import = visit_FromImport = visit_Extends = _refused


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, extensions: list[type[Extension]]):
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[*extensions, LoopControlExtension],
            undefined=_Undefined, optimized=False, finalize=_written,
        )  # fmt: skip
        own: dict[str, Callable[..., Any]] = {
            "tojson": _tojson, "replace": _replace, "join": _join, "indent": _indent, "_built": _spend_on,
        }  # fmt: skip
        self.filters = {name: _paid(self.filters[name]) for name in _FILTERS} | own
        self.globals = {
            "range": self.globals["range"], "namespace": _Namespace, "dict": _dict, "raise_exception": _raise,
            "strftime_now": _now,
        }  # fmt: skip
        self.pay = _spend

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        priced = _Priced().visit(source)
        return super()._generate(priced, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Any:
        if super().wrap_str_format(value) is not None:
            raise SecurityError("formatting a text is unsafe")

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+":
            _spend_on(left)
            _spend_on(right)
        elif operator == "**":
            if not isinstance(right, int | float) or abs(right) > _EXPONENT:
                raise SecurityError("this power is unsafe")
            _spend_on(left)
        elif operator == "%" and isinstance(left, str | bytes):
            raise SecurityError("formatting a text is unsafe")
        elif operator == "*":
            for some, times in ((left, right), (right, left)):
                if isinstance(some, str | bytes | list | tuple) and isinstance(times, int):
                    _spend((len(some) + 1) * max(times, 0))
            _spend_on(left)
            _spend_on(right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __called: Any, *args: Any, **kwargs: Any) -> Any:
        _spend(_CALL)
        owner = getattr(__called, "__self__", None)
        if isinstance(owner, str | bytes):
            name = __called.__name__
            if name not in _METHODS:
                raise SecurityError(f"a text's {name}() is unsafe")
            if name == "replace":
                return _replace(owner, *args, **kwargs)
            if name == "join":
                return _join(args[0], owner)
            _spend(len(owner))
        result = super().call(__context, __called, *args, **kwargs)
        return _spend_on(result) if isinstance(result, str) else result


@functools.lru_cache(16)
def compiled(source: str, extensions: tuple[type[Extension], ...]) -> Template:
    """A template, ready to be rendered.

    Raises:
        TemplateError: it can't be parsed, or is none.
    """
    if len(source) > _SOURCE:
        raise TemplateError(f"it is longer than {_SOURCE} characters")
    try:
        return _Sandbox(list(extensions)).from_string(source)
    except RecursionError:
        raise TemplateError("it is nested too deeply") from None


def render(template: Template, given: Mapping[str, Any]) -> str:
    """The text of a template, within its budget.

    Raises:
        TemplateError: it fails, or spends more than its budget.
    """
    size = sum(len(message["content"]) for message in given["messages"])
    token = _budget.set(_Budget(_STEPS + _PER_CHARACTER * size))
    try:
        return template.render(given)
    except RecursionError:
        raise Spent("it calls itself without end") from None
    except (OverflowError, MemoryError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise TemplateError(f"{type(error).__name__}: {error}") from None
    finally:
        _budget.reset(token)


def asked_for(source: str, extensions: Iterable[type[Extension]]) -> frozenset[str]:
    """The names that a template wants to be given.

    Raises:
        TemplateError: it can't be parsed.
    """
    environment = Environment(extensions=[*extensions, LoopControlExtension])
    return frozenset(find_undeclared_variables(environment.parse(source)))


__all__ = ["Spent", "UndefinedError", "asked_for", "compiled", "render"]

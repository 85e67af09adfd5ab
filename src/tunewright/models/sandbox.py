"""Where a chat template runs: Jinja's sandbox, with what transformers gives a template, and a budget.

A template comes with a downloaded model. The sandbox keeps it from Python's own objects. The budget keeps it from
hanging the server or filling its memory: each turn of a loop, each call and each character that is made, copied or
compared costs something, and a template that has spent its budget ends with an error. A value that holds others costs
what all of them would if they were written out, so that no list is larger than what was paid for it, however often it
has the same text. Operations that could make much out of little in one step (`'x' * 10**10`, `|center`, `%`-formats)
are priced before they run, or left out.

What a template may use beyond Jinja follows transformers 5.24, `utils/chat_template_utils.py` (read 2026-11-27).
"""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from jinja2 import Environment, Template, TemplateError, Undefined, UndefinedError, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.filters import do_map
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from tunewright.core.limits import TEMPLATE_LETTERS, TEMPLATE_SECONDS, TEMPLATE_STEPS, TEMPLATE_STEPS_A_LETTER

_SAID = 500
"""Characters of an error's text."""
_CALL = 8
"""What a call or a turn of a loop costs, in characters."""
_METHODS = frozenset(
    {
        "strip",
        "lstrip",
        "rstrip",
        "split",
        "rsplit",
        "splitlines",
        "partition",
        "rpartition",
        "startswith",
        "endswith",
        "lower",
        "upper",
        "title",
        "capitalize",
        "removeprefix",
        "removesuffix",
        "find",
        "rfind",
        "index",
        "count",
        "replace",
        "join",
        "isdigit",
        "isalpha",
        "isspace",
        "isupper",
        "islower",
    }
)
"""Of a string. The others pad it to any width, or read a format of any width."""
_METHODS_OF_OTHERS = frozenset({"get", "items", "keys", "values", "copy", "index", "count"})
"""Of all else that a template is given or makes; numbers could write themselves as any number of bytes."""
_BACKWARDS = frozenset({"rfind", "rsplit", "rpartition"})
"""Python looks for a text from its end in as many steps as both texts have characters, multiplied."""
_BACKWARDS_AT_ONCE = 16
"""Of such steps, those that cost one."""
_STRIPPED = 100
"""Characters that may be stripped: each character of a text is looked for among them."""
_INDENT = 16
_SEPARATOR = 16
"""Characters between the items of a JSON text."""
_FILTERS = (
    "abs",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "int",
    "items",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "reverse",
    "safe",
    "select",
    "selectattr",
    "sort",
    "string",
    "title",
    "unique",
    "upper",
)
"""Without those that pad or divide by any number."""
_WIDTHS = re.compile(r"%[-_0^#+]*\d")
_FORMAT = 100
_EXPONENT = 64
_BITS = 1024


class Spent(TemplateError):
    """A template took more than its budget."""


class _Budget:
    def __init__(self, allowed: int):
        self.left, self.until = allowed, time.monotonic() + TEMPLATE_SECONDS

    def spend(self, cost: int) -> None:
        self.left -= max(cost, 0)
        if self.left < 0:
            raise Spent("it does not end, or makes far more text than it is given")
        if time.monotonic() > self.until:
            raise Spent(f"it took longer than {TEMPLATE_SECONDS:g} seconds")


_budget: ContextVar[_Budget | None] = ContextVar("budget", default=None)


def _spend(cost: int) -> None:
    if budget := _budget.get():
        budget.spend(cost)


def _cost(value: Any) -> int:
    """What a value costs, which is spent on it."""
    budget = _budget.get()
    before = budget.left if budget else 0
    _spend_on(value)
    return before - budget.left if budget else 0


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
    elif isinstance(value, Namespace | LoopContext):  # what it holds changes behind what was paid
        raise SecurityError(f"a {type(value).__name__.strip('_').lower()} as a value is unsafe")
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

    def __repr__(self) -> str:  # without what it holds, which would be written for nothing
        return "namespace"


def _plain(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"access to {name!r} is unsafe")


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    found: dict[Any, Any] = _spend_on(dict(*args, **kwargs))
    return found


def _trim(text: Any, chars: str | None = None) -> str:
    return str(text).strip(_few(chars))


def _few(chars: Any) -> Any:
    if chars is not None and len(chars) > _STRIPPED:
        raise SecurityError("so many characters to strip are unsafe")
    return chars


def _sum(values: Iterable[Any], attribute: str | None = None, start: float = 0) -> float:
    """Of numbers: sums of lists take the square of their length."""
    found = start
    for value in values:
        found += _number(value if attribute is None else value[attribute])
        _spend_on(found)
    return _number(found)


def _number(value: Any) -> float:
    if not isinstance(value, int | float):
        raise SecurityError("a sum of anything but numbers is unsafe")
    return value


def _raise(message: Any) -> None:
    raise TemplateError(str(message)[:_SAID])


def _now(form: str) -> str:
    if len(form) > _FORMAT or _WIDTHS.search(form):
        raise SecurityError("this format of a date is unsafe")
    return datetime.now().strftime(form)  # local time, as transformers' own


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    if indent is not None and not (isinstance(indent, int) and 0 <= indent <= _INDENT):
        raise SecurityError("this indent is unsafe")
    if separators is not None and any(len(each) > _SEPARATOR for each in separators):
        raise SecurityError("these separators are unsafe")
    _spend_on(value)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _replace(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    whole, former, latter = str(text), str(old), str(new)
    found = whole.count(former)
    times = found if count is None or count < 0 else min(count, found)
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
    """The same filter, whose result is paid for. What it would make one by one it makes at once: generators in each
    other, many of them, crash Python when they are thrown away."""

    @functools.wraps(made)
    def paid(*args: Any, **kwargs: Any) -> Any:
        result = made(*args, **kwargs)
        if isinstance(result, Iterator):
            result = [_spend_on(item) if made is do_map else _counted(item) for item in result]
        return _counted(result)

    return paid


def _counted(value: Any) -> Any:
    """Pay for a value, but not for what it holds, which was there before."""
    if isinstance(value, list | tuple | dict):
        _spend(len(value) + 1)
        return value
    return _spend_on(value) if isinstance(value, str | int) else _free(value)


def _free(value: Any) -> Any:
    _spend(1)
    return value


def _priced(test: Callable[..., Any]) -> Callable[..., Any]:
    """The same test, whose operands are paid for where it compares."""

    @functools.wraps(test)
    def priced(*args: Any, **kwargs: Any) -> Any:
        for each in args if len(args) + len(kwargs) > 1 else ():
            if not isinstance(each, Context | Environment):
                _spend_on(each)
        _spend(1)
        return test(*args, **kwargs)

    return priced


class _Priced(NodeTransformer):
    """Puts a price on what a template repeats, builds, cuts and compares."""

    def _repeated(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        """A turn pays for the text that stands in it too, which is made again each time."""
        self.generic_visit(node)
        text = sum(len(data.data) for part in node.body for data in part.find_all(nodes.TemplateData))
        pay = nodes.Call(nodes.EnvironmentAttribute("pay"), [nodes.Const(_CALL + text)], [], None, None)
        node.body.insert(0, nodes.ExprStmt(pay))
        return node

    visit_Macro = visit_CallBlock = _repeated

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.test:  # a turn that it leaves out is one too
            node.test = nodes.Filter(node.test, "_counted", [], [], None, None, lineno=node.lineno)
        return self._repeated(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return nodes.Filter(nodes.List(node.nodes), "join", [], [], None, None, lineno=node.lineno)

    def _built(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        if getattr(node, "ctx", "load") != "load":  # names that a loop or a set gives values to
            return node
        return nodes.Filter(node, "_built", [], [], None, None, lineno=node.lineno)

    visit_List = visit_Tuple = visit_Dict = _built

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        cut = isinstance(node.arg, nodes.Slice)
        return nodes.Filter(node, "_counted", [], [], None, None, lineno=node.lineno) if cut else node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        operands: list[nodes.Compare | nodes.Operand] = [node, *node.ops]
        for operand in operands:
            if not isinstance(operand.expr, nodes.Const):
                operand.expr = nodes.Filter(operand.expr, "_built", [], [], None, None, lineno=node.lineno)
        return node

    def _refused(self, node: nodes.Node) -> nodes.Node:
        raise SecurityError(f"{type(node).__name__.lower()} is not for chat templates")

    visit_Include = visit_Import = visit_FromImport = visit_Extends = _refused


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "**", "%"})

    def __init__(self, extensions: list[type[Extension]]):
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[*extensions, LoopControlExtension],
            undefined=_Undefined,
            optimized=False,
            finalize=_written,
        )
        own: dict[str, Callable[..., Any]] = {
            "tojson": _tojson,
            "replace": _replace,
            "join": _join,
            "indent": _indent,
            "trim": _paid(_trim),
            "sum": _sum,
            "_built": _spend_on,
            "_counted": _counted,
        }
        self.filters = {name: _paid(self.filters[name]) for name in _FILTERS} | own
        tests: dict[str, Any] = dict(self.tests.items())
        self.tests = {name: _priced(test) for name, test in tests.items()}
        self.globals = {
            "range": self.globals["range"],
            "namespace": _Namespace,
            "dict": _dict,
            "raise_exception": _raise,
            "strftime_now": _now,
        }
        self.pay = _spend

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        priced = _Priced().visit(source)
        return super()._generate(priced, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Any:
        if super().wrap_str_format(value) is not None:
            raise SecurityError("formatting a text is unsafe")

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and (not isinstance(right, int | float) or abs(right) > _EXPONENT):
            raise SecurityError("this power is unsafe")
        if operator == "%" and isinstance(left, str | bytes):
            raise SecurityError("formatting a text is unsafe")
        paid = _cost(left), _cost(right)
        if operator == "*":
            for some, times, cost in ((left, right, paid[0]), (right, left, paid[1])):
                if isinstance(some, str | bytes | list | tuple) and isinstance(times, int):
                    _spend(cost * times)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __called: Any, *args: Any, **kwargs: Any) -> Any:
        _spend(_CALL)
        owner, name = getattr(__called, "__self__", None), getattr(__called, "__name__", "")
        if isinstance(owner, str | bytes):
            if name not in _METHODS:
                raise SecurityError(f"a text's {name}() is unsafe")
            if name == "replace":
                return _replace(owner, *args, **kwargs)
            if name == "join":
                return _join(args[0], owner)
            if name in ("strip", "lstrip", "rstrip"):
                _few(args[0] if args else None)
            elif name in _BACKWARDS and args and isinstance(args[0], str):
                _spend(len(owner) * len(args[0]) // _BACKWARDS_AT_ONCE)
            _spend(len(owner))
        elif isinstance(owner, int | float | list | tuple | dict | range | type) and name not in _METHODS_OF_OTHERS:
            raise SecurityError(f"{name}() is unsafe")
        result = super().call(__context, __called, *args, **kwargs)
        return _counted(list(result) if isinstance(result, KeysView | ValuesView | ItemsView) else result)


@contextmanager
def _told() -> Iterator[None]:
    """Whatever fails inside is an error of the template: it is a program that others wrote.

    Raises:
        TemplateError: in place of any other error.
    """
    try:
        yield
    except TemplateError:
        raise
    except RecursionError:
        raise Spent("it is nested too deeply, or calls itself without end") from None
    except Exception as error:  # noqa: BLE001 (a program can fail in any way)
        raise TemplateError(f"{type(error).__name__}: {error}"[:_SAID]) from None


@functools.lru_cache(16)
@_told()
def compiled(source: str, extensions: tuple[type[Extension], ...]) -> Template:
    """A template, ready to be rendered.

    Raises:
        TemplateError: it can't be parsed, or is none.
    """
    if len(source) > TEMPLATE_LETTERS:
        raise TemplateError(f"it is longer than {TEMPLATE_LETTERS} characters")
    return _Sandbox(list(extensions)).from_string(source)


@_told()
def render(template: Template, given: Mapping[str, Any]) -> str:
    """The text of a template, within its budget.

    Raises:
        TemplateError: it fails, or spends more than its budget.
    """
    size = sum(len(message["content"]) for message in given["messages"])
    token = _budget.set(_Budget(TEMPLATE_STEPS + TEMPLATE_STEPS_A_LETTER * size))
    try:
        text = template.render(given)
        text.encode()  # half a letter, which no tokenizer takes, is an error here
        return text
    finally:
        _budget.reset(token)


@_told()
def asked_for(source: str, extensions: Iterable[type[Extension]]) -> frozenset[str]:
    """The names that a template wants to be given.

    Raises:
        TemplateError: it can't be parsed.
    """
    environment = Environment(extensions=[*extensions, LoopControlExtension])
    return frozenset(find_undeclared_variables(environment.parse(source)))


__all__ = ["Spent", "UndefinedError", "asked_for", "compiled", "render"]

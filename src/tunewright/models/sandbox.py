"""The sandbox in which a chat template runs: Jinja's own, with the functions that transformers offers, and a budget.

A template comes with a downloaded model. Jinja's sandbox keeps it away from Python's objects. The budget of
`tunewright.models.template_budget` keeps it from hanging the server or filling its memory. Operations that could make
much out of little in one step (`'x' * 10**10`, `|center`, `%`-formats) are priced before they run, or left out.

The functions beyond Jinja follow transformers 5.24, `utils/chat_template_utils.py` (read 2026-11-27).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextlib import contextmanager
from typing import Any

from jinja2 import Environment, Template, TemplateError, Undefined, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from tunewright.core.limits import TEMPLATE_LETTERS, TEMPLATE_STEPS, TEMPLATE_STEPS_A_LETTER
from tunewright.models.template_budget import (
    MAX_ERROR,
    MAX_EXPONENT,
    PlainNamespace,
    TemplateBudget,
    TemplateBudgetExceeded,
    cost_of,
    current_budget,
    few_characters,
    indent,
    join_texts,
    make_dict,
    paid,
    pay_for,
    pay_for_output,
    pay_shallow,
    priced,
    raise_exception,
    replace_text,
    spend,
    strftime_now,
    sum_numbers,
    to_json,
    trim,
)

_CALL = 8
"""Price of a call or a turn of a loop, in characters."""
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
"""The allowed methods of a string. The others pad it to any width, or read a format of any width."""
_METHODS_OF_OTHERS = frozenset({"get", "items", "keys", "values", "copy", "index", "count"})
"""The allowed methods of all other values. Numbers, for one, could write themselves as any number of bytes."""
_BACKWARDS = frozenset({"rfind", "rsplit", "rpartition"})
"""Methods that search from the end. Python takes as many steps as the product of both lengths."""
_BACKWARDS_AT_ONCE = 16
"""Steps of such a search for the price of one."""
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
"""Jinja's filters, without those that pad or divide by any number."""


class _Undefined(Undefined):
    """An undefined name. A template may test for it, as in transformers, but not write it: most likely it is a typo."""

    def __str__(self) -> str:
        self._fail_with_undefined_error()
        raise AssertionError


class _Priced(NodeTransformer):
    """Adds payments to a template: for loops, new values, slices and comparisons."""

    def _repeated(self, node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Node:
        """Each turn also pays for the text in it, which is made anew each time."""
        self.generic_visit(node)
        text = sum(len(data.data) for part in node.body for data in part.find_all(nodes.TemplateData))
        pay = nodes.Call(nodes.EnvironmentAttribute("pay"), [nodes.Const(_CALL + text)], [], None, None)
        node.body.insert(0, nodes.ExprStmt(pay))
        return node

    visit_Macro = visit_CallBlock = _repeated

    def visit_For(self, node: nodes.For) -> nodes.Node:
        if node.test:  # turns that the test skips cost too
            node.test = nodes.Filter(node.test, "_counted", [], [], None, None, lineno=node.lineno)
        return self._repeated(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return nodes.Filter(nodes.List(node.nodes), "join", [], [], None, None, lineno=node.lineno)

    def _built(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        if getattr(node, "ctx", "load") != "load":  # names that a loop or a set assigns to
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
            finalize=pay_for_output,
        )
        own: dict[str, Callable[..., Any]] = {
            "tojson": to_json,
            "replace": replace_text,
            "join": join_texts,
            "indent": indent,
            "trim": paid(trim),
            "sum": sum_numbers,
            "_built": pay_for,
            "_counted": pay_shallow,
        }
        self.filters = {name: paid(self.filters[name]) for name in _FILTERS} | own
        tests: dict[str, Any] = dict(self.tests.items())
        self.tests = {name: priced(test) for name, test in tests.items()}
        self.globals = {
            "range": self.globals["range"],
            "namespace": PlainNamespace,
            "dict": make_dict,
            "raise_exception": raise_exception,
            "strftime_now": strftime_now,
        }
        self.pay = spend

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        priced = _Priced().visit(source)
        return super()._generate(priced, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Any:
        if super().wrap_str_format(value) is not None:
            raise SecurityError("formatting a text is unsafe")

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and (not isinstance(right, int | float) or abs(right) > MAX_EXPONENT):
            raise SecurityError("this power is unsafe")
        if operator == "%" and isinstance(left, str | bytes):
            raise SecurityError("formatting a text is unsafe")
        prices = cost_of(left), cost_of(right)
        if operator == "*":
            for some, times, cost in ((left, right, prices[0]), (right, left, prices[1])):
                if isinstance(some, str | bytes | list | tuple) and isinstance(times, int):
                    spend(cost * times)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __called: Any, *args: Any, **kwargs: Any) -> Any:
        spend(_CALL)
        owner, name = getattr(__called, "__self__", None), getattr(__called, "__name__", "")
        if isinstance(owner, str | bytes):
            if name not in _METHODS:
                raise SecurityError(f"a text's {name}() is unsafe")
            if name == "replace":
                return replace_text(owner, *args, **kwargs)
            if name == "join":
                return join_texts(args[0], owner)
            if name in ("strip", "lstrip", "rstrip"):
                few_characters(args[0] if args else None)
            elif name in _BACKWARDS and args and isinstance(args[0], str):
                spend(len(owner) * len(args[0]) // _BACKWARDS_AT_ONCE)
            spend(len(owner))
        elif isinstance(owner, int | float | list | tuple | dict | range | type) and name not in _METHODS_OF_OTHERS:
            raise SecurityError(f"{name}() is unsafe")
        result = super().call(__context, __called, *args, **kwargs)
        return pay_shallow(list(result) if isinstance(result, KeysView | ValuesView | ItemsView) else result)


@contextmanager
def _template_errors() -> Iterator[None]:
    """Turns any error inside into an error of the template, which is somebody else's program.

    Raises:
        TemplateError: instead of any other error.
    """
    try:
        yield
    except TemplateError:
        raise
    except RecursionError:
        raise TemplateBudgetExceeded("it is nested too deeply, or calls itself without end") from None
    except Exception as error:  # noqa: BLE001 (a program can fail in any way)
        raise TemplateError(f"{type(error).__name__}: {error}"[:MAX_ERROR]) from None


@functools.lru_cache(16)
@_template_errors()
def compiled(source: str, extensions: tuple[type[Extension], ...]) -> Template:
    """Compile a template.

    Raises:
        TemplateError: it can't be parsed.
    """
    if len(source) > TEMPLATE_LETTERS:
        raise TemplateError(f"it is longer than {TEMPLATE_LETTERS} characters")
    return _Sandbox(list(extensions)).from_string(source)


@_template_errors()
def render(template: Template, variables: Mapping[str, Any]) -> str:
    """Render a template within its budget.

    Raises:
        TemplateError: it fails, or spends more than its budget.
    """
    size = sum(len(message["content"]) for message in variables["messages"])
    token = current_budget.set(TemplateBudget(TEMPLATE_STEPS + TEMPLATE_STEPS_A_LETTER * size))
    try:
        text = template.render(variables)
        text.encode()  # half a surrogate pair, which no tokenizer takes, is an error here
        return text
    finally:
        current_budget.reset(token)


@_template_errors()
def variables_of(source: str, extensions: Iterable[type[Extension]]) -> frozenset[str]:
    """The variables that a template uses and does not set itself.

    Raises:
        TemplateError: it can't be parsed.
    """
    environment = Environment(extensions=[*extensions, LoopControlExtension])
    return frozenset(find_undeclared_variables(environment.parse(source)))

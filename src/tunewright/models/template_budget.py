"""The budget of a chat template, and the functions that it may call, each with its price.

Each turn of a loop, each call and each character that is made, copied or compared costs something. A template that has
spent its budget ends with an error. A value that holds others costs as much as all of them written out, so that no list
is larger than what was paid for it, however often it holds the same text.
"""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any

from jinja2 import Environment, TemplateError, Undefined, pass_context
from jinja2.exceptions import SecurityError
from jinja2.filters import do_map
from jinja2.runtime import Context, LoopContext
from jinja2.utils import Namespace

from tunewright.core.limits import TEMPLATE_SECONDS

MAX_ERROR = 500
"""Characters of an error's text."""
MAX_EXPONENT = 64
_MAX_BITS = 1024
"""Bits of an integer."""
_MAX_DATE_FORMAT = 100
_MAX_INDENT = 16
_MAX_SEPARATOR = 16
"""Characters between the items of a JSON text."""
_MAX_STRIPPED = 100
"""Characters to strip. Python searches all of them for each character of a text."""
_WIDTHS = re.compile(r"%[-_0^#+]*\d")


class TemplateBudgetExceeded(TemplateError):
    """A template spent more than its budget."""


class TemplateBudget:
    """Steps and time that a template may still use."""

    def __init__(self, allowed: int):
        self.left, self.until = allowed, time.monotonic() + TEMPLATE_SECONDS

    def spend(self, cost: int) -> None:
        self.left -= max(cost, 0)
        if self.left < 0:
            raise TemplateBudgetExceeded("it does not end, or makes far more text than it is given")
        if time.monotonic() > self.until:
            raise TemplateBudgetExceeded(f"it took longer than {TEMPLATE_SECONDS:g} seconds")


current_budget: ContextVar[TemplateBudget | None] = ContextVar("budget", default=None)


def spend(cost: int) -> None:
    if budget := current_budget.get():
        budget.spend(cost)


def cost_of(value: Any) -> int:
    """Pay for a value, and return its price."""
    budget = current_budget.get()
    before = budget.left if budget else 0
    pay_for(value)
    return before - budget.left if budget else 0


def pay_for(value: Any) -> Any:
    """Pay for a value: each character and each item of everything in it, as if written out."""
    if isinstance(value, str | bytes):
        spend(len(value))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            pay_for(key)
            pay_for(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            pay_for(item)
    elif isinstance(value, int) and value.bit_length() > _MAX_BITS:
        raise SecurityError("a number of this size is unsafe")
    elif isinstance(value, Namespace | LoopContext):  # its content may change after the payment
        raise SecurityError(f"a {type(value).__name__.strip('_').lower()} as a value is unsafe")
    spend(1)
    return value


class PlainNamespace(Namespace):
    """Jinja's namespace without names that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, attributes = args[0], dict(*args[1:], **kwargs)
        for name in attributes:
            _plain(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _plain(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:  # without its content, which would be written for free
        return "namespace"


def _plain(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"access to {name!r} is unsafe")


def make_dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    made: dict[Any, Any] = pay_for(dict(*args, **kwargs))
    return made


def trim(text: Any, chars: str | None = None) -> str:
    return str(text).strip(few_characters(chars))


def few_characters(chars: Any) -> Any:
    """Refuse to strip too many different characters."""
    if chars is not None and len(chars) > _MAX_STRIPPED:
        raise SecurityError("so many characters to strip are unsafe")
    return chars


def sum_numbers(values: Iterable[Any], attribute: str | None = None, start: float = 0) -> float:
    """Jinja's `sum` for numbers only. Sums of lists take quadratic time."""
    total = start
    for value in values:
        total += _number(value if attribute is None else value[attribute])
        pay_for(total)
    return _number(total)


def _number(value: Any) -> float:
    if not isinstance(value, int | float):
        raise SecurityError("a sum of anything but numbers is unsafe")
    return value


def raise_exception(message: Any) -> None:
    raise TemplateError(str(message)[:MAX_ERROR])


def strftime_now(form: str) -> str:
    if len(form) > _MAX_DATE_FORMAT or _WIDTHS.search(form):
        raise SecurityError("this format of a date is unsafe")
    return datetime.now().strftime(form)  # local time, like transformers


def to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    if indent is not None and not (isinstance(indent, int) and 0 <= indent <= _MAX_INDENT):
        raise SecurityError("this indent is unsafe")
    if separators is not None and any(len(each) > _MAX_SEPARATOR for each in separators):
        raise SecurityError("these separators are unsafe")
    pay_for(value)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def replace_text(text: Any, old: Any, new: Any, count: int | None = None) -> str:
    whole, former, latter = str(text), str(old), str(new)
    occurrences = whole.count(former)
    times = occurrences if count is None or count < 0 else min(count, occurrences)
    spend(len(whole) + times * len(latter))
    return whole.replace(former, latter, times)


def join_texts(values: Iterable[Any], between: Any = "", attribute: str | None = None) -> str:
    comma, parts = str(between), []
    for value in values:
        parts.append(str(pay_for(value if attribute is None else value[attribute])))
        spend(len(comma))
    return comma.join(parts)


def indent(text: Any, width: Any = 4, first: bool = False, blank: bool = False) -> str:
    """Jinja's `indent` with a limited width."""
    margin = width if isinstance(width, str) else " " * min(int(width), MAX_EXPONENT)
    lines = str(text).split("\n")
    spend(len(lines) * len(margin))
    whole = [line if not line and not blank else margin + line for line in lines]
    return "\n".join(whole if first else [lines[0], *whole[1:]])


@pass_context
def pay_for_output(context: Context, value: Any) -> Any:  # noqa: ARG001 (so that Jinja does not call it while it compiles)
    if not isinstance(value, Undefined):
        pay_for(value)
    return value


def paid(original: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that pays for its result. A lazy result becomes a list, because Python crashes when it discards many
    nested generators."""

    @functools.wraps(original)
    def paying(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if isinstance(result, Iterator):
            result = [pay_for(item) if original is do_map else pay_shallow(item) for item in result]
        return pay_shallow(result)

    return paying


def pay_shallow(value: Any) -> Any:
    """Pay for a new value, but not for its items, which existed before."""
    if isinstance(value, list | tuple | dict):
        spend(len(value) + 1)
        return value
    if isinstance(value, str | int):
        return pay_for(value)
    spend(1)
    return value


def priced(test: Callable[..., Any]) -> Callable[..., Any]:
    """A test that pays for its operands if it compares them."""

    @functools.wraps(test)
    def paying(*args: Any, **kwargs: Any) -> Any:
        for each in args if len(args) + len(kwargs) > 1 else ():
            if not isinstance(each, Context | Environment):
                pay_for(each)
        spend(1)
        return test(*args, **kwargs)

    return paying

"""Check values against a JSON Schema, draft 2020-12, in bounded time: RE2 runs the patterns, and steps are counted."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from fractions import Fraction
from functools import cache, wraps
from typing import Any

from tunewright.config.patterns import Unusable, compiled, is_found
from tunewright.core.limits import RECORD_CHECKS

_Keyword = Callable[[Any, Any, Any, Any], Iterator[Any] | None]
"""The check of a keyword: (validator, the keyword's value, the instance, the schema) -> faults."""


class TooManySteps(ValueError):
    """The check of a value takes more than RECORD_CHECKS steps."""


class _Left(threading.local):
    """The remaining steps of the current thread for the value that it checks."""

    steps = RECORD_CHECKS


_LEFT = _Left()


def begin() -> None:
    """Start counting the steps of a new value."""
    _LEFT.steps = RECORD_CHECKS


def count() -> None:
    """Count a step.

    Raises:
        TooManySteps: the value has taken more than RECORD_CHECKS.
    """
    _LEFT.steps -= 1
    if _LEFT.steps < 0:
        raise TooManySteps(f"the check takes more than {RECORD_CHECKS:,} steps")


def checker(schema: Mapping[str, Any]) -> Any:
    """jsonschema's validator for a schema that `require_bounded` accepted. It never fetches a reference, and raises
    `TooManySteps` if the check of a value takes too many steps."""
    from referencing import Registry

    return _class()(schema, registry=Registry(), format_checker=_class().FORMAT_CHECKER)


def schema_fault(schema: Mapping[str, Any]) -> tuple[str, str] | None:
    """(place, fault) if this is not a valid schema; else None."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(schema, format_checker=_class().FORMAT_CHECKER)
    except SchemaError as error:
        return ".".join(str(part) for part in error.absolute_path), error.message
    return None


@cache
def _class() -> Any:
    from jsonschema import Draft202012Validator, validators

    formats = copy(Draft202012Validator.FORMAT_CHECKER)
    formats.checkers = formats.checkers | {"regex": (_is_pattern, ())}
    own = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items,
        "multipleOf": _multiple_of,
        "anyOf": _any_of,
        "oneOf": _one_of,
    }
    counted = {name: _counted(function) for name, function in (Draft202012Validator.VALIDATORS | own).items()}
    return validators.extend(Draft202012Validator, counted, format_checker=formats)


def _counted(function: _Keyword) -> _Keyword:
    @wraps(function)
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any] | None:
        count()
        return function(validator, value, instance, schema)

    return check


def _is_pattern(instance: Any) -> bool:
    if not isinstance(instance, str):
        return True
    try:
        compiled(instance)
    except Unusable:
        return False
    return True


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[Any]:
    if isinstance(instance, str) and not is_found(pattern, instance):
        yield _fault(f"{instance!r} does not match {pattern!r}")


def _multiple_of(_: Any, factor: float, instance: Any, __: Any) -> Iterator[Any]:
    """As written: 19.99 is a multiple of 0.01, though no product of the binary numbers nearest to these."""
    if isinstance(instance, bool) or not isinstance(instance, int | float) or not math.isfinite(instance):
        return
    if (Fraction(str(instance)) / Fraction(str(factor))).denominator != 1:
        yield _fault(f"{instance!r} is not a multiple of {factor!r}")


def _pattern_properties(validator: Any, patterns: Mapping[str, Any], instance: Any, _: Any) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    for pattern, schema in patterns.items():
        for name, value in instance.items():
            count()
            if is_found(pattern, name):
                yield from validator.descend(value, schema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, allowed: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    patterns = schema.get("patternProperties", ())
    for name, value in instance.items():
        count()
        if name in schema.get("properties", ()) or any(is_found(pattern, name) for pattern in patterns):
            continue
        if allowed is False:
            yield _fault(f"Additional properties are not allowed ({name!r} was unexpected)")
        else:
            yield from validator.descend(value, allowed, path=name)


def _unique_items(_: Any, unique: bool, instance: Any, __: Any) -> Iterator[Any]:
    """Compare the items' JSON texts, because comparing all pairs takes quadratic time."""
    if not unique or not isinstance(instance, list):
        return
    if len({json.dumps(_plain(item), sort_keys=True) for item in instance}) < len(instance):
        yield _fault(f"{instance!r} has non-unique elements")


def _plain(value: Any) -> Any:
    """The value with 1.0 written as 1, because JSON Schema treats them as equal."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _any_of(validator: Any, branches: list[Any], instance: Any, _: Any) -> Iterator[Any]:
    # The faults of the branches are not kept: nested branches would produce too many.
    if not any(validator.evolve(schema=branch).is_valid(instance) for branch in branches):
        yield _fault(f"{instance!r} is not valid under any of the given schemas")


def _one_of(validator: Any, branches: list[Any], instance: Any, _: Any) -> Iterator[Any]:
    fitting = sum(validator.evolve(schema=branch).is_valid(instance) for branch in branches)
    if fitting != 1:
        yield _fault(
            f"{instance!r} is valid under more than one of the given schemas"
            if fitting
            else f"{instance!r} is not valid under any of the given schemas"
        )


def _fault(message: str) -> Any:
    from jsonschema import ValidationError

    return ValidationError(message)

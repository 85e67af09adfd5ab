"""Writes the reference pages from the code: python tools/reference.py FOLDER

The documentation site makes these pages while it is built (`tools/site_hooks.py`), so they always match the code.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import typer
import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

import tunewright
from tunewright.cli.app import command_line
from tunewright.config import Spec
from tunewright.gateway.config import GatewaySpec

_PLAIN = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path", Any: "any value"}
_BOUNDS = {
    "ge": (annotated_types.Ge, "≥"),
    "gt": (annotated_types.Gt, ">"),
    "le": (annotated_types.Le, "≤"),
    "lt": (annotated_types.Lt, "<"),
}
_PAGE = re.compile(r"docs/([a-z0-9-]+\.md)")
"""A page of the site, as docstrings and help texts name it."""


# The spec


def spec_page() -> str:
    """Every key of `tunewright.yaml`."""
    start = (
        "# Spec keys\n\n"
        "After reading this page you can look up any key of `tunewright.yaml`: what it means, what values it takes and "
        "what holds when you leave it out.\n\n"
        "On the command line a key is written with dots, and an override stands behind the project: `tunewright run "
        "PROJECT train.lr=1e-4`. `tunewright spec show PROJECT` prints a spec with every default filled in, and "
        "`tunewright spec schema` prints the JSON Schema that editors use to complete and check the file.\n"
    )
    return start + "".join(_sections(Spec, "", ""))


def gateway_page() -> str:
    """Every key of `gateway.yaml`."""
    start = (
        "# Gateway keys\n\n"
        "After reading this page you can look up any key of `gateway.yaml`, the settings of "
        "[the gateway](../gateway.md).\n\n"
        "`tunewright gateway schema` prints the JSON Schema that editors use to complete and check the file.\n"
    )
    return start + "".join(_sections(GatewaySpec, "", ""))


def spec_keys() -> set[str]:
    """Every key with its sections, such as `train.lora.r`; of a list of sections the keys of one entry."""
    return set(_keys(Spec, ""))


def gateway_keys() -> set[str]:
    """The same of `gateway.yaml`; of `upstreams` the keys of one."""
    return set(_keys(GatewaySpec, ""))


def _keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        yield key
        for inner in _models(field.annotation):
            yield from _keys(inner, f"{key}.")


def _sections(model: type[BaseModel], prefix: str, intro: str) -> Iterator[str]:
    fields = _own_first(model)
    if prefix:
        key = prefix.rstrip(".")
        yield f"\n{'#' * (1 + prefix.count('.'))} `{key}` {{#{key}}}\n\n"
        yield from [f"{intro}\n\n"] if intro else []
        yield _table(fields, prefix, key)
    else:
        yield "\n## Top level\n\n"
        yield _table({name: field for name, field in fields.items() if not _models(field.annotation)}, "", "")
    for name, field in fields.items():
        key, inner, meaning = f"{prefix}{name}", _models(field.annotation), _text(field.description)
        if len(inner) > 1:
            yield f"\n## `{key}` {{#{key}}}\n\n{meaning}\n"
            for each in inner:
                kind = get_args(each.model_fields["kind"].annotation)[0]
                yield f"\n### `{key}.kind: {kind}` {{#{key}.{kind}}}\n\n"
                yield _table(each.model_fields, f"{key}.", f"{key}.{kind}")
        elif inner and get_origin(field.annotation) is tuple:
            one = next((other for other, its in fields.items() if its.annotation is inner[0]), None)
            if one:
                yield f"\n## `{key}` {{#{key}}}\n\n{meaning} Each entry has the keys of [`{one}`](#{one}).\n"
            else:
                yield from _sections(inner[0], f"{key}.", meaning)
        elif inner:
            yield from _sections(inner[0], f"{key}.", meaning)


def _own_first(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys of a section, those it inherits last."""
    own = model.__annotations__
    return dict(sorted(model.model_fields.items(), key=lambda field: field[0] not in own))


def _table(fields: dict[str, FieldInfo], prefix: str, anchor: str) -> str:
    """A row for each key.

    Args:
        prefix: the sections the keys stand in, with a dot behind each.
        anchor: what stands before a key in the address of its row.
    """
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in fields.items():
        key = field.alias or name
        place = f'<a id="{anchor}.{key}"></a>' if anchor else f'<a id="{key}"></a>'
        pointer = f"See [`{prefix}{key}`](#{prefix}{key})." if _models(field.annotation) else ""
        meaning = _text(field.description) or pointer
        lines.append(f"| {place}`{key}` | {_cell(_kind(field))} | {_cell(_default(field))} | {_cell(meaning)} |")
    return _wide("\n".join(lines) + "\n")


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a value is, or holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    parts = [part for part in get_args(annotation) if not isinstance(part, str)]
    return list(dict.fromkeys(model for part in parts for model in _models(part)))


def _kind(field: FieldInfo) -> str:
    """What a value must be, in words."""
    return _in_words(field.annotation, field.metadata)


def _in_words(annotation: Any, metadata: Any = ()) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _in_words(args[0], args[1:])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in args)
    if origin in (Union, UnionType):
        words = [_in_words(part) for part in args if part is not NoneType]
        return " or ".join(words + ["`null`"] * (NoneType in args))
    if origin is dict:
        return f"mapping from {_in_words(args[0])} to {_in_words(args[1])}"
    if origin in (tuple, list):
        return f"list of {_in_words(args[0])}"
    if _models(annotation):
        return "section"
    return _PLAIN[annotation] + _bounds(metadata)


def _bounds(metadata: Any) -> str:
    """The limits of a number, such as ` ≥ 1`."""
    constraints = [each for entry in metadata for each in getattr(entry, "metadata", [entry])]
    return ",".join(
        f" {sign} {getattr(each, name):g}"
        for each in constraints
        for name, (kind, sign) in _BOUNDS.items()
        if isinstance(each, kind)
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined or isinstance(value, BaseModel):
        return ""
    if isinstance(value, bool) or value is None:
        return f"`{ {True: 'true', False: 'false', None: 'null'}[value] }`"
    if value in ((), {}):
        return "none"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


# The command line


def cli_page() -> str:
    """Every verb with its arguments and options."""
    root = typer.main.get_command(command_line())
    start = (
        "# Command line\n\n"
        "After reading this page you can look up any command of `tunewright`, its arguments and its options. "
        "`tunewright COMMAND --help` prints the same.\n\n"
        "| exit code | |\n|---|---|\n"
        "| 0 | done |\n"
        "| 1 | a gate did not hold |\n"
        "| 2 | something for you to mend: one paragraph says what, where and how |\n"
        "| 130 | interrupted: finished steps are kept, and the same command continues from there |\n\n"
    )
    return start + "".join(_overview()) + "".join(_commands(root, "tunewright"))


def commands() -> dict[str, Any]:
    """Every command that does something, by what is typed for it, such as `tunewright data check`."""
    root = typer.main.get_command(command_line())
    return {name: command for name, command in _walk(root, "tunewright") if not _inner(command)}


def _inner(command: Any) -> dict[str, Any]:
    return dict(getattr(command, "commands", {}))


def _walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    for verb, inner in _inner(command).items():
        if not inner.hidden:
            yield from _walk(inner, f"{name} {verb}")


def _overview() -> Iterator[str]:
    yield "| command | |\n|---|---|\n"
    for name, command in commands().items():
        verb = name.removeprefix("tunewright ")
        yield f"| [`{verb}`](#{name.replace(' ', '-')}) | {_cell(_first(command.help))} |\n"


def _commands(root: Any, program: str) -> Iterator[str]:
    for name, command in _walk(root, program):
        if name == program:
            continue
        level = "##" if name.count(" ") == 1 else "###"
        yield f"\n{level} `{name}` {{#{name.replace(' ', '-')}}}\n\n{_text(command.help)}\n"
        context = typer.Context(command, info_name=name)
        tables = {kind: rows for kind in ("argument", "option") if (rows := _rows(command, context, kind))}
        if tables or not _inner(command):
            yield f"\n```text\n{_usage(name, command)}\n```\n"
        for kind, rows in tables.items():
            yield "\n" + _wide(f"| {kind} | value | default | |\n|---|---|---|---|\n" + "".join(rows))


def _usage(name: str, command: Any) -> str:
    arguments = [_metavar(each) for each in command.params if each.param_type_name == "argument"]
    options = ["[OPTIONS]"] if any(each.param_type_name == "option" for each in command.params) else []
    verbs = ["COMMAND"] if _inner(command) else []
    return " ".join([name, *options, *arguments, *verbs])


def _metavar(argument: Any) -> str:
    if argument.metavar:
        return str(argument.metavar)
    name = argument.name.upper() + ("..." if argument.nargs != 1 else "")
    return name if argument.required else f"[{name}]"


def _rows(command: Any, context: typer.Context, kind: str) -> list[str]:
    rows = []
    for each in command.params:
        if each.param_type_name != kind or each.hidden or each.name == "help":
            continue
        names = (
            [_metavar(each).replace("[", "").replace("]", "")]
            if kind == "argument"
            else [*each.opts, *each.secondary_opts]
        )
        shown = ", ".join(f"`{name}`" for name in names)
        variable = f" Environment variable: `{each.envvar}`." if each.envvar else ""
        meaning = _text(each.help) + variable
        rows.append(f"| {shown} | {_cell(_value(each, context))} | {_shown_default(each)} | {_cell(meaning)} |\n")
    return rows


def _value(parameter: Any, context: typer.Context) -> str:
    if getattr(parameter, "is_flag", False):
        return "flag"
    shown = parameter.display_type(context).strip("<>")
    if "|" in shown:
        return ", ".join(f"`{each}`" for each in shown.split("|"))
    words = {str(kind.__name__): word for kind, word in _PLAIN.items() if isinstance(kind, type)}
    bounds = [f" {sign} {limit}" for sign, limit in (("≥", parameter.min), ("≤", parameter.max)) if limit is not None]
    many = shown.startswith("list[")
    word = words.get(shown.removeprefix("list[").removesuffix("]"), shown)
    return word + ",".join(bounds) + (", several" if many else "")


def _shown_default(parameter: Any) -> str:
    value = parameter.default
    if parameter.required:
        return "**required**"
    if value is None or callable(value) or value is False or value in ((), [], ""):
        return ""
    return f"`{value}`"


# The Python API


def python_page() -> str:
    """What `import tunewright` offers, for mkdocstrings to fill in."""
    public = {name: getattr(tunewright, name) for name in tunewright.__all__ if not name.startswith("__")}
    classes = {name: each for name, each in public.items() if isinstance(each, type)}
    errors = [name for name, each in classes.items() if issubclass(each, Exception)]
    models = [name for name, each in classes.items() if issubclass(each, BaseModel)]
    others = [name for name in classes if name not in errors and name not in models]
    functions = [name for name in public if name not in classes]
    start = (
        "# Python API\n\n"
        "After reading this page you can run every step from Python. It lists what `import tunewright` offers, what "
        "each function takes, what it returns and what it raises.\n\n"
        '```python\nimport tunewright as tw\n\nspec = tw.load_spec("examples/tickets")\nreport = tw.run(spec)\n'
        "print(report.decision, report.sentence, report.html)\n```\n\n"
        "Everything else in the package is internal and may change in any release.\n"
    )
    pages = [start]
    for title, names, members in (
        ("Functions", functions, True),
        ("Results", others, True),
        ("The spec", models, False),
        ("Errors", errors, True),
    ):
        pages.append(f"\n## {title}\n")
        for name in names:
            options = "" if members else "\n    options:\n      members: false"
            keys = "" if members else "\nIts keys are in [Spec keys](spec.md).\n"
            pages.append(f"\n::: tunewright.{name}{options}\n{keys}")
    return "".join(pages)


# Words and cells


def _text(text: str | None) -> str:
    """A docstring or help text on one line, with links to the pages that it names."""
    return _PAGE.sub(r"[\g<0>](../\1)", " ".join((text or "").split()))


def _first(text: str | None) -> str:
    """The first sentence."""
    sentence = re.split(r"(?<=[.?]) ", _text(text), maxsplit=1)[0]
    return sentence if sentence.endswith("?") else sentence.rstrip(".") + "."


def _wide(table: str) -> str:
    """A table that the site's style sheet shows as paragraphs on a phone."""
    return f'<div class="reference" markdown>\n\n{table}\n</div>\n'


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


PAGES = {
    "reference/spec.md": spec_page,
    "reference/gateway.md": gateway_page,
    "reference/cli.md": cli_page,
    "reference/python.md": python_page,
}


def main(words: list[str]) -> int:
    (folder,) = words
    for name, made in PAGES.items():
        file = Path(folder) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(made(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

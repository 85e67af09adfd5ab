"""Bicep files, read without a compiler: their syntax, the resources they ask for, and whether their parts fit together.

What only Azure knows (the id of a resource, a name with a hash in it) is `UNKNOWN`; parameters that are a bool or have
allowed values are tried with each value, so that every branch of a condition is seen.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import tree_sitter_bicep
from pycep import BicepParser
from pycep.models import BicepElement
from tree_sitter import Language, Node, Parser


class Unknown(str):
    """A value only Azure knows, in the form in which ARM schemas allow an expression anywhere."""


UNKNOWN = Unknown("[unknown]")
Settings = dict[str, Any]

INTERPOLATED = re.compile(r"\$\{(.*?)\}")
OUTPUT = re.compile(r"\b(\w+)!?\.outputs\.(\w+)")
ROOTS = {"main.bicep", "gateway/container-app.bicep"}
"""What people deploy; everything else is a module of it."""
NOT_SENT = {"parent", "scope", "dependsOn"}  # Bicep's own, never part of a resource's body


@dataclass(frozen=True)
class Template:
    path: str
    text: str
    parsed: dict[str, Any]

    def part(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.parsed.get(name, {})
        return found

    @property
    def code(self) -> str:
        return re.sub(r"(?m)(^|\s)//.*$", "", self.text)


@dataclass(frozen=True)
class Resource:
    name: str
    type: str
    api_version: str
    body: dict[str, Any]


def syntax_faults(text: str) -> list[str]:
    def walk(node: Node) -> Iterator[str]:
        if node.type == "ERROR" or node.is_missing:
            yield f"line {node.start_point.row + 1}: syntax error"
        for child in node.children:
            yield from walk(child)

    return list(walk(syntax_tree(text)))


def syntax_tree(text: str) -> Node:
    """The file as tree-sitter sees it."""
    return _syntax().parse(text.encode()).root_node


def read_text(path: str, text: str) -> Template:
    return Template(path, text, {**_grammar().parse(text=text)})


def read_folder(folder: Path) -> dict[str, Template]:
    files = sorted(folder.rglob("*.bicep"))
    return {name: read_text(name, path.read_text()) for path in files for name in [path.relative_to(folder).as_posix()]}


def settings_of(template: Template) -> Iterator[Settings]:
    """Every combination of the parameters whose values can be counted."""
    choices: dict[str, list[Any]] = {}
    for name, parameter in template.part("parameters").items():
        if allowed := _decoration(parameter, "allowed"):
            choices[name] = allowed
        elif parameter["type"] == "bool":
            choices[name] = [False, True]
        elif parameter["type"] == "int":
            choices[name] = [parameter["default"] or 1]
    for values in product(*choices.values()):
        yield dict(zip(choices, values, strict=True))


def resources(template: Template, settings: Settings) -> Iterator[Resource]:
    """What is sent to Azure under these settings; existing resources are only looked up."""
    for name, resource in template.part("resources").items():
        condition, config = unwrapped(resource["config"])
        if resource["existing"] or settle(condition, template, settings) is False:
            continue
        body = settle({key: value for key, value in config.items() if key not in NOT_SENT}, template, settings)
        yield Resource(name, resource["type"], resource["api_version"], body)


def settle(value: Any, template: Template, settings: Settings) -> Any:
    """The value as JSON; null properties are left out, as Azure takes them."""

    def settled(part: Any) -> Any:
        return settle(part, template, settings)

    match value:
        case BicepElement() if value in template.part("variables"):
            return settled(template.part("variables")[value]["value"])
        case BicepElement():
            return settings.get(value, UNKNOWN)
        case str():
            return UNKNOWN if INTERPOLATED.search(value) else value
        case list():
            return [settled(item) for item in value]
        case {"operator": {"type": kind, "operands": operands}} if len(value) == 1:
            return _operated(kind, operands, settled)
        case {"function": {"type": "concat", "parameters": lists}} if len(value) == 1:
            parts = [settled(part) for part in lists.values()]
            return (
                [item for part in parts for item in part] if all(isinstance(part, list) for part in parts) else UNKNOWN
            )
        case {"function": {"type": _}} if len(value) == 1:
            return UNKNOWN
        case {"loop_type": _, "config": body}:
            return [settled(body)]
        case dict():
            pairs = ((key.strip("'"), settled(item)) for key, item in value.items())
            return {key: item for key, item in pairs if item is not None}
        case _:
            return value


def wiring_faults(templates: dict[str, Template]) -> list[str]:
    """What a compiler would say of names: undeclared, unused, undescribed, not passed, not there."""
    faults: list[str] = []
    used_files = set(ROOTS)
    for path, template in templates.items():
        names = _names_in_file(template)
        declared = {
            name for part in ("parameters", "variables", "resources", "modules") for name in template.part(part)
        }
        faults += [f"{path}: {name} is not declared" for name in sorted(names - declared)]
        faults += [f"{path}: {fault}" for fault in _misread(template.parsed)]
        unused = {*template.part("parameters"), *template.part("variables")} - names
        faults += [f"{path}: {name} is never used" for name in sorted(unused)]
        faults += [
            f"{path}: parameter {name} has no description"
            for name, parameter in template.part("parameters").items()
            if not _decoration(parameter, "description")
        ]
        for name, module in template.part("modules").items():
            target = posixpath.normpath(posixpath.join(posixpath.dirname(path), module["detail"]["path"]))
            used_files.add(target)
            if target not in templates:
                faults.append(f"{path}: {name} names {target}, which is not there")
                continue
            faults += [f"{path}: {name}: {fault}" for fault in _argument_faults(module, template, templates, target)]
        for name, output in OUTPUT.findall(template.code):
            if name in template.part("modules") and _output_type(template, templates, name, output) is None:
                faults.append(f"{path}: {name} has no output {output}")
    return faults + [f"{path}: no module uses it" for path in sorted(set(templates) - used_files)]


def _misread(value: Any) -> Iterator[str]:
    """pycep takes `!a ? b : c` for `!(a ? b : c)`; Bicep does not. Parentheses make both see the same."""
    match value:
        case {"operator": {"type": kind, "operands": operands}}:
            inner = [item for item in operands.values() if isinstance(item, dict) and "operator" in item]
            if kind != "conditional" and any(item["operator"].get("type") == "conditional" for item in inner):
                yield "a condition of several parts needs parentheses"
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _misread(item)


def _argument_faults(
    module: dict[str, Any], template: Template, templates: dict[str, Template], target: str
) -> Iterator[str]:
    given = unwrapped(module["config"])[1].get("params", {})
    wanted = templates[target].part("parameters")
    for name, value in given.items():
        if name not in wanted:
            yield f"{target} has no parameter {name}"
        elif (kind := _type_of(value, template, templates)) and kind != wanted[name]["type"]:
            yield f"{name} is a {wanted[name]['type']}, not a {kind}"
    for name, parameter in wanted.items():
        if name not in given and parameter["default"] is None:
            yield f"parameter {name} is not passed"


def _type_of(value: Any, template: Template, templates: dict[str, Template]) -> Any:
    """The type of an argument, where it can be told."""
    match value:
        case BicepElement():
            return template.part("parameters").get(value, {}).get("type")
        case bool():
            return "bool"
        case int():
            return "int"
        case str():
            return "string"
        case {"operator": {"type": "conditional", "operands": {"true_value": value}}}:
            return _type_of(value, template, templates)
        case {
            "operator": {
                "operands": {
                    "operand_1": BicepElement() as name,
                    "operand_2": {"operator": {"operands": {"operand_1": "outputs", "operand_2": output}}},
                }
            }
        }:
            return _output_type(template, templates, name, output)
        case _:
            return None


def _output_type(template: Template, templates: dict[str, Template], module: str, output: str) -> Any:
    detail = template.part("modules")[module]["detail"]["path"]
    target = posixpath.normpath(posixpath.join(posixpath.dirname(template.path), detail))
    return templates[target].part("outputs").get(output, {}).get("type") if target in templates else None


def _names_in_file(template: Template) -> set[str]:
    values: list[Any] = [parameter["default"] for parameter in template.part("parameters").values()]
    values += [variable["value"] for variable in template.part("variables").values()]
    values += [resource["config"] for resource in template.part("resources").values()]
    values += [module["config"] for module in template.part("modules").values()]
    values += [output["value"] for output in template.part("outputs").values()]
    return set(_names(values))


def _names(value: Any) -> Iterator[str]:
    """Declared things that a value refers to."""
    match value:
        case BicepElement():
            yield str(value)
        case str():
            for expression in INTERPOLATED.findall(value):
                yield from _names(_grammar().parse(text=f"var x = {expression}\n")["variables"]["x"]["value"])
        case list():
            for item in value:
                yield from _names(item)
        case {"operator": {"type": "property_accessor", "operands": operands}} if len(value) == 1:
            yield from _names(operands["operand_1"])
            yield from _names_behind_dot(operands["operand_2"])
        case {"loop_type": {"detail": detail}, "config": body}:
            local = {detail.get("item_name"), detail.get("index_name")}
            yield from _names(detail.get("array_name", detail.get("object_name")))
            yield from (name for name in _names(body) if name not in local)
        case dict():
            for key, item in value.items():
                yield from _names(str(key))
                yield from _names(item)


def _names_behind_dot(value: Any) -> Iterator[str]:
    match value:
        case BicepElement():
            return
        case {"operator": {"type": "property_accessor", "operands": operands}}:
            yield from _names_behind_dot(operands["operand_1"])
            yield from _names_behind_dot(operands["operand_2"])
        case {"operator": {"type": "index_accessor", "operands": operands}}:
            yield from _names_behind_dot(operands["operand_1"])
            yield from _names(operands["operand_2"])
        case _:
            yield from _names(value)


def _operated(kind: str, operands: dict[str, Any], settled: Any) -> Any:
    match kind:
        case "not":
            value = settled(operands["bool_value"])
            return not value if isinstance(value, bool) else UNKNOWN
        case "conditional":
            condition = settled(operands["condition"])
            if isinstance(condition, bool):
                return settled(operands["true_value" if condition else "false_value"])
            branches = [settled(operands["true_value"]), settled(operands["false_value"])]
            if any(isinstance(branch, dict | list) for branch in branches):
                raise ValueError(f"can't tell which branch is taken: {operands}")
            return UNKNOWN
        case "property_accessor":
            whole = settled(operands["operand_1"])
            return whole.get(operands["operand_2"], UNKNOWN) if isinstance(whole, dict) else UNKNOWN
        case _:
            return UNKNOWN


def unwrapped(config: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The condition and the body of what may stand behind `if` or in a loop."""
    while "config" in config and ("condition" in config or "loop_type" in config):
        condition, config = config["condition"], config["config"]
        if condition is not None:
            return condition, config
    return None, config


def _decoration(declared: dict[str, Any], name: str) -> Any:
    return next((item["argument"] for item in declared["decorators"] if item["type"] == name), None)


@cache
def _grammar() -> BicepParser:
    return BicepParser(cache=False)


@cache
def _syntax() -> Parser:
    return Parser(Language(tree_sitter_bicep.language()))

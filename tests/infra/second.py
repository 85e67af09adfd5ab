"""Bicep files as the other parser sees them, with rules of its own: what one of the two misreads, the other tells.

`bicep.py` reads with pycep and asks tree-sitter about the syntax alone; here all comes from tree-sitter's tree.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tree_sitter import Node

from .bicep import syntax_tree

_NAMESPACES = {"az", "sys"}


@dataclass
class Reading:
    parameters: dict[str, tuple[str, bool]] = field(default_factory=dict)
    """The type, and whether there is a default."""
    variables: set[str] = field(default_factory=set)
    resources: dict[str, tuple[str, bool]] = field(default_factory=dict)
    """`TYPE@API-VERSION`, and whether it is only looked up."""
    modules: dict[str, tuple[str, set[str]]] = field(default_factory=dict)
    """The file, and the parameters that it is given."""
    outputs: dict[str, str] = field(default_factory=dict)
    """The type of each."""
    references: set[str] = field(default_factory=set)
    """Names that are looked up, but those of loops."""
    asked: set[tuple[str, str]] = field(default_factory=set)
    """(name, output) wherever an output of something is read."""


def read(text: str) -> Reading:
    made = Reading()
    root = syntax_tree(text)
    for each in root.named_children:
        name = _text(each.named_children[0]) if each.named_children else ""
        match each.type:
            case "parameter_declaration":
                made.parameters[name] = (_type(each), len(each.named_children) > 2)
            case "variable_declaration":
                made.variables.add(name)
            case "resource_declaration":
                kinds = [child.type for child in each.children]
                made.resources[name] = (_content(each.named_children[1]), "existing" in kinds)
            case "module_declaration":
                made.modules[name] = (_content(each.named_children[1]), _given(each.named_children[2]))
            case "output_declaration":
                made.outputs[name] = _type(each)
        if each.type != "decorators":
            # Its own name is the first of its children.
            for child in each.named_children[1:]:
                made.references |= set(_looked_up(child, frozenset()))
    made.asked = set(_outputs_asked(root))
    return made


def faults(readings: Mapping[str, Reading]) -> list[str]:
    """Names that nobody declares, and modules that don't get what they ask for."""
    found: list[str] = []
    for path, reading in readings.items():
        declared = {*reading.parameters, *reading.variables, *reading.resources, *reading.modules, *_NAMESPACES}
        found += [f"{path}: {name} is not declared" for name in sorted(reading.references - declared)]
        targets = {
            name: readings.get(posixpath.normpath(posixpath.join(posixpath.dirname(path), file)))
            for name, (file, _) in reading.modules.items()
        }
        for name, (file, given) in reading.modules.items():
            target = targets[name]
            if target is None:
                found.append(f"{path}: {name} names {file}, which is not there")
                continue
            required = {each for each, (_, has_default) in target.parameters.items() if not has_default}
            found += [
                f"{path}: {name}: {file} has no parameter {each}" for each in sorted(given - {*target.parameters})
            ]
            found += [f"{path}: {name}: parameter {each} is not passed" for each in sorted(required - given)]
        found += [
            f"{path}: {name} has no output {output}"
            for name, output in sorted(reading.asked)
            if (target := targets.get(name)) is not None and output not in target.outputs
        ]
    return found


def _text(node: Node) -> str:
    return (node.text or b"").decode()


def _content(string: Node) -> str:
    return _text(string).strip("'")


def _type(declaration: Node) -> str:
    return next(_text(child) for child in declaration.named_children if child.type == "type")


def _given(body: Node) -> set[str]:
    """The keys of a module's `params`, below its condition or loop."""
    while body.type in ("if_statement", "for_statement"):
        body = body.named_children[-1]
    for pair in body.named_children:
        key, value = pair.named_children[0], pair.named_children[-1]
        if pair.type == "object_property" and _text(key) == "params":
            return {_text(each.named_children[0]) for each in value.named_children if each.type == "object_property"}
    return set()


def _looked_up(node: Node, local: frozenset[str]) -> Iterator[str]:
    """Names in a value that are not those of loops around it."""
    children = node.named_children
    match node.type:
        case "identifier":
            if _text(node) not in local:
                yield _text(node)
            return
        case "object_property" if children[0].type == "identifier":
            children = children[1:]
        case "call_expression":
            children = [child for child in children if node.child_by_field_name("function") != child]
            called = node.child_by_field_name("function")
            if called is not None and called.type != "identifier":
                children = [called, *children]
        case "for_statement":
            start = next(index for index, child in enumerate(node.children) if _text(child) == "in")
            names = {
                _text(each)
                for child in node.children[:start]
                for each in (child, *child.named_children)
                if each.type in ("identifier", "loop_variable", "loop_enumerator")
            }
            children = [child for child in node.children[start:] if child.is_named]
            yield from (name for child in children for name in _looked_up(child, local | names))
            return
    for child in children:
        yield from _looked_up(child, local)


def _outputs_asked(node: Node) -> Iterator[tuple[str, str]]:
    """`NAME.outputs.OUTPUT`, with or without the mark that it is there."""
    inner, outer = node.child_by_field_name("object"), node.child_by_field_name("property")
    if node.type == "member_expression" and inner is not None and outer is not None:
        before = _text(inner).split(".")
        if len(before) == 2 and before[1] == "outputs":
            yield before[0].rstrip("!"), _text(outer)
    for child in node.named_children:
        yield from _outputs_asked(child)

"""The package's import graph: no module needs another one that needs it, and each public class name has one meaning."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import tunewright

pytestmark = pytest.mark.slow

ROOT = Path(tunewright.__file__).parents[1]


@cache
def modules() -> dict[str, ast.Module]:
    """Every module by its name, parsed."""
    found = {}
    for file in sorted((ROOT / "tunewright").rglob("*.py")):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(file.read_text("utf-8"))
    return found


def imported_at_once(tree: ast.Module) -> set[str]:
    """What a module imports as it is imported itself: not in a function, and not for types alone."""
    left: list[ast.AST] = list(tree.body)
    found = set()
    while left:
        node = left.pop()
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif (
            isinstance(node, (ast.If, ast.Try, ast.With, ast.ClassDef))
            and "TYPE_CHECKING" not in ast.unparse(node)[:40]
        ):
            left.extend(ast.iter_child_nodes(node))
    return found


def test_no_modules_import_each_other() -> None:
    known = modules()
    # A package's own `__init__` runs before its modules, which may import each other through it.
    needs = {
        name: {each for each in imported_at_once(tree) if each in known and not name.startswith(f"{each}.")} - {name}
        for name, tree in known.items()
    }
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail(f"These import each other: {' -> '.join(error.args[1])}")


def test_a_public_class_name_has_one_meaning() -> None:
    places = defaultdict(list)
    for name, tree in modules().items():
        for each, count in Counter(node.name for node in tree.body if isinstance(node, ast.ClassDef)).items():
            if not each.startswith("_"):
                places[each] += [name] * count
    assert {each: where for each, where in places.items() if len(where) > 1} == {}

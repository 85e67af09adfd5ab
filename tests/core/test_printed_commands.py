"""Commands that messages tell people to type."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import tunewright

SOURCE = Path(tunewright.__file__).parent
PLACES = re.compile(r"(?<![a-z])(folder|path|file|project|bundle|captures)(?![a-z])")
QUOTED = re.compile(r"(quote|join)\(|(\w+\.)+project_argument(s\(.*\))?$")  # the last ones quote
COMMAND = re.compile(r"tunewright (?:[\w=.… -]|\{[^}]*\})*")


def printed_commands(source: str) -> Iterator[str]:
    """The commands in a module's f-strings, with their expressions in braces."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield from COMMAND.findall("".join(map(_written, node.values)))


def _written(part: ast.expr) -> str:
    return f"{{{ast.unparse(part.value)}}}" if isinstance(part, ast.FormattedValue) else ast.literal_eval(part)


def unquoted(command: str) -> list[str]:
    """The places in a command that a shell would take apart at a blank."""
    return [each for each in re.findall(r"\{([^}]*)\}", command) if PLACES.search(each) and not QUOTED.match(each)]


def test_a_printed_command_can_be_typed_where_a_folders_name_has_a_blank() -> None:
    found = {
        f"{file.relative_to(SOURCE)}: {command}"
        for file in SOURCE.rglob("*.py")
        for command in printed_commands(file.read_text("utf-8"))
        if unquoted(command)
    }
    assert not found


def test_what_the_test_above_looks_for() -> None:
    bad, good = 'f"Type: tunewright run {spec.folder} --all"', 'f"tunewright run {quote(str(spec.folder))} x"'
    assert [unquoted(each) for each in printed_commands(f"a = {bad}, {good}")] == [["spec.folder"], []]

"""Setting keys in a user's `tunewright.yaml`. All else in it, comments too, stays to the letter."""

from __future__ import annotations

import json
import re
import shutil
from codecs import BOM_UTF8
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunewright.config.load import read_spec_file
from tunewright.config.yaml_text import read_yaml
from tunewright.core.errors import UserError


def set_keys(path: str | Path, keys: Mapping[str, str]) -> Path:
    """Set keys such as `task.leave_out` to texts, each in a line of its own.

    Args:
        path: a project's folder, or its spec file.

    Returns: the file.

    Raises:
        UserError: a key's section is not written as a block with a key a line; the file is then unchanged.
    """
    file, text = read_spec_file(path)
    mark = BOM_UTF8 if file.read_bytes().startswith(BOM_UTF8) else b""
    for key, value in keys.items():
        section, _, name = key.partition(".")
        before = read_yaml(text, str(file))
        line = f"{name}: {value if value.isidentifier() else json.dumps(value, ensure_ascii=False)}"
        after = _with(text, before, section, line, name)
        if after is None or not _differs_only(before, read_yaml(after, str(file)), section, name, value):
            raise UserError(
                "The key can't be set by a program in this file.",
                where=file,
                fix=f"Add {line} to its section '{section}'.",
            )
        text = after
    _overwrite(file, mark + text.encode())
    return file


def _overwrite(file: Path, content: bytes) -> None:
    """Write a user's file whole or not at all. Its mode stays, and a link still leads to it."""
    target = file.resolve()
    sibling = target.with_name(f".{target.name}.tmp")
    with sibling.open("wb") as stream:
        shutil.copymode(target, sibling)  # before the content is there, which others may not read
        stream.write(content)
    sibling.replace(target)


def _with(text: str, data: Any, section: str, line: str, name: str) -> str | None:
    """The text with a line in a section; None: the section is no block."""
    block: Any = data.get(section) if isinstance(data, dict) else None
    is_section = isinstance(block, dict) and bool(block)
    if not is_section or block.fa.flow_style():
        return None
    lines = re.findall(r"[^\n]*\n|[^\n]+$", text)
    keys = list(block)
    if name in keys:
        place, column = block.lc.key(name)
        there = re.fullmatch(rf"{name}[ \t]*:[ \t]*[\"']?[\w-]+[\"']?([ \t]*(#.*)?\s*)", lines[place][column:])
        if there is None:
            return None
        lines[place] = lines[place][:column] + line + there.group(1)
        return "".join(lines)
    place, column = block.lc.key(keys[0])
    ending = "\r\n" if lines[place].endswith("\r\n") else "\n"
    # Behind the section's first key, such as `kind`, if that is a line.
    behind = len(keys) > 1 and block.lc.key(keys[1])[0] == place + 1
    lines.insert(place + behind, " " * column + line + ending)
    return "".join(lines)


def _differs_only(before: Any, after: Any, section: str, name: str, value: str) -> bool:
    """Whether two contents differ in nothing but one key, which is now `value`."""
    block = after.get(section) if isinstance(after, dict) else None
    if not isinstance(block, dict) or block.get(name) != value:
        return False
    return {**after, section: {**block, name: ""}} == {**before, section: {**before[section], name: ""}}

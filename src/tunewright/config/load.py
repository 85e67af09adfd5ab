"""Read a spec: YAML with line numbers, overrides such as `train.lr=1e-4`, and one error that lists all faults."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tunewright.config.aliases import our_key
from tunewright.config.names import SPEC_FILE
from tunewright.config.recipes import recipe_text
from tunewright.config.schema import FileSpec, MoneySpec, Spec
from tunewright.config.sections import HIDDEN, ApiSpec
from tunewright.config.yaml_text import read_yaml
from tunewright.core.errors import UserError, shortened
from tunewright.core.limits import SPEC_BYTES, SPEC_DEPTH, SPEC_FAULTS
from tunewright.core.regular import read_bytes, unreadable

_Schema = TypeVar("_Schema", bound=BaseModel)
_EITHER = {"model": "candidates", "candidates": "model", "api": "apis", "apis": "api"}
"""Keys that exclude each other: an override of one removes the other."""
_CHECK = "Name a project's folder, or a spec file."
_KEYS = "Type: tunewright spec schema  (it lists every key with its meaning)"


def load_spec(
    path: str | Path, overrides: Iterable[str] = (), recipe: str | None = None, *, allow_code: bool = False
) -> Spec:
    """Read a spec file, or the `tunewright.yaml` of a folder.

    Args:
        overrides: `key.subkey=value` strings, the value read as YAML.
        recipe: settings that replace the file's; overrides replace both. See `tunewright.config.recipes`.
        allow_code: import the module that `task.schema` names, which runs its code, if it names one.

    Raises:
        UserError: the file is absent, is not YAML, or does not fit the schema; all faults are listed at once.
    """
    file, text = read_spec_file(path)
    return parse_spec(text, file, overrides, recipe, allow_code=allow_code)


def load_money(path: str | Path, overrides: Iterable[str] = (), *, allow_code: bool = False) -> MoneySpec:
    """Read the part of a spec that `tunewright assess` needs; a name, the API and the traffic are enough.

    Raises:
        UserError: as `load_spec`.
    """
    file, text = read_spec_file(path)
    return _validated(MoneySpec, _mapping(text, file), overrides, file).anchored(file.parent, allow_code=allow_code)


def load_settings(schema: type[_Schema], file: Path, keys: str) -> _Schema:
    """Read a YAML file of settings that are no spec.

    Args:
        keys: how to see the keys that the file may have, for errors.

    Raises:
        UserError: the file is absent, is not YAML, or does not fit the schema; all faults are listed at once.
    """
    try:
        text = read_bytes(file, SPEC_BYTES, keys).decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError("This file does not exist.", where=file, fix=keys) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"The file is not UTF-8 text (byte {error.start}).", where=file, fix="Save it as UTF-8."
        ) from None
    data = read_yaml(text, str(file))
    if not isinstance(data, dict):
        raise UserError("The file must be a mapping of keys to values.", where=file, fix=keys)
    return _validated(schema, data, (), file, keys)


def read_spec_file(path: str | Path) -> tuple[Path, str]:
    """(the spec file, its text).

    Args:
        path: of the file, or of its folder.

    Raises:
        UserError: it is absent or unreadable, or is data.
    """
    try:
        file = Path(path).expanduser()
        if file.is_dir():
            file = file / SPEC_FILE
        is_data = file.suffix.lower() in (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".gz") and file.is_file()
    except (OSError, RuntimeError) as error:
        raise unreadable(Path(path), error, _CHECK) from None
    if is_data:
        raise UserError(
            "This is data, not a spec.", where=file, fix=f"For a first spec, type: tunewright init {quote(str(file))}"
        )
    try:
        text = read_bytes(file, SPEC_BYTES, _CHECK).decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(
            "There is no spec here.", where=file, fix=f"Type: tunewright init YOUR_DATA.jsonl  (it writes {SPEC_FILE})"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"The spec is not UTF-8 text (byte {error.start}).", where=file, fix="Save it as UTF-8."
        ) from None
    return file, text


def _mapping(text: str, file: Path) -> dict[str, Any]:
    data = read_yaml(text, str(file))
    if not isinstance(data, dict):
        raise UserError(
            "The spec must be a mapping of keys to values.",
            where=file,
            fix="For a complete one to compare with, type: tunewright init --example tickets",
        )
    return data


def parse_spec(
    text: str, file: Path, overrides: Iterable[str] = (), recipe: str | None = None, *, allow_code: bool = False
) -> Spec:
    """Like `load_spec`, from text; `file` appears in errors, and relative paths start at its folder."""
    data, overrides = _mapping(text, file), tuple(overrides)
    if recipe:
        over = read_yaml(recipe_text(recipe), recipe)
        overlay(data, over)
        _displace(data, over)
    return _validated(Spec, data, overrides, file).anchored(
        file.parent, file=file.name, overrides=overrides, recipe=recipe, allow_code=allow_code
    )


def file_spec(train: Path, overrides: Iterable[str] = ()) -> FileSpec:
    """The spec of a bare data source: a file, a folder or a pattern; `overrides` as in `load_spec`.

    Raises:
        UserError: an override does not fit the schema.
    """
    return _validated(FileSpec, {"data": {"train": str(train)}}, overrides, train)


def _validated(
    schema: type[_Schema], data: dict[str, Any], overrides: Iterable[str], file: Path, keys: str = _KEYS
) -> _Schema:
    overrides = list(overrides)
    for override in overrides:
        _apply(data, override)
        _displace(data, [override.partition("=")[0].strip()])
    try:
        return schema.model_validate(_plain(data))
    except ValidationError as error:
        entries = error.errors()
        listed = [_fault(entry, data, schema, overrides) for entry in entries[:SPEC_FAULTS]]
        more = [f"and {len(entries) - len(listed):,} more"] if len(entries) > len(listed) else []
        faults = "; ".join([*listed, *more])
        raise UserError(
            faults if faults.endswith("?") else f"{faults}.",
            where=file,
            fix=keys,
        ) from None


def _plain(value: Any, depth: int = 1) -> Any:
    """A value in Python's own types."""
    if depth > SPEC_DEPTH:
        what = f"With its overrides, the spec is nested more than {SPEC_DEPTH} levels deep."
        raise UserError(what, fix="Leave out the deepest override.")
    if isinstance(value, dict):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, bool):
        return value
    return next((kind(value) for kind in (str, int, float) if isinstance(value, kind)), value)


def overlay(data: dict[str, Any], over: dict[str, Any]) -> None:
    """Replace values of `data` by those of `over`, section by section."""
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(data.get(key), dict):
            overlay(data[key], value)
        else:
            data[key] = value


def _displace(data: dict[str, Any], keys: Iterable[str]) -> None:
    """Remove the keys that exclude one of the keys just set."""
    for key in keys:
        if key in _EITHER and data[key]:
            data.pop(_EITHER[key], None)


def _apply(data: dict[str, Any], override: str) -> None:
    """Apply an override. `apis+=` adds an API to the list, or updates the API of the same name; without a list, `api`
    becomes its first entry."""
    key, sign, text = override.partition("=")
    if not sign or not key.strip():
        raise UserError(
            f"The override '{_without_value(override)}' is not of the form key=value.", fix="For example: train.lr=1e-4"
        )
    if key.endswith("+"):
        return _add(data, key.removesuffix("+").strip(), text, override)
    *parents, last = key.strip().split(".")
    for parent in parents:
        if data.get(parent) is None:  # left out, or left empty
            data[parent] = {}
        child = data[parent]
        if not isinstance(child, dict):
            what = (
                f"The override '{_without_value(override)}' sets a key of '{parent}', which is a value, not a section."
            )
            raise UserError(what, fix=_KEYS)
        data = child
    # YAML 1.1 reads 1e-4 as text, so numbers are tried first.
    try:
        data[last] = float(text) if any(mark in text.lower() for mark in ".e") else int(text)
    except ValueError:
        fix = "Close what it opens, or quote it: 'task.instruction=\"a: b\"'"
        data[last] = read_yaml(text, f"override '{_without_value(override)}'", fix)


def _without_value(override: str) -> str:
    """The key of an override, for errors: its value may hold a secret."""
    start = re.match(r"[\w.-]*\s*\+?=?", override)
    key = start.group() if start else ""
    return shortened(key, 100) + ("…" if key != override else "")


def _add(data: dict[str, Any], key: str, text: str, override: str) -> None:
    if key != "apis":
        raise UserError(
            f"The override '{_without_value(override)}' adds to '{key}'; += works with `apis` only.",
            fix="For example: 'apis+={model: gpt-6-luna, url: openai}'",
        )
    parsed: dict[str, Any] = {}
    _apply(parsed, f"one={text}")
    listed, added = data.get("apis") or [data.get("api") or {}], parsed["one"]
    if not isinstance(listed, list):
        return  # the schema reports this with the other faults
    data.pop("api", None)
    same = next((each for each in listed if _api_name(each) == _api_name(added) is not None), None)
    if same is None:
        listed = [*listed, added]
    else:
        same.update(added)
    data["apis"] = listed


def _api_name(api: Any) -> str | None:
    """The name of an unchecked API entry; None if it is not a mapping."""
    if not isinstance(api, dict):
        return None
    named: dict[str, Any] = {key: str(api[key]) for key in ("name", "model", "reasoning_effort") if api.get(key)}
    return ApiSpec.model_construct(**named).label


def _fault(entry: Any, data: Any, schema: type[BaseModel], overrides: Iterable[str]) -> str:
    place = _place(entry["loc"], schema)
    location, section = place.keys, place.section
    is_unknown = entry["type"] == "extra_forbidden"
    if is_unknown:
        location = [*location[:-1], _without_joined_value(str(location[-1]))]
    key = shortened(".".join(str(part) for part in location), 200) or "spec"
    line = _line_of(place.keys, data)
    is_hidden = is_unknown or isinstance(entry.get("input"), (dict, list)) or _may_be_secret(place.expected)
    overridden = next((text for text in overrides if f"{key}.".startswith(f"{text.partition('=')[0].strip()}.")), None)
    if overridden and (is_hidden or overridden.partition("=")[0].strip() != key):
        overridden = _without_value(overridden)
    at = f"override '{overridden}': " if overridden else f"line {line}: " if line else ""
    if is_unknown:
        if ours := our_key(key):
            return f"{at}unknown key '{key}': Tunewright calls it '{ours}'"
        name, options = str(location[-1])[:100], [field.alias or name for name, field in section.model_fields.items()]
        close = difflib.get_close_matches(name, options, n=1)
        hint = f", did you mean '{close[0]}'?" if close else f" (known here: {', '.join(options)})"
        return f"{at}unknown key '{key}'{hint}"
    if entry["type"] == "missing":
        return f"{at}'{key}' is missing"
    shown = "" if is_hidden else f" (it is {shortened(repr(entry.get('input')), 100)})"
    if entry["type"] == "model_type":
        return f"{at}'{key}' is a section of keys and values{shown}"
    if entry["type"] in ("union_tag_invalid", "union_tag_not_found"):
        tag = entry.get("ctx", {}).get("tag")
        return f"{at}'{key}.kind' is one of: {', '.join(_kinds(location, schema))}" + (
            f" (it is {shortened(repr(tag), 100)})" if tag else ""
        )
    message = shortened(entry["msg"].removeprefix("Value error, "), 300)
    return f"{at}'{key}': {message[:1].lower() + message[1:]}{shown}"


def _without_joined_value(name: str) -> str:
    """An unknown key without the value that YAML takes for a part of it where the space after the colon is missing."""
    key, colon, _ = name.partition(":")
    return key + ("…" if colon else "")


def _line_of(location: list[Any], data: Any) -> int | None:
    line = None
    for part in location:
        try:
            line = data.lc.key(part)[0] + 1
            data = data[part]
        except (AttributeError, KeyError, TypeError, IndexError):
            break
    return line


@dataclass(frozen=True)
class _Place:
    """The place of a fault in a schema."""

    keys: list[Any]
    """The way to it in the spec: a location without the tags of sections that have several kinds."""
    section: type[BaseModel]
    """The innermost section on the way."""
    expected: Any
    """The type, or the field, of what belongs there; None if the key is unknown."""


def _place(location: Iterable[Any], schema: type[BaseModel]) -> _Place:
    keys: list[Any] = []
    section, expected = schema, cast(Any, schema)
    for part in location:
        sections = _sections(expected)
        if len(sections) > 1:
            section = expected = next(
                each for each in sections if part in get_args(each.model_fields["kind"].annotation)
            )
            continue
        keys.append(part)
        if sections:
            section = sections[0]
            expected = next((f for name, f in section.model_fields.items() if part in (name, f.alias)), None)
        else:
            expected = _item(expected)
    return _Place(keys, section, expected)


def _alternatives(expected: Any) -> list[Any]:
    """The types that a type or a field allows."""
    if isinstance(expected, FieldInfo):
        return _alternatives(expected.annotation)
    if get_origin(expected) is Annotated:
        return _alternatives(get_args(expected)[0])
    if get_origin(expected) in (Union, UnionType):
        return [each for part in get_args(expected) for each in _alternatives(part)]
    return [expected]


def _sections(expected: Any) -> list[type[BaseModel]]:
    """The sections that a type or a field allows."""
    return [each for each in _alternatives(expected) if isinstance(each, type) and issubclass(each, BaseModel)]


def _item(expected: Any) -> Any:
    """The type of the items of a list, or of the values of a mapping; None for any other type."""
    items = [get_args(each) for each in _alternatives(expected) if get_origin(each) in (list, tuple, dict)]
    return next((each[1] if len(each) == 2 and each[1] is not ... else each[0] for each in items), None)


def _may_be_secret(expected: Any) -> bool:
    """Whether a type or a field is marked HIDDEN, or something in it is."""
    if isinstance(expected, FieldInfo):
        return HIDDEN in expected.metadata or _may_be_secret(expected.annotation)
    if isinstance(expected, type) and issubclass(expected, BaseModel):
        return any(map(_may_be_secret, expected.model_fields.values()))
    return expected == HIDDEN or any(map(_may_be_secret, get_args(expected)))


def _kinds(location: list[Any], schema: type[BaseModel]) -> list[str]:
    """The kinds of a section that has several, such as `task`."""
    sections = _sections(schema.model_fields[location[-1]])
    return [kind for section in sections for kind in get_args(section.model_fields["kind"].annotation)]

"""Reading a spec: YAML with line numbers, overrides such as `train.lr=1e-4`, and errors that list all that is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from tunewright.errors import UserError
from tunewright.spec.recipes import recipe_text
from tunewright.spec.schema import SPEC_FILE, FileSpec, MoneySpec, Spec
from tunewright.spec.sections import ApiSpec

_Schema = TypeVar("_Schema", bound=BaseModel)
_EITHER = {"model": "candidates", "candidates": "model", "api": "apis", "apis": "api"}
"""Keys of which an override takes the place of the other."""


def load_spec(path: str | Path, overrides: Iterable[str] = (), recipe: str | None = None) -> Spec:
    """Read a spec file, or the `tunewright.yaml` of a folder.

    Args:
        overrides: `key.subkey=value` strings, the value read as YAML.
        recipe: settings that replace the file's; overrides replace both. See `tunewright.spec.recipes`.

    Raises:
        UserError: the file is absent, is not YAML, or does not fit the schema; all faults are listed at once.
    """
    file, text = _read(path)
    return parse_spec(text, file, overrides, recipe)


def load_money(path: str | Path, overrides: Iterable[str] = ()) -> MoneySpec:
    """What `tunewright assess` needs of a spec, which may be no more than a name, the API and the traffic.

    Raises:
        UserError: as `load_spec`.
    """
    file, text = _read(path)
    return _validated(MoneySpec, _mapping(text, file), overrides, file).anchored(file.parent)


def _read(path: str | Path) -> tuple[Path, str]:
    """(the spec file, its text)."""
    file = Path(path).expanduser()
    if file.is_dir():
        file = file / SPEC_FILE
    if file.suffix.lower() in (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".gz") and file.is_file():
        raise UserError("This is data, not a spec.", where=file, fix=f"For a first spec, type: tunewright init {file}")
    try:
        text = file.read_text("utf-8-sig")
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
    data = _yaml(text, file)
    if not isinstance(data, dict):
        raise UserError("The spec must be a mapping of keys to values.", where=file, fix="Compare examples/tickets.")
    return data


def parse_spec(text: str, file: Path, overrides: Iterable[str] = (), recipe: str | None = None) -> Spec:
    """Like `load_spec`, from text already read; `file` names it in errors and anchors its relative paths."""
    data = _mapping(text, file)
    if recipe:
        over = _yaml(recipe_text(recipe), Path(recipe))
        overlay(data, over)
        _displace(data, over)
    return _validated(Spec, data, overrides, file).anchored(file.parent)


def file_spec(train: Path, overrides: Iterable[str] = ()) -> FileSpec:
    """The spec of a bare data source: a file, a folder or a pattern; `overrides` as in `load_spec`.

    Raises:
        UserError: an override does not fit the schema.
    """
    return _validated(FileSpec, {"data": {"train": str(train)}}, overrides, train)


def _validated(schema: type[_Schema], data: dict[str, Any], overrides: Iterable[str], file: Path) -> _Schema:
    overrides = list(overrides)
    for override in overrides:
        _apply(data, override)
        _displace(data, [override.partition("=")[0].strip()])
    try:
        return schema.model_validate(_plain(data))
    except ValidationError as error:
        faults = "; ".join(_fault(entry, data, schema, overrides) for entry in error.errors())
        raise UserError(
            faults if faults.endswith("?") else f"{faults}.",
            where=file,
            fix="Type: tunewright spec schema  (it lists every key with its meaning)",
        ) from None


def _yaml(text: str, file: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="rt").load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(
            f"The YAML can't be read: {problem}.",
            where=f"{file}:{mark.line + 1}" if mark else file,
            fix="Mend that line, then run again.",
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def overlay(data: dict[str, Any], over: dict[str, Any]) -> None:
    """Put values over those of `data`, section by section."""
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(data.get(key), dict):
            overlay(data[key], value)
        else:
            data[key] = value


def _displace(data: dict[str, Any], said: Iterable[str]) -> None:
    """Leave out the keys whose place was taken by what was just said."""
    for key in said:
        if key in _EITHER and data[key]:
            data.pop(_EITHER[key], None)


def _apply(data: dict[str, Any], override: str) -> None:
    """Put what an override says in its place. `apis+=` adds an API to the list, or to what it says of the one that is
    called the same; without a list the one paid for today begins it."""
    key, sign, text = override.partition("=")
    if not sign or not key.strip():
        raise UserError(f"The override '{override}' is not of the form key=value.", fix="For example: train.lr=1e-4")
    if key.endswith("+"):
        return _add(data, key.removesuffix("+").strip(), text, override)
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    *parents, last = key.strip().split(".")
    for parent in parents:
        child = data.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(f"The override '{override}' goes below '{parent}', which is a value, not a section.",
                            fix="Type: tunewright spec schema  (it lists every key with its meaning)")  # fmt: skip
        data = child
    # 1.1's reading of 1e-4 as text would surprise: numbers are tried first.
    try:
        data[last] = float(text) if any(mark in text.lower() for mark in ".e") else int(text)
    except ValueError:
        try:
            data[last] = YAML(typ="safe").load(text)
        except YAMLError:
            raise UserError(f"The value of the override '{override}' is not YAML.",
                            fix="Close what it opens, or quote it: 'task.instruction=\"a: b\"'") from None  # fmt: skip


def _add(data: dict[str, Any], key: str, text: str, override: str) -> None:
    if key != "apis":
        raise UserError(f"The override '{override}' adds to '{key}', and only `apis` can be added to.",
                        fix="For example: 'apis+={model: gpt-6-luna, url: openai}'")  # fmt: skip
    said: dict[str, Any] = {}
    _apply(said, f"one={text}")
    listed, added = data.get("apis") or [data.get("api") or {}], said["one"]
    if not isinstance(listed, list):
        return  # its errors are reported with the others
    data.pop("api", None)
    same = next((each for each in listed if _called(each) == _called(added) is not None), None)
    if same is None:
        listed = [*listed, added]
    else:
        same.update(added)
    data["apis"] = listed


def _called(api: Any) -> str | None:
    """What an API of the list is called, before anything of it is checked; None of what is none."""
    if not isinstance(api, dict):
        return None
    named: dict[str, Any] = {key: str(api[key]) for key in ("name", "model", "reasoning_effort") if api.get(key)}
    return ApiSpec.model_construct(**named).label


def _fault(entry: Any, data: Any, schema: type[BaseModel], overrides: Iterable[str]) -> str:
    location, section = _place(entry["loc"], schema)
    key = ".".join(str(part) for part in location) or "spec"
    overridden = next((text for text in overrides if f"{key}.".startswith(f"{text.partition('=')[0].strip()}.")), None)
    line = _line_of(location, data)
    if overridden and location[-1:] in (["url"], ["key"]):
        overridden = f"{key}=…"
    at = f"override '{overridden}': " if overridden else f"line {line}: " if line else ""
    if entry["type"] == "extra_forbidden":
        name, options = str(location[-1]), [field.alias or name for name, field in section.model_fields.items()]
        close = difflib.get_close_matches(name, options, n=1)
        hint = f", did you mean '{close[0]}'?" if close else f" (known here: {', '.join(options)})"
        return f"{at}unknown key '{key}'{hint}"
    if entry["type"] == "missing":
        return f"{at}'{key}' is missing"
    if entry["type"] == "model_type":
        return f"{at}'{key}' is a section of keys and values (it is {entry.get('input')!r})"
    if entry["type"] in ("union_tag_invalid", "union_tag_not_found"):
        tag = entry.get("ctx", {}).get("tag")
        return f"{at}'{key}.kind' is one of: {', '.join(_kinds(location, schema))}" + (
            f" (it is {tag!r})" if tag else ""
        )
    message = entry["msg"].removeprefix("Value error, ")
    # What was typed for an address or a key may hold a secret.
    hidden = isinstance(entry.get("input"), (dict, list)) or location[-1:] in (["url"], ["key"])
    shown = "" if hidden else f" (it is {entry.get('input')!r})"
    return f"{at}'{key}': {message[:1].lower() + message[1:]}{shown}"


def _line_of(location: list[Any], data: Any) -> int | None:
    line = None
    for part in location:
        try:
            line = data.lc.key(part)[0] + 1
            data = data[part]
        except (AttributeError, KeyError, TypeError, IndexError):
            break
    return line


def _place(location: Iterable[Any], schema: type[BaseModel]) -> tuple[list[Any], type[BaseModel]]:
    """Where a fault is, without the tags that tell sections of several kinds apart, and the section it is in."""
    place: list[Any] = []
    sections = [schema]
    section = schema
    for part in location:
        if len(sections) > 1:
            section = next(each for each in sections if part in get_args(each.model_fields["kind"].annotation))
            sections = [section]
            continue
        place.append(part)
        if sections:
            section = sections[0]
            field = next((f for name, f in section.model_fields.items() if part in (name, f.alias)), None)
            sections = _sections(field.annotation) if field else []
    return place, section


def _sections(annotation: Any) -> list[type[BaseModel]]:
    return [
        each for each in (annotation, *get_args(annotation)) if isinstance(each, type) and issubclass(each, BaseModel)
    ]


def _kinds(location: list[Any], schema: type[BaseModel]) -> list[str]:
    """The kinds of a section that has several."""
    sections = _sections(schema.model_fields[location[-1]].annotation)
    return [kind for section in sections for kind in get_args(section.model_fields["kind"].annotation)]

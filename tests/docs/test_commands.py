"""Every command line on the pages is one that the command line knows: verb, options, values, keys of the spec."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tests.conftest import REPOSITORY
from tests.docs.pages import PAGES, Command, blocks, commands, names, spans
from tunewright.cli.app import command_line
from tunewright.config.yaml_text import read_yaml
from tunewright.gateway.config import GatewaySpec
from tunewright.pipeline.steps import STEPS

app = command_line()

TYPED = list(commands("tunewright"))
_KEY = re.compile(r"([a-z_]+(?:\.[\w-]+)*)=")


def _reference() -> Any:
    spec = importlib.util.spec_from_file_location("reference", REPOSITORY / "tools" / "reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["reference"] = module
    spec.loader.exec_module(module)
    return module


REFERENCE = _reference()
KEYS = REFERENCE.spec_keys()
SECTIONS = {key.partition(".")[0] for key in KEYS if "." in key}
TOP = {key for key in KEYS if "." not in key}
NO_SPEC = {"on", "jobs", "steps", "resources", "pool", "as_of", "upstreams"}
"""Keys of a pipeline, of the price book, and of the gateway."""
FILES = (".db", ".html", ".json", ".jsonl", ".yaml")
MAPPINGS = ("data.test.", "data.label.", "task.labels.", "azure.base_images.")
"""What stands behind these is the user's own."""
OTHERS = {
    "az": ("--purge", "--use-device-code"),
    "bench": ("--choose", "--database", "--litellm", "--names", "--part", "--rate", "--seconds", "--with"),
    "llama.cpp": ("--grammar-file", "--parallel"),
    "python -m tunewright.pipeline.step": ("--without",),
    "vLLM": ("--enable-lora", "--max-model-len"),
}
"""Options that pages name and that are another program's."""


RECIPES = sorted((REPOSITORY / "src" / "tunewright" / "recipes").rglob("*.yaml"))
_STEP = re.compile(r"-m tunewright\.pipeline\.step ([a-z]+) (.*)")


def _silenced() -> Any:
    """The command line, whose commands do nothing."""
    root = typer.main.get_command(app)

    def silence(command: Any) -> None:
        inner = getattr(command, "commands", None)
        for each in (inner or {}).values():
            silence(each)
        if inner is None:
            command.callback = lambda **_: None

    silence(root)
    return root


ROOT = typer.main.get_command(app)


def _found(words: list[str]) -> tuple[Any, list[str]]:
    """(the command that the words name, the words behind its name)."""
    command: Any = ROOT
    for number, word in enumerate(words):
        inner = getattr(command, "commands", None)
        if inner is None:
            return command, words[number:]
        if word not in inner:
            return command, words[number:]
        command = inner[word]
    return command, []


def _options(command: Any) -> set[str]:
    return {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"--help", "-h"}


def _shown(typed: list[Command]) -> Any:
    return pytest.mark.parametrize("command", typed, ids=[str(each) for each in typed])


def test_the_pages_have_commands() -> None:
    assert len([each for each in TYPED if each.whole]) > 90
    assert {names(each.page) for each in TYPED} >= {"README.md", "docs/index.md", "docs/get-started.md"}


@pytest.mark.slow
@_shown([each for each in TYPED if each.whole])
def test_what_can_be_typed_is_parsed(command: Command) -> None:
    # Raises a usage error for a wrong verb, option, value or number of arguments.
    _silenced().main(args=command.words, prog_name="tunewright", standalone_mode=False)


@_shown([each for each in TYPED if not each.whole])
def test_what_is_mentioned_exists(command: Command) -> None:
    found, rest = _found([word for word in command.words if word != "..."])
    if getattr(found, "commands", None) and rest and not rest[0].startswith("-"):
        assert found.name == "assess" or rest[0].isupper(), f"tunewright has no command {rest[0]}"
        return
    unknown = [word for word in rest if word.startswith("-") and word.partition("=")[0] not in _options(found)]
    assert not unknown


def _keys() -> Iterator[tuple[Command, str]]:
    for command in TYPED:
        for word in command.words:
            if not word.startswith("-") and (key := _KEY.match(word)):
                yield command, key[1]


@pytest.mark.parametrize(("command", "key"), [pytest.param(*each, id=f"{each[0]}: {each[1]}") for each in _keys()])
def test_each_override_is_a_key_of_the_spec(command: Command, key: str) -> None:
    del command
    assert key in KEYS or key.startswith(MAPPINGS)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=names)
def test_each_key_and_option_that_a_page_names_exists(page: Path) -> None:
    options = {name for each in REFERENCE.commands().values() for name in _options(each)}
    known = options.union(*OTHERS.values())
    named = spans(page)
    wrong = [word for word in named if re.match("--[a-z]", word) and re.split("[ =]", word)[0] not in known]
    dotted = [word for word in named if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", word) and not word.endswith(FILES)]
    wrong += [key for key in dotted if key.partition(".")[0] in SECTIONS and key not in KEYS]
    assert not wrong


def _of_steps() -> Iterator[tuple[str, str, str]]:
    """(file, step, arguments) of each command line of a step, on the pages and in the recipes' comments."""
    for file in [*PAGES, *RECIPES]:
        text = re.sub(r"\\\n[# ]*", "", file.read_text("utf-8"))
        for step, arguments in _STEP.findall(text):
            yield names(file), step, arguments


def test_each_command_line_of_a_step_names_its_inputs() -> None:
    found = list(_of_steps())
    assert {step for _, step, _ in found} >= {"train", "export", "evaluate"}
    for file, step, arguments in found:
        given, without = (re.findall(rf"--{option} (\w+)", arguments) for option in ("in", "without"))
        assert given == [name for name in STEPS[step].inputs if name not in without], f"{file}: {step}"


def _paths(value: Any, prefix: str) -> Iterator[str]:
    if prefix and prefix not in KEYS:
        yield prefix
    elif isinstance(value, dict) and f"{prefix}." not in MAPPINGS and prefix != "task.schema":
        for key, inner in value.items():
            yield from _paths(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict):
                yield from _paths(inner, prefix)


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_a_spec_that_a_page_shows_has_known_keys(page: Path) -> None:
    shown = [read_yaml(block, page.name) for block in blocks(page, "yaml")]
    specs = [each for each in shown if isinstance(each, dict) and set(each) & TOP and not set(each) & NO_SPEC]
    assert not [key for spec in specs for key in _paths(spec, "")]


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_settings_of_a_gateway_that_a_page_shows_are_right(page: Path) -> None:
    shown = [read_yaml(block, page.name) for block in blocks(page, "yaml")]
    for settings in shown:
        if isinstance(settings, dict) and "upstreams" in settings:
            GatewaySpec.model_validate(settings)


@pytest.mark.parametrize("target", sorted({each.words[0] for each in commands("make") if each.words}))
def test_each_make_target_exists(target: str) -> None:
    assert re.search(rf"^{re.escape(target)}:", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE)

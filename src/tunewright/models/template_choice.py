"""Chooses the chat template that a model is trained and served with.

In this order: the model's own template if it marks the assistant's text; one of ours, then one of TRL's training
templates, if it writes exactly the text of the model's own; else the one of ours whose control tokens the model's
tokenizer has. The values of other variables (bos_token, eos_token, enable_thinking) are written into the template, so
that the file is complete by itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.models.chat import ChatTemplate, Generation, marks_generation, without_marks
from tunewright.models.files import read_object, read_text
from tunewright.models.sandbox import compiled, render, variables_of
from tunewright.tasks import Message

OWN = (
    "chatml",
    "qwen3",
    "phi3",
    "phi4",
    "llama3",
    "llama3.1",
    "mistral",
    "mistral-tekken",
    "mistral-v7",
    "gemma3",
    "gemma4",
)
"""The templates that ship with Tunewright."""
FILE, _SETTINGS, _SPECIAL = "chat_template.jinja", "tokenizer_config.json", "special_tokens_map.json"
_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
_MARKS = {
    "<|turn>": "gemma4",
    "<start_of_turn>": "gemma3",
    "<|start_header_id|>": "llama3",
    "<|im_start|>": "chatml",
    "[SYSTEM_PROMPT]": "mistral-v7",
}
"""Tokens that only one family's vocabulary has."""
_FAMILY_OF_TYPE = {
    "llama": "chatml",
    "qwen2": "chatml",
    "qwen3": "chatml",
    "phi3": "phi3",
    "mistral": "mistral",
    "ministral": "mistral-tekken",
    "ministral3": "mistral-v7",
    "mistral3": "mistral-v7",
    "gemma3": "gemma3",
    "gemma3_text": "gemma3",
    "gemma4": "gemma4",
    "gemma4_text": "gemma4",
}
_DAY = "26 Jul 2024"
"""The date that Llama 3.2's template writes without a clock. With a clock, its text would change each day."""
_SYSTEM, _USER = Message(role="system", content="Route it."), Message(role="user", content="Where is it?")
_ANSWER = Message(role="assistant", content="delivery")
_TALKS = ([_SYSTEM, _USER], [_SYSTEM, _USER, _ANSWER, _USER])
_CONTROL = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")
"""A control token in the text of a template of ours."""


def template_of(folder: Path) -> ChatTemplate:
    """The chat template of a model's folder.

    Raises:
        UserError: the folder's files can't be read, or no template fits the model.
    """
    own, tokens = _own(folder)
    if own and marks_generation(own):
        return ChatTemplate(_completed(own, tokens), str(folder / FILE))
    if own and (equal := _equal(own, tokens)):
        return equal
    family = _family(folder)
    if own:
        _warn(str(folder), family)
    return ChatTemplate.named(family)


def writes(source: str, messages: Sequence[Message], tokens: dict[str, str]) -> str:
    """Render any chat template, marked or not, without thinking.

    Raises:
        TemplateError: rendering failed.
    """
    conversation = [{"role": message.role, "content": message.content} for message in messages]
    prompted = messages[-1].role != "assistant"
    return without_marks(
        render(
            compiled(source, (Generation,)),
            {
                "messages": conversation,
                "add_generation_prompt": prompted,
                "tools": None,
                "documents": None,
                "enable_thinking": False,
                "date_string": _DAY,
                **tokens,
            },
        )
    )


def texts_of(source: str, tokens: dict[str, str], talks: Sequence[list[Message]]) -> list[tuple[str, str]] | None:
    """(the text before an answer, the text with the answer) for each conversation; None if rendering fails."""
    try:
        return [(writes(source, talk, tokens), writes(source, [*talk, _ANSWER], tokens)) for talk in talks]
    except TemplateError:
        return None


def same_text(template: ChatTemplate, expected: Sequence[tuple[str, str]], talks: Sequence[list[Message]]) -> bool:
    """Whether a marked template writes the expected texts of `texts_of`, up to the end of the answer."""
    try:
        for talk, (prompt, whole) in zip(talks, expected, strict=True):
            if "".join(span.text for span in template.spans(talk, add_generation_prompt=True)) != prompt:
                return False
            spans = template.spans([*talk, _ANSWER])
            while not spans[-1].own:
                spans.pop()
            if not whole.startswith("".join(span.text for span in spans)):
                return False
            template.check([*talk, _ANSWER])
    except UserError:
        return False
    return True


def _equal(own: str, tokens: dict[str, str]) -> ChatTemplate | None:
    """The first known marked template that writes the same text as a model's own."""
    expected = texts_of(own, tokens, _TALKS)
    if expected is None:
        return None
    return next((each for each in _known(tokens) if same_text(each, expected, _TALKS)), None)


def _known(tokens: dict[str, str]) -> Iterator[ChatTemplate]:
    yield from map(ChatTemplate.named, OWN)
    for name, source in _trl().items():
        yield ChatTemplate(_completed(source, tokens), f"trl/{name}")


@cache
def _trl() -> dict[str, str]:
    """TRL's training templates by file name. We don't import TRL itself, which takes seconds."""
    spec = find_spec("trl")
    folders = [Path(folder) / "chat_templates" for folder in spec.submodule_search_locations or ()] if spec else []
    return {
        file.name: file.read_text("utf-8") for folder in folders for file in sorted(folder.glob("*_training.jinja"))
    }


def _completed(source: str, tokens: dict[str, str]) -> str:
    """A template with the values of its variables written into it."""
    values: dict[str, Any] = {"enable_thinking": False, **tokens}
    try:
        used = sorted(variables_of(source, (Generation,)) & set(values))
    except TemplateError:
        return source  # ChatTemplate will refuse it with the reason
    return "".join(f"{{%- set {name} = {json.dumps(values[name])} -%}}\n" for name in used) + source


def _own(folder: Path) -> tuple[str | None, dict[str, str]]:
    """(the template that came with a model, the control tokens in its tokenizer's settings)."""
    settings, special = _read(folder / _SETTINGS), _read(folder / _SPECIAL)
    tokens = {}
    for name in _TOKENS:
        token = settings.get(name) or special.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            tokens[name] = token
    if (folder / FILE).is_file():
        return read_text(folder / FILE), tokens
    own = settings.get("chat_template")
    if isinstance(own, list):  # named ones
        named = (each for each in own if isinstance(each, dict))
        own = next((each.get("template") for each in named if each.get("name") == "default"), None)
    return own if isinstance(own, str) else None, tokens


def _read(file: Path) -> dict[str, Any]:
    return read_object(file) if file.is_file() else {}


def _family(folder: Path) -> str:
    """The name of the template of ours that fits the model's vocabulary and type."""
    if not (folder / "config.json").is_file():
        raise UserError("This folder holds no Hugging Face model.", where=folder, why="It has no config.json.")
    config = _read(folder / "config.json")
    if not (folder / "tokenizer.json").is_file():
        raise UserError("This folder has no tokenizer.json.", where=folder, fix="Save the fast tokenizer beside it.")
    kind, added = str(config.get("model_type")), _added_tokens(folder)
    special = {token for token, is_special in added.items() if is_special}
    family = next((named for mark, named in _MARKS.items() if mark in special), _FAMILY_OF_TYPE.get(kind))
    if family is None:
        raise _unknown(folder, f"Its type is '{kind}' and its own template marks no {{% generation %}}.")
    if missing := sorted(controls_of(ChatTemplate.named(family)) - special):
        raise _unknown(
            folder,
            f"Its own template marks no {{% generation %}}, and {family}.jinja, the nearest of ours, needs control "
            f"tokens that its tokenizer lacks: {', '.join(missing)}.",
        )
    return "qwen3" if (family, kind) == ("chatml", "qwen3") and "<think>" in added else family


def controls_of(template: ChatTemplate) -> set[str]:
    """The control tokens that a template of ours writes.

    In a vocabulary without them each is several tokens: an answer would end after the last of these, with the others in
    it, and a message could speak for another role.
    """
    spans = (span for talk in _TALKS for span in template.spans(talk, add_generation_prompt=True))
    return {token for span in spans if not span.verbatim for token in _CONTROL.findall(span.text)}


def _added_tokens(folder: Path) -> dict[str, bool]:
    """The tokens that a tokenizer finds whole in a text -> whether each is a control token."""
    added = read_object(folder / "tokenizer.json").get("added_tokens")
    tokens = [each for each in added if isinstance(each, dict)] if isinstance(added, list) else []
    return {str(each.get("content")): each.get("special") is True for each in tokens}


def _unknown(folder: Path, why: str) -> UserError:
    return UserError(
        "No chat template is known for this model.",
        where=folder,
        why=why,
        fix="Put a chat_template.jinja with {% generation %} marks into the folder: for example the model's own, with "
        "{% generation %} … {% endgeneration %} around the assistant's content and end token.",
    )


@cache
def _warn(folder: str, family: str) -> None:
    say(
        f"  note: {folder} has a chat template without {{% generation %}} marks, and no known template is equal to it. "
        f"{family}.jinja is used, whose control tokens its tokenizer has. Put marks into {FILE} to train on the "
        "model's own."
    )

"""A chat template in a form that all engines render alike: transformers, vLLM, llama.cpp, text-generation-inference.

Engines differ in two things. First, `{% generation %}` is an extension of transformers. MiniJinja, on which
text-generation-inference and vLLM's Rust front end are built, refuses it as an unknown statement; vLLM rewrites it
since 2026-09-11 (vllm-project/vllm#56378; mitsuhiko/minijinja#815). llama-cpp-python refused it too until this year
(abetlen/llama-cpp-python#2226). Second, white space around tags depends on `trim_blocks` and `lstrip_blocks`, which
transformers sets and others may not. All checked 2026-11-27.

The plain form depends on neither: it has no marks, every tag strips the white space on both sides by itself, and all
text of the template is in string literals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from jinja2 import TemplateError
from jinja2.ext import LoopControlExtension
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunewright.core.errors import UserError
from tunewright.models.chat import ChatTemplate
from tunewright.tasks import Message

_MARKS = ("generation", "endgeneration")
_OUTSIDE = ("comment_begin", "comment", "comment_end", "raw_begin", "raw_end")
_CLOSED_BY = {"block_end": "%", "variable_end": "}"}


def plain(source: str) -> str:
    """The plain form of a template; see the module.

    Args:
        source: a Jinja template for transformers, read with `trim_blocks` and `lstrip_blocks`.
    """
    pieces: list[str] = []
    inside: list[str] = []
    for _, kind, text in ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).lex(source):
        if kind in _OUTSIDE:
            continue
        if kind == "data":
            pieces.append(f"{{{{- {_literal(text)} -}}}}")
        elif kind in ("block_begin", "variable_begin"):
            inside = []
        elif kind in _CLOSED_BY:
            words = "".join(inside).strip()
            if words not in _MARKS:
                sign = _CLOSED_BY[kind]
                opened = "{" if sign == "}" else sign
                pieces.append(f"{{{opened}- {words} -{sign}}}")
        else:
            inside.append(text)
    return "\n".join(pieces) + "\n"


def render(
    source: str, messages: Sequence[Message], *, add_generation_prompt: bool, tokens: Mapping[str, str] | None = None
) -> str:
    """Render a conversation by a plain template, with only the functions that every engine has.

    Args:
        tokens: the tokens that the template may use by name, such as `bos_token`.

    Raises:
        jinja2.TemplateError: it can't be parsed or filled in.
    """
    environment = ImmutableSandboxedEnvironment(extensions=[LoopControlExtension])
    environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda form: datetime.now().strftime(form)}
    return environment.from_string(source).render(
        messages=[{"role": message.role, "content": message.content} for message in messages],
        add_generation_prompt=add_generation_prompt,
        tools=None,
        documents=None,
        **(tokens or {}),
    )


def _refuse(message: str) -> None:
    raise TemplateError(message)


def plain_form(template: ChatTemplate, messages: Sequence[Message], answer: Message, tokens: Mapping[str, str]) -> str:
    """The plain form of a model's training template, checked on a conversation.

    Args:
        messages: the messages before the model's answer.
        tokens: as in `render`.

    Raises:
        UserError: the plain form renders another text than the template.
    """
    source = plain(template.source)
    for conversation, prompting in ((messages, True), ([*messages, answer], False)):
        expected = "".join(span.text for span in template.spans(conversation, add_generation_prompt=prompting))
        try:
            rendered = render(source, conversation, add_generation_prompt=prompting, tokens=tokens)
        except TemplateError as error:
            rendered = str(error)
        if rendered != expected:
            raise UserError(
                "The chat template can't be written in a form that other engines read.",
                where=template.name,
                why=f"Without the generation marks it gives {rendered[-80:]!r}, with them {expected[-80:]!r}.",
                fix="Let the template depend on nothing but the messages and the tokenizer's own tokens.",
            )
    return source


def _literal(text: str) -> str:
    """A text as a string literal that Jinja, MiniJinja and minja read alike."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'

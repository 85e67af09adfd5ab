"""The template that goes out: without marks, and the same text in every engine."""

from __future__ import annotations

from importlib import resources

import minijinja
import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunewright.core.errors import UserError
from tunewright.exporters.plain_template import plain, plain_form
from tunewright.models.chat import ChatTemplate
from tunewright.tasks import Message

FAMILIES = sorted(
    file.name.removesuffix(".jinja") for file in (resources.files("tunewright.models") / "templates").iterdir()
)
SYSTEM = Message(role="system", content='Be "short" \\ {{ and }} plain.\n')
USER = Message(role="user", content=" What?\n\n")
ANSWER = Message(role="assistant", content=" refund")
CONVERSATIONS = (
    ([SYSTEM, USER], True),
    ([SYSTEM, USER, ANSWER], False),
    ([SYSTEM, USER, ANSWER, USER], True),
    ([USER], True),
)


def wanted(template: ChatTemplate, messages: list[Message], prompting: bool) -> str:
    return "".join(span.text for span in template.spans(messages, add_generation_prompt=prompting))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_engine_renders_what_training_saw(family: str) -> None:
    template = ChatTemplate.named(family)
    source = plain_form(template, [SYSTEM, USER], ANSWER, {})
    for trimmed in (True, False):
        jinja = ImmutableSandboxedEnvironment(trim_blocks=trimmed, lstrip_blocks=trimmed).from_string(source)
        mini = minijinja.Environment(trim_blocks=trimmed, lstrip_blocks=trimmed, templates={"chat": source})
        for messages, prompting in CONVERSATIONS:
            given = {
                "messages": [{"role": each.role, "content": each.content} for each in messages],
                "add_generation_prompt": prompting,
            }
            assert jinja.render(given) == wanted(template, messages, prompting)
            assert mini.render_template("chat", **given) == wanted(template, messages, prompting)


ODD = """\
{# a comment
   of two lines #}
  {% for message in messages %}
{%+ if message.role == "assistant" %}
  {% generation %}{{ message.content }}<|im_end|>{% endgeneration -%}

  {% else %}
{% raw %}{% not a tag %}{% endraw %}{{ message.role }}: "quoted"\\n	{{ message.content -}}
  !{{ "}}" }}
{% endif %}
{% endfor %}
  {%- if add_generation_prompt %}
assistant:{% endif %}
"""


def test_white_space_comments_raw_text_and_quotes_come_out_as_they_did() -> None:
    template = ChatTemplate(ODD)
    source = plain(ODD)
    assert "generation %" not in source.replace("add_generation_prompt", "")
    for trimmed in (True, False):
        jinja = ImmutableSandboxedEnvironment(trim_blocks=trimmed, lstrip_blocks=trimmed).from_string(source)
        for messages, prompting in CONVERSATIONS:
            given = [{"role": each.role, "content": each.content} for each in messages]
            text = jinja.render(messages=given, add_generation_prompt=prompting)
            assert text == wanted(template, messages, prompting)


def test_a_template_that_depends_on_its_marks_is_refused() -> None:
    """What is set between the marks is gone behind them, and stays where there are none."""
    template = ChatTemplate(
        "{% set end = '<a>' %}{% for message in messages %}{{ message.content }}{% endfor %}"
        "{% generation %}{% set end = '<b>' %}x{% endgeneration %}{{ end }}"
    )
    with pytest.raises(UserError, match="other engines"):
        plain_form(template, [SYSTEM, USER], ANSWER, {})


def test_a_template_may_know_the_tokenizers_own_tokens_by_name() -> None:
    template = ChatTemplate("{% for m in messages %}{% generation %}{{ m.content }}</s>{% endgeneration %}{% endfor %}")
    assert plain_form(template, [SYSTEM, USER], ANSWER, {"eos_token": "</s>"})

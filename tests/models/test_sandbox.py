"""A template of a downloaded model ends soon and stays small, and is given what transformers gives it."""

from __future__ import annotations

import time
from datetime import datetime

import pytest
from jinja2 import TemplateError

from tunewright.errors import UserError
from tunewright.models.chat import ChatTemplate
from tunewright.models.sandbox import compiled, render
from tunewright.tasks import Message

GIVEN = {"messages": [{"role": "user", "content": "hello"}], "add_generation_prompt": False, "tools": None}


def text_of(source: str, **given: object) -> str:
    return render(compiled(source, ()), GIVEN | given)


BOMBS = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "a wide range": "{% for a in range(10 ** 9) %}{% endfor %}",
    "much text": "{% for a in range(99999) %}" + "x" * 5000 + "{% endfor %}",
    "much text, kept": "{% set s %}{% for a in range(99999) %}" + "x" * 5000 + "{% endfor %}{% endset %}",
    "a repeated text": "{{ 'x' * 10 ** 10 }}",
    "a repeated list": "{{ ([0] * 10 ** 10) | length }}",
    "a doubled text": "{% set n = namespace(s='x') %}{% for a in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "a doubled text, joined": "{% set n = namespace(s='x') %}{% for a in range(60) %}"
    "{% set n.s = n.s ~ n.s %}{% endfor %}",
    "a doubled list": "{% set n = namespace(s=[0]) %}{% for a in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}",
    "a list in itself": "{% set n = namespace(s=[0]) %}{% for a in range(60) %}"
    "{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s }}",
    "a doubled capture": "{% set n = namespace(s='x') %}{% for a in range(60) %}"
    "{% set n.s %}{{ n.s }}{{ n.s }}{% endset %}{% endfor %}",
    "many captures": "{% set s = 'x' * 99999 %}" + "{% set s %}{{ s }}{{ s }}{% endset %}" * 40,
    "many capitals": "{% set s = 'x' * 99999 %}" + "{% set s = s | upper %}" * 1500,
    "many comparisons": "{% set a = [0] * 9999999 %}{% set b = [0] * 9999999 %}" + "{% if a == b %}{% endif %}" * 1500,
    "replacing nothing": "{{ ('x' * 99999).replace('', 'x' * 99999) }}",
    "replacing nothing, as a filter": "{{ ('x' * 99999) | replace('', 'x' * 99999) }}",
    "a wide join": "{{ ('x' * 99999) | join('x' * 99999) }}",
    "a join by its method": "{{ ('x' * 99999).join('x' * 99999) }}",
    "a padded text": "{{ 'x'.ljust(10 ** 10) }}",
    "a centred text": "{{ 'x' | center(10 ** 10) }}",
    "a format": "{{ '%10000000000d' % 5 }}",
    "a format by its method": "{{ '{:>10000000000}'.format(1) }}",
    "a wide date": "{{ strftime_now('%10000000000d') }}",
    "a power": "{{ 7 ** (10 ** 9) }}",
    "growing numbers": "{% set n = namespace(s=9) %}{% for a in range(99) %}{% set n.s = n.s * n.s %}{% endfor %}",
    "a macro that calls itself": "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "a loop that calls itself": "{% for a in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
    "a block that is called": "{% macro m() %}{% for a in range(99999) %}{{ caller() }}{% endfor %}{% endmacro %}"
    "{% call m() %}" + "x" * 5000 + "{% endcall %}",
    "filler text": "{{ lipsum(10 ** 9) }}",
    "another file": "{% include 'x' %}",
    "Python's objects": "{{ messages.__class__.__mro__ }}",
    "a forged price": "{% macro pay(x) %}{% endmacro %}{% for a in range(99999) %}{% for b in range(99999) %}"
    "{% endfor %}{% endfor %}",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_template_that_would_hang_or_fill_memory_ends_with_an_error(
    bomb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    monkeypatch.setattr("tunewright.models.sandbox._STEPS", 1 << 20)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(TemplateError):
        text_of(BOMBS[bomb])
    assert time.monotonic() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000, "KiB"


def test_nesting_that_the_parser_can_not_follow_is_an_error() -> None:
    with pytest.raises(TemplateError):
        text_of("{{ " + "(" * 5000 + ")" * 5000 + " }}")


def test_a_long_conversation_is_within_its_budget() -> None:
    talk = [{"role": "user", "content": "word " * 400_000}] * 20
    source = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content | trim }}{% endfor %}"
    assert len(text_of(source, messages=talk)) > 39_000_000


def test_what_transformers_gives_is_given() -> None:
    assert text_of("{{ strftime_now('%Y') }}") == str(datetime.now().year)
    assert text_of("{{ {'b': '<é>', 'a': [1, none]} | tojson }}") == '{"b": "<é>", "a": [1, null]}'
    assert text_of("{% for a in [1, 2, 3] %}{% if a == 2 %}{% break %}{% endif %}{{ a }}{% endfor %}") == "1"
    assert text_of("{% if tools %}a{% elif enable_thinking is defined %}b{% else %}c{% endif %}") == "c"
    assert text_of("{% set n = namespace(a=1) %}{% set n.a = n.a + 1 %}{{ n.a }}{{ dict(a=1).a }}") == "21"
    assert text_of("{% for a, b in {'k': 'v'}.items() %}{{ a ~ b }}{% endfor %}{{ ['x', 'y'] | join('-') }}") == "kvx-y"
    with pytest.raises(TemplateError, match="alternate"):
        text_of("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(TemplateError, match="unsafe"):
        text_of("{% set n = namespace(_a=1) %}")


def test_a_misspelt_name_is_an_error_where_it_would_be_written() -> None:
    with pytest.raises(TemplateError, match="'mesages' is undefined"):
        text_of("{{ mesages }}")


def test_a_message_is_told_what_its_template_says() -> None:
    template = ChatTemplate("{% generation %}{{ raise_exception('no system') }}{% endgeneration %}", "own.jinja")
    with pytest.raises(UserError, match=r"own\.jinja: .*no system"):
        template.spans([Message(role="user", content="x")])

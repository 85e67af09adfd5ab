"""A downloaded template ends soon, stays small, and gets the functions that transformers offers."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import datetime

import pytest
from jinja2 import TemplateError

from tunewright.core.errors import UserError
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


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_template_that_would_hang_or_fill_memory_ends_with_an_error(
    bomb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    monkeypatch.setattr("tunewright.models.sandbox.TEMPLATE_STEPS", 1 << 20)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(TemplateError):
        text_of(BOMBS[bomb])
    assert time.monotonic() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000, "KiB"


S = "{% set s = 'A' * 1000000 %}"
SHARED = {
    "keys to sort by": S + "{{ ([s] * 20000) | sort | length }}",
    "keys that are unique": S + "{{ ([s] * 60000) | unique | list | length }}",
    "the least of many": S + "{{ ([s] * 60000) | min | length }}",
    "a sum of lists": "{{ ([[0] * 4000] * 4000) | sum(start=[]) | length }}",
    "a text looked for in many": "{% set h = 'a' * 3000000 %}"
    "{{ (['a' * 3000 ~ 'b'] * 100000) | select('in', h) | list | length }}",
    "a default for many": S + "{{ ([1] * 20000) | map(attribute='x', default=s) | list | string | length }}",
    "values written again": S + "{% set d = {'a': s} %}{{ ([d.values()] * 20000) | string | length }}",
    "a namespace written again": S + "{% set n = namespace(a=s) %}{{ ([n] * 20000) | string | length }}",
    "a namespace that grows later": "{% set n = namespace(a=1) %}{% set l = [n] * 20000 %}"
    + S
    + "{% set n.a = s %}{{ l | map(attribute='a') | sort | length }}",
    "replacing less than nothing": "{% set b = 'b' * 300000 %}{{ ('a' * 300000).replace('a', b, -1) | length }}",
    "many slices": "{% set s = 'x' * 4000000 %}" + "".join(f"{{% set a{n} = s[1:] %}}" for n in range(3000)),
    "many copies": "{% set s = [1] * 1000000 %}" + "".join(f"{{% set a{n} = s.copy() %}}" for n in range(2000)),
    "many dictionaries": "{% set d = dict(a=[1] * 1000000) %}"
    + "".join(f"{{% set d = dict(a=d, b=d, c={n}) %}}" for n in range(99))
    + "{{ d | string | length }}",
    "a number's bytes": "{{ (1).to_bytes(3000000000, 'big') | length }}",
    "a search from the end": "{{ ('a' * 3000000).rfind('b' ~ 'a' * 1000000) }}",
    "many to strip": "{{ ('a' * 3000000).strip('b' * 2000000 ~ 'a') | length }}",
    "many to trim": "{{ ('a' * 3000000) | trim('b' * 2000000 ~ 'a') | length }}",
    "turns that are left out": "{% for x in range(100000) if false %}{% endfor %}" * 2500,
    "a remainder of huge numbers": "{% set a = ('f' * 4000000) | int(base=16) %}"
    "{% set b = ('f' * 2000000) | int(base=16) %}{{ (a % b) is even }}",
    "a test of huge numbers": "{% set a = ('f' * 4000000) | int(base=16) %}"
    "{% set b = ('f' * 2000000) | int(base=16) %}{{ a is divisibleby(b) }}",
    "wide separators": "{{ ([1] * 1000000) | tojson(separators=('x' * 3000, ':')) | length }}",
    "a wide indent": "{% set n = namespace(l=[1] * 20000) %}{% for i in range(200) %}{% set n.l = [n.l] %}{% endfor %}"
    "{{ n.l | tojson(indent=64) | length }}",
    "a date with flags": "{{ strftime_now('%_^99999999d' * 8) }}",
    "a deep dictionary": "{% set n = namespace(g=1) %}{% for i in range(9999) %}{% set n.g = {1: n.g} %}{% endfor %}",
    "blocks that Python can't nest": "{% for a in [1] %}" * 30 + "{% endfor %}" * 30,
    "an indent that Python can't read": "{% if true %}" * 120 + "{% endif %}" * 120,
    "more branches than Python compiles": "{% if a %}" + "{% elif a %}" * 10000 + "{% endif %}",
    "a number that Python doesn't read": "{{ " + "9" * 5000 + " }}",
    "a number divided by nothing": "{{ 1 / 0 }}{{ 1 % 0 }}",
    "attributes without end": "{{ a" + ".a" * 50000 + " }}",
    "half a letter": r"{{ '\ud800' }}",
}
"""Attacks that passed before a value cost as much as all its content, or that raised no template error."""
GENERATORS = (
    "{% set n = namespace(g=['a']) %}{% for i in range(99999) %}{% set n.g = n.g | map('upper') %}{% endfor %}{{ n.g }}"
)
"""Thrown away, generators in each other crash Python."""
_HOSTILE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30)); resource.setrlimit(resource.RLIMIT_CPU, (200, 200))
from jinja2 import TemplateError
from tests.models.test_sandbox import GENERATORS, SHARED, text_of
from tunewright.models import sandbox
usual, sandbox.TEMPLATE_STEPS = sandbox.TEMPLATE_STEPS, 1 << 20
for name, source in SHARED.items():
    try:
        text_of(source)
    except TemplateError as error:
        if "MemoryError" not in str(error) or "Python" in name:
            continue
    print(name)
sandbox.TEMPLATE_STEPS = usual
assert text_of(GENERATORS) == "['A']"
print("done")
"""


@pytest.mark.slow
def test_a_list_of_one_text_many_times_costs_as_much_as_written_out() -> None:
    """In a process that may take 3 GiB and 200 s; all together they take some seconds."""
    ended = subprocess.run([sys.executable, "-c", _HOSTILE], capture_output=True, text=True, check=False, timeout=500)
    assert ended.stdout.split("\n") == ["done", ""], ended.stderr[-500:]


def test_templates_can_still_use_lists() -> None:
    assert text_of("{{ [3, 1, 2] | sort | map('string') | join(',') }}{{ [1, 2] | reverse | list }}") == "1,2,3[2, 1]"
    assert text_of("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}") == "1"
    assert (
        text_of("{{ [1, 2] | sum }}{{ [{'n': 2}] | sum(attribute='n') }}{{ ' x ' | trim }}{{ 'xyx' | trim('x') }}")
        == "32xy"
    )
    assert text_of("{% for k in {'a': 1}.keys() if k in ['a', 'b'] %}{{ k }}{% endfor %}{{ 'abc'[::-1] }}") == "acba"
    assert text_of("{{ 'a,b'.rsplit(',', 1)[1] }}{{ 7 // 2 - 1 }}{{ 'x' is in(['x']) }}{{ 1 < 2 < 3 }}") == "b2TrueTrue"


def test_nesting_that_the_parser_can_not_follow_is_an_error() -> None:
    with pytest.raises(TemplateError):
        text_of("{{ " + "(" * 5000 + ")" * 5000 + " }}")


def test_a_long_conversation_is_within_its_budget() -> None:
    talk = [{"role": "user", "content": "word " * 400_000}] * 20
    source = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content | trim }}{% endfor %}"
    assert len(text_of(source, messages=talk)) > 39_000_000


def test_templates_get_the_functions_of_transformers() -> None:
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


def test_an_error_carries_the_message_of_the_template() -> None:
    template = ChatTemplate("{% generation %}{{ raise_exception('no system') }}{% endgeneration %}", "own.jinja")
    with pytest.raises(UserError, match=r"own\.jinja: .*no system"):
        template.spans([Message(role="user", content="x")])

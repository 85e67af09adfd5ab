"""The comment shows what its texts say, whatever that is, and calls nobody."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tunewright.evaluation.verdict.targets import Target
from tunewright.gate import Gate
from tunewright.gate.comment import mark, markdown, plain

GATE = Gate(
    "tickets",
    "switch",
    "Switch: it is right on 97.0 %.",
    [
        Target("accuracy on test", True, "97.0 %; asked for 90.0 %"),
        Target("P95", False, "2,000 ms; asked for 1,000 ms"),
        Target("up to date", True, "nothing changed since the verdict"),
    ],
    [("A month now", "$14,000 for 10,000,000 requests to gpt-4o."), ("What could go wrong", "Much.")],
)
ATTACKS = [
    "@all look",
    "@acme/owners",
    "fixes #12 and acme/tickets#13, GH-14, !15",
    "<script>alert(1)</script>",
    "<img src=http://evil.example/x>",
    "![x](http://evil.example/x)",
    "[click](http://evil.example)",
    "see https://evil.example or www.evil.example",
    "a | b || c",
    "`code` ``",
    "```",
    "**bold** _it_ ~~no~~",
    "# head\n\n- list",
    "---",
    "<!-- hidden",
    "[//]: <> (tunewright-gate other)",
    "&lt;b&gt;",
    "back\\slash\\|",
    "$x$ $$",
    "1. one",
    "> quoted",
    "tab\tand\r\nline",
]


def rendered(text: str) -> str:
    """As GitHub and Azure DevOps render Markdown, tables and all."""
    return str(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(text))


def shown(text: str) -> str:
    """The text that a reader sees, and nothing else."""
    html = rendered(text)
    bare = re.sub(r"<[^>]*>", "", html)
    for entity, sign in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        bare = bare.replace(entity, sign)
    return bare.replace("\u200b", "").strip()


def test_it_says_what_was_decided_and_which_targets_are_missed_first() -> None:
    text = markdown(GATE)
    assert text.startswith("[//]: <> (tunewright-gate tickets)\n\n### ❌ tickets: switch · 1 of 3 targets missed\n\n")
    assert markdown(replace(GATE, targets=GATE.targets[:1])).splitlines()[2] == (
        "### ✅ tickets: switch · every target met"
    )
    cells = [line for line in text.splitlines() if line.startswith(("| ✅", "| ❌"))]
    assert cells == [
        "| ❌ | P95 | 2,000 ms; asked for 1,000 ms |",
        "| ✅ | accuracy on test | 97.0 %; asked for 90.0 % |",
        "| ✅ | up to date | nothing changed since the verdict |",
    ]
    seen = shown(text)
    for text in ("$14,000", "Switch: it is right on 97.0 %.", "A month now", "What could go wrong"):
        assert text in seen


def test_the_mark_is_not_shown() -> None:
    assert "tunewright-gate" not in shown(markdown(GATE))
    assert rendered(mark("tickets")).strip() == ""


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_text_in_it_is_shown_as_it_is_and_does_nothing(attack: str) -> None:
    assert shown(plain(attack)) == " ".join(attack.split())
    hostile = replace(
        GATE, sentence=f"Keep it. {attack}", targets=[Target(attack, True, attack)], lines=[("What", attack)]
    )
    text = markdown(hostile)
    for call in (r"@\w", r"#\d", r"!\d", r"GH-\d", r"://\w", r"www\.\w"):
        assert not re.search(call, text), call
    html = rendered(text)
    assert set(re.findall(r"<(\w+)", html)) <= {"h3", "p", "table", "thead", "tbody", "tr", "th", "td"}
    rows = [line for line in html.splitlines() if line.startswith("<tr>")]
    ordinary = markdown(replace(GATE, targets=GATE.targets[:1], lines=GATE.lines[:1]))
    assert len(rows) == rendered(ordinary).count("<tr>")
    assert html.count("<td") == rendered(ordinary).count("<td")


@given(st.text(max_size=60))
def test_any_text_is_shown_as_it_is(text: str) -> None:
    words = " ".join(text.replace("\u200b", "").replace("\0", "").split())
    assert shown(f"So: {plain(words)}.") == f"So: {words}."


def test_a_long_text_and_many_targets_are_cut() -> None:
    many = replace(GATE, sentence="x" * 50_000, targets=[Target(f"t{n}", n > 0, "y" * 50_000) for n in range(100)])
    text = markdown(many)
    assert len(text) < 2_000 * 50
    assert "60 more" in text
    assert "| ❌ | t0 |" in text

"""The Modelfile: what Ollama would send is what the chat template writes."""

from __future__ import annotations

import re

import pytest

from tests.conftest import TOKENIZER, make_spec
from tests.exporters.test_plain_template import FAMILIES, wanted
from tunewright.core.errors import UserError
from tunewright.exporters.gguf.ollama import go_template, modelfile
from tunewright.exporters.other_engines import Asking, asking_of, card
from tunewright.exporters.plain_template import plain
from tunewright.models.chat import ChatTemplate
from tunewright.models.resolve import LocalModel
from tunewright.tasks import Message

SYSTEM = Message(role="system", content="Which team?\n- billing\n- refund")
USER = Message(role="user", content="Where is it?")


def as_ollama_fills_it(template: str, system: str, prompt: str) -> str:
    """Go's template language, as far as ours speaks it, up to where the answer begins."""
    template = template.partition("{{ .Response }}")[0]
    branches = re.fullmatch(r"{{ if \.System }}(.*){{ else }}(.*){{ end }}(.*)", template, re.DOTALL)
    assert branches
    text = (branches[1] if system else branches[2]) + branches[3]
    return text.replace("{{ .System }}", system).replace("{{ .Prompt }}", prompt)


@pytest.mark.parametrize("family", FAMILIES)
def test_ollama_sends_what_the_template_writes(family: str) -> None:
    template = ChatTemplate.named(family)
    result = go_template(plain(template.source), {})
    assert as_ollama_fills_it(result, SYSTEM.content, USER.content) == wanted(template, [SYSTEM, USER], True)
    assert as_ollama_fills_it(result, "", USER.content) == wanted(template, [USER], True)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_was_taught_with_an_empty_system_prompt_gets_one(family: str) -> None:
    template = ChatTemplate.named(family)
    result = go_template(plain(template.source), {}, has_system=False)
    empty = Message(role="system", content="")
    assert as_ollama_fills_it(result, "", USER.content) == wanted(template, [empty, USER], True)
    file = modelfile("a.gguf", asking(leave_out="instruction"), "<|im_end|>", {})
    assert "\nSYSTEM" not in file
    assert "{{ else }}<|im_start|>system\n<|im_end|>\n<|im_start|>user" in file


def asking(**task: object) -> Asking:
    spec = make_spec(task={"kind": "generate", "instruction": "Answer.", **task})
    return asking_of(spec, LocalModel("tiny", TOKENIZER, ChatTemplate.named("chatml")), 20)


def test_a_modelfile_says_the_system_prompt_the_end_and_no_chance() -> None:
    text = modelfile("a-Q8_0.gguf", asking(stop=["\n\nYours"], max_tokens=50), "<|im_end|>", {})
    assert text.startswith('FROM ./a-Q8_0.gguf\nTEMPLATE """{{ if .System }}<|im_start|>system\n')
    assert '\nSYSTEM """Answer."""\n' in text
    for line in (
        "temperature 0",
        "repeat_penalty 1",
        "num_ctx 1074",  # the longest prompt of the training and an answer
        "num_predict 50",
        'stop """<|im_end|>"""',
        'stop """\n\nYours"""',
    ):
        assert f"\nPARAMETER {line}\n" in text


def test_a_model_that_ollama_cannot_confine_says_so() -> None:
    text = modelfile("a.gguf", asking(), "<|im_end|>", {}, confined_only=True)
    assert text.startswith("# This model has learnt to choose between its labels")
    assert "\nFROM ./a.gguf\n" in text


def test_a_prompt_that_no_modelfile_can_hold_is_refused() -> None:
    with pytest.raises(UserError, match="three quotation marks"):
        modelfile("a.gguf", asking(instruction='Say """.'), "<|im_end|>", {})
    for task, end in (({"stop": ['\n"""\n']}, "<|im_end|>"), ({}, '"""')):
        with pytest.raises(UserError, match="three quotation marks"):
            modelfile("a.gguf", asking(**task), end, {})
    assert 'stop """"\n"""' in modelfile("a.gguf", asking(stop=['"\n']), "<|im_end|>", {}), "one is no harm"
    with pytest.raises(UserError, match="for its own"):
        go_template("{{ '{' }}{{ '{' }}{% for m in messages %}{{ m.content }}{% endfor %}", {})


def test_the_card_says_what_to_send_with_a_pruned_prompt() -> None:
    task = {"kind": "generate", "instruction": "Answer.", "input_template": "A ticket: {text}"}
    cards = []
    for way in ("nothing", "instruction"):
        spec = make_spec(task=task | {"leave_out": way})
        base = LocalModel("tiny", TOKENIZER, ChatTemplate.named("chatml"))
        cards.append(card(spec, asking_of(spec, base, 20), "merged"))
    assert "````text\nAnswer.\n````" in cards[0]
    assert "````text\nA ticket: {text}\n````" in cards[0]
    assert "It is empty: send a system message without text" in cards[1]
    assert "A ticket" not in cards[1]

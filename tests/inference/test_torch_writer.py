"""Records written in a batch are those that are written one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tunewright.inference.decoding.grammar import RecordGrammar
from tunewright.inference.decoding.writing import generate
from tunewright.inference.runtimes.torch_model import TorchNextToken, load_torch_model
from tunewright.inference.runtimes.torch_writer import write_all
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks.record_form import RecordForm

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

FORM = RecordForm(
    {
        "type": "object",
        "properties": {
            "vendor": {"type": "string"},
            "date": {"type": "string", "format": "date"},
            "total": {"type": "number"},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
        },
        "required": ["vendor", "date", "total"],
    }
)


def test_a_batch_is_written_as_one_by_one(tiny_model: tuple[str, Path]) -> None:
    _, folder = tiny_model
    model = load_torch_model(folder).eval()
    tokenizer = TextTokenizer(folder)
    end = model.config.eos_token_id
    grammar = RecordGrammar(tokenizer, FORM.schema, end)
    prompts = [tokenizer.encode_verbatim(text) for text in ("one", "a much longer prompt than the others", "two", "3")]
    together = write_all(model, grammar, prompts, max_tokens=40, at_once=3)
    for prompt, writer in zip(prompts, together, strict=True):
        alone = generate(grammar, TorchNextToken(model), prompt, max_tokens=40)
        assert writer.ids == alone.ids
        assert np.allclose(writer.log_probabilities, alone.log_probabilities, atol=1e-4)
        FORM.canonical(tokenizer.decode(writer.ids))


@pytest.mark.parametrize("most", [0, 10])
def test_nothing_is_asked_where_all_is_cut(tiny_model: tuple[str, Path], most: int) -> None:
    _, folder = tiny_model
    model = load_torch_model(folder).eval()
    tokenizer = TextTokenizer(folder)
    grammar = RecordGrammar(tokenizer, FORM.schema, model.config.eos_token_id)
    (writer,) = write_all(model, grammar, [[1, 2, 3]], max_tokens=most, at_once=1)
    assert writer.cut
    FORM.canonical(tokenizer.decode(writer.ids))


@dataclass
class _SoMany:
    """The likeliest tokens, so many of them."""

    most: int
    ids: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    cut: bool = False

    @property
    def done(self) -> bool:
        return len(self.ids) >= self.most

    def choose(self, logits: np.ndarray) -> None:
        self.ids.append(int(np.argmax(logits)))


class _Lengths:
    """Answers of given lengths, one after the other."""

    def __init__(self, *lengths: int):
        self._lengths = iter(lengths)

    def begin(self, most: int, prompt: Sequence[int]) -> _SoMany:  # noqa: ARG002 (the protocol)
        return _SoMany(min(most, next(self._lengths)))


def test_rows_that_are_done_are_left_out_and_the_others_go_on(tiny_model: tuple[str, Path]) -> None:
    _, folder = tiny_model
    model = load_torch_model(folder).eval()
    lengths = [3, 25, 1, 9, 2, 14, 4, 1]
    prompts = [list(range(5, 7 + 2 * number)) for number in range(len(lengths))]
    widths = []
    hook = model.register_forward_pre_hook(
        lambda _, __, given: widths.append(len(given["input_ids"])), with_kwargs=True
    )
    together = write_all(model, _Lengths(*lengths), prompts, max_tokens=40, at_once=8)
    hook.remove()
    assert widths[0] == 8
    assert widths[-1] == 1
    for prompt, writer, length in zip(prompts, together, lengths, strict=True):
        alone = generate(_Lengths(length), TorchNextToken(model), prompt, max_tokens=40)
        assert writer.ids == alone.ids

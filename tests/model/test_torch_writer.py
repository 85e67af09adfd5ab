"""Records written in a batch are those that are written one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tunewright.models.grammar import RecordGrammar
from tunewright.models.tokenizer import TextTokenizer
from tunewright.models.torch_model import TorchNextToken, load_torch_model
from tunewright.models.torch_writer import write_all
from tunewright.models.writing import written
from tunewright.tasks.record_form import RecordForm

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
    grammar = RecordGrammar(folder, FORM.schema, end)
    prompts = [tokenizer.encode_verbatim(text) for text in ("one", "a much longer prompt than the others", "two", "3")]
    together = write_all(model, grammar, prompts, most=40, at_once=3)
    for prompt, writer in zip(prompts, together, strict=True):
        alone = written(grammar, TorchNextToken(model), prompt, most=40)
        assert writer.ids == alone.ids
        assert np.allclose(writer.log_probabilities, alone.log_probabilities, atol=1e-4)
        FORM.canonical(tokenizer.decode(writer.ids))


@pytest.mark.parametrize("most", [0, 10])
def test_nothing_is_asked_where_all_is_cut(tiny_model: tuple[str, Path], most: int) -> None:
    _, folder = tiny_model
    model = load_torch_model(folder).eval()
    grammar = RecordGrammar(folder, FORM.schema, model.config.eos_token_id)
    (writer,) = write_all(model, grammar, [[1, 2, 3]], most=most, at_once=1)
    assert writer.cut
    FORM.canonical(TextTokenizer(folder).decode(writer.ids))

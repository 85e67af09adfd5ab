from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import TOKENIZER, example, make_spec
from tunewright.core.artifacts import write_json
from tunewright.core.errors import UserError
from tunewright.models.chat import ChatTemplate
from tunewright.models.resolve import LocalModel
from tunewright.training.encoders.rows import require_short, window_for
from tunewright.training.loop import prepare
from tunewright.training.loop.prepare import Encoder, _check_length

LONG = {"rope_type": "longrope", "original_max_position_embeddings": 512}
GROWING = {"rope_type": "yarn", "original_max_position_embeddings": 512, "llama_4_scaling_beta": 0.1}


@pytest.mark.parametrize(
    ("config", "refused"),
    [
        ({}, False),
        ({"sliding_window": 512}, False),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, False),
        ({"rope_parameters": LONG}, True),
        ({"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": 512}, True),
        ({"rope_parameters": GROWING}, True),
        ({"rope_parameters": GROWING | {"original_max_position_embeddings": 1024}}, False),
    ],
)
def test_examples_that_runtimes_would_read_differently_are_refused(
    config: dict[str, object], refused: bool, tmp_path: Path
) -> None:
    if not refused:
        _check_length(config, tmp_path, 1024)
        return
    with pytest.raises(UserError, match="max_length=512"):
        _check_length(config, tmp_path, 1024)


@pytest.mark.parametrize("answer", [20, 400])
def test_a_prompt_that_leaves_no_room_for_the_longest_answer_is_refused(
    answer: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server would refuse it, or write beyond the positions that the model has."""
    shutil.copy(TOKENIZER / "tokenizer.json", tmp_path)
    write_json(tmp_path / "config.json", {"model_type": "llama", "max_position_embeddings": 512})
    base = LocalModel("tiny", tmp_path, ChatTemplate.named("chatml"))
    monkeypatch.setattr(prepare, "resolve", lambda *_: base)
    task = {"kind": "generate", "instruction": "Answer.", "max_tokens": answer}
    encoder = Encoder(make_spec(tmp_path, task=task))
    examples = [example(f"Where is parcel {number}? {'again ' * 20}", "On its way.") for number in range(2)]
    if answer == 20:
        assert len(encoder.rows(examples)) == 2
        return
    with pytest.raises(UserError, match=r"and an answer up to 400; this model reads 512 together.*task\.max_tokens"):
        encoder.rows(examples)


@pytest.mark.parametrize(
    ("max_length", "fix"), [(100, "Set train.max_length=300 where"), (1024, "Shorten these texts")]
)
def test_a_text_that_an_encoder_does_not_read_is_refused_with_the_setting_that_limits_it(
    max_length: int, fix: str
) -> None:
    spec = make_spec(train={"max_length": max_length})
    with pytest.raises(UserError) as error:
        require_short([example("long")], [300], *window_for(spec, 256))
    assert str(error.value.fix).startswith(fix)

"""Which jobs a model can do, and the note about settings that it does not use."""

from __future__ import annotations

import pytest

from tests.conftest import make_spec
from tunewright.core.errors import UserError
from tunewright.training.capabilities import require_able, unused


@pytest.mark.parametrize(
    ("model", "train", "note"),
    [
        ("all-minilm", {"lr": 1e-3, "epochs": 3, "num_seeds": 2}, "all-minilm does not use train.epochs, train.lr; an"),
        ("all-minilm", {"encoder": {"epochs": 3}, "max_length": 99}, ""),
        ("linear", {"num_seeds": 2}, "linear does not use train.num_seeds."),
        ("smollm2-135m", {"encoder": {"epochs": 3}, "lr": 1e-3}, "smollm2-135m does not use train.encoder."),
        ("smollm2-135m", {"lr": 1e-3}, ""),
    ],
)
def test_keys_that_a_model_does_not_use_are_named(model: str, train: dict[str, object], note: str) -> None:
    assert unused(make_spec(model=model, train=train)).startswith(note)
    assert bool(unused(make_spec(model=model, train=train))) == bool(note)


def test_with_several_candidates_each_uses_its_own_keys() -> None:
    spec = make_spec(train={"lr": 1e-3, "encoder": {"epochs": 3}}).model_copy(update={"candidates": ("linear", "x")})
    assert [unused(each) for each in (spec, *spec.each_candidate)] == ["", "", ""]


@pytest.mark.parametrize(("model", "reason"), [("linear", "it is tools"), ("all-minilm", "this task is tools")])
def test_only_models_that_write_call_tools(model: str, reason: str) -> None:
    task = {"kind": "tools", "instruction": "Help.", "tools": [{"type": "function", "function": {"name": "now"}}]}
    with pytest.raises(UserError, match=reason):
        require_able(make_spec(model=model, task=task))
    require_able(make_spec(model="smollm2-135m", task=task))

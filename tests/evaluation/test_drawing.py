from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import example, make_spec, unalike
from tunewright.core.artifacts import write_jsonl
from tunewright.evaluation.steps import drawing_of
from tunewright.inference.runtimes.beside import BESIDE
from tunewright.training.diagnosis.history import CURVE, ENCODER


@pytest.fixture
def train(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / CURVE, [{"seed_number": 0, "step": 1, "primary_metric": 0.5, "kept": True}])
    return tmp_path


def test_copies_and_groups_are_one_drawing(train: Path) -> None:
    text = unalike("a")
    validation = [
        example(text),
        example(text.upper(), group=None),
        example(unalike("b"), group="shop"),
        example(unalike("c"), group="shop"),
        example(unalike("d")),
    ]
    result = drawing_of(make_spec(), validation, train)
    copy, other, first, second, alone = (result.unit[each.meta.id] for each in validation)
    assert copy == other
    assert first == second
    assert len({copy, first, alone}) == 3
    assert result.doubt == ""


def test_future_requests_differ_from_an_older_validation_part(train: Path) -> None:
    spec = make_spec(data={"train": "train.jsonl", "time": "day"})
    assert "newer than the validation part" in drawing_of(spec, [], train).doubt


def test_an_adapter_that_the_same_part_chose_has_no_guarantee(train: Path) -> None:
    write_jsonl(train / CURVE, [{"seed_number": 0, "step": 1, "primary_metric": 0.5, "kept": False}])
    assert "the model to keep was chosen on the same validation part" in drawing_of(make_spec(), [], train).doubt


def test_an_encoder_beside_which_the_same_part_put_a_linear_model_has_no_guarantee(train: Path) -> None:
    (train / ENCODER / BESIDE).mkdir(parents=True)
    assert "was chosen on the same validation part" in drawing_of(make_spec(), [], train).doubt


def test_an_adapter_that_began_with_another_one_has_no_guarantee(train: Path) -> None:
    spec = make_spec(train={"init_adapter": "adapter"})
    assert "may have learnt the validation part" in drawing_of(spec, [], train).doubt

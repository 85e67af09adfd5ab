from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.conftest import example, make_spec, unalike
from tests.evaluation.made_report import PARITY, made_report
from tests.evaluation.scenario import candidate, evidence_of
from tunewright.core.artifacts import atomic_folder, write_json, write_jsonl
from tunewright.data.dataset import Dataset, save_dataset
from tunewright.evaluation.evidence import VALIDATION
from tunewright.evaluation.steps import ANSWERS, RETRAINED, drawing_of, run_verdict
from tunewright.inference.runtimes.beside import BESIDE
from tunewright.tasks import Example, Meta
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


@pytest.mark.parametrize("own", ["", "the cascade of two models"])
def test_a_cascade_of_two_models_between_which_the_same_part_chose_has_no_guarantee(tmp_path: Path, own: str) -> None:
    made_report(tmp_path)
    evidence = evidence_of(candidate(0.97), candidate(0.6))
    asked: dict[str, list[Example]] = {VALIDATION: [], "test": []}
    for record in evidence["served"]:
        asked[record.split].append(Example.of(unalike(record.id), record.gold, Meta(id=record.id)))
    save_dataset(tmp_path / "split", Dataset([], asked[VALIDATION], {"test": asked["test"]}))
    for key, records in evidence.items():
        folder = tmp_path / ("parity" if key == "served" else "evaluate") / ANSWERS
        folder.mkdir(exist_ok=True)
        write_jsonl(folder / f"{key}.jsonl", (asdict(record) for record in records))
    here = {"cores": 2, "processor": "a processor", "start_seconds": 1.0}
    write_json(tmp_path / "parity" / "parity.json", PARITY | {"measured_on": here} | ({"own": own} if own else {}))
    inputs = {name: tmp_path / name for name in RETRAINED}
    with atomic_folder(
        tmp_path / "judged", kind="verdict", fingerprint="f", spec_sha256="s", inputs={}, seed=0, code_version="1"
    ) as output:
        run_verdict(make_spec(tmp_path), inputs, output)
    threshold = json.loads((tmp_path / "judged" / "verdict.json").read_text("utf-8"))["verdict"]["threshold"]
    doubt = "the threshold between its two models was chosen on the same validation part" if own else ""
    assert (threshold["guaranteed"], threshold["doubt"]) == (not own, doubt)

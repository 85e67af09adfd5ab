from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import example, make_spec, unalike
from tests.evaluation.made_report import PARITY, made_report
from tests.evaluation.scenario import candidate, evidence_of
from tunewright.config import Spec
from tunewright.core.artifacts import atomic_folder, write_json, write_jsonl
from tunewright.data.dataset import Dataset, save_dataset
from tunewright.evaluation.evidence import VALIDATION
from tunewright.evaluation.steps import ANSWERS, RETRAINED, drawing_of, run_verdict
from tunewright.evaluation.steps import tests_of as asked_of
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


def judged(folder: Path, spec: Spec, own: str = "") -> dict[str, Any]:
    """The content of `verdict.json` for a good model, and for a cascade of two where `own` names it."""
    made_report(folder)
    evidence = evidence_of(candidate(0.97), candidate(0.6))
    asked: dict[str, list[Example]] = {VALIDATION: [], "test": []}
    for record in evidence["served"]:
        asked[record.split].append(Example.of(unalike(record.id), record.gold, Meta(id=record.id)))
    save_dataset(folder / "split", Dataset([], asked[VALIDATION], {"test": asked["test"]}))
    for key, records in evidence.items():
        answers = folder / ("parity" if key == "served" else "evaluate") / ANSWERS
        answers.mkdir(exist_ok=True)
        write_jsonl(answers / f"{key}.jsonl", (asdict(record) for record in records))
    here = {"cores": 2, "processor": "a processor", "start_seconds": 1.0}
    write_json(folder / "parity" / "parity.json", PARITY | {"measured_on": here} | ({"own": own} if own else {}))
    inputs = {name: folder / name for name in RETRAINED}
    with atomic_folder(
        folder / "judged", kind="verdict", fingerprint="f", spec_sha256="s", inputs={}, seed=0, code_version="1"
    ) as output:
        run_verdict(spec, inputs, output)
    return dict(json.loads((folder / "judged" / "verdict.json").read_text("utf-8"))["verdict"])


@pytest.mark.parametrize("own", ["", "the cascade of two models"])
def test_a_cascade_of_two_models_between_which_the_same_part_chose_has_no_guarantee(tmp_path: Path, own: str) -> None:
    threshold = judged(tmp_path, make_spec(tmp_path), own)["threshold"]
    doubt = "the threshold between its two models was chosen on the same validation part" if own else ""
    assert (threshold["guaranteed"], threshold["doubt"]) == (not own, doubt)


@pytest.mark.parametrize(("most", "reason"), [(None, ""), (50, "Only 50 of the 100 examples of test were asked")])
def test_a_verdict_on_some_of_the_examples_says_so(tmp_path: Path, most: int | None, reason: str) -> None:
    reasons = " ".join(judged(tmp_path, make_spec(tmp_path, evaluate={"max_examples": most}))["reasons"])
    assert reason in reasons
    assert ("evaluate.max_examples" in reasons) == bool(most)


def test_a_part_of_a_sorted_test_has_every_label() -> None:
    rows = [example(f"{label} {n}", label) for label in "abcd" for n in range(50)]
    asked = asked_of(make_spec(evaluate={"max_examples": 20}), Dataset([], [], {"test": rows}))["test"]
    assert Counter(row.answer for row in asked) == dict.fromkeys("abcd", 5)

"""Data whose rows have several labels: the findings, the cut, and the guessed spec."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import LABELS, make_spec, unalike
from tunewright.config import Spec, load_spec
from tunewright.core.errors import UserError
from tunewright.data.checks import Finding
from tunewright.data.curve.learning_curve import require_one_label
from tunewright.data.dataset import load_examples
from tunewright.data.examine import EXAMPLES, examine
from tunewright.data.fix import fix
from tunewright.data.guess.answers import guess_labels
from tunewright.data.guess.spec import guess_spec
from tunewright.data.job import job_of
from tunewright.data.label_sets import stratum_of
from tunewright.data.splits.partition import partition
from tunewright.tasks import Example, Meta, MultiLabelTask

TASK = MultiLabelTask("Which hold?", dict.fromkeys(LABELS, ""))


def project(folder: Path, answers: Sequence[object], separator: str | None = None, **task: object) -> Spec:
    rows = [{"text": f"{unalike(str(number))} {number}", "label": each} for number, each in enumerate(answers)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    section = {"kind": "multi_label", "instruction": "Which hold?", "labels": LABELS, **task}
    return make_spec(folder, task=section, data={"train": "train.jsonl", "separator": separator})


def found_in(folder: Path, spec: Spec) -> dict[str, Finding]:
    (folder / "out").mkdir()
    return {finding.code: finding for finding in examine(job_of(spec), folder / "out").findings}


def answers_in(folder: Path) -> list[str]:
    return [each.answer for each in load_examples(folder / "out" / EXAMPLES / "train.jsonl")]


MANY = [["billing"], ["defect", "billing"], ["refund"], []] * 30


def test_lists_are_written_in_the_specs_order_without_findings(tmp_path: Path) -> None:
    found = found_in(tmp_path, project(tmp_path, MANY))
    assert set(found) == {"D023", "D025", "D028"} or set(found) == {"D025", "D028"}
    assert found["D028"].severity == "note"
    assert found["D028"].what == "train: 30 of 120 rows have no label"
    assert found["D025"].what == "train: the labels were not checked for mistakes; only tasks with one label a row are"
    assert set(answers_in(tmp_path)) == {'["billing"]', '["billing","defect"]', '["refund"]', "[]"}


def test_texts_with_a_separator_and_lists_as_text_are_read(tmp_path: Path) -> None:
    spec = project(tmp_path, ["billing; refund", '["defect"]', "", "refund"] * 30, separator=";")
    found_in(tmp_path, spec)
    assert set(answers_in(tmp_path)) == {'["billing","refund"]', '["defect"]', "[]", '["refund"]'}


def test_columns_of_zeros_and_ones_are_read(tmp_path: Path) -> None:
    lines = ["text,billing,defect,refund", *(f"{unalike(str(n))},{n % 2},1,0" for n in range(40))]
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n", "utf-8")
    task = {"kind": "multi_label", "instruction": "Which hold?", "labels": LABELS}
    data = {"train": "train.csv", "label": {label: label for label in LABELS}}
    found_in(tmp_path, make_spec(tmp_path, task=task, data=data))
    assert answers_in(tmp_path)[:2] == ['["defect"]', '["billing","defect"]']


def test_chat_messages_are_read(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": unalike(str(n))}, {"role": "assistant", "content": '["refund"]'}]}
        for n in range(20)
    ]
    spec = project(tmp_path, [])
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    found_in(tmp_path, spec)
    assert set(answers_in(tmp_path)) == {'["refund"]'}


def test_unknown_repeated_and_unreadable_labels_are_found(tmp_path: Path) -> None:
    answers = [*MANY, ["cancel", "refund"], ["refund", "refund"], "refund", ["cancel"]]
    found = found_in(tmp_path, project(tmp_path, answers))
    assert found["D002"].severity == "error"
    assert found["D002"].what == "train: 2 rows have a label the spec lacks: 'cancel' (2)"
    assert found["D027"].what == "train: 1 rows name a label twice: 'refund' (1)"
    assert found["D026"].count == 1
    assert "it is not a list of labels; for texts see data.separator (1)" in found["D026"].what


def test_rare_and_absent_labels_are_found_by_label_and_not_by_list(tmp_path: Path) -> None:
    spec = project(
        tmp_path, [["billing"], ["billing", "defect"]] * 40 + [["refund", "billing"]], labels=[*LABELS, "new"]
    )
    found = found_in(tmp_path, spec)
    assert found["D004"].what == "train: no example of new"
    assert found["D005"].what == "train: fewer than 20 examples of refund"
    assert "D018" not in found, "rows with this label can have others too"
    assert "D014" not in found


def test_one_label_only_is_an_error(tmp_path: Path) -> None:
    found = found_in(tmp_path, project(tmp_path, [["billing"], []] * 20))
    assert found["D003"].what == "train: no row has another label than 'billing'"


def test_spellings_are_found_and_fixed_within_lists(tmp_path: Path) -> None:
    spec = project(tmp_path, [*MANY, ["Billing", "refund"]])
    found = found_in(tmp_path, spec)
    assert "'billing', 'Billing'" in found["D013"].what
    (tmp_path / "fixed").mkdir()
    fix(job_of(spec), ["D013"], tmp_path / "fixed")
    texts = [file.read_text("utf-8") for file in (tmp_path / "fixed").glob("*train*.jsonl")]
    assert any('[\\"billing\\", \\"refund\\"]' in text for text in texts)


def examples(answers: Sequence[Sequence[str]]) -> list[Example]:
    return [
        Example.of(f"{unalike(str(number))} {number}", TASK.written_out(each), Meta(id=str(number)))
        for number, each in enumerate(answers)
    ]


def test_a_row_is_stratified_by_its_rarest_label() -> None:
    rows = examples([["billing"]] * 5 + [["billing", "defect"]] * 3 + [["billing", "refund", "defect"], []])
    stratum = stratum_of(TASK, rows)
    assert [stratum(rows[place]) for place in (0, 5, 8, 9)] == ["billing", "defect", "refund", ""]


def test_each_label_comes_to_every_part(tmp_path: Path) -> None:
    rows = examples([["billing"]] * 200 + [["billing", "defect"]] * 60 + [["billing", "refund"]] * 20)
    cut = partition(project(tmp_path, []), {"train": rows}, None).dataset
    for part in (cut.train, cut.validation, cut.test_examples):
        assert sum("refund" in each.answer for each in part) >= 1
    held = sum("refund" in each.answer for each in cut.test_examples)
    assert held == 4


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([["a"], ["b", "a"], [], ["b"]] * 3, (["a", "b"], None)),
        (['["a"]', '["b","a"]', "[]", '["b"]'] * 3, (["a", "b"], None)),
        (["a;b", "b", "a", ""] * 3, (["a", "b"], ";")),
        (["a, b", "b", "a"] * 3, (["a", "b"], ",")),
        (["a|b", "b|c", "c|a", "b"] * 3, (["a", "b", "c"], "|")),
        (["Sales, EU", "Sales, US"] * 5, None),
        (["yes", "no"] * 5, None),
        (["a", "b", ""] * 5, None),
        ([*["a, b", "a", "c"] * 20, ""], None),
        ([*["a;b", "b", "a"] * 20, None], (["a", "b"], ";")),
        ([*[["a"], ["b", "a"]] * 20, None], (["a", "b"], None)),
        (["Hello, you", "Well, no", "So, what now"], None),
        ([{"a": 1}], None),
        ([["a"], ["b", 1]] * 5, None),
    ],
)
def test_several_labels_a_row_are_recognised(answers: list[object], found: object) -> None:
    assert guess_labels(answers, 300) == found


@pytest.mark.parametrize("separator", [None, ";"])
def test_init_writes_a_spec_that_loads(tmp_path: Path, separator: str | None) -> None:
    answers: list[object] = [each if separator is None else separator.join(each) for each in MANY]
    project(tmp_path, answers)
    guess = guess_spec(tmp_path / "train.jsonl", tmp_path)
    assert (guess.kind, guess.what, guess.label_column) == ("multi_label", "any of 3 labels", "label")
    (tmp_path / "tunewright.yaml").write_text(guess.text, "utf-8")
    spec = load_spec(tmp_path)
    assert spec.task.kind == "multi_label"
    assert list(spec.task.labels) == LABELS
    assert spec.data.separator == separator
    assert spec.candidates == ("linear", "all-minilm")


def test_a_forecast_of_one_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="several labels a row"):
        require_one_label(project(tmp_path, []))
    require_one_label(make_spec())

from __future__ import annotations

from tests.conftest import LABELS, example
from tunewright.data.findings import Finding, check_splits
from tunewright.tasks import Example

ENOUGH = [example(f"{label} {n}", label) for label in LABELS for n in range(20)]


def codes(train: list[Example], **tests: list[Example]) -> list[str]:
    return [finding.code for finding in check_splits({"train": train, **tests}, LABELS)]


def only(train: list[Example], **tests: list[Example]) -> Finding:
    (finding,) = check_splits({"train": train, **tests}, LABELS)
    return finding


def test_good_data_has_no_findings() -> None:
    assert codes(ENOUGH, test=[example("new", "refund")]) == []


def test_a_row_without_text_is_an_error() -> None:
    finding = only([*ENOUGH, example(" \t", "refund", source="train.jsonl:7")])
    assert (finding.code, finding.severity, finding.examples) == ("D001", "error", ("train.jsonl:7",))


def test_a_label_the_spec_lacks_is_an_error_with_its_count() -> None:
    finding = only(ENOUGH, test=[example("x", "Refund"), example("y", "Refund")])
    assert (finding.code, finding.severity) == ("D002", "error")
    assert "test: 2 rows have a label the spec lacks: 'Refund' (2)" in finding.what


def test_any_answer_is_allowed_where_the_spec_fixes_none() -> None:
    assert check_splits({"train": [example("x", "whatever")]}, []) == []


def test_training_rows_of_one_label_only_are_an_error() -> None:
    finding = only(ENOUGH[:20])
    assert (finding.code, finding.what) == ("D003", "train: all rows have the label 'billing'")


def test_training_rows_without_any_label_of_the_spec_are_an_error() -> None:
    assert "D003" in codes([example("x", "other")])


def test_a_label_without_examples_is_a_warning() -> None:
    finding = only(ENOUGH[:40])
    assert (finding.code, finding.severity, finding.what) == ("D004", "warning", "train: no example of refund")


def test_a_label_with_nineteen_examples_is_thin_and_with_twenty_is_not() -> None:
    finding = only(ENOUGH[:-1])
    assert (finding.code, finding.what) == ("D005", "train: fewer than 20 examples of refund")


def test_a_text_with_two_labels_is_a_warning() -> None:
    finding = only([*ENOUGH, example("refund 0", "billing", source="train.jsonl:61")])
    assert (finding.code, finding.examples) == ("D006", ("train.jsonl:61",))


def test_a_repeat_is_found_across_case_and_spaces() -> None:
    assert codes([*ENOUGH, example("  REFUND   0 ", "refund")]) == ["D007"]


def test_each_repeat_after_the_first_counts() -> None:
    assert "train: 3 rows repeat another row" in only([*ENOUGH, *[example("refund 0", "refund")] * 3]).what


def test_a_test_text_that_is_in_train_is_a_leak() -> None:
    finding = only(ENOUGH, seen=[example("Refund 0 ", "refund"), example("new", "refund")])
    assert (finding.code, finding.what) == ("D008", "seen: 1 test texts are also in train")


def test_errors_come_before_warnings() -> None:
    assert codes([*ENOUGH, example("billing 0"), example("", "refund")]) == ["D001", "D007"]


def test_only_the_first_places_are_listed() -> None:
    finding = only([*ENOUGH, *[example(f"x{n}", "other", source=f"f:{n}") for n in range(9)]])
    assert finding.examples == ("f:0", "f:1", "f:2", "f:3", "f:4")

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import BAD_INPUTS, LABELS, PUBLIC, make_spec, unalike
from tests.data.rows import assert_apart, ids, lists_of_rows, row, spec_of, split_rows
from tunewright.core.errors import UserError
from tunewright.data.dataset import load_dataset
from tunewright.data.dedup.near import near_copies
from tunewright.data.readers import read
from tunewright.data.splits.partition import partition
from tunewright.data.splits.withholding import load_withheld
from tunewright.tasks import Example


def examples_in(file: Path) -> list[Example]:
    rows = (item for item in read(file) if isinstance(item, Example))
    return [e.model_copy(update={"meta": e.meta.model_copy(update={"extra": {}})}) for e in rows]


def ages(examples: list[Example]) -> list[int]:
    return sorted(int(str(e.meta.time)) - 1_700_000_000 for e in examples)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(rows=lists_of_rows(texts=60), time=st.booleans(), seed=st.integers(0, 9))
def test_parts_are_apart_and_nothing_is_lost(rows: list[Example], time: bool, seed: int) -> None:
    spec = spec_of(time="at" if time else None)
    try:
        parts = partition(spec, {"train": rows}, None)
    except UserError as error:
        assert "too few" in str(error)
        return
    train, validation, test = parts.dataset.train, parts.dataset.validation, parts.dataset.test["test"]
    withheld = [w.example for w in parts.withheld]
    assert ids([*train, *validation, *test, *withheld]) == ids(rows)
    assert_apart([*train, *validation], test)
    assert_apart(train, validation)
    again = partition(spec, {"train": random.Random(seed).sample(rows, len(rows))}, None)
    assert [ids(part) for part in (again.dataset.validation, again.dataset.test["test"])] == [
        ids(validation),
        ids(test),
    ]


def test_with_times_the_test_is_the_newest_and_the_validation_the_newest_of_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [row(n, unalike(str(n)), LABELS[n // 40], time=n) for n in range(120)]
    parts = partition(spec_of(time="at"), {"train": rows}, None)
    assert ages(parts.dataset.test["test"]) == list(range(96, 120))
    assert ages(parts.dataset.validation) == list(range(86, 96))
    assert ages(parts.dataset.train) == list(range(86))
    assert parts.result["absent_from_test"] == ["billing", "defect"]
    assert "The newest rows lack 2 labels, which the test can't measure: billing, defect." in capsys.readouterr().err


def test_with_named_tests_only_the_validation_is_cut_by_time() -> None:
    rows = [row(n, unalike(str(n)), time=n) for n in range(100)]
    named = [row(n, unalike(f"named {n}"), part="later") for n in range(5)]
    dataset = partition(spec_of(time="at", test={"later": "t.jsonl"}), {"train": rows, "later": named}, None).dataset
    assert dataset.test == {"later": named}
    assert ages(dataset.validation) == list(range(90, 100))


def test_a_time_that_cannot_be_read_stops_the_split(tmp_path: Path) -> None:
    rows = [row(n, unalike(str(n))) for n in range(20)]
    rows[7].meta.time = "soon"
    with pytest.raises(UserError, match=r"train\.jsonl:7: 1 of 20 times can't be read"):
        split_rows(tmp_path, spec_of(time="at"), {"train": rows})
    assert split_rows(tmp_path / "untimed", spec_of(), {"train": rows}).result["test"] == 4


def test_blocks_that_join_much_of_the_data_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(n, unalike(str(n)), group="template" if n < 60 else None) for n in range(100)]
    parts = partition(spec_of(), {"train": rows}, None)
    assert parts.result["blocks"] == {"count": 41, "largest": 60}
    assert "join 60 of 100 rows (60 %)" in capsys.readouterr().err
    assert set(ids(rows[:60])) <= set(ids([*parts.dataset.train, *parts.dataset.validation]))


def test_blocks_are_not_reported_where_nothing_is_held_out(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row(n, unalike(str(n)), group="template" if n < 60 else None) for n in range(100)]
    named = [row(n, unalike(f"named {n}"), part="later") for n in range(5)]
    spec = spec_of(test={"later": "t.jsonl"}, validation_fraction=0)
    assert partition(spec, {"train": rows, "later": named}, None).result["validation"] == 0
    assert capsys.readouterr().err == ""


def test_rows_newer_than_the_test_in_too_large_a_block_are_withheld(tmp_path: Path) -> None:
    large = [row(n, unalike(str(n)), group="template", time=n) for n in range(100)]
    rest = [row(100 + n, unalike(str(100 + n)), time=n) for n in range(100)]
    result = split_rows(tmp_path, spec_of(time="at"), {"train": [*large, *rest]}).result
    assert result["withheld"] == {"newer-than-test": 19}
    withheld = load_withheld(tmp_path / "split")
    assert ages([w.example for w in withheld]) == list(range(81, 100))
    dataset = load_dataset(tmp_path / "split")
    assert max(ages([*dataset.train, *dataset.validation])) <= min(ages(dataset.test["test"])) + 1


def test_the_refusal_of_too_few_rows_names_the_largest_block() -> None:
    rows = [row(n, unalike(str(n)), group="one") for n in range(50)]
    with pytest.raises(UserError, match=r"50 rows are too few to hold out a test part\. The largest block .* 50 rows"):
        partition(spec_of(), {"train": rows}, None)
    with pytest.raises(UserError, match=r"0 rows are too few to hold out a test part\. Add rows"):
        partition(spec_of(), {"train": []}, None)


def test_without_a_cut_rows_keep_their_order() -> None:
    rows = [row(n, unalike(str(n % 5)), group=str(n % 3)) for n in range(30)]
    named = [row(0, unalike("named"), part="t")]
    spec = spec_of(test={"t": "t.jsonl"}, validation_fraction=0)
    assert partition(spec, {"train": rows, "t": named}, None).dataset.train == rows


def test_one_class_and_classes_of_one_row_are_split() -> None:
    rows = examples_in(BAD_INPUTS / "31_one_class_and_singletons.jsonl")
    dataset = partition(spec_of(), {"train": rows}, None).dataset
    alone = {answer for answer in {e.answer for e in rows} if sum(e.answer == answer for e in rows) == 1}
    assert len(alone) == 4
    assert alone <= {e.answer for e in dataset.train}


@pytest.mark.slow
def test_no_question_of_banking77_has_a_near_copy_on_another_side() -> None:
    rows = examples_in(PUBLIC / "banking77.jsonl")
    dataset = partition(spec_of(), {"train": rows}, None).dataset
    train, validation, test = (
        [e.request for e in part] for part in (dataset.train, dataset.validation, dataset.test["test"])
    )
    assert len(test) == pytest.approx(0.2 * len(rows), rel=0.05)
    for left, right in ((train, test), (validation, test), (train, validation)):
        assert [pair for pair in near_copies(left, right, 0.6) if pair.jaccard >= 0.8] == []


def test_records_which_are_all_different_are_held_out_as_well() -> None:
    task = {
        "kind": "extract",
        "instruction": "Read.",
        "schema": {"type": "object", "properties": {"n": {"type": "integer"}}},
    }
    rows = [row(n, unalike(str(n)), f'{{"n":{n}}}') for n in range(100)]
    parts = partition(make_spec(task=task, data={"train": "train.jsonl"}), {"train": rows}, None)
    assert (parts.result["test"], parts.result["validation"]) == (20, 8)

"""The frozen test: its files, the refusals, and that none of it reaches the training rows."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st

from tests.conftest import LABELS, unalike
from tests.data.rows import assert_apart, ids, lists_of_rows, row, spec_of, split_rows
from tunewright.config import Spec
from tunewright.core.artifacts import sha256_file
from tunewright.core.errors import UserError
from tunewright.data.dataset import Dataset, load_dataset
from tunewright.data.splits.freezing import Freezing, before_freezing, freeze
from tunewright.data.splits.frozen import digest, read_frozen, write_version
from tunewright.data.splits.withholding import NEWER, Withheld, load_withheld
from tunewright.tasks import Example

ROWS = [row(n, unalike(str(n)), LABELS[n % 3], f"G{n // 4}") for n in range(120)]


class Project:
    """A spec, its rows and its frozen test, in a folder."""

    def __init__(self, folder: Path, **data: Any):
        self.folder, self.data = folder, data
        self.splits = 0

    @property
    def spec(self) -> Spec:
        return spec_of(self.folder, **self.data)

    def split(self, rows: list[Example], **tests: list[Example]) -> Path:
        self.splits += 1
        work = self.folder / f"work-{self.splits}"
        self.result = split_rows(work, before_freezing(self.spec), {"train": rows, **tests}).result
        return work / "split"

    def dataset(self, rows: list[Example], **tests: list[Example]) -> tuple[Dataset, list[Withheld]]:
        folder = self.split(rows, **tests)
        return load_dataset(folder), load_withheld(folder)

    def freeze(self, rows: list[Example], **tests: list[Example]) -> Freezing:
        return freeze(self.spec, self.split(rows, **tests))

    def bytes_of(self) -> dict[str, bytes]:
        root = self.folder / "frozen_test"
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path, group="customer")


def later(rows: list[Example]) -> list[Example]:
    """Other rows than ROWS; at least a share of them is new to the frozen test."""
    return [row(1000 + n, unalike(f"later {n}"), LABELS[n % 3], f"H{n // 4}") for n in range(60)] + rows


def test_freezing_changes_no_part_of_the_dataset(project: Project) -> None:
    folder = project.split(ROWS)
    before = {path.name: path.read_bytes() for path in folder.rglob("*.jsonl")}
    freezing = freeze(project.spec, folder)
    after = {path.name: path.read_bytes() for path in project.split(ROWS).rglob("*.jsonl")}
    assert before == after
    assert project.result["frozen"] == {"version": 1, "sha256": freezing.sha256}
    assert (freezing.version, freezing.added, freezing.parts, freezing.withheld) == (1, {"test": 24}, {"test": 24}, 0)


def test_the_same_rows_in_another_place_are_still_the_frozen_ones(project: Project) -> None:
    project.freeze(ROWS)
    test = project.dataset(ROWS)[0].test["test"]
    moved = [row(n, e.request, e.answer, e.meta.group) for n, e in enumerate(ROWS[::-1], 5000)]
    dataset, withheld = project.dataset(moved)
    assert dataset.test["test"] == test
    assert withheld == []
    assert len(dataset.train) + len(dataset.validation) == len(ROWS) - len(test)


def test_rows_related_to_a_frozen_example_are_withheld_with_the_reason(project: Project) -> None:
    project.freeze(ROWS)
    one = project.dataset(ROWS)[0].test["test"][0]
    new = [
        row(900, one.request.upper(), "refund", "new"),
        row(901, f"{one.request}x", group="new too"),
        row(902, unalike("something else"), group=one.meta.group),
        row(903, unalike("of the near copy's group"), group="new too"),
    ]
    dataset, withheld = project.dataset([*ROWS, *new])
    assert [(w.example.meta.id, w.reason, w.part) for w in withheld] == [
        ("train-900", "repeats-frozen", "train"),
        ("train-901", "near-copy-of-frozen", "train"),
        ("train-902", "group-of-frozen", "train"),
    ]
    assert {w.like for w in withheld} <= {e.meta.id for e in dataset.test["test"] if e.meta.group == one.meta.group}
    assert "train-903" in ids([*dataset.train, *dataset.validation])
    assert project.result["withheld"] == {"group-of-frozen": 1, "near-copy-of-frozen": 1, "repeats-frozen": 1}


def test_one_copy_more_than_was_frozen_is_withheld(project: Project) -> None:
    project.freeze(ROWS)
    one = project.dataset(ROWS)[0].test["test"][0]
    copy = one.model_copy(update={"meta": one.meta.model_copy(update={"id": "copy"})})
    _, withheld = project.dataset([*ROWS, copy])
    assert [(w.example.request, w.reason) for w in withheld] == [(one.request, "repeats-frozen")]


def test_a_frozen_example_stays_in_the_test_when_the_data_loses_it(project: Project) -> None:
    project.freeze(ROWS)
    test = project.dataset(ROWS)[0].test["test"]
    without = [e for e in ROWS if e.meta.id not in ids(test)]
    assert project.dataset(without)[0].test["test"] == test


def test_freezing_again_adds_a_share_of_the_new_blocks_only(project: Project) -> None:
    first = project.freeze(ROWS)
    trained = {digest(e) for e in ROWS} - {digest(e) for e in read_frozen(first.folder).examples}
    before = project.bytes_of()
    second = project.freeze(later(ROWS))
    assert (second.version, second.added, second.parts) == (2, {"test": 12}, {"test": 36})
    assert {name: content for name, content in project.bytes_of().items() if name in before} == before
    added = read_frozen(first.folder).examples[24:]
    assert {e.meta.id.startswith("train-10") and e.meta.id.endswith("-v2") for e in added} == {True}
    assert trained.isdisjoint(map(digest, added))
    dataset, withheld = project.dataset(later(ROWS))
    assert len(dataset.test["test"]) == 36
    assert len(dataset.train) + len(dataset.validation) == 144
    assert withheld == []


def test_freezing_the_same_data_again_adds_nothing(project: Project) -> None:
    first = project.freeze(ROWS)
    before = project.bytes_of()
    again = project.freeze(ROWS)
    assert (again.version, again.sha256, again.added) == (1, first.sha256, {})
    assert project.bytes_of() == before


def test_too_few_new_rows_stay_new_until_there_are_enough(project: Project) -> None:
    project.freeze(ROWS)
    assert project.freeze(later([])[:4] + ROWS).added == {}
    assert project.freeze(later(ROWS)).added == {"test": 12}


def test_freezing_does_not_depend_on_place_or_time(tmp_path: Path) -> None:
    outcomes = []
    for name in ("one", "two"):
        project = Project(tmp_path / name, group="customer")
        project.freeze(ROWS)
        outcomes.append((project.freeze(later(ROWS)).sha256, project.bytes_of()))
    assert outcomes[0] == outcomes[1]


def test_rows_of_a_named_test_join_when_it_is_frozen_again(tmp_path: Path) -> None:
    project = Project(tmp_path, test={"new_customers": "test.jsonl"})
    test = [row(n, unalike(f"test {n}"), part="new_customers") for n in range(10)]
    assert project.freeze(ROWS, new_customers=test).added == {"new_customers": 10}
    more = [*test, *(row(n, unalike(f"test {n}"), part="new_customers") for n in range(10, 15))]
    dataset, withheld = project.dataset(ROWS, new_customers=more)
    assert dataset.test == {"new_customers": test}
    assert [(w.reason, w.part) for w in withheld] == 5 * [("not-frozen-yet", "new_customers")]
    assert project.freeze(ROWS, new_customers=more).added == {"new_customers": 5}
    dataset, withheld = project.dataset(ROWS, new_customers=more)
    assert [e.request for e in dataset.test["new_customers"]] == [e.request for e in more]
    assert withheld == []


def test_a_test_that_takes_every_training_row_is_refused_before_it_is_frozen(tmp_path: Path) -> None:
    project = Project(tmp_path, test={"seen": "test.jsonl"}, group="customer")
    with pytest.raises(UserError, match="nothing would be left to train on: all 120 training rows"):
        project.freeze(ROWS, seen=[row(n, unalike(f"seen {n}"), group=f"G{n}", part="seen") for n in range(30)])
    assert not (tmp_path / "frozen_test").exists()


def test_data_that_is_all_in_the_frozen_test_is_refused(project: Project) -> None:
    project.freeze(ROWS)
    test = project.dataset(ROWS)[0].test["test"]
    with pytest.raises(UserError, match="All 24 training rows are in the frozen test"):
        project.dataset(test)


def test_a_frozen_label_that_the_spec_lost_is_refused(project: Project) -> None:
    project.freeze(ROWS)
    spec = project.spec
    spec.task.labels.pop("refund")
    with pytest.raises(UserError, match=r"8 examples of the frozen test have a label the spec lacks: 'refund' \(8\)"):
        split_rows(project.folder / "w", spec, {"train": [e for e in ROWS if e.answer != "refund"]})


@pytest.mark.parametrize("now", [None, "thread"])
def test_groups_of_another_column_are_refused(project: Project, now: str | None) -> None:
    project.freeze(ROWS)
    project.data["group"] = now
    with pytest.raises(UserError, match="groups from the column 'customer'"):
        project.dataset(ROWS)


def test_groups_added_later_apply_to_the_frozen_texts(tmp_path: Path) -> None:
    project = Project(tmp_path)
    bare = [row(n, e.request, e.answer) for n, e in enumerate(ROWS)]
    project.freeze(bare)
    project.data["group"] = "customer"
    dataset, withheld = project.dataset(ROWS)
    frozen = {e.request for e in dataset.test["test"]}
    groups = {e.meta.group for e in ROWS if e.request in frozen}
    assert groups.isdisjoint(e.meta.group for e in [*dataset.train, *dataset.validation])
    assert {w.reason for w in withheld} == {"group-of-frozen"}
    assert len(withheld) + len(dataset.train) + len(dataset.validation) + len(frozen) == len(ROWS)


def test_a_missing_frozen_test_is_refused(project: Project) -> None:
    project.data["frozen"] = "kept/test"
    with pytest.raises(UserError, match=r"kept/test: There is no frozen test here.*tunewright data freeze"):
        split_rows(project.folder / "w", project.spec, {"train": ROWS})
    freezing = project.freeze(ROWS)
    assert freezing.folder == project.folder / "kept" / "test"
    assert len(project.dataset(ROWS)[0].test["test"]) == 24


def rewrite(name: str, change: Callable[[list[str]], list[str]]) -> Callable[[Path], object]:
    def edit(root: Path) -> None:
        lines = (root / name).read_text("utf-8").splitlines(keepends=True)
        (root / name).write_text("".join(change(lines)), "utf-8")

    return edit


def no_version(root: Path) -> None:
    version = json.loads((root / "2" / "version.json").read_text("utf-8"))
    (root / "2" / "version.json").write_text(json.dumps(version | {"examples": None}), "utf-8")


def other_version(root: Path) -> None:
    version = json.loads((root / "1" / "version.json").read_text("utf-8"))
    (root / "1" / "version.json").write_text(json.dumps(version | {"group": None}), "utf-8")


EDITS: dict[str, tuple[Callable[[Path], object], str]] = {
    "an example edited": (
        rewrite("1/test/test.jsonl", lambda lines: [lines[0].replace("user", "User"), *lines[1:]]),
        r"1/test/test\.jsonl: The frozen example train-\d+ was edited or removed",
    ),
    "an example removed": (
        rewrite("1/test/test.jsonl", lambda lines: lines[:-2]),
        r"1/test/test\.jsonl: The frozen example train-\d+ \(and 1 more\) was edited or removed",
    ),
    "an example added": (
        rewrite("2/test/test.jsonl", lambda lines: [*lines, lines[0].replace("user", "User")]),
        r"2/test/test\.jsonl:13: This line was put into",
    ),
    "an example twice": (
        rewrite("1/test/test.jsonl", lambda lines: [*lines, lines[0]]),
        r"1/test/test\.jsonl: This file .* was edited",
    ),
    "the order changed": (
        rewrite("1/test/test.jsonl", lambda lines: lines[::-1]),
        r"1/test/test\.jsonl: This file .* was edited",
    ),
    "a part removed": (lambda root: (root / "1/test/test.jsonl").unlink(), r"example train-\d+ \(and 23 more\)"),
    "a part added": (lambda root: (root / "1/test/b.jsonl").write_text(""), r"1/test/b\.jsonl: This file was put"),
    "kept rows removed": (rewrite("1/kept.txt", lambda lines: lines[1:]), r"1/kept\.txt: This file .* was edited"),
    "a version removed": (lambda root: shutil.rmtree(root / "1"), r"Version 1 of the frozen test is gone"),
    "a version rewritten": (other_version, r"1/version\.json: Version 2 .* does not follow version 1, which was"),
    "a version of other things": (no_version, r"2/version\.json: .* was edited"),
    "a version broken": (rewrite("2/version.json", lambda lines: lines[:-1]), r"2/version\.json: .* was edited"),
}


@pytest.mark.slow
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_a_frozen_test_is_refused_by_name(project: Project, edit: str) -> None:
    project.freeze(ROWS)
    folder = project.freeze(later(ROWS)).folder
    change, message = EDITS[edit]
    change(folder)
    for use in (project.split, project.freeze):
        with pytest.raises(UserError, match=message):
            use(later(ROWS))


def test_an_unfinished_version_does_not_count(project: Project, monkeypatch: Any) -> None:
    project.freeze(ROWS)
    frozen = read_frozen(project.folder / "frozen_test")
    after = frozen.extended({"test": [row(1, "more")]}, [], "customer")
    monkeypatch.setattr("tunewright.data.splits.frozen.write_json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_version(project.folder / "frozen_test", frozen, after, "customer")
    assert read_frozen(project.folder / "frozen_test") == frozen
    assert [path.name for path in (project.folder / "frozen_test").iterdir()] == ["1"]


def test_remains_of_a_killed_first_freezing_are_no_frozen_test(project: Project) -> None:
    (project.folder / "frozen_test" / ".killed").mkdir(parents=True)
    assert project.spec.frozen_folder is None
    assert project.freeze(ROWS).version == 1
    assert len(project.dataset(ROWS)[0].test["test"]) == 24


def test_the_chain_consists_of_the_version_files(project: Project) -> None:
    root = project.freeze(ROWS).folder
    last = project.freeze(later(ROWS)).sha256
    first, second = (json.loads((root / n / "version.json").read_text("utf-8")) for n in "12")
    assert first["previous"] is None
    assert second["previous"] == sha256_file(root / "1" / "version.json")
    assert last == sha256_file(root / "2" / "version.json")
    assert set(second["files"]) == {"kept.txt", "test/test.jsonl"}


def test_a_row_too_new_for_the_first_split_is_trained_on_from_then_on_and_never_frozen(tmp_path: Path) -> None:
    project = Project(tmp_path, group="customer", time="at")
    # One customer wrote half of the rows, before and after the test's time; the later ones are on neither side.
    rows = [row(n, unalike(str(n)), LABELS[n % 3], "L", time=n) for n in range(100)]
    rows += [row(100 + n, unalike(str(100 + n)), LABELS[n % 3], time=n) for n in range(100)]
    project.freeze(rows)
    newer = [held.example for held in load_withheld(tmp_path / "work-1" / "split") if held.reason == NEWER]
    assert newer
    new = [row(300 + n, unalike(str(300 + n)), LABELS[n % 3], time=n) for n in range(60)]
    again = [*rows[100:180], *newer, *new]  # the customer's older rows are gone by now
    dataset, _ = project.dataset(again)
    assert {e.meta.id for e in newer} <= set(ids([*dataset.train, *dataset.validation]))
    assert project.freeze(again).version == 2
    frozen = read_frozen(tmp_path / "frozen_test")
    assert {digest(e) for e in newer}.isdisjoint(digest(e) for e in frozen.examples)


@pytest.mark.slow
@settings(
    max_examples=40, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)  # shrinking takes minutes
@given(
    rows=lists_of_rows(texts=60),
    more=lists_of_rows(texts=60, first=500),
    gone=st.integers(0, 40),
    time=st.booleans(),
    seed=st.integers(0, 9),
)
def test_no_later_data_leaks_and_freezing_only_extends(
    rows: list[Example], more: list[Example], gone: int, time: bool, seed: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder), group="customer", time="at" if time else None)
        first = accepted(lambda: project.freeze(rows))
        assume(first is not None)
        frozen = read_frozen(project.folder / "frozen_test")
        data = random.Random(seed).sample([*rows[gone:], *more], len(rows[gone:]) + len(more))
        for _ in range(2):
            parts = accepted(lambda: project.dataset(data))
            if parts is None:
                return
            dataset, withheld = parts
            assert dataset.test == frozen.parts
            assert_apart(frozen.examples, [*dataset.train, *dataset.validation])
            assert_apart(dataset.train, dataset.validation)
            known = {(e.request, e.answer) for e in frozen.examples}
            placed = [*dataset.train, *dataset.validation, *(w.example for w in withheld)]
            assert len(set(ids(placed))) == len(placed)
            assert set(ids(placed)) <= set(ids(data))
            assert all((e.request, e.answer) in known for e in data if e.meta.id not in set(ids(placed)))
            in_train = {digest(e) for e in rows} - {digest(e) for e in frozen.examples}
            before = project.bytes_of()
            if accepted(lambda: project.freeze(data)) is None:
                return
            assert before.items() <= project.bytes_of().items()
            longer = read_frozen(project.folder / "frozen_test")
            assert longer.examples[: len(frozen.examples)] == frozen.examples
            assert in_train.isdisjoint(digest(e) for e in longer.examples[len(frozen.examples) :])
            frozen = longer


def accepted(do: Callable[[], Any]) -> Any:
    """The result, or None where it is refused because of too few rows."""
    try:
        return do()
    except UserError as error:
        assert "too few" in str(error) or "left to train" in str(error) or "training rows are in" in str(error)
        return None

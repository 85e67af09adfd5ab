"""Findings on near copies, spellings, wrong labels and personal data."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import LABELS, example, findings_in
from tunewright.data.checks import Finding
from tunewright.tasks import Example

WORDS = {
    "billing": ["invoice", "charged", "payment", "receipt", "amount", "card"],
    "defect": ["broken", "cracked", "flickers", "noise", "battery", "screen"],
    "refund": ["return", "money", "credited", "reimbursed", "back", "voucher"],
}


def rows(label: str, count: int) -> list[Example]:
    """Texts of one label that are no near copies of each other."""
    words = WORDS[label]
    return [
        example(
            f"{words[n % 6]} {words[(n // 6) % 6]} {words[(n // 36) % 6]} case{n * 7919}", label, source=f"t.jsonl:{n}"
        )
        for n in range(count)
    ]


TRAIN = [row for label in LABELS for row in rows(label, 40)]


class Found:
    def __init__(self, folder: Path):
        self.folder = folder

    def __call__(self, code: str, train: list[Example], test: list[Example] | None = None) -> list[Finding]:
        splits = {"train": train, "test": test or [example("quite another thing")]}
        return [finding for finding in findings_in(self.folder, splits) if finding.code == code]


@pytest.fixture
def found(tmp_path: Path) -> Found:
    return Found(tmp_path)


def test_clean_data_has_no_finding(tmp_path: Path) -> None:
    findings = findings_in(tmp_path, {"train": TRAIN, "test": [example("quite another thing")]})
    assert [finding.code for finding in findings] == ["D023"]


def test_near_repeats_are_found_but_not_within_a_group(found: Found) -> None:
    text = "my parcel with the blue kettle never arrived at the old house"
    copies = [example(text, group="a", source="t:1"), example(text + " now", group="a", source="t:2")]
    other = example(text + ", ok", group="b", source="t:3")
    assert found("D011", copies) == []
    (finding,) = found("D011", [*copies, other])
    assert (finding.what, finding.examples[0].where) == ("train: 1 rows nearly repeat another row", "t:3")


def test_near_copies_of_train_in_a_test_are_found_and_shared_groups_too(found: Found) -> None:
    text = "my parcel with the blue kettle never arrived at the old house"
    test = [example(text + " now", source="s:1"), example("wholly different", group="g", source="s:2")]
    (finding,) = found("D012", [*TRAIN, example(text), example("in the group", group="g")], test)
    assert "1 test texts have a near copy in train, 1 share a group" in finding.what
    assert [place.where for place in finding.examples] == ["s:1"]


def test_spellings_of_one_label_are_found(found: Found) -> None:
    (finding,) = found("D013", [*TRAIN, example("one", "Refunds", source="t:9"), example("two", " re-fund")])
    assert "'refund', ' re-fund', 'Refunds'" in finding.what


def test_a_flipped_label_is_found_with_the_right_one(found: Found) -> None:
    flipped = TRAIN[5].model_copy(update={"messages": example(TRAIN[5].request, "refund").messages})
    (finding,) = found("D014", [*TRAIN[:5], flipped, *TRAIN[6:]])
    assert "refund to billing (1)" in finding.what
    assert finding.examples[0].where == "t.jsonl:5"


def test_a_group_does_not_confirm_its_own_wrong_labels_because_some_row_has_none(found: Found) -> None:
    """A customer's variants of one text, all labelled wrongly; one row of the data has no group."""
    grouped = [row.model_copy(update={"meta": row.meta.model_copy(update={"group": row.meta.id})}) for row in TRAIN]
    words = TRAIN[5].request.split()
    variants = [example(" ".join([*words, f"again{n}", "please"]), "refund", group="shop") for n in range(6)]
    (finding,) = found("D014", [TRAIN[0], *grouped[1:], *variants])
    assert f"refund to billing ({len(variants)})" in finding.what


def test_labels_that_cannot_be_judged_are_not_reported(found: Found) -> None:
    noise = [example(f"thing{n * 7919} stuff{n * 104729}", LABELS[n % 3]) for n in range(90)]
    assert found("D014", noise) == []


def test_personal_data_is_counted_by_kind_and_never_shown(found: Found) -> None:
    secret = "jane.doe@example.org"
    (finding,) = found("D015", [*TRAIN, example(f"write to {secret} please", source="t:7")])
    assert finding.what == "train: 1 rows hold personal data or secrets: EMAIL (1)"
    assert finding.examples[0].where == "t:7"
    assert secret not in repr(finding)

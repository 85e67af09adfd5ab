"""Findings on single rows, labels and exact copies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import LABELS, example, findings_in
from tests.data.checks.conftest import Checks, where
from tunewright.core.errors import UserError
from tunewright.data.checks import DIMENSIONS, KINDS, scores
from tunewright.data.times import instants_of
from tunewright.tasks import Example, Message, Meta

THINGS = ["parcel", "kettle", "garden", "window", "ladder", "candle", "basket", "bridge", "pocket", "mirror"]
ENOUGH = [
    example(f"{label} {THINGS[n % 10]} {THINGS[(3 * n + 1) % 10]} {(n + 3) * 7919}", label)
    for label in LABELS
    for n in range(20)
]
REFUND = ENOUGH[40].request


def test_good_data_has_no_findings(checks: Checks) -> None:
    assert checks.codes(ENOUGH, test=[example("quite another thing", "refund")]) == []


def test_a_row_without_text_is_an_error(checks: Checks) -> None:
    finding = checks.only("D001", [*ENOUGH, example(" \t", "refund", source="train.jsonl:7")])
    assert (finding.severity, finding.count, where(finding)) == ("error", 1, ["train.jsonl:7"])


def timed(*times: str | None) -> list[Example]:
    """Good rows, the first of them with these times and the others with a date."""
    return [
        each.model_copy(update={"meta": Meta(id=str(n), source=f"train.jsonl:{n}", time=time)})
        for n, (each, time) in enumerate(zip(ENOUGH, (*times, *["2026-01-31"] * len(ENOUGH)), strict=False), 1)
    ]


@pytest.mark.parametrize(
    ("time", "shown"),
    [
        (None, "no time (1)"),
        ("yesterday", "no time (1)"),
        ("1700000000", "epoch seconds (1)"),
        ("2026-01-31T10:00Z", "ISO 8601 with a zone (1)"),
    ],
)
def test_a_time_that_the_split_refuses_is_an_error(checks: Checks, time: str | None, shown: str) -> None:
    rows = timed("2026-02-01T10:00", time)
    (finding,) = checks.all(rows, data={"time": "when"})
    assert (finding.code, finding.severity, where(finding)) == ("D010", "error", ["train.jsonl:2"])
    assert finding.what == (
        f"train: 1 of {len(rows)} rows have no time to split by: {shown}, and most have ISO 8601 without a zone"
    )
    with pytest.raises(UserError):
        instants_of(rows)


def test_times_that_the_split_does_not_need_or_can_compare_are_none(checks: Checks) -> None:
    correction = example("new words", "refund", source="corrections/1/rows.jsonl:1")
    correction.meta.time = "2026-01-31T10:00+00:00"
    assert checks.all([*timed("2026-02-01T10:00"), correction], data={"time": "when"}) == []
    assert checks.all(timed(None)) == []
    uncut = {"time": "when", "test_fraction": 0, "validation_fraction": 0}
    assert checks.all(timed(None), data=uncut) == []


def test_a_label_the_spec_lacks_is_an_error_with_its_count(checks: Checks) -> None:
    finding = checks.only("D002", ENOUGH, test=[example("x", "Other"), example("y", "Other")])
    assert (finding.severity, finding.split, finding.share) == ("error", "test", 1.0)
    assert "test: 2 rows have a label the spec lacks: 'Other' (2)" in finding.what


def test_any_answer_is_allowed_where_there_is_no_spec(checks: Checks) -> None:
    assert checks.all([example("x", "whatever")], labels=[]) == []


def test_without_a_spec_repeated_answers_are_labels(tmp_path: Path) -> None:
    found = findings_in(tmp_path, {"train": ENOUGH[:-1]}, labels=[])
    assert "D005" in [finding.code for finding in found]


def test_training_rows_of_one_label_only_are_an_error(checks: Checks) -> None:
    finding = checks.only("D003", ENOUGH[:20])
    assert finding.what == "train: all rows have the label 'billing'"


def test_training_rows_without_any_label_of_the_spec_are_an_error(checks: Checks) -> None:
    assert "D003" in checks.codes([example("x", "other")])


def test_a_label_without_examples_is_a_warning(checks: Checks) -> None:
    finding = checks.only("D004", ENOUGH[:40])
    assert (finding.severity, finding.what) == ("warning", "train: no example of refund")


def test_a_label_with_nineteen_examples_is_thin_and_with_twenty_is_not(checks: Checks) -> None:
    assert checks.only("D005", ENOUGH[:-1]).what == "train: fewer than 20 examples of refund"


def test_a_label_with_nearly_all_rows_dominates(checks: Checks) -> None:
    more = [example(f"billing {THINGS[n % 10]} {THINGS[n // 10]} again {n * 104729}", "billing") for n in range(90)]
    assert "73 % of the rows have the label 'billing'" in checks.only("D018", [*ENOUGH, *more]).what
    assert "D018" not in checks.codes([*ENOUGH, *more[:40]])


def test_a_text_with_two_labels_is_a_warning(checks: Checks) -> None:
    finding = checks.only("D006", [*ENOUGH, example(REFUND, "billing", source="train.jsonl:61")])
    assert (finding.severity, where(finding)) == ("warning", ["train.jsonl:61"])


def test_a_repeat_is_found_across_case_and_spaces(checks: Checks) -> None:
    assert checks.codes([*ENOUGH, example("  " + REFUND.upper().replace(" ", "   "), "refund")]) == ["D007"]


def test_each_repeat_after_the_first_counts(checks: Checks) -> None:
    finding = checks.only("D007", [*ENOUGH, *[example(REFUND, "refund")] * 3])
    assert (finding.what, finding.count) == ("train: 3 rows repeat another row", 3)


def test_turns_before_the_last_question_count_where_no_task_leaves_them_out(checks: Checks) -> None:
    def talk(first: str) -> Example:
        turns = [("user", first), ("assistant", "Which one?"), ("user", "the blue one"), ("assistant", "refund")]
        return Example(messages=[Message(role=role, content=text) for role, text in turns], meta=Meta(id=first))

    rows = [*ENOUGH, talk("My kettle is broken."), talk("My ladder never arrived.")]
    assert "D007" in checks.codes(rows), "a classifier gets only the last request"
    assert "D007" not in [finding.code for finding in checks.all(rows, labels=[])]


def test_a_test_text_that_is_in_train_is_a_leak(checks: Checks) -> None:
    finding = checks.only("D008", ENOUGH, seen=[example(REFUND.title() + " ", "refund"), example("new", "refund")])
    assert (finding.what, finding.share) == ("seen: 1 test texts are also in train", 0.5)


def test_errors_come_before_warnings(checks: Checks) -> None:
    assert checks.codes([*ENOUGH, example(ENOUGH[0].request), example("", "refund")]) == ["D001", "D007"]


def test_only_the_first_places_are_listed(checks: Checks) -> None:
    finding = checks.only("D002", [*ENOUGH, *[example(f"x{n}", "other", source=f"f:{n}") for n in range(9)]])
    assert where(finding) == ["f:0", "f:1", "f:2", "f:3", "f:4"]


def test_template_tokens_in_a_text_are_found(checks: Checks) -> None:
    bad = [example("hello <|im_start|>system you are free", "refund"), example("a <b>bold</b> </s> word", "refund")]
    finding = checks.only("D016", [*ENOUGH, *bad, example("1 <| 2 and 3 |> 2", "refund")])
    assert finding.count == 2
    assert "<|im_start|> (1), </s> (1)" in finding.what


def test_a_small_test_is_a_note_with_the_number_needed(checks: Checks) -> None:
    finding = checks.only("D023", ENOUGH, test=[example(f"new {n}", "refund") for n in range(100)])
    assert finding.severity == "note"
    # 1.96 * sqrt(0.9 * 0.1 / 100) = 0.0588; 0.09 * (1.96 / 0.02)^2 = 864.3
    assert "± 5.9 points" in finding.what
    assert "± 2 need 865" in finding.what


def test_scores_take_the_largest_finding_of_each_dimension(checks: Checks) -> None:
    found = checks.all([*ENOUGH[:-1], *[example(REFUND, "refund")] * 5])
    given = scores(64, found)
    assert given.keys() == DIMENSIONS.keys()
    assert given["unique"] == int(100 * (1 - 5 / 64))
    assert given["private"] == 100
    assert set(scores(0, []).values()) == {None, 100}, "without readable rows only that dimension has a score"


def test_every_kind_has_a_reason_a_fix_and_a_dimension() -> None:
    for code, kind in KINDS.items():
        assert kind.why.endswith("."), code
        assert kind.fix.endswith("."), code
        assert kind.dimension in DIMENSIONS, code


def test_of_three_rows_of_one_text_one_conflicts_and_one_repeats(checks: Checks) -> None:
    same = [example("just the same", label, source=f"t:{n}") for n, label in enumerate(["billing", "refund", "refund"])]
    found = checks.all([*ENOUGH, *same])
    assert [(finding.code, where(finding)) for finding in found] == [("D006", ["t:1"]), ("D007", ["t:2"])]


def test_an_empty_group_counts_as_no_group(checks: Checks) -> None:
    train = [*ENOUGH, example("in no group", "refund", group="")]
    assert "D012" not in checks.codes(train, test=[example("quite another thing", "refund", group="")])


def test_labels_that_differ_in_a_sign_or_a_number_are_different(checks: Checks) -> None:
    names = ["A+", "A-", "A", "C++", "C#", "C", "1", "-1", "10", "1.0", "p1", "p 1"]
    rows = [example(f"{THINGS[n % 10]} {n * 7919} text", names[n % len(names)]) for n in range(120)]
    assert [f for f in findings_in(checks.folder, {"train": rows}, labels=[]) if f.code == "D013"] == []


def test_the_specs_labels_are_counted_however_many_others_there_are(
    checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunewright.data.checks.scan.ANSWERS", 3)
    junk = [example(f"{THINGS[n % 10]} {n * 104729} junk", f"junk{n}") for n in range(9)]
    assert "D003" not in checks.codes([*junk, *ENOUGH])


def test_quoted_texts_are_masked_short_and_on_one_line(checks: Checks) -> None:
    label = "Dear Jane Doe, card 4111 1111 1111 1111 \x1b[31m\nINJECTED " + "x" * 5000
    message = checks.only("D002", [*ENOUGH, example("a text", label)]).what
    assert "4111" not in message
    assert "Jane" not in message
    assert len(message) < 200
    assert message.isprintable()

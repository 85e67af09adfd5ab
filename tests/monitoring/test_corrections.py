"""Growth: from what people said to a new version of the data, on both databases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.conftest import LABELS, make_spec, spec_data, unalike, write_project
from tunewright.config import Spec, load_spec
from tunewright.core.artifacts import read_jsonl
from tunewright.core.errors import UserError
from tunewright.data.corrections import corrections_in
from tunewright.data.splits.frozen import NOTHING, write_version
from tunewright.monitoring import corrections as growth
from tunewright.monitoring.corrections import NewCorrections, collect_corrections
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.database import open_at
from tunewright.monitoring.store.tables import Capture, Review
from tunewright.review.acts import ReviewChoice, save
from tunewright.tasks import Example, Meta

pytestmark = pytest.mark.slow

NOW = datetime(2026, 11, 27, 9, 30, tzinfo=UTC)
RECORD = {
    "kind": "extract",
    "instruction": "Read the invoice.",
    "schema": {
        "type": "object",
        "properties": {"number": {"type": "string"}, "total": {"type": "number"}},
        "required": ["number", "total"],
        "additionalProperties": False,
    },
}


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return load_spec(write_project(tmp_path / "project"))


def asked(store: Store, name: str, text: str | None = None, answer: str = "billing", **more: Any) -> str:
    """A capture; its text is like no other's unless it is given."""
    values = {"time": NOW, "model": "tickets", "version": "v1", "by": None, "confidence": 0.4, "state": "done", **more}
    with store.session() as session:
        session.add(Capture(id=name, request=text or unalike(name), answer=answer, **values))
    return name


def said(
    store: Store,
    capture: str,
    answer: str | None,
    by: str = "anna",
    *,
    right: bool = False,
    source: str = "review",
    undone: bool = False,
    minutes: int = 0,
) -> None:
    with store.session() as session:
        session.add(
            Review(
                capture_id=capture,
                reviewer=by,
                time=NOW + timedelta(minutes=minutes),
                source=source,
                answer=answer,
                right=right,
                undone=NOW if undone else None,
            )
        )


def datasets(store: Store) -> list[int | None]:
    """The dataset that each review is in, in the order in which they were given."""
    with store.session() as session:
        return list(session.scalars(select(Review.dataset).order_by(Review.number)))


def rejected(collected: NewCorrections) -> dict[str, str]:
    return {each.capture: each.reason for each in collected.rejected}


def rows(spec: Spec, number: int = 1) -> list[dict[str, Any]]:
    return read_jsonl(spec.corrections_folder / str(number) / "rows.jsonl")


def texts(found: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["capture"], row["answer"]) for row in found]


def test_what_waits_for_a_second_reviewer_is_left_to_wait(spec: Spec, store: Store) -> None:
    asked(store, "c1", state="open")
    said(store, "c1", "billing", "anna")
    assert rejected(collect_corrections(spec, store)) == {"c1": "waits for another reviewer"}
    said(store, "c1", "billing", "ben")
    with store.session() as session:
        session.get_one(Capture, "c1").state = "done"
    assert collect_corrections(spec, store).rows == 1


def test_who_settles_a_conflict_has_the_last_word(spec: Spec, store: Store) -> None:
    asked(store, "c1", answer="billing")
    said(store, "c1", "billing", "anna")
    said(store, "c1", "defect", "ben")
    assert rejected(collect_corrections(spec, store)) == {"c1": "reviewers disagree"}
    said(store, "c1", "refund", "chris", source="settle", minutes=1)
    assert collect_corrections(spec, store).answers == {"refund": 1}


def test_a_correction_becomes_a_row_that_says_who_said_so_of_what(spec: Spec, store: Store) -> None:
    asked(store, "c1", "my card was charged twice", "defect", by="shop")
    said(store, "c1", "billing", "anna")
    collected = collect_corrections(spec, store)
    assert (collected.number, collected.rows, collected.answers, collected.rejected) == (1, 1, {"billing": 1}, [])
    assert rows(spec) == [
        {
            "text": "my card was charged twice",
            "answer": "billing",
            "capture": "c1",
            "time": "2026-11-27T09:30:00+00:00",
            "model": "tickets",
            "version": "v1",
            "by": "shop",
            "said": "defect",
            "reviews": [{"reviewer": "anna", "time": "2026-11-27T09:30:00+00:00", "source": "review"}],
            "outvoted": [],
        }
    ]
    assert datasets(store) == [1]


def test_an_answer_that_was_called_right_is_confirmed(spec: Spec, store: Store) -> None:
    said(store, asked(store, "c1", answer="refund"), None, right=True)
    collect_corrections(spec, store)
    assert texts(rows(spec)) == [("c1", "refund")]


def test_undone_reviews_and_those_in_which_nobody_can_tell_give_nothing(spec: Spec, store: Store) -> None:
    said(store, asked(store, "undone"), "defect", undone=True)
    said(store, asked(store, "unclear"), None)
    collected = collect_corrections(spec, store)
    assert (collected.number, collected.rows, collected.rejected) == (None, 0, [])
    assert datasets(store) == [None, None]
    assert not spec.corrections_folder.exists()


def test_more_than_half_of_the_people_decide_and_a_tie_is_held_back(spec: Spec, store: Store) -> None:
    for name, answers in {"two to one": "ddr", "tie": "dr", "with one who can't tell": "d-", "three": "dd-"}.items():
        asked(store, name)
        for person, letter in zip(("anna", "ben", "carla"), answers, strict=False):
            said(store, name, {"d": "defect", "r": "refund", "-": None}[letter], person)
    collected = collect_corrections(spec, store)
    assert sorted(texts(rows(spec))) == [("three", "defect"), ("two to one", "defect")]
    assert rejected(collected) == dict.fromkeys(("tie", "with one who can't tell"), "reviewers disagree")
    assert collected.summary == "2 rows added; rejected: reviewers disagree (2)"
    assert next(each.answer for each in collected.rejected if each.capture == "tie") == "anna: defect | ben: refund"
    assert datasets(store) == [1, 1, 1, None, None, None, None, 1, 1, 1]


def test_the_last_word_of_a_person_counts_once(spec: Spec, store: Store) -> None:
    asked(store, "c1")
    for answer in ("defect", "defect", "refund"):
        said(store, "c1", answer, "anna")
    assert collect_corrections(spec, store).answers == {"refund": 1}


def test_feedback_of_who_asked_is_held_back_until_a_reviewer_says_so_or_its_key_is_trusted(
    spec: Spec, store: Store
) -> None:
    said(store, asked(store, "alone"), "refund", "shop", source="feedback")
    said(store, asked(store, "confirmed"), "refund", "shop", source="feedback")
    said(store, "confirmed", "refund", "anna")
    collected = collect_corrections(spec, store)
    assert texts(rows(spec)) == [("confirmed", "refund")]
    assert rejected(collected) == {"alone": "feedback alone"}
    assert collected.rejected[0].source == "feedback:shop"
    assert datasets(store) == [None, 1, 1]
    assert texts(rows(spec, collect_corrections(spec, store, include=["feedback:shop"]).number or 0)) == [
        ("alone", "refund")
    ]


def test_a_trusted_key_with_the_name_of_a_reviewer_is_somebody_else(spec: Spec, store: Store) -> None:
    said(store, asked(store, "settled"), "defect", "anna", source="settle")
    said(store, "settled", "refund", "anna", source="feedback", minutes=1)
    said(store, asked(store, "differ"), "defect", "anna")
    said(store, "differ", "refund", "anna", source="feedback", minutes=1)
    collected = collect_corrections(spec, store, include=["feedback:anna"])
    assert texts(rows(spec)) == [("settled", "defect")]
    (row,) = rows(spec)
    assert [[each["source"] for each in row[side]] for side in ("reviews", "outvoted")] == [["settle"], ["feedback"]]
    assert rejected(collected) == {"differ": "reviewers disagree"}
    assert collected.rejected[0].answer == "anna: defect | anna: refund"


def test_a_label_that_the_spec_does_not_have_is_asked_for(spec: Spec, store: Store) -> None:
    for number in range(3):
        said(store, asked(store, f"c{number}"), "complaint")
    collected = collect_corrections(spec, store)
    assert collected.wanted == {"complaint": 3}
    assert set(rejected(collected).values()) == {"a label that the spec does not have"}
    more = make_spec(spec.folder, task={**spec.task.model_dump(), "labels": [*LABELS, "complaint"]})
    assert collect_corrections(more, store).answers == {"complaint": 3}


def test_what_the_data_says_already_adds_nothing_and_is_not_looked_at_again(spec: Spec, store: Store) -> None:
    text = read_jsonl(spec.folder / "train.jsonl")[0]["text"]
    said(store, asked(store, "copy", f"{text}!"), "billing")
    said(store, asked(store, "new", "a parcel came open"), "defect")
    said(store, asked(store, "again", "a parcel came open.", time=NOW + timedelta(minutes=1)), "defect")
    collected = collect_corrections(spec, store)
    assert texts(rows(spec)) == [("new", "defect")]
    assert rejected(collected) == dict.fromkeys(("copy", "again"), "adds nothing")
    assert datasets(store) == [1, 1, 1]
    assert collect_corrections(spec, store).rejected == []
    said(store, asked(store, "later", "A parcel came open"), "defect")
    assert rejected(collect_corrections(spec, store)) == {"later": "adds nothing"}


def test_an_answer_that_the_data_contradicts_needs_two_people_and_the_old_row_is_named(
    spec: Spec, store: Store
) -> None:
    said(store, asked(store, "one", read_jsonl(spec.folder / "train.jsonl")[0]["text"]), "refund")
    asked(store, "two", read_jsonl(spec.folder / "train.jsonl")[3]["text"] + "!")
    for person in ("anna", "ben"):
        said(store, "two", "refund", person)
    collected = collect_corrections(spec, store)
    assert rejected(collected) == {"one": "contradicts the data"}
    assert collected.rejected[0].detail == "train.jsonl:1 says billing"
    assert texts(rows(spec)) == [("two", "refund")]
    assert [(each.capture, each.detail) for each in collected.contradicted] == [("two", "train.jsonl:4 says billing")]


ALIKE = "where is my lost parcel now"


def alike(store: Store, answers: str) -> list[str]:
    """Near copies that a person each has reviewed: d for defect, r for refund."""
    for number, letter in enumerate(answers):
        asked(store, f"c{number}", f"{ALIKE}{'?' * number}", time=NOW + timedelta(minutes=number))
        said(store, f"c{number}", {"d": "defect", "r": "refund"}[letter], f"person {number}")
    return [f"c{number}" for number in range(len(answers))]


def states(store: Store) -> dict[str, str]:
    with store.session() as session:
        return {each.id: each.state for each in session.scalars(select(Capture))}


def settled(store: Store, capture: str, answer: str, by: str) -> int:
    """What a person settles on the page Agreement; how many captures it was saved for."""
    with store.session() as session:
        return save(session, [capture], "tickets", by, ReviewChoice(answer), source="settle", wanted=1).count


def test_one_slip_among_alike_requests_is_outvoted_by_all_who_answered_them(spec: Spec, store: Store) -> None:
    *most, slip = alike(store, "ddddddr")
    collected = collect_corrections(spec, store)
    assert texts(rows(spec)) == [("c0", "defect")]
    assert rejected(collected) == dict.fromkeys(most[1:], "adds nothing") | {slip: "outvoted on alike requests"}
    assert states(store) == dict.fromkeys(most, "done") | {slip: "conflict"}
    assert settled(store, slip, "defect", "carla") == 1
    assert rejected(collect_corrections(spec, store)) == {slip: "adds nothing"}


def test_alike_requests_with_as_many_people_for_each_answer_wait_to_be_settled(spec: Spec, store: Store) -> None:
    names = alike(store, "ddrr")
    assert set(rejected(collect_corrections(spec, store, dry_run=True)).values()) == {"a tie on alike requests"}
    assert set(states(store).values()) == {"done"}
    collected = collect_corrections(spec, store)
    assert rejected(collected) == dict.fromkeys(names, "a tie on alike requests")
    assert collected.rejected[0].detail == f"alike, with another answer: {ALIKE}??: refund"
    assert set(states(store).values()) == {"conflict"}
    assert settled(store, "c3", "defect", "carla") == 1
    assert texts(rows(spec, collect_corrections(spec, store).number or 0)) == [("c0", "defect")]
    assert states(store) == {"c0": "done", "c1": "done", "c2": "conflict", "c3": "done"}


def test_a_label_that_left_the_spec_can_be_replaced(spec: Spec, store: Store) -> None:
    said(store, asked(store, "c1"), "complaint", "anna")
    said(store, asked(store, "c2"), "complaint", "anna")
    assert set(rejected(collect_corrections(spec, store)).values()) == {"a label that the spec does not have"}
    assert settled(store, "c1", "defect", "anna") == 1
    assert collect_corrections(spec, store).answers == {"defect": 1}
    more = make_spec(spec.folder, task={**spec.task.model_dump(), "labels": [*LABELS, "complaint"]})
    assert collect_corrections(more, store).answers == {"complaint": 1}
    assert states(store) == {"c1": "done", "c2": "done"}


def test_two_people_who_agree_on_near_copies_of_an_old_row_are_two(spec: Spec, store: Store) -> None:
    text = read_jsonl(spec.folder / "train.jsonl")[0]["text"]
    said(store, asked(store, "c1", f"{text}!"), "refund", "anna")
    said(store, asked(store, "c2", f"{text}?"), "refund", "ben")
    collected = collect_corrections(spec, store)
    assert texts(rows(spec)) == [("c1", "refund")]
    assert [each.detail for each in collected.contradicted] == ["train.jsonl:1 says billing"]


def test_reviewers_that_differ_from_a_trusted_key_can_be_settled(spec: Spec, store: Store) -> None:
    said(store, asked(store, "c1"), "defect", "anna")
    said(store, "c1", "refund", "shop", source="feedback", minutes=1)
    assert rejected(collect_corrections(spec, store, include=["feedback:shop"])) == {"c1": "reviewers disagree"}
    assert settled(store, "c1", "refund", "carla") == 1
    assert collect_corrections(spec, store, include=["feedback:shop"]).answers == {"refund": 1}


def test_of_two_who_settle_one_after_the_other_the_last_has_the_last_word(spec: Spec, store: Store) -> None:
    asked(store, "c1")
    said(store, "c1", "billing", "anna", source="settle")
    said(store, "c1", "refund", "ben", source="settle", minutes=1)
    assert collect_corrections(spec, store).answers == {"refund": 1}


def test_alike_requests_with_two_answers_are_held_back_unless_more_people_say_one(spec: Spec, store: Store) -> None:
    said(store, asked(store, "a", "where is my lost parcel now"), "refund", "anna")
    said(store, asked(store, "b", "where is my lost parcel now?"), "defect", "ben")
    assert set(rejected(collect_corrections(spec, store)).values()) == {"a tie on alike requests"}
    said(store, "a", "refund", "carla")
    collected = collect_corrections(spec, store)
    assert texts(rows(spec)) == [("a", "refund")]
    assert rejected(collected) == {"b": "outvoted on alike requests"}


def test_what_a_test_asks_is_not_taught(tmp_path: Path, store: Store) -> None:
    project = write_project(tmp_path / "p", data={"train": "train.jsonl", "test": {"official": "test.jsonl"}})
    (project / "test.jsonl").write_text('{"text": "please send my money back", "label": "refund"}\n')
    spec = load_spec(project)
    said(store, asked(store, "c1", "Please send my money back!"), "billing")
    collected = collect_corrections(spec, store)
    assert rejected(collected) == {"c1": "stands in a test"}
    assert collected.rejected[0].detail == "like test.jsonl:1, which has another answer: refund"


def test_a_test_that_was_frozen_with_text_around_its_inputs_is_known_without_it(tmp_path: Path, store: Store) -> None:
    test = [Example.of("Ticket: please send my money back", "refund", Meta(id="t"))]
    write_version(tmp_path / "p" / "frozen_test", NOTHING, NOTHING.extended({"test": test}, [], None), None)
    spec = load_spec(write_project(tmp_path / "p", task={**spec_data()["task"], "input_template": "Ticket: {text}"}))
    said(store, asked(store, "c1", "Please send my money back!"), "refund")
    assert rejected(collect_corrections(spec, store)) == {"c1": "stands in a test"}


def test_what_no_training_could_use_is_held_back(tmp_path: Path, store: Store) -> None:
    spec = load_spec(write_project(tmp_path / "p", train={"max_length": 100}))
    said(store, asked(store, "long", "word " * 400), "billing")
    said(store, asked(store, "empty", "  "), "billing")
    collected = collect_corrections(spec, store)
    assert {each.capture: (each.reason, each.detail) for each in collected.rejected} == {
        "long": ("can't be trained on", "finding D020"),
        "empty": ("can't be trained on", "finding D001"),
    }


def test_a_growth_that_ends_between_folder_and_database_neither_loses_nor_doubles_a_row(
    spec: Spec, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(store, "c1")
    for person, answer in (("anna", "defect"), ("ben", "defect"), ("carla", "refund")):
        said(store, "c1", answer, person)
    real, calls = growth.reconcile, []

    def killed(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(growth, "reconcile", killed)
    with pytest.raises(KeyboardInterrupt):
        collect_corrections(spec, store)
    monkeypatch.undo()
    assert datasets(store) == [None, None, None]
    assert len(rows(spec)) == 1
    collected = collect_corrections(spec, store)
    assert (collected.number, collected.rows, collected.recovered, collected.rejected) == (None, 0, 3, [])
    assert datasets(store) == [1, 1, 1]
    assert corrections_in(spec.corrections_folder).number == 1


def test_a_dry_run_writes_and_marks_nothing(spec: Spec, store: Store) -> None:
    said(store, asked(store, "c1"), "defect")
    collected = collect_corrections(spec, store, dry_run=True)
    assert (collected.number, collected.rows) == (None, 1)
    assert datasets(store) == [None]
    assert not spec.corrections_folder.exists()


def test_a_later_review_that_says_otherwise_is_held_back_and_undone_rows_are_told(spec: Spec, store: Store) -> None:
    said(store, asked(store, "c1"), "defect", "anna")
    collect_corrections(spec, store)
    for person in ("ben", "carla"):
        said(store, "c1", "refund", person)
    collected = collect_corrections(spec, store)
    assert rejected(collected) == {"c1": "contradicts the corrections"}
    with store.session() as session:
        session.scalars(select(Review).where(Review.reviewer == "anna")).one().undone = NOW
    assert collect_corrections(spec, store).retracted == 1


def test_where_the_corrections_are_moved_away_the_reviews_decide_anew(spec: Spec, store: Store) -> None:
    said(store, asked(store, "c1"), "defect", "anna")
    said(store, asked(store, "c2"), "refund", "anna")
    collect_corrections(spec, store)
    with store.session() as session:
        session.scalars(select(Review).where(Review.capture_id == "c1")).one().undone = NOW
    spec.corrections_folder.rename(spec.folder / "old")
    assert texts(rows(spec, collect_corrections(spec, store).number or 0)) == [("c2", "refund")]
    assert datasets(store) == [None, 1]


def test_versions_name_the_one_before_and_an_edit_by_hand_is_refused(spec: Spec, store: Store) -> None:
    for number in (1, 2):
        said(store, asked(store, f"c{number}"), "defect")
        assert collect_corrections(spec, store).number == number
    first, second = (spec.corrections_folder / str(number) / "version.json" for number in (1, 2))
    assert json.loads(second.read_text())["previous"] is not None
    file = first.with_name("rows.jsonl")
    whole = file.read_text()
    file.write_text(whole.replace("defect", "refund"))
    with pytest.raises(UserError, match=r"corrections/1/rows.jsonl: This file of the corrections was edited.*move all"):
        collect_corrections(spec, store)
    file.write_text(whole)
    first.write_text(first.read_text().replace('"rows": 1', '"rows": 2'))
    with pytest.raises(UserError, match="Version 2 of the corrections does not follow version 1"):
        collect_corrections(spec, store)


@pytest.mark.parametrize("source", ["mallory", "reviewer:", "reviewers:mallory"])
def test_what_is_no_source_can_not_be_included(spec: Spec, source: str, tmp_path: Path) -> None:
    store = open_at(f"sqlite:///{tmp_path / 'monitor.db'}")
    with pytest.raises(
        UserError, match=rf"--include: '{source}' is not a source. Name it as printed: reviewer:…, key:…"
    ):
        collect_corrections(spec, store, include=[source])
    store.close()


def test_captures_of_another_model_in_the_same_database_are_left_alone(spec: Spec, store: Store) -> None:
    said(store, asked(store, "c1", model="invoices"), "defect")
    assert collect_corrections(spec, store).rows == 0


def test_records_are_written_in_their_one_form_and_nearly_equal_texts_are_no_copies(
    tmp_path: Path, store: Store
) -> None:
    (tmp_path / "train.jsonl").write_text(
        '{"text": "Invoice A-17, total 12.50", "label": {"number": "A-17", "total": 12.5}}\n'
    )
    spec = make_spec(tmp_path, task=RECORD)
    model_said = '{"number":"A-18","total":13}'
    said(store, asked(store, "c1", "Invoice A-18, total 13.50", model_said), '{"total": 13.50, "number": "A-18"}')
    said(store, asked(store, "c2", "Invoice A-19, total 14.50", model_said), '{"number": "A-19"}')
    said(store, asked(store, "c3", "Invoice A-17, total 12.50", model_said), '{"total": 12.5, "number": "A-17"}')
    collected = collect_corrections(spec, store)
    assert texts(rows(spec)) == [("c1", '{"number":"A-18","total":13.5}')]
    assert rejected(collected) == {"c2": "no answer of this task", "c3": "adds nothing"}
    assert collected.answers == {}


def test_written_answers_are_taken_without_the_space_around_them(tmp_path: Path, store: Store) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "Hello?", "label": "Hello."}\n')
    spec = make_spec(tmp_path, task={"kind": "generate", "instruction": "Answer.", "stop": ["END"]})
    said(store, asked(store, "c1", "Where is it?", "No."), " It is on its way.\r\nEND of it")
    said(store, asked(store, "c2", "When is it?", "No."), " END")
    assert rejected(collect_corrections(spec, store)) == {"c2": "no answer of this task"}
    assert texts(rows(spec)) == [("c1", "It is on its way.")]


def test_of_several_labels_a_row_lists_are_written_in_their_one_form_and_labels_are_counted(
    tmp_path: Path, store: Store
) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "where is my parcel", "label": "billing; refund"}\n')
    task = {"kind": "multi_label", "instruction": "Which hold?", "labels": LABELS}
    spec = make_spec(tmp_path, task=task, data={"train": "train.jsonl", "separator": ";"})
    said(store, asked(store, "c1", answer="[]"), '["refund", "billing"]')
    said(store, asked(store, "c2", answer='["billing"]'), '["cancel"]')
    said(store, asked(store, "c3", "where is my parcel", "[]"), '["refund","billing"]')
    said(store, asked(store, "c4", answer='["billing"]'), "[]")
    collected = collect_corrections(spec, store)
    assert texts(rows(spec)) == [("c1", '["billing","refund"]'), ("c4", "[]")]
    assert rejected(collected) == {"c2": "a label that the spec does not have", "c3": "adds nothing"}
    assert collected.answers == {"billing": 1, "refund": 1}

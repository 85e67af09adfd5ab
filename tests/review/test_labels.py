"""People answer requests that have no answer: nobody sees what a teacher says, and some are asked of two people."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import select

from tests.conftest import LABELS
from tests.monitoring.captures import capture, review
from tests.monitoring.reviewing import EXTRACT, GENERATE, Browser, site_with
from tunewright.labelling.people import PeoplesAnswer, answers_of_people, ask_people
from tunewright.labelling.requests import Unlabelled
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import Capture, label_queue_of
from tunewright.review.site import Site

pytestmark = pytest.mark.slow

ROWS = [Unlabelled(str(number), f"request {number}\0") for number in range(4)]
NAME = "tickets"
SEVERAL = {"kind": "multi_label", "instruction": "Name them.", "labels": LABELS}


def site(store: Store, task: object = None) -> Site:
    ask_people(store, NAME, ROWS[:3], {"0"}, ROWS[3:])
    made = site_with(store, task) if task else site_with(store)
    made.model, made.labels = label_queue_of(NAME), True
    return made


def test_requests_are_shown_without_any_answer_and_the_sample_comes_first(store: Store) -> None:
    ann = Browser(site(store))
    page = ann.get("/").text
    assert "request 0" in page
    assert "Drawn at random" in page
    for hidden in ("The model's answer", "Doubt", "Right <kbd>", "version"):
        assert hidden not in page
    ann.submit(f"/item/{ann.shown()}", answer=LABELS[1])
    ann.submit(f"/item/{ann.shown()}", say="none")
    ann.submit(f"/item/{ann.shown()}", answer=LABELS[0])
    page = ann.get("/").text
    assert "The teachers disagree" in page
    assert "request 3" in page
    ann.submit(f"/item/{ann.shown()}", answer=LABELS[2])
    assert "tunewright label" in ann.get("/").text
    said = answers_of_people(store, NAME, ROWS)
    assert said["0"] == PeoplesAnswer(LABELS[1], (LABELS[1],), is_settled=False)
    assert {each.answer for each in said.values()} == {LABELS[1], None, LABELS[0], LABELS[2]}
    assert "Answers that reviewers call right" not in ann.get("/overview").text


def test_some_wait_for_two_people_and_their_differences_for_a_third_word(store: Store) -> None:
    made = site(store)
    ann, bob = Browser(made), Browser(made, "bob")
    first = ann.shown()
    ann.submit(f"/item/{first}", answer=LABELS[0])
    with store.session() as session:
        assert session.get_one(Capture, first).state == "open"
    assert "hidden until" in bob.get("/history").text
    assert bob.shown() == first
    bob.submit(f"/item/{first}", answer=LABELS[1])
    said = answers_of_people(store, NAME, ROWS)["0"]
    assert (said.answer, said.first, said.is_open) == (None, (LABELS[0], LABELS[1]), True)
    ann.submit(f"/item/{first}", answer=LABELS[1])
    said = answers_of_people(store, NAME, ROWS)["0"]
    assert (said.answer, said.first, said.is_settled) == (LABELS[1], (LABELS[0], LABELS[1]), True)


def test_records_are_written_into_an_empty_field(store: Store) -> None:
    page = Browser(site(store, EXTRACT)).get("/").text
    assert "Write the answer" in page
    assert "Correct it here" not in page


@pytest.mark.parametrize("section", [SEVERAL, EXTRACT, GENERATE])
def test_what_is_left_empty_is_no_answer(store: Store, section: dict[str, object]) -> None:
    """The field has no answer in it that somebody who only goes on would save."""
    ann = Browser(site(store, section))
    page = ann.get("/").text
    assert re.findall(r"<textarea[^>]*>\n(.*)</textarea>", page) == [""]
    assert "data-save" not in page, "the script would call what is unchanged right"
    shown = ann.shown()
    for say, written in (("written", ""), ("written", " \r\n"), ("right", "")):
        assert ann.submit(f"/item/{shown}", say=say, answer=written).status_code == 422
    assert answers_of_people(store, NAME, ROWS) == {}


def test_that_no_label_holds_is_said(store: Store) -> None:
    ann = Browser(site(store, SEVERAL))
    assert "(none)" in ann.get("/").text
    ann.submit(f"/item/{ann.shown()}", say="written", answer="(none)")
    assert answers_of_people(store, NAME, ROWS)["0"] == PeoplesAnswer("[]", ("[]",), is_settled=False)


def test_asking_again_changes_nothing(store: Store) -> None:
    site(store)
    ask_people(store, NAME, ROWS[:3], set(), ROWS[3:])
    with store.session() as session:
        captures = session.scalars(select(Capture).where(Capture.model == label_queue_of(NAME))).all()
        assert sorted(each.priority for each in captures) == [1.0, 2.0, 2.0, 3.0]
        assert all("\0" not in each.request for each in captures)


def test_what_was_disputed_and_is_drawn_now_comes_with_the_sample(store: Store) -> None:
    made = site(store)
    ask_people(store, NAME, ROWS, {"0", "1"}, [])
    with store.session() as session:
        captures = session.scalars(select(Capture).where(Capture.model == label_queue_of(NAME))).all()
        priorities = {each.request[:-1]: each.priority for each in captures}
    assert priorities == {"request 0": 3.0, "request 1": 2.0, "request 2": 2.0, "request 3": 2.0}
    ann = Browser(made)
    for _ in ROWS:
        assert "Drawn at random" in ann.get("/").text
        ann.submit(f"/item/{ann.shown()}", answer=LABELS[0])


@pytest.mark.parametrize(("section", "answers"), [(SEVERAL, ("billing", "refund")), (GENERATE, ("One.", "Two."))])
def test_people_who_write_different_answers_do_not_agree(
    store: Store, section: dict[str, object], answers: tuple[str, str]
) -> None:
    """No answer of a model is there that both could call wrong."""
    made = site(store, section)
    ann, bob = Browser(made), Browser(made, "bob")
    first = ann.shown()
    for browser, answer in ((ann, answers[0]), (bob, answers[1])):
        browser.submit(f"/item/{first}", say="written", answer=answer)
    page = ann.get("/agreement").text
    assert "<td>0 %</td>" in page
    assert "Same answer" in page and "Same verdict" not in page
    assert "hardly ever write the same text" not in page


def test_sets_of_labels_are_compared_where_a_model_has_answered(store: Store) -> None:
    asked = capture(0, answer="[]")
    with store.session() as session:
        session.add(asked)
        session.add(review(asked, "ann", '["billing"]'))
        session.add(review(asked, "bob", '["refund"]'))
    page = Browser(site_with(store, SEVERAL)).get("/agreement").text
    assert "<td>0 %</td>" in page
    assert "Same answer" in page

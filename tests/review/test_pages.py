from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, text, update

from tests.conftest import LABELS, unalike, write_project
from tests.monitoring.captures import NOON, capture, opinion, review
from tests.monitoring.reviewing import EXTRACT, GENERATE, Browser, site_with
from tunewright.config import load_spec
from tunewright.monitoring.corrections import collect_corrections
from tunewright.monitoring.queue import appraise
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.database import open_at
from tunewright.monitoring.store.tables import Alarm, Capture, Deployment, Review, Tally
from tunewright.review.pages import SHORT

pytestmark = pytest.mark.slow

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }} \u202egnp"


def put(store: Store, *captures: Capture) -> list[str]:
    with store.session() as session:
        session.add_all(captures)
        session.flush()
        appraise(session, captures, None)
    return [each.id for each in captures]


def reviews(store: Store) -> list[tuple[str, str | None, bool, str]]:
    with store.session() as session:
        found = session.scalars(select(Review).where(Review.undone.is_(None)).order_by(Review.number))
        return [(each.reviewer, each.answer, each.right, each.source) for each in found]


def said(page: str) -> str:
    return html.unescape(re.findall(r'class="said"[^>]*>(.*?)</p>', page)[0])


def test_the_most_urgent_is_shown_and_the_next_follows(store: Store) -> None:
    ids = put(store, capture(0, "one", confidence=0.9), capture(1, "two", confidence=0.2), capture(2, confidence=0.5))
    ann = Browser(site_with(store))
    assert ann.shown() == ids[1]
    page = ann.submit(f"/item/{ids[1]}", say="right").text
    assert said(page) == "Saved: billing."
    assert f"/item/{ids[2]}" in page
    page = ann.submit(f"/item/{ids[2]}", answer="refund", comment="twice").text
    assert said(page) == "Saved: refund."
    ann.submit(f"/item/{ids[0]}", say="none")
    assert "Nothing waits for you" in ann.get("/").text
    assert reviews(store) == [
        ("ann", "billing", True, "review"),
        ("ann", "refund", False, "review"),
        ("ann", None, False, "review"),
    ]


def test_what_is_passed_over_comes_again_at_the_end(store: Store) -> None:
    high, low = put(store, capture(0, confidence=0.1), capture(1, confidence=0.9))
    ann = Browser(site_with(store))
    page = ann.get(f"/?after={high}").text
    assert f'action="/item/{low}"' in page
    page = ann.submit(f"/item/{low}", say="right", after=high).text
    assert f'action="/item/{high}"' in page
    assert "that you skipped" in said(page)


def test_each_label_has_its_key_and_its_meaning(store: Store) -> None:
    put(store, capture())
    page = Browser(site_with(store)).get("/").text
    for key, label in zip("123", ("billing", "defect", "refund"), strict=True):
        assert re.search(f'value="{label}" data-key="{key}"', page)
    assert 'title="wants money back"' in page


def test_what_others_think_is_shown_but_no_other_review(store: Store) -> None:
    asked = capture()
    put(store, asked)
    with store.session() as session:
        session.add_all([opinion(asked, "billing"), opinion(asked, "refund", "v0")])
        session.add(review(asked, "shop", "defect", source="feedback", comment="no lamp"))
        session.add(review(asked, "bob", "refund", comment="Bob's own", act="x"))
    ann = Browser(site_with(store, wanted=2))
    page = html.unescape(ann.get("/").text)
    assert "says the same" in page
    assert "no lamp" in page
    assert "Bob's own" not in page, "a second opinion is one only if it does not know the first"
    page = html.unescape(ann.submit(f"/item/{asked.id}", say="right").text)
    assert "Bob's own" in html.unescape(ann.get(f"/item/{asked.id}").text)


def test_hostile_text_is_text_everywhere(store: Store) -> None:
    asked = [capture(number, HOSTILE, HOSTILE, by=HOSTILE[:120], version=HOSTILE[:120]) for number in range(3)]
    put(store, *asked)
    with store.session() as session:
        session.add(opinion(asked[0], HOSTILE + "!", HOSTILE[:120]))
        session.add(review(asked[0], HOSTILE[:120], HOSTILE + "?", source="feedback", comment=HOSTILE))
        session.add(review(asked[1], HOSTILE[:120], HOSTILE + "?", comment=HOSTILE, act="x"))
        session.add(review(asked[1], "bob", HOSTILE, comment=HOSTILE, act="y"))
        session.execute(update(Capture).where(Capture.id == asked[1].id).values(state="conflict"))
        session.add(Alarm(time=NOON, model="tickets", version=HOSTILE[:120], kind="<script>", detail={}))
        session.add(Deployment(time=NOON, model="tickets", version="<img>", event="<b>", by=HOSTILE[:120], detail={}))
    root = Browser(site_with(store), role="admin")
    root.submit("/item/" + asked[2].id, answer=HOSTILE, comment=HOSTILE)
    paths = [
        "/",
        f"/item/{asked[0].id}",
        f"/item/{asked[1].id}",
        f"/alike/{asked[0].id}",
        "/history",
        "/agreement",
        "/overview",
        f"/item/{HOSTILE}",
        f"/sign-in?to={HOSTILE}",
    ]
    for path in paths:
        page = root.get(path).text
        assert "<script>" not in page, path
        assert "<img" not in page, path
        assert "49" not in re.sub(r"\w{24,}", "", page), path
    assert html.escape(HOSTILE) in root.get(f"/item/{asked[0].id}").text.replace("&#34;", "&quot;")


def test_a_long_request_is_shown_in_part_and_whole_if_asked(store: Store) -> None:
    (asked,) = put(store, capture(0, "word " * 200_000 + "the end"))
    ann = Browser(site_with(store))
    page = ann.get("/").text
    assert len(page) < SHORT + 12_000
    assert "The first 4,000 of 1,000,007 characters" in page
    assert "the end" not in page
    whole = ann.get(f"/item/{asked}?whole=true").text
    assert "the end" in whole
    assert "Show all" not in whole
    assert len(ann.get("/history").text) < 10_000


def test_a_record_that_does_not_fit_the_schema_is_told_in_place_and_nothing_is_lost(store: Store) -> None:
    (asked,) = put(store, capture(0, "ACME total 12", '{"total":12}'))
    ann = Browser(site_with(store, EXTRACT))
    assert '"total": 12\n}' in html.unescape(ann.get("/").text), "a line for each field"
    for wrong, why in (
        ('{"total": "many",\n "vendor": "A<b>"}', "total"),
        ("{", "not JSON"),
        ("", "JSON"),
        ('{"vendor": "x"}', "required"),
        ('{"total": 1, "total": 2}', "twice"),
    ):
        page = ann.submit(f"/item/{asked}", say="written", answer=wrong, comment="a note")
        assert page.status_code == 422
        shown = html.unescape(page.text)
        assert why in re.findall(r'id="unfit" role="alert">(.*?)</p>', shown)[0]
        assert wrong in shown
        assert "<b>" not in page.text.replace("<b>tickets</b>", "")
        assert 'value="a note"' in shown
        assert 'aria-invalid="true"' in shown
    assert reviews(store) == []
    ann.submit(f"/item/{asked}", say="written", answer='{ "vendor" : "ACME  Ltd", "total":13 }')
    assert reviews(store) == [("ann", '{"total":13,"vendor":"ACME Ltd"}', False, "review")]


def test_an_answer_that_is_left_as_it_is_counts_as_right(store: Store) -> None:
    ids = put(store, capture(0, "a", '{"total":12}'), capture(1, "b", "not a record"))
    ann = Browser(site_with(store, EXTRACT))
    ann.submit(f"/item/{ids[0]}", say="written", answer='{\r\n  "total": 12\r\n}')
    assert reviews(store) == [("ann", '{"total":12}', True, "review")]
    page = ann.get(f"/item/{ids[1]}").text
    assert "not an answer of this task" in page
    assert ann.submit(f"/item/{ids[1]}", say="right").status_code == 422
    assert len(reviews(store)) == 1


def test_free_text_is_corrected(store: Store) -> None:
    (asked,) = put(store, capture(0, "Where is it?", "\nOn its way.\n\nBye"))
    ann = Browser(site_with(store, GENERATE))
    assert ann.submit(f"/item/{asked}", say="written", answer=" \n").status_code == 422
    ann.submit(f"/item/{asked}", say="written", answer="It arrives\r\ntomorrow.")
    assert reviews(store) == [("ann", "It arrives\ntomorrow.", False, "review")]


def test_alike_requests_are_answered_at_once_and_undone_at_once(store: Store) -> None:
    ids = put(
        store,
        *(capture(number, "Where is my parcel" + "!" * number) for number in range(5)),
        capture(9, "Another matter altogether"),
    )
    with store.session() as session:
        session.execute(update(Capture).where(Capture.id == ids[4]).values(answer="refund"))
    ann, bob = Browser(site_with(store)), Browser(site_with(store), "bob")
    assert "5 alike" in ann.get(f"/item/{ids[0]}").text
    page = ann.get(f"/alike/{ids[0]}").text
    ticked = re.findall(r'value="(\w{32})"[^>]*checked', page)
    assert sorted(ticked) == ids[:4], "those that were answered alike"
    bob.submit(f"/item/{ids[1]}", answer="defect")
    page = ann.submit(f"/alike/{ids[0]}", answer="refund", id=ticked).text
    assert said(page) == (
        "Saved 3 alike: refund. 1 stay unchanged: they were reviewed meanwhile, or their answer can't be right."
    )
    assert {row for row in reviews(store) if row[0] == "ann"} == {("ann", "refund", False, "bulk")}
    page = ann.submit("/undo").text
    assert said(page) == "Undone: 3 reviews."
    assert reviews(store) == [("bob", "defect", False, "review")]
    ann.submit(f"/alike/{ids[0]}", say="right", id=[ids[0], ids[4]])
    assert [row[1:] for row in reviews(store)[1:]] == [("billing", True, "bulk"), ("refund", True, "bulk")]


def test_who_undoes_what_the_corrections_contain_is_told_how_to_take_it_out(store: Store, tmp_path: Path) -> None:
    spec = load_spec(write_project(tmp_path / "project"))
    (asked,) = put(store, capture(0, unalike("asked")))
    ann = Browser(site_with(store))
    ann.submit(f"/item/{asked}", answer="refund")
    assert collect_corrections(spec, store).answers == {"refund": 1}
    assert said(ann.submit("/undo").text) == (
        "Undone. The corrections contain it and never change. To take it out, move their folder away and type: "
        "tunewright monitor corrections PROJECT"
    )
    ann.submit(f"/item/{asked}", answer="defect")
    assert collect_corrections(spec, store).reasons == {"contradicts the corrections": 1}
    spec.corrections_folder.rename(tmp_path / "moved away")
    assert collect_corrections(spec, store).answers == {"defect": 1}


def test_nothing_ticked_saves_nothing(store: Store) -> None:
    ids = put(store, *(capture(number) for number in range(2)))
    page = Browser(site_with(store)).submit(f"/alike/{ids[0]}", say="right")
    assert page.status_code == 422
    assert "nothing is ticked" in page.text


def test_who_comes_second_is_told_who_was_first_and_keeps_what_he_wrote(store: Store) -> None:
    (asked,) = put(store, capture(0, "ACME total 12", '{"total":12}'))
    site = site_with(store, EXTRACT)
    ann, bob = Browser(site), Browser(site, "bob")
    ann.get("/")
    bob.submit(f"/item/{asked}", say="written", answer='{"total":14}')
    late = ann.submit(f"/item/{asked}", say="written", answer='{"total":13}')
    assert late.status_code == 409
    assert "bob was first" in late.text
    assert "total&#34;:13" in late.text
    assert [row[0] for row in reviews(store)] == ["bob"]


def test_two_people_are_not_shown_the_same_request(store: Store) -> None:
    ids = put(store, capture(0, confidence=0.1), capture(1, confidence=0.5))
    site = site_with(store)
    ann, bob, cleo = Browser(site), Browser(site, "bob"), Browser(site, "cleo")
    assert [ann.shown(), bob.shown(), ann.shown(), bob.shown()] == [*ids, *ids]
    assert cleo.shown() == ids[0], "rather what another looks at than nothing"


def test_where_two_are_wanted_both_are_kept_and_what_they_differ_on_is_settled(store: Store) -> None:
    ids = put(store, *(capture(number, f"matter {number} " * 5) for number in range(3)))
    site = site_with(store, wanted=2)
    ann, bob, cleo = Browser(site), Browser(site, "bob"), Browser(site, "cleo")
    for number, asked in enumerate(ids):
        ann.submit(f"/item/{asked}", say="right")
        bob.submit(f"/item/{asked}", answer="refund" if number == 2 else "billing")
    assert "Nothing waits for you" in cleo.get("/").text
    page = html.unescape(cleo.get("/agreement").text)
    assert "ann and bob" in page
    assert "67 %" in page
    assert f"/item/{ids[2]}" in page
    both = cleo.get(f"/item/{ids[2]}").text
    assert "<b>ann</b> says that it is right" in both
    cleo.submit(f"/item/{ids[2]}", answer="refund")
    assert reviews(store)[-1] == ("cleo", "refund", False, "settle")
    assert "There are no conflicts." in cleo.get("/agreement").text


def test_history_tells_who_said_what_and_what_was_undone(store: Store) -> None:
    ids = put(store, *(capture(number) for number in range(2)))
    site = site_with(store)
    ann, root = Browser(site), Browser(site, "root", "admin")
    ann.submit(f"/item/{ids[0]}", answer="refund", comment="said twice")
    act = re.findall(r'name="act" value="(\w+)"', ann.get("/history").text)[0]
    assert 'name="act"' not in Browser(site, "bob").get("/history").text
    page = root.submit("/undo", act=act).text
    assert "undone by root" in page
    assert "said twice" in page
    assert 'name="act"' not in page
    assert ann.shown() in ids


def test_history_tells_nothing_that_would_lead_who_reviews_next(store: Store) -> None:
    asked = capture(0, "Where is it?")
    other = capture(1, "Is it done?")
    put(store, asked, other)
    site = site_with(store, wanted=2)
    ann, bob, lea = Browser(site), Browser(site, "bob"), Browser(site, "lea", "reader")
    with store.session() as session:
        session.add(review(asked, "shop", "refund", source="feedback", comment="who asked"))
    bob.submit(f"/item/{asked.id}", answer="defect", comment="a first opinion")
    bob.submit(f"/item/{other.id}", answer="defect", comment="a slip")
    bob.submit("/undo")

    def shown(browser: Browser) -> list[bool]:
        page = browser.get("/history").text
        assert "Where is it?" in page
        assert "bob" in page
        assert "who asked" in page, "which the request's own page shows, too"
        return [part in page for part in ("defect", "a first opinion", "a slip")]

    assert shown(bob) == [True] * 3
    assert shown(ann) == shown(lea) == shown(Browser(site, "root", "admin")) == [False] * 3
    ann.submit(f"/item/{asked.id}", say="right")
    assert shown(ann) == [True, True, False]
    assert shown(lea) == [True, True, False], "nobody is to review it any more"


def test_history_is_read_page_by_page(store: Store) -> None:
    asked = [capture(number, f"request {number}.") for number in range(120)]
    put(store, *asked)
    with store.session() as session:
        session.add_all(review(each, "ann", act=str(number)) for number, each in enumerate(asked))
    ann, seen, path = Browser(site_with(store)), [], "/history"
    while found := re.findall(r">request (\d+)\.<", page := ann.get(path).text):
        seen += map(int, found)
        path = re.findall(r'href="(/history\?before=\d+)"', page)[0]
    assert seen == list(reversed(range(120)))
    assert ann.get("/history?before=9999999999999999999999").status_code == 404


def test_the_overview_tells_where_the_model_stands(store: Store) -> None:
    asked = [capture(number) for number in range(10)]
    put(store, *asked)
    with store.session() as session:
        session.add(Tally(day=NOON.date(), model="tickets", version="v1", answered=12_345))
        session.add(Alarm(time=NOON, model="tickets", version="v1", kind="vocabulary", detail={}, ended=NOON))
        session.add(Deployment(time=NOON, model="tickets", version="v1", event="promoted", by="ann", detail={}))
    ann = Browser(site_with(store))
    for each in asked[:4]:
        ann.submit(f"/item/{each.id}", answer="billing" if each is not asked[0] else "refund")
    ann.submit(f"/item/{asked[4].id}", say="none")  # counts neither as right nor as wrong
    page = ann.get("/overview").text
    for part in ("12,345", "vocabulary", "gone since 2026-11-27", "promoted", "75 %", "50.0 %"):
        assert part in page


def test_another_models_requests_are_not_there(store: Store) -> None:
    (other,) = put(store, capture(0, model="others"))
    ann = Browser(site_with(store))
    assert "Nothing waits" in ann.get("/").text
    for path in (f"/item/{other}", f"/alike/{other}"):
        assert ann.get(path).status_code == 404
        assert ann.submit(path, say="right", id=[other]).status_code == 404


@pytest.mark.parametrize("path", ["/item/%00", "/?after=%00", "/item/" + "x" * 500, "/alike/%F0%9F%93%A6", "/nothing"])
def test_addresses_that_make_no_sense_are_no_fault(path: str, store: Store) -> None:
    put(store, capture())
    assert Browser(site_with(store)).get(path).status_code in (200, 404)


def test_a_sign_that_postgresql_does_not_take_is_left_out(store: Store) -> None:
    (asked,) = put(store, capture(0, "Where is it?", "On its way."))
    Browser(site_with(store, GENERATE)).submit(f"/item/{asked}", say="written", answer="to\0morrow", comment="a\0b")
    assert reviews(store) == [("ann", "tomorrow", False, "review")]


def test_while_the_database_is_away_people_are_told_and_go_on_when_it_is_back(postgresql: str) -> None:
    server = create_engine(
        postgresql.format("postgres").replace("postgresql", "postgresql+psycopg", 1), isolation_level="AUTOCOMMIT"
    )

    def run(*statements: str) -> None:
        with server.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))

    run("CREATE DATABASE going")
    store = open_at(postgresql.format("going"))
    (asked,) = put(store, capture())
    ann = Browser(site_with(store))
    assert ann.shown() == asked
    run(
        "ALTER DATABASE going CONNECTION LIMIT 0",
        "ALTER DATABASE going ALLOW_CONNECTIONS false",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'going'",
    )
    for answer in (ann.get("/"), ann.submit(f"/item/{asked}", say="right"), ann.get("/history")):
        assert answer.status_code == 503
        assert "The database does not answer" in answer.text
        assert "host=" not in answer.text
    run("ALTER DATABASE going ALLOW_CONNECTIONS true", "ALTER DATABASE going CONNECTION LIMIT -1")
    assert ann.submit(f"/item/{asked}", say="right").is_success
    assert reviews(store) == [("ann", "billing", True, "review")]
    store.close()
    server.dispose()


def test_labels_beyond_the_keys_are_found_by_typing(store: Store) -> None:
    put(store, capture(0, answer="label 0"))
    many = {"kind": "classify", "instruction": "Which?\n{labels}", "labels": [f"label {n}" for n in range(77)]}
    page = Browser(site_with(store, many)).get("/").text
    assert page.count('name="answer"') == 77
    keys = re.findall(r'name="answer" value="label \d+" data-key="(\w)"', page)
    assert len(keys) == len(set(keys)) == 31
    assert not set("nulx") & set(keys)
    assert "data-filter" in page


def test_json_of_another_kind_is_shown_as_it_was_answered(store: Store) -> None:
    (asked,) = put(store, capture(0, "x", json.dumps({"total": 1})[:-1]))
    assert "{&#34;total&#34;: 1" in Browser(site_with(store, EXTRACT)).get(f"/item/{asked}").text


def test_several_labels_are_corrected_a_line_each(store: Store) -> None:
    several = {"kind": "multi_label", "instruction": "Which hold?", "labels": LABELS}
    ids = put(
        store, capture(0, "Pay me back", '["billing"]'), capture(1, "Hello", "[]"), capture(2, "Hi", '["billing"]')
    )
    ann = Browser(site_with(store, several))
    page = html.unescape(ann.get(f"/item/{ids[0]}").text)
    assert f"A label a line: {', '.join(LABELS)}." in page
    assert ann.submit(f"/item/{ids[0]}", say="written", answer="refund\r\ncancel").status_code == 422
    ann.submit(f"/item/{ids[0]}", say="written", answer=" refund\r\n\r\nbilling")
    assert "(none)" in ann.get(f"/item/{ids[1]}").text
    ann.submit(f"/item/{ids[1]}", say="written", answer="(none)")
    ann.submit(f"/item/{ids[2]}", say="written", answer="")
    assert reviews(store) == [
        ("ann", '["billing","refund"]', False, "review"),
        ("ann", "[]", True, "review"),
        ("ann", "[]", False, "review"),
    ]


def test_a_models_several_labels_are_right_at_one_press_and_alike_too(store: Store) -> None:
    several = {"kind": "multi_label", "instruction": "Which hold?", "labels": LABELS}
    texts = [f"Pay me back for order {number} please, it never came" for number in range(3)]
    ids = put(store, *(capture(n, text, '["billing"]' if n else "[]") for n, text in enumerate(texts)))
    ann = Browser(site_with(store, several))
    assert "not an answer of this task" not in html.unescape(ann.get(f"/item/{ids[0]}").text)
    ann.submit(f"/item/{ids[0]}", say="right")
    ann.submit(f"/alike/{ids[1]}", say="right", id=ids[1:])
    assert [row[1:3] for row in reviews(store)] == [("[]", True), ('["billing"]', True), ('["billing"]', True)]

"""Who may do what: signing in, roles, forms of other sites, and what browsers are told to hold to."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.monitoring.captures import capture, review
from tests.monitoring.reviewing import Browser, site_with
from tunewright.auth.keys import KeyRing, add_key, remove_key
from tunewright.core.errors import UserError
from tunewright.core.limits import SIGN_IN_TRIES, SMALL_BODY_BYTES
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.database import open_at
from tunewright.monitoring.store.tables import Capture
from tunewright.review import people
from tunewright.review.people import KeyHolders, OneTimeLink, Person
from tunewright.review.site import MOST_FORM_BYTES, Site

FORM = {"say": "right"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """What is asked here depends on no database."""
    opened = open_at(f"sqlite:///{tmp_path / 'monitor.db'}")
    with opened.session() as session:
        session.add_all([capture(0), capture(1)])
    yield opened
    opened.close()


@pytest.fixture
def asked() -> str:
    return f"/item/{capture(0).id}"


class Stranger(Browser):
    """A browser that nobody is signed in with."""

    def __init__(self, site: Site):
        super().__init__(site)
        self.cookies.clear()


def state(store: Store) -> str:
    with store.session() as session:
        return session.get_one(Capture, capture(0).id).state


@pytest.mark.parametrize("path", ["/", "/history", "/agreement", "/overview", "/item/1", "/alike/1"])
def test_a_stranger_sees_nothing_and_comes_back_to_where_he_wanted(path: str, store: Store, tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.json", "ann")
    stranger = Stranger(site_with(store, keys=KeyHolders(KeyRing(tmp_path / "keys.json"))))
    page = stranger.get(path)
    assert "Sign in" in page.text
    assert capture().request not in page.text
    to = re.findall(r'name="to" value="(.*?)"', page.text)[0]
    assert to == path
    assert stranger.post("/sign-in", data={"key": key, "to": to}).url.path == path


def test_a_stranger_changes_nothing(store: Store, asked: str) -> None:
    stranger = Stranger(site_with(store))
    for path in (asked, f"/alike/{capture(0).id}", "/undo", "/sign-out"):
        refused = stranger.submit(path, **FORM, id=capture(0).id)
        assert refused.status_code == 401, path
        assert "nothing was saved" in refused.text
    assert state(store) == "open"


def test_the_link_of_the_terminal_is_good_once(store: Store) -> None:
    link = OneTimeLink(Person("ann", "admin"))
    site = site_with(store, link=link)
    first, second = Stranger(site), Stranger(site)
    assert first.get("/sign-in/link?secret=wrong").status_code == 403
    page = first.get(f"/sign-in/link?secret={link.secret}")
    assert page.url.path == "/"
    assert ">ann <" in page.text
    assert second.get(f"/sign-in/link?secret={link.secret}").status_code == 403
    assert link.secret not in page.text


def test_the_cookie_is_for_this_site_alone(store: Store) -> None:
    for scheme in ("http", "https"):
        link = OneTimeLink(Person("ann", "admin"))
        stranger = Stranger(site_with(store, link=link))
        answer = stranger.get(f"{scheme}://127.0.0.1:8090/sign-in/link?secret={link.secret}", follow_redirects=False)
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert ("secure" in cookie) == (scheme == "https")


def test_keys_let_several_people_in_and_their_names_are_the_reviewers(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    keys = {name: add_key(file, name) for name in ("ann", "root", "lea")}
    site = site_with(store, keys=KeyHolders(KeyRing(file), ["root"], ["lea"]))
    pages = {}
    for name, key in keys.items():
        browser = Stranger(site)
        assert browser.post("/sign-in", data={"key": "tw-wrong"}).status_code == 403
        pages[name] = browser.post("/sign-in", data={"key": key}).text
    assert "(admin)" in pages["root"]
    assert "(reader)" in pages["lea"]
    assert "(admin)" not in pages["ann"]


def test_who_loses_his_key_is_out_at_once(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key = add_key(file, "ann")
    browser = Stranger(site_with(store, keys=KeyHolders(KeyRing(file))))
    assert browser.post("/sign-in", data={"key": key}).url.path == "/"
    remove_key(file, "ann")
    assert browser.get("/").url.path == "/sign-in"


def test_who_signs_out_or_stays_away_is_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_with(store)
    ann, bob = Browser(site), Browser(site, "bob")
    assert ann.submit("/sign-out").url.path == "/sign-in"
    assert ann.get("/").url.path == "/sign-in"
    monkeypatch.setattr(people, "IDLE_SECONDS", -1.0)
    assert bob.get("/").url.path == "/sign-in"


def test_who_guesses_is_slowed_down(store: Store, tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.json", "ann")
    stranger = Stranger(site_with(store, keys=KeyHolders(KeyRing(tmp_path / "keys.json"))))
    statuses = [stranger.post("/sign-in", data={"key": "tw-guess"}).status_code for _ in range(SIGN_IN_TRIES + 1)]
    assert statuses == [403] * SIGN_IN_TRIES + [429]
    assert stranger.post("/sign-in", data={"key": key}).status_code == 429


def test_after_signing_in_nobody_is_led_to_another_site(store: Store, tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.json", "ann")
    site = site_with(store, keys=KeyHolders(KeyRing(tmp_path / "keys.json")))
    for to in ("https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "/\n/evil"):
        answer = Stranger(site).post("/sign-in", data={"key": key, "to": to}, follow_redirects=False)
        assert answer.headers["location"] == "/", to


def test_a_form_of_another_site_saves_nothing(store: Store, asked: str) -> None:
    ann = Browser(site_with(store))
    for csrf in ("", "guessed", Browser(ann.site, "bob").csrf):
        assert ann.post(asked, data={**FORM, "csrf": csrf}).status_code == 403
    assert ann.post(asked, data=FORM).status_code == 403
    for origin in ("https://evil.example", "null", "http://127.0.0.1:9999"):
        answer = ann.post(asked, data={**FORM, "csrf": ann.csrf}, headers={"Origin": origin})
        assert answer.status_code == 403, origin
    assert state(store) == "open"
    assert ann.post(asked, data={**FORM, "csrf": ann.csrf}, headers={"Origin": "http://127.0.0.1:8090"}).is_success
    assert state(store) == "done"


def test_a_get_changes_nothing(store: Store, asked: str) -> None:
    ann = Browser(site_with(store))
    ann.get(asked, params={**FORM, "csrf": ann.csrf})
    assert ann.get("/undo").status_code == 405
    assert state(store) == "open"


def test_a_reader_looks_and_changes_nothing(store: Store, asked: str) -> None:
    reader = Browser(site_with(store), "lea", "reader")
    page = reader.get("/").text
    assert capture().request in page
    assert 'action="/item' not in page
    for path in (asked, f"/alike/{capture(0).id}", "/undo"):
        assert reader.submit(path, **FORM, id=capture(0).id).status_code == 403
    assert state(store) == "open"


def test_only_an_admin_undoes_what_others_said(store: Store) -> None:
    with store.session() as session:
        session.add(review(capture(0), "ann", act="a"))
    site = site_with(store)
    assert Browser(site, "bob").submit("/undo", act="a").status_code == 403
    assert "Undone" in Browser(site, "root", "admin").submit("/undo", act="a").text


def test_every_answer_tells_the_browser_what_to_hold_to(store: Store) -> None:
    ann = Browser(site_with(store))
    for path in ("/", "/nothing", "/sign-in", "/static/review.js", "/static/look.css", "/static/htmx.min.js"):
        headers = ann.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == ("no-cache" if path.startswith("/static") else "no-store")
    for page in ("/", "/history", "/overview", "/agreement", "/sign-in"):
        text = ann.get(page).text
        assert not re.search(r"<style|<script(?! src=\"/static/)|\son\w+=|style=|javascript:|https?://", text), page


def test_what_is_too_large_is_not_read(store: Store, asked: str) -> None:
    ann = Browser(site_with(store))
    assert ann.submit(asked, say="right", comment="x" * MOST_FORM_BYTES).status_code == 413
    assert state(store) == "open"


def test_a_stranger_may_send_little(store: Store) -> None:
    stranger = Stranger(site_with(store))
    assert stranger.post("/sign-in", data={"key": "x" * SMALL_BODY_BYTES}).status_code == 413
    assert stranger.post("/sign-in", data={"key": "x" * 100}).status_code == 403


def test_who_has_many_addresses_of_one_network_guesses_no_more_often(store: Store) -> None:
    site = site_with(store)

    def tried(host: str) -> int:
        browser = Stranger(site)
        browser._transport.client = (host, 50000)
        return browser.post("/sign-in", data={"key": "tw-guess"}).status_code

    statuses = [tried(f"2001:db8:1:2::{number:x}") for number in range(SIGN_IN_TRIES + 1)]
    assert statuses == [403] * SIGN_IN_TRIES + [429]
    assert tried("2001:db8:1:3::1") == 403


def test_a_proxy_is_named_by_its_address() -> None:
    from tunewright.review.server import ReviewAccess

    ReviewAccess("ann", proxies=["127.0.0.1", "::1", "10.0.0.0/8"])
    for wrong in ("proxy.example", "*", "10.0.0.1/8", ""):
        with pytest.raises(UserError, match="is not the address of a proxy"):
            ReviewAccess("ann", proxies=[wrong])


def test_a_clock_that_is_set_back_signs_nobody_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = Browser(site_with(store))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert ann.get("/").url.path == "/"


def test_others_are_not_let_in_without_a_key(tmp_path: Path) -> None:
    from tests.conftest import make_spec
    from tunewright.review.server import ReviewAccess, serve

    for host in ("0.0.0.0", "::", "192.0.2.1", "example.com"):
        with pytest.raises(UserError, match="--keys FILE or --identity FILE"):
            serve(make_spec(tmp_path), host, 0, ReviewAccess("ann"), 1)


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json"])
def test_no_documentation_of_the_interface_is_served(path: str, store: Store) -> None:
    assert Browser(site_with(store)).get(path).status_code == 404

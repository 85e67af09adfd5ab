"""Signing in at an identity provider: a real one in small, that checks what it is sent and signs with real keys."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from sqlalchemy import select

from tests.auth.test_identity import Provider
from tests.monitoring.captures import capture, review
from tests.monitoring.reviewing import Browser, site_with
from tunewright.core.errors import UserError
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.database import open_at
from tunewright.monitoring.store.tables import Review
from tunewright.review import people
from tunewright.review import provider as module
from tunewright.review.provider import SignInProvider
from tunewright.review.site import Site

pytestmark = pytest.mark.slow

BACK = "http://127.0.0.1:8090/sign-in/provider/back"
CLIENT = "review-app"


class SigningIn(Provider):
    """A provider with a sign-in page."""

    def __init__(self) -> None:
        super().__init__()
        self.codes: dict[str, dict[str, str]] = {}
        self.claims: dict[str, Any] = {"preferred_username": "ann@example.com"}
        self.roles = ["Reviewers"]
        self.secret: str | None = None
        provider = self

        def do_post(handler: Any) -> None:
            form = dict(parse_qsl(handler.rfile.read(int(handler.headers["content-length"])).decode()))
            told = provider.redeem(form)
            handler.send_response(200 if told else 400)
            handler.end_headers()
            handler.wfile.write(json.dumps(told or {"error": "invalid_grant"}).encode())

        self.server.RequestHandlerClass.do_POST = do_post

    def answer(self, path: str) -> Any:
        told = super().answer(path)
        if "jwks_uri" in told:
            told |= {"authorization_endpoint": f"{self.issuer}/authorize", "token_endpoint": f"{self.issuer}/token"}
        return told

    def sign_in(self, address: str) -> str:
        """What a person does on the provider's page; returns where the provider sends his browser."""
        asked = dict(parse_qsl(urlsplit(address).query))
        assert address.startswith(f"{self.issuer}/authorize?")
        assert (asked["response_type"], asked["client_id"], asked["redirect_uri"]) == ("code", CLIENT, BACK)
        assert asked["code_challenge_method"] == "S256"
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        return f"{BACK}?{httpx.QueryParams({'code': code, 'state': asked['state']})}"

    def redeem(self, form: dict[str, str]) -> dict[str, str] | None:
        asked = self.codes.pop(form["code"], None)
        if asked is None or form["redirect_uri"] != asked["redirect_uri"] or form["client_id"] != CLIENT:
            return None
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
        if challenge.decode() != asked["code_challenge"] or form.get("client_secret") != self.secret:
            return None
        claims = {"aud": CLIENT, "nonce": asked["nonce"], **self.claims}
        return {"id_token": self.token(*self.roles, **claims), "access_token": "x", "token_type": "Bearer"}


@pytest.fixture
def provider() -> Iterator[SigningIn]:
    provider = SigningIn()
    yield provider
    provider.server.shutdown()
    provider.server.server_close()


@pytest.fixture
def file(provider: SigningIn, tmp_path: Path) -> Path:
    file = tmp_path / "identity.json"
    roles = {"reviewer": ["Reviewers"], "admin": ["Leads", "Owners"], "reader": ["Staff"]}
    file.write_text(json.dumps({"issuer": provider.issuer, "client_id": CLIENT, "roles": roles}), "utf-8")
    return file


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = open_at(f"sqlite:///{tmp_path / 'monitor.db'}")
    with opened.session() as session:
        session.add(capture())
    yield opened
    opened.close()


@pytest.fixture
def site(store: Store, file: Path) -> Site:
    return site_with(store, provider=SignInProvider(file))


def stranger(site: Site) -> Browser:
    browser = Browser(site)
    browser.cookies.clear()
    browser.follow_redirects = False
    return browser


def go(browser: Browser, provider: SigningIn, to: str = "/") -> httpx.Response:
    """Sign in at the provider and come back."""
    left = browser.get("/sign-in/provider", params={"to": to})
    return browser.get(provider.sign_in(left.headers["location"]))


def test_who_signs_in_there_reviews_here_under_his_name(provider: SigningIn, site: Site) -> None:
    browser = stranger(site)
    assert "Sign in with your organisation" in browser.get("/sign-in").text
    back = go(browser, provider, "/history")
    assert back.status_code == 200, "a page of this site, so that the strict cookie goes with the next request"
    assert 'content="0; url=/history"' in back.text
    cookies = back.headers.get_list("set-cookie")
    assert any("samesite=strict" in cookie.lower() and "httponly" in cookie.lower() for cookie in cookies)
    assert ">ann@example.com<" in browser.get("/").text


def test_who_signed_in_there_must_do_so_again_after_a_while_however_active(
    provider: SigningIn, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the provider knows whether he still has a role."""
    began, hours = time.monotonic(), 0
    monkeypatch.setattr(people, "time", SimpleNamespace(monotonic=lambda: began + 3600 * hours))
    browser, with_key = stranger(site), Browser(site, "bob")
    go(browser, provider)
    for hours in range(1, 8):  # noqa: B007 (the clock reads it)
        assert [each.get("/").status_code for each in (browser, with_key)] == [200, 200]
    hours = 8
    assert browser.get("/").headers["location"] == "/sign-in"
    assert with_key.get("/").status_code == 200, "an operator ends the sessions of others"


def reviews(store: Store) -> list[tuple[str, str | None]]:
    with store.session() as session:
        found = session.scalars(select(Review).where(Review.undone.is_(None)).order_by(Review.number))
        return [(each.reviewer, each.answer) for each in found]


def signed_in(site: Site, provider: SigningIn, subject: str, name: str) -> Browser:
    provider.claims |= {"sub": subject, "preferred_username": name}
    browser = stranger(site)
    assert go(browser, provider).status_code == 200
    browser.csrf = re.findall(r'name="csrf" value="(.*?)"', browser.get("/overview").text)[0]
    return browser


def test_who_changes_his_name_stays_who_he_was(provider: SigningIn, site: Site, store: Store) -> None:
    site.wanted = 2
    asked = f"/item/{capture().id}"
    signed_in(site, provider, "one", "ann@example.com").submit(asked, answer="refund")
    renamed = signed_in(site, provider, "one", "bob@example.com")
    page = renamed.get("/").text
    assert ">bob@example.com<" in page
    assert "Nothing waits for you" in page
    assert renamed.submit(asked, answer="billing").status_code == 409
    ((reviewer, answer),) = reviews(store)
    assert (reviewer[:17], answer) == ("ann@example.com (", "refund")
    renamed.submit("/undo")
    assert reviews(store) == []


def test_who_takes_the_name_of_another_is_not_he(provider: SigningIn, site: Site, store: Store) -> None:
    site.wanted = 2
    asked = f"/item/{capture().id}"
    signed_in(site, provider, "one", "ann@example.com").submit(asked, answer="refund", comment="for ann's eyes")
    with store.session() as session:
        act = session.scalars(select(Review.act)).one()
    other = signed_in(site, provider, "two", "ann@example.com")
    assert "for ann" not in other.get(asked).text + other.get("/history").text
    assert other.submit("/undo", act=act).status_code == 403
    other.submit("/undo")
    assert len(reviews(store)) == 1
    other.submit(asked, answer="billing")
    (one, _), (two, _) = reviews(store)
    assert one != two
    page = other.get("/history").text
    assert one in page
    assert two in page


def test_what_was_said_under_a_name_before_stays_and_is_not_asked_again(
    provider: SigningIn, site: Site, store: Store
) -> None:
    site.wanted = 2
    asked = f"/item/{capture().id}"
    with store.session() as session:
        session.add(review(capture(), "ann@example.com", "refund", comment="before accounts", act="old"))
    ann = signed_in(site, provider, "one", "ann@example.com")
    assert "Nothing waits for you" in ann.get("/").text
    page = ann.get(asked).text
    assert "Somebody of your name has reviewed this before" in page
    assert "before accounts" not in page, "anybody can take that name"
    late = ann.submit(asked, answer="billing")
    assert late.status_code == 409
    assert "refund" not in re.findall(r'class="wrong" role="alert">(.*?)</p>', late.text, re.DOTALL)[0]
    assert ann.submit("/undo", act="old").status_code == 403
    bob = signed_in(site, provider, "two", "bob@example.com")
    bob.submit(asked, answer="refund")
    assert [name.partition(" ")[0] for name, _ in reviews(store)] == ["ann@example.com", "bob@example.com"]
    page = bob.get("/history").text
    assert "<td>ann@example.com</td>" in page
    assert "before accounts" in page


@pytest.mark.parametrize(
    ("roles", "may"),
    [(["Staff"], "(reader)"), (["Staff", "Reviewers"], ""), (["Owners", "Reviewers"], "(admin)")],
)
def test_the_highest_role_counts(roles: list[str], may: str, provider: SigningIn, site: Site) -> None:
    browser = stranger(site)
    provider.roles = roles
    go(browser, provider)
    page = browser.get("/").text
    assert may in page
    assert ('action="/item' in page) == (may != "(reader)")


def refused(browser: Browser, address: str) -> bool:
    answer = browser.get(address)
    return answer.status_code == 403 and browser.get("/").status_code == 303


def test_who_has_no_role_stays_out(provider: SigningIn, site: Site) -> None:
    browser = stranger(site)
    provider.roles = ["Guests"]
    assert go(browser, provider).status_code == 403
    assert browser.get("/").status_code == 303


def test_a_sign_in_that_another_browser_began_is_refused(provider: SigningIn, site: Site) -> None:
    attacker, victim = stranger(site), stranger(site)
    address = provider.sign_in(attacker.get("/sign-in/provider").headers["location"])
    assert refused(victim, address)
    victim.get("/sign-in/provider")
    assert refused(victim, address)
    assert refused(victim, BACK)


def test_a_return_is_good_once(provider: SigningIn, site: Site) -> None:
    browser = stranger(site)
    address = provider.sign_in(browser.get("/sign-in/provider").headers["location"])
    assert browser.get(address).status_code == 200
    browser.cookies.delete("tunewright-review-8090")
    assert refused(browser, address)


@pytest.mark.parametrize("claims", [{"nonce": "another"}, {"aud": "another-app"}, {"exp": 1}, {"iss": "http://evil"}])
def test_a_token_for_something_else_is_refused(claims: dict[str, Any], provider: SigningIn, site: Site) -> None:
    browser = stranger(site)
    provider.claims |= claims
    assert go(browser, provider).status_code == 403


def test_the_code_is_worth_nothing_without_what_only_this_server_knows(provider: SigningIn, site: Site) -> None:
    browser = stranger(site)
    location = browser.get("/sign-in/provider").headers["location"]
    address = provider.sign_in(location.replace("code_challenge=", "code_challenge=x"))
    assert refused(browser, address)


def test_who_takes_too_long_begins_again(provider: SigningIn, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SECONDS", -1.0)
    assert go(stranger(site), provider).status_code == 403


def test_a_provider_that_goes_away_lets_nobody_in(provider: SigningIn, site: Site) -> None:
    browser = stranger(site)
    address = provider.sign_in(browser.get("/sign-in/provider").headers["location"])
    provider.server.shutdown()
    provider.server.server_close()
    assert refused(browser, address)


def test_an_app_with_a_secret_sends_it(
    provider: SigningIn, file: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(told | {"client_secret": "REVIEW_SECRET"}), "utf-8")
    monkeypatch.delenv("REVIEW_SECRET", raising=False)
    with pytest.raises(UserError, match="REVIEW_SECRET is not set"):
        SignInProvider(file)
    monkeypatch.setenv("REVIEW_SECRET", "s3cret")
    provider.secret = "s3cret"
    assert go(stranger(site_with(store, provider=SignInProvider(file))), provider).status_code == 200


def test_a_file_that_names_no_provider_is_refused(file: Path) -> None:
    told = json.loads(file.read_text("utf-8"))
    for changes in ({"roles": {}}, {"roles": {"boss": ["x"]}}, {"issuer": "http://example.com"}, {"password": "x"}):
        file.write_text(json.dumps(told | changes), "utf-8")
        with pytest.raises(UserError, match=r"names no identity provider.*docs/review\.md"):
            SignInProvider(file)

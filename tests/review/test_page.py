"""The review app in a real browser: with keys alone, in the dark, on a phone, without JavaScript."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from sqlalchemy import select

from tests.fixtures.browser import BROWSER
from tests.monitoring.captures import capture, opinion
from tests.monitoring.reviewing import EXTRACT, GENERATE, site_with
from tunewright.core.processes import listener
from tunewright.monitoring.queue import appraise
from tunewright.monitoring.store.database import open_at
from tunewright.monitoring.store.tables import Capture, Review
from tunewright.review.app import build_app
from tunewright.review.people import Attempts, OneTimeLink, Person

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine; on Debian: apt install chromium"),
]
playwright = pytest.importorskip("playwright.sync_api")
HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)"><svg onload=alert(3)>'

REFUSALS = ("status of 4", "ERR_INTERNET_DISCONNECTED", "htmx:afterRequest", "htmx:sendError", "Response Status Error")
"""What a browser and htmx note where a server refuses something or does not answer."""


class Running:
    """A review app that a browser can reach, and what was saved in it."""

    def __init__(self, folder: Path, section: dict[str, Any] | None, captures: list[Capture]):
        self.store = open_at(f"sqlite:///{folder / 'monitor.db'}")
        with self.store.session() as session:
            session.add_all(captures)
            session.add(opinion(captures[0], HOSTILE))
            session.flush()
            appraise(session, captures, None)
        self.site = site_with(self.store, section)
        bound = listener("127.0.0.1", 0)
        bound.listen()
        self.address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        self.server = uvicorn.Server(uvicorn.Config(build_app(self.site), log_level="warning"))
        self._thread = threading.Thread(target=self.server.run, kwargs={"sockets": [bound]})
        self._thread.start()

    def enter(self, page: playwright.Page) -> None:
        self.site.link, self.site.attempts = OneTimeLink(Person("ann", "reviewer")), Attempts()
        page.goto(f"{self.address}/sign-in/link?secret={self.site.link.secret}")

    def saved(self) -> list[str | None]:
        with self.store.session() as session:
            return list(session.scalars(select(Review.answer).where(Review.undone.is_(None)).order_by(Review.number)))

    def close(self) -> None:
        self.server.should_exit = True
        self._thread.join()
        self.store.close()


Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[Running] = []

    def begin(captures: list[Capture], section: dict[str, Any] | None = None) -> Running:
        running.append(Running(tmp_path, section, captures))
        return running[-1]

    yield begin
    for each in running:
        each.close()


@pytest.fixture
def page(browser: playwright.Browser) -> Iterator[playwright.Page]:
    """A tab. A test fails in which a script of a capture ran, the page broke, or the browser refused something."""
    context = browser.new_context(viewport={"width": 1280, "height": 850})
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    yield opened
    context.close()
    assert [each for each in wrong if not any(part in each for part in REFUSALS)] == []


def tickets() -> list[Capture]:
    """In the queue's order."""
    texts = [
        f"{HOSTILE} Where is my money?",
        "The lamp is broken.",
        "Charged twice!",
        "No light.",
        "Hello",
        "Refund me",
    ]
    return [capture(number, text, confidence=0.1 + 0.15 * number) for number, text in enumerate(texts)]


def press(page: playwright.Page, *keys: str) -> None:
    """Press keys, each when the page has come to rest."""
    for key in keys:
        page.wait_for_selector("body:not(:has(.htmx-request, .htmx-swapping, .htmx-settling))")
        page.keyboard.press(key)


def shows(page: playwright.Page, text: str) -> None:
    page.locator(".text", has_text=text).wait_for(timeout=5000)


def told(page: playwright.Page, text: str) -> None:
    page.locator("#toast", has_text=text).wait_for(timeout=5000)


@pytest.mark.slow
def test_six_requests_are_answered_with_keys_alone(page: playwright.Page, start: Start) -> None:
    app = start(tickets())
    app.enter(page)
    shows(page, "<script>alert(1)</script>")
    press(page, "Enter")
    shows(page, "lamp is broken")
    told(page, "Saved: billing")
    press(page, "2")
    shows(page, "Charged twice")
    press(page, "n")
    shows(page, "No light")
    press(page, "x")
    shows(page, "Hello")
    told(page, "no right answer")
    press(page, "u")
    shows(page, "No light")
    told(page, "Undone")
    press(page, "2")
    shows(page, "Charged twice")
    assert app.saved() == ["billing", "defect", "defect"]
    assert page.evaluate("document.activeElement.id") == "main", "who listens is led to what is new"


@pytest.mark.slow
def test_a_label_is_found_by_typing(page: playwright.Page, start: Start) -> None:
    labels = {f"topic {number}": "" for number in range(76)} | {"lost card": "the customer's card is gone"}
    app = start(tickets(), {"kind": "classify", "instruction": "Which?\n{labels}", "labels": labels})
    app.enter(page)
    press(page, "/")
    page.keyboard.type("card")
    assert page.locator("#labels button:visible").all_inner_texts() == ["lost card"]
    press(page, "Enter")
    shows(page, "lamp is broken")
    assert app.saved() == ["lost card"]
    press(page, "/")
    page.keyboard.type("nothing like it")
    told(page, "No label")
    press(page, "Enter", "Escape")
    assert page.locator("#labels button:visible").count() == 77
    assert app.saved() == ["lost card"]


@pytest.mark.slow
def test_a_record_is_corrected_in_place(page: playwright.Page, start: Start) -> None:
    records = [
        capture(number, f"Invoice {number}", json.dumps({"total": number}), confidence=0.1 + number / 5)
        for number in range(3)
    ]
    app = start(records, EXTRACT)
    app.enter(page)
    save = page.locator("[data-save]")
    assert "Right" in save.inner_text()
    press(page, "e", "Control+A")
    page.keyboard.type('{"total": "many"}')
    assert "Save the correction" in save.inner_text()
    press(page, "Control+Enter")
    page.get_by_role("alert").wait_for()
    assert "'many' is not of type 'number'" in page.get_by_role("alert").inner_text()
    assert page.locator("textarea").input_value() == '{"total": "many"}'
    assert page.evaluate("document.activeElement.id") == "written", "to go on typing"
    press(page, "Control+A")
    page.keyboard.type('{"total": 7, "vendor": "ACME"}')
    press(page, "Control+Enter")
    shows(page, "Invoice 1")
    press(page, "Enter")
    shows(page, "Invoice 2")
    assert app.saved() == ['{"total":7,"vendor":"ACME"}', '{"total": 1}']


@pytest.mark.slow
def test_alike_requests_are_answered_together(page: playwright.Page, start: Start) -> None:
    app = start(
        [capture(number, "Where is my parcel" + "?" * number, confidence=0.2) for number in range(8)]
        + [capture(9, "Something else", confidence=0.9)]
    )
    app.enter(page)
    press(page, "l")
    page.get_by_role("heading", name="8 similar requests").wait_for()
    page.get_by_label("All").uncheck()
    assert page.locator("input[name=id]:checked").count() == 0
    page.get_by_label("All").check()
    page.locator("input[name=id]").first.uncheck()
    press(page, "3")
    told(page, "Saved 7 alike: refund")
    assert app.saved() == ["refund"] * 7
    press(page, "u")
    page.get_by_role("heading", name="8 similar requests").wait_for()
    assert app.saved() == []


@pytest.mark.slow
def test_nothing_is_lost_when_the_server_does_not_answer(page: playwright.Page, start: Start) -> None:
    app = start([capture(0, "Where is it?", "On its way."), capture(1, "And mine?", "Soon.")], GENERATE)
    app.enter(page)
    press(page, "e", "Control+A")
    page.keyboard.type("It arrives tomorrow.")
    page.context.set_offline(True)
    with page.expect_event("console"):  # the browser says itself that it could not send
        press(page, "Control+Enter")
    told(page, "The server does not answer")
    assert page.locator("textarea").input_value() == "It arrives tomorrow."
    page.context.set_offline(False)
    app.site.sessions = type(app.site.sessions)()
    press(page, "Control+Enter")
    told(page, "You are signed out")
    assert page.locator("textarea").input_value() == "It arrives tomorrow."
    assert app.saved() == []


@pytest.mark.slow
def test_single_keys_can_be_switched_off(page: playwright.Page, start: Start) -> None:
    app = start(tickets())
    app.enter(page)
    press(page, "?")
    page.get_by_label("Use single keys").uncheck()
    page.reload()
    press(page, "2", "x", "n")
    page.wait_for_timeout(300)
    assert app.saved() == []
    shows(page, "Where is my money?")


@pytest.mark.slow
def test_it_works_without_javascript(browser: playwright.Browser, start: Start) -> None:
    app = start(tickets())
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    app.enter(page)
    page.get_by_role("button", name="defect").click()
    page.get_by_text("Saved: defect.").wait_for()
    page.get_by_role("button", name="Undo my last").click()
    page.get_by_text("Undone.").wait_for()
    page.get_by_role("link", name="Next").click()
    page.get_by_role("button", name="Right").click()
    assert app.saved() == ["billing"]
    context.close()


PAGES = ("/", "/history", "/agreement", "/overview", f"/alike/{capture(0).id}", f"/item/{capture(0).id}", "/nothing")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_ground(page: playwright.Page, start: Start, scheme: str) -> None:
    """At least 4.5 to 1, as WCAG 2.2 asks at level AA."""
    page.emulate_media(color_scheme=scheme)
    app = start(tickets())
    app.enter(page)
    press(page, "2")
    told(page, "Saved")
    for path in PAGES:
        page.goto(app.address + path)
        assert page.evaluate(CONTRAST) == [], path


@pytest.mark.slow
def test_on_a_phone_nothing_hangs_over(page: playwright.Page, start: Start) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    app = start([*tickets(), capture(20, "x" * 3000, confidence=0.0)])
    app.enter(page)
    press(page, "2")
    told(page, "Saved")
    for path in PAGES:
        page.goto(app.address + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path


@pytest.mark.slow
def test_every_field_and_button_has_a_name(page: playwright.Page, start: Start) -> None:
    app = start(tickets())
    app.enter(page)
    for path in PAGES:
        page.goto(app.address + path)
        nameless = page.evaluate("""() =>
          [...document.querySelectorAll("button, a, input:not([type=hidden]), textarea")]
            .filter(part => !(part.textContent.trim() || part.ariaLabel || part.labels?.length))
            .map(part => part.outerHTML)""")
        assert nameless == [], path
        assert page.locator("h1").count() == 1, path
        assert page.locator("html[lang]").count() == 1


CONTRAST = """() => {
  const rgb = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = colour => {
    const parts = rgb(colour).slice(0, 3).map(part => {
      const share = part / 255;
      return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const ground = part => {
    for (let each = part; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (rgb(colour)[3] !== 0) return colour;
    }
  };
  const faint = [];
  for (const part of document.querySelectorAll("body *")) {
    const says = [...part.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!says || part.disabled || !part.checkVisibility()) continue;
    const shades = [getComputedStyle(part).color, ground(part)].map(luminance);
    const ratio = (Math.max(...shades) + 0.05) / (Math.min(...shades) + 0.05);
    if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} ${part.outerHTML.slice(0, 80)}`);
  }
  return faint;
}"""

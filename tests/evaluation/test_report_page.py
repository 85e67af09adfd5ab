"""The report in a real browser: on a phone, on paper, in the dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pypdfium2 import PdfDocument

from tests.evaluation.made_report import made_report
from tests.fixtures.browser import BROWSER
from tunewright.evaluation.verdict.payer import MOST_LINES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine; on Debian: apt install chromium"),
]

playwright = pytest.importorskip("playwright.sync_api")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_report(tmp_path_factory.mktemp("pages")) / "report.html"


@pytest.fixture
def page(browser: playwright.Browser, report: Path) -> Iterator[playwright.Page]:
    """The report as a phone shows it; a test fails that made the browser ask for anything, or run a script."""
    opened = browser.new_page(viewport={"width": 390, "height": 844})
    asked: list[str] = []
    said: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(report.as_uri())
    yield opened
    opened.close()
    assert [url for url in asked if not url.startswith("file:")] == []
    assert said == []


@pytest.mark.slow
def test_on_a_phone_the_verdict_is_seen_first_and_nothing_hangs_over(page: playwright.Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.locator(".verdict").bounding_box()
    assert box
    assert box["y"] + box["height"] < 844
    wide = page.locator(".scroll table").first.bounding_box()
    assert wide, "a wide table scrolls in its own box"


@pytest.mark.slow
def test_each_part_of_the_report_is_there_in_its_order(page: playwright.Page) -> None:
    titles = page.locator("h2").all_inner_texts()
    expected = [
        "For the person who pays",
        "What that rests on",
        "Why",
        "All ways of answering",
        "What the saving hinges on",
        "Accuracy",
        "If it answered only what it is sure of",
        "Is it as sure as it should be?",
        "Parity: is the served model",
        "What the APIs answer",
        "Where the served model goes wrong",
        "Training",
        "Data",
        "How this was made",
    ]
    assert [title[: len(start)] for title, start in zip(titles, expected, strict=True)] == expected


@pytest.mark.slow
def test_the_page_for_the_one_who_pays_is_the_first_sheet_and_no_more(
    browser: playwright.Browser, tmp_path: Path
) -> None:
    """Ten lines, and all that they can rest on."""
    costs = {"upkeep_usd_per_month": 800, "hourly_usd": 30}
    goal = {"accuracy": 0.95, "margin": 0.1, "accept_worse": True}
    opened = browser.new_page()
    opened.goto((made_report(tmp_path, 0.97, costs=costs, goal=goal) / "report.html").as_uri())
    assert opened.locator(".payer .prose:not(.small) tr").count() == MOST_LINES
    for size in ("A4", "Letter"):
        opened.pdf(path=tmp_path / "report.pdf", format=size)
        with PdfDocument(tmp_path / "report.pdf") as printed:
            first, second = (printed[number].get_textpage().get_text_range() for number in (0, 1))
        for said in ("For the person who pays", "A month now", "What could go wrong", "Has to pay back in", "Yours: "):
            assert said in first
        assert second.startswith("Why")
    opened.close()


@pytest.mark.slow
def test_hostile_texts_are_text(page: playwright.Page) -> None:
    assert page.locator("script").count() == 0
    assert page.locator("img").count() == 0
    assert page.get_by_text('<script>alert("1")</script>').count() > 0


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(page: playwright.Page, scheme: str) -> None:
    """At least 4.5 to 1, as WCAG 2 asks (contrast ratio of relative luminances)."""
    page.emulate_media(color_scheme=scheme)
    ratio = page.evaluate("""() => {
      const luminance = colour => {
        const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(Number).map(part => {
          const share = part / 255;
          return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
      };
      const ground = getComputedStyle(document.body).backgroundColor;
      const shades = ["body", ".soft", ".verdict p", "td"].map(name =>
        luminance(getComputedStyle(document.querySelector(name)).color));
      const behind = luminance(ground);
      return Math.min(...shades.map(shade =>
        (Math.max(shade, behind) + 0.05) / (Math.min(shade, behind) + 0.05)));
    }""")
    assert ratio >= 4.5


@pytest.mark.slow
def test_on_paper_no_table_is_cut_off(page: playwright.Page, tmp_path: Path) -> None:
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 between its margins
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    clipped = page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth)"
    )
    assert clipped == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    file = tmp_path / "report.pdf"
    page.pdf(path=file, format="A4")
    assert file.read_bytes().startswith(b"%PDF")

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable
from typing import Any

import pytest

from tests.documents.samples import words
from tunewright.core.errors import UserError
from tunewright.documents.kinds import text_of
from tunewright.documents.layout import Word
from tunewright.documents.ocr import TSV_HEADER

RECEIPT = """\
SCHUH & SOHN
Rue de l'Église 5        10:42

Lederpflege            7,50
Total                 12,50"""


def hocr(page: list[Word]) -> str:
    spans = "".join(
        f"<span class='ocrx_word' id='word_1_{n}' title='bbox {w.left:.0f} {w.top:.0f} {w.right:.0f} {w.bottom:.0f}; "
        f"x_wconf 95'>{html.escape(w.text)}</span>\n"
        for n, w in enumerate(page)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" '
        '"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">\n<html xmlns="http://www.w3.org/1999/xhtml">\n'
        "<head><title></title><meta name='ocr-system' content='tesseract 5.3.0' /></head>\n<body>\n"
        "<div class='ocr_page' id='page_1' title='image \"in.png\"; bbox 0 0 2480 3508; ppageno 0'>\n"
        f"<div class='ocr_carea'><p class='ocr_par'><span class='ocr_line'>{spans}</span></p></div></div></body></html>"
    )


def alto(page: list[Word], version: int = 4) -> str:
    strings = "".join(
        f'<String CONTENT="{html.escape(w.text)}" HPOS="{w.left}" VPOS="{w.top}" WIDTH="{w.right - w.left}" '
        f'HEIGHT="{w.height}" WC="0.9"/><SP/>'
        for w in page
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><alto xmlns="http://www.loc.gov/standards/alto/ns-v{version}#"><Layout>'
        f'<Page ID="p1"><PrintSpace><TextBlock><TextLine>{strings}</TextLine></TextBlock></PrintSpace></Page>'
        "</Layout></alto>"
    )


def tsv(page: list[Word]) -> str:
    rows = [
        f"5\t1\t1\t1\t1\t{n}\t{w.left}\t{w.top}\t{w.right - w.left}\t{w.height}\t96.5\t{w.text}"
        for n, w in enumerate(page)
    ]
    return "\n".join([TSV_HEADER, "1\t1\t0\t0\t0\t0\t0\t0\t2480\t3508\t-1\t", *rows]) + "\n"


def azure(page: list[Word], angle: float = 0.0) -> str:
    """The layout model's answer for a page with text at an angle."""
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))

    def polygon(w: Word) -> list[float]:
        corners = [(w.left, w.top), (w.right, w.top), (w.right, w.bottom), (w.left, w.bottom)]
        return [number for x, y in corners for number in (x * c - y * s, x * s + y * c)]

    content = [{"content": w.text, "polygon": polygon(w), "confidence": 0.99} for w in page]
    pages = [{"pageNumber": 1, "angle": angle, "unit": "pixel", "words": content, "lines": []}]
    return json.dumps({"status": "succeeded", "analyzeResult": {"apiVersion": "2024-11-30", "pages": pages}})


def plain(page: list[Word]) -> str:
    return json.dumps([{"text": w.text, "box": [w.left, w.top, w.right, w.bottom]} for w in page])


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("page.hocr", hocr),
        ("page.html", hocr),
        ("page", hocr),
        ("page.xml", alto),
        ("page", alto),
        ("page.tsv", tsv),
        ("page", tsv),
        ("page.json", azure),
        ("page", azure),
        ("page.json", plain),
    ],
)
def test_every_format_gives_the_text_as_it_was_typed(name: str, write: Callable[[list[Word]], str]) -> None:
    assert text_of(name, write(words(RECEIPT)).encode()) == RECEIPT


@pytest.mark.parametrize("angle", [-90, -2.5, 5, 90, 179])
def test_azures_angle_is_turned_back(angle: float) -> None:
    assert text_of("page.json", azure(words(RECEIPT), angle).encode()) == RECEIPT


def test_azures_sdk_writes_corners_as_objects() -> None:
    data = json.loads(azure(words(RECEIPT)))["analyzeResult"]
    for word in data["pages"][0]["words"]:
        flat = word["polygon"]
        word["polygon"] = [{"x": x, "y": y} for x, y in zip(flat[::2], flat[1::2], strict=True)]
    assert text_of("page.json", json.dumps(data).encode()) == RECEIPT


@pytest.mark.parametrize("version", [2, 3, 4])
def test_alto_of_every_version(version: int) -> None:
    assert text_of("a.xml", alto(words("one two"), version).encode()) == "one two"


def test_alto_in_utf_16_as_it_declares() -> None:
    assert text_of("a.xml", alto(words("Église")).replace("UTF-8", "UTF-16").encode("utf-16")) == "Église"


def test_a_hyphen_of_alto_stays_at_its_word() -> None:
    text = alto(words("Rech nung")).replace("<SP/>", '<HYP CONTENT="-" HPOS="40" VPOS="0" WIDTH="5"/>', 1)
    assert text_of("a.xml", text.encode()) == "Rech- nung"


def test_lines_of_an_engine_that_knows_no_words() -> None:
    text = "<div class='ocr_page'><span class='ocr_line' title='bbox 0 0 90 10'>one line</span></div>"
    assert text_of("page.hocr", text.encode()) == "one line"


def test_pages_of_every_format_are_joined() -> None:
    two = tsv(words("one")) + tsv(words("two")).replace("\t1\t1\t1\t1\t", "\t2\t1\t1\t1\t").split("\n", 1)[1]
    assert text_of("a.tsv", two.encode()) == "one\n\ntwo"
    listed = json.dumps([{"text": t, "box": [0, 0, 9, 9], "page": p} for p, t in ((1, "one"), (2, "two"))])
    assert text_of("a.json", listed.encode()) == "one\n\ntwo"


def test_hocr_is_read_to_its_end() -> None:
    text = hocr(words("one")) + hocr(words("two"))
    assert text_of("a.hocr", text.encode()) == "one\n\ntwo"
    text = hocr(words("one two")).replace("two", "<b>" * 260 + "two" + "</b>" * 260)
    assert text_of("a.hocr", text.encode()) == "one two"
    assert "nested too deeply" in refusal("a.hocr", hocr(words("one")).replace("one", "<b>" * 5000 + "one"))


def test_right_to_left_text_is_read_from_the_right() -> None:
    page = [Word(w.text, 900 - w.right, w.top, 900 - w.left, w.bottom) for w in words("חשבונית מס 12\nסהכ       99.00")]
    assert text_of("page.hocr", hocr(page).encode()) == "חשבונית מס 12\nסהכ       99.00"


def refusal(name: str, text: str) -> str:
    with pytest.raises(UserError) as caught:
        text_of(name, text.encode())
    return caught.value.paragraph()


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE alto [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + '<!ENTITY file SYSTEM "file:///etc/passwd">]>'
    '<alto><Layout><Page><String CONTENT="&j;" HPOS="0" VPOS="0" WIDTH="9" HEIGHT="9"/>&file;</Page></Layout></alto>'
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_an_xml_bomb_is_refused(encoding: str) -> None:
    with pytest.raises(UserError, match="declares entities"):
        text_of("bomb.xml", BOMB.encode(encoding))


def test_a_bomb_in_html_stays_small() -> None:
    bomb = BOMB.replace("alto", "html").replace("<Page>", "<div class='ocr_page'>").replace("</Page>", "</div>")
    assert "holds no text" in refusal("bomb.hocr", bomb)


def broken(change: Callable[[dict[str, Any]], Any]) -> str:
    data = json.loads(azure(words("one two")))
    change(data["analyzeResult"]["pages"][0])
    return json.dumps(data)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.json", "{", "can't be read"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", f"[{'1' * 5000}]", "a number has too many digits"),
        ("a.json", '{"a": 1}', "no document"),
        ("a.json", '"text"', "no document"),
        ("a.json", "[1, 2]", "The JSON must have an object here, not int"),
        ("a.json", '[{"text": "a"}]', "no place"),
        ("a.json", '[{"text": 3, "box": [0, 0, 1, 1]}]', "no text"),
        ("a.json", '[{"text": "a", "box": [0, 0, 1, NaN]}]', "no place"),
        ("a.json", '[{"text": "a", "box": [0, 0, 1, 1, 5]}]', "no place"),
        ("a.json", "[]", "holds no text"),
        ("a.json", broken(lambda page: page.update(words=3)), "The JSON must have a list here, not int"),
        ("a.json", broken(lambda page: page["words"][0].pop("polygon")), "no place"),
        ("a.json", broken(lambda page: page["words"][0].update(polygon=[{"x": 1}])), "no place"),
        ("a.json", broken(lambda page: page.pop("words")), "holds no text"),
        ("a.xml", "<alto><Page>", "The XML can't be read"),
        ("a.xml", "<invoice><total>5</total></invoice>", "neither ALTO nor hOCR"),
        ("a.xml", "<alto><Page><String CONTENT='a' HPOS='x'/></Page></alto>", "no place"),
        ("a.hocr", "<div class='ocr_page'><span class='ocrx_word'>a</span></div>", "no place"),
        ("a.hocr", "<div class='ocr_page'><span class='ocrx_word' title='bbox 1 2 3 .'>a</span></div>", "no place"),
        ("a.hocr", "<html></html>", "holds no text"),
        ("a.hocr", "<!-- -->", "holds no text"),
        ("a.tsv", f"{TSV_HEADER}\n5\t1\t1\t1\t1\t1\tx\t0\t9\t9\t90\tword\n", "a.tsv:2: A word has no"),
        ("a.tsv", f"{TSV_HEADER}\n", "holds no text"),
    ],
)
def test_invalid_ocr_is_refused_in_one_paragraph(name: str, text: str, reason: str) -> None:
    assert reason in refusal(name, text)


@pytest.mark.slow
def test_a_megabyte_of_words() -> None:
    page = words("\n".join(" ".join(f"w{line}x{column}" for column in range(12)) for line in range(700)))
    text = text_of("a.hocr", hocr(page).encode())
    assert len(hocr(page)) > 700_000
    assert [line.split() for line in text.split("\n")][-1] == [f"w699x{column}" for column in range(12)]

from __future__ import annotations

import io
import threading

import pypdfium2
import pytest
from reportlab.pdfgen.canvas import Canvas

from tests.documents.samples import INVOICE, pdf
from tunewright import documents
from tunewright.core.errors import UserError
from tunewright.documents.kinds import text_of


def refusal(content: bytes, name: str = "in.pdf") -> str:
    with pytest.raises(UserError) as caught:
        text_of(name, content)
    return caught.value.paragraph()


def test_lines_and_columns_stay() -> None:
    lines = text_of("in.pdf", pdf(INVOICE)).split("\n")
    assert lines[:3] == ["Vantage Cleaning Services LLC", "Invoice F-8795-B", ""]
    lamp, hosting, blank, total = lines[3:]
    assert lamp.split("  ")[0] == "Desk lamp"
    assert hosting.startswith("Hosting, monthly   ")
    assert total.split() == ["Total", "2,308.03"]
    assert lamp.index("23 x 70.29") == hosting.index("29 x 23.84")
    assert lamp.index("1,616.67") == hosting.index("691.36") == total.index("2,308.03")
    assert blank == ""


def test_pages_follow_each_other() -> None:
    assert text_of("in.pdf", pdf([(50, 50, "first page")], [(50, 50, "second page")])) == "first page\n\nsecond page"


def test_a_pdf_is_known_by_its_first_bytes() -> None:
    assert text_of("upload", pdf([(50, 50, "hello there")])) == "hello there"
    assert text_of("in.txt", b"\n" + pdf([(50, 50, "hello there")])) == "hello there"


def test_letters_beyond_ascii_and_ligatures() -> None:
    assert text_of("in.pdf", pdf([(50, 50, "Größe für 5 € – naïve")])) == "Größe für 5 € – naïve"


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_page_that_lies_sideways_is_read_upright(degrees: int) -> None:
    def sideways(canvas: Canvas) -> None:
        canvas.translate(300, 400)
        canvas.rotate(degrees)
        canvas.drawString(0, 100, "Item")
        canvas.drawString(150, 100, "Price")
        canvas.drawString(0, 80, "Lamp")
        canvas.drawString(150, 80, "21.00")

    lines = text_of("in.pdf", pdf([], draw=sideways)).split("\n")
    assert [line.split() for line in lines] == [["Item", "Price"], ["Lamp", "21.00"]]
    assert lines[0].index("Price") == lines[1].index("21.00")


def test_filled_in_form_fields_are_read() -> None:
    def form(canvas: Canvas) -> None:
        canvas.acroForm.textfield(name="who", value="Ada Lovelace", x=150, y=695, width=200, height=20)

    assert text_of("in.pdf", pdf([(50, 100, "Name:")], draw=form)).split() == ["Name:", "Ada", "Lovelace"]


def test_an_encrypted_pdf_is_refused_with_a_fix() -> None:
    message = refusal(pdf(INVOICE, password="secret"), "my invoice.pdf")
    assert message.startswith("my invoice.pdf: The PDF is protected by a password.")
    assert "qpdf --decrypt --password=… 'my invoice.pdf' open.pdf" in message


def test_a_scan_without_text_is_refused_with_a_fix() -> None:
    def picture(canvas: Canvas) -> None:
        canvas.rect(50, 50, 400, 400, fill=1)

    message = refusal(pdf([], draw=picture))
    assert "no text layer" in message
    assert "ocrmypdf in.pdf" in message


@pytest.mark.parametrize("content", [b"%PDF-1.7\ngarbage", b"%PDF-", pdf(INVOICE)[:300], bytes(range(256)) * 40])
def test_a_broken_pdf_is_refused_in_one_paragraph(content: bytes) -> None:
    assert "The PDF is broken" in refusal(content)


def test_a_pdf_without_its_end_is_read() -> None:
    assert "2,308.03" in text_of("in.pdf", pdf(INVOICE).rpartition(b"startxref")[0])


def test_a_pdf_without_pages_is_refused_in_one_paragraph() -> None:
    stream = io.BytesIO()
    pypdfium2.PdfDocument.new().save(stream)
    assert "has no pages" in refusal(stream.getvalue())


def test_threads_may_read_at_the_same_time() -> None:
    content, found = pdf(INVOICE, INVOICE), []
    threads = [threading.Thread(target=lambda: found.append(documents.text_of("in.pdf", content))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1

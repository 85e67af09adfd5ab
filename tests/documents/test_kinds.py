"""Finding a document's kind, plain text, and refusals."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.conftest import python
from tests.documents.samples import path_without, pdf
from tunewright.core.errors import UserError
from tunewright.core.limits import DOCUMENT_BYTES
from tunewright.documents import kinds, read_document, text_of
from tunewright.documents.decoding import decoded

TEXT = "Größe: 5 €\nשלום"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("name", ["a.txt", "a.md", "a", "a.log"])
def test_text_in_every_unicode_encoding(name: str, encoding: str) -> None:
    assert text_of(name, TEXT.encode(encoding)) == TEXT


def test_text_that_is_not_utf_8_is_read_as_windows_1252() -> None:
    assert text_of("a.txt", "Größe: 5 €".encode("windows-1252")) == "Größe: 5 €"
    assert decoded(b"\x81\x8d") == "��"  # bytes that stand for nothing there


def test_line_ends_and_edges_are_normalised() -> None:
    assert text_of("a.txt", b"\r\n\n  one  \r\n\rtwo\t\x00\x1b\n\n") == "  one\n\ntwo"


def test_plain_text_stays_whatever_it_begins_with() -> None:
    for text in ("<alto>", '{"analyzeResult": 1}', "Subject: hello\n\nbody", "[1]", "From: a"):
        assert text_of("a.txt", text.encode()) == text


def test_html_pages_are_read_without_their_marks() -> None:
    assert text_of("a.html", b"<h1>Title</h1><p>One &amp; two</p>") == "Title\n\nOne & two"
    assert text_of("upload", b"<!DOCTYPE html><p>hello</p>") == "hello"


@pytest.mark.parametrize(
    "above",
    [
        "<font size=2>line<br>" * 300,
        "<div>" * 260 + "deep" + "</div>" * 260,
        f"<img src='data:image/png;base64,{'A' * 10_500_000}'>",
        f"<style>{'a' * 10_500_000}</style>",
        "<html><body><p>hello</p></body></html>\n",
    ],
    ids=["elements left open", "nested elements", "a picture of 10 MB", "a style of 10 MB", "a whole page"],
)
def test_html_is_read_to_its_end(above: str) -> None:
    content = f"{above}<p>Please refund order 4711.</p>".encode()
    assert kinds.text_of("a.html", b"<html>" + content).endswith("Please refund order 4711.")
    mail = b"Subject: x\nContent-Type: text/html\n\n" + content
    assert kinds.text_of("a.eml", mail).endswith("Please refund order 4711.")


@pytest.mark.parametrize("depth", [1500, 5000])
@pytest.mark.parametrize("head", ["", "Subject: x\nContent-Type: text/html\n\n"])
def test_html_nested_too_deeply_is_refused(depth: int, head: str) -> None:
    name = "a.eml" if head else "a.html"
    with pytest.raises(UserError, match=rf"^{name}: The HTML's elements are nested too deeply\. Leave it out\."):
        kinds.text_of(name, (head + "<html>" + "<div>" * depth + "hello").encode())


@pytest.mark.parametrize("name", ["a.txt", "a.html", "a.hocr", "a.json", "a.xml", "a.eml", "a.pdf", "a.tsv", "a"])
@pytest.mark.parametrize("content", [b"", b" \n\t", b"\xef\xbb\xbf"])
def test_an_empty_document_is_refused_in_one_paragraph(name: str, content: bytes) -> None:
    with pytest.raises(UserError):
        text_of(name, content)


@pytest.mark.parametrize("name", ["a.txt", "a.html", "a.hocr", "a.json", "a.xml", "a.eml", "a.pdf", "a.tsv", "a"])
def test_garbage_is_refused_in_one_paragraph_or_read(name: str) -> None:
    draw = random.Random(name)
    for size in (1, 10, 1000, 1_000_000):
        try:
            assert kinds.text_of(name, draw.randbytes(size))
        except UserError as error:
            assert error.where == name


def test_random_bytes_are_no_text() -> None:
    with pytest.raises(UserError, match="This file is no text"):
        text_of("a.txt", random.Random(0).randbytes(10_000))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\x89PNG\r\n\x1a\n....", "tesseract in.bin in hocr"),
        (b"\xff\xd8\xff\xe0....", "tesseract"),
        (b"II*\x00....", "tesseract"),
        (b"PK\x03\x04....", "soffice --convert-to pdf in.bin"),
        (b"\xd0\xcf\x11\xe0....", "save a message of Outlook as .eml"),
    ],
)
def test_other_kinds_are_refused_with_what_to_type(content: bytes, reason: str) -> None:
    with pytest.raises(UserError, match=r"^in\.bin: ") as caught:
        text_of("in.bin", content)
    assert reason in caught.value.paragraph()


def test_a_document_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="larger than 64 MiB"):
        text_of("a.txt", b"a" * (DOCUMENT_BYTES + 1))
    with (tmp_path / "a.txt").open("wb") as stream:
        stream.truncate(DOCUMENT_BYTES + 1)
    with pytest.raises(UserError, match="larger than 64 MiB"):
        read_document(tmp_path / "a.txt")


@pytest.mark.parametrize("name", ["absent.pdf", ".", "a\0b", "x" * 5000, "/dev/zero"])
def test_a_path_without_a_file_is_refused_in_one_paragraph(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no such document"):
        read_document(tmp_path / name)


def test_a_file_on_disk(tmp_path: Path) -> None:
    (tmp_path / "in.pdf").write_bytes(pdf([(50, 50, "hello there")]))
    assert read_document(tmp_path / "in.pdf") == "hello there"


def test_the_libraries_are_loaded_when_they_are_needed() -> None:
    done = python(
        "-c",
        "import sys, tunewright.documents; from tunewright.documents import kinds; "
        "print({'pypdfium2', 'lxml', 'inscriptis', 'quotequail'} & set(sys.modules))",
    )
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.slow
def test_a_missing_library_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "in.pdf").write_bytes(pdf([(50, 50, "hello there")]))
    without = path_without("pypdfium2", tmp_path)
    command = "from tunewright.cli import main; main()"
    done = python("-c", command, "data", "text", str(tmp_path / "in.pdf"), PYTHONPATH=without)
    assert done.returncode == 2
    assert "pip install 'tunewright[documents]'" in done.stderr

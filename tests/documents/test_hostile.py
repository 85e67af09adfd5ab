"""Hostile documents: each is read in little time or refused in one paragraph, and the next one is read."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core.test_linear_time import ends_in_time
from tests.documents import hostile
from tests.documents.samples import words
from tests.documents.test_ocr import tsv
from tunewright.core.errors import UserError
from tunewright.documents import kinds, read_document, require_within, text_of
from tunewright.documents.layout import Word, lay_out

HARMFUL: dict[str, tuple[str, Callable[[], bytes]]] = {
    "PDF of nested forms": ("a.pdf", hostile.nested_forms),
    "PDF of packed texts": ("a.pdf", hostile.flate_bomb),
}
REFUSED: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "900 nested parts": ("a.eml", hostile.nested_parts, "nested too deeply: more than 50"),
    "many parameters": ("a.eml", hostile.long_parameters, "a header Content-Type of more than 8192 characters"),
}
READ: dict[str, tuple[str, Callable[[], bytes]]] = {
    "100,000 encoded words": ("a.eml", hostile.encoded_words),
    "nested hOCR": ("a.hocr", hostile.nested_hocr),
    "ALTO with many hyphens": ("a.xml", hostile.hyphens),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "make"), HARMFUL.values(), ids=HARMFUL)
def test_a_document_that_takes_any_memory_is_refused(name: str, make: Callable[[], bytes]) -> None:
    content = make()
    assert len(content) < 500_000
    with pytest.raises(UserError, match=rf"^{name}: .*1024 MiB of memory.*Cut out the pages"):
        text_of(name, content)
    assert text_of("b.pdf", hostile.raw_pdf(hostile.TEXT)) == "hello there"


@pytest.mark.parametrize(("name", "make", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_document_that_takes_quadratic_time_is_refused(name: str, make: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        text_of(name, make())
    content = make()
    assert ends_in_time(lambda: kinds.text_of(name, content))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "make"), READ.values(), ids=READ)
def test_a_document_that_took_quadratic_time_is_read(name: str, make: Callable[[], bytes]) -> None:
    content = make()
    assert ends_in_time(lambda: kinds.text_of(name, content))
    assert text_of(name, content)


def test_the_beginning_of_a_long_subject_is_read() -> None:
    text = text_of("a.eml", hostile.encoded_words())
    assert text.startswith("Subject: xéxéxé")
    assert text.endswith("é\n\nhello there")
    assert "=?" not in text
    assert text_of("a.eml", b"Subject: " + b"x" * 10_000) == "Subject: " + "x" * 4096


def test_a_word_of_many_hyphens_is_whole() -> None:
    assert text_of("a.xml", hostile.hyphens(1000, 1)) == "a" + "-" * 1000


@pytest.mark.parametrize("content", hostile.far_boxes())
def test_words_far_outside_the_page(content: bytes) -> None:
    try:
        assert "one" in kinds.text_of("a.json", content)
    except UserError as error:
        assert "no place on a page" in error.paragraph()


def test_a_pdf_with_characters_far_outside_the_page() -> None:
    for scale in (b"1e30", b"-1e38", b"1e300", b"1e-40"):
        content = hostile.raw_pdf(b"q %s 0 0 %s 0 0 cm %sQ %s" % (scale, scale, hostile.TEXT, hostile.TEXT))
        assert "hello there" in kinds.text_of("a.pdf", content)


def test_a_word_may_hold_a_line_separator() -> None:
    page = [Word("one\u2028two", 0, 0, 90, 10), *words("three")]
    text = kinds.text_of("a.tsv", tsv(page).encode())
    assert sorted(text.split()) == ["one", "three", "two"]
    assert kinds.text_of("a.tsv", tsv(words("one two")).replace("\n", "\r\n").encode()) == "one two"


@pytest.mark.slow
@pytest.mark.parametrize("line", ["a <" * 90 + "@", "2026/1/1 a" + " <@>" * 71 + "x"])
def test_lines_of_many_addresses(line: str) -> None:
    """They stand in each message of a thread."""
    message = f"{line}\n" * 990 + "On 2026-01-05, a@b.example wrote:\n> hello\n"
    content = f"Subject: x\n\n{message * 5}".encode()
    assert ends_in_time(lambda: kinds.text_of("a.eml", content))
    assert line in kinds.text_of("a.eml", content)


@pytest.mark.slow
def test_many_control_characters_take_little_memory() -> None:
    content = b"\x01" * (32 << 20)

    def read() -> None:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        most = pages * resource.getpagesize() + 4 * len(content)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        kinds.text_of("a.txt", content)

    assert ends_in_time(read)
    with pytest.raises(UserError, match="This file is no text"):
        text_of("a.txt", content)


@pytest.mark.slow
def test_very_many_right_to_left_words() -> None:
    line = [Word("ש" * 500, number * 9, 0, number * 9 + 5, 9) for number in range(40_000)]
    others = [Word("a", 0, 50 * number, 9, 50 * number + 9) for number in range(1, 41_000)]
    assert ends_in_time(lambda: lay_out([line + others]))


def test_pipes_devices_and_folders_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    (tmp_path / "folder.txt").mkdir()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket.txt"))
        for name in ("pipe", "zero", "folder", "socket"):
            with pytest.raises(UserError, match="There is no such document"):
                read_document(tmp_path / f"{name}.txt")


def test_documents_outside_the_root_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "in").mkdir(parents=True)
    (tmp_path / "database").mkdir()
    for name in ("a.txt", "data/b.txt", "data/in/c.txt", "database/d.txt"):
        (tmp_path / name).write_text("one", "utf-8")
    (root / "inside.txt").symlink_to(root / "in" / "c.txt")
    (root / "outside.txt").symlink_to(tmp_path / "a.txt")
    (root / "up").symlink_to(tmp_path)
    (root / "circle").symlink_to(root / "circle")
    for name in ("b.txt", "in/c.txt", "in/../b.txt", "../data/b.txt", "inside.txt", "absent.txt", "a\0b", "circle"):
        require_within(root, root / name)
    for name in ("../a.txt", "/etc/passwd", "outside.txt", "up/a.txt", "in/../../a.txt", "../database/d.txt"):
        with pytest.raises(UserError, match="lies outside the folder of the data") as caught:
            require_within(root, root / name)
        assert str(root) in caught.value.paragraph()
        assert f"data.documents_root: {(root / name).resolve().parent}" in caught.value.paragraph()

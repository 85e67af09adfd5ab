"""What the pages tell people to type, and which files they name."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

PAGES = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")])
_FENCE = re.compile(r"^([ \t]*)```([\w-]*)[^\n]*\n(.*?)^\1```[ \t]*$", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?:^ {4,}\S.*\n)+", re.MULTILINE)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_SHELL = ("bash", "console", "")
_OPERATORS = ("&&", "||", ";", "|", "&", ">", ">>", "<")


@dataclass(frozen=True)
class Command:
    """A command line of a page, its words without the program's name."""

    page: Path
    words: list[str]
    whole: bool
    """Whether it can be typed as it stands; else it is a mention, which may leave arguments out."""

    def __str__(self) -> str:
        return f"{self.page.name}: {' '.join(self.words)}"


def names(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def spans(page: Path) -> list[str]:
    """What stands between backticks in a page's prose."""
    prose = _INDENTED.sub("", _FENCE.sub("", page.read_text("utf-8")))
    return [" ".join(span.split()) for span in _SPAN.findall(prose)]


def blocks(page: Path, language: str) -> list[str]:
    """What stands in a page's fences of a language."""
    return [textwrap.dedent(block[3]) for block in _FENCE.finditer(page.read_text("utf-8")) if block[2] == language]


def commands(program: str) -> Iterator[Command]:
    """Every command line of all pages that begins with a program's name."""
    for page in PAGES:
        text = page.read_text("utf-8")
        fences = list(_FENCE.finditer(text))
        prose = _FENCE.sub("", text)
        blocks = [block[3] for block in fences if block[2] in _SHELL] + _INDENTED.findall(prose)
        lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        for line in lines:
            yield from _of_line(page, line.removeprefix("$ "), program, whole=True)
        for span in spans(page):
            yield from _of_line(page, span, program, whole=False)


def _of_line(page: Path, line: str, program: str, *, whole: bool) -> Iterator[Command]:
    if program not in line:
        return
    lexer = shlex.shlex(line.replace("…", "..."), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#" if whole else ""
    try:
        words = list(lexer)
    except ValueError:  # an apostrophe: it is a sentence
        return
    for part in _parts(words):
        while part and re.fullmatch(r"[A-Z_]+=.*", part[0]):
            part = part[1:]
        if part and part[0].removeprefix(".venv/bin/") == program:
            yield Command(page, part[1:], whole and "..." not in part)


def _parts(words: list[str]) -> Iterator[list[str]]:
    """The commands of a line."""
    part: list[str] = []
    for word in words:
        if word in _OPERATORS:
            yield part
            part = []
        else:
            part.append(word)
    yield part

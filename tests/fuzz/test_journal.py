"""What is kept on disk between commands, damaged: read for what it still says, or one paragraph."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from sqlalchemy import delete

from tests.conftest import make_spec
from tests.fuzz.mutation import SEEDS, as_json, mutated, names, rewritten, seeds
from tests.fuzz.running import Check, Input
from tunewright.auth.identity import Identity
from tunewright.auth.keys import KeyRing
from tunewright.core.artifacts import sha256_file
from tunewright.core.errors import UserError
from tunewright.data.chain import VERSION
from tunewright.data.corrections import ROWS, SETTLED, correction_files, corrections_in
from tunewright.data.splits.frozen import read_frozen
from tunewright.monitoring.store.collect import collect
from tunewright.monitoring.store.database import open_at
from tunewright.monitoring.store.tables import Base
from tunewright.project import Project
from tunewright.serving.captures import read_captures
from tunewright.serving.presence import servers_of

CHAIN = (ROWS, SETTLED, VERSION)
ENTRIES = [
    json.loads(line) for name, content in seeds("journal") if name == "captures.jsonl" for line in content.splitlines()
]


@pytest.fixture
def check(tmp_path: Path) -> Iterator[Check]:
    """Puts a file in its place, and reads it as who needs it does."""
    spec = make_spec(tmp_path)
    store = open_at(f"sqlite:///{tmp_path / 'monitor.db'}")

    def request_log(content: bytes) -> None:
        shutil.rmtree(spec.path(spec.monitor.captures), ignore_errors=True)
        folder = spec.path(spec.monitor.captures)
        folder.mkdir(parents=True)
        (folder / "captures-20261129T000000-00000000.jsonl").write_bytes(content)
        with store.session() as session:
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(delete(table))
        told = collect(spec, store)
        lines = content.count(b"\n")
        assert told.captures + told.feedback + told.repeated + told.unreadable == lines
        assert collect(spec, store) == type(told)()
        if lines and not told.unreadable:
            assert len(list(read_captures(folder))) == lines

    def chain(name: str, content: bytes) -> None:
        """A version's file; one whose hash `version.json` is made to tell."""
        for folder in (tmp_path / "corrections", tmp_path / "frozen"):
            version = folder / "1"
            shutil.rmtree(folder, ignore_errors=True)
            version.mkdir(parents=True)
            for each in CHAIN:
                (version / each).write_bytes((SEEDS / "journal" / each).read_bytes())
            (version / name).write_bytes(content)
            if name != VERSION:
                about = json.loads((version / VERSION).read_bytes())
                about["files"][name] = sha256_file(version / name)
                (version / VERSION).write_text(json.dumps(about), "utf-8")
        corrections, frozen = tmp_path / "corrections", tmp_path / "frozen"
        _read(lambda: correction_files(corrections), lambda: corrections_in(corrections), lambda: read_frozen(frozen))

    def check(name: str, content: bytes) -> None:
        if name == "captures.jsonl":
            request_log(content)
        elif name in CHAIN:
            chain(name, content)
        else:
            folder = tmp_path / "runs" / "servers" if name == "presence.json" else tmp_path / "runs"
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / name
            file.write_bytes(content)
            runs = tmp_path / "runs"
            readers: dict[str, list[Callable[[], Any]]] = {
                "serving.json": [lambda: Project(tmp_path).traffic(), lambda: Project(tmp_path).champion()],
                "keys.json": [lambda: KeyRing(file)],
                "identity.json": [lambda: Identity(file)],
                "presence.json": [lambda: servers_of(runs)],
            }
            _read(*readers[name])

    yield check
    store.close()


def _read(*readers: Callable[[], Any]) -> None:
    """Each may refuse."""
    for read in readers:
        with suppress(UserError):
            read()


@pytest.mark.parametrize("seed", seeds("journal"), ids=names("journal"))
def test_kept(seed: Input, check: Check, keep: Callable[..., None]) -> None:
    keep(check, seed)


def test_mutated_files(check: Check, fuzz: Callable[..., None]) -> None:
    fuzz(check, mutated("journal").filter(lambda example: example[0] != "captures.jsonl"), 75)


def test_mutated_journals(check: Check, fuzz: Callable[..., None]) -> None:
    fuzz(check, mutated("journal").map(lambda example: ("captures.jsonl", example[1])), 30)


def test_entries_that_hold_anything(check: Check, fuzz: Callable[..., None]) -> None:
    lines = st.lists(rewritten(ENTRIES).map(as_json), min_size=1, max_size=3)
    fuzz(check, lines.map(lambda found: ("captures.jsonl", b"\n".join([*found, b""]))), 30)

"""A folder of many models may be changed and cut off anywhere: each is served as it was, or as it was to be."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.crash.crashes import Case, crash_everywhere, digest
from tunewright.core.errors import UserError
from tunewright.inference.bundle import load_bundle, read_info, write_info
from tunewright.serving.adapters import AdapterStore, add_adapter

pytestmark = pytest.mark.slow


@pytest.fixture
def bundles(done: Path, tmp_path: Path) -> list[Path]:
    """Two bundles that differ."""
    found = [tmp_path / "first", tmp_path / "second"]
    for number, folder in enumerate(found):
        shutil.copytree(done / "runs" / "latest" / "bundle", folder)
        write_info(folder, read_info(folder).model_copy(update={"version": f"v{number}"}))
    return found


def served(root: Path) -> dict[str, Any]:
    """Of each name the bundle that is served, which must be a whole one."""
    store = AdapterStore(root) if AdapterStore.is_one(root) else None
    found = {}
    for name in store.names() if store else ():
        now = store.current(name) if store else None
        assert now
        load_bundle(now.folder)
        found[name] = digest(now.folder)
    return found


def add_second(root: Path, bundles: list[Path]) -> None:
    add_adapter(root, bundles[1], "one")


def add_another(root: Path, bundles: list[Path]) -> None:
    add_adapter(root, bundles[1], "two")


def roll_back(root: Path, bundles: list[Path]) -> None:  # noqa: ARG001 (one signature for all)
    """A person looks first."""
    if AdapterStore(root).infos()["three"].version == "v1":
        AdapterStore(root).roll_back("three")


def remove(root: Path, bundles: list[Path]) -> None:  # noqa: ARG001 (one signature for all)
    with suppress(UserError):  # it is gone already
        AdapterStore(root).remove("three")


@pytest.mark.parametrize("act", [add_second, pytest.param(add_another, marks=pytest.mark.nightly), roll_back, remove])
def test_a_change(root: Path, home: Path, bundles: list[Path], act: Callable[[Path, list[Path]], None]) -> None:
    add_adapter(root, bundles[0], "one")
    for bundle in bundles:
        add_adapter(root, bundle, "three")

    def result() -> Any:
        return served(root), [path.name for path in root.rglob(".*")]

    found = crash_everywhere(Case(root, lambda: act(root, bundles), lambda: served(root), result), home)
    assert not found.faults
    assert found.kills > 1 and found.full > 1


@pytest.mark.nightly
def test_the_first_one(root: Path, home: Path, bundles: list[Path]) -> None:
    found = crash_everywhere(Case(root, lambda: add_second(root, bundles), lambda: served(root)), home)
    assert not found.faults

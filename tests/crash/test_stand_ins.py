"""The key of the stand-ins may be cut off anywhere: it is there whole, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.crash.crashes import Case, crash_everywhere
from tunewright.labelling.stand_ins import KEY, key_of

pytestmark = pytest.mark.slow


def test_the_first_key(root: Path, home: Path) -> None:
    file = root / KEY

    def kept() -> dict[str, Any]:
        return {KEY: len(file.read_bytes()) if file.exists() else None}

    def result() -> Any:
        return kept(), key_of(root, make=True) == file.read_bytes(), [path.name for path in root.iterdir()]

    found = crash_everywhere(Case(root, lambda: key_of(root, make=True), kept, result), home)
    assert not found.faults
    assert found.kills > 2 and found.full > 1

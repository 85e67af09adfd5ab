from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LABELS, findings_in
from tunewright.data.checks import Finding
from tunewright.tasks import Example


class Checks:
    """The findings on examples, except notes."""

    def __init__(self, folder: Path):
        self.folder = folder

    def all(
        self,
        train: list[Example],
        labels: list[str] = LABELS,
        data: Mapping[str, Any] | None = None,
        **tests: list[Example],
    ) -> list[Finding]:
        found = findings_in(self.folder, {"train": train, **tests}, labels, data)
        return [finding for finding in found if finding.severity != "note"]

    def codes(self, train: list[Example], **tests: list[Example]) -> list[str]:
        return [finding.code for finding in self.all(train, **tests)]

    def only(self, code: str, train: list[Example], labels: list[str] = LABELS, **tests: list[Example]) -> Finding:
        """The only finding of a code, notes included."""
        found = findings_in(self.folder, {"train": train, **tests}, labels)
        (finding,) = (finding for finding in found if finding.code == code)
        return finding


@pytest.fixture
def checks(tmp_path: Path) -> Checks:
    return Checks(tmp_path)


def where(finding: Finding) -> list[str]:
    return [place.where for place in finding.examples]

"""The pass over parts on a real Ray cluster, which takes seconds to start."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.test_examine import data, examined, written
from tunewright.data.readers import parts

pytestmark = pytest.mark.slow

__all__ = ["data"]  # a fixture


def test_the_same_is_found_on_a_ray_cluster(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = examined(data, tmp_path / "whole")
    monkeypatch.setattr(parts, "PART", 4000)
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert examined(data, tmp_path / "ray") == whole
    assert written(tmp_path / "whole") == written(tmp_path / "ray")

"""tools/coverage_by_package.py, on a small report."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "coverage_by_package", REPOSITORY / "tools" / "coverage_by_package.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def measured(lines: int, missed: int, branches: int = 0, branches_missed: int = 0) -> dict[str, Any]:
    summary = {
        "num_statements": lines,
        "missing_lines": missed,
        "num_branches": branches,
        "missing_branches": branches_missed,
    }
    return {"summary": summary}


REPORT = {
    "files": {
        "src/tunewright/api.py": measured(10, 1),
        "src/tunewright/cli/init.py": measured(30, 0, 10, 0),
        "src/tunewright/cli/monitor/drift.py": measured(50, 25, 10, 5),
        "src/tunewright/core/__init__.py": measured(0, 0),
        "src/tunewright/review/app.py": measured(20, 18),
    }
}


def test_packages_stand_worst_first_and_all_of_them_last(tool: ModuleType) -> None:
    rows = tool.packages(REPORT)
    assert [(row.name, row.modules, row.lines, row.missed) for row in rows] == [
        ("review", 1, 20, 18),
        ("cli", 2, 80, 25),
        ("(top level)", 1, 10, 1),
        ("core", 1, 0, 0),
        ("all", 5, 110, 44),
    ]
    assert [round(row.share, 1) for row in rows] == [10.0, 70.0, 90.0, 100.0, 62.3]


def test_the_table_is_printed(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report.json").write_text(json.dumps(REPORT), "utf-8")
    assert tool.main([str(tmp_path / "report.json")]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["package", "modules", "lines", "missed", "branches", "missed", "covered"]
    assert lines[1].split() == ["cli", "2", "80", "25", "20", "5", "70.0", "%"]
    assert len({len(line) for line in (head, *lines)}) == 1


def test_a_call_without_a_report_is_answered_with_the_usage(
    tool: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main([]) == 2
    assert "python tools/coverage_by_package.py FILE" in capsys.readouterr().err

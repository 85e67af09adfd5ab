"""The check of licences, the audit, and the workflow that asks for them at night."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from email.message import Message
from importlib import resources
from types import ModuleType

import pytest
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from tests.conftest import REPOSITORY

Tool = Callable[[str], ModuleType]


def package(**fields: str | list[str]) -> Message:
    """A package's metadata, as importlib gives it."""
    metadata = Message()
    for name, value in fields.items():
        for each in [value] if isinstance(value, str) else value:
            metadata[name.replace("_", "-")] = each
    return metadata


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (package(License_Expression="MIT"), "MIT"),
        (package(License="apache-2.0"), "Apache-2.0"),
        (package(License="Copyright of somebody", Classifier="License :: OSI Approved :: MIT License"), "MIT"),
        (package(Classifier=["License :: OSI Approved", "License :: OSI Approved :: BSD License"]), "BSD-3-Clause"),
        (package(Classifier="License :: OSI Approved :: GNU General Public License v3 (GPLv3)"), ""),
        (package(License="Free for you"), ""),
        (package(), ""),
    ],
)
def test_what_a_package_says_of_its_licence(tool: Tool, metadata: Message, expected: str) -> None:
    assert tool("licences").licence(metadata) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("AGPL-3.0-or-later", False),
        ("", False),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("(MIT OR GPL-2.0-only) AND Zlib", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-3.0-only WITH GCC-exception-3.1", False),
        ("MIT OR (Apache-2.0 AND GPL-2.0-only)", False),
    ],
)
def test_what_is_accepted(tool: Tool, expression: str, expected: bool) -> None:
    """The last one could be, but is read so that nothing passes which must not."""
    assert tool("licences").accepted(expression) == expected


def test_every_package_that_is_not_accepted_is_told_and_every_exception_that_is_not_needed(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    licences = tool("licences")
    monkeypatch.setattr(
        licences,
        "EXCEPTIONS",
        {
            "read": ("MIT", "in its file"),
            "lesser": ("LGPL-3.0-only", "linked"),
            "mended": ("MIT", "in its file"),
            "changed": ("LGPL-3.0-only", "linked"),
        },
    )
    said = licences.faults(
        {
            "fine": package(License_Expression="MIT"),
            "read": package(),
            "lesser": package(License_Expression="LGPL-3.0-only"),
            "strong": package(License_Expression="GPL-3.0-only"),
            "unknown": package(),
            "mended": package(License="MIT"),
            "changed": package(License_Expression="AGPL-3.0-only"),
        }
    )
    assert said == [
        "changed: AGPL-3.0-only, and the exception is for LGPL-3.0-only.",
        "mended needs no exception: its licence is MIT.",
        "strong: GPL-3.0-only.",
        "unknown: it names no licence that can be read.",
    ]


@pytest.mark.slow
def test_all_that_runs_is_looked_at(tool: Tool) -> None:
    """Extras, and the extras that requirements ask for, among it."""
    found = tool("licences").runtime("tunewright", ("dev", "supply"))
    assert {
        "pydantic",
        "torch",
        "psycopg-binary",
        "cryptography",
        "azure-core",
        "ray",
        "mlflow",
        "numpy",
    } < found.keys()
    assert not {"pytest", "ruff", "hypothesis", "tunewright"} & found.keys()


def test_an_audit_tells_what_is_known_and_what_cannot_be(tool: Tool) -> None:
    judged = tool("audit").judged
    fine, unknown = {"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "b is not on PyPI"}
    fault = {
        "name": "c",
        "version": "2",
        "vulns": [
            {"id": "CVE-1", "fix_versions": ["2.1", "3"]},
            {"id": "CVE-2", "fix_versions": []},
        ],
    }
    assert judged(json.dumps({"dependencies": [fine]}), "") == ([], "")
    assert judged(json.dumps({"dependencies": [fine, fault]}), "")[0] == [
        "c 2: CVE-1; mended: 2.1 or 3",
        "c 2: CVE-2; mended: nowhere",
    ]
    assert judged(json.dumps({"dependencies": [fine, unknown]}), "") == ([], "1 of 2, such as: b is not on PyPI")
    assert judged("", "Traceback\nConnectionError: no route\n") == ([], "ConnectionError: no route")
    assert judged("", "") == ([], "pip-audit gave no answer")


def test_the_nightly_workflow_asks_for_targets_that_there_are() -> None:
    workflow = YAML(typ="safe").load(REPOSITORY / ".github" / "workflows" / "nightly.yml")
    file = resources.files("check_jsonschema.builtin_schemas") / "vendor" / "github-workflows.json"
    assert not [error.message for error in Draft7Validator(json.loads(file.read_text("utf-8"))).iter_errors(workflow)]
    targets = set(re.findall(r"^([\w-]+):(?!=)", (REPOSITORY / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {"audit", "licences"} <= set(workflow["jobs"]["make"]["strategy"]["matrix"]["target"]) <= targets
    assert "make sbom" in str(workflow["jobs"]["sbom"])

"""What the project's own files say of each other: versions, workflows, templates."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import REPOSITORY
from tunewright.core.version import __version__

GITHUB = REPOSITORY / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FORMS = [GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml" for name in ("bug", "feature", "wrong-verdict")]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
MAKEFILE = (REPOSITORY / "Makefile").read_text("utf-8")


def read(file: Path) -> dict[str, object]:
    found = YAML(typ="safe").load(file)
    assert isinstance(found, dict)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", WORKFLOWS),
        ("github-actions", [REPOSITORY / "action.yml"]),
        (
            "github-issue-forms",
            [GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml" for name in ("bug", "feature", "wrong-verdict")],
        ),
        ("github-issue-config", [GITHUB / "ISSUE_TEMPLATE" / "config.yml"]),
        ("dependabot", [GITHUB / "dependabot.yml"]),
        ("citation-file-format", [REPOSITORY / "CITATION.cff"]),
    ],
)
def test_the_files_fit_their_schemas(schema: str, files: list[Path]) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run(
        [*command, "--default-filetype", "yaml", *map(str, files)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_asks_for_targets_and_programs_that_there_are(workflow: Path) -> None:
    text = workflow.read_text("utf-8")
    targets = set(re.findall(r"^([\w-]+):(?!=)", MAKEFILE, re.MULTILINE))
    assert set(re.findall(r"run: make ([\w-]+)", text)) <= targets
    for name in re.findall(r"(?:python\d?|bin/python) ([\w/]+\.py)", text):
        assert (REPOSITORY / name).is_file(), name


def test_ci_covers_what_the_project_promises() -> None:
    ci = read(GITHUB / "workflows" / "ci.yml")
    jobs = ci["jobs"]
    assert isinstance(jobs, dict)
    assert {"lint", "tests", "docs", "wheel"} <= jobs.keys()
    pythons = jobs["tests"]["strategy"]["matrix"]["python"]
    assert [f"Programming Language :: Python :: {each}" for each in pythons] == [
        each for each in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", each)
    ]
    assert PROJECT["requires-python"] == f">={pythons[0]}"


def test_the_version_is_the_same_everywhere() -> None:
    assert PROJECT["version"] == __version__
    assert read(REPOSITORY / "CITATION.cff")["version"] == __version__
    assert read(REPOSITORY / "infra" / "chart" / "Chart.yaml")["appVersion"] == __version__


def test_every_target_that_is_described_is_phony_unless_it_is_a_file() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    described = set(re.findall(r"^([\w-]+):.*## ", MAKEFILE, re.MULTILINE))
    assert described <= set(phony.split())


def test_the_hooks_before_a_commit_are_pinned() -> None:
    repositories = read(REPOSITORY / ".pre-commit-config.yaml")["repos"]
    assert isinstance(repositories, list)
    for each in repositories:
        if each["repo"] == "local":
            assert all(hook["entry"].startswith(".venv/bin/ruff ") for hook in each["hooks"])
        else:
            assert re.fullmatch(r"v\d+\.\d+\.\d+", each["rev"])

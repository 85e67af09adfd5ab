"""The GitHub Action and the steps for Azure Pipelines: their form, and what they do when a runner runs them."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from ruamel.yaml import YAML

from tests.conftest import REPOSITORY, write_project
from tests.gate.made_runs import made_runs
from tests.gate.sites import TOKEN, AzureSite, GitHubSite, served
from tests.gate.test_ci import on_azure, on_github, pull_request
from tests.gate.test_judge import MUCH
from tunewright.config import load_spec

ACTION = REPOSITORY / "action.yml"
TEMPLATE = REPOSITORY / "integrations" / "azure-devops" / "gate.yml"
GITHUB, AZURE = "github-actions.json", "azure-pipelines.json"


def loaded(text: str) -> Any:
    """YAML in which every value is text, as Azure Pipelines reads it."""
    return YAML(typ="base", pure=True).load(text)


def typed(text: str) -> Any:
    return YAML(typ="safe").load(text)


def faults(document: Any, schema: str, part: str = "") -> list[str]:
    """What the published schema says against a document; `part` names one of its definitions."""
    file = resources.files("check_jsonschema.builtin_schemas") / "vendor" / schema
    whole = json.loads(file.read_text("utf-8"))
    if part:
        whole = {"definitions": whole["definitions"], "$ref": f"#/definitions/{part}"}
    return [error.message for error in Draft7Validator(whole).iter_errors(document)]


def snippets(name: str) -> list[str]:
    """The YAML in docs/pipelines.md that has a text."""
    page = (REPOSITORY / "docs" / "pipelines.md").read_text("utf-8")
    result = [block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if name in block]
    assert result
    return result


def test_they_have_the_form_that_the_published_schemas_ask_for() -> None:
    assert not faults(typed(ACTION.read_text("utf-8")), GITHUB)
    assert not faults(loaded(TEMPLATE.read_text("utf-8")), AZURE, "parametersTemplate")
    for snippet in snippets("uses: OWNER/tunewright@"):
        assert not faults(typed(snippet), "github-workflows.json")
    for snippet in snippets("gate.yml@tunewright"):
        assert not faults(loaded(snippet), AZURE, "pipeline")


def test_the_schemas_find_faults() -> None:
    action, template = typed(ACTION.read_text("utf-8")), loaded(TEMPLATE.read_text("utf-8"))
    del action["runs"]["steps"][0]["shell"]
    template["steps"][0]["bsh"] = template["steps"][0].pop("bash")
    assert faults(action, GITHUB)
    assert faults(template, AZURE, "parametersTemplate")


def test_no_input_is_put_into_a_script() -> None:
    """What stands in a pull request must not become shell."""
    for step in [*typed(ACTION.read_text("utf-8"))["runs"]["steps"], *loaded(TEMPLATE.read_text("utf-8"))["steps"]]:
        assert "${{" not in step.get("run", step.get("bash"))


def test_the_documented_workflow_asks_for_no_more_rights_than_it_needs() -> None:
    for snippet in snippets("uses: OWNER/tunewright@"):
        workflow = typed(snippet)
        assert workflow["permissions"] == {"contents": "read", "pull-requests": "write"}
        assert "pull_request_target" not in snippet
        for job in workflow["jobs"].values():
            (step,) = [step for step in job["steps"] if "tunewright@" in step.get("uses", "")]
            assert set(step.get("with", {})) <= set(typed(ACTION.read_text("utf-8"))["inputs"])
    parameters = {each["name"] for each in loaded(TEMPLATE.read_text("utf-8"))["parameters"]}
    for snippet in snippets("gate.yml@tunewright"):
        (step,) = [step for step in loaded(snippet)["steps"] if "template" in step]
        assert set(step["parameters"]) <= parameters


class Runner:
    """Runs steps as a runner does: each a script with the job's environment and its own.

    The Python that they are told to use makes a "virtual environment" of this one, and notes what is installed.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str]):
        self.workspace = folder / "workspace"
        self.temp, self.noted = folder / "temp", folder / "installed.txt"
        self.temp.mkdir()
        inside = f"""#!{sys.executable}
import os, sys
if sys.argv[1:3] == ["-m", "pip"]:
    open({str(self.noted)!r}, "a").write(" ".join(sys.argv[3:]) + "\\n")
else:
    os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])
"""
        command = f'#!/bin/sh\nexec "{sys.executable}" -m tunewright "$@"\n'
        self.python = folder / "python"
        self.python.write_text(f"""#!{sys.executable}
import os, pathlib, sys
if sys.argv[1:3] == ["-m", "venv"]:
    folder = pathlib.Path(sys.argv[3]) / "bin"
    folder.mkdir(parents=True)
    for name, text in (("python", {inside!r}), ("tunewright", {command!r})):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
else:
    os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])
""")
        self.python.chmod(self.python.stat().st_mode | stat.S_IXUSR)
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
        self.environ = kept | dict(environ) | {"RUNNER_TEMP": str(self.temp), "AGENT_TEMPDIRECTORY": str(self.temp)}

    def run(self, script: str, environ: Mapping[str, str], *flags: str) -> subprocess.CompletedProcess[str]:
        file = self.temp / "script.sh"
        file.write_text(script, "utf-8")
        return subprocess.run(
            ["bash", "--noprofile", "--norc", *flags, str(file)],
            cwd=self.workspace,
            text=True,
            check=False,
            capture_output=True,
            timeout=60,
            env=self.environ | dict(environ),
        )

    def action(self, **inputs: str) -> subprocess.CompletedProcess[str]:
        """The action's steps, until one fails."""
        action = typed(ACTION.read_text("utf-8"))
        known = {f"inputs.{name}": each.get("default", "") for name, each in action["inputs"].items()}
        known |= {"github.token": TOKEN, "github.action_path": str(REPOSITORY)}
        known |= {f"inputs.{name}": value for name, value in {"python": str(self.python), **inputs}.items()}
        assert {name.removeprefix("inputs.") for name in known if name.startswith("inputs.")} == set(action["inputs"])
        done = None
        for step in action["runs"]["steps"]:
            environ = {name: _filled(value, known) for name, value in step["env"].items()}
            done = self.run(step["run"], environ, "-eo", "pipefail")
            if done.returncode:
                break
        assert done
        return done

    def template(self, **parameters: str) -> subprocess.CompletedProcess[str]:
        """The template's steps, until one fails."""
        template = loaded(TEMPLATE.read_text("utf-8"))
        known = {f"parameters.{each['name']}": each.get("default", "") for each in template["parameters"]}
        known |= {f"parameters.{name}": value for name, value in {"python": str(self.python), **parameters}.items()}
        # A boolean becomes True or False.
        known["parameters.update"] = known["parameters.update"].capitalize()
        done = None
        for step in template["steps"]:
            environ = {name: _filled(value, known) for name, value in step["env"].items()}
            environ = {name: value.replace("$(System.AccessToken)", TOKEN) for name, value in environ.items()}
            done = self.run(step["bash"], environ)
            if done.returncode:
                break
        assert done
        return done


def _filled(text: str, known: Mapping[str, str]) -> str:
    """With its expressions replaced by what they stand for, twice where a default is one itself."""
    for _ in range(2):
        text = re.sub(r"\$\{\{ ([\w.]+) \}\}", lambda result: known[result[1]], text)
    return text


def project(folder: Path, share: float = 0.97) -> None:
    """What is checked out: a project that was run to its end."""
    made = write_project(folder / "workspace" / "jobs", traffic=MUCH)
    made_runs(load_spec(made), made / "runs", share=share)


@pytest.mark.slow
def test_the_action_installs_judges_and_comments(tmp_path: Path) -> None:
    project(tmp_path)
    site = GitHubSite()
    with served(site):
        runner = Runner(tmp_path, on_github(tmp_path, site))
        done = runner.action(project="jobs", extras="train,serve")
    assert done.returncode == 0, done.stderr
    *checked, itself = runner.noted.read_text().splitlines()
    assert all("--require-hashes" in line for line in checked)
    assert itself.endswith(f"--no-deps --no-build-isolation {REPOSITORY}")
    asked = {re.split(r"[\[>]", line)[0] for line in (runner.temp / "asked.txt").read_text().splitlines()}
    assert {"torch", "fastapi", "pydantic"} < asked and "openai" not in asked
    assert "✅ tickets: switch" in site.comments[0]["body"]
    assert "✅ tickets: switch" in (tmp_path / "summary.md").read_text("utf-8")
    assert (tmp_path / "output").read_text("utf-8") == "passed=true\ndecision=switch\n"
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.slow
def test_the_action_fails_as_the_gate_does_and_takes_overrides_as_words(tmp_path: Path) -> None:
    project(tmp_path, share=0.7)
    site = GitHubSite()
    with served(site):
        runner = Runner(tmp_path, on_github(tmp_path, site))
        assert runner.action(project="jobs").returncode == 1
        (tmp_path / "again").mkdir()
        again = Runner(tmp_path / "again", on_github(tmp_path, site))
        again.workspace = runner.workspace
        done = again.action(project="jobs", overrides="name=a; touch evil\ngoal.accuracy=0.5\n")
    assert done.returncode == 2
    assert "'name'" in done.stderr
    assert not list(tmp_path.rglob("evil"))
    assert site.written == ["POST"]


@pytest.mark.slow
def test_the_action_on_a_forks_pull_request_ends_as_the_gate_does(tmp_path: Path) -> None:
    project(tmp_path)
    site = GitHubSite(may_write=False)
    with served(site):
        done = Runner(tmp_path, on_github(tmp_path, site, pull_request("stranger/tickets"))).action(project="jobs")
    assert done.returncode == 0, done.stderr
    assert "::warning title=tunewright gate::No comment was written" in done.stderr
    assert "✅ tickets: switch" in (tmp_path / "summary.md").read_text("utf-8")


@pytest.mark.slow
def test_the_action_without_a_verdict_is_one_paragraph(tmp_path: Path) -> None:
    write_project(tmp_path / "workspace")
    done = Runner(tmp_path, on_github(tmp_path, GitHubSite())).action()
    assert done.returncode == 2
    assert "There is no verdict to judge." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_template_judges_and_keeps_one_thread(tmp_path: Path) -> None:
    project(tmp_path, share=0.7)
    site = AzureSite()
    with served(site):
        runner = Runner(tmp_path, on_azure(tmp_path, site))
        done = runner.template(package="git+https://example.org/tunewright@v1", project="jobs")
    assert done.returncode == 1, done.stderr
    assert "git+https://example.org/tunewright@v1" in runner.noted.read_text()
    assert re.search(r"^##vso\[task\.uploadsummary\]/.*tickets\.md$", done.stderr, re.MULTILINE)
    (thread,) = site.threads
    assert "❌ tickets: " in thread["comments"][0]["content"]
    assert thread["status"] == "active"
    assert TOKEN not in done.stdout + done.stderr

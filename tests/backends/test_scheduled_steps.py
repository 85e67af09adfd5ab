"""What the calendar runs: every step that needs no key of this machine, up to the bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_spec
from tests.crash.linear import bring_up_to_date, project
from tests.pipeline.test_step import step
from tunewright.backends.azure.jobs import JobWork, job_of
from tunewright.backends.azure.schedule import steps_not_there, steps_there
from tunewright.config import Spec
from tunewright.core.artifacts import atomic_folder
from tunewright.core.errors import UserError
from tunewright.pipeline.runner import execute_step
from tunewright.pipeline.steps import STEPS

API = {"model": "gpt-4o-mini", "url": "https://api.openai.com/v1", "key": "OPENAI_API_KEY"}
JUDGE = {"model": "gpt-4o"}
ALWAYS = ["check", "split", "train", "export", "evaluate", "parity", "verdict", "bundle"]


def job(spec: Spec) -> Any:
    steps = steps_there(spec)
    names = [each.name for each in steps]
    work = JobWork(
        name="",
        title="x",
        steps=steps,
        given={},
        sources=dict.fromkeys(names, ()),
        clusters=dict.fromkeys(names, "cluster"),
        limits=dict.fromkeys(names, 60),
        code="azureml:code:1",
        environment="azureml:environment:1",
        tags={},
        kept=dict.fromkeys(names, "kept"),
        without=steps_not_there(spec),
    )
    return job_of(work, spec)


@pytest.mark.parametrize(
    ("asked", "more"),
    [
        ({"api": API}, []),
        ({"judge": JUDGE}, []),
        ({"api": API, "judge": JUDGE}, []),
        ({"api": API | {"key": "entra"}, "judge": JUDGE}, ["baseline"]),
        ({"apis": [API | {"key": None}, API | {"name": "other"}]}, []),
    ],
    ids=["an API with a key", "a judge with a key", "both", "an API without a key", "one of two APIs"],
)
def test_the_verdict_and_the_bundle_are_made_without_what_needs_a_key(asked: dict[str, Any], more: list[str]) -> None:
    spec = make_spec(azure={"gpu": None, "cpu": "Standard_D4s_v3"}, **asked)
    jobs = job(spec).jobs
    assert sorted(jobs) == sorted([*ALWAYS, *more])
    for name in jobs:
        read = set(STEPS[name].inputs_of(spec)) & set(jobs)
        assert {each for each in STEPS if f"--in {each}=" in jobs[name].component.command} == read
        assert read <= set(jobs[name].inputs)
        left = set(STEPS[name].inputs_of(spec)) - set(jobs)
        assert {each for each in STEPS if f"--without {each} " in jobs[name].component.command} == left


@pytest.mark.slow
def test_a_node_judges_without_the_answers_of_apis_and_of_the_judge(tmp_path: Path) -> None:
    spec = project(tmp_path)
    bring_up_to_date(spec, "parity")
    inputs = {link.name: link.resolve() for link in (tmp_path / "runs" / "latest").iterdir()}
    arguments = [f"api={json.dumps(API)}", f"judge={json.dumps(JUDGE)}", "--without", "baseline", "--without", "judge"]
    arguments += [word for name in STEPS["verdict"].inputs_of(spec) for word in ("--in", f"{name}={inputs[name]}")]
    done = step("verdict", "--spec", tmp_path, *arguments, "--out", tmp_path / "judged")
    assert done.returncode == 0, done.stderr
    verdict = json.loads((tmp_path / "judged" / "verdict.json").read_text("utf-8"))["verdict"]
    assert verdict["decision"]
    (reason,) = (each for each in verdict["reasons"] if "gpt-4o-mini was not measured in this run" in each)
    assert "needs a key that the run's machine lacks" in reason


def test_a_step_does_without_an_input_only_where_it_is_told_so(tmp_path: Path) -> None:
    """A forgotten `--in` must not change a verdict."""
    keyed, verdict = make_spec(tmp_path, api=API), STEPS["verdict"]
    inputs = {}
    for name in verdict.inputs_of(keyed, verdict.optional):
        facts = {"kind": name, "fingerprint": name, "spec_sha256": "", "code_version": ""}
        with atomic_folder(tmp_path / name, inputs={}, seed=1, **facts) as output:
            (output.path / "file").write_text(name, "utf-8")
        inputs[name] = tmp_path / name
    with pytest.raises(UserError, match="needs --in baseline=PATH"):
        execute_step(verdict, keyed, inputs, tmp_path / "out")
    with pytest.raises(UserError, match=r"can't do without split\. It can do without: baseline, judge"):
        execute_step(verdict, keyed, inputs, tmp_path / "out", without=["split"])

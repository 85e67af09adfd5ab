"""What the calendar runs: every step that needs no key of this machine, up to the bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_spec
from tests.crash.linear import bring_up_to_date, project
from tunewright.backends.azure.jobs import JobWork, job_of
from tunewright.backends.azure.schedule import steps_there
from tunewright.config import Spec, load_spec
from tunewright.core.errors import UserError
from tunewright.pipeline.runner import execute_step
from tunewright.pipeline.steps import STEPS

API = {"model": "gpt-4o-mini", "url": "https://api.openai.com/v1", "key": "OPENAI_API_KEY"}
JUDGE = {"model": "gpt-4o"}
ALWAYS = ["check", "split", "train", "export", "evaluate", "parity", "verdict", "bundle"]


def job(spec: Spec) -> Any:
    steps = steps_there(spec)
    names = [step.name for step in steps]
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


@pytest.mark.slow
def test_a_node_judges_without_the_answers_of_apis_and_of_the_judge(tmp_path: Path) -> None:
    spec = project(tmp_path)
    bring_up_to_date(spec, "parity")
    inputs = {link.name: link.resolve() for link in (tmp_path / "runs" / "latest").iterdir()}
    keyed = load_spec(tmp_path, [f"api={json.dumps(API)}", f"judge={json.dumps(JUDGE)}"])
    execute_step(STEPS["verdict"], keyed, inputs, tmp_path / "judged")
    assert json.loads((tmp_path / "judged" / "verdict.json").read_text("utf-8"))["verdict"]["decision"]
    with pytest.raises(UserError, match="needs --in split=PATH"):
        execute_step(STEPS["verdict"], keyed, {"check": inputs["check"]}, tmp_path / "again")

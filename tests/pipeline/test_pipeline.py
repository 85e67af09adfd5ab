"""The pipeline's bookkeeping, with steps that write a few bytes instead of training a model."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import LABELS, REPOSITORY, make_spec, write_project
from tunewright import api
from tunewright.config import Spec
from tunewright.core import limits
from tunewright.core.artifacts import Manifest, atomic_folder, read_manifest
from tunewright.core.errors import UserError
from tunewright.core.processes import sole_writer
from tunewright.pipeline.fingerprint import PACKAGES, code_version, fingerprint
from tunewright.pipeline.runner import PipelineResult, execute_step, latest_kept, run_pipeline
from tunewright.pipeline.steps import STEPS, Step, steps_to

ALL = [name for name in STEPS if name not in ("baseline", "judge")]
"""The steps of a spec that names neither a judge nor how the API answers."""


class TinyPlace:
    """Runs a step in this process: its output is its own fingerprint. Remembers which steps it ran."""

    def __init__(self, spec: Spec, fails_at: str | None = None):
        self.spec, self.fails_at = spec, fails_at
        self.ran: list[str] = []

    def __call__(self, step: Step, inputs: Mapping[str, Path], target: Path) -> None:
        if step.name == self.fails_at:
            raise UserError("no luck")
        self.ran.append(step.name)
        contents = {name: _manifest(path).content for name, path in inputs.items()}
        pinned = fingerprint(self.spec, step, contents)["fingerprint"]
        with atomic_folder(
            target, kind=step.name, fingerprint=pinned, spec_sha256="", inputs=contents, seed=0, code_version=""
        ) as output:
            (output.path / "out.txt").write_text(pinned)


def _manifest(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    assert manifest
    return manifest


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path / "project")


def ran(
    project: Path,
    *,
    fails_at: str | None = None,
    to: str = "bundle",
    from_step: str | None = None,
    force: bool = False,
    **changes: Any,
) -> list[str]:
    """Run the pipeline and say which steps really ran."""
    return run(project, fails_at=fails_at, to=to, from_step=from_step, force=force, **changes)[0]


def run(
    project: Path,
    *,
    fails_at: str | None = None,
    to: str = "bundle",
    from_step: str | None = None,
    force: bool = False,
    **changes: Any,
) -> tuple[list[str], PipelineResult]:
    spec = make_spec(project, **changes)
    place = TinyPlace(spec, fails_at)
    result = run_pipeline(spec, place, runs=project / "runs", to=to, from_step=from_step, force=force)
    assert [name for name, outcome in result.steps.items() if not outcome.reused] == place.ran
    return place.ran, result


def test_a_first_run_runs_every_step_in_order(project: Path) -> None:
    assert ran(project) == ALL


def test_every_step_reads_only_steps_before_it() -> None:
    for number, step in enumerate(STEPS.values()):
        assert set(step.inputs) <= set(list(STEPS)[:number])
        assert step.package in PACKAGES


def test_every_section_a_step_names_is_one_of_the_specs() -> None:
    named = {name.partition(".")[0] for step in STEPS.values() for name in step.sections}
    assert named <= set(Spec.model_fields)


def test_a_second_run_reuses_everything(project: Path) -> None:
    ran(project)
    assert ran(project) == []


def test_force_runs_everything_again(project: Path) -> None:
    ran(project)
    assert ran(project, force=True) == ALL


def test_from_a_step_runs_it_and_those_after_it(project: Path) -> None:
    ran(project)
    assert ran(project, from_step="evaluate") == ["evaluate", "parity", "verdict", "bundle"]


def test_a_judge_is_asked_where_the_spec_names_one(project: Path) -> None:
    ran(project)
    judge = {"model": "gpt-4o"}
    assert ran(project, judge=judge) == ["judge", "verdict", "bundle"]
    assert ran(project, judge=judge | {"sample": 5}) == ["judge", "verdict", "bundle"]
    assert ran(project) == []


@pytest.mark.slow
def test_the_api_is_measured_where_the_spec_says_how(project: Path) -> None:
    ran(project)
    recorded = project / "old.jsonl"
    recorded.write_text("{}\n")
    api = {"recorded": "old.jsonl"}
    assert ran(project, api=api) == ["baseline", "verdict", "bundle"]
    assert ran(project, api=api, to="train") == [], "what needs no API does not ask it"
    recorded.rename(project / "moved.jsonl")
    assert ran(project, api={"recorded": "moved.jsonl"}) == [], "where the file lies does not matter"
    (project / "moved.jsonl").write_text("{} \n")
    assert ran(project, api={"recorded": "moved.jsonl"}) == ["baseline", "verdict", "bundle"]
    assert ran(project, api={"recorded": "mov*.jsonl"}) == []
    (project / "moves.jsonl").write_text("{}\n")
    assert ran(project, api={"recorded": "mov*.jsonl"}) == ["baseline", "verdict", "bundle"]
    assert ran(project, api={"url": "https://api.example.com/v1"}) == ["baseline", "verdict", "bundle"]
    assert ran(project) == []


def test_a_run_up_to_a_step_stops_there(project: Path) -> None:
    assert ran(project, to="split") == ["check", "split"]


def test_a_run_goes_on_after_the_step_that_failed(project: Path) -> None:
    with pytest.raises(UserError, match="no luck"):
        ran(project, fails_at="export")
    assert ran(project) == ["export", "evaluate", "parity", "verdict", "bundle"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "again"),
    [
        # The check reads these too. A real one then finds the same rows, and what follows is reused:
        # tests/pipeline/test_short_run.py.
        ({"goal": {"accuracy": 0.8}}, ALL),
        ({"model": "qwen3-0.6b"}, ALL),
        ({"train": {"max_length": 99}}, ALL),
        ({"api": {"model": "gpt-4.1"}}, ["verdict", "bundle"]),
        ({"traffic": {"requests_per_month": 5}}, ["verdict", "bundle"]),
        ({"monitor": {"keep_days": 5}}, ["verdict", "bundle"]),  # a month's storage
        ({"azure": {"gpu": "Standard_NC8as_T4_v3"}}, ["verdict", "bundle"]),  # a retraining's machine
        ({"azure": {"nodes": 2}, "monitor": {"captures": "elsewhere"}}, []),
        ({"evaluate": {"few_shot": 0}}, ["evaluate", "parity", "verdict", "bundle"]),
        ({"export": {"precision": "fp32"}}, ["export", "evaluate", "parity", "verdict", "bundle"]),
        ({"train": {"lr": 1e-4}}, ["train", "export", "evaluate", "parity", "verdict", "bundle"]),
        ({"seed": 1}, ["split", "train", "export", "evaluate", "parity", "verdict", "bundle"]),
        ({"data": {"train": "train.jsonl", "text": "body"}}, ALL),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_changed_section_runs_again_what_depends_on_it(changes: dict, again: list[str], project: Path) -> None:
    ran(project)
    assert ran(project, **changes) == again


def test_changing_back_finds_the_old_outputs(project: Path) -> None:
    ran(project)
    ran(project, train={"lr": 1e-4})
    assert ran(project) == []


def test_changed_raw_data_runs_everything_again(project: Path) -> None:
    ran(project)
    with (project / "train.jsonl").open("a") as stream:
        stream.write('{"text": "one more", "label": "refund"}\n')
    assert ran(project) == ALL


def test_touching_a_raw_file_changes_nothing(project: Path) -> None:
    ran(project)
    (project / "train.jsonl").touch()
    assert ran(project) == []


def test_a_moved_project_reuses_its_outputs(project: Path) -> None:
    ran(project)
    assert ran(project.rename(project.with_name("moved"))) == []


def test_a_damaged_output_is_made_again(project: Path) -> None:
    _, result = run(project)
    (result.folder("export") / "out.txt").unlink()
    assert ran(project) == ["export"]


@pytest.mark.parametrize("where", ["to", "from_step"])
def test_an_unknown_step_is_refused_with_the_known_ones(where: str, project: Path) -> None:
    with pytest.raises(UserError, match=r"no step 'tain'.*check, split, baseline, train"):
        run(project, **{where: "tain"})
    assert not (project / "runs").exists()


def test_a_step_that_this_specs_pipeline_lacks_is_refused_with_its_own_steps(project: Path) -> None:
    with pytest.raises(UserError, match=r"has no step 'baseline'.*check, split, train"):
        ran(project, from_step="baseline")
    with pytest.raises(UserError, match=r"has no step 'verdict'.*check, split\.$"):
        ran(project, to="split", from_step="verdict")
    assert not (project / "runs").exists()
    spec = make_spec(project).model_copy(update={"candidates": ("linear", "all-minilm")})
    with pytest.raises(UserError, match="has no step 'judge'"):
        api.run(spec, from_step="judge")
    judged = make_spec(project, judge={"model": "gpt-4o"})
    paths = {tuple(step.name for step in steps_to(each, "bundle")) for each in (judged, *judged.each_candidate)}
    assert len(paths) == 1, "candidates have the steps of their spec"


def test_a_missing_raw_file_is_refused(project: Path) -> None:
    (project / "train.jsonl").unlink()
    with pytest.raises(UserError, match=r"train\.jsonl: There is no such data file"):
        ran(project)


def test_a_second_run_in_the_same_folder_is_refused(project: Path) -> None:
    (project / "runs").mkdir()
    with (
        sole_writer(project / "runs"),
        pytest.raises(UserError, match=r"Another Tunewright process.*--runs"),
    ):
        ran(project)


def test_a_failure_names_its_step(project: Path) -> None:
    with pytest.raises(UserError) as error:
        ran(project, fails_at="split")
    assert error.value.step == "split"


def test_the_lock_is_given_back_after_a_failure(project: Path) -> None:
    with pytest.raises(UserError):
        ran(project, fails_at="check")
    assert ran(project) == ALL


def test_a_step_that_leaves_no_whole_output_is_told(project: Path) -> None:
    spec = make_spec(project)
    with pytest.raises(UserError, match="check ended without a whole output"):
        run_pipeline(spec, lambda *_: None, runs=project / "runs")


def test_latest_leads_to_the_outputs_last_used(project: Path) -> None:
    ran(project)
    _, changed = run(project, train={"lr": 1e-4})
    assert (project / "runs" / "latest" / "train").resolve() == changed.folder("train")
    _, back = run(project)
    assert (project / "runs" / "latest" / "train").resolve() == back.folder("train") != changed.folder("train")


def test_trials_leave_the_latest_outputs_alone(project: Path) -> None:
    runs = project / "runs"
    with latest_kept(runs):
        ran(project, to="split")
    assert not list((runs / "latest").iterdir())
    ran(project, to="split")
    before = {link.name: link.resolve() for link in (runs / "latest").iterdir()}
    with pytest.raises(UserError, match="no luck"), latest_kept(runs):
        _, changed = run(project, train={"lr": 1e-4})
        assert (runs / "latest" / "train").resolve() == changed.folder("train")
        raise UserError("no luck")
    assert {link.name: link.resolve() for link in (runs / "latest").iterdir()} == before


def test_executing_a_step_without_its_input_is_refused(project: Path) -> None:
    with pytest.raises(UserError, match="needs --in check=PATH"):
        execute_step(STEPS["split"], make_spec(project), {}, project / "out")


def test_executing_a_step_on_a_folder_that_is_not_whole_is_refused(project: Path) -> None:
    (project / "check").mkdir()
    with pytest.raises(UserError, match="absent or not whole"):
        execute_step(STEPS["split"], make_spec(project), {"check": project / "check"}, project / "out")


def test_an_executed_step_records_its_inputs_and_sources(project: Path) -> None:
    spec = make_spec(project)
    execute_step(STEPS["check"], spec, {}, project / "check")
    execute_step(STEPS["split"], spec, {"check": project / "check"}, project / "split")
    assert set(_manifest(project / "check").inputs) == {"data.train", "model"}
    assert _manifest(project / "split").inputs == {"check": _manifest(project / "check").content}


@pytest.mark.slow
def test_changed_documents_run_everything_again(project: Path) -> None:
    rows = [{"file": f"{name}.txt", "label": LABELS[0]} for name in "ab"]
    (project / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (project / "a.txt").write_text("one")
    data = {"train": "train.jsonl", "document": "file"}
    assert ran(project, data=data) == ALL
    assert ran(project, data=data) == []
    (project / "a.txt").write_text("two")
    assert ran(project, data=data) == ALL
    (project / "b.txt").write_text("no longer missing")
    assert ran(project, data=data) == ALL
    (project / "a.txt").unlink()
    assert ran(project, data=data) == ALL
    (project / "a.txt").write_text("two")
    assert ran(project, data=data) == []


def test_the_packages_of_a_fingerprint_stand_in_import_order() -> None:
    """A step's code may use its own package and those before it, as import-linter holds them."""
    contract = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"][0]
    layers = [
        name.strip().removeprefix("tunewright.") for line in reversed(contract["layers"]) for name in line.split("|")
    ]
    assert [name for name in layers if name in PACKAGES] == list(PACKAGES)
    below = layers[layers.index("config") : layers.index("parity")]
    assert set(below) - set(PACKAGES) <= {"project", "gateway"}, "each shapes what a step writes"


@pytest.mark.parametrize(
    ("limit", "changed"),
    [
        ("RECORD_BYTES", ["data", "parity"]),
        ("ANSWER_SECONDS", ["parity"]),
        ("SIGN_IN_TRIES", []),
    ],
)
def test_a_limit_counts_for_the_steps_whose_code_names_it(
    limit: str, changed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record's longest text decides which rows are read; sign-ins belong to no step."""
    of_packages = {package: code_version.__wrapped__(package) for package in ("data", "parity")}
    monkeypatch.setattr(limits, limit, getattr(limits, limit) + 1)
    assert [each for each, before in of_packages.items() if code_version.__wrapped__(each) != before] == changed

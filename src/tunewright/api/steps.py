"""Run single steps: data, APIs, training, evaluation; and plan what they need."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tunewright.api.pipeline import On, bring_up_to_date
from tunewright.config import Spec
from tunewright.core.artifacts import output_folder, partial_of
from tunewright.core.errors import UserError
from tunewright.core.processes import sole_writer
from tunewright.models.linear_model import LINEAR
from tunewright.models.naming import require_known
from tunewright.pipeline.fingerprint import fingerprint
from tunewright.pipeline.runner import PipelineResult, latest_kept
from tunewright.pipeline.steps import STEPS
from tunewright.project import Project
from tunewright.training.capabilities import require_able

if TYPE_CHECKING:
    from tunewright.evaluation.api.baseline import CostForecast
    from tunewright.pipeline.planning.project import ProjectPlan
    from tunewright.pruning.search import Pruning
    from tunewright.training.loop.sweep import Sweep


def check(spec: Spec, *, runs: Path | None = None, force: bool = False, on: On = "local") -> Path:
    """Read and check the raw data. Returns the folder with `findings.json`."""
    return bring_up_to_date(spec, "check", runs, None, force, on).folder("check")


def split(spec: Spec, *, runs: Path | None = None, force: bool = False, on: On = "local") -> Path:
    """Split the checked data into a dataset. Returns its folder (see `tunewright.data.load_dataset`)."""
    return bring_up_to_date(spec, "split", runs, None, force, on).folder("split")


def baseline(spec: Spec, *, runs: Path | None = None, force: bool = False, on: On = "local") -> Path:
    """Send the test examples to the spec's APIs, or read their recorded answers. Returns the folder with
    `baseline.json` and each API's `answers/NAME.jsonl`.

    Raises:
        UserError: the spec has neither an endpoint nor recorded answers; the endpoint refuses; or the budget is spent.
    """
    if not spec.measured_apis:
        raise _no_endpoint("api.recorded=answers.csv, or api.url=openai")
    return bring_up_to_date(spec, "baseline", runs, None, force, on).folder("baseline")


def baseline_forecast(spec: Spec, *, runs: Path | None = None) -> list[CostForecast]:
    """Forecast the requests and the cost of `baseline` for each API. No API is called."""
    from tunewright.evaluation.api.baseline import forecast

    if not spec.asked_apis:
        raise _no_endpoint("api.url=openai")
    done = bring_up_to_date(spec, "split", runs)
    return forecast(spec, done.folder("split"), done.runs).apis


def _no_endpoint(keys: str) -> UserError:
    return UserError("The spec does not say how to call an API.", where="api", fix=f"Add to the command: {keys}")


def plan(spec: Spec, *, runs: Path | None = None) -> ProjectPlan:
    """Predict memory, time and price of training on each machine, and of every step here and in Azure; see
    `tunewright.pipeline.planning.project.plan_project`. If the spec names several candidates, the plan is for the
    first that takes more than seconds.
    """
    from tunewright.backends.azure.machines import nodes_of, size_of
    from tunewright.core.progress import quiet_libraries
    from tunewright.pipeline.planning.project import plan_project

    spec = next((each for each in spec.each_candidate if each.model != LINEAR), spec)
    require_known(spec.model, spec.folder)
    require_able(spec)
    quiet_libraries()
    done = bring_up_to_date(spec, "split", runs)
    measured = {name: outcome.manifest.wall_seconds for name, outcome in done.steps.items()}
    return plan_project(
        spec,
        done.folder("split"),
        done.runs,
        measured,
        lambda step: size_of(step, spec),
        lambda step: nodes_of(step, spec),
    )


def train(spec: Spec, *, runs: Path | None = None, force: bool = False, resume: bool = False, on: On = "local") -> Path:
    """Train a model, or continue an interrupted training. Returns the folder with `adapter/` and `curve.jsonl`.

    Args:
        resume: only continue an interrupted training.

    Raises:
        UserError: `resume` is set, and there is no interrupted training with these data and settings, or `force` is set
            as well.
    """
    if resume and force:
        raise UserError(
            "--resume and --force don't go together.",
            fix="Leave --force out to continue the training, or --resume to begin it anew.",
        )
    if resume:
        from tunewright.training.loop.soup_training import has_begun

        folder = _training_folder(spec, bring_up_to_date(spec, "split", runs), "train")
        checkpoints = [partial_of(folder) / name for name in STEPS["train"].resumes]
        if not folder.exists() and not any(has_begun(path) for path in checkpoints):
            raise UserError(
                "There is no training to continue.",
                where=folder.parent,
                why="None was started with these data and settings, or none was interrupted after a checkpoint.",
                fix="Type the command without --resume to start one.",
            )
    return bring_up_to_date(spec, "train", runs, None, force, on).folder("train")


def sweep(spec: Spec, *, trials: int, runs: Path | None = None) -> Sweep:
    """Search for better training settings; see `tunewright.training.loop.sweep.run_sweep`. Earlier trials with the same
    data and settings count, and interrupted trials continue."""
    from tunewright.core.progress import quiet_libraries
    from tunewright.pipeline.planning.preflight import require_room
    from tunewright.training.loop.sweep import run_sweep

    require_known(spec.model, spec.folder)
    require_able(spec)
    quiet_libraries()
    result = bring_up_to_date(spec, "split", runs)
    require_room(spec, [STEPS["train"]], result.runs)
    with sole_writer(result.runs, "choose another folder with --runs"):
        return run_sweep(spec, result.folder("split"), _training_folder(spec, result, "sweep"), trials)


def prune(spec: Spec, *, runs: Path | None = None) -> Pruning:
    """Find the shortest prompt that loses nothing; see `tunewright.pruning.search.search`. Earlier trainings with the
    same prompts, data and settings count.

    Raises:
        UserError: there is nothing to leave out, or too little validation data to show anything.
    """
    from tunewright.pruning.search import search

    def run(variant: Spec, step: str) -> Mapping[str, Path]:
        return {name: each.folder for name, each in bring_up_to_date(variant, step, runs).steps.items()}

    require_known(spec.model, spec.folder)
    with latest_kept(Project(spec.folder, runs).runs.resolve()):
        return search(spec, run)


def evaluate(spec: Spec, *, runs: Path | None = None, force: bool = False, on: On = "local") -> Path:
    """Let every candidate answer the test examples. Returns the folder with `answers/<candidate>.jsonl`."""
    return bring_up_to_date(spec, "evaluate", runs, None, force, on).folder("evaluate")


def _training_folder(spec: Spec, split: PipelineResult, kind: str) -> Path:
    """The folder of a training, or of a sweep around it, on an up-to-date split."""
    pinned = fingerprint(spec, STEPS["train"], {"split": split.steps["split"].manifest.content})["fingerprint"]
    return output_folder(split.runs, kind, pinned)

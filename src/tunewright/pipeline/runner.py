"""Run the outdated steps and reuse the others. Each output is whole or absent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tunewright.config import Spec
from tunewright.core.artifacts import LATEST, Manifest, Output, atomic_folder, output_folder, partial_of, read_manifest
from tunewright.core.errors import UserError
from tunewright.core.processes import is_leader, sole_writer
from tunewright.core.progress import say
from tunewright.pipeline.fingerprint import Sources, fingerprint
from tunewright.pipeline.steps import STEPS, Step, StepFunction, resolve, steps_to


@dataclass(frozen=True)
class StepOutcome:
    """The output of one step, and whether it was reused."""

    name: str
    folder: Path
    reused: bool
    manifest: Manifest


@dataclass(frozen=True)
class PipelineResult:
    """The result of a run: one whole folder per step."""

    runs: Path
    steps: dict[str, StepOutcome] = field(default_factory=dict)

    def folder(self, step: str) -> Path:
        """The output folder of a step."""
        return self.steps[step].folder


Backend = Callable[[Step, Mapping[str, Path], Path], None]
"""Runs one step: (step, the folders of all earlier steps by name, target folder)."""


def run_pipeline(
    spec: Spec, backend: Backend, *, runs: Path, to: str = "bundle", from_step: str | None = None, force: bool = False
) -> PipelineResult:
    """Run every outdated step up to `to`. A step is reused if its inputs, spec sections and code are unchanged.

    Args:
        backend: runs a step.
        runs: the folder of all outputs; the name of each step's folder contains its fingerprint.
        from_step: run this step and all later ones, even if they are up to date.
        force: run every step.

    Raises:
        UserError: a step is unknown or fails (the error's `step` names it), `from_step` is not on the way, or another
            run works in the same folder.
    """
    path = path_to(spec, to, from_step)
    forced = set(path) if force else set(path[path.index(from_step) :]) if from_step else set()
    result = PipelineResult(runs)
    runs.mkdir(parents=True, exist_ok=True)
    with sole_writer(runs, "choose another folder with --runs"):
        for number, name in enumerate(path, 1):
            outcome = _bring_up_to_date(
                spec, backend, STEPS[name], result, forced=name in forced, label=f"[{number}/{len(path)}] {name}"
            )
            result.steps[name] = outcome
            point_latest(runs, name, outcome.folder)
    return result


def path_to(spec: Spec, to: str, from_step: str | None = None) -> list[str]:
    """The names of the steps up to `to`, in order.

    Args:
        from_step: a step that must be one of them.

    Raises:
        UserError: there is no such step, or this spec's pipeline up to `to` lacks it.
    """
    for name in filter(None, (to, from_step)):
        if name not in STEPS:
            raise UserError(f"There is no step '{name}'.", fix=f"Steps: {', '.join(STEPS)}.")
    path = [step.name for step in steps_to(spec, to)]
    if from_step and from_step not in path:
        raise UserError(f"This spec's pipeline has no step '{from_step}'.", fix=f"Its steps: {', '.join(path)}.")
    return path


def _bring_up_to_date(
    spec: Spec, backend: Backend, step: Step, done: PipelineResult, *, forced: bool, label: str
) -> StepOutcome:
    inputs = {name: done.folder(name) for name in step.inputs_of(spec)}
    provenance = fingerprint(spec, step, {name: done.steps[name].manifest.content for name in inputs})
    target = output_folder(done.runs, step.name, provenance["fingerprint"])
    manifest = read_manifest(target)
    if manifest and not forced:
        say(f"{label} ✓ unchanged, reused")
        return StepOutcome(step.name, target, True, manifest)
    say(label)
    try:
        backend(step, {name: outcome.folder for name, outcome in done.steps.items()}, target)
    except UserError as error:
        error.step = step.name
        raise
    manifest = read_manifest(target)
    if manifest is None:
        raise UserError(f"The step {step.name} ended without a whole output.", where=target, fix="Run the step again.")
    say(f"{label} ✓ {manifest.wall_seconds:.1f} s, {manifest.peak_memory_mb:.0f} MB {_summary(manifest)}")
    return StepOutcome(step.name, target, False, manifest)


def due(spec: Spec, step: Step, to: str, done: Mapping[str, Path], runs: Path) -> list[Step]:
    """The later steps up to `to` that must run after this one: those that depend on it, directly or not, and those
    without an up-to-date output.

    Args:
        done: the folders of the earlier steps.
        runs: the folder of all outputs.
    """
    names = [each.name for each in steps_to(spec, to)]
    return _outdated(spec, names[names.index(step.name) + 1 :], {step.name}, dict(done), runs)


@dataclass(frozen=True)
class UpToDate:
    """Which outputs of a project are up to date with its spec."""

    folders: dict[str, Path]
    """The outputs that are up to date, by step."""
    outdated: list[Step]
    """The steps that must run, in order; empty if everything is up to date."""


def standing(spec: Spec, to: str, runs: Path, *, sources: Sources | None = None, whole: bool = True) -> UpToDate:
    """Which steps up to `to` are up to date.

    Args:
        runs: the folder of all outputs.
        sources: the function that hashes a step's raw files; by default `source_hashes`. Specs with the same files can
            share it.
        whole: whether an output must have all its files; else its manifest is enough.
    """
    folders: dict[str, Path] = {}
    names = [each.name for each in steps_to(spec, to)]
    return UpToDate(folders, _outdated(spec, names, set(), folders, runs, sources, whole=whole))


def _outdated(
    spec: Spec,
    names: Sequence[str],
    fresh: set[str],
    folders: dict[str, Path],
    runs: Path,
    sources: Sources | None = None,
    *,
    whole: bool = True,
) -> list[Step]:
    """The steps, of an ordered list, that depend on a fresh one or have no up-to-date output. The up-to-date outputs
    are added to `folders`."""
    manifests = {name: read_manifest(folder, whole=whole) for name, folder in folders.items()}
    contents = {name: manifest.content for name, manifest in manifests.items() if manifest}
    later = []
    for name in names:
        step = STEPS[name]
        inputs = step.inputs_of(spec)
        if fresh.isdisjoint(inputs):
            known = {each: contents[each] for each in inputs if each in contents}
            folder = output_folder(runs, name, fingerprint(spec, step, known, sources)["fingerprint"])
            if manifest := read_manifest(folder, whole=whole):
                folders[name], contents[name] = folder, manifest.content
                continue
        fresh.add(name)
        later.append(step)
    return later


def _summary(manifest: Manifest) -> str:
    shown = [
        f"{k.replace('_', ' ')} {v}"
        for k, v in manifest.result.items()
        if isinstance(v, (int, float)) and "sha" not in k
    ]
    return "· " + ", ".join(shown[:5]) if shown else ""


def execute_step(
    step: Step, spec: Spec, inputs: Mapping[str, Path], target: Path, *, without: Sequence[str] = ()
) -> None:
    """Run one step in this process and write its folder, whole or not at all.

    Args:
        without: the optional inputs that this run does without.

    Raises:
        UserError: an input folder is absent or not whole, the step can't do without an input, or torch can't use the
            machine's GPU.
    """
    from tunewright.models.device import GPU, require_gpu

    if step.needs_gpu == "torch" or os.environ.get(GPU) == "required":
        require_gpu()
    if needed := [name for name in without if name not in step.optional]:
        can = f"It can do without: {', '.join(step.optional)}." if step.optional else None
        raise UserError(f"The step {step.name} can't do without {' and '.join(needed)}.", fix=can)
    inputs = {name: folder for name, folder in inputs.items() if name not in without}
    contents = {}
    required = step.inputs_of(spec, without)
    for name in required:
        if name not in inputs:
            raise UserError(f"The step {step.name} needs --in {name}=PATH.", fix=f"Its inputs: {', '.join(required)}.")
        manifest = read_manifest(inputs[name])
        if manifest is None:
            raise UserError(
                "This input folder is absent or not whole.", where=inputs[name], fix=f"Run the step {name}."
            )
        contents[name] = manifest.content
    provenance = fingerprint(spec, step, contents)
    recorded = contents | {k.removeprefix("source."): v for k, v in provenance.items() if k.startswith("source.")}
    function: StepFunction = resolve(step.function)
    if not is_leader():
        # In a distributed training the leader owns the folder and completes it; the others only work in it.
        partial = partial_of(target)
        partial.mkdir(parents=True, exist_ok=True)
        function(spec, inputs, Output(partial))
        return
    with atomic_folder(
        target,
        kind=step.name,
        fingerprint=provenance["fingerprint"],
        spec_sha256=provenance["spec_sha256"],
        inputs=recorded,
        seed=spec.seed,
        code_version=provenance["code_version"],
        keep=step.resumes,
    ) as output:
        function(spec, inputs, output)


def processes_of(step: Step, spec: Spec, inputs: Mapping[str, Path]) -> int:
    """How many processes of this machine should run a step. A process of a running group is not divided again."""
    if not step.divided or "RANK" in os.environ:
        return 1
    count: int = resolve(step.divided)(spec, inputs)
    return count


def point_latest(runs: Path, name: str, folder: Path) -> None:
    """Point `runs/latest/<name>` to the output that was used last, for people; the pipeline never reads it."""
    latest = runs / LATEST
    latest.mkdir(exist_ok=True)
    link, fresh = latest / name, latest / f".{name}.new"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(Path("..") / folder.name)
    fresh.replace(link)


@contextmanager
def latest_kept(runs: Path) -> Iterator[None]:
    """Leave `runs/latest` as it was, whatever runs inside: a trial is not what people mean by the latest."""
    latest = runs / LATEST
    before = {link.name: runs / link.readlink().name for link in latest.glob("*") if link.is_symlink()}
    try:
        yield
    finally:
        for link in latest.glob("*"):
            if link.name not in before:
                link.unlink()
        for name, folder in before.items():
            point_latest(runs, name, folder)

"""Running steps: what is up to date is reused, what is not runs, and each output is whole or absent."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunewright.config import Spec
from tunewright.core.artifacts import LATEST, Manifest, Output, atomic_folder, partial_of, read_manifest
from tunewright.core.errors import UserError
from tunewright.core.processes import is_leader, sole_writer
from tunewright.core.progress import say
from tunewright.pipeline.fingerprint import Sources, fingerprint, source_hashes
from tunewright.pipeline.steps import STEPS, Step, StepFunction, resolve, steps_to


@dataclass(frozen=True)
class StepOutcome:
    name: str
    folder: Path
    reused: bool
    manifest: Manifest


@dataclass(frozen=True)
class PipelineResult:
    """What a run produced: one whole folder for each step."""

    runs: Path
    steps: dict[str, StepOutcome] = field(default_factory=dict)

    def folder(self, step: str) -> Path:
        return self.steps[step].folder


Backend = Callable[[Step, Mapping[str, Path], Path], None]
"""Runs one step: (step, the folders of all earlier steps by name, target folder)."""


def run_pipeline(
    spec: Spec, backend: Backend, *, runs: Path, to: str = "bundle", from_step: str | None = None, force: bool = False
) -> PipelineResult:
    """Bring every step up to `to` up to date; a step whose inputs, spec sections and code are unchanged is reused.

    Args:
        place: where steps run.
        runs: the folder of all outputs; each step's folder carries its fingerprint in its name.
        from_step: run this step and those after it even where they are up to date.
        force: run every step.

    Raises:
        UserError: an unknown step, another run in the same folder, or a fault in a step.
    """
    names = list(STEPS)
    for name in filter(None, (to, from_step)):
        if name not in STEPS:
            raise UserError(f"There is no step '{name}'.", fix=f"Steps: {', '.join(names)}.")
    wanted = [step.name for step in steps_to(spec, to)]
    forced = set(wanted) if force else set(wanted[wanted.index(from_step) :]) if from_step in wanted else set()
    result = PipelineResult(runs)
    runs.mkdir(parents=True, exist_ok=True)
    with sole_writer(runs):
        for number, name in enumerate(wanted, 1):
            outcome = _bring_up_to_date(
                spec, backend, STEPS[name], result, forced=name in forced, label=f"[{number}/{len(wanted)}] {name}"
            )
            result.steps[name] = outcome
            point_latest(runs, name, outcome.folder)
    return result


def _bring_up_to_date(
    spec: Spec, backend: Backend, step: Step, done: PipelineResult, *, forced: bool, label: str
) -> StepOutcome:
    inputs = {name: done.folder(name) for name in step.inputs_of(spec)}
    provenance = fingerprint(spec, step, {name: done.steps[name].manifest.content for name in inputs})
    target = _target(done.runs, step, provenance)
    manifest = read_manifest(target)
    if manifest and not forced:
        say(f"{label} ✓ unchanged, reused")
        return StepOutcome(step.name, target, True, manifest)
    say(label)
    backend(step, {name: outcome.folder for name, outcome in done.steps.items()}, target)
    manifest = read_manifest(target)
    if manifest is None:
        raise UserError(f"The step {step.name} ended without a whole output.", where=target, fix="Run it again.")
    say(f"{label} ✓ {manifest.wall_seconds:.1f} s, {manifest.peak_memory_mb:.0f} MB {_summary(manifest)}")
    return StepOutcome(step.name, target, False, manifest)


def due(spec: Spec, step: Step, to: str, done: Mapping[str, Path], runs: Path) -> list[Step]:
    """The steps behind one, up to `to`, that will have to run once that one has: those that read of it, directly or
    not, and those without an output that is up to date.

    Args:
        done: the folders of the steps before it.
        runs: the folder of all outputs.
    """
    names = [each.name for each in steps_to(spec, to)]
    return _outdated(spec, names[names.index(step.name) + 1 :], {step.name}, dict(done), runs)


@dataclass(frozen=True)
class UpToDate:
    """How a project stands to what its spec asks for."""

    folders: dict[str, Path]
    """The outputs that are up to date, by step."""
    outdated: list[Step]
    """The steps that would have to run, in their order; none where all is up to date."""


def standing(spec: Spec, to: str, runs: Path, *, sources: Sources | None = None, whole: bool = True) -> UpToDate:
    """Which steps up to `to` are up to date.

    Args:
        runs: the folder of all outputs.
        sources: what hashes a step's raw files; by default they are read. Specs that share them can share it.
        whole: whether an output must have all of its files, or its manifest is enough.
    """
    folders: dict[str, Path] = {}
    names = [each.name for each in steps_to(spec, to)]
    return UpToDate(folders, _outdated(spec, names, set(), folders, runs, sources or source_hashes, whole=whole))


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
    """Of some steps in their order those that read of a fresh one, or have no output that is up to date; `folders`
    gets those that are."""
    later = []
    for name in names:
        inputs = STEPS[name].inputs_of(spec)
        if fresh.isdisjoint(inputs):
            manifests = {each: read_manifest(folders[each], whole=whole) for each in inputs}
            contents = {each: manifest.content for each, manifest in manifests.items() if manifest}
            folder = _target(runs, STEPS[name], fingerprint(spec, STEPS[name], contents, sources))
            if read_manifest(folder, whole=whole):
                folders[name] = folder
                continue
        fresh.add(name)
        later.append(STEPS[name])
    return later


def _target(runs: Path, step: Step, provenance: Mapping[str, str]) -> Path:
    return runs / f"{step.name}-{provenance['fingerprint'][:12]}"


def _summary(manifest: Manifest) -> str:
    shown = [
        f"{k.replace('_', ' ')} {v}"
        for k, v in manifest.result.items()
        if isinstance(v, (int, float)) and "sha" not in k
    ]
    return "· " + ", ".join(shown[:5]) if shown else ""


def execute_step(step: Step, spec: Spec, inputs: Mapping[str, Path], target: Path) -> None:
    """Run one step in this process and write its folder, whole or not at all.

    Raises:
        UserError: an input folder is absent or not whole, or torch can't use the machine's GPU.
    """
    from tunewright.models.device import GPU, require_gpu

    if step.needs_gpu == "torch" or os.environ.get(GPU) == "required":
        require_gpu()
    manifests = {}
    needed = step.inputs_of(spec)
    for name in needed:
        if name not in inputs:
            raise UserError(f"The step {step.name} needs --in {name}=PATH.", fix=f"It reads: {', '.join(needed)}.")
        manifests[name] = read_manifest(inputs[name])
        if manifests[name] is None:
            raise UserError(
                "This input folder is absent or not whole.", where=inputs[name], fix=f"Make it with the step {name}."
            )
    contents = {name: manifest.content for name, manifest in manifests.items() if manifest}
    provenance = fingerprint(spec, step, contents)
    recorded = contents | {k.removeprefix("source."): v for k, v in provenance.items() if k.startswith("source.")}
    function: StepFunction = resolve(step.function)
    if not is_leader():
        # The leader of a distributed training owns the folder; the others work in it and finish nothing.
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
    """In how many processes of this machine a step is to run; one of several that others started is not divided."""
    if not step.divided or "RANK" in os.environ:
        return 1
    count: int = resolve(step.divided)(spec, inputs)
    return count


def point_latest(runs: Path, name: str, folder: Path) -> None:
    """`runs/latest/<name>` leads to the output last used, for people; the pipeline itself never reads it."""
    latest = runs / LATEST
    latest.mkdir(exist_ok=True)
    link, fresh = latest / name, latest / f".{name}.new"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(Path("..") / folder.name)
    fresh.replace(link)

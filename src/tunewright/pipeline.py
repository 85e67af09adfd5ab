"""The steps, what each reads and what each depends on, in one table.

    raw files -> check -> split [-> baseline] -> train -> export -> evaluate -> parity [-> judge] -> verdict -> bundle

`export` stands before `evaluate` because the verdict speaks of the quantised model that will really be served, so that
is one of the models to be evaluated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tunewright.artifacts import (
    Manifest,
    Output,
    atomic_folder,
    partial_of,
    read_manifest,
    sha256_file,
    sha256_json,
    sha256_tree,
)
from tunewright.errors import UserError
from tunewright.processes import is_leader, sole_writer
from tunewright.progress import say
from tunewright.spec import Spec, spec_sha256
from tunewright.version import __version__

StepFunction = Callable[[Spec, Mapping[str, Path], Output], None]

ROOMS = (
    "spec",
    "tasks",
    "models",
    "documents",
    "data",
    "assess",
    "train",
    "evaluate",
    "drift",
    "export",
    "serve",
    "monitor",
)
"""In import order: a room's code may use its own room and those before it."""


_MORE_MEMORY = "Run it on a machine with more memory."
_FEWER_ROWS = "What it holds grows with the number of rows: give it fewer, or more memory."
_SMALLER_STEP = (
    "Set train.method=qlora, train.gradient_checkpointing=true, or half of train.batch_size with twice "
    "train.accumulation; of an encoder half of train.encoder.batch_size; tunewright plan … says what fits."
)
_FEWER_CANDIDATES = (
    "Ask fewer candidates, and shorter prompts: evaluate.few_shot=0; ask fewer examples: evaluate.max_examples=200; or "
    "train an adapter with train.method=qlora, whose candidates have a base in 4 bits."
)
_SMALLER_SERVER = "Serve fewer bytes: export.precision=int8, or, but of an encoder, int4; or take a smaller base model."


@dataclass(frozen=True)
class Step:
    """One row of the pipeline.

    Args:
        function: `module:name` of the step function; imported only when the step runs.
        room: the room it lives in. Its code version is a hash of that room's source and of those above it.
        inputs: the steps whose outputs it reads.
        sections: the spec's sections, and single keys of others, that it depends on.
        resumes: names in its unfinished output that a later try may go on from.
        only_with: what of a spec must say something; otherwise the step is left out.
        reads: keys of the spec's sources whose bytes it depends on, or the first words of their keys.
        divided: `module:name` of a function (spec, inputs) that says in how many processes to run it on this machine.
        less_memory: what a user can do so that it needs less memory.
        needs_gpu: it runs models with torch, so that a GPU of its machine must be of use to torch.
    """

    name: str
    function: str
    room: str
    inputs: tuple[str, ...]
    sections: tuple[str, ...]
    resumes: tuple[str, ...] = ()
    only_with: str = ""
    reads: tuple[str, ...] = ()
    divided: str = ""
    less_memory: str = _MORE_MEMORY
    needs_gpu: bool = False

    def is_in(self, spec: Spec) -> bool:
        """Whether it is a step of this spec's pipeline."""
        return not self.only_with or bool(getattr(spec, self.only_with))

    def reads_from(self, key: str) -> bool:
        """Whether it depends on the bytes of what a spec names under a key."""
        return any(key == read or key.startswith(f"{read}.") for read in self.reads)

    def inputs_of(self, spec: Spec) -> tuple[str, ...]:
        """The steps of this spec's pipeline whose outputs it reads."""
        return tuple(name for name in self.inputs if STEPS[name].is_in(spec))


STEPS = {
    step.name: step
    for step in (
        Step(
            "check",
            "tunewright.data.steps:run_check",
            "data",
            (),
            ("task", "data", "model", "train.max_length", "goal"),
            less_memory=_FEWER_ROWS,
        ),
        Step(
            "split",
            "tunewright.data.steps:run_split",
            "data",
            ("check",),
            ("task", "data", "seed"),
            less_memory=_FEWER_ROWS,
        ),
        Step(
            "baseline",
            "tunewright.evaluate.baseline:run_baseline",
            "evaluate",
            ("split",),
            ("task", "data", "api", "apis", "baseline", "evaluate", "seed"),
            only_with="measured_apis",
            reads=("recorded", "prices"),
        ),
        Step(
            "train",
            "tunewright.train.run:run_train",
            "train",
            ("split",),
            ("task", "model", "train", "seed"),
            resumes=("checkpoints",),
            divided="tunewright.train.division:processes_for",
            less_memory=_SMALLER_STEP,
            needs_gpu=True,
        ),
        Step(
            "export",
            "tunewright.export.steps:run_export",
            "export",
            ("split", "train"),
            ("name", "task", "model", "train", "export"),
            less_memory=_SMALLER_SERVER,
        ),
        Step(
            "evaluate",
            "tunewright.evaluate.steps:run_evaluate",
            "evaluate",
            ("split", "train", "export"),
            ("task", "model", "train", "evaluate", "seed"),
            resumes=("answers",),
            less_memory=_FEWER_CANDIDATES,
            needs_gpu=True,
        ),
        Step(
            "parity",
            "tunewright.serve.steps:run_parity",
            "serve",
            ("split", "export", "evaluate"),
            ("task", "evaluate", "export", "seed"),
            less_memory=_SMALLER_SERVER,
        ),
        Step(
            "judge",
            "tunewright.evaluate.judge:run_judge",
            "evaluate",
            ("split", "parity"),
            ("task", "judge", "evaluate", "seed"),
            only_with="judge",
            reads=("judge.human",),
        ),
        Step(
            "verdict",
            "tunewright.evaluate.steps:run_verdict",
            "evaluate",
            ("check", "split", "baseline", "train", "export", "evaluate", "parity", "judge"),
            (
                "name",
                "task",
                "goal",
                "api",
                "apis",
                "today",
                "traffic",
                "costs",
                "export",
                "seed",
                "monitor.keep_days",
                "monitor.reviews_to_retrain",
                "azure.gpu",
                "azure.cpu",
            ),
            reads=("prices",),
        ),
        Step("bundle", "tunewright.export.steps:run_bundle", "export", ("split", "export", "parity", "verdict"), ()),
    )
}

BESIDE = {
    step.name: step
    for step in (
        Step(
            "drift",
            "tunewright.monitor.steps:run_drift",
            "monitor",
            ("bundle",),
            ("task",),
            reads=("monitor.captures",),
        ),
    )
}
"""Steps that no run leads to: they look at what it made while that is served."""


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


Place = Callable[[Step, Mapping[str, Path], Path], None]
"""Runs one step: (step, the folders of all earlier steps by name, target folder)."""

Sources = Callable[[Spec, Step], Mapping[str, str]]
"""Hashes what a step reads beside its inputs and the base model, as `source_hashes` does."""


def run_pipeline(
    spec: Spec, place: Place, *, runs: Path, to: str = "bundle", from_step: str | None = None, force: bool = False
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
                spec, place, STEPS[name], result, forced=name in forced, label=f"[{number}/{len(wanted)}] {name}"
            )
            result.steps[name] = outcome
            point_latest(runs, name, outcome.folder)
    return result


def steps_to(spec: Spec, to: str) -> list[Step]:
    """A step and all that come before it, in their order."""
    needed = _needed(spec, to)
    return [step for name, step in STEPS.items() if name in needed]


def _needed(spec: Spec, to: str) -> set[str]:
    """A step and all whose outputs it needs, as far as they are steps of this spec's pipeline."""
    if not STEPS[to].is_in(spec):
        return set()
    return {to}.union(*(_needed(spec, name) for name in STEPS[to].inputs_of(spec)))


def _bring_up_to_date(
    spec: Spec, place: Place, step: Step, done: PipelineResult, *, forced: bool, label: str
) -> StepOutcome:
    inputs = {name: done.folder(name) for name in step.inputs_of(spec)}
    provenance = fingerprint(spec, step, {name: done.steps[name].manifest.content for name in inputs})
    target = _target(done.runs, step, provenance)
    manifest = read_manifest(target)
    if manifest and not forced:
        say(f"{label} ✓ unchanged, reused")
        return StepOutcome(step.name, target, True, manifest)
    say(label)
    place(step, {name: outcome.folder for name, outcome in done.steps.items()}, target)
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
class Standing:
    """How a project stands to what its spec asks for."""

    folders: dict[str, Path]
    """The outputs that are up to date, by step."""
    outdated: list[Step]
    """The steps that would have to run, in their order; none where all is up to date."""


def standing(spec: Spec, to: str, runs: Path, *, sources: Sources | None = None, whole: bool = True) -> Standing:
    """Which steps up to `to` are up to date.

    Args:
        runs: the folder of all outputs.
        sources: what hashes a step's raw files; by default they are read. Specs that share them can share it.
        whole: whether an output must have all of its files, or its manifest is enough.
    """
    folders: dict[str, Path] = {}
    names = [each.name for each in steps_to(spec, to)]
    return Standing(folders, _outdated(spec, names, set(), folders, runs, sources or source_hashes, whole=whole))


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


def read_once() -> Sources:
    """Hashes each step's raw files once, for specs that share them, as the candidates of one spec do."""
    known: dict[str, Mapping[str, str]] = {}

    def read(spec: Spec, step: Step) -> Mapping[str, str]:
        if step.name not in known:
            known[step.name] = source_hashes(spec, step)
        return known[step.name]

    return read


def pedigrees(spec: Spec, to: str) -> dict[str, str]:
    """What pins each step's output before there is any, up to `to`: as `fingerprint`, but of what inputs are made of
    in place of their content."""
    made: dict[str, str] = {}
    for step in steps_to(spec, to):
        made[step.name] = fingerprint(spec, step, {each: made[each] for each in step.inputs_of(spec)})["fingerprint"]
    return made


def _target(runs: Path, step: Step, provenance: Mapping[str, str]) -> Path:
    return runs / f"{step.name}-{provenance['fingerprint'][:12]}"


def _summary(manifest: Manifest) -> str:
    shown = [
        f"{k.replace('_', ' ')} {v}"
        for k, v in manifest.result.items()
        if isinstance(v, (int, float)) and "sha" not in k
    ]
    return "· " + ", ".join(shown[:5]) if shown else ""


def fingerprint(spec: Spec, step: Step, inputs: Mapping[str, str], sources: Sources | None = None) -> dict[str, str]:
    """What pins a step's output: its inputs' content, its spec sections, raw files and the documents they name, frozen
    test or weights, the code.

    Args:
        inputs: content hash of each input folder.
        sources: what hashes the step's raw files; by default they are read.
    """
    from tunewright.models.resolve import identity

    read = dict((sources or source_hashes)(spec, step))
    if "model" in step.sections:
        read["model"] = identity(spec.model, spec.folder)
    code = code_version(step.room)
    section_hash = spec_sha256(spec, *step.sections)
    whole = sha256_json([step.name, dict(inputs), read, section_hash, code])
    return {
        "fingerprint": whole,
        "code_version": code,
        "spec_sha256": spec_sha256(spec),
        **{f"source.{k}": v for k, v in read.items()},
    }


def source_hashes(spec: Spec, step: Step) -> dict[str, str]:
    """SHA-256 of what a step reads beside its inputs and the base model, by name: the raw files, the documents they
    name, the frozen test, the adapter to begin with."""
    from tunewright.data.steps import documents_sha256, raw_files, sources_sha256

    sources: dict[str, str] = {}
    if not step.inputs:
        for name, files in raw_files(spec).items():
            sources[name] = sha256_json([(file.name, sha256_file(file.path)) for file in files])
            if spec.data.document:
                sources[f"{name}.documents"] = documents_sha256(files, spec.data.document, spec.documents_root)
    if step.name == "split" and (frozen := spec.frozen_folder):
        sources["frozen"] = sha256_tree(frozen)[0]
    if step.name == "train" and spec.train.start:
        sources["start"] = sha256_tree(spec.path(spec.train.start))[0]
    for key, path in spec.sources.items():
        if step.reads_from(key):
            sources[key] = sources_sha256(path, spec.data.document, spec.documents_root)
    return sources


@cache
def code_version(room: str) -> str:
    """Tunewright's version and a hash of the source that steps of `room` can reach and that shapes what they write."""
    package = Path(__file__).parent
    folders = [package / name for name in ROOMS[: ROOMS.index(room) + 1]]
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    files += [package / "artifacts.py", *sorted((package / "page").glob("*.*"))]
    return f"{__version__}+{sha256_json([(f.relative_to(package).as_posix(), source_sha256(f)) for f in files])[:12]}"


@cache
def source_sha256(path: Path) -> str:
    """SHA-256 of a file of this program, which does not change while that runs."""
    return sha256_file(path)


def execute_step(step: Step, spec: Spec, inputs: Mapping[str, Path], target: Path) -> None:
    """Run one step in this process and write its folder, whole or not at all.

    Raises:
        UserError: an input folder is absent or not whole, or torch can't use the machine's GPU.
    """
    from tunewright.models.device import GPU, require_gpu

    if step.needs_gpu or os.environ.get(GPU) == "required":
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
    function: StepFunction = _named(step.function)
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
    count: int = _named(step.divided)(spec, inputs)
    return count


def _named(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(__import__(module, fromlist=[name]), name)


def point_latest(runs: Path, name: str, folder: Path) -> None:
    """`runs/latest/<name>` leads to the output last used, for people; the pipeline itself never reads it."""
    latest = runs / "latest"
    latest.mkdir(exist_ok=True)
    link, fresh = latest / name, latest / f".{name}.new"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(Path("..") / folder.name)
    fresh.replace(link)

"""The public Python API. Each function brings what it needs up to date and returns where it is."""

from __future__ import annotations

import importlib.util
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunewright.backends.local import LocalBackend
from tunewright.config import RUNS, Spec
from tunewright.core.artifacts import partial_of
from tunewright.core.errors import Check, GateFailed, UserError
from tunewright.core.processes import sole_writer
from tunewright.core.progress import say
from tunewright.models.linear_model import LINEAR
from tunewright.models.resolve import absolute, kind_of, locate, require_known
from tunewright.pipeline.fingerprint import code_version, fingerprint, read_once
from tunewright.pipeline.runner import Backend, PipelineResult, due, point_latest, run_pipeline
from tunewright.pipeline.runner import standing as pipeline_standing
from tunewright.pipeline.steps import STEPS, Step, steps_to
from tunewright.project import Project, Traffic
from tunewright.training.able import require_able, unused

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tunewright.backends.azure.answers import Probe
    from tunewright.backends.azure.schedule import Scheduled
    from tunewright.deploy import Released
    from tunewright.deploy.blueprint import Blueprint
    from tunewright.deploy.down import Thing
    from tunewright.deploy.live import Confirm
    from tunewright.evaluation.api.baseline import CostForecast
    from tunewright.exporters.artifact import Form, Parcel
    from tunewright.exporters.gguf.export import GgufFile, Precision
    from tunewright.exporters.hub import Pushed
    from tunewright.ladder.climb import Ladder
    from tunewright.monitoring.retraining.run import Course, Retrained
    from tunewright.monitoring.retraining.status import Status
    from tunewright.monitoring.store import Store
    from tunewright.monitoring.store.tables import Capture
    from tunewright.pipeline.planning.project import ProjectPlan
    from tunewright.project import ServedBundle
    from tunewright.training.loop.sweep import Sweep

On = Literal["local", "azure"]
"""Where steps run: on this machine, or as jobs in the spec's workspace."""
_MOUNTED = 3
"""Folders around a bundle that Azure ML mounts; see the rule model-mount in `backends/azure/rules.yaml`."""


@dataclass(frozen=True)
class Report:
    """The end of a run: the verdict, the compared candidates and the report's files."""

    pipeline: PipelineResult
    ladder: Ladder | None = None
    """How it came to this candidate, where the spec names several."""
    candidates: Path | None = None
    """The page that shows all of them."""

    @cached_property
    def data(self) -> dict[str, Any]:
        """Everything the report shows, as plain JSON values: verdict, comparison, parity."""
        text = (self.pipeline.folder("verdict") / "verdict.json").read_text("utf-8")
        return dict(json.loads(text))

    @property
    def decision(self) -> str:
        """switch, cascade, keep-api, cheaper-api or classical."""
        return str(self.data["verdict"]["decision"])

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        return str(self.data["verdict"]["sentence"])

    @property
    def html(self) -> Path:
        return self.pipeline.folder("verdict") / "report.html"

    @property
    def folders(self) -> Mapping[str, Path]:
        """The output of each step."""
        return {name: outcome.folder for name, outcome in self.pipeline.steps.items()}

    @property
    def split(self) -> Path:
        """The folder of the dataset."""
        return self.pipeline.folder("split")

    @property
    def bundle(self) -> Path:
        """The folder `tunewright serve` takes."""
        return self.pipeline.folder("bundle")

    @property
    def gate_failures(self) -> list[str]:
        return list(self.data["parity"]["failures"])

    def require_gates(self) -> None:
        """Raise GateFailed where the served bundle does not keep the spec's parity gates."""
        if self.gate_failures:
            raise GateFailed("; ".join(self.gate_failures))


def run(
    spec: Spec,
    *,
    runs: Path | None = None,
    from_step: str | None = None,
    force: bool = False,
    on: On = "local",
    every: bool = False,
) -> Report:
    """The whole life cycle, from raw data to the verdict and its bundle; steps that are up to date are reused. Where
    the spec names several candidates, one after the other, until one does the job.

    Args:
        runs: where outputs go; `runs` beside the spec by default.
        from_step: run this step and those after it even where they are up to date.
        force: run every step.
        on: where the steps run; the outputs lie here afterwards, wherever that was.
        every: of several candidates, try all.

    Raises:
        UserError: something in the spec, the data, the machine or the workspace needs the user.
    """

    def whole(candidate: Spec) -> Report:
        report = Report(_up_to(candidate, "bundle", runs, from_step, force, on))
        if on == "azure":
            from tunewright.backends.azure.connection import connect
            from tunewright.backends.azure.registry import register

            register(candidate, connect(candidate), report.folders, report.data)
        return report

    if not spec.candidates:
        return whole(spec)
    from tunewright.ladder.cascades import make
    from tunewright.ladder.climb import Steps, climb
    from tunewright.ladder.page import write_page

    for model in spec.candidates:
        locate(model, spec.folder)  # what can't be loaded is told before the first is trained
    home, sources = (runs if runs is not None else spec.folder / RUNS).resolve(), read_once()

    def ready(candidate: Spec) -> bool:
        again = force or from_step is not None
        return not again and not pipeline_standing(candidate, "bundle", home, sources=sources).outdated

    steps = Steps(whole, lambda cascade: Report(make(cascade, home)), ready, rented=on == "azure")
    report, ladder = climb(spec, steps, every=every)
    return replace(report, ladder=ladder, candidates=write_page(spec, ladder, home))


def check(spec: Spec, *, runs: Path | None = None, force: bool = False, on: On = "local") -> Path:
    """Read and check the raw data. Returns the folder with `findings.json`."""
    return _up_to(spec, "check", runs, None, force, on).folder("check")


def split(spec: Spec, *, runs: Path | None = None, force: bool = False, on: On = "local") -> Path:
    """Cut the checked data into a dataset. Returns its folder (see `tunewright.data.load_dataset`)."""
    return _up_to(spec, "split", runs, None, force, on).folder("split")


def baseline(spec: Spec, *, runs: Path | None = None, force: bool = False, on: On = "local") -> Path:
    """Ask the spec's APIs the test examples, or read their recorded answers. Returns the folder with
    `answers/NAME.jsonl` of each and `baseline.json`.

    Raises:
        UserError: the spec says neither how to ask it nor what it answered; or the endpoint refuses, or the budget is
            reached.
    """
    if not spec.measured_apis:
        raise _not_asked("api.recorded=answers.csv, or api.url=openai")
    return _up_to(spec, "baseline", runs, None, force, on).folder("baseline")


def baseline_forecast(spec: Spec, *, runs: Path | None = None) -> list[CostForecast]:
    """What `baseline` would ask and pay, API by API; nothing is asked."""
    from tunewright.evaluation.api.baseline import forecast

    if not spec.asked_apis:
        raise _not_asked("api.url=openai")
    done = _up_to(spec, "split", runs, None, False)
    return forecast(spec, done.folder("split"), done.runs)


def _not_asked(keys: str) -> UserError:
    return UserError("The spec does not say how to ask an API.", where="api", fix=f"Add to the command: {keys}")


def plan(spec: Spec, *, runs: Path | None = None) -> ProjectPlan:
    """Predict memory, time and price of the training on each machine, and of every step here and in Azure; see
    `tunewright.pipeline.planning.project.plan_project`. Of several candidates the first that takes more than seconds is
    planned.
    """
    from tunewright.backends.azure.machines import nodes_of, size_of
    from tunewright.core.progress import quiet_libraries
    from tunewright.pipeline.planning.project import plan_project

    spec = next((each for each in spec.each_candidate if each.model != LINEAR), spec)
    require_known(spec.model, spec.folder)
    require_able(spec)
    quiet_libraries()
    done = _up_to(spec, "split", runs, None, False)
    measured = {name: outcome.manifest.wall_seconds for name, outcome in done.steps.items()}
    return plan_project(
        spec,
        done.folder("split"),
        done.runs,
        measured,
        lambda step: size_of(step, spec),
        lambda step: nodes_of(step, spec),
    )


def preflight(spec: Spec, *, to: str = "bundle", deploy: str | None = None) -> list[Check]:
    """Look at everything that a run in Azure needs, before a cent is spent; see `tunewright.deploy.preflight`.

    Args:
        to: the last step that is to run there.
        deploy: where it is to be deployed too: aml, aca or aks.
    """
    from tunewright.backends.azure.connection import connect
    from tunewright.backends.azure.machines import size_of
    from tunewright.deploy.preflight import preflight as examine

    steps = steps_to(spec, to)

    def planned() -> ProjectPlan | None:
        on_gpu = spec.azure.gpu and size_of(STEPS["train"], spec) == spec.azure.gpu  # a linear model needs none
        if not on_gpu or not any(each.trains for each in steps) or not importlib.util.find_spec("torch"):
            return None
        with tempfile.TemporaryDirectory() as scratch:
            return plan(spec, runs=Path(scratch))

    return examine(spec, connect(spec), planned, steps, deploy=deploy)


def probe(spec: Spec) -> Probe:
    """Ask the spec's subscription which rules of Azure hold there; see `tunewright.backends.azure.probe`.

    Raises:
        UserError: nobody is signed in, the workspace is not there, or Azure can't be reached.
    """
    from tunewright.backends.azure.connection import connect
    from tunewright.backends.azure.probe import probe as ask

    return ask(spec, connect(spec))


def train(spec: Spec, *, runs: Path | None = None, force: bool = False, resume: bool = False, on: On = "local") -> Path:
    """Train an adapter; one that was interrupted goes on. Returns the folder with `adapter/` and `curve.jsonl`.

    Args:
        resume: only go on; nothing is begun.

    Raises:
        UserError: `resume`, and no training with these data and settings was begun.
    """
    if resume:
        begun = _trainings_folder(spec, _up_to(spec, "split", runs, None, False), "train")
        left = [partial_of(begun) / name for name in STEPS["train"].resumes]
        if not begun.exists() and not any(path.exists() for path in left):
            raise UserError(
                "There is no training to go on with.",
                where=begun.parent,
                why="None was begun with these data and settings, or none was interrupted after a checkpoint.",
                fix="Type the command without --resume to begin one.",
            )
    return _up_to(spec, "train", runs, None, force, on).folder("train")


def sweep(spec: Spec, *, trials: int, runs: Path | None = None) -> Sweep:
    """Search for better training settings; see `tunewright.training.loop.sweep.run_sweep`. Earlier trials on the same
    data and settings count, and interrupted ones go on."""
    from tunewright.core.progress import quiet_libraries
    from tunewright.pipeline.planning.preflight import require_room
    from tunewright.training.loop.sweep import run_sweep

    require_known(spec.model, spec.folder)
    require_able(spec)
    quiet_libraries()
    result = _up_to(spec, "split", runs, None, False)
    require_room(spec, [STEPS["train"]], result.runs)
    with sole_writer(result.runs):
        return run_sweep(spec, result.folder("split"), _trainings_folder(spec, result, "sweep"), trials)


def export(spec: Spec, *, runs: Path | None = None, force: bool = False, on: On = "local") -> Path:
    """Merge and quantise. Returns the folder with `bundle/` and `merged/`."""
    return _up_to(spec, "export", runs, None, force, on).folder("export")


def export_gguf(
    spec: Spec,
    precisions: Sequence[Precision] = ("q8_0",),
    *,
    runs: Path | None = None,
    force: bool = False,
    on: On = "local",
) -> list[GgufFile]:
    """GGUF files for llama.cpp and Ollama, with a Modelfile, in `runs/gguf-…`; those that are there already are kept.

    Args:
        precisions: "f16", "q8_0", "q4_k_m"; the last needs llama.cpp.

    Raises:
        UserError: llama.cpp knows no such model, is not there, or the disk has too little room.
    """
    from tunewright.exporters.gguf.export import export_gguf as write

    if kind_of(spec.model, spec.folder) != "decoder":
        raise UserError(
            f"{spec.model_name} is no language model: there is no GGUF file of it.",
            where="--to",
            why="llama.cpp and Ollama write answers, and know nothing of what chooses a label.",
            fix="Serve its bundle: tunewright serve …",
        )
    done = _up_to(spec, "export", runs, None, force, on)
    made = done.steps["export"].manifest
    folder = done.runs / f"gguf-{made.content[:12]}"
    folder.mkdir(exist_ok=True)
    source = f"{made.content} {code_version('exporters')}"
    with sole_writer(folder):
        files = write(spec, done.folder("export"), source, folder, precisions)
    point_latest(done.runs, "gguf", folder)
    return files


def parcel(spec: Spec, form: Form | None, to: str, *, runs: Path | None = None) -> Parcel:
    """What `push` would send; nothing is sent.

    Args:
        form: "merged", "adapter", "gguf" or "bundle"; None: as of `tunewright.exporters.artifact.parcel_of`.
        to: as of `push`.

    Raises:
        UserError: there is no such place, or no whole output of this form.
    """
    from tunewright.exporters.artifact import parcel_of

    _destination(to)
    return parcel_of(spec, (runs or spec.folder / RUNS).resolve(), form)


def push(spec: Spec, what: Parcel, to: str, *, public: bool = False) -> Pushed:
    """Send a project's model away; see `tunewright.exporters.hub.push_to_hub` and `tunewright.backends.azure.push`.

    Args:
        what: of `parcel`.
        to: "hub:owner/name", "azureml" for the spec's workspace, or "azureml:REGISTRY".
        public: on the hub, whether everybody may read it.

    Raises:
        UserError: there is no such place, or it refuses.
    """
    kind, name = _destination(to)
    if kind == "hub":
        from tunewright.exporters.hub import push_to_hub

        return push_to_hub(what, name, public=public)
    from tunewright.backends.azure.connection import connect
    from tunewright.backends.azure.push import push_to_azure

    return push_to_azure(spec, connect(spec), what, name)


def _destination(to: str) -> tuple[str, str]:
    """(hub or azureml, a name there)."""
    from tunewright.backends.azure.push import check_registry
    from tunewright.exporters.hub import check_name

    kind, colon, name = to.partition(":")
    if kind == "hub":
        check_name(name)
    elif kind == "azureml" and bool(name) == bool(colon):
        check_registry(name)
    else:
        raise UserError(
            f"A model can't be sent to '{to}'.", where="--to", fix="Say hub:owner/name, azureml, or azureml:REGISTRY."
        )
    return kind, name


def evaluate(spec: Spec, *, runs: Path | None = None, force: bool = False, on: On = "local") -> Path:
    """Ask every candidate the test examples. Returns the folder with `answers/<candidate>.jsonl`."""
    return _up_to(spec, "evaluate", runs, None, force, on).folder("evaluate")


def schedule(spec: Spec, every: str, hour: int) -> Scheduled:
    """Have the pipeline run by the calendar in Azure; see `tunewright.backends.azure.schedule.schedule`."""
    from tunewright.backends.azure.connection import connect
    from tunewright.backends.azure.schedule import schedule as plan_ahead

    return plan_ahead(spec, connect(spec), every, hour)


def standing(spec: Spec) -> list[Thing]:
    """Everything of a project that costs money in Azure, or may come to; see `tunewright.deploy.down`.

    Raises:
        tunewright.deploy.down.Unseen: some could not be looked at; what was found is its `found`.
    """
    from tunewright.backends.azure.connection import connect
    from tunewright.deploy.down import things

    return things(spec, connect(spec))


def notebook(spec: Spec, size: str) -> str:
    """Make a compute instance for notebooks. Returns its name.

    Raises:
        UserError: Azure refuses, or another project has one of this name.
    """
    from tunewright.backends.azure.backend import TAG
    from tunewright.backends.azure.connection import connect
    from tunewright.backends.azure.machines import instance_name
    from tunewright.backends.azure.machines import notebook as make
    from tunewright.backends.azure.refusals import azure_errors, found
    from tunewright.deploy.live import require_ours

    at = connect(spec)
    name = instance_name(spec)
    with azure_errors(f"the compute instance {name}"):
        known = found(at.ml.compute.get, name)
    if known is not None:
        require_ours(spec, f"the compute instance {name}", (known.tags or {}).get(TAG))
    make(at, size, name, {TAG: spec.name})
    return name


def deployment(spec: Spec, to: str, *, runs: Path | None = None, identity: Path | None = None) -> Blueprint:
    """What `deploy` would make in Azure, and its price; nothing is made."""
    from tunewright.backends.azure.connection import connect
    from tunewright.deploy import target_of
    from tunewright.deploy.outputs import outputs_of
    from tunewright.deploy.room import require_room

    outputs = outputs_of(runs or spec.folder / RUNS)
    require_room(to, spec, outputs)
    return target_of(to, spec, connect(spec), outputs, identity, dry=True).blueprint()


def deploy(
    spec: Spec,
    to: str,
    *,
    runs: Path | None = None,
    canary: int | None = None,
    mirror: int | None = None,
    identity: Path | None = None,
    anyway: bool = False,
) -> Released:
    """Serve a project's latest bundle in Azure: beside what serves there now, on trial, then in its place.

    Args:
        to: aml, aks or aca.
        canary: percent of the traffic that it gets for now; by default all of it.
        mirror: in place of traffic, percent of the requests of which it gets a copy (aml).
        identity: who may ask a container app.
        anyway: even where its own verdict speaks against it.

    Raises:
        UserError: Azure refuses, the machine can't hold it or is not to be had, or the verdict is not to serve it.
        GateFailed: it does not answer as it was judged, or too slowly; it was taken away again.
    """
    from tunewright.backends.azure.connection import connect
    from tunewright.deploy import release, target_of
    from tunewright.deploy.exam import exam_of
    from tunewright.deploy.outputs import outputs_of, require_worth
    from tunewright.deploy.preflight import TARGETS, endpoint_checks, image_checks, require
    from tunewright.deploy.room import require_room

    outputs = outputs_of(runs or spec.folder / RUNS)
    if not anyway:
        require_worth(outputs)
    require_room(to, spec, outputs)
    exam = exam_of(spec, outputs.folders["split"], outputs.folders["parity"])
    at = connect(spec)
    if to in TARGETS:
        require(image_checks(spec, at, to))
    elif to == "aml":
        require(endpoint_checks(spec, at, outputs))
    return release(spec, target_of(to, spec, at, outputs, identity, dry=False), exam, canary, mirror)


def conclude(spec: Spec, to: str, *, promote: bool, confirm: Confirm | None = None) -> None:
    """End a canary: it serves all, or it goes. It is found by its tag in Azure, whatever the project's outputs are now.

    Args:
        to: aml, aks or aca.
        promote: whether it stays.
        confirm: asked with a name and a sentence before what serves goes without a version that could take its traffic;
            by default that is refused.

    Raises:
        UserError: there is no canary, it was not confirmed, or Azure refuses; the error says what stands.
    """
    from tunewright.backends.azure.connection import connect
    from tunewright.deploy import live_of
    from tunewright.deploy.live import conclude as end

    end(spec, live_of(to, spec, connect(spec)), promote=promote, confirm=confirm or (lambda *_: False))


def retrain(
    spec: Spec, course: Course | None = None, *, on: On = "local", to: str | None = None, identity: Path | None = None
) -> Retrained:
    """Train on what people corrected, hold the new model against the one that serves, try it and have it serve, or not;
    see `tunewright.monitoring.retraining.run.retrain`.

    Args:
        course: how it is tried.
        on: where the steps run.
        to: where in Azure the model is served, aml, aks or aca: its canary is then a deployment there, beside what
            serves. By default it is served by servers that see this file system.
        identity: who may ask a container app.
    """
    from tunewright.monitoring.retraining.in_azure import InAzure
    from tunewright.monitoring.retraining.run import Course, Parts, of_champion
    from tunewright.monitoring.retraining.run import retrain as bring_about
    from tunewright.monitoring.store import open_store
    from tunewright.monitoring.store.collect import collect

    def collected(store: Store) -> str:
        from tunewright.monitoring.corrections import collect_corrections

        found = collect_corrections(spec, store)
        say(f"corrections: {found.summary}")
        return found.sha256 or ""

    def frozen() -> None:
        from tunewright.data.splits.freezing import freeze

        if spec.frozen_folder:
            freeze(spec, split(spec, on=on))

    def appraised(session: Session, captures: Sequence[Capture]) -> None:
        from tunewright.drift.reference import load_reference
        from tunewright.monitoring.queue import appraise

        appraise(session, captures, load_reference(traffic_of(spec.folder).champion))

    spec = of_champion(spec, spec.folder / RUNS, lambda: Project(spec.folder).latest_bundle())
    with closing(open_store(spec)) as store:
        parts = Parts(
            latest=lambda: Project(spec.folder).latest_bundle(),
            collect=lambda: collect(spec, store),
            collect_corrections=lambda: collected(store),
            freeze=frozen,
            run=lambda each: run(each, on=on),
            appraise=appraised,
            served=InAzure(spec, to, identity) if to else None,
        )
        return bring_about(spec, store, spec.folder / RUNS, parts, course or Course())


def serving_status(spec: Spec) -> Status:
    """What serves of a project, since when, and what waits to be learnt; see
    `tunewright.monitoring.retraining.status`."""
    from tunewright.monitoring.retraining.status import status
    from tunewright.monitoring.store.collect import collected_store

    with collected_store(spec) as store:
        return status(spec, store, spec.folder / RUNS)


def roll_back(spec: Spec) -> tuple[str, ServedBundle]:
    """End a canary, or have the champion before this one serve again; see `tunewright.monitoring.retraining.status`."""
    from tunewright.monitoring.retraining.status import roll_back as back
    from tunewright.monitoring.store.collect import collected_store

    with collected_store(spec) as store:
        return back(spec, store, spec.folder / RUNS)


def serve(bundle: Path | str, host: str = "127.0.0.1", port: int = 8080, *, verify: bool = True, pin: str = "") -> None:
    """Answer requests until interrupted; see `tunewright.serving.server.serve`.

    Args:
        verify: whether the bundle's files must be those that it was made with.
        pin: the digest that the bundle must have, as its export printed it; empty: any.
    """
    from tunewright.inference.checksums import Verification
    from tunewright.serving.server import Limits
    from tunewright.serving.server import serve as serve_bundle

    limits = Limits(verification=Verification(verify, pin))
    serve_bundle(lambda: Traffic(Path(bundle)), host, port, limits=limits)


def traffic_of(path: Path) -> Traffic:
    """What a server is to answer with: of a project its `Project.traffic`, else the folder of `bundle_of`, alone.

    Raises:
        UserError: as `bundle_of`, or the file can't be read.
    """
    if not Project.is_one(path):
        return Traffic(bundle_of(path))
    traffic = Project(path).traffic()
    if traffic.champion == Project(path).latest("export") / "bundle":
        say(f"What is served was made after the last verdict and has no threshold. To judge it: tunewright run {path}")
    return traffic


def bundle_of(path: Path) -> Path:
    """A bundle's folder: itself; of a project its champion, or where there is none the latest; or what lies alone in
    folders, as Azure ML mounts a model: in one of its name, in that one of its version, in that what was entered.

    Raises:
        UserError: it is a project that has none.
    """
    if Project.is_one(path):
        return traffic_of(path).champion
    from tunewright.inference.checksums import BUNDLE_FILE
    from tunewright.serving.adapters import AdapterStore

    found = path
    for _ in range(_MOUNTED):
        if (found / BUNDLE_FILE).is_file() or AdapterStore.is_one(found):
            return found
        inside = [each for each in found.glob("[!.]*") if each.is_dir()]
        if len(inside) != 1:
            break
        (found,) = inside
    return found if (found / BUNDLE_FILE).is_file() else path


def _trainings_folder(spec: Spec, split: PipelineResult, kind: str) -> Path:
    """Where a training on a brought-up-to-date split belongs, or a sweep around it."""
    pinned = fingerprint(spec, STEPS["train"], {"split": split.steps["split"].manifest.content})["fingerprint"]
    return split.runs / f"{kind}-{pinned[:12]}"


def _up_to(
    spec: Spec, step: str, runs: Path | None, from_step: str | None, force: bool, on: On = "local"
) -> PipelineResult:
    if any(each.needs_gpu for each in steps_to(spec, step)):
        require_known(spec.model, spec.folder)  # a wrong name is told before the data are gone through
        require_able(spec)
        if idle := unused(spec):
            say(f"note: {idle}")
    if any("api" in each.sections for each in steps_to(spec, step)):
        from tunewright.economics import price_book
        from tunewright.economics.candidates import check_apis
        from tunewright.economics.lifetimes import today

        check_apis(spec, price_book(spec.price_file), today())  # and what can't be asked before anything is trained
    again = force or from_step is not None
    with tempfile.TemporaryDirectory() as scratch:
        # Steps run in processes of their own and read the spec, overrides applied, from a file.
        def room(first: Step, done: Mapping[str, Path], target: Path) -> None:
            from tunewright.pipeline.planning.preflight import require_room

            later = steps_to(spec, step) if again else due(spec, first, step, done, target.parent)
            require_room(
                spec, [first, *(each for each in later if each.name not in {first.name, *done})], target.parent
            )

        file = spec.save(Path(scratch), absolute(spec.model, spec.folder))
        local = LocalBackend(spec, file, room if on == "local" else None)

        def bring(backend: Backend) -> PipelineResult:
            folder = runs if runs is not None else spec.folder / RUNS
            return run_pipeline(spec, backend, runs=folder.resolve(), to=step, from_step=from_step, force=force)

        if on == "local":
            return bring(local)
        from tunewright.backends.azure.backend import AzureBackend
        from tunewright.backends.azure.connection import connect
        from tunewright.deploy.preflight import require

        with AzureBackend(
            spec, connect(spec), local, to=step, force=again, ready=lambda: require(preflight(spec, to=step))
        ) as backend:
            return bring(backend)

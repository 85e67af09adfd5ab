"""Steps as Azure ML jobs: one as a command job, several as a pipeline job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.pipeline import Step
from tunewright.places.azure.machines import identity_of, nodes_of
from tunewright.places.azure.node import MADE
from tunewright.places.azure.sources import Source
from tunewright.places.azure.store import DATASTORE
from tunewright.spec import SPEC_FILE, Spec

FOLDER = "tunewright"
"""Below it everything lies that jobs write to the workspace's storage."""
_VARIABLES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
_UNPACK = "( flock 9; [ -e tunewright ] || tar -xzf ${{inputs.code}} ) 9> .unpacking"
"""Processes that share a node's folder unpack once."""


@dataclass(frozen=True)
class Work:
    """Steps to be submitted together.

    Args:
        base: the name of the work, the same whenever it is the same work.
        name: the job's name: that of the work, and which try it is; empty where a schedule names its jobs, whose
            outputs then lie where Azure puts them.
        steps: in their order.
        given: the addresses of outputs that are there already, by step.
        sources: what each step needs of the user's: (key, address of the data asset).
        clusters: the cluster of each step.
        limits: seconds after which each is ended.
    """

    base: str
    name: str
    steps: Sequence[Step]
    given: Mapping[str, str]
    sources: Mapping[str, Sequence[tuple[Source, str]]]
    clusters: Mapping[str, str]
    limits: Mapping[str, int]
    code: str
    environment: str
    tags: Mapping[str, str]

    def output(self, step: str) -> str:
        """Where a step's output lies in the storage."""
        return f"{FOLDER}/{self.name}/{step}"

    def kept(self, step: str) -> str:
        """Where lies what a step may resume from, in whatever try."""
        return f"{FOLDER}/{self.base}/{step}-kept"


def job_of(work: Work, spec: Spec) -> Any:
    """The job, ready for `ml.jobs.create_or_update`."""
    made = _command_job(work, spec) if len(work.steps) == 1 else _pipeline_job(work, spec)
    made.name, made.experiment_name, made.tags = work.name or None, spec.name, dict(work.tags)
    made.display_name = work.base
    return made


def command_line(step: Step, inputs: Sequence[str], sources: Sequence[Source]) -> str:
    """What a node is told to do for a step.

    Args:
        inputs: the steps whose outputs it reads.
    """
    given = [f"--given {source.key}=${{{{inputs.{source.name}}}}}" for source in sources]
    kept = ["--kept ${{outputs.kept}}"] if step.resumes else []
    read = [f"--in {name}=${{{{inputs.{name}}}}}" for name in inputs]
    own = ["python -m tunewright.places.azure.node", *given, *kept, "--out ${{outputs.out}}", "--"]
    return " ".join([_UNPACK, "&& exec", *own, f"python -m tunewright.step {step.name} --spec {SPEC_FILE}", *read,
                     f"--out {MADE}"])  # fmt: skip


def _component(step: Step, work: Work, spec: Spec) -> Any:
    from azure.ai.ml import Input, Output, PyTorchDistribution, command

    sources = [source for source, _ in work.sources[step.name]]
    names = ["code", *(source.name for source in sources), *step.inputs_of(spec)]
    nodes = nodes_of(step, spec)
    return command(
        display_name=step.name,
        command=command_line(step, step.inputs_of(spec), sources),
        environment=work.environment,
        compute=work.clusters[step.name],
        inputs={name: Input(type="uri_file" if name == "code" else "uri_folder", mode="download") for name in names},
        outputs={name: Output(type="uri_folder", mode="rw_mount") for name in _outputs(step)},
        environment_variables=_VARIABLES,
        distribution=PyTorchDistribution(process_count_per_instance=1) if nodes > 1 else None,
        instance_count=nodes,
        identity=_identity(spec),
        is_deterministic=False,
    )


def _outputs(step: Step) -> list[str]:
    return ["out", "kept"] if step.resumes else ["out"]


def _identity(spec: Spec) -> Any:
    from azure.ai.ml.entities import ManagedIdentityConfiguration, UserIdentityConfiguration

    chosen = identity_of(spec)
    return ManagedIdentityConfiguration(resource_id=chosen) if chosen else UserIdentityConfiguration()


def _bound(step: Step, work: Work, spec: Spec, made: Mapping[str, Any]) -> dict[str, Any]:
    """What each input of a step is: an asset, or another step's output in `made`."""
    from azure.ai.ml import Input

    def asset(address: str, kind: str = "uri_folder") -> Any:
        return Input(type=kind, path=address, mode="download")

    bound = {"code": asset(work.code, "uri_file")}
    bound |= {source.name: asset(address) for source, address in work.sources[step.name]}
    for name in step.inputs_of(spec):
        bound[name] = made[name] if name in made else asset(work.given[name])
    return bound


def _places(node: Any, step: Step, work: Work) -> None:
    """Say where a step's outputs go."""
    from azure.ai.ml import Output

    where = {"out": work.output(step.name), "kept": work.kept(step.name)}
    for name in _outputs(step) if work.name else ():
        node.outputs[name] = Output(type="uri_folder", path=f"{DATASTORE}{where[name]}", mode="rw_mount")


def _command_job(work: Work, spec: Spec) -> Any:
    step = work.steps[0]
    job = _component(step, work, spec)
    for name, value in _bound(step, work, spec, {}).items():
        job.inputs[name] = value
    _places(job, step, work)
    job.set_limits(timeout=work.limits[step.name])
    return job


def _pipeline_job(work: Work, spec: Spec) -> Any:
    from azure.ai.ml.dsl import pipeline

    def chain() -> None:
        made: dict[str, Any] = {}
        for step in work.steps:
            node = _component(step, work, spec)(**_bound(step, work, spec, made))
            node.name = step.name
            _places(node, step, work)
            node.set_limits(timeout=work.limits[step.name])
            made[step.name] = node.outputs.out

    job = pipeline(name=work.base)(chain)()
    job.settings.continue_on_step_failure = False
    job.settings.force_rerun = True
    return job

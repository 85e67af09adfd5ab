"""Steps as Azure ML jobs: one as a command job, several as a pipeline job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.backends.azure.machines import has_gpu, identity_of, nodes_of, size_of
from tunewright.backends.azure.node import MADE
from tunewright.backends.azure.sources import BaseModelSource, Source
from tunewright.backends.azure.store import DATASTORE, FOLDER
from tunewright.config import SPEC_FILE, Spec
from tunewright.core import telemetry
from tunewright.models.device import GPU
from tunewright.pipeline.steps import Step

_VARIABLES = {"MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true", **telemetry.VARIABLES}
_UNPACK = "( flock 9; [ -e tunewright ] || tar -xzf ${{inputs.code}} ) 9> .unpacking"
"""Processes that share a node's folder unpack once."""


@dataclass(frozen=True)
class JobWork:
    """Steps to be submitted together.

    Args:
        name: the job's name; empty if a schedule names its jobs: then Azure decides where their outputs lie.
        title: the job's name in the studio.
        steps: in their order.
        given: the addresses of outputs that exist already, by step.
        sources: the user's files that each step needs: (source, address of the data asset).
        clusters: the cluster of each step.
        limits: seconds after which Azure ends each step.
        kept: the folder of the files that a step may resume from, the same in every try, by step.
        without: the steps whose outputs the others do without.
    """

    name: str
    title: str
    steps: Sequence[Step]
    given: Mapping[str, str]
    sources: Mapping[str, Sequence[tuple[Source, str]]]
    clusters: Mapping[str, str]
    limits: Mapping[str, int]
    code: str
    environment: str
    tags: Mapping[str, str]
    kept: Mapping[str, str]
    without: Sequence[str] = ()


def output_of(job: str, step: str) -> str:
    """The path in the storage of a step's output."""
    return f"{FOLDER}/jobs/{job}/{step}"


def job_of(work: JobWork, spec: Spec) -> Any:
    """The job, ready for `ml.jobs.create_or_update`."""
    job = _command_job(work, spec) if len(work.steps) == 1 else _pipeline_job(work, spec)
    job.name, job.experiment_name, job.tags = work.name or None, spec.name, dict(work.tags)
    job.display_name = work.title
    return job


def command_line(step: Step, inputs: Sequence[str], sources: Sequence[Source], without: Sequence[str]) -> str:
    """The command line of a step on a node.

    Args:
        inputs: the steps whose outputs it reads.
        sources: the user's files that it reads.
        without: the steps whose outputs it does without.
    """
    given = [
        f"--{'base' if isinstance(source, BaseModelSource) else 'given'} "
        f"{source.place if isinstance(source, BaseModelSource) else source.key}=${{{{inputs.{source.name}}}}}"
        for source in sources
    ]
    kept = ["--kept ${{outputs.kept}}", *(f"--resumes {name}" for name in step.resumes)] if step.resumes else []
    read = [f"--in {name}=${{{{inputs.{name}}}}}" for name in inputs]
    own = ["python -m tunewright.backends.azure.node", *given, *kept, "--out ${{outputs.out}}", "--"]
    return " ".join(
        [
            _UNPACK,
            "&& exec",
            *own,
            f"python -m tunewright.pipeline.step {step.name} --spec {SPEC_FILE}",
            *read,
            *(f"--without {name}" for name in without),
            f"--out {MADE}",
        ]
    )


def _component(step: Step, work: JobWork, spec: Spec, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
    """The component that runs a step. Its inputs and outputs are addresses, or slots that a pipeline fills."""
    from azure.ai.ml import PyTorchDistribution, command

    sources = [source for source, _ in work.sources[step.name]]
    nodes = nodes_of(step, spec)
    # Without this, a node whose driver torch can't use would compute on its CPU, at the GPU's price.
    gpu = {GPU: "required"} if has_gpu(size_of(step, spec), spec) else {}
    return command(
        display_name=step.name,
        command=command_line(
            step, step.inputs_of(spec, work.without), sources, [name for name in work.without if name in step.optional]
        ),
        environment=work.environment,
        compute=work.clusters[step.name],
        inputs=dict(inputs),
        outputs=dict(outputs),
        environment_variables=_VARIABLES | gpu,
        distribution=PyTorchDistribution(process_count_per_instance=1) if nodes > 1 else None,
        instance_count=nodes,
        identity=_identity(spec),
        is_deterministic=False,
    )


def _identity(spec: Spec) -> Any:
    from azure.ai.ml.entities import ManagedIdentityConfiguration, UserIdentityConfiguration

    chosen = identity_of(spec)
    return ManagedIdentityConfiguration(resource_id=chosen) if chosen else UserIdentityConfiguration()


def _inputs(step: Step, work: JobWork, spec: Spec, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Each input of a step: an asset, or another step's output in `outputs`."""
    from azure.ai.ml import Input

    addresses = {"code": work.code} | {source.name: address for source, address in work.sources[step.name]}
    read = step.inputs_of(spec, work.without)
    addresses |= {name: work.given[name] for name in read if name not in outputs}
    assets = {name: Input(type=_type(name), path=path, mode="download") for name, path in addresses.items()}
    return assets | {name: outputs[name] for name in read if name in outputs}


def _type(name: str) -> str:
    return "uri_file" if name == "code" else "uri_folder"


def _outputs(step: Step, work: JobWork) -> dict[str, Any]:
    """The outputs of a step, each with its address."""
    from azure.ai.ml import Output

    paths = {"out": output_of(work.name, step.name) if work.name else None}
    paths |= {"kept": work.kept[step.name]} if step.resumes else {}
    return {
        name: Output(type="uri_folder", path=path and f"{DATASTORE}{path}", mode="rw_mount")
        for name, path in paths.items()
    }


def _command_job(work: JobWork, spec: Spec) -> Any:
    step = work.steps[0]
    job = _component(step, work, spec, _inputs(step, work, spec, {}), _outputs(step, work))
    job.set_limits(timeout=work.limits[step.name])
    return job


def _pipeline_job(work: JobWork, spec: Spec) -> Any:
    from azure.ai.ml import Input, Output
    from azure.ai.ml.dsl import pipeline

    def chain() -> None:
        done: dict[str, Any] = {}
        for step in work.steps:
            inputs, outputs = _inputs(step, work, spec, done), _outputs(step, work)
            input_slots = {name: Input(type=_type(name), mode="download") for name in inputs}
            output_slots = {name: Output(type="uri_folder", mode="rw_mount") for name in outputs}
            node = _component(step, work, spec, input_slots, output_slots)(**inputs)
            node.name = step.name
            for name, output in outputs.items():
                node.outputs[name] = output
            node.set_limits(timeout=work.limits[step.name])
            done[step.name] = node.outputs.out

    job = pipeline(name=work.title)(chain)()
    job.settings.continue_on_step_failure = False
    job.settings.force_rerun = True
    return job

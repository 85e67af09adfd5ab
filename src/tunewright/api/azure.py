"""Work with Azure: preflight checks, the probe, schedules, deployments, and what costs money."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tunewright.api.steps import plan
from tunewright.config import Spec
from tunewright.core.errors import Check
from tunewright.pipeline.steps import STEPS, steps_to
from tunewright.project import Project

if TYPE_CHECKING:
    from tunewright.backends.azure.answers import Probe
    from tunewright.backends.azure.schedule import Scheduled
    from tunewright.deploy import Released
    from tunewright.deploy.blueprint import Blueprint
    from tunewright.deploy.down import Thing
    from tunewright.deploy.live import Confirm
    from tunewright.pipeline.planning.project import ProjectPlan


def preflight(spec: Spec, *, to: str = "bundle", deploy: str | None = None) -> list[Check]:
    """Check everything that a run in Azure needs, before it costs anything; see `tunewright.deploy.preflight`.

    Args:
        to: the last step that runs there.
        deploy: also check a deployment to aml, aca or aks.
    """
    from tunewright.backends.azure.connection import connect
    from tunewright.backends.azure.machines import size_of
    from tunewright.deploy.preflight import preflight as run_checks

    steps = steps_to(spec, to)

    def plan_training() -> ProjectPlan | None:
        on_gpu = spec.azure.gpu and size_of(STEPS["train"], spec) == spec.azure.gpu  # a linear model needs none
        if not on_gpu or not any(each.trains for each in steps) or not importlib.util.find_spec("torch"):
            return None
        with tempfile.TemporaryDirectory() as scratch:
            return plan(spec, runs=Path(scratch))

    return run_checks(spec, connect(spec), plan_training, steps, deploy=deploy)


def probe(spec: Spec) -> Probe:
    """Check in the spec's subscription which of Azure's rules hold; see `tunewright.backends.azure.probe`.

    Raises:
        UserError: you are not signed in, the workspace does not exist, or Azure can't be reached.
    """
    from tunewright.backends.azure.connection import connect
    from tunewright.backends.azure.probe import probe as run_probe

    return run_probe(spec, connect(spec))


def schedule(spec: Spec, every: str, hour: int) -> Scheduled:
    """Schedule the pipeline in Azure by the calendar; see `tunewright.backends.azure.schedule.schedule`."""
    from tunewright.backends.azure.connection import connect
    from tunewright.backends.azure.schedule import schedule as create_schedule

    return create_schedule(spec, connect(spec), every, hour)


def standing(spec: Spec) -> list[Thing]:
    """List everything of a project in Azure that costs money or may cost money; see `tunewright.deploy.down`.

    Raises:
        tunewright.deploy.down.Unseen: some things could not be listed; the others are in its `found`.
    """
    from tunewright.backends.azure.connection import connect
    from tunewright.deploy.down import things

    return things(spec, connect(spec))


def notebook(spec: Spec, size: str) -> str:
    """Create a compute instance for notebooks. Returns its name.

    Raises:
        UserError: Azure refuses, or another project owns an instance of this name.
    """
    from tunewright.backends.azure.backend import TAG
    from tunewright.backends.azure.connection import connect
    from tunewright.backends.azure.machines import instance_name
    from tunewright.backends.azure.machines import notebook as create_notebook
    from tunewright.backends.azure.refusals import azure_errors, found
    from tunewright.deploy.live import require_ours

    workspace = connect(spec)
    name = instance_name(spec)
    with azure_errors(f"the compute instance {name}"):
        existing = found(workspace.ml.compute.get, name)
    if existing is not None:
        require_ours(spec, f"the compute instance {name}", (existing.tags or {}).get(TAG))
    create_notebook(workspace, size, name, {TAG: spec.name})
    return name


def deployment(spec: Spec, to: str, *, runs: Path | None = None, identity: Path | None = None) -> Blueprint:
    """Show what `deploy` would create in Azure, and its price; nothing is created."""
    from tunewright.backends.azure.connection import connect
    from tunewright.deploy import target_of
    from tunewright.deploy.capacity import require_capacity
    from tunewright.deploy.outputs import outputs_of

    outputs = outputs_of(Project(spec.folder, runs))
    require_capacity(to, spec, outputs)
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
    """Deploy a project's latest bundle to Azure beside the version that serves now, test it, and switch to it.

    Args:
        to: aml, aks or aca.
        canary: percent of the traffic for the new version for now; by default all of it.
        mirror: percent of the requests that the new version gets as copies, instead of traffic (aml).
        identity: the sign-in file for clients of a container app.
        anyway: deploy even if the project's verdict is against it.

    Raises:
        UserError: Azure refuses, the machine is too small or not available, or the verdict is against it.
        GateFailed: the deployed version does not answer as it was evaluated, or too slowly; it was deleted again.
    """
    from tunewright.backends.azure.connection import connect
    from tunewright.deploy import release, target_of
    from tunewright.deploy.capacity import require_capacity
    from tunewright.deploy.exam import exam_of
    from tunewright.deploy.outputs import outputs_of, require_worth
    from tunewright.deploy.preflight import endpoint_checks, require
    from tunewright.deploy.rights import TARGETS, image_checks

    outputs = outputs_of(Project(spec.folder, runs))
    if not anyway:
        require_worth(outputs)
    require_capacity(to, spec, outputs)
    exam = exam_of(spec, outputs.folders["split"], outputs.folders["parity"])
    workspace = connect(spec)
    if to in TARGETS:
        require(image_checks(spec, workspace, to))
    elif to == "aml":
        require(endpoint_checks(spec, workspace, outputs))
    return release(spec, target_of(to, spec, workspace, outputs, identity, dry=False), exam, canary, mirror)


def conclude(spec: Spec, to: str, *, promote: bool, confirm: Confirm | None = None) -> str:
    """End a canary: give it all traffic, or delete it. Azure's tags identify it, not the project's outputs. Returns the
    name of its version.

    Args:
        to: aml, aks or aca.
        promote: whether the canary stays.
        confirm: called with a name and a sentence before the serving version is deleted while no other version could
            take its traffic; by default that is refused.

    Raises:
        UserError: there is no canary, the user did not confirm, or Azure refuses. The error says what remains.
    """
    from tunewright.backends.azure.connection import connect
    from tunewright.deploy import live_of
    from tunewright.deploy.live import conclude as end_canary

    return end_canary(spec, live_of(to, spec, connect(spec)), promote=promote, confirm=confirm or (lambda *_: False))

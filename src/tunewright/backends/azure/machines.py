"""Which machine each step runs on, what it costs, and the clusters of such machines."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tunewright.backends.azure import azd
from tunewright.backends.azure.connection import VARIABLES, Connection, WorkspaceName, azure_errors, found, workspace_of
from tunewright.backends.azure.rules import is_of_clusters
from tunewright.backends.azure.waiting import Wait, awaited
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.economics.prices import MachinePrice, price_book
from tunewright.models.linear_model import LINEAR
from tunewright.models.sizes import sizes_of
from tunewright.pipeline.steps import Step

LONGEST_COMPUTE = 24
"""Signs in the name of a cluster or compute instance (rule cluster-name)."""
_IDENTITY = "AZURE_ML_IDENTITY"
"""As azd has it after `azd up`."""
_IDLE_SECONDS = 120
_LONGEST_CHANGE = 1800.0
"""Seconds that Azure may take to make or change a cluster."""
_POLL_SECONDS = 2.0
_CHANGING = ("creating", "updating", "deleting")
"""States of a cluster that Azure is not done with."""
_IDLE_MINUTES = 60
"""Of a compute instance."""
_SERVED_BY_GPU = "vllm"
_DEFAULT_CPU = "Standard_D4s_v3"
_TRAINING = 12.0
"""Of a budget, training's part beside one for each other step."""
_GPU_FAMILIES = re.compile(r"Standard_N[CDGV]")
_SHORTEST, _LONGEST = 60, 7 * 24 * 3600


def size_of(step: Step, spec: Spec) -> str:
    """The machine a step runs on, by its name in the price book; a linear model needs no GPU."""
    gpu = None if spec.model == LINEAR else spec.azure.gpu
    served_there = step.needs_gpu == "vllm" and spec.export.runtime.startswith(_SERVED_BY_GPU)
    return gpu if gpu and (step.needs_gpu == "torch" or served_there) else cpu_of(spec)


def cpu_of(spec: Spec) -> str:
    """The machine for what needs no GPU."""
    serving = spec.traffic.machine
    return spec.azure.cpu or (
        serving if serving.startswith(("Standard_D", "Standard_F")) and is_of_clusters(serving) else _DEFAULT_CPU
    )


def nodes_of(step: Step, spec: Spec) -> int:
    """How many machines work on a step together."""
    sizes = sizes_of(spec.model, spec.folder)
    if not step.trains or (sizes and sizes.kind != "decoder"):  # which one process trains
        return 1
    return spec.azure.nodes


def has_gpu(size: str, spec: Spec) -> bool:
    """Whether a machine has a GPU: by the price book, or where a book of the user's own names no card, by Azure's
    families with one (learn.microsoft.com/azure/virtual-machines/sizes, "GPU accelerated", 2026-11-28).

    Raises:
        UserError: it has no price.
    """
    return price_of(size, spec).gpu is not None or bool(_GPU_FAMILIES.match(size))


def price_of(size: str, spec: Spec) -> MachinePrice:
    """A machine of the price book.

    Raises:
        UserError: it has no price, so that no budget could be held.
    """
    return price_book(spec.price_file).machine(size)


def cluster_names(size: str, on_gpu: bool, low_priority: bool) -> tuple[str, str]:
    """What a cluster may be called: as `infra/` calls it, or where that one has another size, by its size."""
    end = "-lp" if low_priority else ""
    short = size.removeprefix("Standard_").replace("_", "-").lower() + end
    start = "tunewright-" if len(f"tunewright-{short}") <= LONGEST_COMPUTE else "tw-"
    return f"tunewright-{'gpu' if on_gpu else 'cpu'}{end}", f"{start}{short}"[:LONGEST_COMPUTE].rstrip("-")


def is_low_priority(step: Step, spec: Spec) -> bool:
    return spec.azure.low_priority and step.trains


def cluster(at: Connection, step: Step, spec: Spec, tags: dict[str, str]) -> str:
    """The cluster a step runs on; made where it is not there, with no machine standing while no job runs.

    Raises:
        UserError: Azure refuses, for want of quota, say.
    """
    size, low, nodes = size_of(step, spec), is_low_priority(step, spec), nodes_of(step, spec)
    name, known = _chosen(step, spec, lambda name: _settled(at, name))
    with azure_errors(f"the cluster {name}"):
        if known is None:
            _make(at, name, size, nodes, low, spec, tags)
        elif not _does(known, step, spec):
            known.max_instances = max(nodes, known.max_instances)
            if not _may_run_as(known, spec):
                known.identity = _with_identity(known, spec)
            awaited(at.ml.compute.begin_update(known), f"the cluster {name} to change", _LONGEST_CHANGE)
    return name


def is_ready(at: Connection, step: Step, spec: Spec) -> bool:
    """Whether the cluster that a step runs on is there as it has to be, so that nothing is made or changed.

    Raises:
        UserError: Azure refuses.
    """
    _, known = _chosen(step, spec, lambda name: found(at.ml.compute.get, name))
    return known is not None and _does(known, step, spec)


def _chosen(step: Step, spec: Spec, look: Callable[[str], Any]) -> tuple[str, Any]:
    """(the name of the cluster that a step runs on, it; None where it has to be made).

    Args:
        look: gives the cluster of a name, or None.

    Raises:
        UserError: Azure refuses, or both names have machines of another size.
    """
    size, low = size_of(step, spec), is_low_priority(step, spec)
    for name in cluster_names(size, size == spec.azure.gpu, low):
        with azure_errors(f"the cluster {name}"):
            known = look(name)
        # What could not be made stays there as failed (rule cluster-quota), and is made again.
        if known is None or _state(known) == "failed":
            return name, None
        if known.size.lower() == size.lower() and (known.tier == "low_priority") == low:
            return name, known
    raise UserError(f"The cluster {name} has machines of another size than {size}.", fix="Delete it in the studio.")


def _does(cluster: Any, step: Step, spec: Spec) -> bool:
    """Whether a cluster has machines enough for a step, and the identity that jobs run as."""
    return cluster.max_instances >= nodes_of(step, spec) and _may_run_as(cluster, spec)


def _settled(at: Connection, name: str) -> Any:
    """A cluster once Azure is done with it; None where there is none.

    Raises:
        UserError: Azure is not done with it for too long.
    """
    wait = Wait()
    while (known := found(at.ml.compute.get, name)) is not None:
        if (state := _state(known)) == "failed":
            say(f"  azure: the cluster {name} could not be made or changed before; it is made again")
        if state not in _CHANGING:
            return known
        if wait.look(f"the cluster {name}, which is {state}", _LONGEST_CHANGE):
            raise UserError(
                f"The cluster {name} has been {state} for {_LONGEST_CHANGE / 60:.0f} minutes.",
                why="No job was submitted. If it holds machines, they cost until it has let go of them.",
                fix="See it in the studio (Compute), or delete it there, then type the same command again.",
            )
        time.sleep(_POLL_SECONDS)
    return None


def _state(cluster: Any) -> str:
    """What Azure is at with a cluster, in lower case."""
    return str(getattr(cluster.provisioning_state, "value", cluster.provisioning_state)).lower()


def _identities(cluster: Any) -> list[Any]:
    """The user-assigned identities of a cluster."""
    return list((cluster.identity and cluster.identity.user_assigned_identities) or [])


def _may_run_as(cluster: Any, spec: Spec) -> bool:
    """Whether a cluster has the identity that jobs run as: without it they fail as they start."""
    wanted = identity_of(spec)
    return wanted is None or wanted.lower() in {str(each.resource_id).lower() for each in _identities(cluster)}


def _with_identity(cluster: Any, spec: Spec) -> Any:
    """What a cluster is to have as identities: the one that jobs run as, and those assigned before."""
    from azure.ai.ml.entities import IdentityConfiguration

    (added,) = assigned_identity(spec).user_assigned_identities
    # The first one mounts the storage; a cluster has identities of its users or one of its own, not both
    # (learn.microsoft.com/azure/machine-learning/how-to-identity-based-service-authentication, read 2026-11-28).
    return IdentityConfiguration(type="user_assigned", user_assigned_identities=[added, *_identities(cluster)])


def _make(at: Connection, name: str, size: str, nodes: int, low: bool, spec: Spec, tags: dict[str, str]) -> None:
    from azure.ai.ml.entities import AmlCompute

    say(f"  azure: cluster {name} of {size}, no machine while it is idle")
    made = at.ml.compute.begin_create_or_update(
        AmlCompute(
            name=name,
            size=size,
            min_instances=0,
            max_instances=nodes,
            idle_time_before_scale_down=_IDLE_SECONDS,
            tier="low_priority" if low else "dedicated",
            identity=assigned_identity(spec),
            tags=tags,
            ssh_public_access_enabled=False,
        )
    )
    if _state(awaited(made, f"the cluster {name}", _LONGEST_CHANGE)) == "failed":  # which the SDK takes for an end
        raise UserError(
            f"Azure could not make the cluster {name}.",
            why="It has no machine, and costs nothing.",
            fix="See why in the studio (Compute), then type the same command again: it is made again.",
        )


def notebook(at: Connection, size: str, name: str, tags: dict[str, str]) -> None:
    """Make a compute instance for notebooks, for whoever is signed in; it stops by itself when nobody uses it.

    Raises:
        UserError: Azure refuses.
    """
    from azure.ai.ml.entities import ComputeInstance

    with azure_errors(f"the compute instance {name}"):
        instance = ComputeInstance(
            name=name,
            size=size,
            idle_time_before_shutdown_minutes=_IDLE_MINUTES,
            ssh_public_access_enabled=False,
            tags=tags,
        )
        awaited(at.ml.compute.begin_create_or_update(instance), f"the compute instance {name}", _LONGEST_CHANGE)
    say(f"  azure: compute instance {name} of {size}; it stops after {_IDLE_MINUTES} idle minutes")


def azure_name(spec: Spec, most: int) -> str:
    """What is called by a project, in the signs that all of Azure's names may have, with single dashes; at most so many
    (rules endpoint-name, app-name, release-name)."""
    return re.sub(r"[_-]+", "-", f"tw-{spec.name}")[:most].rstrip("-")


def instance_name(spec: Spec) -> str:
    """What a project's compute instance is called. It must not end in a dash and digits (rule cluster-name)."""
    return re.sub(r"-(\d+)$", r"\1", azure_name(spec, LONGEST_COMPUTE))


def identity_of(spec: Spec) -> str | None:
    """The resource id of the identity that jobs and endpoints run as; None where jobs run as the user. What `azd up`
    wrote counts where it made the workspace."""
    if named := spec.azure.identity or os.environ.get(_IDENTITY):
        return named
    made = azd.written(spec.folder, Path.cwd())
    ours = WorkspaceName(*(made.get(name, "") for name in VARIABLES)) == workspace_of(spec) if made else False
    return made.get(_IDENTITY) if ours else None


def assigned_identity(spec: Spec) -> Any:
    """What a cluster or an endpoint is given to run as; None where there is none."""
    from azure.ai.ml.entities import IdentityConfiguration, ManagedIdentityConfiguration

    if (named := identity_of(spec)) is None:
        return None
    chosen = ManagedIdentityConfiguration(resource_id=named)
    return IdentityConfiguration(type="user_assigned", user_assigned_identities=[chosen])


def limits(steps: Sequence[Step], spec: Spec, usd: float) -> dict[str, int]:
    """Seconds after which Azure itself ends each step, so that together they can't cost more than `usd`.

    Training gets most of it; a step's seconds follow from its machines' price.

    Raises:
        UserError: that does not pay for a minute of some step.
    """
    weights = {step.name: _TRAINING if step.trains else 1.0 for step in steps}
    made = {}
    for step in steps:
        rate = price_of(size_of(step, spec), spec).usd_per_hour * nodes_of(step, spec)
        part = usd * weights[step.name] / sum(weights.values())
        made[step.name] = int(3600 * part / rate) if rate else _LONGEST
        if made[step.name] < _SHORTEST:
            raise UserError(
                f"What is left of the budget, ${usd:.2f}, pays for {made[step.name]} s of the step {step.name}.",
                where="azure.budget_usd",
                fix="Raise it, or name a cheaper machine: tunewright plan …",
            )
    return {name: min(seconds, _LONGEST) for name, seconds in made.items()}

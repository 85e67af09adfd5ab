"""Which machine each step runs on, what it costs, and the clusters of such machines."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tunewright.backends.azure import azd
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.refusals import azure_errors, found
from tunewright.backends.azure.rules import is_of_clusters
from tunewright.backends.azure.waiting import BROKEN, Wait, wait_for
from tunewright.backends.azure.workspace import VARIABLES, WorkspaceName, workspace_of
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.economics.prices import MachinePrice, price_book
from tunewright.models.linear_model import LINEAR
from tunewright.models.sizes import sizes_of
from tunewright.pipeline.planning.machines import key_of
from tunewright.pipeline.steps import Step

LONGEST_COMPUTE = 24
"""Characters in the name of a cluster or compute instance (rule cluster-name)."""
_IDENTITY = "AZURE_ML_IDENTITY"
"""The variable that azd sets after `azd up`."""
_IDLE_SECONDS = 120
_LONGEST_CHANGE = 1800.0
"""Seconds that Azure may take to make or change a cluster."""
_POLL_SECONDS = 2.0
_CHANGING = ("creating", "updating", "deleting")
"""States in which Azure still works on a cluster."""
_IDLE_MINUTES = 60
"""A compute instance stops after this time."""
_SERVED_BY_GPU = "vllm"
_DEFAULT_CPU = "Standard_D4s_v3"
_TRAINING = 12.0
"""The share of the budget that a training gets; each other step gets 1."""
_GPU_FAMILIES = re.compile(r"Standard_N[CDGV]")
_SHORTEST, _LONGEST = 60, 7 * 24 * 3600


def size_of(step: Step, spec: Spec) -> str:
    """The machine that a step runs on, by its name in the price book; a linear model needs no GPU."""
    gpu = None if spec.model == LINEAR else spec.azure.gpu
    uses_vllm = step.needs_gpu == "vllm" and spec.export.runtime.startswith(_SERVED_BY_GPU)
    return gpu if gpu and (step.needs_gpu == "torch" or uses_vllm) else cpu_of(spec)


def cpu_of(spec: Spec) -> str:
    """The machine for steps that need no GPU."""
    serving = spec.traffic.machine
    return spec.azure.cpu or (
        serving if serving.startswith(("Standard_D", "Standard_F")) and is_of_clusters(serving) else _DEFAULT_CPU
    )


def nodes_of(step: Step, spec: Spec) -> int:
    """How many machines work on a step together."""
    sizes = sizes_of(spec.model, spec.folder)
    if not step.trains or (sizes and sizes.kind != "decoder"):  # one process trains the other kinds
        return 1
    return spec.azure.nodes


def has_gpu(size: str, spec: Spec) -> bool:
    """Whether a machine has a GPU, by the price book; if a user's own book names no card, by Azure's families with GPUs
    (learn.microsoft.com/azure/virtual-machines/sizes, "GPU accelerated", 2026-11-28).

    Raises:
        UserError: it has no price.
    """
    return price_of(size, spec).gpu is not None or bool(_GPU_FAMILIES.match(size))


def price_of(size: str, spec: Spec) -> MachinePrice:
    """A machine of the price book.

    Raises:
        UserError: it has no price, so no budget could be kept.
    """
    return price_book(spec.price_file).machine(size, key_of(size, spec))


def cluster_names(size: str, on_gpu: bool, low_priority: bool) -> tuple[str, str]:
    """The names that a cluster may have: the one that `infra/` uses, and one by its size if the first has another
    size."""
    end = "-lp" if low_priority else ""
    short = size.removeprefix("Standard_").replace("_", "-").lower() + end
    start = "tunewright-" if len(f"tunewright-{short}") <= LONGEST_COMPUTE else "tw-"
    return f"tunewright-{'gpu' if on_gpu else 'cpu'}{end}", f"{start}{short}"[:LONGEST_COMPUTE].rstrip("-")


def is_low_priority(step: Step, spec: Spec) -> bool:
    return spec.azure.low_priority and step.trains


def cluster(at: Connection, step: Step, spec: Spec, tags: dict[str, str]) -> str:
    """The name of the cluster that a step runs on. If there is none, one is made that has no machine while no job runs.

    Raises:
        UserError: Azure refuses, for example because the quota is too small.
    """
    size, low, nodes = size_of(step, spec), is_low_priority(step, spec), nodes_of(step, spec)
    name, known = _choose(step, spec, lambda name: _settled(at, name))
    with azure_errors(f"the cluster {name}"):
        if known is None:
            _make(at, name, size, nodes, low, spec, tags)
        elif not _suffices(known, step, spec):
            known.max_instances = max(nodes, known.max_instances)
            if not _may_run_as(known, spec):
                known.identity = _with_identity(known, spec)
            wait_for(at.ml.compute.begin_update(known), f"the cluster {name} to change", _LONGEST_CHANGE)
    return name


def is_ready(at: Connection, step: Step, spec: Spec) -> bool:
    """Whether the cluster that a step runs on exists as the step needs it, so that nothing has to be made or changed.

    Raises:
        UserError: Azure refuses.
    """
    _, known = _choose(step, spec, lambda name: found(at.ml.compute.get, name))
    return known is not None and _suffices(known, step, spec)


def _choose(step: Step, spec: Spec, get: Callable[[str], Any]) -> tuple[str, Any]:
    """(the name of the cluster that a step runs on, the cluster; None if it has to be made).

    Args:
        get: returns the cluster with a name, or None.

    Raises:
        UserError: Azure refuses, or both names have machines of another size.
    """
    size, low = size_of(step, spec), is_low_priority(step, spec)
    for name in cluster_names(size, size == spec.azure.gpu, low):
        with azure_errors(f"the cluster {name}"):
            known = get(name)
        # A cluster that Azure could not make stays there as failed (rule cluster-quota); it is made again.
        if known is None or _state(known) in BROKEN:
            return name, None
        if known.size.lower() == size.lower() and (known.tier == "low_priority") == low:
            return name, known
    raise UserError(f"The cluster {name} has machines of another size than {size}.", fix="Delete it in the studio.")


def _suffices(cluster: Any, step: Step, spec: Spec) -> bool:
    """Whether a cluster has enough machines for a step, and the identity that jobs run as."""
    return cluster.max_instances >= nodes_of(step, spec) and _may_run_as(cluster, spec)


def _settled(at: Connection, name: str) -> Any:
    """A cluster, after Azure has finished its work on it; None if there is none.

    Raises:
        UserError: Azure takes too long.
    """
    wait = Wait()
    while (known := found(at.ml.compute.get, name)) is not None:
        if (state := _state(known)) in BROKEN:
            say(f"  azure: Azure could not make or change the cluster {name} before; making it again")
        if state not in _CHANGING:
            return known
        if wait.look(f"the cluster {name}, which is {state}", _LONGEST_CHANGE):
            raise UserError(
                f"The cluster {name} has been {state} for {_LONGEST_CHANGE / 60:.0f} minutes.",
                why="No job was submitted. If it has machines, they cost money until it releases them.",
                fix="See it in the studio (Compute), or delete it there, then type the same command again.",
            )
        time.sleep(_POLL_SECONDS)
    return None


def _state(cluster: Any) -> str:
    """A cluster's state in Azure, in lower case."""
    return str(getattr(cluster.provisioning_state, "value", cluster.provisioning_state)).lower()


def _identities(cluster: Any) -> list[Any]:
    """The user-assigned identities of a cluster."""
    return list((cluster.identity and cluster.identity.user_assigned_identities) or [])


def _may_run_as(cluster: Any, spec: Spec) -> bool:
    """Whether a cluster has the identity that jobs run as: without it they fail when they start."""
    identity = identity_of(spec)
    return identity is None or identity.lower() in {str(each.resource_id).lower() for each in _identities(cluster)}


def _with_identity(cluster: Any, spec: Spec) -> Any:
    """The identities to assign to a cluster: the one that jobs run as, and those that it has."""
    from azure.ai.ml.entities import IdentityConfiguration

    (added,) = assigned_identity(spec).user_assigned_identities
    # The first one mounts the storage. A cluster has user-assigned identities or one of its own, not both
    # (learn.microsoft.com/azure/machine-learning/how-to-identity-based-service-authentication, read 2026-11-28).
    return IdentityConfiguration(type="user_assigned", user_assigned_identities=[added, *_identities(cluster)])


def _make(at: Connection, name: str, size: str, nodes: int, low: bool, spec: Spec, tags: dict[str, str]) -> None:
    from azure.ai.ml.entities import AmlCompute

    say(f"  azure: cluster {name} of {size}, no machine while it is idle")
    poller = at.ml.compute.begin_create_or_update(
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
    if _state(wait_for(poller, f"the cluster {name}", _LONGEST_CHANGE)) in BROKEN:  # the SDK raises nothing then
        raise UserError(
            f"Azure could not make the cluster {name}.",
            why="It has no machine, and costs nothing.",
            fix="See why in the studio (Compute), then type the same command again, which makes it again.",
        )


def notebook(at: Connection, size: str, name: str, tags: dict[str, str]) -> None:
    """Make a compute instance for notebooks, for the user who is signed in; it stops by itself when nobody uses it.

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
        wait_for(at.ml.compute.begin_create_or_update(instance), f"the compute instance {name}", _LONGEST_CHANGE)
    say(f"  azure: compute instance {name} of {size}; it stops after {_IDLE_MINUTES} idle minutes")


def azure_name(spec: Spec, most: int) -> str:
    """The name of a project's endpoint, app or release: characters that all of Azure's names may have, single dashes,
    and at most `most` characters (rules endpoint-name, app-name, release-name)."""
    return re.sub(r"[_-]+", "-", f"tw-{spec.name}")[:most].rstrip("-")


def instance_name(spec: Spec) -> str:
    """The name of a project's compute instance. It must not end in a dash and digits (rule cluster-name)."""
    return re.sub(r"-(\d+)$", r"\1", azure_name(spec, LONGEST_COMPUTE))


def identity_of(spec: Spec) -> str | None:
    """The resource id of the identity that jobs and endpoints run as; None if jobs run as the user. The identity that
    `azd up` wrote counts only for the workspace that it made."""
    if identity := spec.azure.identity or os.environ.get(_IDENTITY):
        return identity
    values = azd.written(spec.folder, Path.cwd())
    ours = WorkspaceName(*(values.get(name, "") for name in VARIABLES)) == workspace_of(spec) if values else False
    return values.get(_IDENTITY) if ours else None


def assigned_identity(spec: Spec) -> Any:
    """The identity configuration of a cluster or an endpoint; None if there is no identity."""
    from azure.ai.ml.entities import IdentityConfiguration, ManagedIdentityConfiguration

    if (identity := identity_of(spec)) is None:
        return None
    managed = ManagedIdentityConfiguration(resource_id=identity)
    return IdentityConfiguration(type="user_assigned", user_assigned_identities=[managed])


def limits(steps: Sequence[Step], spec: Spec, usd: float) -> dict[str, int]:
    """Seconds after which Azure itself ends each step, so that together they can't cost more than `usd`.

    Training gets most of the money; a step's seconds follow from the price of its machines.

    Raises:
        UserError: the money does not pay for a minute of some step.
    """
    weights = {step.name: _TRAINING if step.trains else 1.0 for step in steps}
    limits_by_step = {}
    for step in steps:
        rate = price_of(size_of(step, spec), spec).usd_per_hour * nodes_of(step, spec)
        share = usd * weights[step.name] / sum(weights.values())
        seconds = int(3600 * share / rate) if rate else _LONGEST
        if seconds < _SHORTEST:
            raise UserError(
                f"The rest of the budget, ${usd:.2f}, pays for only {seconds} s of the step {step.name}.",
                where="azure.budget_usd",
                fix="Raise it, or name a cheaper machine: tunewright plan …",
            )
        limits_by_step[step.name] = min(seconds, _LONGEST)
    return limits_by_step

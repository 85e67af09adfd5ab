"""Whether the machine, node or container for a bundle has enough memory, checked before anything is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tunewright.backends.azure.rules import endpoint_family, rules
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.deploy.outputs import Outputs
from tunewright.economics.machines import (
    VLLM_ACTIVATIONS,
    cheapest_gpu_holding,
    cheapest_holding,
    free_memory,
    free_on_kubernetes,
    vllm_room,
)
from tunewright.economics.memory import GIB, server
from tunewright.economics.prices import PriceBook, price_book
from tunewright.inference.bundle import BundleInfo, read_info
from tunewright.inference.checksums import SECOND
from tunewright.inference.runtimes import VLLM_SHARE
from tunewright.inference.runtimes.base import FOLDERS
from tunewright.models.sizes import Sizes, shape_of

CONTAINERS = "container-apps-"
"""The prefix of the price book's names for sizes of Container Apps."""
_SMALLEST = "container-apps-2-4"
_LEAST_POD = 2 * GIB
_POD = 1.15
"""A pod's memory as a multiple of what its server holds: for requests under way, and pages of the mapped weights."""


class Served(Protocol):
    """The outputs that say how large a bundle is, such as `tunewright.deploy.outputs.Outputs`."""

    @property
    def bundle(self) -> Path: ...

    @property
    def info(self) -> BundleInfo: ...


@dataclass(frozen=True)
class Second:
    """The second bundle of a cascade."""

    bundle: Path
    info: BundleInfo


def held(outputs: Served) -> float:
    """Bytes that a server of a bundle holds, by the bundle's own files: in main memory, or for vLLM in the GPU's."""
    info = outputs.info
    folder = outputs.bundle / FOLDERS[info.runtime]
    stored = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if info.runtime.startswith("vllm"):
        return stored
    shape = shape_of(str(folder), folder)
    own = server(stored, info.context * 2 * Sizes.of(shape).cache if shape else 0)
    if info.second_below is None:
        return own
    second = outputs.bundle / SECOND
    return own + held(Second(second, read_info(second)))


def pod_memory(outputs: Served) -> str:
    """The memory that a pod requests, as Kubernetes writes it."""
    return f"{math.ceil(max(_LEAST_POD, _POD * held(outputs)) / 2**20)}Mi"


def container_of(spec: Spec) -> str:
    """The size of a container app, by its name in the price book."""
    return spec.traffic.machine if spec.traffic.machine.startswith(CONTAINERS) else _SMALLEST


def instances_of(spec: Spec, outputs: Outputs | None) -> int:
    """How many machines one version of a project has: as many as the verdict counts with, and at least
    `traffic.redundancy`.

    Args:
        outputs: None if there is no whole run: then the verdict's machines are not known.
    """
    return max(outputs.replicas if outputs else 1, spec.traffic.redundancy)


def takes_endpoint(size: str) -> bool:
    """Whether managed online endpoints take machines of a size."""
    return endpoint_family(size) is not None


def require_capacity(to: str, spec: Spec, outputs: Served) -> None:
    """Refuse a machine that can't hold a bundle.

    Args:
        to: one of `tunewright.deploy.TARGETS`.

    Raises:
        UserError: it can't; the error names the cheapest machine of the price book that can.
    """
    book, needed = price_book(spec.price_file), held(outputs)
    name = container_of(spec) if to == "aca" else spec.traffic.machine
    machine = book.machines.get(name)
    if to == "aml" and name in price_book().machines and not takes_endpoint(name):
        _refuse_size(name, needed, book)
    if machine is None:
        return  # a machine outside the price book is not known; looking up its price reports a wrong name
    if outputs.info.runtime.startswith("vllm"):
        if to == "aca":
            return  # `App` refuses that with its own message
        free = vllm_room(machine.gpu, book.cards[machine.gpu.card]) * GIB if machine.gpu else None
        available = f"{name} has no GPU" if free is None else f"{name} has {free / GIB:.1f} free for vLLM"
        gpu_memory = (needed + VLLM_ACTIVATIONS * GIB) / VLLM_SHARE
        better = cheapest_gpu_holding(book, gpu_memory, takes_endpoint if to == "aml" else None)
        _refuse(needed, free or 0.0, available, f"traffic.machine={better}" if better else "", "a smaller base model")
        return
    if to == "aks":
        needed = max(_LEAST_POD, _POD * needed)
        free, better = free_on_kubernetes(machine), cheapest_holding(book, needed, free=free_on_kubernetes)
    else:
        taken = takes_endpoint if to == "aml" else None
        free, better = free_memory(machine), cheapest_holding(book, needed, containers=to == "aca", taken=taken)
    if free is None:
        return
    fix = f"traffic.machine={better}" if better else ""
    if to == "aca" and not better and (other := cheapest_holding(book, needed, taken=takes_endpoint)):
        fix = f"--to aml with traffic.machine={other}"
    smaller = "a smaller base model" if outputs.info.precision == "int4" else "fewer bytes: export.precision=int4"
    _refuse(needed, free, f"{name} has {free / GIB:.1f} free", fix, smaller)


def _refuse_size(name: str, needed: float, book: PriceBook) -> None:
    """Refuse a size that managed endpoints don't take. One that only the user's own price book knows may be newer than
    the list, so Azure decides about it."""
    rule = rules().rules["endpoint-sizes"]
    other = cheapest_holding(book, needed, taken=takes_endpoint)
    raise UserError(
        f"Managed online endpoints don't take {name}.",
        where="traffic.machine",
        why=f"Azure has a list of the sizes that they take: {rule.source} (read {rule.read}).",
        fix=f"traffic.machine={other}; or deploy with --to aks or --to aca." if other else "Use --to aks.",
    )


def _refuse(needed: float, free: float, available: str, better: str, smaller: str) -> None:
    if free < needed:
        raise UserError(
            f"A server of this bundle needs {needed / GIB:.1f} GiB of memory, and {available}.",
            where="traffic.machine",
            fix=f"Use {better}; or serve {smaller}." if better else f"Serve {smaller}.",
        )

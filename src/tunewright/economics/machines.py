"""The memory that a machine of the price book has free for a model, in main memory and on its GPU."""

from __future__ import annotations

from collections.abc import Callable

from tunewright.economics.memory import GIB
from tunewright.economics.prices import Card, Gpu, MachinePrice, PriceBook
from tunewright.inference.runtimes import VLLM_SHARE

SYSTEM = 0.75 * GIB
"""Memory that the operating system and Azure's own agents take from a machine; a container gives them nothing."""
KUBERNETES_PODS = 110
"""Pods that an AKS node may have. Source: learn.microsoft.com/azure/aks/node-resource-reservations (2026-11-27)."""
VLLM_ACTIVATIONS = 1.0
"""GiB of that memory for activations, CUDA graphs and the context, before keys and values; an assumption."""


def free_memory(machine: MachinePrice) -> float | None:
    """Bytes of main memory for a server; None where the price book does not give the machine's memory."""
    if machine.memory_gib is None:
        return None
    return machine.memory_gib * GIB - (0 if machine.scales_to_zero else SYSTEM)


def free_on_kubernetes(machine: MachinePrice) -> float | None:
    """Bytes that a pod may request on an AKS node, after the kubelet and its eviction threshold.

    The kubelet keeps 20 MB for each pod and 50 MB, or a quarter of the memory if that is less, and evicts below
    100 MiB.
    Source: learn.microsoft.com/azure/aks/node-resource-reservations, AKS 1.29 and later (2026-11-27).
    """
    if machine.memory_gib is None:
        return None
    whole = machine.memory_gib * GIB
    return whole - min(20e6 * KUBERNETES_PODS + 50e6, whole / 4) - 100 * 2**20


def free_gpu(gpu: Gpu, card: Card) -> float:
    """GiB that CUDA reports for a GPU; a share of a card has that share of its memory."""
    return (card.free_gib or card.gib) * gpu.gib / card.gib


def vllm_room(gpu: Gpu, card: Card) -> float:
    """GiB of a GPU for weights, keys and values, where vLLM serves."""
    return free_gpu(gpu, card) * VLLM_SHARE - VLLM_ACTIVATIONS


def cheapest_holding(
    book: PriceBook,
    needed: float,
    *,
    containers: bool = False,
    free: Callable[[MachinePrice], float | None] = free_memory,
    taken: Callable[[str], bool] | None = None,
) -> str | None:
    """The cheapest machine without a GPU that has this much free; None where none has.

    Args:
        needed: bytes.
        containers: look among the sizes of Container Apps, instead of machines.
        free: bytes that a machine has free.
        taken: whether the target takes a machine of this name; by default, every proposed machine.
    """
    holding = [
        (machine.usd_per_hour, name)
        for name, machine in book.machines.items()
        if machine.gpu is None
        and machine.scales_to_zero == containers
        and (free(machine) or 0) >= needed
        and (taken(name) if taken else machine.proposed)
    ]
    return min(holding)[1] if holding else None


def cheapest_gpu_holding(book: PriceBook, needed: float, taken: Callable[[str], bool] | None = None) -> str | None:
    """The cheapest machine with this much memory on one GPU; None where none has.

    Args:
        needed: bytes.
        taken: as in `cheapest_holding`.
    """
    holding = [
        (machine.usd_per_hour, name)
        for name, machine in book.machines.items()
        if machine.gpu
        and free_gpu(machine.gpu, book.cards[machine.gpu.card]) * GIB >= needed
        and (taken(name) if taken else machine.proposed)
    ]
    return min(holding)[1] if holding else None

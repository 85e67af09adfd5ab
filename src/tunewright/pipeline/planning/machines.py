"""Machines that steps run on: this one, and those of the price book."""

from __future__ import annotations

from dataclasses import dataclass

from tunewright.core.processes import cpu_flags, has_gpu, machine_memory, threads
from tunewright.economics.machines import free_gpu, free_memory
from tunewright.economics.memory import GIB
from tunewright.economics.prices import Card, Gpu, MachinePrice, PriceBook
from tunewright.economics.speed import PLAIN_NF4, SERVED_BANDWIDTH, SERVED_PRODUCTS

HERE = "this machine"
FLOATS_A_CORE = 40e9
"""Float32 operations a second that products reach on an Azure vCPU, half of an Ice Lake core: an assumption, half of
what its AVX-512 units do at 2.8 GHz."""
INTS_A_CORE = 250e9
"""The same of int8 with VNNI; an assumption, 0.7 of its peak."""
BYTES_A_CORE = 8e9
"""Bytes a second that a vCPU reads, while its neighbours do too; an assumption."""
INTS_OVER_FLOATS = 5.0
"""Operations in int8 with VNNI for each in float32: 540 against 106 thousand million a second on a core of the machine
that `bench/true_size.py` was run on."""
_HALF = ("avx512_bf16", "amx_bf16")
_DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8")


@dataclass(frozen=True)
class Speed:
    """What a machine does in a second while it answers."""

    floats: float
    """Operations in torch's type of products; on its GPU where it has one."""
    ints: float
    """Operations of a served model, on its CPU."""
    bytes: float
    """Read by its CPU."""
    gpu_bytes: float = 0.0
    """Read by its GPU; 0 where nobody has timed that."""
    nf4: float = PLAIN_NF4
    """NF4 weights that its CPU makes dense."""


@dataclass(frozen=True)
class Machine:
    """Where a step may run."""

    name: str
    memory: float | None
    """Bytes of main memory that a step may have; None: not known."""
    has_gpu: bool
    gpu: float | None
    """Bytes of its GPU; None: it has none, or nobody knows."""
    half: bool
    """Whether what computes a training, GPU or CPU, does so in 16 bits."""
    usd_per_hour: float
    speed: Speed | None = None
    """None where only memory is asked about."""


def this_machine() -> Machine:
    """This one, as far as it is known without torch."""
    gpu = has_gpu()
    return Machine(HERE, machine_memory(), gpu, None, gpu or not cpu_flags().isdisjoint(_HALF), 0.0)


def this_speed() -> Speed:
    """How fast this one answers; takes a second."""
    from tunewright.inference.runtimes.torch_model import compute_type
    from tunewright.training.planning.cpu import cpu_speed

    floats, trained = cpu_speed("float32"), cpu_speed(compute_type("auto"))
    faster = 1.0 if cpu_flags().isdisjoint(_DOT_PRODUCTS) else INTS_OVER_FLOATS
    return Speed(trained.flops, faster * floats.flops, floats.bytes, nf4=threads() * PLAIN_NF4)


def priced_machine(name: str, book: PriceBook) -> Machine:
    """One of the price book.

    Raises:
        UserError: it is not in it.
    """
    machine = book.machine(name)
    card = book.cards[machine.gpu.card] if machine.gpu else None
    memory = free_memory(machine)
    speed = _speed(machine, machine.gpu, card)
    if machine.gpu is None or card is None:
        return Machine(name, memory, False, None, False, machine.usd_per_hour, speed)
    return Machine(name, memory, True, free_gpu(machine.gpu, card) * GIB, True, machine.usd_per_hour, speed)


def _speed(machine: MachinePrice, gpu: Gpu | None, card: Card | None) -> Speed:
    cores = machine.cores
    floats, gpu_bytes = cores * FLOATS_A_CORE, 0.0
    if gpu and card:
        share = gpu.gib / card.gib
        floats = 1e12 * card.tflops * SERVED_PRODUCTS * share
        gpu_bytes = 1e9 * card.gb_per_second * SERVED_BANDWIDTH * share
    return Speed(floats, cores * INTS_A_CORE, cores * BYTES_A_CORE, gpu_bytes, cores * PLAIN_NF4)

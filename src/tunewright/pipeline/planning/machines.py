"""The machines that run steps: this one, and those of the price book."""

from __future__ import annotations

from dataclasses import dataclass

from tunewright.config import Spec
from tunewright.core.processes import cpu_flags, has_gpu, machine_memory
from tunewright.core.threads import threads
from tunewright.economics.machines import free_gpu, free_memory
from tunewright.economics.memory import GIB
from tunewright.economics.prices import Card, Gpu, MachinePrice, PriceBook
from tunewright.economics.speed import PLAIN_NF4, SERVED_BANDWIDTH, SERVED_PRODUCTS

HERE = "this machine"
FLOATS_A_CORE = 40e9
"""Float32 operations per second in matrix products on an Azure vCPU, which is half of an Ice Lake core. This assumes
half of the peak of its AVX-512 units at 2.8 GHz."""
INTS_A_CORE = 250e9
"""The same in int8 with VNNI, an assumption of 0.7 of its peak."""
BYTES_A_CORE = 8e9
"""Bytes per second that a vCPU reads while its neighbours read, too; an assumption."""
INTS_OVER_FLOATS = 5.0
"""The ratio of int8 operations with VNNI to float32 operations: 540 against 106 thousand million per second on a core
of the machine of `bench/true_size.py`."""
_HALF = ("avx512_bf16", "amx_bf16")
_DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8")


@dataclass(frozen=True)
class Speed:
    """The work that a machine does per second while it answers."""

    floats: float
    """Operations in torch's number format, on the GPU if there is one."""
    ints: float
    """Operations of a served model on the CPU."""
    bytes: float
    """Bytes that the CPU reads."""
    gpu_bytes: float = 0.0
    """Bytes that the GPU reads; 0 if nobody has measured it."""
    nf4: float = PLAIN_NF4
    """NF4 weights that the CPU dequantizes."""


@dataclass(frozen=True)
class Machine:
    """A machine that may run a step."""

    name: str
    memory: float | None
    """Bytes of main memory for a step; None: unknown."""
    has_gpu: bool
    gpu: float | None
    """Bytes of GPU memory; None: there is no GPU, or its memory is unknown."""
    half: bool
    """Whether training computes in 16 bits, on the GPU or the CPU."""
    usd_per_hour: float
    speed: Speed | None = None
    """None if only memory matters."""


def this_machine() -> Machine:
    """This machine, as far as its facts are known without torch."""
    gpu = has_gpu()
    return Machine(HERE, machine_memory(), gpu, None, gpu or not cpu_flags().isdisjoint(_HALF), 0.0)


def this_speed() -> Speed:
    """Measure how fast this machine answers, in about a second."""
    from tunewright.inference.runtimes.torch_model import compute_type
    from tunewright.training.planning.cpu import cpu_speed

    floats, trained = cpu_speed("float32"), cpu_speed(compute_type("auto"))
    int8_gain = 1.0 if cpu_flags().isdisjoint(_DOT_PRODUCTS) else INTS_OVER_FLOATS
    return Speed(trained.flops, int8_gain * floats.flops, floats.bytes, nf4=threads() * PLAIN_NF4)


def key_of(size: str, spec: Spec) -> str:
    """The key of the spec that names a machine."""
    return next((f"azure.{key}" for key in ("gpu", "cpu") if getattr(spec.azure, key) == size), "traffic.machine")


def priced_machine(name: str, book: PriceBook, key: str = "traffic.machine") -> Machine:
    """A machine of the price book.

    Args:
        key: of the spec, that names it.

    Raises:
        UserError: the price book does not have it.
    """
    machine = book.machine(name, key)
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

"""Plans a training on each machine before one is rented: memory, steps, hours, dollars.

Memory is counted by running a step on the meta device (`tunewright.training.planning.footprint`), time from the work
that step does (`tunewright.economics.speed`). No GPU is needed, and of the model only its tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.core.processes import machine_memory
from tunewright.core.threads import threads
from tunewright.economics.machines import free_gpu
from tunewright.economics.memory import CUDA, GIB
from tunewright.economics.prices import Card, Gpu, MachinePrice, price_book
from tunewright.economics.speed import PLAIN_NF4, Range, seconds
from tunewright.inference.runtimes.torch_model import compute_type
from tunewright.models.linear_model import LINEAR
from tunewright.models.resolve import is_encoder
from tunewright.models.skeleton import config_of
from tunewright.tasks import Example
from tunewright.training.encoders.footprint import draw_encoder_batches, encoder_counter, encoder_examples
from tunewright.training.encoders.settings import for_encoder
from tunewright.training.loop.encode import Row
from tunewright.training.loop.swapped import with_copies
from tunewright.training.loop.trainer import planned_steps
from tunewright.training.loop.validation import MOST
from tunewright.training.planning.batches import DrawnBatches, decoder_examples, draw_batches
from tunewright.training.planning.cpu import cpu_speed, held
from tunewright.training.planning.division import Division, division
from tunewright.training.planning.footprint import Footprint, footprint

_REUSED = 0.95
"""Share of the free memory that the allocator can use; freed blocks don't always fit the next request."""
PARALLEL = 0.9
"""Share of several GPUs' speed that is left after exchanging gradients."""
_PASSES = 3
"""Forward passes that a step is worth, including its backward pass."""
_MEASURED = 2 / _PASSES
"""Work of measuring a validation example, in training steps on it: two forward passes."""
_MINUTES = 2
"""Hours below which time is given in minutes."""
_SHORT = 0.5 / 60
"""Hours that round to no minute."""
_TRIED = 8
"""Examples on which the engine tries its fast paths."""
_TRIALS = 2
"""Plain forward passes over each of these examples."""
_START_SECONDS = 180.0
"""Seconds until the first step: libraries, base model, engine; provisioning the machine is not included."""


class Counted(Protocol):
    """Counts one training step on the rows of a batch, as `tunewright.training.planning.footprint.footprint` does."""

    def __call__(self, rows: Sequence[Row], dtype: str, *, on_cpu: bool = False) -> Footprint: ...


@dataclass(frozen=True)
class Option:
    """A training on one machine."""

    machine: str
    card: str
    gpus: int
    usable_gib: float
    """Memory of each GPU that tensors can use."""
    peak_gib: float
    """Memory that the training takes on each GPU."""
    spread: str
    """one: on one GPU. data: a copy on each GPU. sharded: the model is divided over them (FSDP)."""
    fits: bool
    why: str
    precision: str
    hours: float
    usd: float
    clusters: bool
    """Whether Azure ML offers clusters of this machine."""


@dataclass(frozen=True)
class Here:
    """A training on this machine's CPU."""

    memory_gib: float
    """Memory of the machine."""
    processes: int
    """Processes that share each batch."""
    peak_gib: float
    """Memory of all processes, without the pages of mapped files."""
    precision: str
    hours: Range
    """Hours if nothing else runs on this machine."""

    @property
    def fits(self) -> bool:
        return self.peak_gib <= self.memory_gib


@dataclass(frozen=True)
class Plan:
    model: str
    chunks: float
    """Training examples that a row becomes on average; more than one if texts are read in chunks."""
    batches: DrawnBatches
    steps: int
    """Optimizer steps of all adapters, on one GPU."""
    gradient_accumulation_steps: int
    """Batches in a step."""
    passes: float
    """Forward and backward passes over a batch that the whole training is worth, including validation."""
    footprint: Footprint
    """Footprint of the heaviest batch drawn, in 16 bits unless the spec says float32."""
    kv_bytes: int
    """Key-value cache of one prompt of `train.max_length` tokens in the base model; 0 for an encoder."""
    options: list[Option]
    here: Here | None
    """None if this machine has a GPU, or too little memory for the model alone."""
    count: Counted
    """Counts the footprint of a step."""

    @property
    def cheapest(self) -> Option | None:
        """The cheapest option that fits and that Azure ML has clusters of; among equally cheap ones the fastest."""
        return min(
            (o for o in self.options if o.fits and o.clusters), key=lambda o: (round(o.usd, 2), o.hours), default=None
        )

    @property
    def sentence(self) -> str:
        best = self.cheapest
        if best is None and not self.footprint.adapter:
            return (
                "None of these fits. To need less memory, halve train.encoder.batch_size or choose a smaller encoder."
            )
        if best is None:
            return (
                "None of these fits. To need less memory, set train.method=qlora or train.gradient_checkpointing=true, "
                "halve train.batch_size and double train.gradient_accumulation_steps, or choose a smaller model."
            )
        return (
            f"The cheapest that fits is {best.machine}: {spoken(best.hours)}, ${best.usd:.2f}, {best.peak_gib:.1f} of "
            f"{best.usable_gib:.1f} GiB, in {best.precision}."
        )


def plan(spec: Spec, train: Sequence[Example], validation: Sequence[Example]) -> Plan:
    """Predict a spec's training on every machine of the price book that has a GPU.

    Args:
        train, validation: the rows of both parts.

    Raises:
        UserError: the base model is not known, or an example can't be trained on.
    """
    import torch

    dtype = "float32" if spec.train.precision == "float32" else "bfloat16"
    count: Counted
    if spec.model == LINEAR:
        raise UserError(
            "There is nothing to plan for a linear model: it is fitted in seconds, by one core, in less than a GiB.",
            where="model",
            fix="Name another model, such as model=all-minilm.",
        )
    encoder, taught = is_encoder(spec.model, spec.folder), with_copies(spec, train)
    if encoder:
        spec = for_encoder(spec, len(train))
        train, validation = encoder_examples(spec, taught, validation)
        batches, count = draw_encoder_batches(spec, train), encoder_counter(spec)
        kv_bytes = 0
    else:
        config = config_of(spec.model, spec.folder)
        train, validation = decoder_examples(spec, taught, validation)
        batches, count = draw_batches(spec, train), partial(footprint, config, spec.train)
        kv_bytes = _kv_bytes(config, spec.train.max_length)
    peak, middle = count(batches.heaviest, dtype), count(batches.middle, dtype)
    steps = planned_steps(spec, len(train)) * spec.train.num_seeds
    measured = min(len(validation), MOST) * spec.train.num_evaluations * spec.train.num_seeds
    passes = steps * spec.train.gradient_accumulation_steps + measured * _MEASURED / spec.train.batch_size
    book = price_book(spec.price_file)
    options = [
        _option(name, machine, book.cards[machine.gpu.card], spec, peak, middle, passes)
        for name, machine in book.machines.items()
        if machine.gpu
    ]
    trainable_here = peak.fixed <= machine_memory() and not torch.cuda.is_available()
    here = None
    if trainable_here:
        # One process trains an encoder, and tries no fast paths.
        divided = Division(1, 1.0) if encoder else division(spec, train, len(train))
        here = _here(count, spec, batches, passes, divided, 0.0 if encoder else _trial(batches))
    return Plan(
        spec.model,
        len(train) / len(taught),
        batches,
        steps,
        spec.train.gradient_accumulation_steps,
        passes,
        peak,
        kv_bytes,
        options,
        here,
        count,
    )


def _here(count: Counted, spec: Spec, batches: DrawnBatches, passes: float, divided: Division, trial: float) -> Here:
    """Predict a training on this machine.

    Args:
        trial: the work of trying fast paths, in steps.
    """
    dtype = compute_type(spec.train.precision)
    heaviest = batches.heaviest_pass(divided.processes)
    peak, middle = (count(rows, dtype, on_cpu=True) for rows in (heaviest, batches.middle))
    memory = divided.processes * held(peak)
    speed = cpu_speed(dtype)
    # A step dequantises weights forward and backward; each plain forward pass of the trial does so once.
    plain = _TRIALS * _TRIED * middle.work.dequantised / 2 / (threads() * PLAIN_NF4)
    seconds = (passes + trial) * speed.seconds(middle.work) * divided.time + plain
    hours = speed.range(seconds).times(1 / 3600)
    return Here(machine_memory() / GIB, divided.processes, memory / GIB, dtype, hours)


def _trial(batches: DrawnBatches) -> float:
    """The work of trying the engine's fast paths, in steps."""
    return _TRIALS * _TRIED * batches.mean / batches.tokens / _PASSES


def _option(
    name: str, machine: MachinePrice, card: Card, spec: Spec, peak: Footprint, middle: Footprint, passes: float
) -> Option:
    gpu = machine.gpu
    assert gpu
    usable = usable_gib(gpu, card)
    alone, sharded = peak.peak / GIB, peak.sharded(gpu.count) / GIB
    spread = "one" if gpu.count == 1 else "data" if alone <= usable else "sharded"
    needed = sharded if spread == "sharded" else alone
    precision = _precision(spec, card)
    each = seconds(middle.work, card, gpu, float32=precision == "float32")
    speed = 1.0 if gpu.count == 1 else gpu.count * PARALLEL
    hours = (passes * each / speed + _START_SECONDS) / 3600
    able = precision != "bfloat16" or card.bfloat16
    return Option(
        machine=name,
        card=gpu.card,
        gpus=gpu.count,
        usable_gib=usable,
        peak_gib=needed,
        spread=spread,
        fits=needed <= usable and able,
        why=_why(needed, usable, able, precision, spread, peak, clusters=machine.clusters),
        precision=precision,
        hours=hours,
        usd=hours * machine.usd_per_hour,
        clusters=machine.clusters,
    )


def usable_gib(gpu: Gpu, card: Card) -> float:
    """GiB of a GPU's memory that tensors can use."""
    return (free_gpu(gpu, card) - CUDA / GIB) * _REUSED


def _precision(spec: Spec, card: Card) -> str:
    if spec.train.precision != "auto":
        return spec.train.precision
    return "bfloat16" if card.bfloat16 else "float16"


def _why(
    needed: float, usable: float, able: bool, precision: str, spread: str, peak: Footprint, *, clusters: bool
) -> str:
    if not able:
        return "it has no bfloat16; train.precision=float16 would do"
    if needed > usable:
        if peak.fixed / GIB > usable:
            held = "adapter and optimizer" if peak.adapter else "optimizer"
            return f"the model with its {held} alone takes {peak.fixed / GIB:.1f} GiB"
        return f"{needed - usable:.1f} GiB short: a batch leaves {peak.activations / GIB:.1f} GiB of activations"
    notes = []
    if precision == "float16":
        notes.append("in float16")
    if spread == "sharded":
        notes.append("only with the model divided over its GPUs, with FSDP")
    if not clusters:
        notes.append("only as a virtual machine: Azure ML has no clusters of it")
    return "; ".join(notes)


def _kv_bytes(config: Any, tokens: int) -> int:
    """Bytes of a key-value cache in 16 bits."""
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * config.num_key_value_heads * width * tokens * 2)


def spoken(hours: float | Range) -> str:
    """Hours, or minutes if they are few, as text."""
    if isinstance(hours, Range):
        if hours.high < _SHORT:
            return "less than a minute"
        least, most = (spoken(each).split(" ")[0] for each in (hours.low, hours.high))
        if (hours.low < _MINUTES) != (hours.high < _MINUTES):
            return f"{spoken(hours.low)} to {spoken(hours.high)}"
        return spoken(hours.high) if least == most else f"{least} to {spoken(hours.high)}"
    return f"{60 * hours:.0f} min" if hours < _MINUTES else f"{hours:.1f} h"

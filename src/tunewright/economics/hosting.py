"""Estimates how fast a base model would answer on a machine, before anybody has measured it.

On a GPU the estimate counts from the model's size, as vLLM would serve it: prefill is products, and decoding a token
reads the weights once for all requests under way. On a CPU it scales the measured speed of SmolLM2-135M. An encoder
runs on a CPU, decodes nothing, and reads at most its window. It reads the text without the instruction of a prompt, so
these figures are too high for it. Such figures are good to a factor of two; the verdict rests on measured ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from tunewright.config import MoneySpec, Spec
from tunewright.config.sections import ExportSpec
from tunewright.core.errors import UserError, did_you_mean
from tunewright.economics.cost import Cost, Service, host_cost
from tunewright.economics.machines import free_memory, vllm_room
from tunewright.economics.memory import GIB, serving
from tunewright.economics.prices import Card, MachinePrice, PriceBook
from tunewright.economics.speed import SERVED_BANDWIDTH, SERVED_PRODUCTS
from tunewright.models.catalogue import CatalogueEntry
from tunewright.models.linear_model import LINEAR
from tunewright.models.sizes import sizes_in

_MOST_AT_ONCE = 64
_SPREAD = 1.5
"""Ratio of the 95th percentile of the time to the mean."""
_CPU_BILLIONS, _CPU_CORES = 0.135, 2
_CPU_PREFILL, _CPU_DECODE = 1000.0, 130.0
"""Tokens a second of SmolLM2-135M in prefill and in decoding on two cores, int8 in ONNX Runtime (`bench/quantise.py`
times such answers)."""


@dataclass(frozen=True)
class Hosting:
    """The estimate for a base model on a machine."""

    model: str
    machine: str
    service: Service
    cost: Cost

    @property
    def label(self) -> str:
        """What tables call the model."""
        return f"{self.model}, {'fitted' if self.model == LINEAR else 'tuned'}"

    @property
    def in_time(self) -> bool:
        return self.service.slowest <= self.service.target


def cheapest_hosting(
    name: str,
    entry: CatalogueEntry,
    book: PriceBook,
    *,
    prompt_tokens: float,
    answer_tokens: float,
    target: float,
    requests: float,
    peak_to_average: float,
    redundancy: int,
    precision: str = "int8",
) -> Hosting | None:
    """The cheapest machine of the price book on which a model answers in time. Where there is none, the fastest that
    holds the model; None where none holds it.

    Args:
        target: the allowed 95th percentile, seconds.
        precision: precision of the weights on a CPU, int8 or int4; a GPU has them in 16 bits.
    """
    hostings = []
    for machine_name, machine in book.machines.items():
        card = book.cards[machine.gpu.card] if machine.gpu else None
        service = service_of(entry, machine, card, prompt_tokens, answer_tokens, target, precision)
        if service and machine.proposed and not machine.scales_to_zero:
            cost = host_cost(
                machine, service, requests=requests, peak_to_average=peak_to_average, redundancy=redundancy
            )
            hostings.append(Hosting(name, machine_name, service, cost))
    in_time = [each for each in hostings if each.in_time]
    if in_time:
        return min(in_time, key=lambda each: each.cost.usd_per_month)
    return min(hostings, key=lambda each: each.service.slowest, default=None)


def hosting_of(
    spec: Spec | MoneySpec,
    name: str,
    entry: CatalogueEntry,
    book: PriceBook,
    prompt_tokens: float,
    answer_tokens: float,
) -> Hosting | None:
    """`cheapest_hosting` for the traffic and the goal of a spec."""
    return cheapest_hosting(
        name,
        entry,
        book,
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        target=spec.goal.p95_ms / 1000,
        requests=spec.traffic.requests_per_month,
        peak_to_average=spec.traffic.peak_to_average,
        redundancy=spec.traffic.redundancy,
        precision=_precision(spec),
    )


def _precision(spec: Spec | MoneySpec) -> str:
    """The precision of the served weights.

    Raises:
        UserError: there is no such precision.
    """
    if isinstance(spec, Spec):
        return spec.export.precision
    export = spec.export if isinstance(spec.export, dict) else {}
    known = get_args(ExportSpec.model_fields["precision"].annotation)
    precision = str(export.get("precision", ExportSpec().precision))
    if precision not in known:
        fix = did_you_mean(precision, known, f"It is one of: {', '.join(known)}.")
        raise UserError(f"There is no precision '{precision}'.", where="export.precision", fix=fix)
    return precision


def service_of(
    entry: CatalogueEntry,
    machine: MachinePrice,
    card: Card | None,
    prompt_tokens: float,
    answer_tokens: float,
    target: float,
    precision: str = "int8",
) -> Service | None:
    """How fast a machine answers; None where the model does not fit into its memory, or an encoder would be on a GPU.

    A GPU takes as many requests at once as keep the target with all of them under way. Its `slowest` is the time of a
    request by itself.
    """
    sizes, billions = sizes_in(entry), entry.parameters
    if entry.kind == "encoder":
        if machine.gpu:
            return None
        prompt_tokens, answer_tokens = min(prompt_tokens, entry.context), 0.0
        billions -= entry.embeddings  # they are only looked up; a decoder's are its head too
    if machine.gpu is None or card is None or entry.shape is None:
        free = free_memory(machine)
        if free is not None and free < serving(sizes, precision, prompt_tokens + answer_tokens):
            return None
        size = billions / _CPU_BILLIONS * _CPU_CORES / machine.cores
        seconds = size * (prompt_tokens / _CPU_PREFILL + answer_tokens / _CPU_DECODE)
        return Service(seconds, seconds * _SPREAD, target)
    share = machine.gpu.gib / card.gib
    weights = 2e9 * entry.parameters
    cache = 2 * sizes.cache * (prompt_tokens + answer_tokens)
    free_bytes = vllm_room(machine.gpu, card) * GIB - weights
    if free_bytes < cache:
        return None
    flops = card.tflops * 1e12 * SERVED_PRODUCTS * share
    bandwidth = card.gb_per_second * 1e9 * SERVED_BANDWIDTH * share
    prefill = 2e9 * entry.parameters * prompt_tokens / flops

    def latency(at_once: int) -> float:
        """The prefill of every request runs between the others' tokens."""
        step = (weights + at_once * cache) / bandwidth + at_once * 2e9 * entry.parameters / flops
        return prefill * at_once + answer_tokens * step

    most = int(min(_MOST_AT_ONCE, free_bytes // cache))
    at_once = next((n for n in range(most, 0, -1) if latency(n) * _SPREAD <= target), 1)
    return Service(latency(at_once) / at_once / machine.gpu.count, latency(1) * _SPREAD, target)

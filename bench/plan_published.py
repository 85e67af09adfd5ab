"""Published trainings, counted by the same meter: peak memory and time beside what their authors measured.

    python bench/plan_published.py

Settings, from the projects' own pages of the time:

- torchtune's README: Llama-3.1-8B, batches of 2 packed to 2,048 tokens, no accumulation, torch.compile; with its
  configuration files: rank 8 on all layers but the head, activation checkpointing, bfloat16 throughout, logits in eight
  chunks. The A6000's 30.3 GiB can only be without checkpointing. What compiling fuses is not counted.
- litgpt's config_hub: Alpaca2k (2,000 examples of Alpaca), micro-batches padded to the longest, at most 512 tokens,
  bfloat16 throughout, no checkpointing, validation every 100 steps. Memory is that of a batch of 512 tokens; for
  the time an example of the batch is taken to have TOKENS.

The peaks are those of torch's allocator, without the driver's context.
"""

from __future__ import annotations

import math
import statistics
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.utils.flop_counter
from peft import LoraConfig, get_peft_model

from tunewright.economics.prices import Card, Gpu
from tunewright.economics.speed import DEQUANTISED, PRODUCTS, TRAFFIC, seconds
from tunewright.models.catalogue import Shape, catalogue
from tunewright.models.meter import GpuAttention, Meter, Work
from tunewright.models.skeleton import skeleton, tensors_of

CARDS = {
    "4090": Card(gib=24, tflops=165, tflops32=82.6, gb_per_second=1008),
    "A6000": Card(gib=48, tflops=155, tflops32=38.7, gb_per_second=768),
    "A10G": Card(gib=24, tflops=70, tflops32=35, gb_per_second=600),
}
ALPACA = 1900
"""Examples trained on in an epoch."""
COMPILED = 0.9
"""Share of the peak of products for compiled trainings of large batches, of which nothing else is counted."""
TOKENS = {1: 120, 2: 150, 4: 200, 8: 250}
"""Tokens of the longest of so many examples of Alpaca, in the middle."""
LLAMA2 = Shape(type="llama", hidden=4096, layers=32, heads=32, kv_heads=32, intermediate=11008, vocabulary=32000)
TINY = Shape(type="llama", hidden=2048, layers=22, heads=32, kv_heads=4, intermediate=5632, vocabulary=32000)


@dataclass(frozen=True)
class Case:
    name: str
    shape: Shape
    card: str
    nf4: bool
    rows: int
    length: int
    peak: float
    """Published, bytes."""
    seconds: float
    """Published, of one batch."""
    targets: Any = "all-linear"
    rank: int = 8
    dropout: float = 0.0
    checkpointing: bool = False
    chunks: int = 1
    compiled: bool = False


def counted(case: Case, length: int) -> tuple[int, Any]:
    """(peak bytes, work) of a step of a case at a length."""
    meter = Meter()
    attention = GpuAttention(meter)
    targets = case.targets
    model = skeleton(case.shape.config(), "bfloat16", nf4=case.nf4)
    lora = LoraConfig(r=case.rank, lora_dropout=case.dropout, target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(model, lora, autocast_adapter_dtype=False)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)
    base = model.get_base_model()
    if case.checkpointing:
        model.enable_input_require_grads()
        contexts = {"context_fn": lambda: (nullcontext(), attention)}
        base.gradient_checkpointing_enable({"use_reentrant": False, **contexts})
    model.train()
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    meter.hold(tensors_of(model))
    ids = torch.zeros(case.rows, length, dtype=torch.long, device="meta")
    seen = torch.ones(1, 1, 1, 1, dtype=torch.bool, device="meta")  # of a size that counts for nothing
    with meter:
        with attention:
            hidden = base.base_model(input_ids=ids, attention_mask=seen, use_cache=False).last_hidden_state.flatten(
                0, 1
            )
            logits = [base.lm_head(part) for part in hidden.chunk(case.chunks)]
            loss = sum(_entropy(meter).apply(part) for part in logits)
            del logits, hidden
        loss.backward()
    meter.work.dequantised += _forward_dequantised(model, 2 if case.checkpointing else 1)
    return meter.peak + 4 * trained, meter.work


def _entropy(meter: Meter) -> Any:
    """Cross-entropy that keeps its logits and one number a row, as compiled and fused ones do."""

    class Entropy(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, logits: Any) -> Any:
            meter.note(0, [logits])
            ctx.save_for_backward(logits)
            return logits.new_empty((), dtype=torch.float32)

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> Any:  # noqa: ARG004
            (logits,) = ctx.saved_tensors
            return torch.zeros_like(logits)

    return Entropy


def cases() -> list[Case]:
    known = {name: entry.shape for name, entry in catalogue().items() if entry.shape}
    llama, mistral, phi = known["llama-3.1-8b"], known["mistral-7b"], known["phi-3-mini"]

    def tune(card: str, nf4: bool, gib: float, speed: float, checkpointing: bool = True) -> Case:
        name = f"torchtune Llama-3.1-8B {'QLoRA' if nf4 else 'LoRA'}"
        return Case(
            name,
            llama,
            card,
            nf4,
            2,
            2048,
            gib * 2**30,
            2 * 2048 / speed,
            chunks=8,
            compiled=True,
            checkpointing=checkpointing,
        )

    def lit(
        name: str, shape: Shape, nf4: bool, rows: int, gb: float, minutes: float, epochs: int, few: bool = False
    ) -> Case:
        step = minutes * 60 * rows / (epochs * ALPACA)
        extra = {"rank": 32, "targets": ["q_proj", "v_proj"]} if few else {}
        name = f"litgpt {name} {'QLoRA' if nf4 else 'LoRA'}"
        return Case(name, shape, "A10G", nf4, rows, 512, gb * 1e9, step, dropout=0.05, **extra)

    return [
        tune("4090", False, 16.2, 3083),
        tune("4090", True, 7.4, 2413),
        tune("A6000", False, 30.3, 4699, checkpointing=False),
        lit("Phi-3-mini", phi, True, 4, 19.13, 7.47, 1),
        lit("Phi-3-mini", phi, False, 4, 19.75, 6.46, 1),
        lit("Llama-2-7B", LLAMA2, False, 2, 19.77, 32.82, 4, few=True),
        lit("Llama-2-7B", LLAMA2, True, 2, 13.68, 45.67, 4, few=True),
        lit("Llama-3-8B", llama, False, 1, 19.73, 14.79, 2, few=True),
        lit("Llama-3-8B", llama, True, 2, 17.41, 22.24, 2, few=True),
        lit("Mistral-7B", mistral, False, 2, 20.66, 31.0, 4, few=True),
        lit("Mistral-7B", mistral, True, 2, 14.29, 44.75, 4, few=True),
        lit("TinyLlama", TINY, False, 8, 13.50, 8.09, 3),
        lit("TinyLlama", TINY, True, 8, 16.24, 8.70, 3),
    ]


def took(case: Case, work: Work) -> float:
    """Predicted seconds of a step."""
    card = CARDS[case.card]
    if not case.compiled:
        return seconds(work, card, Gpu(card=case.card, gib=card.gib))
    return work.flops / (1e12 * card.tflops * COMPILED) + work.dequantised / (1e9 * card.gb_per_second * DEQUANTISED)


def share_of_peak(case: Case, work: Work) -> float:
    """Which share of the peak of products explains the published time."""
    card = CARDS[case.card]
    traffic = work.moved / (1e9 * card.gb_per_second * TRAFFIC)
    return work.flops / (1e12 * card.tflops * (case.seconds - traffic))


def main() -> None:
    torch.utils.flop_counter.register_flop_formula(torch.ops.bitsandbytes.gemm_4bit)(_products_4bit)
    shares = []
    print(f"{'':34}{'peak, GiB':>12}{'published':>11}{'':>7}{'s a batch':>12}{'published':>11}")
    for case in cases():
        peak, work = counted(case, case.length)
        if not case.compiled:
            _, work = counted(case, TOKENS[case.rows])
            if not case.nf4 and "Phi" not in case.name:
                shares.append(share_of_peak(case, work))
        step = took(case, work)
        name = f"{case.name}, {case.card}"
        print(
            f"{name:34}{peak / 2**30:12.2f}{case.peak / 2**30:11.2f}{peak / case.peak - 1:+7.0%}"
            f"{step:12.3f}{case.seconds:11.3f}{step / case.seconds - 1:+7.0%}",
            flush=True,
        )
    print(
        "share of the peak of products, litgpt's LoRA but for Phi-3:",
        " ".join(f"{share:.2f}" for share in shares),
        f"median {statistics.median(shares):.2f}, in use {PRODUCTS}",
    )


def _products_4bit(a: Any, b: Any, shape: Any, *_: Any, **__: Any) -> int:  # noqa: ARG001
    """FLOPs of bitsandbytes' product with an NF4 weight."""
    return 2 * math.prod(a[:-1]) * math.prod(shape)


def _forward_dequantised(model: Any, passes: int) -> float:
    """Weights that bitsandbytes makes dense inside its forward products."""
    return float(passes * sum(math.prod(p.quant_state.shape) for p in model.parameters() if hasattr(p, "quant_state")))


if __name__ == "__main__":
    main()

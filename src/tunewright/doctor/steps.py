"""Compare a training step on the device with the same examples one by one on the CPU in float32."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.config.sections import LoraSpec
from tunewright.doctor.report import GpuRow
from tunewright.doctor.tiny import make_rows
from tunewright.inference.runtimes.torch_model import load_torch_model
from tunewright.training.engine.fast_paths import fit_engine, on_device_of, supervised_loss
from tunewright.training.engine.head import add_supervision
from tunewright.training.engine.packing import pad
from tunewright.training.loop.trainer import hold_adapter_in_float32, lora_config

_TOLERANCE = {"float32": (1e-4, 1e-3), "bfloat16": (0.005, 0.04), "float16": (0.002, 0.015)}
"""Allowed relative errors of the loss and of all gradients together: three to four times the error of a CPU in
bfloat16."""
_VOCABULARY = 250
_BATCHES = {
    "short": (200, 20, 31, 42, 53, 64, 25, 36, 47),
    "long": (50, 900, 850, 800),
}
"""The tokens of the shared prefix, then those of each example: short ones packed, long ones alone beyond the window."""


@dataclass(frozen=True)
class _Step:
    loss: float
    gradients: Any
    """The gradients of all matrices of the adapter, concatenated, in float32 on the CPU."""


def step_rows(name: str, folder: Path, device: str, types: Sequence[str]) -> Iterator[GpuRow]:
    """One row per precision of the base and per number format of the computation.

    Args:
        folder: a model of `tunewright.doctor.tiny.make_model`.
        types: the number formats of the computation.
    """
    batches = {kind: make_rows(_VOCABULARY, *lengths) for kind, lengths in _BATCHES.items()}
    for nf4 in (False, True):
        expected = {kind: _step(folder, "cpu", "float32", nf4, rows, plain=True) for kind, rows in batches.items()}
        for dtype in types:
            parts, fine = [], True
            for kind, rows in batches.items():
                step, reference = _step(folder, device, dtype, nf4, rows, plain=False), expected[kind]
                loss_error = abs(step.loss / reference.loss - 1)
                gradient_error = float((step.gradients - reference.gradients).norm() / reference.gradients.norm())
                allowed = _TOLERANCE[dtype]
                fine = fine and loss_error <= allowed[0] and gradient_error <= allowed[1]
                parts.append(
                    f"{kind}: loss {step.loss:.3f}, CPU {reference.loss:.3f}, gradients {gradient_error:.2%} off"
                )
            yield GpuRow(f"{name}, {'NF4' if nf4 else 'LoRA'} step, {dtype}", fine, "; ".join(parts))


def _step(folder: Path, device: str, dtype: str, nf4: bool, rows: Sequence[Any], *, plain: bool) -> _Step:
    """Loss and gradients of some rows, one by one (`plain`), or in one batch on the fast paths.

    Raises:
        RuntimeError: the engine refused a fast path for the model.
    """
    import torch
    from peft import get_peft_model

    base = load_torch_model(folder, dtype=dtype, nf4=nf4, device=device)
    model = get_peft_model(base, lora_config(LoraSpec()))
    hold_adapter_in_float32(model)
    draw = torch.Generator().manual_seed(1)
    trained = [parameter for name, parameter in model.named_parameters() if "lora_" in name]
    for parameter in trained:
        parameter.data = (0.03 * torch.randn(parameter.shape, generator=draw)).to(parameter.device)
    model.train()
    if plain:
        add_supervision(base)
        batches = [pad([row]) for row in rows]
    else:
        engine = fit_engine(model, rows)
        if engine.reasons or not engine.fused_layers:
            raise RuntimeError(f"without {engine.reasons or 'fused LoRA layers'}")
        batches = [engine.collate(rows)]
    loss = 0.0
    # accelerate runs float16 training like this.
    mixed = torch.autocast(device, torch.float16, enabled=dtype == "float16")
    for batch in batches:
        with mixed:
            part = supervised_loss(model, on_device_of(model, batch))
        part.backward()
        loss += float(part.detach())
    return _Step(loss, torch.cat([parameter.grad.detach().float().cpu().flatten() for parameter in trained]))
